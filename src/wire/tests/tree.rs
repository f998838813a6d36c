//! A message as a tree of fields, to be written back in ways that no encoder would choose.
//!
//! Grown from bytes that prost wrote, so reading may panic; what it writes may be anything.

use proptest::prelude::*;
use proptest::sample::Index;

use crate::wire::Protocol;
use crate::wire::protobuf::{put_varint, varint_len};

/// A field and its value.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) field: u32,
    pub(crate) value: Value,
    /// Bytes by which the key's varint is longer than need be, and the length's.
    pub(crate) padding: [usize; 2],
}

/// The value of a field by its wire type.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(Vec<u8>),
    Message(Vec<Node>),
    Packed(Vec<u64>),
    Fixed32([u8; 4]),
    Group(Vec<Node>),
}

/// Which message the fields of a tree belong to.
#[derive(Debug, Clone, Copy)]
enum Schema {
    V1Request,
    V1Series,
    V1Exemplar,
    V2Request,
    V2Series,
    V2Exemplar,
    Histogram,
    Leaf,
}

impl Schema {
    /// The message that a field holds, if it holds one.
    fn of(self, field: u32) -> Option<Self> {
        match (self, field) {
            (Self::V1Request, 1) => Some(Self::V1Series),
            (Self::V1Series, 3) => Some(Self::V1Exemplar),
            (Self::V1Series, 4) | (Self::V2Series, 3) => Some(Self::Histogram),
            (Self::V2Request, 5) => Some(Self::V2Series),
            (Self::V2Series, 4) => Some(Self::V2Exemplar),
            (Self::V1Request, 3)
            | (Self::V1Series, 1 | 2)
            | (Self::V1Exemplar, 1)
            | (Self::V2Series, 2 | 5)
            | (Self::Histogram, 8 | 11) => Some(Self::Leaf),
            _ => None,
        }
    }

    /// True for repeated varints.
    fn packs(self, field: u32) -> bool {
        matches!(
            (self, field),
            (Self::V2Series | Self::V2Exemplar, 1) | (Self::Histogram, 9 | 12)
        )
    }
}

/// Reads a message that prost wrote.
pub(crate) fn grow(protocol: Protocol, bytes: &[u8]) -> Vec<Node> {
    let schema = match protocol {
        Protocol::V1 => Schema::V1Request,
        Protocol::V2 => Schema::V2Request,
    };
    nodes(schema, bytes)
}

fn nodes(schema: Schema, mut bytes: &[u8]) -> Vec<Node> {
    let mut nodes = Vec::new();
    while !bytes.is_empty() {
        let (tag, wire_type) = prost::encoding::decode_key(&mut bytes).unwrap();
        let mut varint = || prost::encoding::decode_varint(&mut bytes).unwrap();
        let value = match wire_type {
            prost::encoding::WireType::Varint => Value::Varint(varint()),
            prost::encoding::WireType::SixtyFourBit => {
                Value::Fixed64(*bytes.split_off(..8).unwrap().first_chunk().unwrap())
            }
            prost::encoding::WireType::LengthDelimited => {
                let length = usize::try_from(varint()).unwrap();
                let inner = bytes.split_off(..length).unwrap();
                match schema.of(tag) {
                    Some(schema) => Value::Message(self::nodes(schema, inner)),
                    None if schema.packs(tag) => Value::Packed(unpacked(inner)),
                    None => Value::Bytes(inner.to_vec()),
                }
            }
            other => panic!("prost writes no {other:?} for these messages"),
        };
        nodes.push(Node {
            field: tag,
            value,
            padding: [0; 2],
        });
    }
    nodes
}

fn unpacked(mut bytes: &[u8]) -> Vec<u64> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        values.push(prost::encoding::decode_varint(&mut bytes).unwrap());
    }
    values
}

/// Writes a tree.
pub(crate) fn write(nodes: &[Node]) -> Vec<u8> {
    let mut out = Vec::new();
    for node in nodes {
        let key = |wire_type| u64::from(node.field) << 3 | wire_type;
        let [key_padding, length_padding] = node.padding;
        let mut delimited = |wire_type, bytes: &[u8]| {
            put_padded(&mut out, key(wire_type), key_padding);
            put_padded(&mut out, bytes.len() as u64, length_padding);
            out.extend_from_slice(bytes);
        };
        match &node.value {
            Value::Bytes(bytes) => delimited(2, bytes),
            Value::Message(nodes) => delimited(2, &write(nodes)),
            Value::Packed(values) => {
                let mut packed = Vec::new();
                values
                    .iter()
                    .for_each(|value| put_varint(&mut packed, *value));
                delimited(2, &packed);
            }
            Value::Varint(value) => {
                put_padded(&mut out, key(0), key_padding);
                put_padded(&mut out, *value, length_padding);
            }
            Value::Fixed64(bytes) => {
                put_padded(&mut out, key(1), key_padding);
                out.extend_from_slice(bytes);
            }
            Value::Fixed32(bytes) => {
                put_padded(&mut out, key(5), key_padding);
                out.extend_from_slice(bytes);
            }
            Value::Group(nodes) => {
                put_padded(&mut out, key(3), key_padding);
                out.extend(write(nodes));
                put_padded(&mut out, key(4), 0);
            }
        }
    }
    out
}

/// Writes a varint that is `padding` bytes longer than need be, where ten bytes allow it.
fn put_padded(out: &mut Vec<u8>, value: u64, padding: usize) {
    let padding = padding.min(10 - varint_len(value));
    put_varint(out, value);
    if padding > 0 {
        *out.last_mut().unwrap() |= 0x80;
        out.extend(std::iter::repeat_n(0x80, padding - 1));
        out.push(0);
    }
}

/// A change to a tree, at a place of it.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Inserts a field; `Before` and after say where among its neighbours.
    Insert(Node),
    /// Writes a field twice.
    Repeat,
    /// Makes varints longer than need be.
    Pad([usize; 2]),
    /// Moves a field to the end of its message.
    MoveLast,
    /// Writes packed varints one by one, or as several packed fields.
    Unpack { chunk: usize },
    /// Removes a field.
    Remove,
    /// Gives a field another value, of another wire type perhaps.
    Replace(Value),
    /// Puts a field's value into a field of another number.
    Renumber(u32),
}

/// Changes that a decoder must not notice.
pub(crate) fn harmless_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        [0usize..9, 0usize..9].prop_map(Change::Pad),
        Just(Change::MoveLast),
        (1usize..4).prop_map(|chunk| Change::Unpack { chunk }),
    ]
}

/// Changes of every sort.
pub(crate) fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => harmless_change(),
        3 => node().prop_map(Change::Insert),
        2 => Just(Change::Repeat),
        1 => Just(Change::Remove),
        1 => value().prop_map(Change::Replace),
        1 => (1u32..20).prop_map(Change::Renumber),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let field = prop_oneof![4 => 1u32..8, 2 => 8u32..20, 1 => 1u32..1 << 29];
    (field, value()).prop_map(|(field, value)| Node {
        field,
        value,
        padding: [0; 2],
    })
}

fn value() -> impl Strategy<Value = Value> {
    let varint = prop_oneof![
        0u64..12,
        (0u64..12).prop_map(|n| n + (1 << 32)),
        any::<u64>()
    ];
    prop_oneof![
        4 => varint.prop_map(Value::Varint),
        2 => any::<[u8; 8]>().prop_map(Value::Fixed64),
        4 => prop_oneof![
            prop::collection::vec(any::<u8>(), 0..6),
            Just(b"staging".to_vec()),
            Just(b"cluster".to_vec()),
            Just(b"\x0a\x07cluster\x12\x07staging".to_vec()),
        ].prop_map(Value::Bytes),
        2 => any::<[u8; 4]>().prop_map(Value::Fixed32),
        1 => Just(Value::Group(Vec::new())),
    ]
}

/// Applies a change at the place that `index` points to, counting fields of every level.
pub(crate) fn apply(nodes: &mut Vec<Node>, change: &Change, index: Index) {
    let count = count(nodes);
    if count > 0 {
        apply_at(nodes, change, &mut index.index(count));
    }
}

fn count(nodes: &[Node]) -> usize {
    let inner = |node: &Node| match &node.value {
        Value::Message(nodes) => count(nodes),
        _ => 0,
    };
    nodes.iter().map(|node| 1 + inner(node)).sum()
}

/// Counts `index` down to the node it means; true once that was found.
fn apply_at(nodes: &mut Vec<Node>, change: &Change, index: &mut usize) -> bool {
    for at in 0..nodes.len() {
        if *index == 0 {
            change_node(nodes, change, at);
            return true;
        }
        *index -= 1;
        if let Value::Message(inner) = &mut nodes[at].value
            && apply_at(inner, change, index)
        {
            return true;
        }
    }
    false
}

fn change_node(nodes: &mut Vec<Node>, change: &Change, at: usize) {
    match change {
        Change::Insert(node) => match &mut nodes[at].value {
            Value::Message(inner) if inner.is_empty() => inner.push(node.clone()),
            _ => nodes.insert(at, node.clone()),
        },
        Change::Repeat => nodes.insert(at, nodes[at].clone()),
        Change::Pad(padding) => nodes[at].padding = *padding,
        Change::MoveLast => {
            // Only past fields of other numbers: the order within one number has a meaning.
            let node = nodes.remove(at);
            let same = |other: &Node| other.field == node.field;
            let end = nodes[at..]
                .iter()
                .position(same)
                .map_or(nodes.len(), |next| at + next);
            nodes.insert(end, node);
        }
        Change::Unpack { chunk } => unpack(nodes, at, *chunk),
        Change::Remove => drop(nodes.remove(at)),
        Change::Replace(value) => nodes[at].value = value.clone(),
        Change::Renumber(field) => nodes[at].field = *field,
    }
}

/// Writes packed varints as fields of at most `chunk` of them, one alone without packing.
fn unpack(nodes: &mut Vec<Node>, at: usize, chunk: usize) {
    let field = nodes[at].field;
    let Value::Packed(values) = &nodes[at].value else {
        return;
    };
    let split = values.chunks(chunk).map(|values| {
        let value = match values {
            [value] => Value::Varint(*value),
            values => Value::Packed(values.to_vec()),
        };
        Node {
            field,
            value,
            padding: [0; 2],
        }
    });
    let split: Vec<Node> = split.collect();
    nodes.splice(at..=at, split);
}
