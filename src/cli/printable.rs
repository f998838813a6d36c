//! Text of others in a terminal, which must not obey it.

/// Text that a spoke may have written, with its control, format and other invisible characters as escapes.
pub(in crate::cli) fn clean(text: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn a_terminal_obeys_no_text_of_a_spoke() {
        let hostile = "a\u{1b}[31m\u{202e}b\u{200b}\n\"c\" d\u{e9}";
        assert_eq!(
            clean(hostile),
            "a\\u{1b}[31m\\u{202e}b\\u{200b}\\n\"c\" d\u{e9}"
        );
    }
}
