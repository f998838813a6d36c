//! Text in lines that fit a terminal.

/// The narrowest lines. In a terminal that is narrower they are broken by the terminal.
const COLUMNS_MIN: usize = 30;

/// Text in lines of at most so many columns, each behind an indent; in one line where the columns are not
/// known, so that what reads a pipe finds a text as it is. A longer word has a line of its own.
pub(super) fn wrapped(text: &str, indent: usize, columns: Option<usize>) -> String {
    let room = columns.map_or(usize::MAX, |it| it.saturating_sub(indent).max(COLUMNS_MIN));
    let mut lines = String::new();
    let mut used = 0;
    for word in text.split(' ').filter(|it| !it.is_empty()) {
        let length = word.chars().count();
        if used == 0 || used + 1 + length > room {
            if used > 0 {
                lines.push('\n');
            }
            lines.extend(std::iter::repeat_n(' ', indent));
            used = length;
        } else {
            lines.push(' ');
            used += 1 + length;
        }
        lines.push_str(word);
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn lines_are_as_long_as_they_may_be() {
        let text = "Set the cluster label in external_labels of the Prometheus.";
        assert_eq!(
            wrapped(text, 4, Some(38)),
            "    Set the cluster label in\n    external_labels of the Prometheus.\n"
        );
        assert_eq!(wrapped(text, 2, None), format!("  {text}\n"));
        let long = "a".repeat(40);
        assert_eq!(
            wrapped(&format!("see {long} there"), 0, Some(10)),
            format!("see\n{long}\nthere\n")
        );
    }
}
