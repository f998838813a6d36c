//! The bodies of a load: messages with series like those of Kubernetes, compressed once and changed in
//! place for each request.
//!
//! The series of a body stay the same, unless its shape has churn. A request gets new values and new
//! timestamps, which are written into the compressed bytes. No two bodies of a load share a series,
//! so a connection keeps the samples of its series in time order without knowing of the others.

use bytes::Bytes;

use super::messages::{self, Change};
use super::shape::Shape;
use super::snappy::{Compressed, Place};

/// A body that is sent again and again, each time with newer samples.
pub struct Body {
    compressed: Vec<u8>,
    plain_bytes: usize,
    samples: usize,
    /// What each request overwrites, and where.
    changes: Vec<(Change, Place)>,
    values: Vec<f64>,
    timestamp_ms: i64,
    /// The number of the next request.
    turn: u32,
}

impl Body {
    /// Makes the body whose series have the numbers from `first_series` on.
    pub fn new(shape: &Shape, first_series: usize) -> Self {
        let plain = messages::encode(shape, first_series);
        let compressed = Compressed::new(&plain.bytes, &plain.roles());
        let changes = plain.changes.iter().flat_map(|&(start, change)| {
            let places = compressed.places(start..start + change.bytes());
            places.map(move |place| (change, place))
        });
        let changes = changes.collect();
        Self {
            plain_bytes: plain.bytes.len(),
            samples: shape.samples_per_request(),
            changes,
            values: (0..plain.values).map(messages::first_value).collect(),
            compressed: compressed.bytes,
            timestamp_ms: 0,
            turn: 0,
        }
    }

    /// Takes a captured body with so many samples. It is the same in every request.
    pub fn captured(compressed: &[u8], samples: usize) -> Self {
        Self {
            compressed: compressed.to_vec(),
            plain_bytes: snap::raw::decompress_len(compressed).unwrap_or_default(),
            samples,
            changes: Vec::new(),
            values: Vec::new(),
            timestamp_ms: 0,
            turn: 0,
        }
    }

    /// Returns the body of the next request, with new values and new timestamps. The first one is
    /// `now_ms`, or one millisecond after the last timestamp if the clock has not moved on. The next
    /// samples of a series follow by the millisecond.
    pub fn next(&mut self, now_ms: i64) -> Bytes {
        let first_ms = now_ms.max(self.timestamp_ms + 1);
        self.values.iter_mut().for_each(|value| *value += 0.25);
        let turn = format!("{:06}", self.turn % 1_000_000);
        for (change, place) in &self.changes {
            match *change {
                Change::Value(number) => {
                    let value = self.values[number].to_le_bytes();
                    place.overwrite(&mut self.compressed, &value);
                }
                Change::Timestamp(number) => {
                    let timestamp_ms = first_ms + i64::from(number);
                    let value = messages::timestamp_varint(timestamp_ms);
                    place.overwrite(&mut self.compressed, &value);
                    self.timestamp_ms = self.timestamp_ms.max(timestamp_ms);
                }
                Change::Turn => place.overwrite(&mut self.compressed, turn.as_bytes()),
            }
        }
        self.turn = self.turn.wrapping_add(1);
        Bytes::copy_from_slice(&self.compressed)
    }

    /// The number of float samples and native histograms of a request.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The size of a decompressed request.
    pub fn plain_bytes(&self) -> usize {
        self.plain_bytes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use prost::Message;

    use super::*;
    use crate::load::kube;
    use crate::load::shape::{Extra, Labels, Mix};
    use crate::wire::Protocol;
    use crate::wire::proto::{v1, v2};

    const NOW_MS: i64 = 1_764_000_000_000;

    fn shape(protocol: Protocol, cluster: Option<&str>) -> Shape {
        Shape {
            protocol,
            series_per_request: 500,
            mix: Mix::Uniform { labels: 14 },
            extra: None,
            cluster: cluster.map(str::to_owned),
        }
    }

    fn decompress(body: &[u8]) -> Vec<u8> {
        let mut plain = vec![0; snap::raw::decompress_len(body).unwrap()];
        snap::raw::Decoder::new()
            .decompress(body, &mut plain)
            .unwrap();
        plain
    }

    fn decode_v1(body: &[u8]) -> v1::WriteRequest {
        v1::WriteRequest::decode(&*decompress(body)).unwrap()
    }

    #[test]
    fn v1_body_decodes_to_its_series_and_encodes_to_the_same_bytes() {
        let mut body = Body::new(&shape(Protocol::V1, Some("production")), 1_000);
        let bytes = body.next(NOW_MS);
        let request = decode_v1(&bytes);
        assert_eq!(request.encode_to_vec(), decompress(&bytes));
        assert_eq!(request.timeseries.len(), 500);
        for (number, series) in (1_000..).zip(&request.timeseries) {
            let expected = kube::series(number, 14, Some("production"));
            let labels = series
                .labels
                .iter()
                .map(|label| (label.name.clone(), label.value.clone()));
            assert_eq!(labels.collect::<Labels>(), expected);
            assert_eq!(series.samples.len(), 1);
            assert_eq!(series.samples[0].timestamp, NOW_MS);
        }
    }

    #[test]
    fn v2_body_decodes_to_its_series_and_encodes_to_the_same_bytes() {
        let mut body = Body::new(&shape(Protocol::V2, None), 0);
        let plain = decompress(&body.next(NOW_MS));
        let request = v2::Request::decode(&*plain).unwrap();
        assert_eq!(request.encode_to_vec(), plain);
        assert_eq!(request.symbols[0], "");
        let symbol = |reference: u32| request.symbols[reference as usize].clone();
        for (number, series) in (0..).zip(&request.timeseries) {
            let pairs = series.labels_refs.chunks(2);
            let labels: Labels = pairs
                .map(|pair| (symbol(pair[0]), symbol(pair[1])))
                .collect();
            assert_eq!(labels, kube::series(number, 14, None));
            assert_eq!(series.samples[0].timestamp, NOW_MS);
            assert!(series.metadata.is_some());
        }
    }

    /// In a long message, the bytes of a value look like others now and then.
    #[test]
    fn a_request_changes_nothing_but_values_and_timestamps() {
        let shape = Shape {
            series_per_request: 50_000,
            ..shape(Protocol::V2, Some("production"))
        };
        for first in [0, 50_000] {
            let expected = messages::encode(&shape, first);
            let mut body = Body::new(&shape, first);
            body.values.iter_mut().for_each(|value| *value += 30.0);
            let plain = decompress(&body.next(NOW_MS));
            let bytes = plain.iter().zip(&expected.bytes).zip(expected.roles());
            let changed = bytes.filter(|((now, before), role)| *role == 0 && now != before);
            assert_eq!(changed.count(), 0, "{first}");
        }
    }

    #[test]
    fn timestamps_increase_even_if_the_clock_does_not() {
        let mut body = Body::new(&shape(Protocol::V1, None), 0);
        let requests =
            [NOW_MS, NOW_MS, NOW_MS - 5, NOW_MS + 60_000].map(|now| decode_v1(&body.next(now)));
        let timestamps = requests
            .each_ref()
            .map(|request| request.timeseries[7].samples[0].timestamp);
        assert_eq!(
            timestamps,
            [NOW_MS, NOW_MS + 1, NOW_MS + 2, NOW_MS + 60_000]
        );
        let values = requests
            .each_ref()
            .map(|request| request.timeseries[7].samples[0].value);
        assert!(values.is_sorted() && values[0] < values[3], "{values:?}");
    }

    #[test]
    fn every_sample_of_a_request_is_newer_and_most_have_another_value() {
        for mix in [Mix::Uniform { labels: 14 }, Mix::Cluster] {
            for cluster in [None, Some("production")] {
                let shape = Shape {
                    mix,
                    series_per_request: 2_000,
                    ..shape(Protocol::V1, cluster)
                };
                let mut body = Body::new(&shape, 0);
                let mut samples = |now| {
                    let request = decode_v1(&body.next(now));
                    let samples = request.timeseries.into_iter().map(|it| it.samples[0]);
                    samples.collect::<Vec<_>>()
                };
                let (before, after) = (samples(NOW_MS), samples(NOW_MS + 987_654_321));
                let mut same = 0;
                for (before, after) in before.iter().zip(after) {
                    let timestamps = (before.timestamp, after.timestamp);
                    assert_eq!(timestamps, (NOW_MS, NOW_MS + 987_654_321));
                    assert!(after.value.is_finite(), "{after:?}");
                    same += usize::from(before.value.to_bits() == after.value.to_bits());
                }
                assert!(same < 100, "{same} of 2000 values are the same");
            }
        }
    }

    const EXTRAS: [Extra; 7] = [
        Extra::Churn,
        Extra::Exemplars,
        Extra::Histograms,
        Extra::LongLabel(1_024),
        Extra::NonAscii,
        Extra::Samples(4),
        Extra::StaleMarkers,
    ];

    fn with(extra: Extra, protocol: Protocol, mix: Mix) -> Shape {
        Shape {
            mix,
            extra: Some(extra),
            ..shape(protocol, Some("production"))
        }
    }

    #[test]
    fn bodies_with_an_extra_decode_and_encode_to_the_same_bytes() {
        for extra in EXTRAS {
            for mix in [Mix::Uniform { labels: 14 }, Mix::Cluster] {
                let mut body = Body::new(&with(extra, Protocol::V1, mix), 0);
                let plain = decompress(&body.next(NOW_MS));
                let request = v1::WriteRequest::decode(&*plain).unwrap();
                assert_eq!(request.encode_to_vec(), plain, "{extra:?}");
                let series = request.timeseries.iter();
                let samples = series.map(|series| series.samples.len() + series.histograms.len());
                assert_eq!(samples.sum::<usize>(), body.samples(), "{extra:?}");

                let mut body = Body::new(&with(extra, Protocol::V2, mix), 0);
                let plain = decompress(&body.next(NOW_MS));
                let request = v2::Request::decode(&*plain).unwrap();
                assert_eq!(request.encode_to_vec(), plain, "{extra:?}");
                let series = request.timeseries.iter();
                let samples = series.map(|series| series.samples.len() + series.histograms.len());
                assert_eq!(samples.sum::<usize>(), body.samples(), "{extra:?}");
            }
        }
    }

    #[test]
    fn a_tenth_of_the_series_has_what_an_extra_adds() {
        let count = |extra, has: fn(&v1::TimeSeries) -> bool| {
            let mut body = Body::new(&with(extra, Protocol::V1, Mix::Cluster), 0);
            let request = decode_v1(&body.next(NOW_MS));
            request.timeseries.iter().filter(|it| has(it)).count()
        };
        let histograms = count(Extra::Histograms, |series| {
            let histogram = series.histograms.first();
            histogram.is_some_and(|histogram| histogram.timestamp == NOW_MS)
        });
        let exemplars = count(Extra::Exemplars, |series| {
            let exemplar = series.exemplars.first();
            exemplar.is_some_and(|exemplar| exemplar.timestamp == NOW_MS)
        });
        let stale = count(Extra::StaleMarkers, |series| {
            series.samples[0].value.to_bits() == 0x7ff0_0000_0000_0002
        });
        assert_eq!((histograms, exemplars, stale), (50, 50, 50));
    }

    #[test]
    fn the_buckets_of_a_histogram_add_up_to_its_count() {
        let mut body = Body::new(&with(Extra::Histograms, Protocol::V1, Mix::Cluster), 0);
        let request = decode_v1(&body.next(NOW_MS));
        for histogram in request.timeseries.iter().flat_map(|it| &it.histograms) {
            let Some(v1::histogram::Count::CountInt(count)) = histogram.count else {
                panic!("{histogram:?}");
            };
            let Some(v1::histogram::ZeroCount::ZeroCountInt(zeros)) = histogram.zero_count else {
                panic!("{histogram:?}");
            };
            let mut bucket = 0;
            let buckets = histogram.positive_deltas.iter().map(|delta| {
                bucket += delta;
                u64::try_from(bucket).unwrap()
            });
            assert_eq!(zeros + buckets.sum::<u64>(), count);
            let lengths = histogram.positive_spans.iter().map(|span| span.length);
            assert_eq!(lengths.sum::<u32>(), 24);
        }
    }

    #[test]
    fn samples_of_a_series_follow_each_other() {
        let mix = Mix::Uniform { labels: 14 };
        let mut body = Body::new(&with(Extra::Samples(4), Protocol::V1, mix), 0);
        for first in [NOW_MS, NOW_MS + 4] {
            let request = decode_v1(&body.next(NOW_MS));
            for series in &request.timeseries {
                let timestamps = series.samples.iter().map(|sample| sample.timestamp);
                assert!(timestamps.eq(first..first + 4), "{:?}", series.samples);
            }
        }
    }

    #[test]
    fn churn_makes_a_tenth_of_the_pods_new_in_each_request() {
        for (mix, share) in [
            (Mix::Uniform { labels: 14 }, 0.07..0.11),
            (Mix::Cluster, 0.04..0.11),
        ] {
            for protocol in [Protocol::V1, Protocol::V2] {
                let shape = Shape {
                    series_per_request: 2_000,
                    ..with(Extra::Churn, protocol, mix)
                };
                let mut body = Body::new(&shape, 0);
                let mut series = || match protocol {
                    Protocol::V1 => v1_series(&decompress(&body.next(NOW_MS))),
                    Protocol::V2 => v2_series(&decompress(&body.next(NOW_MS))),
                };
                let (before, after) = (series(), series());
                assert_eq!((before.len(), after.len()), (2_000, 2_000));
                let new = after.difference(&before).count() as f64 / 2_000.0;
                assert!(share.contains(&new), "{protocol:?}, {mix:?}: {new}");
            }
        }
    }

    fn v1_series(plain: &[u8]) -> HashSet<Labels> {
        let request = v1::WriteRequest::decode(plain).unwrap();
        let labels = |series: v1::TimeSeries| {
            let labels = series.labels.into_iter();
            labels.map(|label| (label.name, label.value)).collect()
        };
        request.timeseries.into_iter().map(labels).collect()
    }

    fn v2_series(plain: &[u8]) -> HashSet<Labels> {
        let request = v2::Request::decode(plain).unwrap();
        let symbol = |reference: u32| request.symbols[reference as usize].clone();
        let labels = |series: &v2::TimeSeries| {
            let pairs = series.labels_refs.chunks(2);
            pairs
                .map(|pair| (symbol(pair[0]), symbol(pair[1])))
                .collect()
        };
        request.timeseries.iter().map(labels).collect()
    }

    #[test]
    fn a_captured_body_is_sent_as_it_is() {
        let captured = include_bytes!("../../tests/fixtures/cluster-v1s8.snappy");
        let mut body = Body::captured(captured, 2_000);
        assert_eq!(body.plain_bytes(), decompress(captured).len());
        assert_eq!(body.next(NOW_MS), &captured[..]);
        assert_eq!(body.next(NOW_MS), &captured[..]);
    }
}
