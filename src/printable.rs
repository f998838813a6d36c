//! Text of others in a terminal, which must not obey it.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Text that somebody else may have written, with its control, format and other invisible characters as
/// escapes.
pub fn clean(text: &str) -> String {
    let mut clean = String::new();
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => clean.push(character),
            // These are what `escape_debug` writes as they are, so it escapes all that is invisible.
            _ => clean.extend(character.escape_debug()),
        }
    }
    clean
}

/// A value as JSON that a terminal may show.
pub fn json(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut json = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut json, Safe))?;
    Ok(json)
}

/// A text of JSON as a terminal may show it. What can be obeyed stands only in strings, but for the ends of
/// lines.
pub fn safe_json(text: &str) -> String {
    let lines = text.split_inclusive('\n');
    let safe = lines.map(|line| match line.strip_suffix('\n') {
        Some(line) => escape_json(line) + "\n",
        None => escape_json(line),
    });
    safe.collect()
}

/// Escapes in JSON what a terminal could obey.
pub struct Safe;

impl Formatter for Safe {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        writer.write_all(escape_json(fragment).as_bytes())
    }
}

/// The text has none of what JSON itself escapes.
fn escape_json(fragment: &str) -> String {
    let mut escaped = String::with_capacity(fragment.len());
    for character in fragment.chars() {
        let usual = character.is_ascii_graphic() || character == ' ';
        if usual || character.escape_debug().len() == 1 {
            escaped.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // A string accepts all that is written.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_no_text_of_others() {
        let hostile = "a\u{1b}[31m\u{202e}b\u{200b}\n\"c\" d\u{e9}";
        assert_eq!(
            clean(hostile),
            "a\\u{1b}[31m\\u{202e}b\\u{200b}\\n\"c\" d\u{e9}"
        );
    }

    #[test]
    fn json_escapes_what_cannot_be_printed() {
        let text = "a é🚀\u{202e}\u{7f}\u{9b}\u{e0041}'";
        let shown = "\"a é🚀\\u202e\\u007f\\u009b\\udb40\\udc41'\"";
        assert_eq!(String::from_utf8(json(&text).unwrap()).unwrap(), shown);
        let usual = serde_json::to_string(text).unwrap() + "\n";
        assert_eq!(safe_json(&usual), format!("{shown}\n"));
        assert_eq!(serde_json::from_str::<String>(shown).unwrap(), text);
    }
}
