//! The time of a request: what its sender has waited here is not added to what it waits for a hub.
//!
//! Otherwise the sender would give up and send the same again, while a hub still stores it, and the hub
//! would refuse the second one as out of order.

use std::time::{Duration, Instant};

/// A request is answered within this time of its arrival, if its hub has no longer `timeout`. Prometheus
/// gives a request up after 30 s (`remote_timeout`).
pub const REQUEST_TIME: Duration = Duration::from_secs(29);

/// What else a request takes where the `timeout` of its hub is longer.
const BESIDE_THE_HUB: Duration = Duration::from_secs(4);

/// A hub that does its work needs less than one in so many parts of its `timeout`. With less, its request is
/// not sent.
const PARTS_OF_TIMEOUT: u32 = 4;

/// When the hubs of a request must have responded whose sender has waited since `started`. `None` if too
/// little of `timeout` is left.
pub(super) fn deadline(timeout: Duration, started: Instant, now: Instant) -> Option<Instant> {
    let whole = REQUEST_TIME.max(timeout + BESIDE_THE_HUB);
    let deadline = (now + timeout).min(started + whole);
    is_enough(deadline, timeout, now).then_some(deadline)
}

/// True if a hub with this `timeout` has enough time until `deadline`.
pub(super) fn is_enough(deadline: Instant, timeout: Duration, now: Instant) -> bool {
    deadline.saturating_duration_since(now) >= timeout / PARTS_OF_TIMEOUT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_has_waited_is_not_added_to_the_time_of_a_hub() {
        let rows = [
            (25, 0, Some(25)),
            (25, 4, Some(25)),
            (25, 5, Some(24)),
            (25, 20, Some(9)),
            (25, 22, Some(7)),
            (25, 23, None),
            (25, 60, None),
            (8, 20, Some(8)),
            (8, 26, Some(3)),
            (8, 28, None),
            (60, 20, Some(44)),
            (60, 50, None),
        ];
        let start = Instant::now();
        let seconds = Duration::from_secs;
        for (timeout, waited, expected) in rows {
            let now = start + seconds(waited);
            let left = deadline(seconds(timeout), start, now).map(|it| it - now);
            assert_eq!(left, expected.map(seconds), "{timeout}, {waited}");
        }
    }
}
