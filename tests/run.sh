#!/usr/bin/env bash
# Installs what the tests need, below the target folder, then runs every check of the project.
# PROMETHEUS_BIN=/path/to/prometheus runs the real-Prometheus scenarios with that server as well.
set -euo pipefail
unset CDPATH

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
mkdir -p "$CARGO_TARGET_DIR"
CARGO_TARGET_DIR="$(cd "$CARGO_TARGET_DIR" && pwd)"
tools="$CARGO_TARGET_DIR/test-tools"

fail() {
  echo "tests/run.sh: $*" >&2
  exit 1
}

# The pinned version. Where rustup cannot download it, an installed stable toolchain of the same
# version serves as well.
rust="$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)"
rustc --version >/dev/null 2>&1 || export RUSTUP_TOOLCHAIN=stable
[[ "$(rustc --version)" == "rustc $rust "* ]] || fail "Rust $rust is needed, not $(rustc --version)"

# What the tests start, and the packages that hold it.
programs=(
  amtool bats buildah chromium-headless-shell faketime haproxy nginx openssl prometheus
  prometheus-alertmanager promtool systemd-analyze victoria-metrics
)
packages=(
  bats
  buildah libassuan0 libdevmapper1.02.1 libgpgme11 libseccomp2
  faketime libfaketime
  haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1
  nginx openssl prometheus prometheus-alertmanager
  systemd libapparmor1 libip4tc2 libkmod2 libsystemd-shared
  victoria-metrics
)

missing() {
  local program
  for program in "${programs[@]}"; do
    command -v "$program" >/dev/null || echo "$program"
  done
}

# The browser, and what it needs that this machine does not have.
browser_packages() {
  local simulated
  simulated="$(apt-get install --simulate --no-install-recommends chromium-headless-shell)" || return
  sed -n 's/^Inst \([^ ]*\) .*/\1/p' <<<"$simulated"
}

download_packages() {
  local browser
  browser="$(browser_packages)" || return
  # As root apt-get warns that it downloads unsandboxed; that is harmless.
  # shellcheck disable=SC2086
  (cd "$1" && apt-get download "${packages[@]}" $browser)
}

# Unpacks Debian's packages instead of installing them: no root for the unpacking, no daemon started.
unpack_packages() {
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    fail "not on PATH, and no apt-get and dpkg to get it with: $(missing)"
  fi
  local fresh package
  fresh="$(mktemp -d "$CARGO_TARGET_DIR/test-tools.XXXXXX")"
  if ! download_packages "$fresh"; then
    apt-get update || fail "apt-get update failed; run it as root, then run this again"
    download_packages "$fresh" || fail "apt has not all of ${packages[*]}; put on PATH: $(missing)"
  fi
  for package in "$fresh"/*.deb; do
    dpkg -x "$package" "$fresh"
  done
  rm -rf "$tools" "$fresh"/*.deb
  mv "$fresh" "$tools"
}

if [[ -n "$(missing)" ]]; then
  PATH="$tools/usr/bin:$tools/usr/sbin:$PATH"
  [[ -z "$(missing)" ]] || unpack_packages
  [[ -z "$(missing)" ]] || fail "the packages ${packages[*]} do not hold: $(missing)"
fi
prometheus --version 2>&1 | sed -n 1p

# What the tests in a browser load into the page.
install_npm_packages() {
  command -v npm >/dev/null || fail "npm is needed to install $(tr -d '\n' <tests/npm/package.json)"
  local fresh
  mkdir -p "$tools"
  fresh="$(mktemp -d "$tools/npm.XXXXXX")"
  cp tests/npm/package.json tests/npm/package-lock.json "$fresh"
  npm ci --prefix "$fresh" --ignore-scripts --no-audit --no-fund --loglevel=error
  rm -rf "$tools/npm"
  mv "$fresh" "$tools/npm"
}

cmp --silent tests/npm/package-lock.json "$tools/npm/package-lock.json" || install_npm_packages

# Most tests wait for other processes, so more of them than cores run side by side.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-6}"

# Property tests draw the same cases in every run. PROPTEST_RNG_SEED=random draws new ones; the
# printed seed repeats them.
seed="${PROPTEST_RNG_SEED:-20261126}"
[[ "$seed" != random ]] || seed="$SRANDOM"
export PROPTEST_RNG_SEED="$seed"
echo "PROPTEST_RNG_SEED=$PROPTEST_RNG_SEED"

cargo fmt --check
cargo clippy --locked --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
cargo test --locked
# The smoke form of each bench: every case once, without measuring.
cargo test --locked --bench '*' -- --test
# The fuzz targets have a lock file of their own.
cargo check --locked --manifest-path tests/fuzz/Cargo.toml
# The checks of deploy/ run the binary that users get.
HUBGATE_BIN="$(packaging/build-static.sh)"
export HUBGATE_BIN
tests/deploy/run.sh
