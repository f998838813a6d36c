#!/usr/bin/env bash
# Prints what CHANGELOG.md says of a version, and fails if it says nothing.
#
#   packaging/release-notes.sh VERSION
set -euo pipefail
unset CDPATH

[[ $# -eq 1 ]] || { sed -n '/^#   /s/^# *//p' "$0" >&2; exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/.."
notes="$(awk -v version="$1" '
  /^## / { found = ($2 == version); next }
  found
' CHANGELOG.md)"
if [[ -z "${notes//[[:space:]]/}" ]]; then
  echo "CHANGELOG.md has no section \"## $1\", or nothing in it" >&2
  exit 1
fi
echo "$notes"
