#!/usr/bin/env bash
# Searches for inputs that fail: tests/fuzz/run.sh MINUTES [TARGET...]
# Each target has an equal part of the minutes; without names, all targets run. New inputs stay below
# the target folder, so the next search goes on from them. Needs cargo-fuzz and a C++ compiler.
set -euo pipefail
unset CDPATH

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
mkdir -p "$CARGO_TARGET_DIR"
CARGO_TARGET_DIR="$(cd "$CARGO_TARGET_DIR" && pwd)"
# The sanitizer is a nightly feature, and the compiler is the pinned one.
export RUSTC_BOOTSTRAP=1

fail() {
  echo "tests/fuzz/run.sh: $*" >&2
  exit 1
}

[[ "${1:-}" =~ ^[1-9][0-9]*$ ]] || fail "say for how many minutes: tests/fuzz/run.sh 60"
minutes="$1"
shift
cargo fuzz --version >/dev/null 2>&1 ||
  fail "cargo-fuzz is needed: cargo install cargo-fuzz --locked"

targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
  for file in tests/fuzz/targets/*.rs; do
    targets+=("$(basename "$file" .rs)")
  done
fi
for target in "${targets[@]}"; do
  [[ -f "tests/fuzz/targets/$target.rs" ]] || fail "there is no target $target"
done

# All are built first, so that no minute of a search goes into that.
for target in "${targets[@]}"; do
  cargo fuzz build --fuzz-dir tests/fuzz "$target"
done

seconds=$((minutes * 60 / ${#targets[@]}))
failed=()
for target in "${targets[@]}"; do
  echo "$target: $seconds s"
  found="$CARGO_TARGET_DIR/fuzz/$target"
  mkdir -p "$found/corpus" "$found/failures"
  # Inputs of the committed corpora have at most 4 KiB, and none takes a second.
  cargo fuzz run --fuzz-dir tests/fuzz "$target" "$found/corpus" "tests/fuzz/corpus/$target" -- \
    -artifact_prefix="$found/failures/" -max_len=4096 -timeout=10 \
    -max_total_time="$seconds" -print_final_stats=1 || failed+=("$target")
done

[[ ${#failed[@]} -eq 0 ]] ||
  fail "inputs that fail are in $CARGO_TARGET_DIR/fuzz/TARGET/failures of: ${failed[*]}"
