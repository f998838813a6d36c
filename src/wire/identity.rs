//! The identity of a series: a number that follows from its labels alone.
//!
//! It follows from a sum over the labels, each hashed from its name and its value. So the order of the
//! labels makes no difference, nor does how they are encoded, or in which version of the message. The sum is
//! hashed once more. Otherwise two series whose sums differ in bits that somebody leaves away would go on to do
//! so with each label that both are given.
//!
//! The hash has a secret key. Whoever does not know it, and never sees an identity, cannot make two
//! series with the same one. It multiplies 64 bits by 64 and folds the product, as wyhash does. Every
//! word of a text is mixed with secret words before it is multiplied, and so is the length. In the plain,
//! the length would not do: short texts are read in two words that overlap, and two texts of different
//! lengths could then differ by what cancels out for every key.

use super::Label;

/// Texts up to here are read in two words.
const SHORT: usize = 16;

/// What makes identities secret.
pub struct Key {
    name: u64,
    value: u64,
    short: u64,
    long: [u64; 4],
    /// For each length of a short text.
    lengths: [u64; SHORT + 1],
    series: [u64; 2],
}

impl Key {
    /// The words that a key is made of.
    pub const WORDS: usize = 9 + SHORT + 1;

    /// A key of random words, each as secret as the others.
    pub fn new(words: [u64; Self::WORDS]) -> Self {
        let [name, value, short, a, b, c, d, one, other, lengths @ ..] = words;
        Self {
            name,
            value,
            short,
            long: [a, b, c, d],
            lengths,
            series: [one, other],
        }
    }

    /// The identity of a series, from the sum of what its labels add.
    #[inline]
    pub fn series(&self, sum: u64) -> u64 {
        let [one, other] = self.series;
        fold(sum ^ one, sum ^ other)
    }

    /// What a label adds to the sum of its series. One without a value is no label.
    #[inline]
    pub fn label(&self, label: Label<'_>) -> u64 {
        if label.value.is_empty() {
            return 0;
        }
        let (name, value) = (self.text(label.name), self.text(label.value));
        fold(name ^ self.name, value ^ self.value)
    }

    #[inline]
    fn text(&self, text: &[u8]) -> u64 {
        let Some(length) = self.lengths.get(text.len()) else {
            return self.long(text);
        };
        let [first, last] = short_words(text);
        fold(first ^ self.short, last ^ length)
    }

    /// The hash of a text of more than 16 bytes. The last step overlaps the one before.
    fn long(&self, text: &[u8]) -> u64 {
        let [length, seed, word, last] = self.long;
        let step = |hash: u64, step: &[u8; SHORT], word: u64| {
            let [first, second] = words(step);
            fold(first ^ hash, second ^ word)
        };
        let start = fold(text.len() as u64 ^ length, seed);
        let (steps, _) = text.as_chunks::<SHORT>();
        let hash = steps.iter().fold(start, |hash, it| step(hash, it, word));
        match text.last_chunk() {
            Some(end) => step(hash, end, last),
            None => hash,
        }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Two words that hold all bytes of a text of at most 16. Texts of the same length have different ones.
#[inline]
fn short_words(text: &[u8]) -> [u64; 2] {
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        return [first, last].map(|word| u64::from_le_bytes(*word));
    }
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        return [first, last].map(|word| u32::from_le_bytes(*word).into());
    }
    let byte = |place: usize| text.get(place).copied().map_or(0, u64::from);
    [byte(0) | byte(1) << 8 | byte(2) << 16, 0]
}

#[inline]
fn words(step: &[u8; SHORT]) -> [u64; 2] {
    let (words, _) = step.as_chunks();
    [words[0], words[1]].map(u64::from_le_bytes)
}

/// The two halves of a product, mixed.
#[inline]
fn fold(one: u64, other: u64) -> u64 {
    let high = (u128::from(one) * u128::from(other)) >> 64;
    one.wrapping_mul(other) ^ high as u64
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    /// A key for each seed.
    pub(crate) fn key(seed: u64) -> Key {
        let mut random = fastrand::Rng::with_seed(seed);
        Key::new(std::array::from_fn(|_| random.u64(..)))
    }

    fn identity(key: &Key, labels: &[(&[u8], &[u8])]) -> u64 {
        let labels = labels.iter().map(|(name, value)| Label { name, value });
        let sum = labels.fold(0_u64, |sum, label| sum.wrapping_add(key.label(label)));
        key.series(sum)
    }

    /// Sums that have their upper bits in common would keep them with whatever is added to both.
    #[test]
    fn sums_that_are_close_say_nothing_of_identities() {
        let key = key(1);
        let mut random = fastrand::Rng::with_seed(2);
        let mut equal = [0_u32; 64];
        let count = 20_000;
        for _ in 0..count {
            let sum = random.u64(..);
            let close = key.series(sum) ^ key.series(sum ^ random.u64(1..1 << 12));
            for (bit, equal) in equal.iter_mut().enumerate() {
                *equal += u32::from(close >> bit & 1 == 0);
            }
        }
        for (bit, equal) in equal.into_iter().enumerate() {
            let share = f64::from(equal) / f64::from(count);
            assert!((0.48..0.52).contains(&share), "bit {bit}: {share}");
        }
    }

    #[test]
    fn order_and_labels_without_a_value_make_no_difference() {
        let [key, other_key] = [1, 2].map(key);
        let labels: [(&[u8], &[u8]); 3] = [(b"__name__", b"up"), (b"a", b"b"), (b"job", b"node")];
        let expected = identity(&key, &labels);
        let [one, two, three] = labels;
        for other in [
            [one, three, two],
            [two, one, three],
            [three, two, one],
            [three, one, two],
        ] {
            assert_eq!(identity(&key, &other), expected);
        }
        let with_empty = [one, (b"zone", b""), two, (b"", b""), three];
        assert_eq!(identity(&key, &with_empty), expected);
        assert_ne!(identity(&other_key, &labels), expected);
    }

    /// What is read twice, moves, or is swapped must not cancel out, whatever the key.
    #[test]
    fn series_that_differ_a_little_have_different_identities() {
        let text = |length: usize, byte: u8| vec![byte; length];
        let mut texts: Vec<Vec<u8>> = Vec::new();
        for length in 1..=50 {
            texts.push(text(length, b'a'));
            texts.push(text(length, 0));
            for place in [0, length / 2, length - 1] {
                let mut other = text(length, b'a');
                other[place] = b'b';
                texts.push(other);
            }
        }
        let texts: HashSet<Vec<u8>> = texts.into_iter().collect();
        for seed in 0..200 {
            let key = key(seed);
            let mut seen = HashMap::new();
            let mut add = |labels: &[(&[u8], &[u8])]| {
                let written = format!("{labels:?}");
                let before = seen.insert(identity(&key, labels), written.clone());
                assert!(before.is_none(), "{before:?} and {written}");
            };
            add(&[]);
            for one in &texts {
                add(&[(b"x", one)]);
                add(&[(one, b"x")]);
            }
            for [one, two, three, four] in [
                [b"a", b"b", b"c", b"d"],
                [b"a", b"c", b"b", b"d"],
                [b"a", b"d", b"b", b"c"],
                [b"b", b"a", b"d", b"c"],
            ] {
                add(&[(one, two), (three, four)]);
            }
            add(&[(b"ab", b"c")]);
            add(&[(b"a", b"bc")]);
        }
    }

    /// A table uses single bits of an identity.
    #[test]
    fn each_bit_depends_on_each_bit_of_a_text() {
        let mut changes = [0_u32; 64];
        let mut count = 0;
        for seed in 0..40 {
            let key = key(seed);
            for length in [1, 3, 4, 7, 8, 13, 16, 17, 31, 32, 40] {
                for bit in 0..8 * length {
                    let mut text = vec![b'n'; length];
                    let before = identity(&key, &[(b"a", b"b"), (b"pod", &text)]);
                    text[bit / 8] ^= 1 << (bit % 8);
                    let after = identity(&key, &[(b"a", b"b"), (b"pod", &text)]);
                    for (place, changes) in changes.iter_mut().enumerate() {
                        *changes += u32::from((before ^ after) >> place & 1 == 1);
                    }
                    count += 1;
                }
            }
        }
        for (bit, changes) in changes.into_iter().enumerate() {
            let share = f64::from(changes) / f64::from(count);
            assert!((0.48..0.52).contains(&share), "bit {bit}: {share}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        assert_eq!(format!("{:?}", key(7)), "Key(..)");
    }
}
