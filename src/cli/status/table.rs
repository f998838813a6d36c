//! The table of all spokes, as `kubectl get` prints one, and how its cells are written.

use std::fmt::Write as _;
use std::time::Duration;

use super::Look;
use super::answers::{Spoke, worst_first};
use crate::printable::clean;
use crate::telemetry::words;

/// The seconds for which a refusal counts as one of now, as for the conditions.
const RECENT_SECONDS: f64 = 300.0;

/// The lag from which on it is shown whether it falls.
const TREND_FROM_SECONDS: f64 = 120.0;

/// The longest name of a metric, in characters.
const METRIC_CHARS_MAX: usize = 80;

/// Metrics that a row names.
const GROWING_IN_A_ROW: usize = 2;

/// The mode of a limit that refuses nothing.
const OBSERVE: &str = "observe";

/// The table of all spokes; those with the worst condition come first.
pub(super) fn spokes(spokes: &[Spoke], wide: bool, look: &Look) -> String {
    let &Look { now, colour, .. } = look;
    let mut titles = vec![
        "NAME",
        "STATE",
        "SAMPLES/S",
        "LAG",
        "LAST WRITE",
        "REFUSALS",
        "LIMIT",
    ];
    if wide {
        titles.extend(["EXPIRES", "GROWING", "PROTOCOL", "ADDRESS", "SENDER"]);
    }
    let mut sorted: Vec<_> = spokes.iter().collect();
    sorted.sort_by_key(|it| (rank(it), it.name.as_str()));
    let rows = sorted.into_iter().map(|spoke| {
        let mut row = vec![
            clean(&spoke.name),
            states(spoke, now),
            number(spoke.samples_per_second),
            lag(spoke),
            ago(spoke.last_write_timestamp_seconds, now),
            refused(spoke, now),
            tightest(spoke),
        ];
        if wide {
            let address = spoke.source_addresses.first();
            row.extend([
                expires(spoke.credential_expiry_timestamp_seconds, now),
                growing(spoke, GROWING_IN_A_ROW),
                or_none(spoke.protocol.as_deref()),
                or_none(address.map(String::as_str)),
                or_none(Some(spoke.user_agent.as_str())),
            ]);
        }
        (row, colour.then(|| colour_of(spoke)).flatten())
    });
    aligned(&titles, rows.collect())
}

pub(super) const RESET: &str = "\x1b[0m";

pub(super) fn colour_of(spoke: &Spoke) -> Option<&'static str> {
    match spoke.conditions.first()?.as_str() {
        "writing" => Some("\x1b[32m"),
        "late" | "limited" | "failing" => Some("\x1b[33m"),
        _ => Some("\x1b[31m"),
    }
}

fn rank(spoke: &Spoke) -> usize {
    let worst = spoke.conditions.first();
    worst.map_or(0, |worst| worst_first(worst))
}

/// What is true of a spoke, and why where it is its credential.
pub(super) fn states(spoke: &Spoke, now: f64) -> String {
    let states = clean(&spoke.conditions.join(","));
    match spoke.expired(now) {
        Some(_) => format!("{states} (credential expired)"),
        None => states,
    }
}

/// When a credential expires, or did.
pub(super) fn expires(expiry: Option<f64>, now: f64) -> String {
    match expiry {
        None => "never".to_owned(),
        Some(end) if end <= now => format!("{} ago", time(now - end)),
        Some(end) => format!("in {}", time(end - now)),
    }
}

pub(super) fn lag(spoke: &Spoke) -> String {
    match (spoke.lag_seconds, spoke.lag_trend.as_deref()) {
        (None, _) => NONE.to_owned(),
        (Some(lag), _) if lag < 0.0 => format!("{} ahead", time(-lag)),
        // What is not far behind goes to and fro.
        (Some(lag), Some(trend)) if lag >= TREND_FROM_SECONDS => {
            format!("{}, {}", time(lag), clean(trend))
        }
        (Some(lag), _) => time(lag),
    }
}

pub(super) const NONE: &str = "-";

pub(super) fn or_none(text: Option<&str>) -> String {
    text.filter(|it| !it.is_empty())
        .map_or_else(|| NONE.to_owned(), clean)
}

fn refused(spoke: &Spoke, now: f64) -> String {
    let recent = spoke.refusals.iter();
    let recent = recent.filter(|it| now - it.last_timestamp_seconds < RECENT_SECONDS);
    let reasons: Vec<_> = recent.map(|it| clean(&it.reason)).collect();
    let reasons = reasons.join(",");
    match reasons.is_empty() {
        true => NONE.to_owned(),
        false if spoke.rejected_ratio > 0.0 => {
            format!("{} {reasons}", words::share(spoke.rejected_ratio))
        }
        false => reasons,
    }
}

/// The limit that the spoke is closest to, and the one that it exceeds most of those that refuse nothing.
fn tightest(spoke: &Spoke) -> String {
    let closest = |observed: bool| {
        let limits = spoke.limits.iter();
        let limits = limits.filter(|it| (it.mode == OBSERVE) == observed);
        let used = limits.filter_map(|it| Some((it.share()?, it)));
        used.max_by(|a, b| a.0.total_cmp(&b.0))
    };
    let enforced = closest(false);
    let observed = closest(true).filter(|it| it.0 >= 1.0 || enforced.is_none());
    let shown = enforced.into_iter().chain(observed).map(|(share, limit)| {
        let mode = match limit.mode.as_str() {
            OBSERVE => " (observe)",
            _ => "",
        };
        format!("{} {}{mode}", words::share(share), clean(&limit.name))
    });
    or_none_clean(shown.collect::<Vec<_>>().join(", "))
}

/// The metrics that most new series came from, and how many.
pub(super) fn growing(spoke: &Spoke, most: usize) -> String {
    let growing = spoke.active_series.iter().flat_map(|it| &it.growing);
    let named = growing.take(most).map(|it| {
        let metric: String = clean(&it.metric).chars().take(METRIC_CHARS_MAX).collect();
        format!("{metric} +{}", it.new)
    });
    let named: Vec<_> = named.collect();
    or_none_clean(named.join(", "))
}

fn or_none_clean(text: String) -> String {
    if text.is_empty() {
        NONE.to_owned()
    } else {
        text
    }
}

pub(super) fn number(number: f64) -> String {
    for (unit, size) in [("G", 1e9), ("M", 1e6), ("k", 1e3)] {
        if number >= size {
            return format!("{:.1}{unit}", number / size);
        }
    }
    match number {
        100.0.. => format!("{number:.0}"),
        _ => format!("{number:.1}").trim_end_matches(".0").to_owned(),
    }
}

pub(super) fn time(seconds: f64) -> String {
    words::time(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

pub(super) fn ago(timestamp: Option<f64>, now: f64) -> String {
    timestamp.map_or_else(
        || "never".to_owned(),
        |it| format!("{} ago", time(now - it)),
    )
}

/// Rows in columns, each row in a colour or in none.
pub(super) fn aligned(titles: &[&str], rows: Vec<(Vec<String>, Option<&'static str>)>) -> String {
    let titles = titles.iter().map(|&it| it.to_owned()).collect();
    let all: Vec<_> = std::iter::once((titles, None)).chain(rows).collect();
    let columns = all[0].0.len();
    let width = |column: usize| {
        let widths = all.iter().map(|(row, _)| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (row, paint) in all {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}   ");
        }
        let line = line.trim_end();
        let _ = match paint {
            Some(paint) => writeln!(text, "{paint}{line}{RESET}"),
            None => writeln!(text, "{line}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 0.25, 12.0, 54.76, 1234.0, 5e6, 7.25e9].map(number);
        assert_eq!(numbers, ["0", "0.2", "12", "54.8", "1.2k", "5.0M", "7.2G"]);
    }

    #[test]
    fn a_limit_that_only_counts_hides_none_that_refuses() {
        let limit = |name: &str, mode: &str, used: f64| {
            let (limit, exceeded) = (100.0, 0);
            json!({"name": name, "mode": mode, "limit": limit, "used": used, "exceeded": exceeded})
        };
        let rate = |mode, used| limit("samples_per_second", mode, used);
        let series = |mode, used| limit("active_series_max", mode, used);
        for (limits, shown) in [
            (vec![], "-"),
            (vec![rate("enforce", 42.0)], "42 % samples_per_second"),
            (
                vec![rate("observe", 240.0)],
                "240 % samples_per_second (observe)",
            ),
            (
                vec![rate("observe", 240.0), series("enforce", 95.0)],
                "95 % active_series_max, 240 % samples_per_second (observe)",
            ),
            (
                vec![rate("observe", 99.0), series("enforce", 95.0)],
                "95 % active_series_max",
            ),
        ] {
            assert_eq!(tightest(&Spoke::with(json!({"limits": limits}))), shown);
        }
    }

    #[test]
    fn a_lag_that_matters_has_a_trend() {
        let shown = |seconds: f64, trend: Option<&str>| {
            lag(&Spoke::with(
                json!({"lag_seconds": seconds, "lag_trend": trend}),
            ))
        };
        assert_eq!(shown(1500.0, Some("falling")), "25 min, falling");
        assert_eq!(shown(1500.0, None), "25 min");
        assert_eq!(shown(15.0, Some("steady")), "15 s");
        assert_eq!(shown(-15.0, Some("steady")), "15 s ahead");
    }

    #[test]
    fn a_spoke_whose_credential_expired_is_not_just_away() {
        let state = |condition: &str, expiry: Option<f64>| {
            let fields =
                json!({"conditions": [condition], "credential_expiry_timestamp_seconds": expiry});
            states(&Spoke::with(fields), 1000.0)
        };
        assert_eq!(state("silent", Some(1000.0)), "silent (credential expired)");
        assert_eq!(state("silent", Some(1001.0)), "silent");
        assert_eq!(state("never_came", None), "never_came");
        // Another one is good.
        assert_eq!(state("writing", Some(900.0)), "writing");
        assert_eq!(expires(Some(880.0), 1000.0), "2 min ago");
        assert_eq!(expires(Some(4600.0), 1000.0), "in 60 min");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = vec![
            (vec!["long".to_owned(), "x".to_owned()], None),
            (vec!["é".to_owned(), "y".to_owned()], Some("\x1b[31m")),
        ];
        let expected = "A      B\nlong   x\n\x1b[31mé      y\x1b[0m\n";
        assert_eq!(aligned(&["A", "B"], rows), expected);
    }
}
