//! Everything about one spoke that helps to find out what is wrong with it, as `kubectl describe` prints it.

use std::fmt::Write as _;

use super::answers::{Credential, Limit, NEVER_CAME, Reasons, Refusal, SILENT, Spoke};
use super::table::{
    NONE, RESET, ago, aligned, colour_of, expires, growing, lag, number, or_none, states, time,
};
use super::wrap::wrapped;
use super::{Look, SILENT_SECONDS};
use crate::printable::clean;
use crate::telemetry::words;

/// The columns before a fact.
const NAME_COLUMNS: usize = 13;

/// The columns before what is said of a refusal.
const REFUSAL_COLUMNS: usize = 4;

/// The longest example, in characters.
const EXAMPLE_CHARS_MAX: usize = 300;

pub(super) fn spoke(spoke: &Spoke, reasons: &Reasons, look: &Look) -> String {
    let mut text = facts(spoke, look);
    if let Some(active) = &spoke.active_series {
        let (about, count) = (if active.exact { "" } else { "about " }, active.active);
        let growing = growing(spoke, usize::MAX);
        let _ = writeln!(
            text,
            "Series:      {about}{count} active; most new ones: {growing}"
        );
    }
    if !spoke.limits.is_empty() {
        text += "Limits:\n";
        let rows = spoke.limits.iter().map(|it| (limit(it), None)).collect();
        text += &indented(&aligned(
            &["NAME", "USED", "OF", "SHARE", "EXCEEDED", "MODE"],
            rows,
        ));
    }
    text += "Credentials:\n";
    let rows = spoke.credentials.iter();
    let rows = rows.map(|it| (credential(it, look.now), None)).collect();
    text += &indented(&aligned(&["NAME", "LAST USED", "EXPIRES"], rows));
    let mut refusals: Vec<_> = spoke.refusals.iter().collect();
    refusals.sort_by(|a, b| {
        b.last_timestamp_seconds
            .total_cmp(&a.last_timestamp_seconds)
    });
    if refusals.is_empty() {
        return text + "Refusals:    none since the start\n";
    }
    text += "Refusals:\n";
    for it in refusals {
        text += &refusal(it, reasons, look);
    }
    text
}

/// What is true of it, one line each.
fn facts(spoke: &Spoke, look: &Look) -> String {
    let state = match colour_of(spoke).filter(|_| look.colour) {
        Some(paint) => format!("{paint}{}{RESET}", states(spoke, look.now)),
        None => states(spoke, look.now),
    };
    let addresses = spoke.source_addresses.join(", ");
    let facts = [
        ("Name", clean(&spoke.name)),
        ("State", state),
        (
            "Last write",
            ago(spoke.last_write_timestamp_seconds, look.now),
        ),
        ("Lag", lag(spoke)),
        ("Samples/s", number(spoke.samples_per_second)),
        ("Refused", words::share(spoke.rejected_ratio)),
        ("Protocol", or_none(spoke.protocol.as_deref())),
        ("Sender", or_none(Some(spoke.user_agent.as_str()))),
        ("Addresses", or_none(Some(addresses.as_str()))),
    ];
    let mut text = String::new();
    for (name, fact) in facts {
        let _ = writeln!(text, "{:<NAME_COLUMNS$}{fact}", format!("{name}:"));
        if let ("State", Some(advice)) = (name, advice(spoke, look)) {
            text += &wrapped(&advice, NAME_COLUMNS, look.columns);
        }
    }
    text
}

/// Where to look for the cause of a condition that has no reason of its own.
fn advice(spoke: &Spoke, look: &Look) -> Option<String> {
    let now = look.now;
    if let Some(end) = spoke.expired(now) {
        let ended = |it: &Credential| it.expiry_timestamp_seconds.is_some_and(|end| end <= now);
        let which = match &spoke.credentials[..] {
            [_] => "Its credential has expired",
            all if all.iter().all(ended) => "All its credentials have expired",
            _ => "The credential that it used last has expired",
        };
        let since = ago(Some(end), now);
        return Some(format!(
            "{which} ({since}), so its requests are refused with 401: give it another one, or move the \
             not_after."
        ));
    }
    let advice = match spoke.conditions.first()?.as_str() {
        NEVER_CAME if now - look.started <= SILENT_SECONDS => {
            let time = time(now - look.started);
            return Some(format!(
                "hubgate has run for {time} only; a spoke that waited for it may come within a minute or two."
            ));
        }
        NEVER_CAME => {
            "Nobody has proved to be this spoke: look for its address in what hubgate status lists as refused \
             before it was known which spoke sends, and in the log."
        }
        SILENT => {
            "Nothing comes: look whether its Prometheus runs, what it says of remote_write, and at the \
             network between."
        }
        "late" if spoke.lag_trend.as_deref() == Some("falling") => {
            "What it writes is old, but it catches up."
        }
        "late" => {
            "What it writes is old: look whether its Prometheus catches up after an outage, at its shards, \
             and at its clock."
        }
        _ => return None,
    };
    Some(advice.to_owned())
}

fn limit(limit: &Limit) -> Vec<String> {
    vec![
        clean(&limit.name),
        limit.used.map_or_else(|| NONE.to_owned(), number),
        number(limit.limit),
        limit.share().map_or_else(|| NONE.to_owned(), words::share),
        limit.exceeded.to_string(),
        clean(&limit.mode),
    ]
}

fn credential(credential: &Credential, now: f64) -> Vec<String> {
    vec![
        clean(&credential.name),
        ago(credential.last_used_timestamp_seconds, now),
        expires(credential.expiry_timestamp_seconds, now),
    ]
}

/// What was refused for one reason, what that means, and what to do.
fn refusal(refusal: &Refusal, reasons: &Reasons, look: &Look) -> String {
    let (reason, count) = (&refusal.reason, refusal.count);
    let last = ago(Some(refusal.last_timestamp_seconds), look.now);
    let mut text = format!("  {}: {count}, the last {last}\n", clean(reason));
    let mut add = |paragraph: &str| text += &wrapped(paragraph, REFUSAL_COLUMNS, look.columns);
    if let Some((meaning, remedy)) = reasons.advice(reason) {
        // What is code there is plain here.
        let plain = |text: &str| clean(&text.replace('`', ""));
        add(&plain(meaning));
        add(&format!("What to do: {}", plain(remedy)));
    }
    let example = clean(&refusal.example);
    let example: String = example.chars().take(EXAMPLE_CHARS_MAX).collect();
    add(&format!("Last example: {example}"));
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
