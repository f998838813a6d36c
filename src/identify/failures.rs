//! Counts what failed in the last minutes, for a bounded number of those who fail.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The number of those whose failures are counted.
pub(super) const REMEMBERED_MAX: usize = 4096;

/// Those who are kept when there is no room. Making room costs a walk over all of them, so it is made
/// for many at once.
const KEPT: usize = REMEMBERED_MAX / 4 * 3;

/// How long a failure counts.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(10 * 60);

/// A provider gives a customer 2^64 addresses of IPv6 or more (RFC 6177), so all of them count as one.
const IPV6_NETWORK_BITS: u32 = 64;

/// An address, without the part that one sender may choose freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Network(IpAddr);

impl Network {
    /// The network of an address.
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => {
                let mask = u128::MAX << (u128::BITS - IPV6_NETWORK_BITS);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        })
    }
}

/// The failures of the last minutes.
pub(super) struct Failures<K>(HashMap<K, Count>);

/// Ordered by the number of failures, and by the time of the last one among equal numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Count {
    failures: usize,
    last: Instant,
}

impl Count {
    fn is_forgotten(&self, now: Instant) -> bool {
        now.duration_since(self.last) >= FORGOTTEN_AFTER
    }
}

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Failures<K> {
    /// The number of failures.
    pub(super) fn of(&self, failing: &K, now: Instant) -> usize {
        let count = self.0.get(failing);
        let count = count.filter(|count| !count.is_forgotten(now));
        count.map_or(0, |count| count.failures)
    }

    /// Adds a failure, and returns the number of failures with it.
    pub(super) fn add(&mut self, failing: K, now: Instant) -> usize {
        let failures = self.of(&failing, now).saturating_add(1);
        if self.0.len() >= REMEMBERED_MAX && !self.0.contains_key(&failing) {
            self.make_room(now);
        }
        let count = Count {
            failures,
            last: now,
        };
        self.0.insert(failing, count);
        failures
    }

    /// Forgets what no longer counts, and then those who failed least. Many addresses that fail once
    /// each cannot make hubgate forget the one that goes on and on.
    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, count| !count.is_forgotten(now));
        let Some(excess) = self.0.len().checked_sub(KEPT + 1) else {
            return;
        };
        let mut counts: Vec<_> = self.0.values().copied().collect();
        let (_, most, _) = counts.select_nth_unstable(excess);
        self.0.retain(|_, count| *count > *most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let network = |address: &str| Network::of(address.parse().unwrap());
        for (a, b, beside) in [
            ("2001:db8::1", "2001:db8::ffff:0:0:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("203.0.113.1", "203.0.113.1", true),
            ("203.0.113.1", "203.0.113.2", false),
        ] {
            assert_eq!(network(a) == network(b), beside, "{a} {b}");
        }
    }

    #[test]
    fn failures_are_counted_until_the_last_one_is_long_ago() {
        let start = Instant::now();
        let mut failures = Failures::default();
        assert_eq!(failures.add("a", start), 1);
        let later = start + FORGOTTEN_AFTER / 2;
        assert_eq!(failures.add("a", later), 2);
        assert_eq!(failures.of(&"b", later), 0);
        assert_eq!(failures.of(&"a", start + FORGOTTEN_AFTER), 2);
        assert_eq!(failures.add("a", later + FORGOTTEN_AFTER), 1);
    }

    #[test]
    fn the_number_of_those_who_fail_is_bounded_and_who_fails_most_is_kept() {
        let mut now = Instant::now();
        let mut failures = Failures::default();
        let persistent = u128::MAX;
        failures.add(persistent, now);
        failures.add(persistent, now);
        for once in 0..3 * REMEMBERED_MAX as u128 {
            now += Duration::from_millis(1);
            failures.add(once, now);
            assert!(failures.0.len() <= REMEMBERED_MAX);
            assert!(failures.0.len() > KEPT || once < REMEMBERED_MAX as u128);
        }
        assert_eq!(failures.of(&persistent, now), 2);
        let last = 3 * REMEMBERED_MAX as u128 - 1;
        assert_eq!(failures.of(&last, now), 1, "the newest of equals are kept");
    }
}
