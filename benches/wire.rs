//! What a request costs between its body in memory and the hub: decompress, inspect, rewrite.
//!
//! Bodies are captured from real Prometheus servers (`tests/fixtures`), and hostile ones made
//! here. The baseline is prost with a fresh message each time, as a server would use it.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hubgate::config::{Absent, LabelPolicy, Mismatch, SpokeLimits};
use hubgate::load::bodies;
use hubgate::load::shape::{Mix, Shape};
use hubgate::policy::{self, Census, Rules, Scratch};
use hubgate::series::ActiveSeries;
use hubgate::wire::encoder::{Encoder, Form, Metadata};
use hubgate::wire::proto::{v1, v2};
use hubgate::wire::{Protocol, snappy};
use prost::Message;

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LIMIT: usize = 32 * 1024 * 1024;

struct Body {
    name: &'static str,
    protocol: Protocol,
    samples: u64,
    compressed: &'static [u8],
}

const BODIES: [Body; 6] = [
    Body {
        name: "v1-2000",
        protocol: Protocol::V1,
        samples: 2000,
        compressed: include_bytes!("../tests/fixtures/prometheus-3.12-v1-2000.snappy"),
    },
    Body {
        name: "v2-2000",
        protocol: Protocol::V2,
        samples: 2000,
        compressed: include_bytes!("../tests/fixtures/prometheus-3.12-v2-2000.snappy"),
    },
    Body {
        name: "v1-cluster",
        protocol: Protocol::V1,
        samples: 2000,
        compressed: include_bytes!("../tests/fixtures/cluster-v1s8.snappy"),
    },
    Body {
        name: "v2-cluster",
        protocol: Protocol::V2,
        samples: 2000,
        compressed: include_bytes!("../tests/fixtures/cluster-v2s8.snappy"),
    },
    Body {
        name: "v1-mixed",
        protocol: Protocol::V1,
        samples: 300,
        compressed: include_bytes!("../tests/fixtures/prometheus-3.12-v1-mixed.snappy"),
    },
    Body {
        name: "v2-mixed",
        protocol: Protocol::V2,
        samples: 300,
        compressed: include_bytes!("../tests/fixtures/prometheus-3.12-v2-mixed.snappy"),
    },
];

impl Body {
    fn message(&self) -> Vec<u8> {
        let mut message = Vec::new();
        let length = decompress(self.compressed, &mut message);
        message.truncate(length);
        message
    }
}

fn decompress(compressed: &[u8], buffer: &mut Vec<u8>) -> usize {
    let message = snappy::decompress(compressed, LIMIT, buffer);
    message.expect("a captured body").len()
}

/// A time after those of all captured bodies, in milliseconds since the Unix epoch.
const NOW_MILLIS: i64 = 1_800_000_000_000;

fn rules(spoke: &str, cluster_label: &str) -> Rules {
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
    Rules::new(cluster_label, spoke, policy, limits)
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for body in BODIES {
        let mut buffer = Vec::new();
        group.throughput(Throughput::Bytes(body.message().len() as u64));
        group.bench_function(body.name, |bencher| {
            bencher.iter(|| decompress(black_box(body.compressed), &mut buffer));
        });
    }
    // A processor learns the branches of one body that is decoded again and again.
    let mut buffer = Vec::new();
    let bytes = BODIES.iter().map(|body| body.message().len() as u64);
    group.throughput(Throughput::Bytes(bytes.sum()));
    group.bench_function("all in turn", |bencher| {
        bencher.iter(|| {
            for body in &BODIES {
                black_box(decompress(black_box(body.compressed), &mut buffer));
            }
        });
    });
    group.finish();
}

fn inspect(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inspect");
    for body in BODIES {
        let message = body.message();
        let rules = rules("production", "cluster");
        let mut scratch = Scratch::default();
        let mut inspect = || {
            policy::inspect(
                body.protocol,
                black_box(&message),
                &rules,
                NOW_MILLIS,
                &mut scratch,
                &mut [],
            )
            .expect("a captured body")
        };
        assert!(!inspect().changed(), "{} is passed on as it is", body.name);
        group.throughput(Throughput::Elements(inspect().received.total()));
        group.bench_function(body.name, |bencher| bencher.iter(&mut inspect));
    }
    group.finish();
}

/// Inspects the requests of a spoke with a million active series, of which a tenth come one after the
/// other: what is looked up is in no cache.
fn active_series(criterion: &mut Criterion) {
    // What is not optimized is not measured either, and would take minutes.
    const SERIES: usize = if cfg!(debug_assertions) {
        20_000
    } else {
        1_000_000
    };
    const SERIES_PER_REQUEST: usize = 2_000;
    const REQUESTS: usize = SERIES / 10 / SERIES_PER_REQUEST;
    let others = SERIES - REQUESTS * SERIES_PER_REQUEST;
    let mut group = criterion.benchmark_group("a million active series");
    let rules = rules("production", "cluster");
    for protocol in [Protocol::V1, Protocol::V2] {
        let shape = Shape {
            protocol,
            series_per_request: SERIES_PER_REQUEST,
            mix: Mix::Cluster,
            extra: None,
            cluster: Some("production".to_owned()),
        };
        let mut buffer = Vec::new();
        let message = |request: usize| {
            let mut body = bodies::Body::new(&shape, request * SERIES_PER_REQUEST);
            let length = decompress(&body.next(1_764_000_000_000), &mut buffer);
            buffer[..length].to_vec()
        };
        let messages: Vec<Vec<u8>> = (0..REQUESTS).map(message).collect();
        group.throughput(Throughput::Elements(SERIES_PER_REQUEST as u64));
        let limits = [
            ("no limit", None),
            ("far", Some(2 * SERIES)),
            ("far, in a round", Some(2 * SERIES)),
            ("near", Some(SERIES)),
        ];
        for (name, limit) in limits {
            let series = ActiveSeries::new().expect("the system has random bytes");
            let mut scratch = Scratch::default();
            let mut inspect = |message: &[u8], seconds: u64| {
                let now = Duration::from_secs(seconds);
                let mut watching = limit.map(|limit| series.watch_at(limit, now));
                let census = watching.as_mut().map(|it| it as &mut dyn Census);
                policy::inspect_counted(
                    protocol,
                    black_box(message),
                    &rules,
                    NOW_MILLIS.into(),
                    census,
                    &mut scratch,
                    &mut [],
                )
                .expect("an honest body")
            };
            // As many scrapes as there are until the table is filled.
            for _ in 0..12 {
                messages.iter().for_each(|message| {
                    inspect(message, 0);
                });
                let mut watching = series.watch_at(limit.unwrap_or_default(), Duration::ZERO);
                for number in 0..others as u64 {
                    let identity = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let _ = watching.knows(identity) || watching.admit(identity, b"up");
                }
            }
            // A minute that brings nothing new.
            inspect(&messages[0], 200);
            // In an hour there is a round, in which each series is looked up, and it is over after some minutes.
            let passes = |seconds: u64| {
                let now = Duration::from_secs(seconds);
                let mut watching = series.watch_at(limit.unwrap_or_default(), now);
                (0..100).any(|_| watching.pass() > 0)
            };
            let mut seconds = 201..3600;
            if name.starts_with("far") {
                seconds.find(|it| passes(*it)).expect("some pass");
            }
            if name.ends_with("round") {
                seconds.find(|it| !passes(*it)).expect("a round");
            }
            let seconds = seconds.start - 1;
            let mut messages = messages.iter().cycle();
            group.bench_function(format!("{}, {name}", protocol.name()), |bencher| {
                bencher.iter(|| inspect(messages.next().expect("no end"), seconds));
            });
        }
    }
    group.finish();
}

/// Inspects and encodes with `target` made the label of the spoke, or as it is.
fn encode(criterion: &mut Criterion) {
    let cases = [
        ("inject", "tenant", None),
        ("upgrade", "cluster", Some(Protocol::V2)),
        ("downgrade", "cluster", Some(Protocol::V1)),
    ];
    for (name, cluster_label, to) in cases {
        let mut group = criterion.benchmark_group(name);
        for body in BODIES {
            let to = to.unwrap_or(body.protocol);
            if (cluster_label == "cluster") == (to == body.protocol) {
                continue;
            }
            let message = body.message();
            let rules = rules("production", cluster_label);
            let (mut scratch, mut encoder) = (Scratch::default(), Encoder::default());
            group.throughput(Throughput::Elements(body.samples));
            group.bench_function(body.name, |bencher| {
                bencher.iter(|| {
                    let message = black_box(message.as_slice());
                    encoder.start(Form::new(to, Metadata::Drop), message.len());
                    let encoders = std::slice::from_mut(&mut encoder);
                    policy::inspect(
                        body.protocol,
                        message,
                        &rules,
                        NOW_MILLIS,
                        &mut scratch,
                        encoders,
                    )
                    .expect("a captured body");
                    let encoded = encoder.finish().expect("a captured body");
                    encoded.message.bytes.len()
                });
            });
        }
        group.finish();
    }
}

fn prost(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prost decode");
    for body in BODIES {
        let message = body.message();
        group.bench_function(body.name, |bencher| match body.protocol {
            Protocol::V1 => {
                bencher.iter(|| v1::WriteRequest::decode(black_box(message.as_slice())));
            }
            Protocol::V2 => bencher.iter(|| v2::Request::decode(black_box(message.as_slice()))),
        });
    }
    group.finish();
}

fn hostile(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hostile");
    let empty_series = |field: u8| [field << 3 | 2, 0].repeat(1 << 20);
    let cases = [
        ("a million empty series, V1", Protocol::V1, empty_series(1)),
        ("a million empty series, V2", Protocol::V2, empty_series(5)),
        ("a million symbols", Protocol::V2, empty_series(4)),
    ];
    for (name, protocol, message) in cases {
        let rules = rules("production", "cluster");
        let mut scratch = Scratch::default();
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                policy::inspect(
                    protocol,
                    black_box(&message),
                    &rules,
                    NOW_MILLIS,
                    &mut scratch,
                    &mut [],
                )
            });
        });
    }
    group.finish();
}

criterion_group!(
    benches,
    decode,
    inspect,
    active_series,
    encode,
    prost,
    hostile
);
criterion_main!(benches);
