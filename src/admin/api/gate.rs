//! `GET /api/v1/status`: hubgate itself, and how its spokes are in one sentence.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::time::Instant;

use crate::admin::Sources;
use crate::admin::reload::LoadError;
use crate::metrics::InUse;
use crate::reasons::Limit;
use crate::spoke::Spoke;
use crate::spoke::condition::{Condition, SILENT_AFTER, lag};
use crate::telemetry::words;

use super::ahead::{self, Ahead};
use super::spokes::rejected_ratio;
use super::{ever, unix_seconds};

/// The troubles that the sentence names. The rest is a number.
const NAMED_MAX: usize = 3;

/// The body of the response.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    /// How the spokes are, in one sentence.
    summary: String,
    version: &'static str,
    /// The commit; empty where the build does not know it.
    revision: &'static str,
    start_timestamp_seconds: f64,
    /// The time at which this was true.
    timestamp_seconds: f64,
    configuration: Configuration,
    /// The spokes by their worst condition.
    spokes: BTreeMap<&'static str, usize>,
    bytes_in_flight: InUseStatus,
    connections: InUseStatus,
    certificates: Vec<Certificate>,
    /// A sentence for each thing that ends soon or is nearly full, the most urgent first.
    ahead: Vec<String>,
    /// Null where none goes on.
    capture: Option<CaptureStatus>,
}

/// A capture that goes on.
#[derive(Debug, Serialize)]
struct CaptureStatus {
    /// The spoke whose refused requests are captured.
    spoke: String,
    /// When it ends at the latest.
    end_timestamp_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Configuration {
    /// When the configuration in force was loaded.
    last_success_timestamp_seconds: f64,
    /// When hubgate last tried to load one.
    last_load_timestamp_seconds: f64,
    /// What is wrong with the one that it tried to load; the one before is in force.
    errors: Vec<LoadError>,
}

#[derive(Debug, Serialize)]
struct InUseStatus {
    used: i64,
    limit: i64,
}

/// A certificate that hubgate shows.
#[derive(Debug, Serialize)]
struct Certificate {
    /// Where it is shown: `write` or `admin` for the listeners, else the name of a hub.
    shown_to: String,
    expiry_timestamp_seconds: f64,
}

impl Status {
    pub(super) fn of(sources: &Sources) -> Self {
        let state = sources.state.load();
        let now = SystemTime::now();
        let spokes: Vec<_> = state.spokes.iter().map(|it| Seen::of(it, now)).collect();
        let mut by_condition: BTreeMap<_, _> = Condition::ALL
            .into_iter()
            .map(|it| (it.name(), 0))
            .collect();
        for seen in &spokes {
            *by_condition.entry(seen.worst().name()).or_default() += 1;
        }
        let load = sources.last_load.load();
        let config = &state.config;
        let listeners = [
            ("write", &config.listen.rules),
            ("admin", &config.admin.rules),
        ];
        let listeners = listeners.into_iter().filter_map(|(name, rules)| {
            let expiry = rules.tls.as_ref()?.validity().not_after;
            Some((name.to_owned(), expiry))
        });
        let hubs = config.hubs.iter().filter_map(|hub| {
            let expiry = hub.tls.as_ref()?.validity?.not_after;
            Some((hub.name.clone(), expiry))
        });
        let certificates = listeners.chain(hubs).map(|(shown_to, expiry)| Certificate {
            shown_to,
            expiry_timestamp_seconds: unix_seconds(expiry),
        });
        let certificates: Vec<_> = certificates.collect();
        let bytes_in_flight = InUseStatus::of(sources.metrics.bytes_in_use());
        let connections = InUseStatus::of(sources.metrics.connections_in_use());
        let mut ahead = Ahead::new(unix_seconds(now));
        for it in &certificates {
            let what = || format!("certificate for {}", it.shown_to);
            ahead.ends(what, it.expiry_timestamp_seconds);
        }
        for spoke in &state.spokes {
            look_ahead(spoke, &mut ahead);
        }
        for (what, in_use, most) in [
            ("bytes in flight", &bytes_in_flight, ahead::BYTES_SHARE),
            ("connections", &connections, ahead::CONNECTIONS_SHARE),
        ] {
            let what = || format!("the {what} that may be are");
            ahead.fills(what, in_use.share(), most);
        }
        Self {
            summary: sentence(&spokes),
            version: env!("CARGO_PKG_VERSION"),
            revision: env!("HUBGATE_REVISION"),
            start_timestamp_seconds: unix_seconds(sources.started),
            timestamp_seconds: unix_seconds(now),
            configuration: Configuration {
                last_success_timestamp_seconds: unix_seconds(load.succeeded),
                last_load_timestamp_seconds: unix_seconds(load.ended),
                errors: load.errors.clone(),
            },
            spokes: by_condition,
            bytes_in_flight,
            connections,
            certificates,
            ahead: ahead.sentences(),
            capture: sources.captures.current().map(|it| {
                let terms = it.terms();
                let left = terms.until.saturating_duration_since(Instant::now());
                CaptureStatus {
                    spoke: terms.spoke.clone(),
                    end_timestamp_seconds: unix_seconds(now + left),
                }
            }),
        }
    }
}

impl InUseStatus {
    fn of(InUse { used, limit }: InUse) -> Self {
        Self { used, limit }
    }

    fn share(&self) -> f64 {
        self.used as f64 / self.limit as f64
    }
}

/// Notices which credential of a spoke ends, and which of its limits were nearly full when the last step of
/// its history ended.
fn look_ahead(spoke: &Spoke, ahead: &mut Ahead) {
    for times in spoke.metrics.credential_times() {
        if let Some(expiry) = ever(times.expiry) {
            ahead.credential_ends(&spoke.name, times.name, times.last_used, expiry);
        }
    }
    let Some(step) = spoke.history.newest() else {
        return;
    };
    for limit in Limit::ALL {
        let what = || format!("{} of {} is", limit.name(), spoke.name);
        ahead.fills(what, step.limit(limit).into(), ahead::LIMIT_SHARE);
    }
}

/// What the sentence needs of a spoke.
#[derive(Debug)]
struct Seen {
    name: String,
    conditions: Vec<Condition>,
    /// The time since something of it was last written.
    silent: Option<Duration>,
    lag: Option<Duration>,
    /// The reason of its worst condition, if a refusal is one.
    reason: Option<&'static str>,
    rejected_ratio: f64,
}

impl Seen {
    fn of(spoke: &Spoke, now: SystemTime) -> Self {
        let snapshot = spoke.status.snapshot();
        let conditions = Condition::of(&snapshot, now);
        let causes = snapshot.refusals.iter();
        let causes =
            causes.filter(|it| conditions.first() == Some(&Condition::of_reason(it.reason)));
        let last = causes.max_by_key(|it| it.last);
        let since = |time| now.duration_since(time).unwrap_or_default();
        Self {
            silent: snapshot.last_write.map(since),
            lag: lag(&snapshot, now),
            reason: last.map(|it| it.reason),
            rejected_ratio: rejected_ratio(spoke),
            name: spoke.name.clone(),
            conditions,
        }
    }

    /// What an operator should know first.
    fn worst(&self) -> Condition {
        self.conditions
            .first()
            .copied()
            .unwrap_or(Condition::Writing)
    }

    fn writes(&self) -> bool {
        self.silent.is_some_and(|it| it <= SILENT_AFTER)
    }

    /// Its trouble in a few words; none where there is none.
    fn trouble(&self) -> Option<String> {
        let Self { name, .. } = self;
        let reason = self.reason.unwrap_or_default();
        Some(match self.worst() {
            Condition::Writing => return None,
            Condition::NeverCame => format!("{name} never came"),
            Condition::Silent => match self.silent {
                Some(time) => format!("{name} has been silent for {}", words::time(time)),
                None => format!("{name} has not written yet"),
            },
            Condition::Refused if self.rejected_ratio > 0.0 => {
                let share = words::share(self.rejected_ratio);
                format!("{share} of {name} is refused ({reason})")
            }
            Condition::Refused => format!("requests of {name} are refused ({reason})"),
            Condition::Failing => format!("requests of {name} fail ({reason})"),
            Condition::Limited => format!("{name} is held back ({reason})"),
            Condition::Late => {
                let lag = words::time(self.lag.unwrap_or_default());
                format!("{name} is {lag} behind")
            }
        })
    }
}

/// How the spokes are: how many write, and the worst troubles first.
fn sentence(spokes: &[Seen]) -> String {
    let writing = spokes.iter().filter(|it| it.writes()).count();
    let all = spokes.len();
    let mut sentence = match (writing, all) {
        (_, 0) => return "No spoke is configured.".to_owned(),
        (0, 1) => "The only spoke does not write".to_owned(),
        (1, 1) => "The only spoke writes".to_owned(),
        (_, _) if writing == all => format!("All {all} spokes write"),
        (1, _) => format!("1 of {all} spokes writes"),
        (_, _) => format!("{writing} of {all} spokes write"),
    };
    let mut troubled: Vec<_> = spokes.iter().collect();
    troubled.sort_by_key(|it| it.worst());
    let troubles: Vec<_> = troubled.iter().filter_map(|it| it.trouble()).collect();
    for trouble in troubles.iter().take(NAMED_MAX) {
        sentence = sentence + "; " + trouble;
    }
    match troubles.len().saturating_sub(NAMED_MAX) {
        0 => {}
        1 => sentence += "; 1 more has trouble",
        more => sentence += &format!("; {more} more have trouble"),
    }
    sentence + "."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, condition: Condition) -> Seen {
        let silent = match condition {
            Condition::NeverCame => None,
            Condition::Silent => Some(Duration::from_secs(720)),
            _ => Some(Duration::from_secs(5)),
        };
        Seen {
            name: name.to_owned(),
            conditions: vec![condition],
            silent,
            lag: Some(Duration::from_secs(1500)),
            reason: Some("some_reason"),
            rejected_ratio: 0.001,
        }
    }

    #[test]
    fn one_sentence_says_how_the_spokes_are() {
        let all = [
            seen("a", Condition::Writing),
            seen("b", Condition::Late),
            seen("c", Condition::Silent),
            seen("d", Condition::Refused),
            seen("e", Condition::Limited),
            seen("f", Condition::NeverCame),
        ];
        let expected = [
            (0, "No spoke is configured."),
            (1, "The only spoke writes."),
            (2, "All 2 spokes write; b is 25 min behind."),
            (
                3,
                "2 of 3 spokes write; c has been silent for 12 min; b is 25 min behind.",
            ),
            (
                4,
                "3 of 4 spokes write; c has been silent for 12 min; 0.1 % of d is refused (some_reason); \
                 b is 25 min behind.",
            ),
            (
                6,
                "4 of 6 spokes write; f never came; c has been silent for 12 min; 0.1 % of d is refused \
                 (some_reason); 2 more have trouble.",
            ),
        ];
        for (count, text) in expected {
            assert_eq!(sentence(&all[..count]), text);
        }
        assert_eq!(
            sentence(&all[5..]),
            "The only spoke does not write; f never came."
        );
    }
}
