//! The JSON Schema of the configuration. Editors complete and check with it what they know of a file:
//! keys, values and their forms. `check-config` knows more.
//!
//! It is written by hand in `schema.json`. `tests/gateway/docs/schema.rs` compares it with what the
//! checker accepts, and with the documentation; `tests/deploy/test_config_schema.py` uses it as a
//! validator does.

use serde_json::{Value, json};

/// The schema of a file of the configuration.
pub const TEXT: &str = include_str!("schema.json");

/// The schema of a file of `spoke_files`.
pub fn of_spoke_file() -> String {
    let whole: Value = serde_json::from_str(TEXT).expect("a test parses it");
    let schema = json!({
        "$schema": whole["$schema"],
        "title": "A spoke of hubgate",
        "description": "A file of `spoke_files`.",
        "allOf": [{"$ref": "#/definitions/spoke"}],
        "definitions": whole["definitions"],
    });
    format!("{schema:#}\n")
}
