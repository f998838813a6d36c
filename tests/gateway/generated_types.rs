//! The committed prost types match the files in `proto/`.

use std::path::Path;

/// Fails when `proto/` or the generator changed and `src/wire/proto/` did not.
#[test]
fn committed_types_match_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let messages = protox::compile(
        ["remote_write_v1.proto", "remote_write_v2.proto"],
        [root.join("proto")],
    )
    .unwrap();
    let generated = tempfile::tempdir().unwrap();
    prost_build::Config::new()
        .out_dir(generated.path())
        .compile_fds(messages)
        .unwrap();
    for file in ["prometheus.rs", "io.prometheus.write.v2.rs"] {
        let committed = root.join("src/wire/proto").join(file);
        let fresh = std::fs::read(generated.path().join(file)).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&committed, &fresh).unwrap();
        }
        assert!(
            std::fs::read(&committed).unwrap() == fresh,
            "{} differs from what proto/ generates; run `UPDATE=1 cargo test --test gateway generated_types::` and commit it",
            committed.display(),
        );
    }
}
