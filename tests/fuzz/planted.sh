#!/usr/bin/env bash
# Demands that tests/fuzz/walk.sh finds each fault of tests/fuzz/planted: tests/fuzz/planted.sh SECONDS
# [FAULT...]. A fault has so many seconds; without names, all are planted, one after the other. The
# faults go into a worktree of the last commit, which is removed afterwards. Each needs a build.
set -euo pipefail
unset CDPATH

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root="$PWD"

fail() {
  echo "tests/fuzz/planted.sh: $*" >&2
  exit 1
}

[[ "${1:-}" =~ ^[1-9][0-9]*$ ]] || fail "say for how many seconds: tests/fuzz/planted.sh 60"
seconds="$1"
shift
faults=("$@")
if [[ ${#faults[@]} -eq 0 ]]; then
  for file in tests/fuzz/planted/*.patch; do
    faults+=("$(basename "$file" .patch)")
  done
fi

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}"
mkdir -p "$CARGO_TARGET_DIR"
tree="$(cd "$CARGO_TARGET_DIR" && pwd)/planted-tree"
remove() { git -C "$root" worktree remove --force "$tree" 2>/dev/null || true; }
trap remove EXIT
remove
git worktree add --quiet --detach "$tree" HEAD
cd "$tree"

missed=()
for fault in "${faults[@]}"; do
  git checkout --quiet -- .
  git apply "$root/tests/fuzz/planted/$fault.patch" || fail "$fault does not apply"
  # Of a minute of search, nothing goes into the build.
  WALK_BUILD_ONLY=1 tests/fuzz/walk.sh "$seconds" >"$tree/build.log" 2>&1 ||
    { cat "$tree/build.log" >&2; fail "$fault does not build"; }
  WALK_SEED="${WALK_SEED:-1}" tests/fuzz/walk.sh "$seconds" >"$tree/search.log" 2>&1 || true
  if found="$(grep -o 'a finding after .*' "$tree/search.log")"; then
    echo "$fault: $found"
  else
    echo "$fault: NOT FOUND"
    missed+=("$fault")
  fi
done
[[ ${#missed[@]} -eq 0 ]] || fail "not found in $seconds s: ${missed[*]}"
