//! Which samples of a series may travel on, said a second time, slowly and in other words.
//!
//! The fuzz targets include this file.

use std::ops::RangeInclusive;

use super::mirror::{Payload, PlainExemplar, PlainHistogram, PlainMetadata};
use crate::reasons::Reason;
use crate::wire::{Counts, Kind};

/// What may travel on of what a series carries, and for what the rest is refused: one entry a
/// sample, histogram, exemplar or metadata.
pub(crate) fn sift(
    mut payload: Payload,
    times: RangeInclusive<i64>,
) -> (Payload, Vec<(Kind, Reason)>) {
    let mut refused = Vec::new();
    let mut keeps = |kind, timestamp: i64, fault: Option<Reason>| {
        let reason = if timestamp > *times.end() {
            Reason::TooFarInFuture
        } else if timestamp < *times.start() {
            Reason::TooOld
        } else if let Some(fault) = fault {
            fault
        } else {
            return true;
        };
        refused.push((kind, reason));
        false
    };
    payload
        .samples
        .retain(|sample| keeps(Kind::Float, sample.timestamp, None));
    payload.histograms.retain(|it| {
        let fault = is_faulty(it).then_some(Reason::InvalidHistogram);
        keeps(Kind::Histogram, it.timestamp, fault)
    });
    payload
        .exemplars
        .retain(|exemplar| keeps(Kind::Exemplar, exemplar.2, exemplar_fault(exemplar)));
    if let Some(fault) = payload.metadata.as_ref().and_then(metadata_fault) {
        refused.push((Kind::Metadata, fault));
        payload.metadata = None;
    }
    if !refused.is_empty() && is_void(&payload) {
        payload.metadata = None;
    }
    (payload, refused)
}

/// True when neither a sample nor an exemplar is there.
pub(crate) fn is_void(payload: &Payload) -> bool {
    let Payload {
        samples,
        histograms,
        exemplars,
        ..
    } = payload;
    samples.is_empty() && histograms.is_empty() && exemplars.is_empty()
}

/// How many were refused for a reason.
pub(crate) fn counts(refused: &[(Kind, Reason)], reason: Reason) -> Counts {
    let mut counts = Counts::default();
    let of_reason = refused.iter().filter(|(_, given)| *given == reason);
    of_reason.for_each(|(kind, _)| counts.add(*kind, 1));
    counts
}

/// Why an exemplar's labels may not travel on.
fn exemplar_fault((labels, ..): &PlainExemplar) -> Option<Reason> {
    let Some(labels) = labels else {
        return Some(Reason::SymbolReference);
    };
    let texts: Vec<&Vec<u8>> = labels.iter().flat_map(|it| [&it.0, &it.1]).collect();
    let length: usize = texts.iter().map(|text| text.len()).sum();
    let utf8 = texts.iter().all(|text| str::from_utf8(text).is_ok());
    match utf8 {
        false => Some(Reason::InvalidUtf8),
        true if length > 4096 => Some(Reason::LabelLength),
        true => None,
    }
}

/// Why metadata may not travel on.
fn metadata_fault((_, strings): &PlainMetadata) -> Option<Reason> {
    let Some(strings) = strings else {
        return Some(Reason::SymbolReference);
    };
    let utf8 = strings.iter().all(|text| str::from_utf8(text).is_ok());
    (!utf8).then_some(Reason::InvalidUtf8)
}

/// True for a histogram that no hub stores right.
fn is_faulty(histogram: &PlainHistogram) -> bool {
    let custom = histogram.schema == -53;
    !custom && !(-4..=8).contains(&histogram.schema)
        || spans_fault(histogram, custom)
        || counts_fault(histogram)
        || bounds_fault(histogram, custom)
}

fn is_float(histogram: &PlainHistogram) -> bool {
    matches!(histogram.counts[0], Some((true, _)))
}

/// The buckets of each side in the form of the count, and those in the other.
fn buckets(histogram: &PlainHistogram, side: usize) -> (usize, usize) {
    let (deltas, floats) = (
        histogram.deltas[side].len(),
        histogram.doubles[side + 1].len(),
    );
    if is_float(histogram) {
        (floats, deltas)
    } else {
        (deltas, floats)
    }
}

fn spans_fault(histogram: &PlainHistogram, custom: bool) -> bool {
    [0, 1].into_iter().any(|side| {
        let spans = &histogram.spans[side];
        let lengths: u64 = spans.iter().map(|span| u64::from(span.1)).sum();
        let mut end = 0i128;
        let mut beyond = false;
        let mut below = false;
        for (place, (offset, length)) in spans.iter().enumerate() {
            below |= *offset < 0 && (place > 0 || custom);
            let first = end + i128::from(*offset);
            end = first + i128::from(*length);
            let indexes = i128::from(i32::MIN) + 1..=i128::from(i32::MAX);
            let outside = !indexes.contains(&first) || !indexes.contains(&(end - 1));
            beyond |= *length > 0 && outside;
        }
        below || beyond || lengths != buckets(histogram, side).0 as u64
    })
}

fn counts_fault(histogram: &PlainHistogram) -> bool {
    let [count, zero_count] = histogram.counts;
    let float = is_float(histogram);
    let other_zero = zero_count.is_some_and(|(is_float, bits)| {
        let zero = match is_float {
            true => f64::from_bits(bits) == 0.0,
            false => bits == 0,
        };
        is_float != float && !zero
    });
    if other_zero || [0, 1].map(|side| buckets(histogram, side).1) != [0, 0] {
        return true;
    }
    if float {
        let mut floats = histogram.doubles[1..3].iter().flatten();
        return floats.any(|bits| f64::from_bits(*bits) < 0.0);
    }
    let integer = |count: Option<(bool, u64)>| count.map_or(0, |(_, bits)| i128::from(bits));
    let mut observed = match zero_count {
        Some((false, _)) => integer(zero_count),
        _ => 0,
    };
    for deltas in &histogram.deltas {
        let mut bucket = 0;
        for delta in deltas {
            bucket += i128::from(*delta);
            if !(0..=i128::from(i64::MAX)).contains(&bucket) {
                return true;
            }
            observed += bucket;
        }
    }
    match f64::from_bits(histogram.doubles[0][0]).is_nan() {
        true => observed > integer(count),
        false => observed != integer(count),
    }
}

fn bounds_fault(histogram: &PlainHistogram, custom: bool) -> bool {
    let float = |bits: &u64| f64::from_bits(*bits);
    let threshold = float(&histogram.doubles[0][1]);
    let bounds: Vec<f64> = histogram.doubles[3].iter().map(float).collect();
    if !custom {
        return !bounds.is_empty() || threshold.is_nan() || threshold < 0.0;
    }
    let zero = histogram.counts[1].is_none_or(|(is_float, bits)| match is_float {
        true => float(&bits) == 0.0,
        false => bits == 0,
    });
    let sorted = bounds.is_sorted_by(|a, b| a < b);
    let finite = !bounds.iter().any(|it| it.is_nan() || *it == f64::INFINITY);
    let span = |(offset, length): &(i32, u32)| i128::from(*offset) + i128::from(*length);
    let reach: i128 = histogram.spans[1].iter().map(span).sum();
    let enough = reach <= bounds.len() as i128 + 1;
    let one_sided = histogram.spans[0].is_empty();
    !(zero && threshold == 0.0 && one_sided && sorted && finite && enough)
}
