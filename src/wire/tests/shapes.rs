//! Which series fit a template, in either version.

use prost::Message;

use crate::wire::encoder::{Form, Metadata};
use crate::wire::protobuf::{Reader, put_bytes};
use crate::wire::tests::mirror::{V1Label, V1Request, V1Series};
use crate::wire::transcode::{Part, transcode};
use crate::wire::{Clean, Demands, Label, Labels, Protocol, Series, proto, v1, v2};

const OWN: Label<'static> = Label {
    name: b"cluster",
    value: b"production",
};

const DEMANDS: Demands<'static> = Demands {
    own: OWN,
    labels_max: 100,
    length_max: 70_000,
};

type Pairs<'p> = Vec<(&'p str, String)>;

/// What the walk by templates says of each series of a message.
pub(crate) fn walk(
    protocol: Protocol,
    message: &[u8],
    demands: &Demands<'_>,
) -> Vec<Option<Clean>> {
    let mut labels = Labels::new(Labels::default(), 100);
    let mut symbols = v2::Symbols::new(v2::Symbols::default(), 100_000);
    symbols.collect(message, Some(demands)).unwrap();
    let (mut v1_shapes, mut v2_shapes) = (v1::Shapes::default(), v2::Shapes::default());
    v1_shapes.start(false);
    let mut found = Vec::new();
    let mut reader = Reader::new(message);
    while let Some((field, wire_type)) = reader.key().unwrap() {
        let wanted = match protocol {
            Protocol::V1 => 1,
            Protocol::V2 => 5,
        };
        if field != wanted {
            reader.skip(wire_type).unwrap();
            continue;
        }
        let raw = reader.bytes().unwrap();
        let end = message.len() - reader.rest().len();
        let place = end - raw.len()..end;
        let (mut series, labels) = (Series::new(raw), &mut labels);
        let read = match protocol {
            Protocol::V1 => v1_shapes.read(&mut series, message, place, demands, labels),
            Protocol::V2 => v2_shapes.read(&mut series, message, place, &symbols, demands, labels),
        };
        found.push(series.clean.filter(|_| read));
    }
    found
}

/// A message of series of these labels, and some foreign bytes behind them.
fn message(protocol: Protocol, series: &[Pairs<'_>]) -> Vec<u8> {
    let sample = proto::v1::Sample {
        value: 1.0,
        timestamp: 1_700_000_000_000,
    };
    let label = |(name, value): &(&str, String)| V1Label {
        name: (*name).into(),
        value: value.clone().into(),
    };
    let series = series.iter().map(|labels| V1Series {
        labels: labels.iter().map(label).collect(),
        samples: vec![sample],
        ..V1Series::default()
    });
    let v1 = V1Request {
        timeseries: series.collect(),
        metadata: Vec::new(),
    };
    let mut message = v1.encode_to_vec();
    if protocol == Protocol::V2 {
        let (mut scratch, mut encoder) = Default::default();
        let encoded = transcode(
            &message,
            Protocol::V1,
            Form::new(protocol, Metadata::Drop),
            &[Part::WHOLE],
            &mut scratch,
            &mut encoder,
        );
        message = encoded.unwrap().message.bytes.to_vec();
    }
    // Windows reach beyond the labels.
    put_bytes(&mut message, 15, &[0; 64]);
    message
}

fn pairs<'p>(labels: &[(&'p str, &str)]) -> Pairs<'p> {
    let pair = |(name, value): &(&'p str, &str)| (*name, (*value).to_owned());
    labels.iter().map(pair).collect()
}

fn check(series: &[Pairs<'_>], expected: &[Option<Clean>]) {
    for protocol in [Protocol::V1, Protocol::V2] {
        let message = message(protocol, series);
        let found = walk(protocol, &message, &DEMANDS);
        assert_eq!(found, expected, "{protocol:?} {series:?}");
    }
}

#[test]
fn series_of_known_names_are_clean() {
    let up = |instance: &str| {
        pairs(&[
            ("__name__", "up"),
            ("cluster", "production"),
            ("instance", instance),
        ])
    };
    let own = Some(Clean::Own);
    check(&[up("a"), up("b"), up("a longer one")], &[None, own, own]);
}

#[test]
fn series_that_alternate_between_names_go_on_in_another_template() {
    let series = |rest: &[(&'static str, &str)]| {
        let front = [("__name__", "x"), ("cluster", "production"), ("job", "y")];
        pairs(&[&front, rest].concat())
    };
    let own = Some(Clean::Own);
    let lists = [
        series(&[]),
        series(&[("le", "1"), ("pod", "a")]),
        series(&[("pod", "a")]),
        series(&[("pod", "a"), ("uid", "b")]),
    ];
    let mut all = lists.to_vec();
    let mut expected = vec![None; 4];
    for at in [2, 0, 3, 1, 1, 3, 0, 2] {
        all.push(lists[at].clone());
        expected.push(own);
    }
    check(&all, &expected);
}

#[test]
fn the_place_of_an_absent_label_is_known() {
    for (labels, place) in [
        (vec![("__name__", "x")], 1),
        (vec![("A", "x"), ("__name__", "x"), ("a", "x")], 3),
        (vec![("__name__", "x"), ("d", "x"), ("e", "x")], 1),
        (vec![("__name__", "x"), ("a", "x"), ("z", "x")], 2),
    ] {
        let without = Some(Clean::Without(place));
        check(&[pairs(&labels), pairs(&labels)], &[None, without]);
    }
}

#[test]
fn labels_of_any_length_fit() {
    let lengths = [1, 64, 1000].into_iter();
    for length in lengths.chain(100..140).chain(16_200..16_390) {
        let series = |id: &str, zone: &str| {
            vec![
                ("__name__", "up".to_owned()),
                ("cluster", "production".to_owned()),
                ("id", id.repeat(length)),
                ("zone", zone.to_owned()),
            ]
        };
        let all = [series("x", "a"), series("y", "b"), series("z", "")];
        // In V1 the length of a label takes two bytes at most.
        let fits = |protocol| protocol == Protocol::V2 || length + 7 <= 16_383;
        for protocol in [Protocol::V1, Protocol::V2] {
            let message = message(protocol, &all);
            let own = fits(protocol).then_some(Clean::Own);
            let found = walk(protocol, &message, &DEMANDS);
            assert_eq!(found, [None, own, None], "{protocol:?} {length}");
        }
    }
}

#[test]
fn names_of_any_length_fit_up_to_a_limit() {
    for length in 1..140 {
        let name = "n".repeat(length);
        let series = |value: &str| {
            pairs(&[
                ("__name__", "up"),
                ("cluster", "production"),
                (name.as_str(), value),
            ])
        };
        let other = "m".repeat(length);
        let other = pairs(&[
            ("__name__", "up"),
            ("cluster", "production"),
            (other.as_str(), "a"),
        ]);
        let own = (length <= 100).then_some(Clean::Own);
        check(
            &[series("a"), series("b"), series(&"b".repeat(300)), other],
            &[None, own, own, None],
        );
    }
}

#[test]
fn only_the_own_value_is_clean() {
    let series = |cluster: &str| {
        pairs(&[
            ("__name__", "up"),
            ("cluster", cluster),
            ("pod", "production"),
        ])
    };
    let own = Some(Clean::Own);
    let all = [
        "production",
        "production",
        "productioN",
        "roduction",
        "productions",
        "staging",
        "",
        "production",
    ];
    let expected = [None, own, None, None, None, None, None, own];
    check(&all.map(series), &expected);
}

#[test]
fn own_labels_of_any_length_are_demanded_whole() {
    for length in 1..130 {
        let value = "v".repeat(length);
        let demands = Demands {
            own: Label {
                name: b"cluster",
                value: value.as_bytes(),
            },
            ..DEMANDS
        };
        let series = |value: &str| pairs(&[("__name__", "up"), ("cluster", value)]);
        for changed in 0..length {
            let mut foreign = value.clone();
            foreign.replace_range(changed..=changed, "w");
            let all = [series(&value), series(&value), series(&foreign)];
            for protocol in [Protocol::V1, Protocol::V2] {
                let message = message(protocol, &all);
                let found = walk(protocol, &message, &demands);
                // In V1 the length of the whole label takes one byte.
                let fits = protocol == Protocol::V2 || length + 11 < 128;
                let own = fits.then_some(Clean::Own);
                assert_eq!(found, [None, own, None], "{protocol:?} {length} {changed}");
            }
        }
    }
}

/// A list of names of its own for each number.
fn numbered(number: usize) -> Pairs<'static> {
    let mut labels = pairs(&[("__name__", "x"), ("cluster", "production")]);
    labels.push(("job", "a".to_owned()));
    const NAMES: [&str; 8] = ["n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7"];
    let bits = NAMES.iter().enumerate();
    let set = bits.filter(|(bit, _)| number >> bit & 1 == 1);
    labels.extend(set.map(|(_, name)| (*name, "b".to_owned())));
    labels
}

#[test]
fn so_many_lists_of_names_are_learnt_and_no_more() {
    let lists: Vec<_> = (0..100).map(numbered).collect();
    let all = [lists.clone(), lists].concat();
    let mut expected = vec![None; 100];
    expected.extend((0..100).map(|number| (number < 64).then_some(Clean::Own)));
    check(&all, &expected);
}

#[test]
fn series_with_more_labels_than_a_template_are_not_clean() {
    for count in [62, 63] {
        let names: Vec<String> = (0..count).map(|n| format!("n{n:02}")).collect();
        let mut labels = pairs(&[("__name__", "x"), ("cluster", "production")]);
        labels.extend(names.iter().map(|name| (name.as_str(), "a".to_owned())));
        let own = (count + 2 <= 64).then_some(Clean::Own);
        check(&[labels.clone(), labels], &[None, own]);
    }
}

/// A message of series that are not clean would cost their second reading for nothing.
#[test]
fn learning_is_given_up_where_nothing_can_be_learnt() {
    let unsorted = pairs(&[("cluster", "production"), ("__name__", "x")]);
    let clean = pairs(&[("__name__", "x"), ("cluster", "production")]);
    for (failures, learns) in [(63, true), (64, false)] {
        let mut all = vec![unsorted.clone(); failures];
        all.extend([clean.clone(), clean.clone()]);
        let mut expected = vec![None; failures + 1];
        expected.push(learns.then_some(Clean::Own));
        check(&all, &expected);
    }
}

#[test]
fn labels_beyond_ascii_are_clean() {
    let series = |value: &str| {
        pairs(&[
            ("__name__", "up"),
            ("cluster", "production"),
            ("\u{f6}rtlich", value),
        ])
    };
    let long = "\u{e9}".repeat(100);
    let own = Some(Clean::Own);
    check(
        &[series("\u{e9}"), series("a"), series(&long)],
        &[None, own, own],
    );
}

/// What is no UTF-8 may become some with the bytes around it, but none that an encoder writes are.
#[test]
fn labels_that_are_not_utf8_are_not_clean() {
    let series = |value: &str, last: &str| {
        pairs(&[
            ("__name__", "up"),
            ("cluster", "production"),
            ("pod", value),
            ("z", last),
        ])
    };
    let own = Some(Clean::Own);
    let (short, long) = ("#".repeat(4), "#".repeat(200));
    for value in [&short, &long] {
        for last in [&short, &long] {
            let all = [series("a", "b"), series(value, last), series("a", "b")];
            let clean = message(Protocol::V1, &all);
            let mut ends =
                (1..clean.len()).filter(|end| clean[end - 1] == b'#' && clean[*end] != b'#');
            for text in [value, last] {
                let end = ends.next().unwrap();
                let place = end - text.len()..end;
                for (at, text, expected) in [
                    (place.start, &b"\xc3\xa9"[..], own),
                    (place.start, b"\xa9", None),
                    (place.start + 1, b"\xff", None),
                    (place.end - 1, b"\xc3", None),
                    (place.end - 2, b"\xe2\x82", None),
                    (place.end - 2, b"\xc3\xa9", own),
                ] {
                    let mut message = clean.clone();
                    message[at..at + text.len()].copy_from_slice(text);
                    let found = walk(Protocol::V1, &message, &DEMANDS);
                    assert_eq!(found, [None, expected, own], "{text:02x?} at {at}");
                }
            }
        }
    }
}

/// A message of such series would cost the search for nothing.
#[test]
fn searching_is_given_up_where_nothing_is_found() {
    let unsorted = pairs(&[("cluster", "production"), ("__name__", "x")]);
    let clean = pairs(&[("__name__", "x"), ("cluster", "production")]);
    for (misses, searches) in [(256, true), (257, false)] {
        // The first one is missed as well, and the second one found.
        let mut all = vec![clean.clone(), clean.clone()];
        all.extend(vec![unsorted.clone(); misses]);
        all.push(clean.clone());
        let own = Some(Clean::Own);
        let mut expected = vec![None, own];
        expected.extend(vec![None; misses]);
        expected.push(own.filter(|_| searches));
        check(&all, &expected);
        // The same with series that fit and are no UTF-8. Those of V2 have no strings of their own.
        let mark = "####";
        let text = pairs(&[("__name__", mark), ("cluster", "production")]);
        all[2..misses + 2].fill(text);
        let mut message = message(Protocol::V1, &all);
        let find = |message: &[u8]| message.windows(4).position(|it| it == mark.as_bytes());
        while let Some(at) = find(&message) {
            message[at] = 0xff;
        }
        assert_eq!(walk(Protocol::V1, &message, &DEMANDS), expected);
    }
}

/// The second series ends with its labels, and what lies behind it looks like one more of the first.
#[test]
fn labels_beyond_a_series_are_none_of_its() {
    let long = pairs(&[("__name__", "m"), ("b\u{1}x", "\u{10}\u{5}"), ("z", "1")]);
    let short = pairs(&[("__name__", "m"), ("b\u{1}x", "\u{10}\u{5}")]);
    let series = |labels: &Pairs<'static>| message(Protocol::V1, std::slice::from_ref(labels));
    let first = series(&long);
    let first = &first[..first.len() - 66];
    let named = b"\x0a\x0f\x0a\x0d\x0a\x08__name__\x12\x01m".as_slice();
    let odd = b"\x0a\x09\x0a\x03b\x01x\x12\x02\x10\x05".as_slice();
    let message = [first, named, odd, &series(&short), &series(&short)].concat();
    let found = walk(Protocol::V1, &message, &DEMANDS);
    let without = |place| Some(Clean::Without(place));
    assert_eq!(found, [None, None, None, None, without(2)]);
}
