//! What must hold of every inspection of any bytes, with prost as the witness.
//!
//! The property tests and the fuzz targets share this file, so that both look for the same.

use std::time::Duration;

use super::faults;
use super::leavings::{check_defined_fields, check_leaving};
use super::mirror::{PlainMessage, PlainSeries};
use super::translation::{self, fields, plain};
use crate::config::{Absent, LabelPolicy, Mismatch, SpokeLimits};
use crate::policy::{self, Rules, Scratch, Verdict};
use crate::reasons::Reason;
use crate::wire::encoder::{Encoded, Encoder, Form, Metadata};
use crate::wire::protobuf::put_bytes;
use crate::wire::{Kind, Malformed, Protocol};

/// What a request of one spoke becomes in the version that it came in.
#[derive(Debug)]
pub(crate) struct Inspection {
    pub(crate) verdict: Verdict,
    /// The message encoded again, when something may travel on but not the original bytes.
    pub(crate) rewritten: Option<Vec<u8>>,
    /// What had to go beside it.
    pub(crate) side: Vec<u8>,
}

/// Memory to inspect and encode in.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) scratch: Scratch,
    pub(crate) encoder: Encoder,
}

/// Inspects and, where the verdict asks for it, encodes by the decisions that were made.
pub(crate) fn inspect(
    protocol: Protocol,
    message: &[u8],
    rules: &Rules,
    memory: &mut Memory,
) -> Result<Inspection, Malformed> {
    let verdict = policy::inspect(protocol, message, rules, NOW, &mut memory.scratch, &mut [])?;
    let mut inspection = Inspection {
        verdict,
        rewritten: None,
        side: Vec::new(),
    };
    if inspection.verdict.changed() && inspection.verdict.keeps() {
        let form = Form::new(protocol, Metadata::Forward);
        let encoded = replay(protocol, message, rules, memory, form)?;
        check_room(protocol, protocol, message, rules, &encoded);
        inspection.side = encoded.side.bytes.to_vec();
        inspection.rewritten = Some(encoded.message.bytes.to_vec());
    }
    Ok(inspection)
}

/// Inspects and encodes what may travel on in the same walk.
pub(crate) fn encode<'m>(
    from: Protocol,
    message: &[u8],
    rules: &Rules,
    memory: &'m mut Memory,
    form: Form,
) -> Result<(Verdict, Encoded<'m>), Malformed> {
    let Memory { scratch, encoder } = memory;
    encoder.start(form, message.len());
    let encoders = std::slice::from_mut(encoder);
    let verdict = policy::inspect(from, message, rules, NOW, scratch, encoders)?;
    if !verdict.keeps() {
        return Ok((verdict, Encoded::default()));
    }
    Ok((verdict, encoder.finish()?))
}

/// Encodes what may travel on by the decisions on the message that was inspected last.
fn replay<'m>(
    from: Protocol,
    message: &[u8],
    rules: &Rules,
    memory: &'m mut Memory,
    form: Form,
) -> Result<Encoded<'m>, Malformed> {
    let Memory { scratch, encoder } = memory;
    encoder.start(form, message.len());
    let encoders = std::slice::from_mut(encoder);
    policy::replay(from, message, rules, scratch, encoders)?;
    encoder.finish()
}

/// What was encoded fits the computed room.
fn check_room(from: Protocol, to: Protocol, message: &[u8], rules: &Rules, encoded: &Encoded<'_>) {
    let room = policy::room(from, to, message.len(), rules);
    let length = encoded.message.bytes.len() + encoded.side.bytes.len();
    assert!(length <= room, "{length} bytes in {room}");
}

/// The spoke that all requests are said to come from.
pub(crate) const SPOKE: &str = "production";

/// Limits that only tests of limits reach.
pub(crate) const LIMITS: SpokeLimits = SpokeLimits {
    series_per_request_max: 10_000,
    labels_per_series_max: 100,
    label_value_bytes_max: 100_000,
    samples_ahead_max: Some(AHEAD_MAX),
    ..SpokeLimits::DEFAULT
};

/// How far ahead samples may be.
pub(crate) const AHEAD_MAX: Duration = Duration::from_secs(600);

/// The time of all requests, in milliseconds: after that of most generated samples.
pub(crate) const NOW: i64 = 1_799_000_000_000;

/// The latest timestamp that may travel on.
pub(crate) const NEWEST_MAX: i64 = NOW + 600_000;

/// Every label policy there is.
pub(crate) fn policies() -> impl Iterator<Item = LabelPolicy> {
    [Absent::Inject, Absent::Reject]
        .into_iter()
        .flat_map(|absent| {
            [Mismatch::Overwrite, Mismatch::Reject, Mismatch::Rename]
                .map(|mismatch| LabelPolicy { absent, mismatch })
        })
}

/// The rules of [`SPOKE`].
pub(crate) fn rules(policy: LabelPolicy, limits: SpokeLimits) -> Rules {
    Rules::new("cluster", SPOKE, policy, limits)
}

/// What of a message travels on after its inspection.
pub(crate) fn leaving<'m>(message: &'m [u8], inspection: &'m Inspection) -> Option<&'m [u8]> {
    let verdict = &inspection.verdict;
    let must_rewrite = verdict.changed() && verdict.keeps();
    assert_eq!(inspection.rewritten.is_some(), must_rewrite, "{verdict:?}");
    match &inspection.rewritten {
        Some(rewritten) => Some(rewritten),
        None if verdict.changed() => None,
        None => Some(message),
    }
}

/// Panics unless all that must hold of any message holds of `message` under every policy.
pub(crate) fn check(protocol: Protocol, message: &[u8]) {
    let mut memory = Memory::default();
    for policy in policies() {
        let rules = rules(policy, LIMITS);
        let scratch = &mut memory.scratch;
        let inspected = policy::inspect(protocol, message, &rules, NOW, scratch, &mut []);
        match (inspected, PlainMessage::decode(protocol, message)) {
            // The one rule of structure that is stricter than prost's.
            (Err(Malformed::Group), _) | (Err(_), Err(_)) => {
                for (to, metadata) in TARGETS {
                    let form = Form::new(to, metadata);
                    let encoded = encode(protocol, message, &rules, &mut memory, form);
                    assert!(encoded.is_err());
                }
            }
            (Ok(verdict), Ok(input)) => {
                check_counts(&verdict, &input);
                let kept = kept(protocol, message, &input, &rules, &verdict);
                check_kept(&kept, &verdict);
                if !verdict.changed() {
                    check_unchanged(protocol, message, &kept);
                }
                let case = Case {
                    protocol,
                    message,
                    policy,
                    verdict: &verdict,
                };
                for target in TARGETS {
                    case.check_encoded(kept.clone(), target, &mut memory);
                }
                case.check_passes(&mut memory);
                case.check_explained();
            }
            (ours, prost) => panic!("ours: {ours:?}, prost: {prost:?}"),
        }
    }
}

/// All that a hub may want.
const TARGETS: [(Protocol, Metadata); 3] = [
    (Protocol::V1, Metadata::Drop),
    (Protocol::V2, Metadata::Drop),
    (Protocol::V2, Metadata::Forward),
];

/// A message and what was found under a policy.
struct Case<'c> {
    protocol: Protocol,
    message: &'c [u8],
    policy: LabelPolicy,
    verdict: &'c Verdict,
}

impl Case<'_> {
    /// What is encoded is what was kept and nothing more, under labels that the spoke may write.
    fn check_encoded(
        &self,
        kept: PlainMessage,
        (to, metadata): (Protocol, Metadata),
        memory: &mut Memory,
    ) {
        let (from, verdict) = (self.protocol, self.verdict);
        let rules = rules(self.policy, LIMITS);
        let form = Form::new(to, metadata);
        let (found, encoded) =
            encode(from, self.message, &rules, memory, form).expect("it was inspected before");
        assert_eq!(&found, verdict, "an encoder changes no verdict");
        check_room(from, to, self.message, &rules, &encoded);
        translation::check(kept, from, to, metadata, &encoded);
        let mut held = encoded.message.counts;
        held.add_all(&encoded.side.counts);
        assert_eq!(held.min(&verdict.kept()), held, "no more than was kept");
        let left_out = verdict.kept().minus(&held);
        assert_eq!(left_out.of(Kind::Float), 0);
        assert_eq!(left_out.of(Kind::Exemplar), 0);
        assert_eq!(left_out.of(Kind::Histogram), encoded.lost.custom_buckets);
        if to == Protocol::V1 {
            assert_eq!(encoded.lost.custom_buckets, verdict.custom_buckets);
        }
        let metadata = encoded.lost.metadata + encoded.merged_metadata;
        assert_eq!(left_out.of(Kind::Metadata), metadata);
        let messages = [(to, encoded.message), (Protocol::V1, encoded.side)]
            .map(|(protocol, message)| (protocol, message.bytes.to_vec(), message.counts));
        for (protocol, bytes, counts) in messages {
            check_leaving(protocol, &bytes);
            let second = inspect_again(protocol, &bytes, self.policy);
            assert_eq!(second.received, counts);
            assert!(protocol == Protocol::V1 || second.orphan_series == 0);
            assert!(protocol == Protocol::V2 || second.custom_buckets == 0);
        }
    }

    /// Each series is said to fare as it does.
    fn check_explained(&self) {
        let (protocol, verdict) = (self.protocol, self.verdict);
        let rules = rules(self.policy, LIMITS);
        let explained = policy::explain(protocol, self.message, &rules, NOW);
        let explained = explained.expect("it was inspected before");
        assert_eq!(&explained.verdict, verdict);
        if explained.refusal().is_some() {
            return;
        }
        assert_eq!(explained.series.len() as u64, verdict.series);
        let count = |reason| {
            let series = explained.series.iter();
            series.filter(|it| it.refused() == reason).count() as u64
        };
        assert_eq!(count(None), verdict.kept_series);
        for rejection in &verdict.rejections {
            let refused = count(Some(rejection.reason));
            assert_eq!(refused, rejection.series, "{:?}", rejection.reason);
        }
    }

    /// One walk makes for all targets what a walk for each of them makes, and so does a walk that
    /// replays the decisions. The length of a V1 message is known without room for it.
    fn check_passes(&self, memory: &mut Memory) {
        let (from, message) = (self.protocol, self.message);
        let rules = rules(self.policy, LIMITS);
        let mut together = TARGETS.map(|_| Encoder::default());
        for (encoder, (to, metadata)) in together.iter_mut().zip(TARGETS) {
            encoder.start(Form::new(to, metadata), message.len());
        }
        let scratch = &mut memory.scratch;
        let found = policy::inspect(from, message, &rules, NOW, scratch, &mut together);
        assert_eq!(found.as_ref(), Ok(self.verdict));
        if !self.verdict.keeps() {
            return;
        }
        for (encoder, (to, metadata)) in together.iter_mut().zip(TARGETS) {
            let together = encoder.finish().expect("it was inspected");
            let form = Form::new(to, metadata);
            let replayed = replay(from, message, &rules, memory, form);
            assert_eq!(replayed, Ok(together), "replayed as {to:?}, {metadata:?}");
            let tight = Form { v1_room: 0, ..form };
            let replayed = replay(from, message, &rules, memory, tight).expect("it was inspected");
            match replayed.overflow {
                Some(length) if to == Protocol::V1 => {
                    assert_eq!(length, together.message.bytes.len());
                    assert!(length > message.len());
                }
                Some(_) => assert_eq!(replayed.message, together.message),
                None => assert_eq!(replayed, together),
            }
            let direct = encode(from, message, &rules, memory, form).expect("it was inspected");
            assert_eq!(direct.1, together, "encoded as {to:?}, {metadata:?}");
        }
    }
}

/// What may travel on as it came, but under the labels that each series gets when it is alone.
fn kept(
    protocol: Protocol,
    message: &[u8],
    input: &PlainMessage,
    rules: &Rules,
    verdict: &Verdict,
) -> PlainMessage {
    let of_request = [Reason::SeriesPerRequest, Reason::SymbolsPerRequest];
    let refused = |rejection: &policy::Rejection| of_request.contains(&rejection.reason);
    if verdict.rejections.iter().any(refused) {
        return PlainMessage::default();
    }
    let (series_field, metadata_field) = match protocol {
        Protocol::V1 => (1, Some(3)),
        Protocol::V2 => (5, None),
    };
    let mut symbols = Vec::new();
    if protocol == Protocol::V2 {
        let texts = fields(message).filter(|(field, _)| *field == 4);
        texts.for_each(|(field, text)| put_bytes(&mut symbols, field, text));
    }
    let alone = |field, bytes: &[u8]| {
        let mut alone = symbols.clone();
        put_bytes(&mut alone, field, bytes);
        let mut first = None;
        // V1 holds no custom buckets, and V2 made of V1 no empty series.
        for to in [protocol, Protocol::V2] {
            let (mut memory, form) = (Memory::default(), Form::new(to, Metadata::Forward));
            let encoded = encode(protocol, &alone, rules, &mut memory, form);
            let (verdict, encoded) = encoded.expect("a part of what is well-formed");
            if !verdict.keeps() {
                return None;
            }
            let mut series = plain(to, &encoded.message).series;
            series.extend(plain(Protocol::V1, &encoded.side).series);
            first = first.or(series.into_iter().next());
        }
        Some(first)
    };
    let mut kept = PlainMessage::default();
    let (mut series, mut metadata) = (input.series.iter(), input.metadata.iter());
    for (field, bytes) in fields(message) {
        if field == series_field {
            let series = series.next().expect("prost sees as many");
            if let Some(alone) = alone(field, bytes) {
                let labels = alone.expect("it is encoded").labels;
                let (payload, _) = faults::sift(series.payload.clone(), i64::MIN..=NEWEST_MAX);
                kept.series.push(PlainSeries::new(labels, payload));
            }
        } else if Some(field) == metadata_field {
            let entry = metadata.next().expect("prost sees as many");
            kept.metadata
                .extend(alone(field, bytes).map(|_| entry.clone()));
        }
    }
    kept
}

/// The verdict on the whole is that on its parts.
fn check_kept(kept: &PlainMessage, verdict: &Verdict) {
    assert_eq!(kept.counts(), verdict.kept(), "{verdict:?}");
    assert_eq!(kept.times(), verdict.times, "{verdict:?}");
    let lengths = [kept.series.len(), kept.metadata.len()].map(|length| length as u64);
    assert_eq!(lengths, [verdict.kept_series, verdict.kept_metadata]);
    let alone = |series: &&PlainSeries| {
        let payload = &series.payload;
        payload.samples.is_empty() && payload.histograms.is_empty() && !payload.exemplars.is_empty()
    };
    let alone = kept.series.iter().filter(alone).count();
    assert_eq!(alone as u64, verdict.orphan_series);
}

/// What may travel on as it lies was kept whole, and is what the spoke may write.
fn check_unchanged(protocol: Protocol, message: &[u8], kept: &PlainMessage) {
    let output = PlainMessage::decode(protocol, message).expect("it was decoded before");
    assert_eq!(&output, kept);
    check_leaving(protocol, message);
    check_defined_fields(protocol, message);
    if protocol == Protocol::V2 && !output.series.is_empty() {
        let first = fields(message).find(|(field, _)| *field == 4);
        assert_eq!(first.map(|(_, text)| text), Some(&b""[..]));
    }
}

/// received = kept + rejected, and received is what prost counts.
fn check_counts(verdict: &Verdict, input: &PlainMessage) {
    assert_eq!(verdict.received, input.counts());
    assert_eq!(verdict.series, input.series.len() as u64);
    assert_eq!(verdict.metadata, input.metadata.len() as u64);
    for kind in Kind::ALL {
        let sum = verdict.kept().of(kind) + verdict.rejected().of(kind);
        assert_eq!(verdict.received.of(kind), sum, "{kind:?}: {verdict:?}");
    }
    let rejected: u64 = verdict.rejections.iter().map(|it| it.series).sum();
    let series = verdict.kept_series + rejected;
    assert_eq!(series, verdict.series, "{verdict:?}");
    for rejection in &verdict.rejections {
        assert!(rejection.example.len() <= 240, "{rejection:?}");
    }
    assert!(!verdict.rejections.is_empty() || verdict.rejected().is_empty());
}

/// Inspected again, what leaves is left alone. The label that the gate adds does not count against
/// the spoke's limit, so that one has to be one higher here.
fn inspect_again(protocol: Protocol, leaving: &[u8], policy: LabelPolicy) -> Verdict {
    let limits = SpokeLimits {
        labels_per_series_max: LIMITS.labels_per_series_max + 1,
        ..LIMITS
    };
    let rules = rules(policy, limits);
    let verdict = policy::inspect(
        protocol,
        leaving,
        &rules,
        NOW,
        &mut Scratch::default(),
        &mut [],
    )
    .expect("what leaves is well-formed");
    assert!(!verdict.changed(), "{verdict:?}");
    assert_eq!(verdict.observed.series(Reason::MismatchedLabel), 0);
    verdict
}
