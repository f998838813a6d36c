//! What a request costs in allocations when it travels on as it came: none.
//!
//! A binary of its own, for its allocator; and one test alone, since every thread is counted.

use hubgate::config::{Absent, LabelPolicy, Mismatch, SpokeLimits};
use hubgate::policy::{self, Rules, Scratch};
use hubgate::wire::{Protocol, snappy};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const DECODED_BYTES_MAX: usize = 32 << 20;

/// Bodies of 2000 series as Prometheus sends them.
const BODIES: [(Protocol, &[u8]); 2] = [
    (
        Protocol::V1,
        include_bytes!("fixtures/prometheus-3.12-v1-2000.snappy"),
    ),
    (
        Protocol::V2,
        include_bytes!("fixtures/prometheus-3.12-v2-2000.snappy"),
    ),
];

fn rules() -> Rules {
    let policy = LabelPolicy {
        absent: Absent::Inject,
        mismatch: Mismatch::Reject,
    };
    let limits = SpokeLimits {
        series_per_request_max: 50_000,
        labels_per_series_max: 128,
        label_value_bytes_max: 65_536,
    };
    Rules::new("cluster", "production", policy, limits)
}

/// Blocks that were allocated so far, and their bytes.
fn allocated() -> (u64, u64) {
    let stats = dhat::HeapStats::get();
    (stats.total_blocks, stats.total_bytes)
}

#[test]
fn decodes_and_inspects_a_warm_unchanged_request_without_allocating() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let rules = rules();
    for (protocol, body) in BODIES {
        let (mut buffer, mut scratch) = (Vec::new(), Scratch::default());
        let mut inspect = || {
            let message = snappy::decompress(body, DECODED_BYTES_MAX, &mut buffer).unwrap();
            let verdict = policy::inspect(protocol, message, &rules, &mut scratch).unwrap();
            assert!(!verdict.changed());
            assert_eq!(verdict.kept_series, 2000);
        };
        let cold = allocated();
        inspect();
        assert!(allocated() > cold, "allocations are counted");
        inspect();
        let warm = allocated();
        inspect();
        assert_eq!(allocated(), warm, "{protocol:?}");
    }
}
