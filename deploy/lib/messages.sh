# shellcheck shell=bash
# What configure-source-clusters.sh says to the user.

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
complain() { printf 'error: %s\n' "$*" >&2; }

die() {
  complain "$@"
  exit 1
}

misuse() {
  complain "$@"
  exit 2
}
