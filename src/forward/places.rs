//! The places at a hub: how many requests it is sent at once, and whose is next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::reasons::HubFailure;
use crate::shares::{Place, Share, Shares, Use};

use super::concurrency::{Concurrency, Ended, Sign};
use super::response::HubResponse;
use super::time;

/// How long a request waits for a place, and no longer than half of the time that it has left.
/// Prometheus gives a request up after 30 s (`remote_timeout`).
const PATIENCE: Duration = Duration::from_secs(10);

/// The places at one hub.
#[derive(Debug)]
pub(super) struct Places {
    shares: Arc<Shares>,
    concurrency: Mutex<Concurrency>,
}

/// A request that has a place.
#[derive(Debug)]
pub(super) struct Sending<'p> {
    places: &'p Places,
    _place: Place,
    spoke: u64,
    began: Instant,
    bytes: usize,
    /// The hub has enough time to respond, so a timeout says something about it.
    in_time: bool,
}

impl Default for Places {
    fn default() -> Self {
        let concurrency = Concurrency::new(Instant::now());
        Self {
            shares: Shares::new(concurrency.limit()),
            concurrency: Mutex::new(concurrency),
        }
    }
}

impl Places {
    /// Waits for a place for a message of `bytes`. It has time until `deadline`; a hub that does its work
    /// needs much less than `timeout`.
    pub(super) async fn enter(
        &self,
        share: Share,
        bytes: usize,
        deadline: Instant,
        timeout: Duration,
    ) -> Result<Sending<'_>, HubFailure> {
        let left = |now| deadline.saturating_duration_since(now);
        let patience = PATIENCE.min(left(Instant::now()) / 2);
        match self.shares.enter(share, patience).await {
            Ok(place) => {
                let began = Instant::now();
                Ok(Sending {
                    places: self,
                    _place: place,
                    spoke: share.id(),
                    began,
                    bytes,
                    in_time: time::is_enough(deadline, timeout, began),
                })
            }
            Err(crowded) => Err(HubFailure::Busy {
                seconds: crowded.retry_after.as_secs() + 1,
            }),
        }
    }

    /// Looks at the hub once a second, and returns what the places are used for.
    pub(super) fn tick(&self) -> Use {
        let mut concurrency = self.concurrency();
        let taken = self.shares.usage().taken;
        let limit = concurrency.tick(taken, Instant::now());
        self.shares.set_places(limit);
        self.shares.usage()
    }

    fn concurrency(&self) -> MutexGuard<'_, Concurrency> {
        // Nothing under the lock can leave it half done.
        self.concurrency
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sending<'_> {
    /// The request ended, and its place becomes free.
    pub(super) fn ended(self, result: &Result<HubResponse, HubFailure>) {
        let shares = &self.places.shares;
        let ended = Ended {
            began: self.began,
            spoke: self.spoke,
            bytes: self.bytes,
            sign: match result {
                Err(HubFailure::Timeout) if !self.in_time => Sign::Unheard,
                _ => sign(result),
            },
            in_flight: shares.usage().taken,
        };
        let mut concurrency = self.places.concurrency();
        let before = concurrency.limit();
        let limit = concurrency.ended(&ended, Instant::now());
        if limit != before {
            shares.set_places(limit);
        }
    }
}

/// What the end of a request says about the load of the hub.
fn sign(result: &Result<HubResponse, HubFailure>) -> Sign {
    match result {
        Ok(response) => match response.status {
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Sign::Overloaded,
            status if status.is_success() => Sign::Served,
            // It stored what it did not refuse.
            _ if response.written.is_some_and(|written| !written.is_empty()) => Sign::Served,
            // A refusal takes less time than to store something, and a 429 is mostly about one tenant.
            _ => Sign::None,
        },
        // A connection may also be reset for what one message holds.
        Err(HubFailure::Reset) => Sign::Reset,
        Err(HubFailure::Timeout) => Sign::Overloaded,
        Err(HubFailure::Connect | HubFailure::Tls) => Sign::Unreachable,
        Err(HubFailure::Busy { .. } | HubFailure::Skipped) => Sign::Unheard,
    }
}

#[cfg(test)]
mod tests {
    use super::super::concurrency::{LIMIT_FIRST, LIMIT_MIN};
    use super::*;

    /// One message may have a hub close its connection, which must not slow the others.
    #[tokio::test]
    async fn only_many_resets_lower_the_limit() {
        let places = Places::default();
        let minute = Duration::from_secs(60);
        let reset = async || {
            let deadline = Instant::now() + minute;
            let sending = places.enter(Share::default(), 1000, deadline, minute);
            sending.await.unwrap().ended(&Err(HubFailure::Reset));
            places.shares.usage().places
        };
        assert_eq!(reset().await, LIMIT_FIRST);
        for _ in 0..100 {
            reset().await;
        }
        assert_eq!(reset().await, LIMIT_MIN);
    }

    /// Its shards send again for ever what the hub does not survive.
    #[tokio::test]
    async fn resets_of_one_spoke_cost_the_others_little() {
        let places = Places::default();
        let minute = Duration::from_secs(60);
        let (poison, other) = (Share::default(), Share::default());
        let ends = async |share, result| {
            let deadline = Instant::now() + minute;
            let sending = places.enter(share, 1000, deadline, minute);
            sending.await.unwrap().ended(&result);
            places.shares.usage().places
        };
        let served = HubResponse {
            status: StatusCode::NO_CONTENT,
            written: None,
            retry_after: None,
            text: String::new(),
            date: None,
        };
        for _ in 0..300 {
            ends(other, Ok(served.clone())).await;
            let limit = ends(poison, Err(HubFailure::Reset)).await;
            assert!(limit >= LIMIT_FIRST / 2, "{limit}");
        }
    }
}
