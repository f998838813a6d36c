//! A request that is forwarded unchanged is decoded and inspected without an allocation, its active series
//! counted.
//!
//! This is a binary of its own because it replaces the allocator. It must hold one test only, because
//! the allocations of every thread are counted.

use std::time::Duration;

use hubgate::config::{Absent, LabelPolicy, Mismatch, SpokeLimits};
use hubgate::policy::{self, Census, Rules, Scratch};
use hubgate::series::ActiveSeries;
use hubgate::wire::{Protocol, snappy};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const DECODED_BYTES_MAX: usize = 32 << 20;

/// A time after those of all captured bodies.
const NOW_MILLIS: i64 = 1_800_000_000_000;

/// Captured bodies of 2,000 series.
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
        samples_ahead_max: Some(Duration::from_secs(600)),
        ..SpokeLimits::DEFAULT
    };
    Rules::new("cluster", "production", policy, limits)
}

/// The number of blocks allocated so far, and their bytes.
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
        let series = ActiveSeries::new().expect("the system has random bytes");
        let mut inspect = || {
            let message = snappy::decompress(body, DECODED_BYTES_MAX, &mut buffer).unwrap();
            let mut watching = series.watch(10_000);
            let census: Option<&mut dyn Census> = Some(&mut watching);
            let scratch = &mut scratch;
            let verdict = policy::inspect_counted(
                protocol,
                message,
                &rules,
                NOW_MILLIS.into(),
                census,
                scratch,
                &mut [],
            );
            let verdict = verdict.unwrap();
            assert!(!verdict.changed());
            assert_eq!(verdict.kept_series, 2000);
        };
        let cold = allocated();
        inspect();
        assert!(
            allocated() > cold,
            "the allocations of a cold request are not counted"
        );
        inspect();
        let warm = allocated();
        inspect();
        assert_eq!(allocated(), warm, "{protocol:?}");
    }
}
