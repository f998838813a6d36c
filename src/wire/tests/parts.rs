//! What must hold when a message that was checked before is cut and translated. The fuzz targets
//! include this file.

use super::mirror::PlainMessage;
use super::translation::{self, Items, Translation, plain};
use crate::wire::encoder::{Encoded, Encoder, Form, Lost, Metadata};
use crate::wire::transcode::{Part, Scratch, extent, transcode, units};
use crate::wire::{Kind, Protocol};

const BOTH: [Protocol; 2] = [Protocol::V1, Protocol::V2];

/// Panics unless the parts of a message are the whole, in either version.
pub(crate) fn check(protocol: Protocol, message: &[u8]) {
    let whole = PlainMessage::decode(protocol, message).expect("it was checked before");
    let mut cutter = Cutter::default();
    for to in BOTH {
        cutter.check_whole(protocol, to, message, &whole);
        cutter.check_parts(protocol, to, message, &whole);
    }
    cutter.check_units(protocol, message, &whole);
    let mut leaves = Vec::new();
    cutter.halve(protocol, message, &mut leaves);
    assert_eq!(Items::from_iter(&leaves), Items::from_iter([&whole]));
    cutter.check_round_trip(protocol, message, &whole);
}

/// Memory to cut in.
#[derive(Default)]
struct Cutter {
    scratch: Scratch,
    encoder: Encoder,
}

impl Cutter {
    fn check_whole(&mut self, from: Protocol, to: Protocol, message: &[u8], whole: &PlainMessage) {
        let encoded = self.cut(from, to, message, &[Part::WHOLE]);
        translation::check(whole.clone(), from, to, Metadata::Forward, &encoded);
    }

    /// Parts of one unit hold together what the whole would, and lose no more.
    fn check_parts(&mut self, from: Protocol, to: Protocol, message: &[u8], whole: &PlainMessage) {
        let (mut items, mut lost) = (Items::default(), Lost::default());
        let mut parts = vec![self.extent(from, message)];
        while let Some(part) = parts.pop() {
            if let Some([first, second]) = part.halves() {
                assert_eq!((first.first, first.end), (part.first, second.first));
                assert_eq!(second.end, part.end);
                parts.extend([second, first]);
                continue;
            }
            assert!(part.end - part.first <= 1, "{part:?}");
            let encoded = self.cut(from, to, message, &[part]);
            for (protocol, message) in [(to, encoded.message), (Protocol::V1, encoded.side)] {
                let samples = message.counts.of(Kind::Float) + message.counts.of(Kind::Histogram);
                assert!(samples <= 1);
                items.add(&plain(protocol, &message));
            }
            lost.add_all(&encoded.lost);
        }
        let expected = Translation::of(whole.clone(), from, to, Metadata::Forward);
        let whole = Items::from_iter([&expected.message, &expected.side]);
        assert_eq!(lost, expected.lost);
        if from == to {
            assert_eq!(items, whole);
        }
        assert_eq!(items.sorted(), whole.sorted());
    }

    /// Every second unit and the others hold together what the whole does.
    fn check_units(&mut self, protocol: Protocol, message: &[u8], whole: &PlainMessage) {
        let units = units(message, protocol, &mut self.scratch).expect("it was checked before");
        let end = units.len() as u64;
        assert_eq!(self.extent(protocol, message), Part { first: 0, end });
        for kind in [Kind::Float, Kind::Histogram] {
            let of_kind = units.iter().filter(|unit| unit.kind == kind);
            assert_eq!(of_kind.count() as u64, whole.counts().of(kind));
        }
        let mut items = Items::default();
        for first in [0, 1] {
            let picked = (first..end).step_by(2).map(|first| Part {
                first,
                end: first + 1,
            });
            let picked: Vec<_> = picked.collect();
            let encoded = self.cut(protocol, protocol, message, &picked);
            // Labels are not repeated for each unit of a series.
            assert!(protocol == Protocol::V2 || encoded.message.bytes.len() <= message.len());
            items.add(&plain(protocol, &encoded.message));
        }
        assert_eq!(items.sorted(), Items::from_iter([whole]).sorted());
    }

    /// Halves a message and then the halves, as long as there is something to halve.
    fn halve(&mut self, protocol: Protocol, message: &[u8], leaves: &mut Vec<PlainMessage>) {
        let Some(halves) = self.extent(protocol, message).halves() else {
            let leaf = PlainMessage::decode(protocol, message).expect("parts decode");
            let counts = leaf.counts();
            assert!(counts.of(Kind::Float) + counts.of(Kind::Histogram) <= 1);
            return leaves.push(leaf);
        };
        for half in halves {
            let encoded = self.cut(protocol, protocol, message, &[half]);
            assert_eq!(
                (encoded.lost, encoded.side.bytes),
                (Lost::default(), &b""[..])
            );
            plain(protocol, &encoded.message);
            let message = encoded.message.bytes.to_vec();
            assert!(!message.is_empty(), "there was something to halve");
            self.halve(protocol, &message, leaves);
        }
    }

    /// In the other version and back again, it holds what both versions can.
    fn check_round_trip(&mut self, protocol: Protocol, message: &[u8], whole: &PlainMessage) {
        let other = match protocol {
            Protocol::V1 => Protocol::V2,
            Protocol::V2 => Protocol::V1,
        };
        let there = self.cut(protocol, other, message, &[Part::WHOLE]);
        let side = plain(Protocol::V1, &there.side);
        let there = there.message.bytes.to_vec();
        let back = self.cut(other, protocol, &there, &[Part::WHOLE]);
        let messages = [
            side,
            plain(protocol, &back.message),
            plain(Protocol::V1, &back.side),
        ];
        let back = Items::from_iter(&messages);
        assert_eq!(
            back.held_by_both().sorted(),
            Items::from_iter([whole]).held_by_both().sorted()
        );
    }

    fn extent(&mut self, protocol: Protocol, message: &[u8]) -> Part {
        extent(message, protocol, &mut self.scratch).expect("it was checked before")
    }

    fn cut(&mut self, from: Protocol, to: Protocol, message: &[u8], parts: &[Part]) -> Encoded<'_> {
        let (scratch, encoder) = (&mut self.scratch, &mut self.encoder);
        transcode(
            message,
            from,
            Form::new(to, Metadata::Forward),
            parts,
            scratch,
            encoder,
        )
        .expect("it was checked before")
    }
}
