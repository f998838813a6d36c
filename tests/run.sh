#!/usr/bin/env bash
# Installs what the tests need, below the target folder, then runs every check of the project.
# PROMETHEUS_BIN=/path/to/prometheus runs the real-Prometheus scenarios with that server as well.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
mkdir -p "$CARGO_TARGET_DIR"
CARGO_TARGET_DIR="$(cd "$CARGO_TARGET_DIR" && pwd)"
tools="$CARGO_TARGET_DIR/test-tools"

fail() {
  echo "tests/run.sh: $*" >&2
  exit 1
}

have_prometheus() {
  command -v prometheus >/dev/null && command -v promtool >/dev/null
}

download_prometheus() {
  # As root apt-get warns that it downloads unsandboxed; that is harmless.
  (cd "$1" && apt-get download prometheus)
}

# Unpacks Debian's package instead of installing it: no root for the unpacking, no daemon started.
unpack_prometheus() {
  command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
    fail "no prometheus and promtool on PATH, and no apt-get and dpkg to get them with; install Prometheus 2.42 or later"
  local fresh
  fresh="$(mktemp -d "$CARGO_TARGET_DIR/test-tools.XXXXXX")"
  if ! download_prometheus "$fresh"; then
    apt-get update || fail "apt-get update failed; run it as root, then run this again"
    download_prometheus "$fresh" || fail "apt has no package prometheus; put prometheus and promtool on PATH"
  fi
  dpkg -x "$fresh"/prometheus_*.deb "$fresh"
  rm -rf "$tools" "$fresh"/prometheus_*.deb
  mv "$fresh" "$tools"
}

if ! have_prometheus; then
  PATH="$tools/usr/bin:$PATH"
  have_prometheus || unpack_prometheus
  have_prometheus || fail "the package prometheus holds no prometheus and promtool; put both on PATH"
fi
prometheus --version 2>&1 | sed -n 1p

# Many tests wait for other processes, so a few more of them than cores run side by side.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-4}"

cargo fmt --check
cargo clippy --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
cargo test
