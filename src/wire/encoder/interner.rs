//! The symbol table of a message that is being encoded. It holds each string once, already encoded.

mod glance;
mod recent;

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::wire::limited;
use crate::wire::protobuf::put_bytes;
use crate::wire::v2::SYMBOLS;

pub(super) use glance::Glance;
pub(super) use recent::Encoded;
use recent::Recent;

/// Where a text lies: begin and end.
pub(super) type Span = (u32, u32);

/// Memory that the table takes for a symbol beside its bytes, about: a span, an entry in a hash table
/// that may be half full, and the reference that a symbol of the old table has become.
pub const SYMBOL_BYTES: usize = 28;

/// Strings longer than this are remembered by where they lie as well: thousands of series may
/// refer to one string of megabytes, which must not be hashed for each.
const SHORT_BYTES_MAX: usize = 256;

/// Gives each string its index.
#[derive(Debug, Default)]
pub(super) struct Interner {
    strings: Strings,
    recent: Recent,
}

/// All strings.
#[derive(Debug)]
struct Strings {
    /// Seeded at random, so that no spoke can choose strings that collide.
    hasher: RandomState,
    table: HashTable<u32>,
    /// Encoded `symbols` fields.
    bytes: Vec<u8>,
    /// Where each string begins and ends in `bytes`.
    spans: Vec<Span>,
    /// The indexes of long strings by their address and length in the message that is read.
    places: HashMap<(usize, usize), u32>,
}

impl Interner {
    /// A table of the empty string alone, which the specification wants first (remote write 2.0,
    /// "Symbols").
    pub(super) fn clear(&mut self) {
        self.strings.clear();
        self.recent.clear();
    }

    /// Hands the encoded table over in exchange for an empty buffer; the next thing is `clear`.
    pub(super) fn hand_over(&mut self, out: &mut Vec<u8>) {
        out.clear();
        std::mem::swap(&mut self.strings.bytes, out);
    }

    /// The memory that it holds, in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.strings.capacity() + self.recent.capacity()
    }

    /// The string of an index that this table gave.
    pub(super) fn text(&self, index: u64) -> &[u8] {
        let index = usize::try_from(index).ok();
        let span = index.and_then(|it| self.strings.spans.get(it));
        span.map_or(&[], |span| slice(&self.strings.bytes, *span))
    }

    /// All strings, in the order of their indexes.
    pub(super) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        let spans = self.strings.spans.iter();
        spans.map(|span| slice(&self.strings.bytes, *span))
    }

    /// The index of a string that is in the table.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        let Strings {
            hasher,
            table,
            bytes,
            spans,
            ..
        } = &self.strings;
        let same = |index: &u32| slice(bytes, spans[*index as usize]) == text;
        table.find(hasher.hash_one(text), same).copied()
    }

    /// The index of a string.
    #[inline]
    pub(super) fn index(&mut self, text: &[u8]) -> u32 {
        self.strings.index(text)
    }

    /// The index of a string as it is encoded; `None` when it takes more than four bytes.
    pub(super) fn encoded(&mut self, text: &[u8]) -> Option<Encoded> {
        self.strings.encoded(text)
    }

    /// The index, as it is encoded, of a text of the message that is read. All calls for a message must
    /// name the same bytes. `None` when it takes more than four bytes.
    #[inline(always)] // It has one caller.
    pub(super) fn index_at(&mut self, message: &[u8], text: Glance) -> Option<Encoded> {
        let Self { recent, strings } = self;
        recent.index(message, text, |text| strings.encoded(text))
    }
}

impl Default for Strings {
    fn default() -> Self {
        let mut strings = Self {
            hasher: RandomState::default(),
            table: HashTable::new(),
            bytes: Vec::new(),
            spans: Vec::new(),
            places: HashMap::new(),
        };
        strings.clear();
        strings
    }
}

impl Strings {
    fn clear(&mut self) {
        self.table.clear();
        self.bytes.clear();
        self.spans.clear();
        self.places.clear();
        self.index(b"");
    }

    fn capacity(&self) -> usize {
        let places = self.places.capacity() * size_of::<((usize, usize), u32)>();
        self.bytes.capacity() + self.spans.capacity() * 8 + self.table.capacity() * 8 + places
    }

    /// Not inlined, since few texts get here.
    #[inline(never)]
    fn encoded(&mut self, text: &[u8]) -> Option<Encoded> {
        Encoded::new(self.index(text))
    }

    #[inline]
    fn index(&mut self, text: &[u8]) -> u32 {
        if text.len() > SHORT_BYTES_MAX {
            return self.index_of_long(text);
        }
        self.intern(text)
    }

    fn index_of_long(&mut self, text: &[u8]) -> u32 {
        let place = (text.as_ptr().addr(), text.len());
        if let Some(index) = self.places.get(&place) {
            return *index;
        }
        let index = self.intern(text);
        self.places.insert(place, index);
        index
    }

    #[inline]
    fn intern(&mut self, text: &[u8]) -> u32 {
        let Self {
            hasher,
            table,
            bytes,
            spans,
            ..
        } = self;
        let hash = hasher.hash_one(text);
        let same = |index: &u32| slice(bytes, spans[*index as usize]) == text;
        // Most strings are in the table, and this is cheaper than an entry.
        if let Some(index) = table.find(hash, same) {
            return *index;
        }
        let index = limited(spans.len());
        put_bytes(bytes, SYMBOLS, text);
        let end = limited(bytes.len());
        spans.push((end - limited(text.len()), end));
        table.insert_unique(hash, index, |index| {
            hasher.hash_one(slice(bytes, spans[*index as usize]))
        });
        index
    }
}

fn slice(bytes: &[u8], (start, end): (u32, u32)) -> &[u8] {
    &bytes[start as usize..end as usize]
}
