#!/usr/bin/env bash
# Builds the image from deploy/gateway/Dockerfile with a static binary that is built already, and
# writes it into an archive for `docker load`. It needs buildah and root; no daemon and no registry.
#
#   packaging/image.sh BINARY ARCHIVE
set -euo pipefail
unset CDPATH

[[ $# -eq 2 ]] || { sed -n '/^#   /s/^# *//p' "$0" >&2; exit 2; }
binary="$(realpath "$1")"
archive="$(realpath -m "$2")"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version="$("$binary" --version | sed -n 's/.* version \([^ ]*\) .*/\1/p')"
revision="$("$binary" --version | sed -n 's/.* revision: \([^)]*\)).*/\1/p')"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
# What the stage named build would hold.
mkdir -p "$work/build/etc/ssl/certs" "$work/build/out"
install -m 644 /etc/ssl/certs/ca-certificates.crt "$work/build/etc/ssl/certs"
install -m 755 "$binary" "$work/build/out/hubgate"
install -m 644 LICENSE "$work/build/out"
packaging/licences.py >"$work/build/out/THIRD-PARTY-LICENCES"
# shellcheck source=packaging/buildah.sh
source packaging/buildah.sh

policy="--signature-policy=$work/policy.json"
run_buildah bud "$policy" --quiet --isolation chroot --format docker \
  --timestamp "${SOURCE_DATE_EPOCH:-0}" \
  --build-context "build=$work/build" \
  --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
  --iidfile "$work/id" --file deploy/gateway/Dockerfile . >/dev/null
mkdir -p "$(dirname "$archive")"
rm -f "$archive"
run_buildah push "$policy" --quiet "$(cat "$work/id")" "docker-archive:$archive:hubgate:$version"
