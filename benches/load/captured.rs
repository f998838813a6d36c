//! The bodies that a real Prometheus sent.

use hubgate::load::bodies::Body;
use hubgate::wire::Protocol;

/// The samples of each of them.
const SAMPLES: usize = 2_000;

const V1: [&[u8]; 8] = [
    include_bytes!("../../tests/fixtures/cluster-v1s1.snappy"),
    include_bytes!("../../tests/fixtures/cluster-v1s8.snappy"),
    include_bytes!("captured/v1s1-03.snappy"),
    include_bytes!("captured/v1s8-03.snappy"),
    include_bytes!("captured/v1s1-05.snappy"),
    include_bytes!("captured/v1s8-05.snappy"),
    include_bytes!("captured/v1s1-06.snappy"),
    include_bytes!("captured/v1s8-06.snappy"),
];

const V2: [&[u8]; 8] = [
    include_bytes!("../../tests/fixtures/cluster-v2s1.snappy"),
    include_bytes!("../../tests/fixtures/cluster-v2s8.snappy"),
    include_bytes!("captured/v2s1-02.snappy"),
    include_bytes!("captured/v2s8-02.snappy"),
    include_bytes!("captured/v2s1-04.snappy"),
    include_bytes!("captured/v2s8-04.snappy"),
    include_bytes!("captured/v2s1-06.snappy"),
    include_bytes!("captured/v2s8-06.snappy"),
];

/// The body of this number. A load may have more bodies than were captured.
pub(crate) fn body(protocol: Protocol, number: usize) -> Body {
    let all = match protocol {
        Protocol::V1 => V1,
        Protocol::V2 => V2,
    };
    Body::captured(all[number % all.len()], SAMPLES)
}
