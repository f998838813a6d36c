//! Lists of labels that follow from each other, as those of neighbouring series do.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{Text, TextPairs, label_name, labels, wild_text};

/// How the labels of a series come from those of the one before.
#[derive(Debug, Clone)]
enum Step {
    /// They do not.
    Afresh,
    /// By changes, and then sorted or not.
    Follow { changes: Vec<Change>, sorted: bool },
}

#[derive(Debug, Clone)]
enum Change {
    Value(Index, Text),
    /// Like `Value`, near the last place that can be told apart.
    FarValue(usize, Text),
    Insert(Index, Text, Text),
    Remove(Index),
    Rename(Index, Text),
    Swap(Index, Index),
    /// A name stands twice.
    Duplicate(Index),
    /// The cluster label is absent or has this value.
    Cluster(Option<&'static str>),
    /// So many more labels, all before or all behind the others.
    Widen(usize, bool),
}

impl Change {
    fn apply(self, labels: &mut TextPairs) {
        let places = labels.len();
        if places == 0 {
            return;
        }
        match self {
            Self::Value(at, value) => labels[at.index(places)].1 = value,
            Self::FarValue(at, value) => labels[at.min(places - 1)].1 = value,
            Self::Insert(at, name, value) => labels.insert(at.index(places), (name, value)),
            Self::Remove(at) => drop(labels.remove(at.index(places))),
            Self::Rename(at, name) => labels[at.index(places)].0 = name,
            Self::Swap(one, other) => labels.swap(one.index(places), other.index(places)),
            Self::Duplicate(at) => labels.push(labels[at.index(places)].clone()),
            Self::Cluster(cluster) => {
                labels.retain(|(name, _)| name != b"cluster");
                labels.extend(cluster.map(|value| (b"cluster".to_vec(), value.into())));
            }
            Self::Widen(count, before) => {
                let stem = if before { "A" } else { "x" };
                let label = |n| (format!("{stem}{n:03}").into(), b"wide".to_vec());
                labels.extend((0..count).map(label));
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let cluster = prop::sample::select(vec![Some("production"), Some("staging"), Some(""), None]);
    // Around what a `Change` tells apart, and around the limit of the tests.
    let width = prop_oneof![58usize..70, 92usize..104];
    let index = any::<Index>;
    prop_oneof![
        8 => (index(), wild_text()).prop_map(|(at, value)| Change::Value(at, value)),
        2 => (60usize..68, wild_text()).prop_map(|(at, value)| Change::FarValue(at, value)),
        3 => (index(), label_name(), wild_text())
            .prop_map(|(at, name, value)| Change::Insert(at, name, value)),
        3 => index().prop_map(Change::Remove),
        3 => (index(), label_name()).prop_map(|(at, name)| Change::Rename(at, name)),
        1 => (index(), index()).prop_map(|(one, other)| Change::Swap(one, other)),
        1 => index().prop_map(Change::Duplicate),
        3 => cluster.prop_map(Change::Cluster),
        2 => (width, any::<bool>()).prop_map(|(count, before)| Change::Widen(count, before)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let changes = prop_oneof![1 => vec(change(), 0..1), 3 => vec(change(), 1..3)];
    prop_oneof![
        1 => Just(Step::Afresh),
        3 => (changes, prop::bool::weighted(0.9))
            .prop_map(|(changes, sorted)| Step::Follow { changes, sorted }),
    ]
}

/// The labels of up to eight neighbouring series.
pub(super) fn lists() -> impl Strategy<Value = Vec<TextPairs>> {
    vec((labels(), step()), 0..8).prop_map(|steps| {
        let mut lists: Vec<TextPairs> = Vec::new();
        for (own, step) in steps {
            let list = match (lists.last(), step) {
                (None, _) | (_, Step::Afresh) => own,
                (Some(before), Step::Follow { changes, sorted }) => {
                    let mut list = before.clone();
                    changes
                        .into_iter()
                        .for_each(|change| change.apply(&mut list));
                    if sorted {
                        list.sort_by(|one, other| one.0.cmp(&other.0));
                    }
                    list
                }
            };
            lists.push(list);
        }
        lists
    })
}
