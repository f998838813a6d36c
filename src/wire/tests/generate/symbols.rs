//! V2 requests, whose strings become symbols in ways that senders choose and in ways they must not.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{
    Text, TextPairs, exemplar_labels, histogram, neighbours, number, text, timestamp, wild_text,
};
use crate::wire::proto::v2;
use crate::wire::tests::mirror::V2Request;

/// How a string becomes a symbol, and a reference perhaps a wrong one.
#[derive(Debug, Clone)]
struct Symbolizing {
    /// The first symbol is the empty string.
    zero: bool,
    /// Each use of a string takes the next: true adds a symbol even if the string has one.
    duplicates: Vec<bool>,
    /// Appended to the references of the series at an index: odd numbers, wild references.
    extra_refs: Vec<(Index, Vec<u32>)>,
    /// Symbols that nothing refers to.
    unused: Vec<Text>,
}

fn symbolizing() -> impl Strategy<Value = Symbolizing> {
    let extra = (
        any::<Index>(),
        vec(prop_oneof![0u32..30, any::<u32>()], 1..3),
    );
    let sometimes_extra = prop_oneof![4 => Just(Vec::new()), 1 => vec(extra, 1..2)];
    let duplicates = prop_oneof![Just(vec![false]), vec(any::<bool>(), 1..8)];
    let unused = prop_oneof![3 => Just(Vec::new()), 1 => vec(wild_text(), 1..3)];
    (
        prop::bool::weighted(0.8),
        duplicates,
        sometimes_extra,
        unused,
    )
        .prop_map(|(zero, duplicates, extra_refs, unused)| Symbolizing {
            zero,
            duplicates,
            extra_refs,
            unused,
        })
}

/// Builds a symbol table.
struct Symbolizer {
    symbols: Vec<Text>,
    duplicates: Vec<bool>,
    uses: usize,
}

impl Symbolizer {
    fn index(&mut self, text: Text) -> u32 {
        self.uses += 1;
        let known = self.symbols.iter().position(|symbol| *symbol == text);
        let index = match known {
            Some(index) if !self.duplicates[self.uses % self.duplicates.len()] => index,
            _ => {
                self.symbols.push(text);
                self.symbols.len() - 1
            }
        };
        u32::try_from(index).unwrap()
    }

    fn refs(&mut self, labels: TextPairs) -> Vec<u32> {
        labels
            .into_iter()
            .flat_map(|(name, value)| [self.index(name), self.index(value)])
            .collect()
    }
}

#[derive(Debug, Clone)]
struct SeriesText {
    labels: TextPairs,
    samples: Vec<v2::Sample>,
    histograms: Vec<v2::Histogram>,
    exemplars: Vec<(TextPairs, f64, i64)>,
    metadata: Option<(i32, Text, Text)>,
}

/// A series without labels.
fn series() -> impl Strategy<Value = SeriesText> {
    let start_timestamp = prop_oneof![2 => Just(0), 1 => timestamp()];
    let sample =
        (number(), timestamp(), start_timestamp).prop_map(|(value, timestamp, start_timestamp)| {
            v2::Sample {
                value,
                timestamp,
                start_timestamp,
            }
        });
    let exemplar = (exemplar_labels(), number(), timestamp());
    let metadata = prop::option::of((0..9i32, wild_text(), text()));
    (
        vec(sample, 0..3),
        vec(histogram(), 0..2),
        vec(exemplar, 0..2),
        metadata,
    )
        .prop_map(|(samples, histograms, exemplars, metadata)| SeriesText {
            labels: Vec::new(),
            samples,
            histograms,
            exemplars,
            metadata,
        })
}

pub(super) fn request() -> impl Strategy<Value = V2Request> {
    let series = neighbours::lists().prop_flat_map(|lists| {
        let count = lists.len();
        (Just(lists), vec(series(), count))
    });
    (series, symbolizing()).prop_map(|((lists, mut series), symbolizing)| {
        for (series, labels) in series.iter_mut().zip(lists) {
            series.labels = labels;
        }
        let mut symbolizer = Symbolizer {
            symbols: if symbolizing.zero {
                vec![Vec::new()]
            } else {
                Vec::new()
            },
            duplicates: symbolizing.duplicates,
            uses: 0,
        };
        let mut timeseries: Vec<_> = series
            .into_iter()
            .map(|series| symbolize(series, &mut symbolizer))
            .collect();
        symbolizer.symbols.extend(symbolizing.unused);
        for (index, refs) in symbolizing.extra_refs {
            if !timeseries.is_empty() {
                let at = index.index(timeseries.len());
                timeseries[at].labels_refs.extend(refs);
            }
        }
        V2Request {
            symbols: symbolizer.symbols,
            timeseries,
        }
    })
}

fn symbolize(series: SeriesText, symbolizer: &mut Symbolizer) -> v2::TimeSeries {
    let exemplar = |symbolizer: &mut Symbolizer, (labels, value, timestamp)| v2::Exemplar {
        labels_refs: symbolizer.refs(labels),
        value,
        timestamp,
    };
    v2::TimeSeries {
        labels_refs: symbolizer.refs(series.labels),
        samples: series.samples,
        histograms: series.histograms,
        exemplars: series
            .exemplars
            .into_iter()
            .map(|e| exemplar(symbolizer, e))
            .collect(),
        metadata: series
            .metadata
            .map(|(metric_type, help, unit)| v2::Metadata {
                r#type: metric_type,
                help_ref: symbolizer.index(help),
                unit_ref: symbolizer.index(unit),
            }),
    }
}
