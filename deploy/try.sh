#!/usr/bin/env bash
# Runs the hub, hubgate and every spoke of deploy/ on this machine, without Kubernetes. `--help`
# says how.
set -euo pipefail
unset CDPATH

fail() {
  echo "try.sh: $*" >&2
  exit 2
}

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
command -v python3 >/dev/null || fail "no python3 on PATH"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' || fail "python3 is older than 3.9"
python3 -c 'import yaml' 2>/dev/null ||
  fail "python3 has no PyYAML: install Debian's python3-yaml, or PyYAML by pip"
export PYTHONDONTWRITEBYTECODE=1
exec python3 "$here/try/main.py" "$@"
