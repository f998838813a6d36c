//! How the spokes are, in one sentence: how many write, and of each condition the worst spoke.

use std::time::{Duration, SystemTime};

use crate::spoke::Spoke;
use crate::spoke::condition::{Condition, LATE_AFTER, SILENT_AFTER, lag};
use crate::spoke::history::LagTrend;
use crate::telemetry::words;

use super::spokes::{credential_expiry, rejected_ratio};
use super::unix_seconds;

/// What the sentence needs of a spoke.
#[derive(Debug)]
pub(super) struct Seen {
    name: String,
    conditions: Vec<Condition>,
    /// The time since something of it was last written.
    silent: Option<Duration>,
    lag: Option<Duration>,
    lag_trend: Option<LagTrend>,
    /// The reason of its worst condition, if a refusal is one.
    reason: Option<&'static str>,
    rejected_ratio: f64,
    /// The credential that it used has expired.
    expired: bool,
}

impl Seen {
    pub(super) fn of(spoke: &Spoke, now: SystemTime) -> Self {
        let lag_trend = spoke.history.lag_trend(SILENT_AFTER);
        let rejected_ratio = rejected_ratio(spoke);
        let expired = credential_expiry(spoke).is_some_and(|it| it <= unix_seconds(now));
        spoke.status.look(|seen| {
            let conditions = Condition::of(seen, now);
            let causes = seen.refusals.iter();
            let causes =
                causes.filter(|it| conditions.first() == Some(&Condition::of_reason(it.reason)));
            let last = causes.max_by_key(|it| it.last);
            let since = |time| now.duration_since(time).unwrap_or_default();
            Self {
                silent: seen.last_write.map(since),
                lag: lag(seen, now),
                lag_trend,
                reason: last.map(|it| it.reason),
                rejected_ratio,
                expired,
                name: spoke.name.clone(),
                conditions,
            }
        })
    }

    /// What an operator should know first.
    pub(super) fn worst(&self) -> Condition {
        self.conditions
            .first()
            .copied()
            .unwrap_or(Condition::Writing)
    }

    fn writes(&self) -> bool {
        self.silent.is_some_and(|it| it <= SILENT_AFTER)
    }

    /// How bad its condition is among those of the same kind.
    fn severity(&self) -> f64 {
        let seconds = |time: Option<Duration>| time.map_or(f64::INFINITY, |it| it.as_secs_f64());
        match self.worst() {
            Condition::NeverCame | Condition::Writing => 0.0,
            Condition::Silent | Condition::Failing => seconds(self.silent),
            Condition::Refused => self.rejected_ratio,
            Condition::Limited | Condition::Late => seconds(self.lag),
        }
    }

    /// Its trouble in a few words, at a hubgate that runs for this time.
    fn trouble(&self, up: Duration) -> String {
        let Self { name, .. } = self;
        let reason = self.reason.unwrap_or_default();
        match self.worst() {
            Condition::Writing => format!("{name} writes"),
            Condition::NeverCame if up <= SILENT_AFTER => {
                let up = words::time(up);
                format!(
                    "{name} has not come in the {up} since hubgate started{}",
                    self.why()
                )
            }
            Condition::NeverCame => format!("{name} never came{}", self.why()),
            Condition::Silent => match self.silent {
                Some(time) => {
                    let time = words::time(time);
                    format!("{name} has been silent for {time}{}", self.why())
                }
                None => format!("{name} has not written yet{}", self.why()),
            },
            Condition::Refused if self.rejected_ratio > 0.0 => {
                let share = words::share(self.rejected_ratio);
                format!("{share} of {name} is refused ({reason})")
            }
            Condition::Refused => format!("requests of {name} are refused ({reason})"),
            Condition::Failing => format!("requests of {name} fail ({reason})"),
            Condition::Limited => match self.late() {
                Some(lag) => format!(
                    "{name} is held back ({reason}), {lag} behind{}",
                    self.course()
                ),
                None => format!("{name} is held back ({reason}){}", self.course()),
            },
            Condition::Late => {
                let lag = words::time(self.lag.unwrap_or_default());
                format!("{name} is {lag} behind{}", self.course())
            }
        }
    }

    /// What keeps it away, if that is known.
    fn why(&self) -> &'static str {
        match self.expired {
            true => " (its credential has expired)",
            false => "",
        }
    }

    /// How far it is behind, if that is much.
    fn late(&self) -> Option<String> {
        let lag = self.lag.filter(|lag| *lag > LATE_AFTER)?;
        Some(words::time(lag))
    }

    /// Whether it catches up.
    fn course(&self) -> &'static str {
        match self.lag_trend {
            None => "",
            Some(LagTrend::Falling) => " and catches up",
            Some(LagTrend::Rising) if self.late().is_some() => " and falls further behind",
            Some(LagTrend::Rising) => " and falls behind",
            Some(LagTrend::Steady) if self.late().is_some() => " and does not catch up",
            Some(LagTrend::Steady) => " and keeps up",
        }
    }
}

/// How the spokes are, at a hubgate that runs for this time.
pub(super) fn of(spokes: &[Seen], up: Duration) -> String {
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
    let troubled = spokes.iter().filter(|it| it.worst() != Condition::Writing);
    let mut troubled: Vec<_> = troubled.collect();
    troubled.sort_by(|a, b| {
        let worse = b.severity().total_cmp(&a.severity());
        a.worst().cmp(&b.worst()).then(worse)
    });
    for alike in troubled.chunk_by(|a, b| a.worst() == b.worst()) {
        let [worst, more @ ..] = alike else {
            continue;
        };
        sentence = sentence + "; " + &worst.trouble(up);
        let condition = worst.worst().name().replace('_', " ");
        let are = match (worst.worst(), more.len()) {
            (_, 0) => continue,
            (Condition::NeverCame, _) => "",
            (_, 1) => "is ",
            (_, _) => "are ",
        };
        sentence += &format!(", and {} more {are}{condition}", more.len());
    }
    sentence + "."
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_hours(1);

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
            lag_trend: None,
            reason: Some("some_reason"),
            rejected_ratio: 0.001,
            expired: false,
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
                6,
                "4 of 6 spokes write; f never came; c has been silent for 12 min; 0.1 % of d is refused \
                 (some_reason); e is held back (some_reason), 25 min behind; b is 25 min behind.",
            ),
        ];
        for (count, text) in expected {
            assert_eq!(of(&all[..count], LONG), text);
        }
        assert_eq!(
            of(&all[5..], LONG),
            "The only spoke does not write; f never came."
        );
    }

    /// Each condition has its worst spoke, wherever that is in the configuration.
    #[test]
    fn the_worst_spoke_of_a_condition_is_named_and_the_others_are_counted() {
        let share = |name: &str, rejected_ratio| Seen {
            rejected_ratio,
            ..seen(name, Condition::Refused)
        };
        let late = |name: &str, minutes| Seen {
            lag: Some(Duration::from_mins(minutes)),
            ..seen(name, Condition::Late)
        };
        let came = |name| seen(name, Condition::NeverCame);
        let all = [
            came("a"),
            came("b"),
            came("c"),
            share("d", 0.01),
            share("e", 0.4),
            share("f", 0.2),
            late("g", 11),
            late("h", 30),
        ];
        assert_eq!(
            of(&all, LONG),
            "5 of 8 spokes write; a never came, and 2 more never came; 40 % of e is refused (some_reason), \
             and 2 more are refused; h is 30 min behind, and 1 more is late."
        );
    }

    #[test]
    fn whoever_has_not_come_may_still_come() {
        let spokes = [seen("a", Condition::NeverCame)];
        assert_eq!(
            of(&spokes, Duration::from_secs(40)),
            "The only spoke does not write; a has not come in the 40 s since hubgate started."
        );
    }

    #[test]
    fn an_expired_credential_is_told_of_whoever_does_not_come() {
        let expired = |condition| Seen {
            expired: true,
            ..seen("a", condition)
        };
        let text = |condition| expired(condition).trouble(LONG);
        let never = "a never came (its credential has expired)";
        assert_eq!(text(Condition::NeverCame), never);
        let silent = "a has been silent for 12 min (its credential has expired)";
        assert_eq!(text(Condition::Silent), silent);
        // It has another one.
        assert_eq!(text(Condition::Late), "a is 25 min behind");
    }

    #[test]
    fn a_spoke_that_is_held_back_catches_up_or_does_not() {
        let text = |condition, minutes, lag_trend| {
            let spoke = Seen {
                lag: Some(Duration::from_mins(minutes)),
                lag_trend: Some(lag_trend),
                ..seen("a", condition)
            };
            spoke.trouble(LONG)
        };
        let expected = [
            (
                Condition::Limited,
                1,
                LagTrend::Steady,
                "a is held back (some_reason) and keeps up",
            ),
            (
                Condition::Limited,
                1,
                LagTrend::Rising,
                "a is held back (some_reason) and falls behind",
            ),
            (
                Condition::Limited,
                20,
                LagTrend::Falling,
                "a is held back (some_reason), 20 min behind and catches up",
            ),
            (
                Condition::Late,
                20,
                LagTrend::Steady,
                "a is 20 min behind and does not catch up",
            ),
            (
                Condition::Late,
                20,
                LagTrend::Rising,
                "a is 20 min behind and falls further behind",
            ),
        ];
        for (condition, minutes, trend, expected) in expected {
            assert_eq!(text(condition, minutes, trend), expected);
        }
    }
}
