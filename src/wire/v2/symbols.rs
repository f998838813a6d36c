//! The symbol table of a request, and what is known of each symbol.

use crate::wire::protobuf::{Malformed, Reader};
use crate::wire::utf8::is_utf8;
use crate::wire::{Demands, Label, SeriesFault, limited};

use super::{Field, next_field};

/// The symbol table of one request.
#[derive(Debug, Default)]
pub struct Symbols<'a> {
    /// The message that holds their texts.
    message: &'a [u8],
    /// Where the text of each lies in the message.
    places: Vec<Place>,
    /// What is known of each symbol.
    pub(super) traits: Vec<Traits>,
    max: usize,
    overflow: bool,
    invalid: bool,
    foreign: bool,
}

/// Where the text of a symbol lies in the message.
#[derive(Debug, Clone, Copy)]
pub(in crate::wire) struct Place {
    pub(in crate::wire) start: u32,
    pub(in crate::wire) length: u32,
}

/// Where [`Traits`] hold the length of the text: as many bits as the number has.
const LENGTH_SHIFT: u32 = 3;

/// The most that fits there. No message has a text of 2 GiB.
const LENGTH_MAX: u32 = 31;

/// What is known of a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traits(u8);

impl Traits {
    const NONE: Self = Self(0);
    /// It is UTF-8.
    const UTF8: Self = Self(1);
    /// It is UTF-8, not empty, and within the limits, so it may be the value of a label.
    pub(super) const GOOD: Self = Self(2);
    /// It is the spoke's name.
    pub(super) const OWN: Self = Self(4);

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The same of a text of so many bytes.
    fn with_length(self, length: usize) -> Self {
        let bits = usize::BITS - length.leading_zeros();
        Self(self.0 | (bits.min(LENGTH_MAX) as u8) << LENGTH_SHIFT)
    }

    /// As many bytes as the text has, and up to twice as many.
    #[inline]
    pub(super) const fn length(self) -> u64 {
        1 << (self.0 >> LENGTH_SHIFT)
    }
}

impl<'a> Symbols<'a> {
    /// The memory that the table takes for a symbol, in bytes.
    pub(in crate::wire) const EACH_BYTES: usize = size_of::<Place>() + size_of::<Traits>();

    /// An empty table that keeps at most `max` symbols, in the memory of `spare`.
    pub fn new(spare: Symbols<'_>, max: usize) -> Self {
        let Symbols {
            mut places,
            mut traits,
            ..
        } = spare;
        places.clear();
        traits.clear();
        Self {
            places,
            traits,
            max,
            ..Self::default()
        }
    }

    /// Collects the symbols of a message. No template knows a symbol without `demands`.
    pub fn collect(
        &mut self,
        message: &'a [u8],
        demands: Option<&Demands<'_>>,
    ) -> Result<(), Malformed> {
        self.message = message;
        let mut reader = Reader::new(message);
        while let Some(field) = next_field(&mut reader)? {
            match field {
                Field::Symbol(text) => {
                    let end = message.len() - reader.rest().len();
                    self.push(text, end - text.len(), demands);
                }
                Field::Series(_) => {}
                Field::Foreign => self.foreign = true,
            }
        }
        Ok(())
    }

    /// The memory that the table holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<Place>() + self.traits.capacity()
    }

    /// True when the message holds fields that it does not define.
    pub fn foreign(&self) -> bool {
        self.foreign
    }

    /// Keeps a symbol, or remembers that it was one too many.
    #[inline]
    fn push(&mut self, text: &[u8], start: usize, demands: Option<&Demands<'_>>) {
        if self.places.len() == self.max {
            self.overflow = true;
            return;
        }
        let mut traits = Traits::NONE;
        if is_utf8(text) {
            traits = traits.and(Traits::UTF8);
            if let Some(demands) = demands {
                let good = !text.is_empty() && text.len() <= demands.length_max;
                let own = text == demands.own.value;
                traits = traits.and(if good { Traits::GOOD } else { Traits::NONE });
                traits = traits.and(if own { Traits::OWN } else { Traits::NONE });
                traits = traits.with_length(text.len());
            }
        }
        self.invalid |= traits == Traits::NONE;
        self.places.push(Place {
            start: limited(start),
            length: limited(text.len()),
        });
        self.traits.push(traits);
    }

    /// True when the request had more symbols than are kept.
    pub fn overflow(&self) -> bool {
        self.overflow
    }

    /// True when the first symbol is not the empty string that the specification asks for.
    pub fn displaced(&self) -> bool {
        self.places.first().is_some_and(|first| first.length > 0)
    }

    /// True when a symbol is not UTF-8. Decoders that check it refuse the whole request for one,
    /// even if no series refers to it.
    pub fn invalid(&self) -> bool {
        self.invalid
    }

    /// How many there are.
    pub(in crate::wire) fn count(&self) -> usize {
        self.places.len()
    }

    /// The message that holds their texts.
    pub(in crate::wire) fn message(&self) -> &'a [u8] {
        self.message
    }

    /// Where the text of a symbol lies in the message.
    #[inline]
    pub(in crate::wire) fn place(&self, reference: u32) -> Option<Place> {
        self.places.get(reference as usize).copied()
    }

    /// The text at a place of it.
    #[inline]
    pub(in crate::wire) fn text(&self, place: Place) -> &'a [u8] {
        &self.message[place.start as usize..][..place.length as usize]
    }

    /// The labels of packed references, as far as these hold.
    pub(in crate::wire) fn usual_labels<'s>(
        &'s self,
        refs: &'s [u8],
    ) -> impl Iterator<Item = Label<'a>> + 's {
        let mut rest = refs;
        std::iter::from_fn(move || {
            let (label, after) = self.usual_label(rest)?;
            rest = after;
            Some(label)
        })
    }

    /// Tells `each` where the names and values lie of the labels of packed references, as far as these hold.
    #[inline(always)] // With `each`, it is one loop.
    pub(in crate::wire) fn each_place(&self, refs: &[u8], mut each: impl FnMut(Place, Place)) {
        let mut rest = refs;
        while let Some((name, value, after)) = self.usual_places(rest) {
            each(name, value);
            rest = after;
        }
    }

    #[inline(always)]
    fn usual_places<'r>(&self, refs: &'r [u8]) -> Option<(Place, Place, &'r [u8])> {
        let mut reader = Reader::new(refs);
        let name = self.place(u32::try_from(reader.varint().ok()?).ok()?)?;
        let value = self.place(u32::try_from(reader.varint().ok()?).ok()?)?;
        Some((name, value, reader.rest()))
    }

    /// Reads a pair of references that hold.
    #[inline(always)] // As with `Labels::push`.
    pub(super) fn usual_label<'r>(&self, refs: &'r [u8]) -> Option<(Label<'a>, &'r [u8])> {
        let mut reader = Reader::new(refs);
        let name = self.get(reader.varint().ok()?).ok()?;
        let value = self.get(reader.varint().ok()?).ok()?;
        Some((Label { name, value }, reader.rest()))
    }

    /// The string that a reference leads to.
    #[inline]
    pub(in crate::wire) fn get(&self, reference: u64) -> Result<&'a [u8], SeriesFault> {
        let index = usize::try_from(reference).ok();
        let symbol = index.and_then(|it| self.places.get(it).zip(self.traits.get(it)));
        match symbol {
            Some((place, traits)) if traits.has(Traits::UTF8) => Ok(self.text(*place)),
            Some(_) => Err(SeriesFault::InvalidUtf8),
            None => Err(SeriesFault::SymbolReference),
        }
    }

    /// Like [`Self::get`] for a reference whose absence, 0, means the empty string even where
    /// the table is empty.
    pub(super) fn get_optional(&self, reference: u64) -> Result<&'a [u8], SeriesFault> {
        if reference == 0 && self.places.is_empty() {
            Ok(b"")
        } else {
            self.get(reference)
        }
    }
}
