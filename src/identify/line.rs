//! The line of password checks: which one is next, and which one is given up when too many wait.
//!
//! A check is slow on purpose, and everyone who reaches the port can ask for one, with many user
//! names from one address or with one user name from many. Neither may keep the others from their
//! turn, not even a spoke whose own user name a stranger uses. So the line is not in the order of
//! arrival. Each check gets a number: how many checks of the same network failed lately, and how many
//! wait before it. The lowest number is next, and the highest one is given up. A right password
//! fails no check, so its sender overtakes everyone who guesses.
//!
//! User names are numbered in the same way. These numbers decide within a network, and among checks of
//! several networks with equal numbers. Whether a user name exists makes no difference.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Instant;

use super::failures::{Failures, Network};

/// The number of checks that may wait. The last one has to be done before its sender gives up,
/// which Prometheus does after 30 s, and a usual hash takes up to 300 ms.
pub(super) const WAITING_MAX: usize = 64;

/// Who asks for a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sender {
    network: Network,
    /// A digest of the user name, which the sender chooses, so its length has no part in what is
    /// kept.
    user: [u8; 32],
}

impl Sender {
    /// The sender at an address, with the digest of a user name.
    pub(super) fn new(address: IpAddr, user: [u8; 32]) -> Self {
        let network = Network::of(address);
        Self { network, user }
    }
}

/// Checks that wait, in the order of their arrival.
pub(super) struct Line<T> {
    places: usize,
    waiting: Vec<(Sender, T)>,
    failures: Failures<Failing>,
}

impl<T> Line<T> {
    /// An empty line for this number of checks.
    pub(super) fn new(places: usize) -> Self {
        Self {
            places,
            waiting: Vec::new(),
            failures: Failures::default(),
        }
    }

    /// Finds a check that waits and that someone in the network of a sender asked for.
    pub(super) fn find_beside(&self, sender: &Sender, wanted: impl Fn(&T) -> bool) -> Option<&T> {
        let mut waiting = self.waiting.iter();
        let found = waiting.find(|(other, check)| other.network == sender.network && wanted(check));
        found.map(|(_, check)| check)
    }

    /// The number of checks that wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Keeps the checks that are still wanted.
    pub(super) fn retain(&mut self, wanted: impl Fn(&T) -> bool) {
        self.waiting.retain(|(_, check)| wanted(check));
    }

    /// Adds a check. If too many wait, returns the one that is given up for it, which may be the
    /// added one.
    pub(super) fn add(&mut self, sender: Sender, check: T, now: Instant) -> Option<T> {
        self.waiting.push((sender, check));
        if self.waiting.len() <= self.places {
            return None;
        }
        let last = *self.order(now).last()?;
        Some(self.waiting.remove(last).1)
    }

    /// Takes the next check out of the line.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Sender, T)> {
        let next = *self.order(now).first()?;
        Some(self.waiting.remove(next))
    }

    /// Remembers that a password was wrong.
    pub(super) fn failed(&mut self, sender: Sender, now: Instant) {
        self.failures.add(Failing::Network(sender.network), now);
        self.failures.add(Failing::Sender(sender), now);
        self.failures.add(Failing::User(sender.user), now);
    }

    /// The places of the checks in `waiting`, the next one first.
    fn order(&self, now: Instant) -> Vec<usize> {
        let senders: Vec<_> = self.waiting.iter().map(|(sender, _)| *sender).collect();
        let failures = |failing| self.failures.of(&failing, now);
        let mut order: Vec<_> = (0..senders.len()).collect();
        let within_sender = numbers(&order, |place| {
            let sender = senders[place];
            (sender, failures(Failing::Sender(sender)))
        });
        order.sort_by_key(|place| within_sender[*place]);
        let within_network = numbers(&order, |place| {
            let network = senders[place].network;
            (network, failures(Failing::Network(network)))
        });
        order.sort_by_key(|place| (within_network[*place], *place));
        let within_user = numbers(&order, |place| {
            let user = senders[place].user;
            (user, failures(Failing::User(user)))
        });
        order.sort_by_key(|place| (within_network[*place], within_user[*place], *place));
        order
    }
}

/// The number of each place: how many places of the same group stand before it in `order`, and what
/// its group begins with.
fn numbers<G: Eq + Hash>(order: &[usize], group: impl Fn(usize) -> (G, usize)) -> Vec<usize> {
    let mut next_of_group = HashMap::new();
    let mut numbers = vec![0; order.len()];
    for place in order {
        let (group, start) = group(*place);
        let next = next_of_group.entry(group).or_insert(start);
        numbers[*place] = *next;
        *next += 1;
    }
    numbers
}

/// Whose failed checks are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Failing {
    Network(Network),
    Sender(Sender),
    User([u8; 32]),
}

#[cfg(test)]
mod tests {
    use super::super::failures::FORGOTTEN_AFTER;
    use super::*;

    /// The sender of one password in a network of its own.
    fn alone(network: u8, user: u8) -> Sender {
        Sender::new([203, 0, 113, network].into(), [user; 32])
    }

    /// Takes everything out of a line, where each check has failed by the time the next one is due.
    fn drained(line: &mut Line<&'static str>, now: Instant) -> Vec<&'static str> {
        let next = || {
            let (sender, check) = line.next(now)?;
            line.failed(sender, now);
            Some(check)
        };
        std::iter::from_fn(next).collect()
    }

    const HONEST: u8 = 1;

    /// A line full of checks of these senders, each of which asked as often as there is room.
    fn attacked(senders: &[Sender], failed: bool, now: Instant) -> Line<&'static str> {
        let mut line = Line::new(WAITING_MAX);
        for sender in senders.iter().cycle().take(2 * WAITING_MAX) {
            if failed {
                line.failed(*sender, now);
            }
            line.add(*sender, "attack", now);
        }
        assert_eq!(line.len(), WAITING_MAX);
        line
    }

    fn many_users_of_one_network() -> Vec<Sender> {
        (2..=200).map(|user| alone(9, user)).collect()
    }

    fn one_user_of_many_networks(user: u8) -> Vec<Sender> {
        (2..=200).map(|network| alone(network, user)).collect()
    }

    #[test]
    fn a_sender_beside_an_attack_is_among_the_next() {
        let now = Instant::now();
        for (case, attack, failed, honest) in [
            (
                "one network",
                many_users_of_one_network(),
                false,
                alone(1, HONEST),
            ),
            (
                "one user",
                one_user_of_many_networks(2),
                false,
                alone(1, HONEST),
            ),
            ("one sender", vec![alone(2, 2)], false, alone(1, HONEST)),
            (
                "its network, one user",
                vec![alone(1, 2)],
                false,
                alone(1, HONEST),
            ),
            (
                "its user, one network",
                vec![alone(2, HONEST)],
                false,
                alone(1, HONEST),
            ),
            (
                "its user, many networks that failed before",
                one_user_of_many_networks(HONEST),
                true,
                alone(1, HONEST),
            ),
        ] {
            let mut line = attacked(&attack, failed, now);
            let given_up = line.add(honest, "honest", now);
            assert_eq!(given_up, Some("attack"), "{case}");
            let order = drained(&mut line, now);
            let turn = order.iter().position(|check| *check == "honest");
            assert!(turn <= Some(1), "{case}: {turn:?}");
        }
    }

    #[test]
    fn an_attack_does_not_push_out_a_sender_that_waits() {
        let now = Instant::now();
        for (case, attack) in [
            ("one network", many_users_of_one_network()),
            ("one user", one_user_of_many_networks(2)),
            ("its user", one_user_of_many_networks(HONEST)),
        ] {
            let mut line = Line::new(WAITING_MAX);
            line.add(alone(1, HONEST), "honest", now);
            for attacker in attack.iter().cycle().take(10 * WAITING_MAX) {
                let given_up = line.add(*attacker, "attack", now);
                assert_ne!(given_up, Some("honest"), "{case}");
            }
        }
    }

    #[test]
    fn equal_senders_are_served_in_the_order_of_their_arrival() {
        let now = Instant::now();
        let mut line = Line::new(WAITING_MAX);
        for (network, check) in [(1, "first"), (2, "second"), (3, "third")] {
            line.add(alone(network, network), check, now);
        }
        assert_eq!(drained(&mut line, now), ["first", "second", "third"]);
    }

    #[test]
    fn networks_take_turns() {
        let now = Instant::now();
        let mut line = Line::new(WAITING_MAX);
        for (network, check) in [(1, "a"), (1, "b"), (1, "c"), (2, "x"), (2, "y")] {
            line.add(alone(network, network), check, now);
        }
        assert_eq!(drained(&mut line, now), ["a", "x", "b", "y", "c"]);
    }

    #[test]
    fn a_failed_check_is_forgotten() {
        let now = Instant::now();
        let mut line = Line::new(WAITING_MAX);
        line.failed(alone(1, 1), now);
        for (network, check) in [(1, "failed"), (2, "other")] {
            line.add(alone(network, network), check, now);
        }
        let mut soon = line.next(now);
        assert_eq!(soon.take().map(|(_, check)| check), Some("other"));
        line.add(alone(2, 2), "other", now);
        let later = line.next(now + FORGOTTEN_AFTER);
        assert_eq!(later.map(|(_, check)| check), Some("failed"));
    }
}
