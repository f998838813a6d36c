//! Decompresses any bytes under a small limit.
//!
//! What must hold is written where the unit tests have it.

#![no_main]

#[path = "../../../src/wire/tests/blocks.rs"]
mod blocks;

use hubgate::wire;

libfuzzer_sys::fuzz_target!(|body: &[u8]| blocks::check(body));
