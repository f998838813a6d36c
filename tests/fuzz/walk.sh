#!/usr/bin/env bash
# Draws messages for the walk over series and demands that series fare together as each does alone:
# tests/fuzz/walk.sh SECONDS. It needs no fuzzer, and WALK_SEED=N starts at that seed.
set -euo pipefail
unset CDPATH

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[[ "${1:-}" =~ ^[1-9][0-9]*$ ]] || {
  echo "tests/fuzz/walk.sh: say for how many seconds: tests/fuzz/walk.sh 3600" >&2
  exit 1
}
# Optimized and with the checks of a debug build. Only the code of hubgate is built again after a change.
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_LTO=off
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/walk"
build=(cargo test --locked --release --test fuzz)
[[ -z "${WALK_BUILD_ONLY:-}" ]] || exec "${build[@]}" --no-run
WALK_SECONDS="$1" exec "${build[@]}" -- \
  --ignored --exact walk_holds_on_random_seeds --nocapture
