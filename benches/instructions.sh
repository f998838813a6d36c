#!/usr/bin/env bash
# Prints the instructions that a warm request costs, by case: benches/instructions.sh
# With a commit, those of that commit beside those of the work tree: benches/instructions.sh main
# Needs valgrind. The figures depend on the compiler and not on how busy the machine is.
set -euo pipefail
unset CDPATH

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
mkdir -p "$CARGO_TARGET_DIR"
CARGO_TARGET_DIR="$(cd "$CARGO_TARGET_DIR" && pwd)"

# The first requests fill buffers; what lies between the two counts is warm.
readonly few=5 many=55

scratch="$(mktemp -d)"
clean_up() {
  if [[ -d "$scratch/commit" ]]; then
    git worktree remove --force "$scratch/commit"
  fi
  rm -rf "$scratch"
}
trap clean_up EXIT

fail() {
  echo "benches/instructions.sh: $*" >&2
  exit 1
}

# Builds the program of the sources in a folder, and keeps it under a name. The third argument is
# where cargo builds: in one folder, it would take two checkouts for the same one.
build() {
  [[ -f "$1/benches/instructions.rs" ]] || fail "$1 has no benches/instructions.rs"
  local program
  program="$(cd "$1" && CARGO_TARGET_DIR="$3" cargo bench --locked --bench instructions --no-run --message-format=json |
    sed -n 's/.*"name":"instructions".*"executable":"\([^"]*\)".*/\1/p')"
  [[ -x "$program" ]] || fail "cargo names no program for the bench in $1"
  cp "$program" "$scratch/$2"
}

# Counts the instructions of so many requests of a case.
count() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$scratch/$1" "$2" "$3" 2>&1 |
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

# The instructions of one warm request.
cost() {
  local low high
  low="$(count "$1" "$2" "$few")"
  high="$(count "$1" "$2" "$many")"
  [[ -n "$low" && -n "$high" ]] || fail "valgrind counts nothing of $2"
  echo $(((high - low) / (many - few)))
}

command -v valgrind >/dev/null || fail "valgrind is not installed"
build . now "$CARGO_TARGET_DIR"
if [[ $# -gt 0 ]]; then
  git worktree add --quiet --detach "$scratch/commit" "$1"
  build "$scratch/commit" "then" "$CARGO_TARGET_DIR/instructions-commit"
fi

rustc --version
for name in $("$scratch/now" --list); do
  now="$(cost now "$name")"
  if [[ $# -eq 0 ]]; then
    printf '%-34s %12d\n' "$name" "$now"
  elif "$scratch/then" --list | grep -qx "$name"; then
    then="$(cost "then" "$name")"
    change="$(awk "BEGIN { printf \"%+.2f\", 100 * ($now - $then) / $then }")"
    printf '%-34s %12d -> %12d %8s %%\n' "$name" "$then" "$now" "$change"
  else
    printf '%-34s %12s -> %12d\n' "$name" new "$now"
  fi
done
