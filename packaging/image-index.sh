#!/usr/bin/env bash
# Joins the images of several architectures, which image.sh made, into one, and pushes it. It needs
# buildah and root; for a registry, `buildah login` comes first.
#
#   packaging/image-index.sh DESTINATION ARCHIVE...
#
# DESTINATION is docker://REGISTRY/NAME:TAG, or oci:FOLDER:TAG for a folder.
set -euo pipefail

[[ $# -ge 2 ]] || { sed -n '/^#   /s/^# *//p' "$0" >&2; exit 2; }
destination="$1"
shift

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
# shellcheck source=packaging/buildah.sh
source "$(dirname "${BASH_SOURCE[0]}")/buildah.sh"

run_buildah manifest create hubgate >/dev/null
for archive in "$@"; do
  run_buildah manifest add hubgate "docker-archive:$archive" >/dev/null
done
run_buildah manifest push --all --signature-policy "$work/policy.json" hubgate "$destination"
