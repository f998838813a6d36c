//! The identity of a series: a number that follows from its labels alone.
//!
//! It is a hash of the labels as V1 encodes them: sorted by name, none without a value, each length in as few
//! bytes as it takes. So it makes no difference in which version of the message they came, or how they were
//! encoded there. Most series of V1 come like this, and their bytes are hashed where they lie: for each string,
//! a hash of strings has to find out how long it is, which takes longer than to hash it.
//!
//! The hash has a secret key. Whoever does not know it, and never sees an identity, cannot make two
//! series with the same one. It multiplies 64 bits by 64 and folds the product, as wyhash does, in four lanes
//! that do not wait for each other. Each word is mixed with secret words before it is multiplied, and so is the length of
//! all.

/// The bytes that are hashed at once.
const STEP: usize = 16 * LANES;

/// Products that do not wait for each other.
const LANES: usize = 4;

/// What makes identities secret.
pub struct Key {
    /// What the lanes begin with.
    begin: [u64; LANES],
    /// What every other word is mixed with.
    other: [u64; LANES],
    /// What the lanes are mixed with at the end.
    end: [u64; LANES],
    length: [u64; 2],
}

/// What was hashed of a series.
#[derive(Clone, Copy)]
pub struct Hashed {
    lanes: [u64; LANES],
    length: u64,
}

impl Key {
    /// The words that a key is made of.
    pub const WORDS: usize = 3 * LANES + 2;

    /// A key of random words, each as secret as the others.
    pub fn new(words: [u64; Self::WORDS]) -> Self {
        let (four, length) = words.as_chunks();
        Self {
            begin: four[0],
            other: four[1],
            end: four[2],
            length: [length[0], length[1]],
        }
    }

    /// The identity of a series whose labels are encoded like this.
    #[inline]
    pub fn identity(&self, labels: &[u8]) -> u64 {
        let mut hashed = self.begin();
        let rest = self.hash(&mut hashed, labels);
        self.end(hashed, rest)
    }

    /// Begins with a series whose labels come in parts.
    #[inline]
    pub fn begin(&self) -> Hashed {
        Hashed {
            lanes: self.begin,
            length: 0,
        }
    }

    /// Hashes the next part of the labels of a series, but for its last bytes, fewer than 64, which it returns:
    /// with them the next part begins.
    #[inline]
    pub fn hash<'l>(&self, hashed: &mut Hashed, labels: &'l [u8]) -> &'l [u8] {
        let (steps, rest) = labels.as_chunks::<STEP>();
        let mut lanes = hashed.lanes;
        for step in steps {
            lanes = self.step(lanes, step);
        }
        hashed.lanes = lanes;
        hashed.length += (labels.len() - rest.len()) as u64;
        rest
    }

    /// The identity of a series of which only the last bytes, fewer than 64, are not hashed.
    #[inline]
    pub fn end(&self, hashed: Hashed, rest: &[u8]) -> u64 {
        let mut step = [0; STEP];
        step[..rest.len()].copy_from_slice(rest);
        let lanes = self.step(hashed.lanes, &step);
        let [one, two, three, four] = std::array::from_fn(|it| lanes[it] ^ self.end[it]);
        let length = hashed.length + rest.len() as u64;
        let [first, last] = self.length;
        fold(fold(one, two) ^ length ^ first, fold(three, four) ^ last)
    }

    #[inline]
    fn step(&self, lanes: [u64; LANES], step: &[u8; STEP]) -> [u64; LANES] {
        let (words, _) = step.as_chunks();
        let word = |place: usize| u64::from_le_bytes(words[place]);
        std::array::from_fn(|it| fold(word(2 * it) ^ lanes[it], word(2 * it + 1) ^ self.other[it]))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
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

    use prost::encoding;

    use super::*;

    /// A key for each seed.
    pub(crate) fn key(seed: u64) -> Key {
        let mut random = fastrand::Rng::with_seed(seed);
        Key::new(std::array::from_fn(|_| random.u64(..)))
    }

    /// The labels as prost encodes them.
    fn encoded(labels: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut encoded = Vec::new();
        for (name, value) in labels {
            let mut label = Vec::new();
            encoding::bytes::encode(1, &name.to_vec(), &mut label);
            encoding::bytes::encode(2, &value.to_vec(), &mut label);
            encoding::bytes::encode(1, &label, &mut encoded);
        }
        encoded
    }

    fn identity(key: &Key, labels: &[(&[u8], &[u8])]) -> u64 {
        key.identity(&encoded(labels))
    }

    #[test]
    fn labels_that_come_in_parts_have_the_same_identity() {
        let key = key(1);
        let mut random = fastrand::Rng::with_seed(2);
        for length in 0..400 {
            let labels: Vec<u8> = std::iter::repeat_with(|| random.u8(..))
                .take(length)
                .collect();
            let expected = key.identity(&labels);
            let mut hashed = key.begin();
            let mut rest = Vec::new();
            let mut left = &labels[..];
            while !left.is_empty() {
                let (part, after) = left.split_at(random.usize(1..=left.len().min(150)));
                rest.extend_from_slice(part);
                rest = key.hash(&mut hashed, &rest).to_vec();
                left = after;
            }
            assert_eq!(key.end(hashed, &rest), expected, "{length}");
        }
        assert_ne!(self::key(2).identity(b""), key.identity(b""));
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
