//! Values as a terminal and JSON may show them.
//!
//! A sender chose the texts, so what a terminal could obey is escaped: control characters, changes of
//! direction, and everything else that cannot be printed.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// The longest part of a text that a line shows, in bytes.
pub(super) const LINE_BYTES_MAX: usize = 1024;

/// The longest part of a text that JSON shows, in bytes.
pub(super) const JSON_BYTES_MAX: usize = 64 << 10;

/// The bits of a stale marker (Prometheus `model/value/value.go`, `StaleNaN`).
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The end of the year 9999 in milliseconds since the Unix epoch, where RFC 3339 ends.
const RFC_3339_END: i64 = 253_402_300_800_000;

/// A text of a sender. A line shows it in quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'t>(pub(super) &'t [u8]);

impl<'t> Text<'t> {
    /// The text without quotes.
    pub(super) fn bare(self) -> Bare<'t> {
        Bare(self.0)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.bare())
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::from_utf8_lossy(cut(self.0, JSON_BYTES_MAX)).into_owned();
        if self.0.len() > JSON_BYTES_MAX {
            text.push_str(&rest(self.0));
        }
        serializer.serialize_str(&text)
    }
}

/// A text without quotes.
pub(super) struct Bare<'t>(&'t [u8]);

impl fmt::Display for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in cut(self.0, LINE_BYTES_MAX).utf8_chunks() {
            let quoted = format!("{:?}", chunk.valid());
            f.write_str(&quoted[1..quoted.len() - 1])?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        if self.0.len() > LINE_BYTES_MAX {
            f.write_str(&rest(self.0))?;
        }
        Ok(())
    }
}

/// Cuts a text, not within a character.
fn cut(text: &[u8], bytes_max: usize) -> &[u8] {
    let Some(cut) = text.get(..bytes_max) else {
        return text;
    };
    // A character has at most three bytes behind its first.
    let end = (bytes_max - 3..=bytes_max).rev();
    let is_start = |end: &usize| text.get(*end).is_none_or(|byte| byte & 0xc0 != 0x80);
    end.into_iter()
        .find(is_start)
        .map_or(cut, |end| &text[..end])
}

fn rest(text: &[u8]) -> String {
    format!("... ({} bytes)", text.len())
}

/// A number as Prometheus writes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(pub(super) f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0;
        let size = number.abs();
        if number.to_bits() == STALE_BITS {
            f.write_str("stale")
        } else if number.is_infinite() {
            f.write_str(if number > 0.0 { "+Inf" } else { "-Inf" })
        } else if size != 0.0 && !(1e-4..1e21).contains(&size) && !number.is_nan() {
            write!(f, "{number:e}")
        } else {
            write!(f, "{number}")
        }
    }
}

/// As a string, as in the API of Prometheus: JSON has no NaN and no infinity.
impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A time in milliseconds since the Unix epoch, which it is in JSON. A line shows it in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(pub(super) i64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(millis) = *self;
        match u64::try_from(millis) {
            Ok(since) if millis < RFC_3339_END => {
                let time = UNIX_EPOCH + Duration::from_millis(since);
                write!(f, "{}", humantime::format_rfc3339_millis(time))
            }
            _ => write!(f, "{millis} ms"),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_hold_nothing_that_a_terminal_obeys() {
        for (text, shown) in [
            (&b"plain \xc3\xa9"[..], "\"plain é\""),
            (b"a\"b\\c", "\"a\\\"b\\\\c\""),
            (b"\x1b[31m\n\x07", "\"\\u{1b}[31m\\n\\u{7}\""),
            (
                "\u{202e}abc\u{2066}".as_bytes(),
                "\"\\u{202e}abc\\u{2066}\"",
            ),
            (b"\xff\xfe.", "\"\\xff\\xfe.\""),
            (b"", "\"\""),
        ] {
            assert_eq!(Text(text).to_string(), shown);
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        for ahead in 0..4 {
            let text = ["x".repeat(ahead), "🚀".repeat(1000)].concat();
            let shown = Text(text.as_bytes()).to_string();
            assert!(shown.len() < LINE_BYTES_MAX + 30 && !shown.contains("\\x"));
            let end = format!("🚀... ({} bytes)\"", text.len());
            assert!(shown.ends_with(&end), "{shown}");
        }
        let exact = "x".repeat(LINE_BYTES_MAX);
        assert_eq!(Text(exact.as_bytes()).to_string(), format!("\"{exact}\""));
        let bytes = [0xbf; LINE_BYTES_MAX + 1];
        assert!(
            Text(&bytes)
                .to_string()
                .ends_with("\\xbf... (1025 bytes)\"")
        );
    }

    #[test]
    fn numbers_are_those_of_prometheus() {
        for (number, shown) in [
            (1.0, "1"),
            (-0.5, "-0.5"),
            (1e21, "1e21"),
            (1e20, "100000000000000000000"),
            (1e-7, "1e-7"),
            (0.0, "0"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::from_bits(STALE_BITS), "stale"),
        ] {
            assert_eq!(Number(number).to_string(), shown);
        }
    }

    #[test]
    fn every_time_can_be_shown() {
        for (millis, shown) in [
            (1_795_710_000_123, "2026-11-26T16:20:00.123Z"),
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "-1 ms"),
            (RFC_3339_END - 1, "9999-12-31T23:59:59.999Z"),
            (RFC_3339_END, "253402300800000 ms"),
            (i64::MAX, "9223372036854775807 ms"),
            (i64::MIN, "-9223372036854775808 ms"),
        ] {
            assert_eq!(Time(millis).to_string(), shown);
        }
    }
}
