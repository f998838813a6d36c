//! The clocks of the hubs, as witnesses of the clock here.
//!
//! What is refused because of the time is lost at the spoke, so a clock that is wrong here would cost all spokes
//! what they send. Each response of a hub says in `Date` what time it is there (RFC 9110 section 6.6.1), and no
//! request more is needed for it, unless nothing was sent to any hub yet. What a spoke says of the time is not
//! heard: it could be anything.
//!
//! Nothing tells which of two clocks is wrong. So nothing is refused for good that only one of them asks to be,
//! and people are told that they differ.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::policy::Moment;

use super::hub::Hub;
use super::response::HubResponse;
use super::time;

/// Clocks agree up to this difference: `Date` has whole seconds, and is as old as the response when that has
/// arrived.
const AGREEMENT: Duration = Duration::from_secs(60);

/// The clock of a hub.
#[derive(Debug, Default)]
pub(super) struct HubClock {
    heard: Mutex<Heard>,
    /// Held by the one who asks the hub, for all who wait.
    asking: tokio::sync::Mutex<()>,
}

/// What the responses of a hub said of its clock.
#[derive(Debug, Clone, Copy, Default)]
enum Heard {
    /// There was none.
    #[default]
    Nothing,
    /// There was one, without a time.
    NoTime,
    /// It was this time when a response arrived.
    Time(SystemTime, Instant),
}

impl HubClock {
    /// Takes the time of a response. A fault may come from something before the hub, so it does not show that
    /// the hub says no time.
    pub(super) fn hear(&self, response: &HubResponse) {
        let mut heard = self.heard();
        match (response.date, *heard) {
            (Some(date), _) => *heard = Heard::Time(date, Instant::now()),
            (None, Heard::Nothing) if !response.status.is_server_error() => {
                *heard = Heard::NoTime;
            }
            (None, _) => {}
        }
    }

    /// By how many seconds the hub is ahead of the clock here, or behind it if that is negative; 0 while they
    /// agree, and where the hub says no time. A clock that is set meanwhile, here, is compared as it is now.
    pub(super) fn seconds_ahead(&self) -> i64 {
        match *self.heard() {
            Heard::Time(date, arrived) => {
                let there = date.checked_add(arrived.elapsed());
                difference(there.unwrap_or(date), SystemTime::now())
            }
            Heard::Nothing | Heard::NoTime => 0,
        }
    }

    fn is_heard(&self) -> bool {
        !matches!(*self.heard(), Heard::Nothing)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        // Nothing under the lock can leave it half done.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By how many seconds the time there is ahead of that here; 0 while they agree.
fn difference(there: SystemTime, here: SystemTime) -> i64 {
    let seconds = |it: Duration| i64::try_from(it.as_secs()).unwrap_or(i64::MAX);
    match there.duration_since(here) {
        Ok(ahead) if ahead > AGREEMENT => seconds(ahead),
        Err(behind) if behind.duration() > AGREEMENT => -seconds(behind.duration()),
        _ => 0,
    }
}

/// The time, and whether a hub could say anything about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    /// The time by the clock here and by those of hubs that differ from it.
    pub moment: Moment,
    /// A hub has responded since it is configured.
    pub witnessed: bool,
}

impl Clocks {
    /// What the clocks say now.
    pub(crate) fn read(hubs: &[Arc<Hub>]) -> Self {
        let here = SystemTime::now().duration_since(UNIX_EPOCH);
        let here = here.unwrap_or_default().as_millis();
        let here = i64::try_from(here).unwrap_or(i64::MAX);
        let there = hubs.iter().map(|hub| {
            let ahead = hub.clock().seconds_ahead();
            here.saturating_add(ahead.saturating_mul(1000))
        });
        Self {
            moment: there.fold(here.into(), Moment::or),
            witnessed: hubs.iter().any(|hub| hub.clock().is_heard()),
        }
    }

    /// True when the clock here may be wrong: that of a hub differs, or no hub can be asked. Hubs are only asked
    /// while none has responded. The sender has waited since `started`.
    pub(crate) async fn are_doubtful(hubs: &[Arc<Hub>], started: Instant) -> bool {
        let asked = hubs.iter().map(|hub| async move {
            let deadline = time::deadline(hub.timeout(), started, Instant::now())?;
            let deadline = tokio::time::Instant::from_std(deadline);
            let asked = tokio::time::timeout_at(deadline, ask(hub, deadline.into_std()));
            asked.await.ok()
        });
        let mut asked: FuturesUnordered<_> = asked.collect();
        while !Self::read(hubs).witnessed && asked.next().await.is_some() {}
        let clocks = Self::read(hubs);
        !clocks.witnessed || clocks.moment.is_doubtful()
    }
}

/// Asks a hub for the time, unless it has responded when all are answered who asked before.
async fn ask(hub: &Hub, deadline: Instant) {
    let _asking = hub.clock().asking.lock().await;
    if !hub.clock().is_heard() {
        // Whatever comes of it is known to the clock afterwards.
        let _ = hub.probe(deadline).await;
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn response(status: u16, date: Option<SystemTime>) -> HubResponse {
        HubResponse {
            status: StatusCode::from_u16(status).unwrap(),
            written: None,
            retry_after: None,
            text: String::new(),
            date,
        }
    }

    #[test]
    fn clocks_differ_by_more_than_a_response_takes() {
        let here = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let rows = [(0, 0), (60, 0), (-60, 0), (61, 61), (-61, -61)];
        for (ahead, expected) in rows {
            let there = if ahead < 0 {
                here - Duration::from_secs(-ahead as u64)
            } else {
                here + Duration::from_secs(ahead as u64)
            };
            assert_eq!(difference(there, here), expected as i64, "{ahead}");
        }
    }

    #[test]
    fn a_hub_is_believed_what_it_said_last() {
        let clock = HubClock::default();
        let seen = |clock: &HubClock| (clock.is_heard(), clock.seconds_ahead() / 60);
        let minutes = |it: u64| Some(SystemTime::now() + Duration::from_secs(60 * it + 30));
        clock.hear(&response(503, None));
        assert_eq!(seen(&clock), (false, 0), "it may come from a proxy");
        clock.hear(&response(204, None));
        assert_eq!(seen(&clock), (true, 0), "it says no time");
        clock.hear(&response(503, minutes(90)));
        assert_eq!(seen(&clock), (true, 90));
        clock.hear(&response(204, None));
        assert_eq!(seen(&clock), (true, 90), "its clock goes on");
        clock.hear(&response(204, minutes(0)));
        assert_eq!(seen(&clock), (true, 0));
    }
}
