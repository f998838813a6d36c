//! One Rust version, wherever it is named.

use serde::Deserialize;

#[derive(Deserialize)]
struct ToolchainFile {
    toolchain: Toolchain,
}

#[derive(Deserialize)]
struct Toolchain {
    channel: String,
}

/// CI builds with the pinned version alone, so only that version can be promised.
#[test]
fn the_rust_version_is_the_pinned_one() {
    let file: ToolchainFile = toml::from_str(&crate::read("rust-toolchain.toml")).unwrap();
    let pinned = file.toolchain.channel;
    let promised = env!("CARGO_PKG_RUST_VERSION");
    assert!(
        pinned.starts_with(&format!("{promised}.")),
        "rust-toolchain.toml pins {pinned}, and rust-version in Cargo.toml is {promised}"
    );
    let named = [
        ("CONTRIBUTING.md", format!("Rust {pinned}")),
        (".github/workflows/ci.yml", format!("rust:{pinned}-")),
        (".github/workflows/release.yml", format!("rust:{pinned}-")),
        ("deploy/gateway/Dockerfile", format!("FROM rust:{pinned}-")),
    ];
    for (path, name) in named {
        let named = crate::read(path).contains(&name);
        assert!(
            named,
            "{path} does not name {name:?} of rust-toolchain.toml"
        );
    }
}
