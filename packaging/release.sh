#!/usr/bin/env bash
# Makes all files of a release for this machine's architecture: tarball, Debian package, image, bill
# of materials and checksums. It needs what image.sh needs, python3 and git.
#
#   packaging/release.sh VERSION FOLDER
set -euo pipefail
unset CDPATH

[[ $# -eq 2 ]] || { sed -n '/^#   /s/^# *//p' "$0" >&2; exit 2; }
version="$1"
mkdir -p "$2"
folder="$(realpath "$2")"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "packaging/release.sh: $*" >&2
  exit 1
}

declared="$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)"
[[ "$version" == "$declared" ]] || fail "Cargo.toml has version $declared, not $version"
[[ -z "$(ls -A "$folder")" ]] || fail "$folder is not empty"

machine="$(uname -m)"
target="$machine-unknown-linux-gnu"
case "$machine" in
  x86_64) architecture=amd64 ;;
  aarch64) architecture=arm64 ;;
  *) fail "no release is made for $machine" ;;
esac
name="hubgate-$version-linux-$architecture"

binary="$(packaging/build-static.sh)"
tools="$(packaging/install-tools.sh)"
# Two releases of one commit are the same bytes. With this variable, C code would be compiled again.
SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)"
export SOURCE_DATE_EPOCH
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

mkdir "$work/$name"
packaging/licences.py >"$work/$name/THIRD-PARTY-LICENCES"
cp -r "$binary" packaging/hubgate.service packaging/hubgate.yaml packaging/hubgate.sysusers \
  LICENSE README.md CHANGELOG.md docs "$work/$name"
# What the binary makes of itself: manual pages, completions, schemas for editors.
share="$work/$name/share"
mkdir -p "$share"/{man/man1,bash-completion/completions,fish/vendor_completions.d,zsh/vendor-completions,hubgate}
"$binary" man --folder "$share/man/man1"
"$binary" completions bash >"$share/bash-completion/completions/hubgate"
"$binary" completions fish >"$share/fish/vendor_completions.d/hubgate.fish"
"$binary" completions zsh >"$share/zsh/vendor-completions/_hubgate"
"$binary" config-schema >"$share/hubgate/hubgate.schema.json"
"$binary" config-schema --spoke-file >"$share/hubgate/spoke.schema.json"
tar --create --directory "$work" --sort=name --owner=0 --group=0 --numeric-owner \
  --mode=u+rw,go+r,go-w --mtime="@$SOURCE_DATE_EPOCH" "$name" |
  gzip --no-name >"$folder/$name.tar.gz"

# Cargo.toml lists the files of the package; these are made. Debian has manual pages compressed.
made="$(dirname "$binary")"
rm -rf "$made/share"
cp -r "$work/$name/THIRD-PARTY-LICENCES" "$share" "$made"
gzip --best --no-name "$made"/share/man/man1/*.1
"$tools/cargo-deb" deb --quiet --no-build --no-strip --target "$target" --output "$folder/"

packaging/image.sh "$binary" "$folder/$name.image.tar"

packaging/bill-of-materials.py "$tools/cargo-cyclonedx" >"$folder/$name.cdx.json"

packaging/checksums.sh "$folder"
ls -l "$folder"
