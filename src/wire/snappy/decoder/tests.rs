//! The decoder against the crate `snap`, over blocks of every kind of element, damaged and cut ones.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::encoding::encode_varint;

use crate::wire::tests::{blocks, config};

/// An element of a block before it is encoded.
#[derive(Debug, Clone)]
enum Element {
    /// Bytes, and whether they are written with a length of so many bytes although fewer would do.
    Literal(Vec<u8>, usize),
    /// The kind, how far back among the bytes before it, and the length.
    Copy(u8, usize, usize),
}

/// Encodes a body. Copies reach back as far as there are bytes, and at most `reach` further.
fn body(elements: &[Element], reach: usize) -> Vec<u8> {
    let (mut block, mut done) = (Vec::new(), 0);
    for element in elements {
        done += match element {
            Element::Literal(bytes, length_bytes) => {
                push_literal(&mut block, bytes, *length_bytes);
                bytes.len()
            }
            Element::Copy(kind, back, length) => {
                let furthest = if *kind == 1 { 0x7ff } else { 0xffff };
                let offset = 1 + back % (done + reach).clamp(1, furthest);
                push_copy(&mut block, *kind, offset, *length)
            }
        };
    }
    let mut body = Vec::new();
    encode_varint(done as u64, &mut body);
    body.extend(block);
    body
}

fn push_literal(block: &mut Vec<u8>, bytes: &[u8], length_bytes: usize) {
    let last = bytes.len() - 1;
    let needed = match last {
        0..60 => 0,
        60..256 => 1,
        _ => 2,
    };
    let little_endian = last.to_le_bytes();
    match length_bytes.max(needed) {
        0 => block.push(little_endian[0] << 2),
        count => {
            block.push(u8::try_from(59 + count).unwrap() << 2);
            block.extend(&little_endian[..count]);
        }
    }
    block.extend(bytes);
}

/// Returns the length, which the kind may narrow.
fn push_copy(block: &mut Vec<u8>, kind: u8, offset: usize, length: usize) -> usize {
    let [low, high, ..] = offset.to_le_bytes();
    if kind == 1 {
        let length = 4 + length % 8;
        let tag = (high & 7) << 5 | u8::try_from(length - 4).unwrap() << 2 | 1;
        block.extend([tag, low]);
        return length;
    }
    block.push(u8::try_from(length - 1).unwrap() << 2 | kind);
    block.extend(&offset.to_le_bytes()[..if kind == 2 { 2 } else { 4 }]);
    length
}

fn element() -> impl Strategy<Value = Element> {
    let literal = (1_usize..70, any::<u8>(), 0_usize..5);
    let long = (60_usize..400, any::<u8>(), 0_usize..3);
    let back = prop_oneof![0_usize..20, 0_usize..100, 0_usize..5000];
    prop_oneof![
        3 => literal.prop_map(|(length, byte, count)| {
            Element::Literal(counted(length, byte), count.saturating_sub(2))
        }),
        1 => long.prop_map(|(length, byte, count)| Element::Literal(counted(length, byte), count)),
        8 => (1_u8..4, back, 1_usize..65)
            .prop_map(|(kind, back, length)| Element::Copy(kind, back, length)),
    ]
}

/// Bytes that count from `first` on, so that a wrong source shows.
fn counted(length: usize, first: u8) -> Vec<u8> {
    (0..length)
        .map(|at| first.wrapping_add(u8::try_from(at % 251).unwrap()))
        .collect()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn decodes_valid_blocks_as_snap_does(
        first in 1_usize..200,
        elements in vec(element(), 0..200),
    ) {
        let mut all = vec![Element::Literal(counted(first, 0), 0)];
        all.extend(elements);
        let body = body(&all, 0);
        prop_assert!(snap::raw::Decoder::new().decompress(&body, &mut vec![0; 1 << 20]).is_ok());
        blocks::check(&body);
    }

    #[test]
    fn decodes_damaged_blocks_as_snap_does(
        elements in vec(element(), 1..60),
        reach in 0_usize..3,
        damage in vec((any::<Index>(), any::<u8>()), 0..4),
        cut in any::<Index>(),
    ) {
        let mut body = body(&elements, reach);
        for (index, byte) in damage {
            let at = index.index(body.len());
            body[at] = byte;
        }
        blocks::check(&body);
        blocks::check(&body[..cut.index(body.len())]);
    }

    #[test]
    fn decodes_any_elements_as_snap_does(
        declared in 0_u64..2000,
        block in vec(any::<u8>(), 0..300),
    ) {
        let mut body = Vec::new();
        encode_varint(declared, &mut body);
        body.extend(block);
        blocks::check(&body);
    }
}

/// The last elements of a block and of a message take another way than those before.
#[test]
fn decodes_parts_of_real_messages_as_snap_does() {
    let bodies = [
        &include_bytes!("../../../../tests/fixtures/prometheus-2.42-v1-mixed.snappy")[..],
        include_bytes!("../../../../tests/fixtures/prometheus-3.12-v2-mixed.snappy"),
    ];
    for body in bodies {
        let mut message = vec![0; snap::raw::decompress_len(body).unwrap()];
        snap::raw::Decoder::new()
            .decompress(body, &mut message)
            .unwrap();
        for (at, part) in message.windows(1500).step_by(61).enumerate() {
            let part = &part[..1500 - at % 80];
            let body = snap::raw::Encoder::new().compress_vec(part).unwrap();
            blocks::check(&body);
            blocks::check(&body[..body.len() - 1]);
            blocks::check(&[&body[..], b"\x00x"].concat());
        }
    }
}

/// Near the end of a block and of a message, and far from it.
#[test]
fn decodes_every_copy_at_any_distance_from_the_end() {
    let lengths = [1, 4, 11, 16, 31, 32, 33, 63, 64];
    for (kind, length) in (1..4).flat_map(|kind| lengths.map(|length| (kind, length))) {
        for offset in [0, 1, 2, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 399, 400, 401] {
            for after in [0, 1, 2, 31, 32, 63, 64, 65, 66, 67, 200] {
                let mut block = Vec::new();
                push_literal(&mut block, &counted(400, 0), 2);
                let mut declared = 400 + push_copy(&mut block, kind, offset, length);
                if after > 0 {
                    push_literal(&mut block, &counted(after, 100), 0);
                    declared += after;
                }
                for declared in declared - 1..declared + 2 {
                    let mut body = Vec::new();
                    encode_varint(declared as u64, &mut body);
                    body.extend(&block);
                    blocks::check(&body);
                }
            }
        }
    }
}
