//! Cuts and translates what the policy keeps of any bytes, read as either version.
//!
//! What must hold is written where the property tests have it.

#![no_main]

#[path = "../../../src/wire/tests/mirror.rs"]
#[allow(dead_code, reason = "each target needs a part of it")]
mod mirror;
#[path = "../../../src/wire/tests/parts.rs"]
mod parts;
#[path = "../../../src/wire/tests/translation.rs"]
#[allow(dead_code, reason = "each target needs a part of it")]
mod translation;

use hubgate::config::{Absent, LabelPolicy, Mismatch, SpokeLimits};
use hubgate::policy::{self, Rules, Scratch};
use hubgate::wire;
use hubgate::wire::Protocol::{V1, V2};
use hubgate::wire::writer::Form;
use hubgate::wire::writer::Metadata::Forward;

libfuzzer_sys::fuzz_target!(|message: &[u8]| {
    let policy = LabelPolicy {
        absent: Absent::Inject,
        mismatch: Mismatch::Rename,
    };
    let limits = SpokeLimits {
        series_per_request_max: 10_000,
        labels_per_series_max: 100,
        label_value_bytes_max: 100_000,
    };
    let rules = Rules::new("cluster", "production", policy, limits);
    let mut scratch = Scratch::default();
    for (from, to) in [(V1, V1), (V1, V2), (V2, V1), (V2, V2)] {
        let written = policy::write(from, message, &rules, &mut scratch, Form::new(to, Forward));
        if let Ok((_, written)) = written {
            parts::check(to, written.message.bytes);
            parts::check(V1, written.side.bytes);
        }
    }
});
