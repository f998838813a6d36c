//! References to symbols, in pairs of a name and a value.

use crate::wire::protobuf::Reader;
use crate::wire::templates::LABELS_MAX;

use super::usual_refs;

/// The references of a label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pair {
    pub(in crate::wire) name: u32,
    pub(in crate::wire) value: u32,
}

/// The pairs of a series, as many as a template may have.
#[derive(Debug)]
pub(in crate::wire) struct PairList([Pair; LABELS_MAX]);

impl Default for PairList {
    fn default() -> Self {
        Self([Pair::default(); LABELS_MAX])
    }
}

impl PairList {
    /// The references that a series begins with, packed. `recorded` are these if the walk recorded them. `None`
    /// when the series begins with something else, or has more of them.
    #[inline]
    pub(in crate::wire) fn of<'p>(
        &'p mut self,
        series: &[u8],
        recorded: &'p [Pair],
    ) -> Option<&'p [Pair]> {
        match recorded {
            [] => self.read(series),
            _ => Some(recorded),
        }
    }

    #[inline(never)]
    fn read(&mut self, series: &[u8]) -> Option<&[Pair]> {
        let (refs, _) = usual_refs(series)?;
        let mut reader = Reader::new(refs);
        let mut count = 0;
        while !reader.rest().is_empty() {
            let mut next = || u32::try_from(reader.varint().ok()?).ok();
            *self.0.get_mut(count)? = Pair {
                name: next()?,
                value: next()?,
            };
            count += 1;
        }
        Some(&self.0[..count])
    }
}
