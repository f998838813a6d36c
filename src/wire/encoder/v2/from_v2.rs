//! References of a V2 message in a new V2 message.
//!
//! The new reference of each symbol is kept, already encoded. So the text of a symbol is looked up once,
//! and not for each series. Texts that stand twice in the old table are one symbol of the new one.

use crate::wire::v2::{Pair, Symbols};

use super::super::interner::{Encoded, Interner};
use super::references::put_pair;

/// An encoded reference of at most three bytes and, in the highest byte, its length. 0 when there is
/// none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Renumbered(u32);

impl Renumbered {
    const NONE: Self = Self(0);

    /// `None` when it is longer.
    fn new(reference: Encoded) -> Option<Self> {
        let Encoded { bytes, length } = reference;
        (length < 4).then_some(Self(bytes | u32::from(length) << 24))
    }

    #[inline(always)]
    fn bytes(self) -> u64 {
        u64::from(self.0 & 0xff_ffff)
    }

    #[inline(always)]
    fn length(self) -> u8 {
        (self.0 >> 24) as u8
    }
}

/// The new references of the symbols of a message.
#[derive(Debug, Default)]
pub(super) struct Renumbering {
    /// By the old references.
    references: Vec<Renumbered>,
}

impl Renumbering {
    /// Forgets the message before.
    pub(super) fn clear(&mut self) {
        self.references.clear();
    }

    /// The memory that it holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.references.capacity() * size_of::<Renumbered>()
    }

    /// Writes the new references of labels at a place, and returns where they end. `None` when one of
    /// them takes more than three bytes.
    #[inline]
    pub(super) fn put(
        &mut self,
        out: &mut [u8],
        mut at: usize,
        pairs: &[Pair],
        symbols: &Symbols<'_>,
        table: &mut Interner,
    ) -> Option<usize> {
        if self.references.len() != symbols.count() {
            self.references.resize(symbols.count(), Renumbered::NONE);
        }
        for pair in pairs {
            let mut name = *self.references.get(pair.name as usize)?;
            let mut value = *self.references.get(pair.value as usize)?;
            if name == Renumbered::NONE {
                name = self.look_up(pair.name, symbols, table)?;
            }
            if value == Renumbered::NONE {
                value = self.look_up(pair.value, symbols, table)?;
            }
            let both = name.bytes() | value.bytes() << (8 * name.length());
            at = put_pair(out, at, both, name.length() + value.length());
        }
        Some(at)
    }

    #[inline(never)]
    fn look_up(
        &mut self,
        symbol: u32,
        symbols: &Symbols<'_>,
        table: &mut Interner,
    ) -> Option<Renumbered> {
        let text = symbols.get(symbol.into()).ok()?;
        let reference = Renumbered::new(table.encoded(text)?)?;
        *self.references.get_mut(symbol as usize)? = reference;
        Some(reference)
    }
}
