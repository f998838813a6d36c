//! Finds what nobody sees in a name.
//!
//! Two names that look alike would be two spokes in every list, and a name with an invisible character
//! cannot be typed into a query. So names have no control characters, no format characters such as a
//! zero-width space or a change of direction, no spaces other than the usual one, and nothing that
//! Unicode has not assigned.

use std::ops::RangeInclusive;

/// Characters that are blank although they are letters, marks or symbols: most of the property
/// `Default_Ignorable_Code_Point` (Unicode 17, DerivedCoreProperties.txt), and the empty Braille pattern.
const BLANK: [RangeInclusive<char>; 11] = [
    '\u{34f}'..='\u{34f}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{2065}'..='\u{2065}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fff8}',
    '\u{e0000}'..='\u{e0fff}',
];

/// Fails if a text contains something invisible, and names its first such character, or begins or
/// ends with a space.
pub(super) fn check_visible(text: &str) -> Result<(), String> {
    if text.trim_matches(' ') != text {
        return Err("begins or ends with a space".to_owned());
    }
    let mut characters = text.chars().zip(1..);
    match characters.find(|(character, _)| is_invisible(*character)) {
        None => Ok(()),
        Some((character, place)) => Err(format!(
            "contains U+{:04X} as character {place}, which is invisible or looks like a space; write \
             it without that character",
            u32::from(character)
        )),
    }
}

fn is_invisible(character: char) -> bool {
    // What is escaped cannot be printed: control, format, private and unassigned characters, and all
    // spaces but the usual one. At the start of a text, combining marks are escaped as well.
    let escaped = format!("x{character}").escape_debug().nth(1) == Some('\\');
    escaped && !matches!(character, '"' | '\'' | '\\')
        || BLANK.iter().any(|range| range.contains(&character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_script_are_visible() {
        for name in [
            "production",
            "prod eu-1/a_b:c.d#e",
            "\"'\\{}",
            "Straße",
            "Москва",
            "東京",
            "القاهرة",
            "e\u{301}",
            "नई दिल्ली",
            "🚀",
        ] {
            assert_eq!(check_visible(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn an_invisible_character_is_named_with_its_place() {
        for (what, character) in [
            ("NUL", '\0'),
            ("tab", '\t'),
            ("newline", '\n'),
            ("escape", '\u{1b}'),
            ("delete", '\u{7f}'),
            ("next line", '\u{85}'),
            ("no-break space", '\u{a0}'),
            ("soft hyphen", '\u{ad}'),
            ("combining grapheme joiner", '\u{34f}'),
            ("unassigned", '\u{378}'),
            ("Arabic letter mark", '\u{61c}'),
            ("Hangul filler", '\u{115f}'),
            ("Mongolian vowel separator", '\u{180e}'),
            ("em space", '\u{2003}'),
            ("zero-width space", '\u{200b}'),
            ("zero-width joiner", '\u{200d}'),
            ("left-to-right mark", '\u{200e}'),
            ("line separator", '\u{2028}'),
            ("right-to-left override", '\u{202e}'),
            ("word joiner", '\u{2060}'),
            ("right-to-left isolate", '\u{2067}'),
            ("Braille blank", '\u{2800}'),
            ("ideographic space", '\u{3000}'),
            ("Hangul filler", '\u{3164}'),
            ("private use", '\u{e000}'),
            ("variation selector", '\u{fe0f}'),
            ("byte order mark", '\u{feff}'),
            ("halfwidth Hangul filler", '\u{ffa0}'),
            ("noncharacter", '\u{ffff}'),
            ("shorthand format", '\u{1bca0}'),
            ("musical format", '\u{1d173}'),
            ("tag", '\u{e0041}'),
            ("variation selector", '\u{e0100}'),
        ] {
            let code = format!("U+{:04X}", u32::from(character));
            for (name, place) in [
                (format!("{character}prod"), 1),
                (format!("münc{character}hen"), 5),
                (format!("prod{character}"), 5),
            ] {
                let message = check_visible(&name).expect_err(what);
                let wanted = format!("contains {code} as character {place},");
                assert!(message.starts_with(&wanted), "{what}: {message}");
            }
        }
        for name in [" prod", "prod ", " "] {
            let message = check_visible(name).expect_err("a space");
            assert_eq!(message, "begins or ends with a space");
        }
    }
}
