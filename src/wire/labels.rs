//! The labels of one series, one by one.
//!
//! Whoever can do without the list should: a series that a [template](super::templates) knows need
//! not be taken apart.

/// A label as it lies in the message; whether it is UTF-8 is for the policy to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

/// Most bytes of the names and values of a message's labels for each of its own bytes, where it holds long
/// ones once and its series refer to them. With the labels of clusters it is five.
const TEXT_FACTOR: u64 = 64;

/// Further bytes of names and values, which suffice for small messages.
const TEXT_BYTES_SHARED: u64 = 96 << 20;

/// The labels of a series, in a list that is used for one series after the other.
#[derive(Debug, Default)]
pub struct Labels<'a> {
    list: Vec<Label<'a>>,
    max: usize,
    overflow: bool,
    compared_name_bytes: u64,
    /// The bytes of all names and values that it was told of so far, and most of them.
    text_bytes: u64,
    text_bytes_max: u64,
}

/// Most bytes of the names and values of all labels of a V2 message with so many bytes. A reference of one
/// byte may stand for a string of any length, and a hub writes all of them out.
pub fn text_bytes_max(message_len: usize) -> u64 {
    TEXT_BYTES_SHARED.saturating_add((message_len as u64).saturating_mul(TEXT_FACTOR))
}

impl<'a> Labels<'a> {
    /// An empty list that keeps at most `max` labels of a series, in the memory of `spare`.
    pub fn new(spare: Labels<'_>, max: usize) -> Self {
        Self {
            list: recycle(spare.list),
            max,
            ..Self::default()
        }
    }

    /// The same for the labels of a message of `message_len` bytes.
    pub fn of_message(self, message_len: usize) -> Self {
        Self {
            text_bytes_max: text_bytes_max(message_len),
            ..self
        }
    }

    /// Forgets the labels of the series before.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.overflow = false;
    }

    /// Keeps a label, or remembers that it was one too many.
    #[inline(always)] // A label that is handed over goes through memory, which costs more than it.
    pub(super) fn push(&mut self, name: &'a [u8], value: &'a [u8]) {
        if self.list.len() < self.max {
            self.list.push(Label { name, value });
        } else {
            self.overflow = true;
        }
    }

    /// The memory that the list holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.list.capacity() * size_of::<Label<'_>>()
    }

    /// The bytes of all names that it was [told](Self::compare_names) of so far, whichever series
    /// they are of: a short V2 body can give every series the same long names.
    pub fn compared_name_bytes(&self) -> u64 {
        self.compared_name_bytes
    }

    /// True when the names and values that it was [told](Self::compare_names) of so far are
    /// [too long](text_bytes_max) together.
    pub fn exceeds_text(&self) -> bool {
        self.text_bytes > self.text_bytes_max
    }

    /// Takes notice that the names will be compared, and the labels kept.
    pub fn compare_names(&mut self) {
        let (mut names, mut values) = (0, 0);
        for label in &self.list {
            names += label.name.len() as u64;
            values += label.value.len() as u64;
        }
        self.compared_name_bytes += names;
        self.text_bytes += names + values;
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

    /// Sorts the list by name.
    pub fn sort(&mut self) {
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
