//! Repeats the work of one request, for a program that counts instructions.
//!
//! `instructions CASE COUNT` does one case; `instructions.sh` runs it under callgrind with two
//! counts, and the difference is the cost of a warm request. Counts of instructions, unlike times,
//! are the same on a busy machine, so two commits can be compared. Without a case, as cargo runs
//! it, every case is done once; `--list` names them. A case is the work and the body it is done on.

use std::hint::black_box;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use hubgate::capture::Captures;
use hubgate::config::{Absent, LabelPolicy, Mismatch, SpokeLimits};
use hubgate::load::bodies;
use hubgate::load::shape::{Extra, Mix, Shape};
use hubgate::policy::{self, Census, Rules, Scratch};
use hubgate::series::{ActiveSeries, Watching};
use hubgate::spoke::Status;
use hubgate::wire::encoder::{Encoder, Form, Metadata};
use hubgate::wire::{Counts, Kind, Protocol, snappy};

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LIMIT: usize = 32 * 1024 * 1024;

/// A body of 2,000 samples.
struct Body {
    /// Names the body in the name of a case.
    suffix: &'static str,
    protocol: Protocol,
    source: Source,
}

enum Source {
    /// Captured from a real Prometheus server (`tests/fixtures`).
    Captured(&'static [u8]),
    /// From `hubgate load`.
    Made(Mix, Option<Extra>),
}

const UNIFORM: Mix = Mix::Uniform { labels: 14 };

/// The captured bodies.
const CAPTURED: [Body; 6] = [
    captured(
        "v1",
        Protocol::V1,
        include_bytes!("../tests/fixtures/prometheus-3.12-v1-2000.snappy"),
    ),
    captured(
        "v2",
        Protocol::V2,
        include_bytes!("../tests/fixtures/prometheus-3.12-v2-2000.snappy"),
    ),
    captured(
        "cluster-v1s1",
        Protocol::V1,
        include_bytes!("../tests/fixtures/cluster-v1s1.snappy"),
    ),
    captured(
        "cluster-v1s8",
        Protocol::V1,
        include_bytes!("../tests/fixtures/cluster-v1s8.snappy"),
    ),
    captured(
        "cluster-v2s1",
        Protocol::V2,
        include_bytes!("../tests/fixtures/cluster-v2s1.snappy"),
    ),
    captured(
        "cluster-v2s8",
        Protocol::V2,
        include_bytes!("../tests/fixtures/cluster-v2s8.snappy"),
    ),
];

/// The bodies of `hubgate load`, each for V1 and V2. Those of V2 have metadata.
const MADE: [(&str, Mix, Option<Extra>); 7] = [
    ("long", UNIFORM, Some(Extra::LongLabel(200))),
    ("longest", UNIFORM, Some(Extra::LongLabel(1_024))),
    ("made-cluster", Mix::Cluster, None),
    ("exemplars", Mix::Cluster, Some(Extra::Exemplars)),
    ("histograms", Mix::Cluster, Some(Extra::Histograms)),
    ("non-ascii", Mix::Cluster, Some(Extra::NonAscii)),
    ("samples", Mix::Cluster, Some(Extra::Samples(4))),
];

const fn captured(suffix: &'static str, protocol: Protocol, bytes: &'static [u8]) -> Body {
    Body {
        suffix,
        protocol,
        source: Source::Captured(bytes),
    }
}

impl Body {
    fn name(&self) -> String {
        match self.source {
            Source::Captured(_) => self.suffix.to_owned(),
            Source::Made(..) => format!("{}-{}", self.suffix, self.protocol.name()),
        }
    }

    fn compressed(&self) -> Bytes {
        match self.source {
            Source::Captured(bytes) => Bytes::from_static(bytes),
            Source::Made(mix, extra) => {
                let samples_per_series = match extra {
                    Some(Extra::Samples(count)) => count,
                    _ => 1,
                };
                let shape = Shape {
                    protocol: self.protocol,
                    series_per_request: 2_000 / samples_per_series,
                    mix,
                    extra,
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
    /// The same, of a spoke that is far below its limit of active series.
    InspectFar,
    /// The same, of one that is near it, so that each series is looked up.
    InspectNear,
    /// Inspect a message that lacks the cluster label, and encode it with the label.
    Inject,
    /// The same, when the inspection only looked and its decisions are replayed.
    Replay,
    /// Inspect a message and encode it in the other version.
    Translate,
    /// Compress what [`Self::Inject`] encodes.
    Compress,
    /// Compress what [`Self::Translate`] encodes.
    CompressTranslated,
    /// Note what the status page shows of a request.
    Note,
}

impl Work {
    const ALL: [Self; 10] = [
        Self::Decode,
        Self::Inspect,
        Self::InspectFar,
        Self::InspectNear,
        Self::Inject,
        Self::Replay,
        Self::Translate,
        Self::Compress,
        Self::CompressTranslated,
        Self::Note,
    ];

    fn name(self, from: Protocol) -> &'static str {
        match (self, from) {
            (Self::Decode, _) => "decode",
            (Self::Inspect, _) => "inspect",
            (Self::InspectFar, _) => "inspect-far",
            (Self::InspectNear, _) => "inspect-near",
            (Self::Inject, _) => "inject",
            (Self::Replay, _) => "replay",
            (Self::Translate, Protocol::V1) => "upgrade",
            (Self::Translate, Protocol::V2) => "downgrade",
            (Self::Compress, _) => "compress",
            (Self::CompressTranslated, Protocol::V1) => "compress-upgraded",
            (Self::CompressTranslated, Protocol::V2) => "compress-downgraded",
            (Self::Note, _) => "note",
        }
    }
}

struct Case {
    work: Work,
    body: Body,
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
    let cases = works.flat_map(|work| bodies().map(move |body| Case { work, body }));
    cases.filter(Case::tells_something)
}

fn bodies() -> impl Iterator<Item = Body> {
    let made = MADE.into_iter().flat_map(|(suffix, mix, extra)| {
        [Protocol::V1, Protocol::V2].map(|protocol| Body {
            suffix,
            protocol,
            source: Source::Made(mix, extra),
        })
    });
    CAPTURED.into_iter().chain(made)
}

impl Case {
    fn name(&self) -> String {
        let work = self.work.name(self.body.protocol);
        format!("{work}-{}", self.body.name())
    }

    /// Made bodies are replayed and compressed like others.
    fn tells_something(&self) -> bool {
        match self.work {
            Work::Decode
            | Work::Inspect
            | Work::InspectFar
            | Work::InspectNear
            | Work::Inject
            | Work::Translate => true,
            Work::Replay | Work::Compress | Work::CompressTranslated => {
                matches!(self.body.source, Source::Captured(_))
            }
            // It does not depend on the body.
            Work::Note => self.body.suffix == "v1",
        }
    }

    /// Does the work of so many requests.
    fn run(&self, count: u32) {
        let (protocol, body) = (self.body.protocol, self.body.compressed());
        let other = match protocol {
            Protocol::V1 => Protocol::V2,
            Protocol::V2 => Protocol::V1,
        };
        let mut buffer = Vec::new();
        let message = decode(&body, &mut buffer).to_vec();
        let (mut scratch, mut encoder) = (Scratch::default(), Encoder::default());
        let (unchanged, injected) = (rules("cluster"), rules("tenant"));
        let memory = (&mut scratch, &mut encoder);
        let encoded = match self.work {
            Work::Compress => encode(protocol, protocol, &message, &injected, memory).to_vec(),
            Work::CompressTranslated => {
                encode(protocol, other, &message, &unchanged, memory).to_vec()
            }
            _ => Vec::new(),
        };
        let known = match self.work {
            Work::InspectFar => Known::of(protocol, &message, &unchanged, FAR),
            Work::InspectNear => Known::of(protocol, &message, &unchanged, NEAR),
            _ => Known::nothing(),
        };
        let mut compressor = snappy::Encoder::default();
        let (status, captures) = (Status::default(), Captures::default());
        for _ in 0..count {
            let memory = (&mut scratch, &mut encoder);
            match self.work {
                Work::Decode => {
                    black_box(decode(black_box(&body), &mut buffer));
                }
                Work::Inspect => inspect(protocol, &message, &unchanged, None, &mut scratch),
                Work::InspectFar | Work::InspectNear => {
                    let watching = Some(known.watch());
                    inspect(protocol, &message, &unchanged, watching, &mut scratch);
                }
                Work::Inject => {
                    black_box(encode(protocol, protocol, &message, &injected, memory));
                }
                Work::Replay => replay(protocol, &message, &injected, memory),
                Work::Translate => {
                    black_box(encode(protocol, other, &message, &unchanged, memory));
                }
                Work::Compress | Work::CompressTranslated => {
                    let encoded = black_box(&encoded);
                    black_box(snappy::compress(&mut compressor, encoded, &mut buffer));
                }
                Work::Note => note(protocol, &status, &captures),
            }
        }
    }
}

fn decode<'b>(body: &[u8], buffer: &'b mut Vec<u8>) -> &'b [u8] {
    snappy::decompress(body, LIMIT, buffer).expect("an honest body")
}

fn inspect(
    protocol: Protocol,
    message: &[u8],
    rules: &Rules,
    mut watching: Option<Watching<'_>>,
    scratch: &mut Scratch,
) {
    let census = watching.as_mut().map(|it| it as &mut dyn Census);
    let verdict = policy::inspect_counted(
        protocol,
        black_box(message),
        rules,
        NOW_MILLIS.into(),
        census,
        scratch,
        &mut [],
    );
    let verdict = verdict.expect("an honest body");
    assert!(!verdict.changed(), "it may travel on as it is");
}

/// The active series of a spoke, with those of a body among them.
struct Known {
    series: ActiveSeries,
    limit: usize,
    now: Duration,
}

/// Active series beside those of a body. With more, a look-up takes longer, and no more instructions.
const KNOWN: u64 = 50_000;

/// Limits of active series that these are far below, and near.
const FAR: usize = 100_000;
const NEAR: usize = 60_000;

/// A table that began at 0 is filled after a minute that brings nothing new.
const KNOWN_AGAIN: Duration = Duration::from_secs(200);
/// Now and then each series is looked up for some time, which is never at both of these.
const FILLED: [Duration; 2] = [Duration::from_secs(320), Duration::from_secs(500)];

impl Known {
    fn nothing() -> Self {
        Self {
            series: ActiveSeries::new().expect("the system has random bytes"),
            limit: FAR,
            now: Duration::ZERO,
        }
    }

    fn of(protocol: Protocol, message: &[u8], rules: &Rules, limit: usize) -> Self {
        let series = ActiveSeries::new().expect("the system has random bytes");
        let mut watching = series.watch_at(limit, Duration::ZERO);
        // As often as a scrape interval of 15 s brings them until then.
        for number in (0..12).flat_map(|_| 0..KNOWN) {
            let identity = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let known = watching.knows(identity) || watching.admit(identity, b"up");
            assert!(known, "there is room");
        }
        let scratch = &mut Scratch::default();
        inspect(protocol, message, rules, Some(watching), scratch);
        let watching = series.watch_at(limit, KNOWN_AGAIN);
        inspect(protocol, message, rules, Some(watching), scratch);
        // Near the limit, none passes at any time.
        let passes = |now: &Duration| {
            let mut watching = series.watch_at(limit, *now);
            (0..100).any(|_| watching.pass() > 0)
        };
        let now = FILLED.into_iter().find(passes).unwrap_or(FILLED[1]);
        Self { series, limit, now }
    }

    fn watch(&self) -> Watching<'_> {
        self.series.watch_at(self.limit, self.now)
    }
}

/// Inspects a message and encodes it; returns the bytes of the encoded message.
fn encode<'e>(
    from: Protocol,
    to: Protocol,
    message: &[u8],
    rules: &Rules,
    (scratch, encoder): (&mut Scratch, &'e mut Encoder),
) -> &'e [u8] {
    encoder.start(Form::new(to, Metadata::Drop), message.len());
    let encoders = std::slice::from_mut(&mut *encoder);
    let verdict = policy::inspect(
        from,
        black_box(message),
        rules,
        NOW_MILLIS,
        scratch,
        encoders,
    );
    assert!(verdict.expect("an honest body").keeps());
    encoder.finish().expect("an honest body").message.bytes
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
    assert!(verdict.expect("an honest body").changed());
    encoder.start(Form::new(protocol, Metadata::Drop), message.len());
    let encoders = std::slice::from_mut(encoder);
    policy::replay(protocol, black_box(message), rules, scratch, encoders).expect("it was judged");
    black_box(encoder.finish().expect("an honest body"));
}

/// What a request leaves for the status page, and the question whether it is captured.
fn note(protocol: Protocol, status: &Status, captures: &Captures) {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    status.record_request(protocol, black_box("Prometheus/3.12.0"), address, "socket");
    assert!(captures.of(black_box("production")).is_none());
    let written = Counts::one(Kind::Float);
    black_box(status.record_written(&written, Some(NOW_MILLIS)));
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
        ..SpokeLimits::DEFAULT
    };
    Rules::new(cluster_label, "production", policy, limits)
}
