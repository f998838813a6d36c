//! What is known of the addresses of a hub that gave trouble.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// As many failures in a row let the connections to an address be left.
const FAILURES_MAX: u32 = 3;

/// A connection to an address that fails is used for at least this long, so that a hub with a fault
/// is not given a new connection for each request.
const LEAVE_INTERVAL: Duration = Duration::from_secs(1);

/// For this long other addresses come before one that gave trouble.
const AVOID_TIME: Duration = Duration::from_secs(10);

/// Most addresses that are remembered.
const ADDRESSES_MAX: usize = 32;

/// The addresses with trouble; usually none.
#[derive(Debug, Default)]
pub(super) struct Addresses(Vec<Trouble>);

#[derive(Debug)]
struct Trouble {
    address: SocketAddr,
    /// Failures since the last success.
    failures: u32,
    /// When its connections were left.
    left: Option<Instant>,
    avoided_until: Option<Instant>,
}

impl Addresses {
    /// A write to the address went well.
    pub(super) fn succeed(&mut self, address: SocketAddr) {
        self.0.retain(|it| it.address != address);
    }

    /// The address responded with a failure. Returns true when its idle connections are to be closed.
    pub(super) fn fail(&mut self, address: SocketAddr, now: Instant) -> bool {
        let trouble = self.trouble(address);
        trouble.failures = trouble.failures.saturating_add(1);
        let recent = trouble.left.is_some_and(|it| now - it < LEAVE_INTERVAL);
        let leaves = trouble.failures >= FAILURES_MAX && !recent;
        if leaves {
            trouble.left = Some(now);
            trouble.avoided_until = Some(now + AVOID_TIME);
        }
        leaves
    }

    /// False for a connection to the address that was opened before the others were left, if nothing
    /// went well since.
    pub(super) fn keeps(&self, address: SocketAddr, opened: Instant) -> bool {
        let trouble = self.0.iter().find(|it| it.address == address);
        trouble.and_then(|it| it.left).is_none_or(|it| opened > it)
    }

    /// The address did not take a connection, or did not respond.
    pub(super) fn avoid(&mut self, address: SocketAddr, now: Instant) {
        self.trouble(address).avoided_until = Some(now + AVOID_TIME);
    }

    /// Puts the addresses to be avoided behind the others.
    pub(super) fn order(&self, addresses: &mut [SocketAddr], now: Instant) {
        addresses.sort_by_key(|address| {
            let trouble = self.0.iter().find(|it| it.address == *address);
            trouble.and_then(|it| it.avoided_until) > Some(now)
        });
    }

    fn trouble(&mut self, address: SocketAddr) -> &mut Trouble {
        let place = self.0.iter().position(|it| it.address == address);
        let place = place.unwrap_or_else(|| {
            if self.0.len() == ADDRESSES_MAX {
                self.0.remove(0);
            }
            self.0.push(Trouble {
                address,
                failures: 0,
                left: None,
                avoided_until: None,
            });
            self.0.len() - 1
        });
        &mut self.0[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 9090).into()
    }

    #[test]
    fn three_failures_in_a_row_let_an_address_be_left() {
        let mut addresses = Addresses::default();
        let opened = Instant::now();
        let now = opened + Duration::from_millis(1);
        assert!(!addresses.fail(address(1), now));
        assert!(!addresses.fail(address(1), now));
        addresses.succeed(address(1));
        assert!(!addresses.fail(address(1), now));
        assert!(!addresses.fail(address(1), now));
        addresses.succeed(address(2));
        assert!(addresses.keeps(address(1), opened));
        assert!(addresses.fail(address(1), now));
        assert!(!addresses.keeps(address(1), opened));
        assert!(addresses.keeps(address(2), opened));
        // One that was in use meanwhile and went well is kept.
        addresses.succeed(address(1));
        assert!(addresses.keeps(address(1), opened));
    }

    #[test]
    fn an_address_that_goes_on_failing_is_left_once_a_second() {
        let mut addresses = Addresses::default();
        let started = Instant::now();
        let left: Vec<u64> = (0..40)
            .map(|step| step * 100)
            .filter(|ms| addresses.fail(address(1), started + Duration::from_millis(*ms)))
            .collect();
        assert_eq!(left, [200, 1200, 2200, 3200]);
        let before = started + Duration::from_millis(3100);
        assert!(!addresses.keeps(address(1), before));
        let after = started + Duration::from_millis(3300);
        assert!(addresses.keeps(address(1), after));
    }

    #[test]
    fn addresses_with_trouble_come_last_for_some_seconds() {
        let mut addresses = Addresses::default();
        let now = Instant::now();
        let order = |addresses: &Addresses, now| {
            let mut order = [1, 2, 3].map(address);
            addresses.order(&mut order, now);
            order
        };
        addresses.avoid(address(1), now);
        assert_eq!(order(&addresses, now), [2, 3, 1].map(address));
        for _ in 0..3 {
            addresses.fail(address(2), now);
        }
        assert_eq!(order(&addresses, now), [3, 1, 2].map(address));
        addresses.avoid(address(3), now);
        assert_eq!(order(&addresses, now), [1, 2, 3].map(address));
        addresses.succeed(address(3));
        assert_eq!(order(&addresses, now), [3, 1, 2].map(address));
        assert_eq!(order(&addresses, now + AVOID_TIME), [1, 2, 3].map(address));
    }

    #[test]
    fn the_memory_of_addresses_is_bounded() {
        let mut addresses = Addresses::default();
        for last in 0..=255 {
            addresses.avoid(address(last), Instant::now());
        }
        assert_eq!(addresses.0.len(), ADDRESSES_MAX);
        assert_eq!(addresses.0[ADDRESSES_MAX - 1].address, address(255));
    }
}
