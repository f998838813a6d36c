//! [Templates](crate::wire::templates) of V2: labels compared by their references.
//!
//! A label is two references, varints that lie one after the other. A pattern demands the first as it
//! is encoded, which leads to one name. What is demanded of the value is known of each symbol: it has
//! [`Traits`], found once for the whole message. Of the spoke's own label the value must be a symbol
//! with the spoke's name, wherever in the table it stands.
//!
//! Names are compared as strings, but only when a template is learnt.

use std::ops::Range;

use crate::wire::protobuf::Reader;
use crate::wire::templates::{Clean, Demands, Fit, Fits, LABELS_MAX, Name, Templates};
use crate::wire::{Labels, Series, text_bytes_max};

use super::{Pair, Symbols, Traits, read_items, usual_refs};

/// The bytes that hold a label of usual references.
const WINDOW: usize = 8;

/// Most bytes of the reference to a name in a pattern.
const NAME_BYTES_MAX: usize = 4;

/// What one label is compared with.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    /// The reference to the name.
    reference: u32,
    /// The same, as it is encoded.
    name: u64,
    /// The bits of [`Self::name`].
    mask: u64,
    /// The bits in front of the reference to the value.
    value_at: u32,
    /// What is demanded of the value.
    value: Traits,
}

/// The templates of a message.
#[derive(Debug, Default)]
pub struct Shapes {
    templates: Templates<Pattern>,
    /// Where metadata lies that was found good, with its key.
    metadata: Range<usize>,
    /// The references of the last series, and space behind them. Empty when they are not recorded.
    pairs: Vec<Pair>,
    /// How many they are.
    count: usize,
    /// The bytes of the values of all series that did fit, or more.
    text_bytes: u64,
}

/// The references of a series.
struct Fitted<'m> {
    message: &'m [u8],
    /// Where they end.
    end: usize,
    traits: &'m [Traits],
    /// Where the references are recorded.
    pairs: &'m mut [Pair],
    count: usize,
    /// See [`Shapes`].
    text_bytes: u64,
}

impl Fits for Fitted<'_> {
    type Pattern = Pattern;

    #[inline(always)] // It is the body of the loop over labels.
    fn fits(&mut self, pattern: &Pattern, at: usize) -> Option<usize> {
        let window = self.message.get(at..)?.first_chunk::<WINDOW>()?;
        let window = u64::from_le_bytes(*window);
        if (window ^ pattern.name) & pattern.mask != 0 {
            return None;
        }
        // One byte or two, without a branch: which of them it is cannot be foreseen. The next label has
        // to wait for the place where this one ends, so that depends on a single byte.
        let value_at = at + pattern.value_at as usize / 8;
        let more = self.message.get(value_at)? >> 7;
        let mut end = value_at + 1 + usize::from(more);
        let value = (window >> pattern.value_at & 0xff_ffff) as u32;
        let more = u32::from(more);
        let mut reference = value & 0x7f | ((value >> 1 & 0x3f80) * more);
        if value & 0x8000 & more << 15 != 0 {
            if value & 0x80_0000 != 0 {
                return None;
            }
            reference |= value >> 2 & 0x1f_c000;
            end += 1;
        }
        let traits = self.traits.get(reference as usize)?;
        if !traits.has(pattern.value) || end > self.end {
            return None;
        }
        self.text_bytes += traits.length();
        if let Some(pair) = self.pairs.get_mut(self.count) {
            *pair = Pair {
                name: pattern.reference,
                value: reference,
            };
            self.count += 1;
        }
        Some(end)
    }

    #[inline(always)] // It ends the loop over labels.
    fn another(&self, at: usize) -> bool {
        at != self.end
    }
}

impl Shapes {
    /// Starts a message. `records` says that [`Self::pairs`] is asked for.
    pub fn start(&mut self, records: bool) {
        self.templates.clear();
        self.metadata = 0..0;
        self.pairs.clear();
        self.count = 0;
        self.text_bytes = 0;
        if records {
            self.pairs.resize(LABELS_MAX, Pair::default());
        }
    }

    /// The references of the series that was read last, if they are recorded.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs[..self.count]
    }

    /// The memory that they hold, in bytes.
    pub fn bytes(&self) -> usize {
        self.templates.bytes() + self.pairs.capacity() * size_of::<Pair>()
    }

    /// Walks the series at `place` in the message if its labels fit a template, so that they are
    /// clean. Otherwise it returns false and may learn a template; then the series has to be walked by
    /// [`series`](super::series).
    #[inline]
    pub fn read<'a>(
        &mut self,
        series: &mut Series<'a>,
        message: &'a [u8],
        place: Range<usize>,
        symbols: &Symbols<'a>,
        demands: &Demands<'_>,
        labels: &mut Labels<'a>,
    ) -> bool {
        // Then it is for the policy to count them.
        if self.text_bytes > text_bytes_max(message.len()) {
            return false;
        }
        let Some((refs, rest)) = usual_refs(series.raw) else {
            return false;
        };
        let end = place.end - rest.len();
        let Some(fit) = self.fit(message, end - refs.len(), end, symbols) else {
            self.learn(refs, symbols, demands);
            return false;
        };
        series.block = Some(refs);
        series.clean = Some(fit.clean);
        let good_metadata = message.get(self.metadata.clone()).unwrap_or_default();
        let Ok(read) = read_items(series, rest, symbols, labels, good_metadata) else {
            return false;
        };
        if let Some(metadata) = read.last_metadata {
            self.metadata = place.end - metadata.len()..place.end;
        }
        !read.labelled && !series.foreign && series.fault.is_none()
    }

    /// Finds the template of the references between two places.
    #[inline]
    fn fit(
        &mut self,
        message: &[u8],
        start: usize,
        end: usize,
        symbols: &Symbols<'_>,
    ) -> Option<Fit> {
        let mut labels = Fitted {
            message,
            end,
            traits: &symbols.traits,
            pairs: &mut self.pairs,
            count: 0,
            text_bytes: self.text_bytes,
        };
        let fit = self.templates.find(start, &mut labels)?;
        (self.count, self.text_bytes) = (labels.count, labels.text_bytes);
        Some(fit)
    }

    /// Learns a template from a series that fits none, if its labels are clean.
    #[cold]
    fn learn(&mut self, refs: &[u8], symbols: &Symbols<'_>, demands: &Demands<'_>) {
        let templates = &mut self.templates;
        let Some(mut inherited) = templates.begin() else {
            return;
        };
        let clean = clean(refs, symbols, demands, |pattern| {
            if inherited > 0 {
                inherited -= 1;
            } else {
                templates.append(pattern);
            }
        });
        templates.end(clean.filter(|_| inherited == 0));
    }
}

/// Whether labels are clean; the pattern of each is told to `each`.
fn clean(
    refs: &[u8],
    symbols: &Symbols<'_>,
    demands: &Demands<'_>,
    mut each: impl FnMut(Pattern),
) -> Option<Clean> {
    let mut names = demands.names();
    let mut reader = Reader::new(refs);
    while !reader.rest().is_empty() {
        let before = reader.rest();
        let reference = reader.varint().ok()?;
        let name = symbols.get(reference).ok()?;
        let encoded = &before[..before.len() - reader.rest().len()];
        let value = usize::try_from(reader.varint().ok()?).ok()?;
        let demanded = match names.next(name)? {
            Name::Own => Traits::GOOD.and(Traits::OWN),
            Name::Other => Traits::GOOD,
        };
        let holds = symbols.traits.get(value)?.has(demanded);
        if !holds || encoded.len() > NAME_BYTES_MAX {
            return None;
        }
        let bits = 8 * u32::try_from(encoded.len()).ok()?;
        let bytes = encoded.iter().rev();
        each(Pattern {
            reference: u32::try_from(reference).ok()?,
            name: bytes.fold(0, |word, byte| word << 8 | u64::from(*byte)),
            mask: (1 << bits) - 1,
            value_at: bits,
            value: demanded,
        });
    }
    names.end()
}
