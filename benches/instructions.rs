//! Repeats the work of one request, for a program that counts instructions.
//!
//! `instructions CASE COUNT` does one case; `instructions.sh` runs it under callgrind with two
//! counts, and the difference is the cost of a warm request. Counts of instructions, unlike times,
//! are the same on a busy machine, so two commits can be compared. Without a case, as cargo runs
//! it, every case is done once; `--list` names them. A case is the work and the body it is done on.

use std::hint::black_box;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use hubgate::config::{Absent, LabelPolicy, Mismatch, SpokeLimits};
use hubgate::load::bodies;
use hubgate::load::shape::{Mix, Shape};
use hubgate::policy::{self, Rules, Scratch};
use hubgate::wire::encoder::{Encoder, Form, Metadata};
use hubgate::wire::{Protocol, snappy};

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LIMIT: usize = 32 * 1024 * 1024;

/// A body of 2,000 series.
struct Body {
    /// Names the body in the name of a case.
    suffix: &'static str,
    protocol: Protocol,
    source: Source,
}

enum Source {
    /// Captured from a real Prometheus server (`tests/fixtures`).
    Captured(&'static [u8]),
    /// From `hubgate load`, with one more label that has a value of so many bytes.
    LongLabel(usize),
}

static BODIES: [Body; 8] = [
    Body {
        suffix: "v1",
        protocol: Protocol::V1,
        source: Source::Captured(include_bytes!(
            "../tests/fixtures/prometheus-3.12-v1-2000.snappy"
        )),
    },
    Body {
        suffix: "v2",
        protocol: Protocol::V2,
        source: Source::Captured(include_bytes!(
            "../tests/fixtures/prometheus-3.12-v2-2000.snappy"
        )),
    },
    Body {
        suffix: "cluster-v1s1",
        protocol: Protocol::V1,
        source: Source::Captured(include_bytes!("../tests/fixtures/cluster-v1s1.snappy")),
    },
    Body {
        suffix: "cluster-v1s8",
        protocol: Protocol::V1,
        source: Source::Captured(include_bytes!("../tests/fixtures/cluster-v1s8.snappy")),
    },
    Body {
        suffix: "cluster-v2s1",
        protocol: Protocol::V2,
        source: Source::Captured(include_bytes!("../tests/fixtures/cluster-v2s1.snappy")),
    },
    Body {
        suffix: "cluster-v2s8",
        protocol: Protocol::V2,
        source: Source::Captured(include_bytes!("../tests/fixtures/cluster-v2s8.snappy")),
    },
    Body {
        suffix: "long-v1",
        protocol: Protocol::V1,
        source: Source::LongLabel(200),
    },
    Body {
        suffix: "long-v2",
        protocol: Protocol::V2,
        source: Source::LongLabel(200),
    },
];

impl Body {
    fn compressed(&self) -> Bytes {
        match self.source {
            Source::Captured(bytes) => Bytes::from_static(bytes),
            Source::LongLabel(bytes) => {
                let shape = Shape {
                    protocol: self.protocol,
                    series_per_request: 2_000,
                    mix: Mix::Uniform { labels: 14 },
                    long_label_bytes: Some(bytes),
                    cluster: Some("production".to_owned()),
                };
                bodies::Body::new(&shape, 0).next(1_764_000_000_000)
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Work {
    /// Decompress.
    Decode,
    /// Inspect a message that may travel on as it is.
    Inspect,
    /// Inspect a message that lacks the cluster label, and encode it with the label.
    Inject,
    /// The same, when the inspection only looked and its decisions are replayed.
    Replay,
    /// Inspect a message and encode it in the other version.
    Translate,
}

impl Work {
    const ALL: [Self; 5] = [
        Self::Decode,
        Self::Inspect,
        Self::Inject,
        Self::Replay,
        Self::Translate,
    ];

    fn name(self, from: Protocol) -> &'static str {
        match (self, from) {
            (Self::Decode, _) => "decode",
            (Self::Inspect, _) => "inspect",
            (Self::Inject, _) => "inject",
            (Self::Replay, _) => "replay",
            (Self::Translate, Protocol::V1) => "upgrade",
            (Self::Translate, Protocol::V2) => "downgrade",
        }
    }
}

struct Case {
    work: Work,
    body: &'static Body,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--list"] => {
            for case in cases() {
                writeln!(io::stdout(), "{}", case.name())?;
            }
        }
        [name, count] if !name.starts_with('-') => {
            let case = cases().find(|case| case.name() == *name);
            let case = case.with_context(|| format!("no case {name}; see --list"))?;
            case.run(count.parse().context("the count is a number")?);
        }
        // Cargo's own flags.
        _ => cases().for_each(|case| case.run(1)),
    }
    Ok(ExitCode::SUCCESS)
}

fn cases() -> impl Iterator<Item = Case> {
    let works = Work::ALL.into_iter();
    works.flat_map(|work| BODIES.iter().map(move |body| Case { work, body }))
}

impl Case {
    fn name(&self) -> String {
        format!(
            "{}-{}",
            self.work.name(self.body.protocol),
            self.body.suffix
        )
    }

    /// Does the work of so many requests.
    fn run(&self, count: u32) {
        let (protocol, body) = (self.body.protocol, self.body.compressed());
        let mut buffer = Vec::new();
        let message = decode(&body, &mut buffer).to_vec();
        let (mut scratch, mut encoder) = (Scratch::default(), Encoder::default());
        let (unchanged, injected) = (rules("cluster"), rules("tenant"));
        for _ in 0..count {
            match self.work {
                Work::Decode => {
                    black_box(decode(black_box(&body), &mut buffer));
                }
                Work::Inspect => inspect(protocol, &message, &unchanged, &mut scratch),
                Work::Inject => {
                    let memory = (&mut scratch, &mut encoder);
                    encode(protocol, protocol, &message, &injected, memory);
                }
                Work::Replay => {
                    let memory = (&mut scratch, &mut encoder);
                    replay(protocol, &message, &injected, memory);
                }
                Work::Translate => {
                    let to = match protocol {
                        Protocol::V1 => Protocol::V2,
                        Protocol::V2 => Protocol::V1,
                    };
                    let memory = (&mut scratch, &mut encoder);
                    encode(protocol, to, &message, &unchanged, memory);
                }
            }
        }
    }
}

fn decode<'b>(body: &[u8], buffer: &'b mut Vec<u8>) -> &'b [u8] {
    snappy::decompress(body, LIMIT, buffer).expect("an honest body")
}

fn inspect(protocol: Protocol, message: &[u8], rules: &Rules, scratch: &mut Scratch) {
    let verdict = policy::inspect(
        protocol,
        black_box(message),
        rules,
        NOW_MILLIS,
        scratch,
        &mut [],
    );
    let verdict = verdict.expect("a honest body");
    assert!(!verdict.changed(), "it may travel on as it is");
}

fn encode(
    from: Protocol,
    to: Protocol,
    message: &[u8],
    rules: &Rules,
    (scratch, encoder): (&mut Scratch, &mut Encoder),
) {
    encoder.start(Form::new(to, Metadata::Drop), message.len());
    let encoders = std::slice::from_mut(encoder);
    let verdict = policy::inspect(
        from,
        black_box(message),
        rules,
        NOW_MILLIS,
        scratch,
        encoders,
    );
    assert!(verdict.expect("a honest body").keeps());
    black_box(encoder.finish().expect("a honest body"));
}

fn replay(
    protocol: Protocol,
    message: &[u8],
    rules: &Rules,
    (scratch, encoder): (&mut Scratch, &mut Encoder),
) {
    let verdict = policy::inspect(
        protocol,
        black_box(message),
        rules,
        NOW_MILLIS,
        scratch,
        &mut [],
    );
    assert!(verdict.expect("a honest body").changed());
    encoder.start(Form::new(protocol, Metadata::Drop), message.len());
    let encoders = std::slice::from_mut(encoder);
    policy::replay(protocol, black_box(message), rules, scratch, encoders).expect("it was judged");
    black_box(encoder.finish().expect("an honest body"));
}

/// A time after those of all captured bodies, in milliseconds since the Unix epoch.
const NOW_MILLIS: i64 = 1_800_000_000_000;

fn rules(cluster_label: &str) -> Rules {
    let policy = LabelPolicy {
        absent: Absent::Inject,
        mismatch: Mismatch::Reject,
    };
    let limits = SpokeLimits {
        series_per_request_max: 50_000,
        labels_per_series_max: 128,
        label_value_bytes_max: 65_536,
        samples_ahead_max: Some(Duration::from_secs(600)),
    };
    Rules::new(cluster_label, "production", policy, limits)
}
