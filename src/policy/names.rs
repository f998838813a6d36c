//! Names of labels, compared by their first bytes: mostly these tell, and a call to compare all of them
//! takes longer than the rest of what a label costs.

/// A name with its first bytes as a number that sorts as they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name<'n> {
    head: u64,
    text: &'n [u8],
}

impl<'n> Name<'n> {
    /// The name before all others.
    pub(super) const EMPTY: Self = Self { head: 0, text: b"" };

    #[inline]
    pub(super) fn new(text: &'n [u8]) -> Self {
        Self {
            head: head(text),
            text,
        }
    }

    /// True when it sorts behind another name.
    #[inline]
    pub(super) fn is_behind(self, other: Self) -> bool {
        if self.head == other.head {
            self.text > other.text
        } else {
            self.head > other.head
        }
    }

    /// True when it is the same as another name.
    #[inline]
    pub(super) fn is(self, other: Self) -> bool {
        self.head == other.head
            && self.text.len() == other.text.len()
            && (self.text.len() <= size_of::<u64>() || self.text == other.text)
    }
}

/// The first eight bytes as a number that sorts as they do. A text that is shorter ends in zeros.
#[inline]
fn head(text: &[u8]) -> u64 {
    if let Some(head) = text.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    match (text.first_chunk(), text.last_chunk()) {
        // Both halves hold the bytes in between.
        (Some(front), Some(back)) => {
            let missing = 8 * (size_of::<u64>() - text.len());
            let halves = [front, back].map(|half| u64::from(u32::from_be_bytes(*half)));
            halves[0] << 32 | halves[1] << missing
        }
        _ => {
            let bytes = text.iter().enumerate();
            bytes.fold(0, |head, (place, byte)| {
                head | u64::from(*byte) << (56 - 8 * place)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_their_bytes() {
        let letters: [&[u8]; 4] = [b"", b"\0", b"a", b"\xff"];
        let mut texts: Vec<Vec<u8>> = vec![Vec::new()];
        for _ in 0..3 {
            let longer = |text: &Vec<u8>| letters.map(|letter| [text, letter].concat());
            texts = texts.iter().flat_map(longer).collect();
        }
        let padded = |text: &Vec<u8>| {
            let fill = |length| [&b"namespac"[..length], text].concat();
            [0, 1, 2, 3, 4, 5, 6, 7, 8].map(fill)
        };
        let texts: Vec<_> = texts.iter().flat_map(padded).collect();
        for one in &texts {
            for other in &texts {
                let names = (Name::new(one), Name::new(other));
                assert_eq!(names.0.is_behind(names.1), one > other, "{one:?} {other:?}");
                assert_eq!(names.0.is(names.1), one == other, "{one:?} {other:?}");
            }
        }
    }
}
