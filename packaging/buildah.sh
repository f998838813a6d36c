# shellcheck shell=bash
# For other scripts: buildah with a store in the folder $work, so that it neither needs a set-up nor
# changes the images of the user.

: "${work:?}"
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$work/policy.json"
: >"$work/registries.conf"
printf '[storage]\ndriver = "vfs"\n' >"$work/storage.conf"

run_buildah() {
  CONTAINERS_REGISTRIES_CONF="$work/registries.conf" CONTAINERS_STORAGE_CONF="$work/storage.conf" \
    buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs "$@"
}

# Root without the right to mount, as in a container, may not have a user namespace either, and to
# copy files buildah needs none. These variables say that it is in one.
if [[ "$(id -u)" -eq 0 ]] && ! unshare --mount true 2>/dev/null; then
  export _CONTAINERS_USERNS_CONFIGURED="done" _CONTAINERS_ROOTLESS_UID=1
fi
