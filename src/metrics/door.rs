//! What was refused at the door in the last hour: requests whose senders are not identified, and connections.
//!
//! It takes the same few KiB whoever knocks and however often: a count for each reason and minute, and
//! for each reason one address.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use crate::reasons::{AuthFailure, ConnectionRefusal, RequestReason};

/// The minutes that count.
const MINUTES: usize = 60;

/// Why something is refused before it is known which spoke sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoorReason {
    /// A connection.
    Connection(ConnectionRefusal),
    /// A request, for this reason.
    Request(RequestReason),
    /// A request: its sender is not identified.
    Unidentified(AuthFailure),
}

/// What was refused for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorRefusals {
    /// The reason.
    pub reason: DoorReason,
    /// How many in the last hour.
    pub count: u64,
    /// When the last one was.
    pub last: SystemTime,
    /// Where it came from, if that is known.
    pub address: Option<IpAddr>,
}

/// The refusals of the last hour.
#[derive(Debug)]
pub(super) struct Door {
    opened: Instant,
    /// Those that occurred.
    refused: Mutex<Vec<Refused>>,
}

#[derive(Debug)]
struct Refused {
    reason: DoorReason,
    /// A ring: the count of a minute is at its number, modulo the length.
    minutes: [u32; MINUTES],
    /// The number of the newest minute.
    newest: u64,
    last: SystemTime,
    address: Option<IpAddr>,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            opened: Instant::now(),
            refused: Mutex::default(),
        }
    }
}

impl Door {
    pub(super) fn add(&self, reason: DoorReason, address: Option<IpAddr>) {
        self.add_in(self.minute(), reason, address);
    }

    /// What was refused in the last hour, the most frequent first.
    pub(super) fn shown(&self) -> Vec<DoorRefusals> {
        self.shown_in(self.minute())
    }

    fn minute(&self) -> u64 {
        self.opened.elapsed().as_secs() / 60
    }

    fn add_in(&self, minute: u64, reason: DoorReason, address: Option<IpAddr>) {
        let mut all = self.lock();
        let known = all.iter().position(|it| it.reason == reason);
        let place = known.unwrap_or_else(|| {
            all.push(Refused {
                reason,
                minutes: [0; MINUTES],
                newest: minute,
                last: SystemTime::UNIX_EPOCH,
                address: None,
            });
            all.len() - 1
        });
        let refused = &mut all[place];
        refused.go_on(minute);
        let count = &mut refused.minutes[place_of(minute)];
        *count = count.saturating_add(1);
        refused.last = SystemTime::now();
        refused.address = address.or(refused.address);
    }

    fn shown_in(&self, minute: u64) -> Vec<DoorRefusals> {
        let mut all = self.lock();
        let each = all.iter_mut().map(|refused| {
            refused.go_on(minute);
            DoorRefusals {
                reason: refused.reason,
                count: refused.minutes.iter().map(|it| u64::from(*it)).sum(),
                last: refused.last,
                address: refused.address,
            }
        });
        let mut shown: Vec<_> = each.filter(|it| it.count > 0).collect();
        shown.sort_by_key(|it| std::cmp::Reverse(it.count));
        shown
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Refused>> {
        // Nothing under the lock can leave it half done.
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refused {
    /// Forgets the minutes that are more than an hour before this one.
    fn go_on(&mut self, minute: u64) {
        let begun = minute.saturating_sub(self.newest);
        for number in (0..begun.min(MINUTES as u64)).map(|it| minute - it) {
            self.minutes[place_of(number)] = 0;
        }
        self.newest = self.newest.max(minute);
    }
}

fn place_of(minute: u64) -> usize {
    // It is less than the length.
    usize::try_from(minute % MINUTES as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: DoorReason = DoorReason::Unidentified(AuthFailure::Unknown);
    const RANGE: DoorReason = DoorReason::Connection(ConnectionRefusal::SourceRange);

    fn counts(door: &Door, minute: u64) -> Vec<(DoorReason, u64)> {
        let shown = door.shown_in(minute);
        shown.iter().map(|it| (it.reason, it.count)).collect()
    }

    #[test]
    fn an_hour_counts_and_what_was_before_is_forgotten() {
        let door = Door::default();
        assert_eq!(counts(&door, 5), []);
        door.add_in(7, UNKNOWN, None);
        for minute in [7, 8, 66] {
            door.add_in(minute, RANGE, None);
        }
        assert_eq!(counts(&door, 66), [(RANGE, 3), (UNKNOWN, 1)]);
        assert_eq!(counts(&door, 67), [(RANGE, 2)]);
        assert_eq!(counts(&door, 125), [(RANGE, 1)]);
        assert_eq!(counts(&door, 126), []);
        door.add_in(1000, UNKNOWN, None);
        assert_eq!(counts(&door, 1000), [(UNKNOWN, 1)]);
    }

    #[test]
    fn the_last_known_address_of_a_reason_is_kept() {
        let door = Door::default();
        let address = |last| Some(IpAddr::from([203, 0, 113, last]));
        for it in [address(1), address(2), None] {
            door.add(UNKNOWN, it);
        }
        assert_eq!(door.shown()[0].address, address(2));
    }

    #[test]
    fn many_refusals_take_a_few_kib() {
        let door = Door::default();
        for _ in 0..3 {
            let failures = AuthFailure::ALL.map(DoorReason::Unidentified);
            let connections = ConnectionRefusal::ALL.map(DoorReason::Connection);
            let requests = RequestReason::ALL.map(DoorReason::Request);
            let reasons = failures.into_iter().chain(connections).chain(requests);
            reasons.for_each(|reason| door.add(reason, None));
        }
        let refused = door.lock();
        let reasons =
            AuthFailure::ALL.len() + ConnectionRefusal::ALL.len() + RequestReason::ALL.len();
        assert_eq!(refused.len(), reasons);
        assert!(refused.capacity() * size_of::<Refused>() <= 24 << 10);
    }
}
