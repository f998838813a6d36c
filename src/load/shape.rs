//! What the bodies of a load are like.

use serde::{Deserialize, Serialize};

use super::cluster;
use super::kube;
use crate::wire::Protocol;

pub use super::kube::{LABELS_MIN, Labels};

/// What all bodies of a load have in common.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The version of the message.
    pub protocol: Protocol,
    /// The number of series.
    pub series_per_request: usize,
    /// What its series are like.
    pub mix: Mix,
    /// What they have beside that; without it, each has one float sample.
    pub extra: Option<Extra>,
    /// The value of the `cluster` label; `None` leaves the label out.
    pub cluster: Option<String>,
}

/// What the series of a load are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Each has this number of short labels, with the metric name and `cluster`; at least
    /// [`LABELS_MIN`]. Those of a pod lie together.
    Uniform {
        /// The number.
        labels: usize,
    },
    /// As the Prometheus of a cluster sends them: by family, with 9 to 18 labels and long ones among
    /// them.
    Cluster,
}

/// What some or all series of a load have that those of a mix do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extra {
    /// The pods of a tenth of the series are new in each request.
    Churn,
    /// A tenth of the series has an exemplar.
    Exemplars,
    /// A tenth of the series has a native histogram in place of a sample.
    Histograms,
    /// Each series has one more label with a value of so many bytes.
    LongLabel(usize),
    /// Each series has one more label with a value that is not ASCII.
    NonAscii,
    /// Each series has so many samples, at most [`SAMPLES_MAX`].
    Samples(usize),
    /// A tenth of the samples is stale markers.
    StaleMarkers,
}

/// Most samples of a series.
pub const SAMPLES_MAX: usize = 32;

/// Of so many series, or groups of them, one has what [`Extra`] gives to a tenth.
const SHARE: usize = 10;

/// Series that [`Extra::Churn`] takes together.
const CHURN_SERIES: usize = 200;

/// Stands for the number of the request in the labels of a body. The compressor takes no part of it for
/// another one.
pub(super) const TURN: &str = "{|}~^`";

/// The name of the label that an [`Extra`] adds.
const LABEL: &str = "note";

/// How many values that label takes in turn, as the containers of a node do in a family.
const LABEL_VALUES: usize = 20;

/// Series after which that label takes other values.
const LABEL_VALUES_SERIES: usize = 400;

impl Shape {
    /// The number of float samples and native histograms of a request.
    pub fn samples_per_request(&self) -> usize {
        match self.extra {
            Some(Extra::Samples(count)) => self.series_per_request * count.clamp(1, SAMPLES_MAX),
            _ => self.series_per_request,
        }
    }

    /// Makes the labels of series `number`.
    pub fn series(&self, number: usize) -> Labels {
        let cluster = self.cluster.as_deref();
        let mut labels = match self.mix {
            Mix::Uniform { labels } => kube::series(number, labels, cluster),
            Mix::Cluster => cluster::series(number, cluster),
        };
        let value = number / LABEL_VALUES_SERIES * LABEL_VALUES + number % LABEL_VALUES;
        match self.extra {
            Some(Extra::LongLabel(bytes)) => {
                labels.push((LABEL.to_owned(), digits(value, bytes)));
                labels.sort();
            }
            Some(Extra::NonAscii) => {
                labels.push((LABEL.to_owned(), format!("Zażółć gęślą jaźń 東京 {value}")));
                labels.sort();
            }
            Some(Extra::Churn) if (number / CHURN_SERIES).is_multiple_of(SHARE) => {
                let pod = labels.iter_mut().find(|(name, _)| name == "pod");
                if let Some((_, value)) = pod {
                    value.truncate(value.len().saturating_sub(TURN.len()));
                    value.push_str(TURN);
                }
            }
            _ => {}
        }
        labels
    }

    /// Whether series `number` is of the tenth that has something.
    pub(super) fn is_of_the_share(number: usize) -> bool {
        number.is_multiple_of(SHARE)
    }
}

/// Hexadecimal digits that repeat no part of themselves, which would compress to next to nothing.
fn digits(number: usize, count: usize) -> String {
    let mut state = number as u64;
    let mut text = String::new();
    while text.len() < count {
        state = (state ^ state >> 31)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .wrapping_add(0xBF58_476D_1CE4_E5B9);
        text.push_str(&format!("{state:016x}"));
    }
    text.truncate(count);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extra_label_is_one_more_of_every_series() {
        for mix in [Mix::Uniform { labels: 14 }, Mix::Cluster] {
            let short = Shape {
                protocol: Protocol::V1,
                series_per_request: 1,
                mix,
                extra: None,
                cluster: Some("production".to_owned()),
            };
            for extra in [Extra::LongLabel(200), Extra::NonAscii] {
                let long = Shape {
                    extra: Some(extra),
                    ..short.clone()
                };
                for number in 0..1_000 {
                    let labels = long.series(number);
                    assert!(labels.is_sorted());
                    let (own, others): (Labels, Labels) =
                        labels.into_iter().partition(|(name, _)| name == LABEL);
                    assert_eq!(own.len(), 1);
                    assert_eq!(others, short.series(number));
                    let value = &own[0].1;
                    match extra {
                        Extra::LongLabel(bytes) => assert_eq!(value.len(), bytes),
                        _ => assert!(!value.is_ascii(), "{value}"),
                    }
                }
            }
        }
    }
}
