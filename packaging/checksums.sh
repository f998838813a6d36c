#!/usr/bin/env bash
# Writes SHA256SUMS for all other files of a folder; `sha256sum --check SHA256SUMS` checks them.
#
#   packaging/checksums.sh FOLDER
set -euo pipefail
unset CDPATH

[[ $# -eq 1 ]] || { sed -n '/^#   /s/^# *//p' "$0" >&2; exit 2; }
cd "$1"
sums="$(find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\0' |
  sort --zero-terminated | xargs --null sha256sum)"
echo "$sums" >SHA256SUMS
