#!/usr/bin/env bash
# Builds hubgate as one static binary that needs no file of the system, for this machine's
# architecture, and prints its path. With an argument, it also copies the binary there.
#
# Two builds of one revision are the same bytes, wherever the source, cargo's home and the target
# folder are.
set -euo pipefail
unset CDPATH

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source_folder="$PWD"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
mkdir -p "$CARGO_TARGET_DIR"
CARGO_TARGET_DIR="$(cd "$CARGO_TARGET_DIR" && pwd)"
cargo_home="$(cd "${CARGO_HOME:-$HOME/.cargo}" && pwd)"
target="$(uname -m)-unknown-linux-gnu"

# Folders of this machine must not show in the binary. The last one that fits is used.
remap=(
  "$source_folder=/hubgate"
  "$CARGO_TARGET_DIR=/target"
  "$cargo_home=/cargo"
)
names="$CARGO_TARGET_DIR/static-names.o"
rust_flags=(-Ctarget-feature=+crt-static -Cstrip=symbols)
# mimalloc names the time at which it was compiled.
c_flags='-Wno-builtin-macro-redefined -D__DATE__="" -D__TIME__=""'
for pair in "${remap[@]}"; do
  rust_flags+=("--remap-path-prefix=$pair")
  c_flags+=" -ffile-prefix-map=$pair"
done

"${CC:-cc}" -O2 -Wall -Werror -c packaging/static-names.c -o "$names"

# These flags are for the target alone. Those of .cargo/config.toml for C are used as well.
CARGO_ENCODED_RUSTFLAGS="$(IFS=$'\x1f' && echo "${rust_flags[*]}")"
export CARGO_ENCODED_RUSTFLAGS
export "CFLAGS_${target//-/_}=$c_flags"
cargo rustc --release --locked --bin hubgate --target "$target" -- "-Clink-arg=$names" >&2

binary="$CARGO_TARGET_DIR/$target/release/hubgate"
if [[ $# -gt 0 ]]; then
  install -D -m 755 "$binary" "$1"
fi
echo "$binary"
