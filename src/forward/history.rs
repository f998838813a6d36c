//! The last hour of a hub: how much it was sent, how it answered, and how many requests waited.
//!
//! It takes at most [`BYTES_MAX`] bytes. What a request has is counted by the metrics anyway, and
//! the places are looked at once a second. Only a request that failed tells it so, where its code does not.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::metrics::{Durations, HubMetrics};
use crate::shares::Use;
use crate::spoke::hour::{self, Hour, STEPS, Steps};

use super::response::HubResponse;

/// The most bytes that the history of a hub takes.
pub const BYTES_MAX: usize =
    size_of::<History>() + STEPS * size_of::<Step>() + BUCKETS_MAX * size_of::<u64>();

/// The buckets of durations that there is room for.
const BUCKETS_MAX: usize = 32;

/// Codes of requests that say nothing bad of the hub: it refuses what is in the message, or the request is
/// counted again with what comes of it.
const NO_FAILURES: [&str; 5] = ["400", "409", "413", "415", "resent"];

/// How a hub did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubState {
    /// No request ended.
    Idle,
    /// None failed.
    Up,
    /// Some failed.
    Failing,
    /// All failed.
    Down,
}

/// What happened at a hub in one step. All are NaN where hubgate did not run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Requests a second that ended, with a response or without.
    pub requests: f32,
    /// Those of them that the hub did not take though nothing was wrong with them.
    pub failed: f32,
    /// The mean time of those that were sent, in seconds; NaN without one.
    pub duration: f32,
    /// The time in which half of them ended, as far as the buckets of the metric tell.
    pub median: f32,
    /// The time in which 99 of 100 ended.
    pub p99: f32,
    /// The most requests under way at the end of a second.
    pub in_flight: f32,
    /// The most that it was sent at once, at the end of the step.
    pub limit: f32,
    /// The most that waited at the end of a second.
    pub waiting: f32,
}

/// The last hour of a hub.
#[derive(Debug)]
pub struct History(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    hour: Hour<Step>,
    before: Totals,
    /// The requests since the last step that failed although their codes do not say so.
    unsaid: u64,
    /// The most of each since the last step.
    most: Places,
}

/// What was counted since the start.
#[derive(Debug, Clone, Default)]
struct Totals {
    requests: u64,
    failed: u64,
    durations: Durations,
}

#[derive(Debug, Clone, Copy, Default)]
struct Places {
    in_flight: usize,
    waiting: usize,
    limit: usize,
}

impl HubState {
    /// The name that the API uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Up => "up",
            Self::Failing => "failing",
            Self::Down => "down",
        }
    }
}

impl Step {
    const UNKNOWN: Self = Self {
        requests: f32::NAN,
        failed: f32::NAN,
        duration: f32::NAN,
        median: f32::NAN,
        p99: f32::NAN,
        in_flight: f32::NAN,
        limit: f32::NAN,
        waiting: f32::NAN,
    };

    /// How the hub did in it, if hubgate ran.
    pub fn state(&self) -> Option<HubState> {
        if self.requests.is_nan() {
            return None;
        }
        Some(match (self.requests, self.failed) {
            (0.0, _) => HubState::Idle,
            (_, 0.0) => HubState::Up,
            (requests, failed) if failed < requests => HubState::Failing,
            _ => HubState::Down,
        })
    }
}

impl History {
    /// An hour that begins now. What the metrics have counted before is of a hub at another URL.
    pub(super) fn new(metrics: &HubMetrics) -> Self {
        let kept = Kept {
            before: Totals::of(metrics),
            ..Kept::default()
        };
        Self(Mutex::new(kept))
    }

    /// Notices what the places are used for.
    pub(super) fn see(&self, places: Use) {
        let most = &mut self.lock().most;
        most.in_flight = most.in_flight.max(places.taken);
        most.waiting = most.waiting.max(places.waiting);
        most.limit = places.places;
    }

    /// A write failed with this response, after as many requests that the hub did not understand. If their
    /// codes say that the hub does well, it does not.
    pub(super) fn failed(&self, response: &HubResponse, not_understood: u64) {
        let said = is_failure(response.status.as_str());
        self.lock().unsaid += not_understood + u64::from(!said);
    }

    /// The hub answered a probe, which says nothing of the writes of spokes. If all of them fail, the hub is
    /// down, though it answers; and without any it is idle.
    pub(super) fn probed(&self, response: &HubResponse) {
        if !is_failure(response.status.as_str()) {
            self.lock().before.requests += 1;
        }
    }

    /// Ends the step of this number, with what was counted until then.
    pub(super) fn record(&self, number: u64, metrics: &HubMetrics) {
        let mut kept = self.lock();
        let Some(missed) = kept.hour.missed(number) else {
            return;
        };
        let totals = Totals::of(metrics);
        let Kept {
            before,
            most,
            unsaid,
            ..
        } = &*kept;
        let seconds = hour::seconds(missed);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f32 / seconds;
        let durations = totals.durations.since(&before.durations);
        // Without any this is no number, and no duration.
        let mean = Duration::try_from_secs_f64(durations.sum / durations.count() as f64);
        let quantile = |part| {
            let time = Duration::try_from_secs_f64(durations.quantile(part));
            time.map_or(f32::NAN, |time| time.as_secs_f32())
        };
        let step = Step {
            requests: rate(totals.requests, before.requests),
            failed: rate(totals.failed + unsaid, before.failed),
            duration: mean.map_or(f32::NAN, |mean| mean.as_secs_f32()),
            median: quantile(0.5),
            p99: quantile(0.99),
            in_flight: most.in_flight as f32,
            limit: most.limit as f32,
            waiting: most.waiting as f32,
        };
        let limit = most.limit;
        kept.hour.push(number, missed, Step::UNKNOWN, step);
        kept.before = totals;
        kept.unsaid = 0;
        kept.most = Places {
            limit,
            ..Places::default()
        };
    }

    /// The steps, the newest last.
    pub fn shown(&self) -> Steps<Step> {
        self.lock().hour.since(None)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing under the lock can leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Totals {
    fn of(metrics: &HubMetrics) -> Self {
        let requests = metrics.requests();
        let ended = requests.iter().filter(|it| it.code != "resent");
        Self {
            requests: ended.map(|it| it.count).sum(),
            failed: requests
                .iter()
                .filter(|it| is_failure(&it.code))
                .map(|it| it.count)
                .sum(),
            durations: metrics.durations(),
        }
    }
}

fn is_failure(code: &str) -> bool {
    !code.starts_with('2') && !NO_FAILURES.contains(&code)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use crate::wire::Protocol;

    use super::*;

    fn begin() -> (History, HubMetrics) {
        let metrics = HubMetrics::new("hub", None);
        (History::new(&metrics), metrics)
    }

    fn count(metrics: &HubMetrics, codes: &[&str], seconds: u64) {
        for code in codes {
            let duration = Some(Duration::from_secs(seconds));
            metrics.count_request(Protocol::V2, code, duration);
        }
    }

    fn used(taken: usize, waiting: usize) -> Use {
        Use {
            places: 32,
            taken,
            waiting,
        }
    }

    #[test]
    fn a_step_has_what_happened_since_the_one_before() {
        let (history, metrics) = begin();
        count(&metrics, &["204"; 15], 1);
        history.see(used(5, 1));
        history.see(used(3, 0));
        history.record(0, &metrics);
        count(&metrics, &["204", "503", "503", "400"], 2);
        metrics.count_request(Protocol::V2, "resent", None);
        history.record(1, &metrics);
        count(&metrics, &["timeout"], 25);
        history.see(used(1, 0));
        history.record(3, &metrics);
        let steps = history.shown().steps;
        let first = Step {
            requests: 1.0,
            failed: 0.0,
            duration: 1.0,
            // All of them are in the bucket from half a second to one.
            median: 0.75,
            p99: 0.995,
            in_flight: 5.0,
            limit: 32.0,
            waiting: 1.0,
        };
        assert_eq!(steps[0], first);
        let second = (steps[1].requests, steps[1].failed, steps[1].duration);
        assert_eq!(second, (4.0 / 15.0, 2.0 / 15.0, 2.0));
        assert_eq!((steps[1].in_flight, steps[1].limit), (0.0, 32.0));
        assert_eq!((steps[3].failed, steps[3].in_flight), (1.0 / 30.0, 1.0));
        let states: Vec<_> = steps.iter().map(Step::state).collect();
        let expected = [
            Some(HubState::Up),
            Some(HubState::Failing),
            None,
            Some(HubState::Down),
        ];
        assert_eq!(states, expected);
        history.record(4, &metrics);
        let last = history.shown().steps[4];
        assert_eq!(last.state(), Some(HubState::Idle));
        assert!(last.duration.is_nan());
    }

    #[test]
    fn a_probe_is_no_write() {
        let (history, metrics) = begin();
        let response = |status| HubResponse {
            status,
            written: None,
            retry_after: None,
            text: String::new(),
            date: None,
        };
        let not_understood = response(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let probe = |response: &HubResponse| {
            count(&metrics, &[response.status.as_str()], 1);
            history.probed(response);
        };
        probe(&not_understood);
        history.record(0, &metrics);
        // Each write goes on in the other version, and fails there.
        probe(&not_understood);
        count(&metrics, &["415", "415"], 1);
        history.failed(&not_understood, 1);
        history.record(1, &metrics);
        probe(&response(StatusCode::SERVICE_UNAVAILABLE));
        history.record(2, &metrics);
        probe(&response(StatusCode::NO_CONTENT));
        count(&metrics, &["204"], 1);
        history.record(3, &metrics);
        let states: Vec<_> = history.shown().steps.iter().map(Step::state).collect();
        let expected = [HubState::Idle, HubState::Down, HubState::Down, HubState::Up];
        assert_eq!(states, expected.map(Some));
    }

    #[test]
    fn a_write_that_failed_is_a_failure_whatever_its_code_says() {
        let (history, metrics) = begin();
        let response = |status| HubResponse {
            status,
            written: None,
            retry_after: None,
            text: String::new(),
            date: None,
        };
        count(&metrics, &["204", "503", "415", "415"], 1);
        history.failed(&response(StatusCode::NO_CONTENT), 0);
        history.failed(&response(StatusCode::SERVICE_UNAVAILABLE), 0);
        history.failed(&response(StatusCode::UNSUPPORTED_MEDIA_TYPE), 1);
        history.record(0, &metrics);
        count(&metrics, &["204"], 1);
        history.record(1, &metrics);
        let states: Vec<_> = history.shown().steps.iter().map(Step::state).collect();
        assert_eq!(states, [Some(HubState::Down), Some(HubState::Up)]);
    }

    #[test]
    fn what_was_counted_at_another_url_is_not_of_the_first_step() {
        let (_, metrics) = begin();
        count(&metrics, &["503"; 1000], 1);
        let history = History::new(&metrics);
        count(&metrics, &["204"; 15], 2);
        history.record(7, &metrics);
        let first = history.shown().steps[0];
        let shown = (first.requests, first.failed, first.duration);
        assert_eq!(shown, (1.0, 0.0, 2.0));
    }

    #[test]
    fn an_hour_takes_the_bytes_that_are_promised() {
        let (history, metrics) = begin();
        for number in 0..1000 {
            history.record(number, &metrics);
        }
        let kept = history.lock();
        let buckets = kept.before.durations.counts.capacity() * size_of::<u64>();
        let bytes = size_of::<History>() + kept.hour.bytes() + buckets;
        assert!(bytes <= BYTES_MAX, "{bytes} of {BYTES_MAX}");
        const { assert!(BYTES_MAX <= 8 << 10) };
    }
}
