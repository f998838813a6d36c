//! Crowds: series of few lists of names, as those of a message are, and what a forger makes of them.
//!
//! The lists have fronts in common, so that a walk by templates goes from one to the other. Names,
//! values and the spoke's own label have the lengths at which that walk takes another way. The fuzz
//! targets include this file.

use std::sync::OnceLock;

use super::draw::Draw;
use super::mirror::PlainLabels;
use super::translation::fields;
use crate::wire::snappy;

type Text = Vec<u8>;

/// The spoke's own label.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Lists of labels, of which series are made.
#[derive(Debug)]
pub(crate) struct Crowd {
    lists: Vec<PlainLabels>,
    /// The list of the last series.
    last: usize,
    /// One of so many series has a fault.
    faults: usize,
}

/// The most series of a message.
const SERIES_MAX: usize = 200;

impl Own {
    pub(crate) fn draw(draw: &mut Draw<'_>) -> Self {
        if draw.once_in(3) {
            return Self::of("cluster", "production");
        }
        let lengths = [
            draw.between(1, 40),
            draw.between(1, 16),
            draw.between(1, 141),
        ];
        let name_len = *draw.pick(&lengths);
        let first = *draw.pick(&["c", "cluster", "K", "_", "zone"]);
        let name = format!("{first}{}", "luster_of_a_spoke".repeat(9));
        // Together with four bytes of framing, at the end of the window and of what is demanded whole.
        let around = [27usize, 28, 29, 123, 124, 125];
        let value_len = match draw.below(3) {
            0 => draw.pick(&around).saturating_sub(name_len).max(1),
            1 => draw.between(1, 20),
            _ if draw.once_in(2) => draw.between(1, 141),
            _ => draw.between(20, 60),
        };
        let mut value = String::new();
        while value.len() < value_len {
            value.push(char::from(*draw.pick(b"abcdefgh-xyz0189")));
        }
        if draw.once_in(40) {
            value.push('\u{e9}');
        }
        Self::of(&name[..name_len], &value)
    }

    fn of(name: &str, value: &str) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }

    fn label(&self) -> (Text, Text) {
        (
            self.name.as_bytes().to_vec(),
            self.value.as_bytes().to_vec(),
        )
    }
}

/// How many series a message has.
pub(crate) fn size(draw: &mut Draw<'_>) -> usize {
    match draw.below(32) {
        0 => draw.between(30, SERIES_MAX),
        1..8 => draw.between(12, 40),
        _ => draw.between(4, 16),
    }
}

impl Crowd {
    pub(crate) fn draw(own: &Own, size: usize, draw: &mut Draw<'_>) -> Self {
        let most = match draw.below(8) {
            // More than there are templates.
            0 => size,
            _ => (size / 2).clamp(3, 20),
        };
        let mut lists = Vec::new();
        if own.name == "cluster" && draw.once_in(3) {
            let captured = captured();
            let start = draw.below(captured.len() - most);
            lists.extend_from_slice(&captured[start..start + most]);
        } else {
            for _ in 0..draw.between(1, most + 1) {
                let list = list(own, &lists, draw);
                lists.push(list);
            }
        }
        let faults = *draw.pick(&[4, 8, 16, 40, 0]);
        Self {
            lists,
            last: 0,
            faults,
        }
    }

    /// The labels of the next series.
    pub(crate) fn series(&mut self, own: &Own, draw: &mut Draw<'_>) -> PlainLabels {
        if draw.below(5) > 2 {
            self.last = draw.below(self.lists.len());
        }
        let others = draw.below(self.lists.len());
        let other = draw.pick(&self.lists[others]).1.clone();
        let list = &mut self.lists[self.last];
        // Few values change from series to series; one in the middle may, of any number of labels.
        for _ in 0..draw.below(4) {
            let at = draw.below(list.len());
            let (name, value) = &mut list[at];
            if name != own.name.as_bytes() {
                change(value, &other, draw);
            }
        }
        let mut labels = list.clone();
        if self.faults != 0 && draw.once_in(self.faults) {
            spoil(&mut labels, own, draw);
        }
        labels
    }

    /// The last series' list goes to another spoke.
    pub(crate) fn hand_over(&mut self, from: &Own, to: &Own) {
        for list in &mut self.lists {
            for label in list.iter_mut().filter(|it| it.0 == from.name.as_bytes()) {
                *label = to.label();
            }
            list.sort();
            list.dedup_by(|one, other| one.0 == other.0);
        }
    }
}

/// Sorted labels, of which some are often those of another list.
fn list(own: &Own, lists: &[PlainLabels], draw: &mut Draw<'_>) -> PlainLabels {
    let mut labels = PlainLabels::new();
    if !lists.is_empty() && !draw.once_in(6) {
        let other = draw.pick(lists);
        let count = draw.below(other.len() + 1);
        labels.extend_from_slice(&other[..count]);
    }
    let count = match draw.below(24) {
        0 => draw.between(58, 71),
        1 => draw.between(14, 40),
        _ => draw.between(0, 9),
    };
    for _ in 0..count {
        labels.push((name(own, draw), text(draw)));
    }
    if !draw.once_in(16) {
        labels.push((b"__name__".to_vec(), text(draw)));
    }
    if !draw.once_in(4) {
        labels.retain(|(name, _)| name != own.name.as_bytes());
        labels.push(own.label());
    } else if draw.once_in(2) {
        labels.retain(|(name, _)| name != own.name.as_bytes());
    }
    labels.retain(|(name, value)| !name.is_empty() && !value.is_empty());
    if labels.is_empty() {
        labels.push((b"__name__".to_vec(), b"up".to_vec()));
    }
    // Stable, and the first of each name is kept.
    labels.sort_by(|one, other| one.0.cmp(&other.0));
    labels.dedup_by(|one, other| one.0 == other.0);
    labels
}

fn name(own: &Own, draw: &mut Draw<'_>) -> Text {
    const SHORT: [&str; 18] = [
        "instance",
        "job",
        "le",
        "namespace",
        "pod",
        "a",
        "b",
        "zone",
        "A",
        "_x",
        "container",
        "uid",
        "node",
        "z",
        "cluste",
        "clustes",
        // These are fields of any message as well.
        "x0",
        "x0x1",
    ];
    match draw.below(12) {
        0..7 => draw.pick(&SHORT).as_bytes().to_vec(),
        // Names of one length that differ at one place, within the window or beyond.
        7..10 => {
            let length = match draw.below(24) {
                0 => draw.between(98, 103),
                1 => draw.between(118, 131),
                _ => draw.between(24, 40),
            };
            let mut name = vec![b'n'; length];
            let at = match draw.below(3) {
                0 => length - 1,
                1 => length - 1 - draw.below(8),
                _ => draw.below(length),
            };
            name[at] = *draw.pick(b"mno");
            name
        }
        10 => {
            let mut name = own.name.as_bytes().to_vec();
            let at = draw.below(name.len());
            match draw.below(3) {
                0 => name.truncate(at),
                1 => name.push(b'x'),
                _ => name[at] ^= 1,
            }
            name
        }
        _ => (0..draw.between(1, 30))
            .map(|_| *draw.pick(b"abxyz_"))
            .collect(),
    }
}

/// A text of a length at which something changes.
fn text(draw: &mut Draw<'_>) -> Text {
    let length = match draw.below(16) {
        0..11 => draw.between(1, 20),
        11..14 => draw.between(15, 60),
        14 => draw.between(90, 300),
        _ if draw.once_in(40) => *draw.pick(&[16_370, 16_380, 16_390, 65_530, 65_536, 65_540]),
        _ => draw.between(56, 70),
    };
    let mut text = vec![*draw.pick(b"vwxyz"); length];
    for _ in 0..draw.below(4) {
        let at = draw.below(length);
        text[at] = *draw.pick(b"/:.0123456789");
    }
    text
}

/// Makes another value of one, mostly one that is hard to tell from it.
fn change(value: &mut Text, other: &Text, draw: &mut Draw<'_>) {
    let at = draw.below(value.len());
    match draw.below(8) {
        0..3 => value[at] = *draw.pick(b"/:.0123456789"),
        3 => value.insert(at, b'0'),
        4 if value.len() > 1 => drop(value.remove(at)),
        5 => value.clone_from(other),
        _ => *value = text(draw),
    }
}

/// Makes labels such that they may not travel on as they are.
fn spoil(labels: &mut PlainLabels, own: &Own, draw: &mut Draw<'_>) {
    let at = draw.below(labels.len());
    let own_at = labels.iter().position(|it| it.0 == own.name.as_bytes());
    match draw.below(20) {
        0..6 | 16.. => match own_at {
            Some(at) => forge(&mut labels[at].1, draw),
            None => {
                let mut label = own.label();
                forge(&mut label.1, draw);
                let place = labels.partition_point(|it| it.0 < label.0);
                labels.insert(place, label);
            }
        },
        6 => labels.retain(|it| it.0 != own.name.as_bytes()),
        7 => {
            let mut label = own.label();
            if draw.once_in(2) {
                forge(&mut label.1, draw);
            }
            labels.insert(own_at.map_or(at, |at| at + draw.below(2)), label);
        }
        8 => {
            let other = draw.below(labels.len());
            labels.swap(at, other);
        }
        9 if at > 0 => labels.swap(at, at - 1),
        10 => labels.insert(at, labels[at].clone()),
        11 => wound(&mut labels[at].0, draw),
        12 => wound(&mut labels[at].1, draw),
        13 => labels[at].1.clear(),
        14 => drop(labels.remove(at)),
        _ => {
            let label = (name(own, draw), text(draw));
            labels.insert(at, label);
        }
    }
}

/// Makes a foreign value of the spoke's name.
fn forge(value: &mut Text, draw: &mut Draw<'_>) {
    // Foreign at the end more often: what lies beyond a window is forgotten first.
    let at = match draw.below(2) {
        0 => value.len() - 1,
        _ => draw.below(value.len()),
    };
    match draw.below(6) {
        0..3 => value[at] ^= 1 << draw.below(7),
        3 => value.truncate(at),
        4 => value.push(b'x'),
        _ => *value = b"staging".to_vec(),
    }
}

/// Puts bytes into a text that are not ASCII, or changes one.
fn wound(text: &mut Text, draw: &mut Draw<'_>) {
    const WOUNDS: [&[u8]; 5] = [b"\xc3\xa9", b"\xf0\x9f\xa6\x80", b"\xff", b"\xc3", b"\x80"];
    let at = draw.below(text.len() + 1);
    let bytes = *draw.pick(&WOUNDS);
    match (draw.below(4), text.get_mut(at)) {
        (0, Some(byte)) => *byte |= 0x80,
        (1, Some(byte)) => *byte ^= 1,
        _ => drop(text.splice(at..at, bytes.iter().copied())),
    }
}

/// The bodies that real servers sent, and the message that each of them holds.
pub(crate) fn bodies() -> &'static [Vec<u8>; 4] {
    static BODIES: OnceLock<[Vec<u8>; 4]> = OnceLock::new();
    BODIES.get_or_init(|| {
        [
            &include_bytes!("../../../tests/fixtures/cluster-v1s8.snappy")[..],
            include_bytes!("../../../tests/fixtures/prometheus-3.12-v1-mixed.snappy"),
            include_bytes!("../../../tests/fixtures/prometheus-3.12-v2-mixed.snappy"),
            include_bytes!("../../../tests/fixtures/cluster-v2s8.snappy"),
        ]
        .map(|body| {
            let mut buffer = Vec::new();
            let message = snappy::decompress(body, 1 << 24, &mut buffer);
            message.expect("it is a fixture").to_vec()
        })
    })
}

/// The labels of the series that a cluster's server sent.
fn captured() -> &'static [PlainLabels] {
    static CAPTURED: OnceLock<Vec<PlainLabels>> = OnceLock::new();
    CAPTURED.get_or_init(|| {
        let text = |label, wanted| {
            let found = fields(label).find(|(field, _)| *field == wanted);
            found.map_or(Text::new(), |(_, text)| text.to_vec())
        };
        let labels = |series| {
            let labels = fields(series).filter(|(field, _)| *field == 1);
            labels
                .map(|(_, label)| (text(label, 1), text(label, 2)))
                .collect()
        };
        let series = fields(&bodies()[0]).filter(|(field, _)| *field == 1);
        series.map(|(_, series)| labels(series)).collect()
    })
}
