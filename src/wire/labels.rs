//! The labels of one series, read in step with the series before.
//!
//! Neighbouring series share most of their labels, byte for byte. So a series is compared with
//! the one before in blocks, and only what differs is read: what was checked once need not be
//! checked again, here and wherever the [`Change`] is followed.

/// Labels that a [`Change`] can tell apart; those beyond always count as new.
const FOLLOWED_MAX: usize = u64::BITS as usize;

/// A label as it lies in the message; whether it is UTF-8 is for the policy to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

/// How a list of labels differs from the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// So many at the front have the names they had; all beyond are new.
    pub kept: usize,
    /// Those of them that have another value, a bit a place.
    pub values: u64,
}

impl Default for Change {
    /// Nothing is known to be as it was.
    fn default() -> Self {
        Self::ALL
    }
}

impl Change {
    /// Nothing is as it was.
    pub const ALL: Self = Self { kept: 0, values: 0 };

    /// Everything is as it was.
    pub const NONE: Self = Self {
        kept: usize::MAX,
        values: 0,
    };

    /// Both changes, one after the other.
    #[inline]
    pub fn then(self, next: Self) -> Self {
        Self {
            kept: self.kept.min(next.kept),
            values: self.values | next.values,
        }
    }

    /// The places of values that changed among the labels whose names did not.
    #[inline]
    pub fn values(self) -> impl Iterator<Item = usize> {
        let mut left = match self.kept {
            kept if kept < FOLLOWED_MAX => self.values & ((1 << kept) - 1),
            _ => self.values,
        };
        std::iter::from_fn(move || {
            let place = left.trailing_zeros() as usize;
            (left != 0).then(|| {
                left &= left - 1;
                place
            })
        })
    }

    /// The change where one more label stands at `place`, before and after.
    #[inline]
    pub fn with_inserted(self, place: usize) -> Self {
        if self.kept < place {
            return self;
        }
        let low = match place {
            place if place < FOLLOWED_MAX => (1 << place) - 1,
            _ => u64::MAX,
        };
        Self {
            // The last place that can be told apart would be shifted out.
            kept: self.kept.saturating_add(1).min(FOLLOWED_MAX),
            values: (self.values & low) | (self.values & !low) << 1,
        }
    }
}

/// The labels of one series, in a list that follows from series to series.
#[derive(Debug)]
pub struct Labels<'a> {
    list: Vec<Label<'a>>,
    max: usize,
    overflow: bool,
    compared_name_bytes: u64,
    change: Change,
    /// The bytes that the list was read from, when they hold all of it and nothing else.
    block: &'a [u8],
    /// The bytes of each label in the block; empty when the list is out of step with it.
    lengths: Vec<u32>,
    tail: &'a [u8],
}

impl Default for Labels<'_> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            max: 0,
            overflow: false,
            compared_name_bytes: 0,
            change: Change::ALL,
            block: &[],
            lengths: Vec::new(),
            tail: &[],
        }
    }
}

impl<'a> Labels<'a> {
    /// An empty list that keeps at most `max` labels of a series, in the memory of `spare`.
    pub fn new(spare: Labels<'_>, max: usize) -> Self {
        let mut lengths = spare.lengths;
        lengths.clear();
        Self {
            list: recycle(spare.list),
            max,
            lengths,
            ..Self::default()
        }
    }

    /// Starts a series whose bytes begin with `bytes`: takes the labels at their front that
    /// `read` takes, which returns a label and what follows it. Returns what follows them all.
    ///
    /// `valid` says whether a string may be taken; bytes that were taken before are not read
    /// again, but known to be the same label.
    #[inline]
    pub(super) fn follow(
        &mut self,
        bytes: &'a [u8],
        read: impl Fn(&'a [u8]) -> Option<(Label<'a>, &'a [u8])>,
        valid: impl Fn(&[u8]) -> bool,
    ) -> &'a [u8] {
        let known = self.lengths.len().min(FOLLOWED_MAX);
        let all_known = known == self.lengths.len();
        let (list, lengths) = (&mut self.list[..known], &mut self.lengths[..known]);
        let (mut before, mut rest) = (self.block, bytes);
        let (mut place, mut values) = (0, 0u64);
        while let Some(unlike) = first_unlike(rest, before, &lengths[place..]) {
            let Unlike { labels, bytes } = unlike;
            place += labels;
            rest = &rest[bytes..];
            let Some((slot, length)) = list.get_mut(place).zip(lengths.get_mut(place)) else {
                break;
            };
            let Some((label, after)) = read(rest) else {
                break;
            };
            self.compared_name_bytes += label.name.len() as u64;
            if !same_text(label.name, slot.name) || !valid(label.value) {
                break;
            }
            before = &before[bytes + *length as usize..];
            *slot = label;
            *length = length_of(rest, after);
            values |= 1 << place;
            place += 1;
            rest = after;
            if all_known && rest.starts_with(before) {
                rest = &rest[before.len()..];
                place = known;
                break;
            }
        }
        self.change = Change {
            kept: place,
            values,
        };
        self.overflow = false;
        self.list.truncate(place);
        self.lengths.truncate(place);
        while let Some((label, after)) = read(rest)
            && valid(label.name)
            && valid(label.value)
        {
            if self.list.len() == self.max {
                self.push(label);
            } else {
                self.list.push(label);
                self.lengths.push(length_of(rest, after));
            }
            rest = after;
        }
        self.block = &bytes[..bytes.len() - rest.len()];
        rest
    }

    /// Keeps a label that stands elsewhere than those [followed](Self::follow), or remembers that
    /// it was one too many.
    pub(super) fn push(&mut self, label: Label<'a>) {
        self.lengths.clear();
        if self.list.len() < self.max {
            self.list.push(label);
        } else {
            self.overflow = true;
        }
    }

    /// What stood behind the labels and samples of a series before, and was found good.
    #[inline]
    pub(super) fn tail(&self) -> &'a [u8] {
        self.tail
    }

    /// Remembers what stands behind labels and samples, which must be good for any series.
    pub(super) fn set_tail(&mut self, tail: &'a [u8]) {
        self.tail = tail;
    }

    /// The memory that the list holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.list.capacity() * (size_of::<Label<'_>>() + size_of::<u32>())
    }

    /// The bytes of all names that were compared so far, here and where it was
    /// [told](Self::compare_names), whichever series they are of: a short V2 body can give every
    /// series the same long names.
    #[inline]
    pub fn compared_name_bytes(&self) -> u64 {
        self.compared_name_bytes
    }

    /// Takes notice that the names from the place `first` on will be compared.
    #[inline]
    pub fn compare_names(&mut self, first: usize) {
        let names = self.list.iter().skip(first);
        self.compared_name_bytes += names.map(|label| label.name.len() as u64).sum::<u64>();
    }

    /// True when the series had more labels than are kept.
    #[inline]
    pub fn overflow(&self) -> bool {
        self.overflow
    }

    /// The labels kept, in the order of the message.
    #[inline]
    pub fn list(&self) -> &[Label<'a>] {
        &self.list
    }

    /// How the list differs from that of the series before, unless [`Self::sort`] was called.
    #[inline]
    pub fn change(&self) -> Change {
        self.change
    }

    /// Sorts the list by name; the next series starts afresh.
    pub fn sort(&mut self) {
        self.lengths.clear();
        self.change = Change::ALL;
        self.list.sort_unstable_by_key(|label| label.name);
    }
}

/// An empty list in the memory of another, whose items differ in their lifetimes alone: such an
/// iterator is collected in place.
pub(crate) fn recycle<A, B>(mut list: Vec<A>) -> Vec<B> {
    list.clear();
    list.into_iter()
        .map(|_| unreachable!("the list is empty"))
        .collect()
}

#[inline]
fn length_of(before: &[u8], after: &[u8]) -> u32 {
    u32::try_from(before.len() - after.len()).expect("a message of 4 GiB is never decoded")
}

/// Equality that need not look at a text which is the same one.
#[inline]
fn same_text(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (a.as_ptr() == b.as_ptr() || a == b)
}

/// True when a text is UTF-8; quick where it is short and ASCII.
#[inline]
pub(super) fn is_utf8(text: &[u8]) -> bool {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let bits = match text.last_chunk::<8>() {
        Some(last) => {
            let whole = text.as_chunks::<8>().0.iter();
            let last = u64::from_le_bytes(*last);
            whole.fold(last, |bits, chunk| bits | u64::from_le_bytes(*chunk))
        }
        None => text.iter().fold(0, |bits, byte| bits | u64::from(*byte)),
    };
    bits & HIGH_BITS == 0 || str::from_utf8(text).is_ok()
}

/// The first label that two series do not share.
struct Unlike {
    /// How many labels stand before it.
    labels: usize,
    /// How many bytes these have.
    bytes: usize,
}

/// Finds the first label of `before` that `bytes` does not begin with; `lengths` are those of its
/// labels. `None` when there is no label.
#[inline]
fn first_unlike(bytes: &[u8], before: &[u8], lengths: &[u32]) -> Option<Unlike> {
    let same = common_prefix(bytes, before);
    let mut unlike = Unlike {
        labels: 0,
        bytes: 0,
    };
    while let Some(length) = lengths.get(unlike.labels) {
        let end = unlike.bytes + *length as usize;
        if end > same {
            break;
        }
        unlike.bytes = end;
        unlike.labels += 1;
    }
    (!lengths.is_empty()).then_some(unlike)
}

/// The number of bytes that two slices have in common at their front.
#[inline]
fn common_prefix(mut a: &[u8], mut b: &[u8]) -> usize {
    let mut equal = 0;
    while let (Some((chunk_a, rest_a)), Some((chunk_b, rest_b))) =
        (a.split_first_chunk::<32>(), b.split_first_chunk::<32>())
        && chunk_a == chunk_b
    {
        (a, b) = (rest_a, rest_b);
        equal += 32;
    }
    while let (Some((chunk_a, rest_a)), Some((chunk_b, rest_b))) =
        (a.split_first_chunk::<8>(), b.split_first_chunk::<8>())
    {
        let differing = u64::from_le_bytes(*chunk_a) ^ u64::from_le_bytes(*chunk_b);
        if differing != 0 {
            return equal + differing.trailing_zeros() as usize / 8;
        }
        (a, b) = (rest_a, rest_b);
        equal += 8;
    }
    let rest = a.iter().zip(b);
    equal + rest.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_where_two_slices_part() {
        let text: Vec<u8> = (0..100).collect();
        for shorter in 0..text.len() {
            assert_eq!(common_prefix(&text, &text[..shorter]), shorter);
            let mut other = text.clone();
            other[shorter] ^= 0x80;
            assert_eq!(common_prefix(&text, &other), shorter);
        }
    }

    #[test]
    fn shifts_a_change_by_an_inserted_label() {
        let change = Change {
            kept: 4,
            values: 0b1010,
        };
        let places = |change: Change| change.values().collect::<Vec<_>>();
        assert_eq!(places(change), [1, 3]);
        assert_eq!(places(change.with_inserted(2)), [1, 4]);
        assert_eq!(change.with_inserted(2).kept, 5);
        assert_eq!(places(change.with_inserted(0)), [2, 4]);
        assert_eq!(change.with_inserted(5), change);
        let full = Change {
            kept: 64,
            values: u64::MAX,
        };
        assert_eq!(full.with_inserted(0).kept, 64);
        assert_eq!(places(full.then(Change::ALL)), [0usize; 0]);
        assert_eq!(Change::NONE.then(change), change);
    }
}
