//! The fuzz entry points. Each takes any bytes and panics when something does not hold.
//!
//! The fuzz targets and the replay of the committed corpora run these same functions. What must
//! hold is written once, beside the unit and property tests, and included here. The included
//! files name `crate::wire` and its neighbours, so the root of every crate that includes this
//! module imports `hubgate::*`.
#![allow(dead_code, reason = "a fuzz target uses one of the entry points")]

#[path = "../../src/listener/tests/addresses.rs"]
mod addresses;
#[path = "../../src/wire/tests/blocks.rs"]
mod blocks;
#[path = "../../src/policy/tests/census.rs"]
mod census;
#[path = "../../src/config/tests/invariants.rs"]
mod configurations;
#[path = "../../src/wire/tests/crowds.rs"]
mod crowds;
#[path = "../../src/wire/tests/draw.rs"]
mod draw;
#[path = "../../src/wire/tests/faults.rs"]
mod faults;
#[path = "../../src/policy/tests/invariants.rs"]
mod invariants;
#[path = "../../src/jwt/tests/invariants.rs"]
mod jwt_invariants;
#[path = "../../src/wire/tests/layouts.rs"]
mod layouts;
#[path = "../../src/policy/tests/leavings.rs"]
mod leavings;
#[path = "../../src/wire/tests/mirror.rs"]
mod mirror;
#[path = "../../src/policy/tests/model.rs"]
mod model;
#[path = "../../src/wire/tests/parts.rs"]
mod parts;
#[path = "../../src/policy/tests/together.rs"]
mod together;
#[path = "../../src/wire/tests/translation.rs"]
mod translation;

use hubgate::config::{Absent, LabelPolicy, Mismatch, SpokeLimits};
use hubgate::policy::{self, Rules, Scratch};
use hubgate::wire::Protocol::{V1, V2};
use hubgate::wire::encoder::Metadata::Forward;
use hubgate::wire::encoder::{Encoder, Form};

/// Checks any bytes as a configuration, without the files that it names.
pub(crate) fn config(text: &[u8]) {
    configurations::check(&String::from_utf8_lossy(text));
}

/// Judges any bytes as a JSON Web Token under fixed keys, and reads them as keys.
pub(crate) fn jwt(bytes: &[u8]) {
    jwt_invariants::check(bytes);
}

/// Walks any bytes as the values of `X-Forwarded-For`, one on each line.
pub(crate) fn forwarded_for(values: &[u8]) {
    addresses::check_forwarded_for(values);
}

/// Reads any bytes as the start of a connection of the PROXY protocol.
pub(crate) fn proxy_header(bytes: &[u8]) {
    addresses::check_proxy_header(bytes);
}

/// Decompresses any bytes under a small limit.
pub(crate) fn snappy(body: &[u8]) {
    blocks::check(body);
}

/// Cuts and translates what the policy keeps of any bytes, read as either version.
pub(crate) fn transcode(message: &[u8]) {
    let policy = LabelPolicy {
        absent: Absent::Inject,
        mismatch: Mismatch::Rename,
    };
    let limits = SpokeLimits {
        series_per_request_max: 10_000,
        labels_per_series_max: 100,
        label_value_bytes_max: 100_000,
        samples_ahead_max: Some(invariants::AHEAD_MAX),
        ..SpokeLimits::DEFAULT
    };
    let rules = Rules::new("cluster", "production", policy, limits);
    let mut scratch = Scratch::default();
    for (from, to) in [(V1, V1), (V1, V2), (V2, V1), (V2, V2)] {
        let mut encoder = Encoder::default();
        encoder.start(Form::new(to, Forward), message.len());
        let encoders = std::slice::from_mut(&mut encoder);
        let verdict = policy::inspect(
            from,
            message,
            &rules,
            invariants::NOW,
            &mut scratch,
            encoders,
        );
        if verdict.is_ok_and(|verdict| verdict.keeps()) {
            let encoded = encoder.finish().expect("it was inspected");
            parts::check(to, encoded.message.bytes);
            parts::check(V1, encoded.side.bytes);
        }
    }
}

/// Inspects messages that any bytes choose: their series fare together as each does alone.
pub(crate) fn walk(choices: &[u8]) {
    together::check_drawn(choices);
}

/// Inspects any bytes as a V1 message under every policy, with prost as the witness.
pub(crate) fn wire_v1(message: &[u8]) {
    invariants::check(V1, message);
}

/// Inspects any bytes as a V2 message under every policy, with prost as the witness.
pub(crate) fn wire_v2(message: &[u8]) {
    invariants::check(V2, message);
}
