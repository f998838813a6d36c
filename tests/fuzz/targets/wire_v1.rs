//! Inspects any bytes as a V1 message under every policy, with prost as the witness.
//!
//! What must hold is written where the property tests have it.

#![no_main]

#[path = "../../../src/policy/tests/invariants.rs"]
#[allow(dead_code, reason = "each target needs a part of it")]
mod invariants;
#[path = "../../../src/wire/tests/mirror.rs"]
#[allow(dead_code, reason = "each target needs a part of it")]
mod mirror;
#[path = "../../../src/wire/tests/translation.rs"]
#[allow(dead_code, reason = "each target needs a part of it")]
mod translation;

use hubgate::{config, policy, wire};

libfuzzer_sys::fuzz_target!(|message: &[u8]| {
    invariants::check(wire::Protocol::V1, message);
});
