//! Each series is judged once, whatever its request becomes, and each target gets what a walk for
//! it alone makes.

mod reserved;
mod turns;

use std::sync::atomic::Ordering;

use bytes::Bytes;
use prost::Message;
use snap::raw::Encoder as SnappyEncoder;

use super::*;
use crate::budget::Budget;
use crate::config::{self, Absent, LabelPolicy, Mismatch};
use crate::metrics::Gauge;
use crate::policy::Scratch;
use crate::policy::tests::judged::Judged;
use crate::shares::Share;
use crate::wire::encoder::{Encoder, Form};
use crate::wire::proto::{v1, v2};
use crate::wire::tests::mirror::PlainMessage;

const BUDGET: usize = 1 << 30;

const V1: Target = Target {
    protocol: Protocol::V1,
    metadata: Metadata::Forward,
};
const V2: Target = Target {
    protocol: Protocol::V2,
    metadata: Metadata::Forward,
};
const V2_WITHOUT_METADATA: Target = Target {
    protocol: Protocol::V2,
    metadata: Metadata::Drop,
};
const ALL: [Target; 3] = [V1, V2, V2_WITHOUT_METADATA];

/// The labels of a series.
type Labels = Vec<(&'static str, String)>;

fn own(place: usize) -> Labels {
    vec![
        ("__name__", "up".to_owned()),
        ("cluster", "production".to_owned()),
        ("instance", format!("{place:05}")),
    ]
}

fn foreign(place: usize) -> Labels {
    let mut labels = own(place);
    labels[1].1 = "staging".to_owned();
    labels
}

fn unlabelled(place: usize) -> Labels {
    let mut labels = own(place);
    labels.remove(1);
    labels
}

fn nameless(place: usize) -> Labels {
    own(place).split_off(1)
}

/// With a value that all series share.
fn wide(place: usize, bytes: usize) -> Labels {
    let mut labels = own(place);
    labels.push(("wide", "x".repeat(bytes)));
    labels
}

/// 100 series, those at some places made by `odd`.
fn hundred(places: impl Fn(usize) -> bool, odd: impl Fn(usize) -> Labels) -> Vec<Labels> {
    let labels = |place| {
        if places(place) {
            odd(place)
        } else {
            own(place)
        }
    };
    (0..100).map(labels).collect()
}

fn encode_v1(series: &[Labels]) -> Vec<u8> {
    let label = |(name, value): &(&str, String)| v1::Label {
        name: (*name).to_owned(),
        value: value.clone(),
    };
    let series = series.iter().map(|labels| v1::TimeSeries {
        labels: labels.iter().map(label).collect(),
        samples: vec![v1::Sample {
            value: 1.0,
            timestamp: 5,
        }],
        ..v1::TimeSeries::default()
    });
    let request = v1::WriteRequest {
        timeseries: series.collect(),
        ..v1::WriteRequest::default()
    };
    request.encode_to_vec()
}

fn encode_v2(series: &[Labels]) -> Vec<u8> {
    let mut symbols = vec![String::new()];
    let mut index = |text: &str| {
        let known = symbols.iter().position(|symbol| symbol == text);
        let place = known.unwrap_or_else(|| {
            symbols.push(text.to_owned());
            symbols.len() - 1
        });
        u32::try_from(place).unwrap()
    };
    let timeseries = series.iter().map(|labels| {
        let texts = labels.iter().flat_map(|(name, value)| [*name, value]);
        v2::TimeSeries {
            labels_refs: texts.map(&mut index).collect(),
            samples: vec![v2::Sample {
                value: 1.0,
                timestamp: 5,
                start_timestamp: 0,
            }],
            ..v2::TimeSeries::default()
        }
    });
    let timeseries = timeseries.collect();
    let request = v2::Request {
        symbols,
        timeseries,
    };
    request.encode_to_vec()
}

fn encode(protocol: Protocol, series: &[Labels]) -> Vec<u8> {
    match protocol {
        Protocol::V1 => encode_v1(series),
        Protocol::V2 => encode_v2(series),
    }
}

/// A spoke whose rules count what they judge.
struct Fixture {
    rewriter: Rewriter,
    spoke: Arc<Spoke>,
    judged: Judged,
    budget: Arc<Budget>,
    taken: Gauge,
}

impl Fixture {
    fn new() -> Self {
        let hub = "hub: {url: \"http://hub/api/v1/write\"}";
        let credentials = format!("[{{token_sha256: \"{}\"}}]", "0".repeat(64));
        let yaml = format!("{hub}\nspokes: [{{name: production, credentials: {credentials}}}]\n");
        let config = config::parse(&yaml).unwrap();
        let mut spoke = Spoke::new(&config.spokes[0], "cluster", None).unwrap();
        let policy = LabelPolicy {
            absent: Absent::Inject,
            mismatch: Mismatch::Rename,
        };
        spoke.rules = Rules::new("cluster", "production", policy, config.spokes[0].limits);
        let judged = Judged::counting();
        spoke.rules.judged = judged.clone();
        let taken = Gauge::default();
        let budget = Budget::new(BUDGET, taken.clone());
        Self {
            rewriter: Rewriter::new(&budget, 3),
            spoke: Arc::new(spoke),
            judged,
            budget,
            taken,
        }
    }

    /// A request that holds `bytes`.
    fn begin(&self, bytes: usize) -> Arc<Reservation> {
        let reservation = self.budget.begin(&Arc::default(), Share::default());
        reservation.grow(bytes).unwrap();
        Arc::new(reservation)
    }

    /// A request of the spoke with this share.
    fn request(
        &self,
        share: Share,
        protocol: Protocol,
        body: &Bytes,
        targets: &[Target],
    ) -> Request {
        let reservation = self.budget.begin(&Arc::default(), share);
        reservation.grow(body.len()).unwrap();
        Request {
            spoke: Arc::clone(&self.spoke),
            protocol,
            body: body.clone(),
            reservation: Arc::new(reservation),
            targets: targets.to_vec(),
            decoded_bytes_max: 32 << 20,
            moment: 1_799_000_000_000.into(),
            watched: OnceLock::new(),
        }
    }

    /// What becomes of a request that has no place yet.
    async fn rewritten(&self, request: Request) -> Result<Rewritten, RewriteError> {
        let seat = self.rewriter.seat(request.reservation.share());
        self.rewriter.rewrite(request, seat).await
    }

    /// What becomes of a request, and what it holds afterwards.
    async fn rewrite(
        &self,
        protocol: Protocol,
        body: &Bytes,
        targets: &[Target],
    ) -> (Result<Rewritten, RewriteError>, Arc<Reservation>) {
        let request = self.request(Share::default(), protocol, body, targets);
        let reservation = Arc::clone(&request.reservation);
        (self.rewritten(request).await, reservation)
    }

    /// What a target is sent, of a message that it cannot get as it came.
    fn encoded(&self, from: Protocol, message: &[u8], target: Target) -> Vec<u8> {
        let mut rules = self.spoke.rules.clone();
        rules.judged = Judged::default();
        let (mut scratch, mut encoder) = (Scratch::default(), Encoder::default());
        encoder.start(Form::new(target.protocol, target.metadata), message.len());
        let encoders = std::slice::from_mut(&mut encoder);
        policy::inspect(from, message, &rules, 0, &mut scratch, encoders).unwrap();
        encoder.finish().unwrap().message.bytes.to_vec()
    }

    /// Rewrites a request of these series for these targets, after one that was `changed` or not.
    #[track_caller]
    fn check(&self, case: &str, from: Protocol, series: &[Labels], targets: &[Target]) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let message = encode(from, series);
        let body = compress(&message);
        for changed in [false, true] {
            let case = format!("{case}, {from:?} to {targets:?} after changed: {changed}");
            let changes = &self.spoke.throttles.changes;
            changes.store(changed, Ordering::Relaxed);
            let (rewritten, reservation) = runtime.block_on(self.rewrite(from, &body, targets));
            let rewritten = rewritten.unwrap();
            let counts = self.judged.take();
            assert_eq!(counts.len(), series.len(), "{case}: each series is judged");
            assert!(
                counts.values().all(|count| *count == 1),
                "{case}: {counts:?}"
            );
            let verdict = &rewritten.verdict;
            assert_eq!(changes.load(Ordering::Relaxed), verdict.changed(), "{case}");
            for (target, outgoing) in targets.iter().zip(&rewritten.outgoing) {
                let case = format!("{case}: {target:?}");
                if target.protocol == from && !verdict.changed() {
                    let sent = &outgoing.message.as_ref().unwrap().body;
                    assert_eq!(
                        sent.as_ptr(),
                        body.as_ptr(),
                        "{case}: the original travels on"
                    );
                    continue;
                }
                let expected = self.encoded(from, &message, *target);
                if target.protocol == Protocol::V1 && expected.len() > 31 << 20 {
                    assert!(outgoing.too_large, "{case}");
                    let expected = self.encoded(from, &message, V2);
                    let sent = outgoing.message.as_ref().map(|it| decompress(&it.body));
                    assert!(sent.unwrap_or_default() == expected, "{case}");
                    continue;
                }
                assert!(!outgoing.too_large && outgoing.side.is_none(), "{case}");
                let sent = outgoing.message.as_ref().map(|it| decompress(&it.body));
                assert!(sent.unwrap_or_default() == expected, "{case}");
            }
            let held: usize = rewritten.outgoing.iter().map(Outgoing::bytes).sum();
            assert_eq!(reservation.bytes(), held, "{case}");
            drop(reservation);
            self.rewriter.lender.clear();
            assert_eq!(self.taken.get(), 0, "{case}");
        }
    }
}

fn compress(message: &[u8]) -> Bytes {
    SnappyEncoder::new().compress_vec(message).unwrap().into()
}

fn decompress(body: &[u8]) -> Vec<u8> {
    let mut buffer = Vec::new();
    snappy::decompress(body, usize::MAX, &mut buffer)
        .unwrap()
        .to_vec()
}

#[test]
fn judges_each_series_once() {
    let fixture = Fixture::new();
    let cases = [
        ("unchanged", hundred(|_| false, own)),
        (
            "one foreign label in the middle",
            hundred(|it| it == 50, foreign),
        ),
        ("no cluster label anywhere", hundred(|_| true, unlabelled)),
        (
            "every other one refused",
            hundred(|it| it % 2 == 0, nameless),
        ),
        ("all refused", hundred(|_| true, nameless)),
    ];
    for (case, series) in &cases {
        for from in [Protocol::V1, Protocol::V2] {
            for targets in [&ALL[..1], &ALL[1..2], &ALL[..2], &ALL[..]] {
                fixture.check(case, from, series, targets);
            }
        }
    }
}

/// Where the work is done depends on the length of V1 as well.
#[test]
fn judges_each_series_of_a_long_downgrade_once() {
    let fixture = Fixture::new();
    for (case, count, bytes) in [
        ("longer than its room", 100, 2000),
        ("too long for an async worker", 1000, 4000),
        ("too large for any hub", 600, 60_000),
    ] {
        let mut series: Vec<_> = (0..count).map(|place| wide(place, bytes)).collect();
        let message = encode(Protocol::V2, &series);
        let v1_bytes = count * bytes;
        assert!(v1_bytes > message.len() * INLINE_DOWNGRADE_FACTOR, "{case}");
        for targets in [&ALL[..1], &ALL[..]] {
            fixture.check(case, Protocol::V2, &series, targets);
        }
        series[count / 2][1].1 = "staging".to_owned();
        fixture.check(&format!("{case}, changed"), Protocol::V2, &series, &ALL);
    }
}

/// A table of symbols has such a label once, and V1 in each series.
#[test]
fn a_downgrade_with_a_label_that_many_series_share_takes_one_walk() {
    let fixture = Fixture::new();
    let series: Vec<_> = (0..2000).map(|place| wide(place, 300)).collect();
    let message = encode(Protocol::V2, &series);
    assert!(2000 * 300 > message.len() * DOWNGRADE_FACTOR);
    let body = compress(&message);
    let request = fixture.request(Share::default(), Protocol::V2, &body, &[V1]);
    let (_, long) = Buffers::default().rewrite(&request).unwrap();
    assert!(long.is_none());
}

/// The way back judges nothing, and knows the length of V1 when it needs room for it.
#[tokio::test]
async fn translates_within_its_room_and_judges_nothing() {
    let fixture = Fixture::new();
    for (count, bytes) in [(100, 10), (100, 2000), (1000, 4000), (600, 60_000)] {
        let series: Vec<_> = (0..count).map(|place| wide(place, bytes)).collect();
        let message = encode(Protocol::V2, &series);
        let payload = Payload {
            protocol: Protocol::V2,
            body: compress(&message),
            memory: 0,
            counts: Default::default(),
        };
        let reservation = fixture.begin(0);
        let translated =
            fixture
                .rewriter
                .translate(&payload, Metadata::Forward, &fixture.spoke, &reservation);
        let (outgoing, held) = translated.await.unwrap();
        assert_eq!(reservation.bytes(), outgoing.bytes());
        let expected = fixture.encoded(Protocol::V2, &message, V1);
        match outgoing.message {
            Some(sent) => assert!(decompress(&sent.body) == expected),
            None => assert!(outgoing.too_large && expected.len() > 31 << 20),
        }
        drop(held);
        assert!(fixture.judged.take().is_empty());
    }
}

#[tokio::test]
async fn halves_hold_what_the_whole_held() {
    let fixture = Fixture::new();
    for protocol in [Protocol::V1, Protocol::V2] {
        let message = encode(protocol, &hundred(|_| false, own));
        let payload = Payload {
            protocol,
            body: compress(&message),
            memory: 0,
            counts: Default::default(),
        };
        let reservation = fixture.begin(0);
        let halves = fixture
            .rewriter
            .halve(&payload, &fixture.spoke, &reservation);
        let halves = halves.await.unwrap().expect("there are 100 series");
        let held: usize = halves.iter().map(|(half, _)| half.memory).sum();
        assert_eq!(reservation.bytes(), held);
        let series = halves.iter().flat_map(|(half, _)| {
            PlainMessage::decode(protocol, &decompress(&half.body))
                .unwrap()
                .series
        });
        let whole = PlainMessage::decode(protocol, &message).unwrap();
        assert_eq!(series.collect::<Vec<_>>(), whole.series);
        assert!(fixture.judged.take().is_empty());
    }
}
