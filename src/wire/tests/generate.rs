//! Random requests of both versions, valid protobuf throughout, with the labels that honest,
//! careless and hostile spokes send.

mod histograms;
mod neighbours;
mod symbols;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;

use self::histograms::histogram;
use super::mirror::{V1Exemplar, V1Label, V1Metadata, V1Request, V1Series};
use super::tree;
use crate::policy::tests::invariants::NEWEST_MAX;
use crate::wire::Protocol;
use crate::wire::proto::v1;

/// The value of a stale marker, which is a NaN.
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// A request as prost writes it, or with the bytes laid out in another way that means the same.
pub(crate) fn valid(protocol: Protocol) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop_oneof![
        1 => Just(Vec::new()),
        2 => vec((tree::harmless_change(), any::<Index>()), 1..6),
    ];
    (request(protocol), changes)
        .prop_map(move |(bytes, changes)| changed(protocol, &bytes, &changes))
}

/// A request with fields inserted, repeated, removed, replaced, and then bytes flipped or cut.
pub(crate) fn mutated(protocol: Protocol) -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((tree::any_change(), any::<Index>()), 0..6);
    let damages = prop_oneof![3 => Just(Vec::new()), 2 => vec((damage(), any::<Index>()), 1..4)];
    (request(protocol), changes, damages).prop_map(move |(bytes, changes, damages)| {
        let mut bytes = changed(protocol, &bytes, &changes);
        for (damage, index) in damages {
            if !bytes.is_empty() {
                let at = index.index(bytes.len());
                damage.apply(&mut bytes, at);
            }
        }
        bytes
    })
}

/// A request as prost writes it.
pub(crate) fn request(protocol: Protocol) -> BoxedStrategy<Vec<u8>> {
    match protocol {
        Protocol::V1 => v1_request()
            .prop_map(|request| request.encode_to_vec())
            .boxed(),
        Protocol::V2 => symbols::request()
            .prop_map(|request| request.encode_to_vec())
            .boxed(),
    }
}

fn changed(protocol: Protocol, bytes: &[u8], changes: &[(tree::Change, Index)]) -> Vec<u8> {
    let mut nodes = tree::grow(protocol, bytes);
    for (change, index) in changes {
        tree::apply(&mut nodes, change, *index);
    }
    tree::write(&nodes)
}

/// A change to bytes that knows nothing of what they mean.
#[derive(Debug, Clone)]
enum Damage {
    Flip(u8),
    Truncate,
    Remove,
    Splice(Vec<u8>),
}

impl Damage {
    fn apply(self, bytes: &mut Vec<u8>, at: usize) {
        match self {
            Self::Flip(bit) => bytes[at] ^= 1 << bit,
            Self::Truncate => bytes.truncate(at),
            Self::Remove => drop(bytes.remove(at)),
            Self::Splice(more) => drop(bytes.splice(at..at, more)),
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (0u8..8).prop_map(Damage::Flip),
        1 => Just(Damage::Truncate),
        1 => Just(Damage::Remove),
        2 => vec(any::<u8>(), 1..8).prop_map(Damage::Splice),
    ]
}

type Text = Vec<u8>;

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![
        4 => prop::sample::select(vec!["", "a", "b", "production", "staging", "node-1:9100"])
            .prop_map(|text| text.into()),
        2 => "\\PC{0,6}".prop_map(String::into_bytes),
        1 => "[a-z]{120,140}".prop_map(String::into_bytes),
        1 => long_text(),
    ]
}

/// Text whose length takes two bytes or, at the edge, three.
fn long_text() -> impl Strategy<Value = Text> {
    prop_oneof![
        6 => "[a-z/]{100,300}".prop_map(String::into_bytes),
        2 => "\\PC{60,100}".prop_map(String::into_bytes),
        1 => (16_360usize..16_390).prop_map(|length| vec![b'x'; length]),
    ]
}

/// Text that once in a while is no UTF-8.
fn wild_text() -> impl Strategy<Value = Text> {
    prop_oneof![30 => text(), 1 => Just(b"\xff\xfe".to_vec()), 1 => Just(b"\xc3".to_vec())]
}

fn label_name() -> impl Strategy<Value = Text> {
    let usual = vec![
        "__name__",
        "__replica__",
        "a",
        "b",
        "cluster",
        "clusters",
        "exported_cluster",
        "exported_exported_cluster",
        "instance",
        "job",
        "zone",
        "größe",
    ];
    prop_oneof![
        12 => prop::sample::select(usual).prop_map(|name| name.into()),
        2 => text(),
    ]
}

type TextPairs = Vec<(Text, Text)>;

/// The labels of a series: mostly as a careful spoke sends them, but in part with anything.
fn labels() -> impl Strategy<Value = TextPairs> {
    let careful = (
        prop::collection::btree_map(label_name(), text(), 0..6),
        "[a-z_:]{1,8}".prop_map(String::into_bytes),
        prop_oneof![
            3 => Just(Some("production")),
            2 => Just(Some("staging")),
            1 => Just(Some("")),
            2 => Just(None),
        ],
    );
    let careful = careful.prop_map(|(mut labels, name, cluster)| {
        labels.remove("".as_bytes());
        labels.insert(b"__name__".to_vec(), name);
        match cluster {
            Some(cluster) => labels.insert(b"cluster".to_vec(), cluster.into()),
            None => labels.remove("cluster".as_bytes()),
        };
        labels.into_iter().collect::<TextPairs>()
    });
    let careful = careful.boxed();
    prop_oneof![
        4 => careful.clone(),
        3 => careful.prop_shuffle(),
        2 => vec((label_name(), wild_text()), 0..6),
    ]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        2 => any::<u64>().prop_map(f64::from_bits),
        2 => (-100i32..100).prop_map(f64::from),
        1 => Just(f64::from_bits(STALE_BITS)),
    ]
}

fn timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![
        20 => 1_700_000_000_000i64..1_800_000_000_000,
        5 => Just(0),
        3 => any::<i64>(),
        2 => NEWEST_MAX..NEWEST_MAX + 2,
    ]
}

fn exemplar_labels() -> impl Strategy<Value = TextPairs> {
    vec((label_name(), wild_text()), 0..3)
}

fn v1_labels(labels: TextPairs) -> Vec<V1Label> {
    labels
        .into_iter()
        .map(|(name, value)| V1Label { name, value })
        .collect()
}

/// The bytes of one message read as another that has the same fields.
pub(crate) fn recoded<M: Message + Default>(message: &impl Message) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

/// A series without labels.
fn v1_series() -> impl Strategy<Value = V1Series> {
    let sample =
        (number(), timestamp()).prop_map(|(value, timestamp)| v1::Sample { value, timestamp });
    let exemplar =
        (exemplar_labels(), number(), timestamp()).prop_map(|(labels, value, timestamp)| {
            V1Exemplar {
                labels: v1_labels(labels),
                value,
                timestamp,
            }
        });
    let histogram = histogram().prop_map(|histogram| recoded::<v1::Histogram>(&histogram));
    (vec(sample, 0..3), vec(exemplar, 0..2), vec(histogram, 0..2)).prop_map(
        |(samples, exemplars, histograms)| V1Series {
            labels: Vec::new(),
            samples,
            exemplars,
            histograms,
        },
    )
}

fn v1_request() -> impl Strategy<Value = V1Request> {
    let metadata = (0..9i32, text(), wild_text(), text()).prop_map(
        |(metric_type, metric_family_name, help, unit)| V1Metadata {
            metric_type,
            metric_family_name,
            help,
            unit,
        },
    );
    let series = neighbours::lists().prop_flat_map(|lists| {
        let count = lists.len();
        (Just(lists), vec(v1_series(), count))
    });
    (series, vec(metadata, 0..2)).prop_map(|((lists, mut timeseries), metadata)| {
        for (series, labels) in timeseries.iter_mut().zip(lists) {
            series.labels = v1_labels(labels);
        }
        V1Request {
            timeseries,
            metadata,
        }
    })
}
