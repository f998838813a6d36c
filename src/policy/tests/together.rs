//! Series of a message fare together as each of them does alone, and as the model says.
//!
//! A message of one series is walked without a template, so what is found of each alone says what must
//! be found of all. The property tests and the fuzz targets share this file.

use std::time::Duration;

use super::census;
use super::crowds::{self, Crowd, Own};
use super::draw::Draw;
use super::faults;
use super::invariants::{AHEAD_MAX, NOW, policies};
use super::layouts;
use super::mirror::{PlainMessage, PlainSeries};
use super::model::{self, Setting};
use super::translation;
use crate::config::{LimitSet, SpokeLimits};
use crate::policy::{self, Rejection, Rules, Scratch, Verdict};
use crate::reasons::{Limit, Reason};
use crate::wire::encoder::{Encoder, Form, Metadata};
use crate::wire::protobuf::{Reader, WireType, put_bytes};
use crate::wire::{Kind, Malformed, Protocol};

/// How old samples may be in some settings, in milliseconds: half of those that are drawn are older.
const AGE_MAX: u64 = 99_000_000_000 - 128;

/// The limits that refuse nothing in some settings.
const OBSERVABLE: [Limit; 4] = [
    Limit::LabelValueBytes,
    Limit::LabelsPerSeries,
    Limit::SamplesAge,
    Limit::SamplesAhead,
];

/// What hubs want.
const TARGETS: [(Protocol, Metadata); 2] = [
    (Protocol::V1, Metadata::Drop),
    (Protocol::V2, Metadata::Forward),
];

/// Why a series is refused that the model would let through: it sees no field that a repetition hides,
/// and no reference beyond 32 bits.
const HIDDEN: &[Reason] = &[
    Reason::InvalidUtf8,
    Reason::RepeatedLabelField,
    Reason::SymbolReference,
];

/// Memory that a gate keeps from message to message.
#[derive(Default)]
pub(crate) struct Memory {
    scratch: Scratch,
    encoders: [Encoder; 2],
}

/// Checks messages that any bytes choose, one after the other in the same memory. The second comes from
/// another spoke.
pub(crate) fn check_drawn(bytes: &[u8]) {
    for_drawn(bytes, |protocol, message, settings, memory| {
        for setting in settings {
            check(protocol, message, setting, HIDDEN, memory);
        }
    });
}

/// Tells the messages that any bytes choose to `each`, with the settings to judge them in.
pub(crate) fn for_drawn(
    bytes: &[u8],
    mut each: impl FnMut(Protocol, &[u8], &[Setting], &mut Memory),
) {
    let draw = &mut Draw::new(bytes);
    let mut memory = Memory::default();
    let size = crowds::size(draw);
    let mut own = Own::draw(draw);
    let mut crowd = Crowd::draw(&own, size, draw);
    let messages = 1 + usize::from(draw.once_in(3));
    for _ in 0..messages {
        let protocol = *draw.pick(&[Protocol::V1, Protocol::V2]);
        let message = layouts::message(protocol, &own, &mut crowd, size, draw);
        let settings = settings(&own, draw);
        each(protocol, &message, &settings, &mut memory);
        let next = Own::draw(draw);
        crowd.hand_over(&own, &next);
        own = next;
    }
}

/// One policy, or all of them.
fn settings(own: &Own, draw: &mut Draw<'_>) -> Vec<Setting> {
    let labels_max = match draw.below(8) {
        0 => draw.between(1, 129),
        1 => *draw.pick(&[63, 64, 65]),
        _ => 100,
    };
    let bytes_max = match draw.below(8) {
        0 => draw.between(60, 400),
        1 => *draw.pick(&[126, 127, 128, 129, 65_535]),
        _ => 65_536,
    };
    let limits = SpokeLimits {
        series_per_request_max: 10_000,
        labels_per_series_max: labels_max,
        label_value_bytes_max: bytes_max,
        samples_ahead_max: Some(AHEAD_MAX),
        samples_age_max: match draw.below(4) {
            0 => Some(Duration::from_millis(AGE_MAX)),
            _ => None,
        },
        observed: match draw.below(4) {
            0 => OBSERVABLE.into_iter().filter(|_| draw.once_in(2)).collect(),
            _ => LimitSet::EMPTY,
        },
        ..SpokeLimits::DEFAULT
    };
    let mut settings: Vec<Setting> = policies()
        .map(|policy| Setting {
            cluster_label: own.name.clone(),
            spoke: own.value.clone(),
            policy,
            limits,
        })
        .collect();
    if !draw.once_in(12) {
        settings.swap_remove(draw.below(6));
        let one = settings.swap_remove(draw.below(5));
        settings = vec![one];
    }
    settings
}

/// Panics unless the series of a message fare as each does alone, and as the model says but for the
/// reasons in `beyond_model`.
pub(crate) fn check(
    protocol: Protocol,
    message: &[u8],
    setting: &Setting,
    beyond_model: &[Reason],
    memory: &mut Memory,
) {
    let rules = setting.rules();
    let scratch = &mut memory.scratch;
    let found = policy::inspect(protocol, message, &rules, NOW, scratch, &mut []);
    let verdict = match (found, alone(protocol, message, &rules)) {
        (Ok(verdict), Ok(alone)) => {
            check_verdict(&verdict, &alone.verdicts);
            match PlainMessage::decode(protocol, message) {
                Ok(input) => {
                    assert_eq!(verdict.received, input.counts());
                    let kept = kept(input.clone(), &alone, setting, beyond_model);
                    assert!(verdict.changed() || input == kept, "{verdict:?}");
                    check_encoded(protocol, message, &rules, &kept, &verdict, memory);
                    census::check(protocol, message, setting, &kept, &verdict);
                }
                Err(error) => panic!("prost: {error}"),
            }
            return;
        }
        (Err(_), Err(_)) => None,
        (found, alone) => Some((found, alone.map(|alone| alone.verdicts))),
    };
    assert!(verdict.is_none(), "together and alone: {verdict:?}");
    let decoded = PlainMessage::decode(protocol, message);
    let scratch = &mut memory.scratch;
    start(&mut memory.encoders, message);
    let encoders = &mut memory.encoders;
    match policy::inspect(protocol, message, &rules, NOW, scratch, encoders) {
        // The one rule of structure that is stricter than prost's.
        Err(Malformed::Group) => {}
        Err(error) => assert!(decoded.is_err(), "only {error}"),
        Ok(verdict) => panic!("only with encoders: {verdict:?}"),
    }
}

/// What is found of the entries of a message when each is alone.
struct Alone {
    verdicts: Vec<Verdict>,
    /// The numbers of those that are of series.
    series: Vec<usize>,
}

/// Inspects each field of a message as a message of its own, its bytes as they lie. Symbols are in all
/// of them.
fn alone(protocol: Protocol, message: &[u8], rules: &Rules) -> Result<Alone, Malformed> {
    let mut entries = Vec::new();
    let mut symbols = Vec::new();
    let mut reader = Reader::new(message);
    loop {
        let before = reader.rest();
        let Some((field, wire_type)) = reader.key()? else {
            break;
        };
        if (protocol, field, wire_type) == (Protocol::V2, 4, WireType::Len) {
            put_bytes(&mut symbols, field, reader.bytes()?);
            continue;
        }
        reader.skip(wire_type)?;
        let entry = &before[..before.len() - reader.rest().len()];
        let is_series =
            (protocol, field) == (Protocol::V1, 1) || (protocol, field) == (Protocol::V2, 5);
        entries.push((entry, is_series));
    }
    // A message may hold nothing but symbols.
    entries.push((&[], false));
    let mut alone = Alone {
        verdicts: Vec::new(),
        series: Vec::new(),
    };
    for (entry, is_series) in entries {
        symbols.extend_from_slice(entry);
        let (scratch, message) = (&mut Scratch::default(), symbols.as_slice());
        let verdict = policy::inspect(protocol, message, rules, NOW, scratch, &mut [])?;
        symbols.truncate(symbols.len() - entry.len());
        if is_series {
            alone.series.push(alone.verdicts.len());
        }
        alone.verdicts.push(verdict);
    }
    Ok(alone)
}

/// The verdict on the whole is the sum of those on its parts.
fn check_verdict(verdict: &Verdict, alone: &[Verdict]) {
    let mut sum = Verdict::default();
    let mut observed = Reason::ALL.map(|_| 0);
    let mut exceeded = Limit::ALL.map(|_| 0);
    for alone in alone {
        sum.received.add_all(&alone.received);
        sum.series += alone.series;
        sum.times.add_all(&alone.times);
        sum.kept_series += alone.kept_series;
        sum.orphan_series += alone.orphan_series;
        sum.custom_buckets += alone.custom_buckets;
        sum.kept_metadata += alone.kept_metadata;
        sum.metadata += alone.metadata;
        sum.foreign |= alone.foreign;
        for (observed, reason) in observed.iter_mut().zip(Reason::ALL) {
            *observed += alone.observed.series(reason);
        }
        for (exceeded, limit) in exceeded.iter_mut().zip(Limit::ALL) {
            *exceeded += alone.exceeded.of(limit);
        }
        for rejection in &alone.rejections {
            add_rejection(&mut sum.rejections, rejection);
        }
    }
    let changed = alone.iter().any(Verdict::changed);
    assert_eq!(Reason::ALL.map(|it| verdict.observed.series(it)), observed);
    assert_eq!(Limit::ALL.map(|it| verdict.exceeded.of(it)), exceeded);
    assert_eq!(verdict.rejections, sum.rejections);
    let numbers = |it: &Verdict| {
        let kept = [
            it.kept_series,
            it.orphan_series,
            it.custom_buckets,
            it.kept_metadata,
        ];
        (
            it.received,
            it.series,
            it.metadata,
            it.times,
            kept,
            it.foreign,
        )
    };
    assert_eq!(numbers(verdict), numbers(&sum));
    assert_eq!(verdict.changed(), changed);
}

fn add_rejection(all: &mut Vec<Rejection>, rejection: &Rejection) {
    match all.iter_mut().find(|it| it.reason == rejection.reason) {
        Some(known) => {
            known.series += rejection.series;
            known.single += rejection.single;
            known.counts.add_all(&rejection.counts);
        }
        None => all.push(rejection.clone()),
    }
}

/// What may travel on by the model, which agrees with what each series met alone.
fn kept(
    input: PlainMessage,
    alone: &Alone,
    setting: &Setting,
    beyond_model: &[Reason],
) -> PlainMessage {
    let mut kept = PlainMessage::default();
    let refusing = &setting.refusing();
    assert_eq!(input.series.len(), alone.series.len());
    for (series, place) in input.series.into_iter().zip(&alone.series) {
        let alone = &alone.verdicts[*place];
        let reason = alone.rejections.first().map(|it| it.reason);
        check_exceeded(alone, &series, setting);
        match (model::judge(&series, refusing), reason) {
            (_, Some(reason)) if beyond_model.contains(&reason) && !alone.keeps() => {}
            (Ok(labels), _) => {
                let (payload, faults) = faults::sift(series.payload, refusing.times());
                check_faults(alone, &faults);
                let keeps = faults.is_empty() || !faults::is_void(&payload);
                assert_eq!(alone.keeps(), keeps, "{alone:?}");
                if keeps {
                    kept.series.push(PlainSeries::new(Some(labels), payload));
                }
            }
            (Err(reasons), Some(reason)) if reasons.contains(&reason) => assert!(!alone.keeps()),
            (expected, reason) => panic!("expected {expected:?}, not {reason:?}: {series:?}"),
        }
    }
    let entries = input.metadata.into_iter();
    kept.metadata = entries
        .filter(|entry| model::keeps_metadata(entry))
        .collect();
    kept
}

/// What exceeds a limit is counted, whether the limit refuses it or not.
fn check_exceeded(verdict: &Verdict, series: &PlainSeries, setting: &Setting) {
    let reason = verdict.rejections.first().map(|it| it.reason);
    if reason.is_some_and(|reason| HIDDEN.contains(&reason)) {
        return;
    }
    let count = |limit| verdict.exceeded.of(limit);
    let labels = match model::judge(series, setting).err().as_deref() {
        Some([Reason::LabelsPerSeries]) => Some(Limit::LabelsPerSeries),
        Some([Reason::LabelLength]) => Some(Limit::LabelValueBytes),
        _ => None,
    };
    if let Some(limit) = labels {
        assert_eq!(count(limit), 1, "{limit:?}: {verdict:?}");
    }
    if model::judge(series, &setting.refusing()).is_err() {
        return;
    }
    let (_, faults) = faults::sift(series.payload.clone(), setting.times());
    let of = |reason| faults::counts(&faults, reason).total();
    assert_eq!(count(Limit::SamplesAge), of(Reason::TooOld), "{verdict:?}");
    let ahead = of(Reason::TooFarInFuture);
    assert_eq!(count(Limit::SamplesAhead), ahead, "{verdict:?}");
}

/// The samples that are refused of a single series are those with a fault.
fn check_faults(verdict: &Verdict, faults: &[(Kind, Reason)]) {
    let mut reasons: Vec<_> = faults.iter().map(|(_, reason)| *reason).collect();
    reasons.dedup();
    let refused = verdict.rejections.is_empty();
    assert_eq!(refused, reasons.is_empty(), "{faults:?}: {verdict:?}");
    for reason in reasons {
        let mut rejections = verdict.rejections.iter();
        let rejection = rejections.find(|rejection| rejection.reason == reason);
        let mut counts = rejection.expect("it is refused").counts;
        // Metadata without a fault is refused with the last sample of its series.
        if !faults.iter().any(|(kind, _)| *kind == Kind::Metadata) {
            counts.clear(Kind::Metadata);
        }
        assert_eq!(counts, faults::counts(faults, reason), "{verdict:?}");
    }
}

fn start(encoders: &mut [Encoder; 2], message: &[u8]) {
    for (encoder, (to, metadata)) in encoders.iter_mut().zip(TARGETS) {
        encoder.start(Form::new(to, metadata), message.len());
    }
}

/// What is encoded is what was kept, in the walk that judges and in one that replays.
fn check_encoded(
    from: Protocol,
    message: &[u8],
    rules: &Rules,
    kept: &PlainMessage,
    verdict: &Verdict,
    memory: &mut Memory,
) {
    let Memory { scratch, encoders } = memory;
    start(encoders, message);
    let found = policy::inspect(from, message, rules, NOW, scratch, encoders);
    assert_eq!(found.as_ref(), Ok(verdict), "an encoder changes no verdict");
    if !verdict.keeps() {
        return;
    }
    let mut first = Vec::new();
    for (encoder, (to, metadata)) in encoders.iter_mut().zip(TARGETS) {
        let encoded = encoder.finish().expect("it was inspected");
        translation::check(kept.clone(), from, to, metadata, &encoded);
        first.push([encoded.message.bytes, encoded.side.bytes].map(<[u8]>::to_vec));
    }
    start(encoders, message);
    // Each for itself: what is recorded of labels depends on what is encoded.
    for (encoder, first) in encoders.iter_mut().zip(first) {
        let alone = std::slice::from_mut(encoder);
        policy::replay(from, message, rules, scratch, alone).expect("it was inspected");
        let encoded = encoder.finish().expect("it was inspected");
        let again = [encoded.message.bytes, encoded.side.bytes];
        assert!(
            again == [&first[0][..], &first[1]],
            "a walk that replays encodes the same"
        );
    }
}
