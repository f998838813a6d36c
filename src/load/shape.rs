//! What the bodies of a load are like.

use super::cluster;
use super::kube::{self, Labels};
use crate::wire::Protocol;

pub use super::kube::LABELS_MIN;

/// What all bodies of a load have in common.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The version of the message.
    pub protocol: Protocol,
    /// The number of series, each with one sample.
    pub series_per_request: usize,
    /// What its series are like.
    pub mix: Mix,
    /// The bytes of the value of one more label; `None` leaves the label out.
    pub long_label_bytes: Option<usize>,
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

/// The name of the label that [`Shape::long_label_bytes`] adds.
const LONG_LABEL: &str = "note";

/// How many values the long label takes in turn, as the containers of a node do in a family.
const LONG_VALUES: usize = 20;

/// Series after which the long label takes other values.
const LONG_VALUES_SERIES: usize = 400;

impl Shape {
    /// Makes the labels of series `number`.
    pub(super) fn series(&self, number: usize) -> Labels {
        let cluster = self.cluster.as_deref();
        let mut labels = match self.mix {
            Mix::Uniform { labels } => kube::series(number, labels, cluster),
            Mix::Cluster => cluster::series(number, cluster),
        };
        if let Some(bytes) = self.long_label_bytes {
            let value = (number / LONG_VALUES_SERIES, number % LONG_VALUES);
            let mut value = format!("{:08x}{:04x}", value.0, value.1).repeat(bytes.div_ceil(12));
            value.truncate(bytes);
            labels.push((LONG_LABEL.to_owned(), value));
            labels.sort();
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_label_is_one_more_of_every_series() {
        for mix in [Mix::Uniform { labels: 14 }, Mix::Cluster] {
            let short = Shape {
                protocol: Protocol::V1,
                series_per_request: 1,
                mix,
                long_label_bytes: None,
                cluster: Some("production".to_owned()),
            };
            let long = Shape {
                long_label_bytes: Some(200),
                ..short.clone()
            };
            for number in 0..1_000 {
                let labels = long.series(number);
                assert!(labels.is_sorted());
                let (own, others): (Labels, Labels) =
                    labels.into_iter().partition(|(name, _)| name == LONG_LABEL);
                assert_eq!((own.len(), own[0].1.len()), (1, 200));
                assert_eq!(others, short.series(number));
            }
        }
    }
}
