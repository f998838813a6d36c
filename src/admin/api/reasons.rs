//! `GET /api/v1/reasons`: what each reason of a refusal means and what to do, as `docs/responses.md` says.
//!
//! The tables of that page are the only source, so what an operator reads here and there is the same.

use std::sync::LazyLock;

use serde::Serialize;

use crate::reasons::{Reason, RequestReason};

const PAGE: &str = include_str!("../../../docs/responses.md");

/// The sections with a table of reasons: the heading, and what the reasons refuse.
const SECTIONS: [(&str, &str); 2] = [
    ("## Reasons of refused requests", "request"),
    ("## Reasons of refused series", "series"),
];

/// The body of the response.
#[derive(Debug, Serialize)]
pub(super) struct Reasons {
    reasons: &'static [Explained],
}

/// A reason, in text in which code stands between backticks.
#[derive(Debug, Serialize)]
struct Explained {
    name: String,
    /// What it refuses: a `request`, or some `series` or samples of one.
    refuses: &'static str,
    /// What the count of its refusals counts: `requests`, `series` or `samples`.
    counts: &'static str,
    /// The status of a request that is refused for it; null where the other reasons of the request decide.
    status: Option<String>,
    meaning: String,
    remedy: String,
}

impl Reasons {
    pub(super) fn all() -> Self {
        static ALL: LazyLock<Vec<Explained>> = LazyLock::new(read);
        Self { reasons: &ALL }
    }
}

/// Reads the tables of the page.
fn read() -> Vec<Explained> {
    let of_section = |(heading, refuses)| {
        let section = PAGE.split_once(heading).map_or("", |(_, rest)| rest);
        let section = section.split("\n## ").next().unwrap_or_default();
        section.lines().filter_map(move |line| row(line, refuses))
    };
    SECTIONS.into_iter().flat_map(of_section).collect()
}

/// Reads a row of a table: the name, the status in the table of requests, the meaning and the remedy.
fn row(line: &str, refuses: &'static str) -> Option<Explained> {
    let line = line.strip_prefix("| `")?.strip_suffix(" |")?;
    let cells: Vec<&str> = line.split(" | ").collect();
    let (name, status, meaning, remedy) = match cells[..] {
        [name, meaning, remedy] => (name, None, meaning, remedy),
        [name, status, meaning, remedy] => (name, Some(status.to_owned()), meaning, remedy),
        _ => return None,
    };
    // Where else to read means nothing without the link.
    let remedy = remedy.split(" See [").next().unwrap_or_default();
    let name = name.trim_end_matches('`');
    Some(Explained {
        name: name.to_owned(),
        refuses,
        counts: counts(name),
        status,
        meaning: without_links(meaning),
        remedy: without_links(remedy),
    })
}

/// What the count of refusals for the reason of this name counts.
fn counts(name: &str) -> &'static str {
    let of_series = Reason::ALL.into_iter().find(|it| it.name() == name);
    match of_series {
        Some(reason) if reason.is_of_samples() => "samples",
        Some(_) => "series",
        // The request itself was all right.
        None if name == RequestReason::HubFailed.name() => "samples",
        None => "requests",
    }
}

/// The text with the words of links in place of the links.
fn without_links(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, link)) = rest.split_once('[') {
        let Some((words, after)) = link.split_once("](") else {
            break;
        };
        let Some((_, after)) = after.split_once(')') else {
            break;
        };
        text += before;
        text += words;
        rest = after;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_meaning_and_remedy() {
        let known = |refuses| {
            let all = Reasons::all().reasons.iter();
            let of = all.filter(move |it| it.refuses == refuses);
            of.map(|it| it.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(
            known("request"),
            RequestReason::ALL.map(RequestReason::name)
        );
        assert_eq!(known("series"), Reason::ALL.map(Reason::name));
        for explained in Reasons::all().reasons {
            let texts = [&explained.meaning, &explained.remedy];
            assert!(
                texts.iter().all(|text| text.ends_with('.')),
                "{explained:?}"
            );
            let remedy = explained.remedy.as_str();
            let advises = remedy.len() > 1 && !remedy.to_lowercase().contains("see ");
            assert!(advises, "{explained:?}");
            assert_eq!(explained.status.is_some(), explained.refuses == "request");
        }
    }

    #[test]
    fn each_count_has_its_unit() {
        let all = Reasons::all().reasons.iter();
        let of = |name| all.clone().find(|it| it.name == name).unwrap().counts;
        assert_eq!(of("rate_limited"), "requests");
        assert_eq!(of("mismatched_label"), "series");
        for name in ["hub", "hub_failed", "hub_protocol", "too_old"] {
            assert_eq!(of(name), "samples", "{name}");
        }
    }

    #[test]
    fn links_become_their_words() {
        let text = without_links("See [the hub](#the-hub), or [limits](limits.md#a). Not `[x]`.");
        assert_eq!(text, "See the hub, or limits. Not `[x]`.");
    }
}
