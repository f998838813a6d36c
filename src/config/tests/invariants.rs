//! What holds for any text that is checked as a configuration. The fuzz target includes this file.

use std::collections::HashSet;

use crate::config::{Config, Finding, parse_without_files};

/// Checks a text without the files that it names.
pub(crate) fn check(text: &str) {
    let (result, warnings) = parse_without_files(text);
    findings(text, &warnings);
    match result {
        Ok(config) => accepted(&config),
        Err(errors) => {
            let errors: Vec<_> = errors.iter().cloned().collect();
            assert!(!errors.is_empty(), "an error says what is wrong");
            findings(text, &errors);
        }
    }
}

/// Findings are in order, and each is one line about a place in the text.
fn findings(text: &str, findings: &[Finding]) {
    let lines = text.chars().filter(|it| is_line_break(*it)).count() + 1;
    let columns = text.chars().count() + 1;
    for finding in findings {
        let at = finding.position.expect("a text has positions");
        assert!((1..=lines + 1).contains(&at.line), "{finding:?}");
        assert!((1..=columns + 1).contains(&at.column), "{finding:?}");
        let shown = finding.to_string();
        let unfit = shown.chars().find(|it| it.is_control());
        assert_eq!(unfit, None, "{finding:?}");
        assert!(!finding.message.is_empty(), "{finding:?}");
    }
    assert!(findings.is_sorted_by_key(|it| it.position));
}

/// A scanner of YAML takes each of them for the end of a line, or none but the first two.
fn is_line_break(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What the rest of the program relies on.
fn accepted(config: &Config) {
    let limits = &config.limits;
    assert!(limits.body_bytes_max + limits.decoded_bytes_max <= limits.bytes_in_flight_max);
    assert!(config.listen.connections_max > 0);
    assert!(!config.hubs.is_empty());
    let mut names = HashSet::new();
    for hub in &config.hubs {
        assert!(names.insert(&hub.name), "{} twice", hub.name);
        assert!(!hub.timeout.is_zero());
    }
    let mut names = HashSet::new();
    for spoke in &config.spokes {
        assert!(names.insert(&spoke.name), "{} twice", spoke.name);
        assert!(!spoke.credentials.is_empty(), "{}", spoke.name);
        assert!(!spoke.name.chars().any(char::is_control), "{spoke:?}");
    }
}
