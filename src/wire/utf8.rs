//! Whether texts are UTF-8, quick where they are ASCII, as nearly all are.

/// The bytes that are looked at in one step.
const STEP: usize = 32;

/// The bits of a word that no ASCII text has.
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// True when a text is UTF-8.
#[inline]
pub(super) fn is_utf8(text: &[u8]) -> bool {
    is_ascii(text) || str::from_utf8(text).is_ok()
}

/// True when a text is ASCII. Unlike that of the standard library, it looks at no byte by itself but
/// where a text has less than eight: the last step overlaps the one before.
#[inline]
pub(super) fn is_ascii(text: &[u8]) -> bool {
    let bits = match text.last_chunk::<STEP>() {
        Some(last) => {
            let (steps, _) = text.as_chunks::<STEP>();
            let bits = steps.iter().fold(words(last), |bits, step| {
                let step = words(step);
                std::array::from_fn(|word| bits[word] | step[word])
            });
            bits[0] | bits[1] | bits[2] | bits[3]
        }
        None => match text.last_chunk::<8>() {
            Some(last) => {
                let (words, _) = text.as_chunks::<8>();
                let last = u64::from_le_bytes(*last);
                words
                    .iter()
                    .fold(last, |bits, word| bits | u64::from_le_bytes(*word))
            }
            None => text.iter().fold(0, |bits, byte| bits | u64::from(*byte)),
        },
    };
    bits & HIGH_BITS == 0
}

#[inline]
fn words(step: &[u8; STEP]) -> [u64; STEP / 8] {
    let (words, _) = step.as_chunks::<8>();
    std::array::from_fn(|word| u64::from_le_bytes(words[word]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_one_byte_that_is_not_ascii() {
        for length in 0..130 {
            let mut text = vec![b'x'; length];
            assert!(is_ascii(&text) && is_utf8(&text), "{length}");
            for place in 0..length {
                text[place] = 0x80;
                assert!(!is_ascii(&text) && !is_utf8(&text), "{length} {place}");
                text[place] = b'x';
            }
            let text = "x".repeat(length) + "\u{e9}";
            assert!(!is_ascii(text.as_bytes()) && is_utf8(text.as_bytes()));
        }
    }
}
