#!/usr/bin/env bash
# Installs the programs that make the Debian package and the bill of materials, below the target
# folder, and prints their folder. They run once, so they are not optimised.
set -euo pipefail
unset CDPATH

cd "$(dirname "${BASH_SOURCE[0]}")/.."
target_folder="${CARGO_TARGET_DIR:-$PWD/target}"
mkdir -p "$target_folder/release-tools"
tools="$(cd "$target_folder/release-tools" && pwd)"

# Cargo does nothing for a version that is installed already.
CARGO_TARGET_DIR="$tools/target" CARGO_PROFILE_RELEASE_OPT_LEVEL=0 \
  cargo install --quiet --locked --root "$tools" --no-default-features \
  cargo-deb@3.8.0 cargo-cyclonedx@0.5.9 >&2
rm -rf "$tools/target"
echo "$tools/bin"
