//! What was last seen of a spoke: who sent, what the hub wrote, what was refused and why.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::telemetry::Repeats;
use crate::wire::{Counts, Protocol};

/// Source addresses remembered of a spoke.
const ADDRESSES_MAX: usize = 8;

/// Longest User-Agent remembered, in bytes.
const USER_AGENT_BYTES_MAX: usize = 128;

/// Time constant of the rate that the status shows.
const RATE_WINDOW: Duration = Duration::from_secs(60);

/// What was last seen of a spoke, for operators and for refusals in the log.
#[derive(Debug, Default)]
pub struct Status(Mutex<Snapshot>);

/// A copy of a [`Status`].
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// When the hub last wrote something of it.
    pub last_write: Option<SystemTime>,
    /// The newest timestamp that the hub wrote, in milliseconds since the Unix epoch.
    pub newest_sample: Option<i64>,
    /// The protocol of the last request.
    pub protocol: Option<Protocol>,
    /// The User-Agent of the last request, cut. Comes from the sender.
    pub user_agent: String,
    /// The last addresses, newest first.
    pub addresses: VecDeque<IpAddr>,
    /// How the newest of them is known.
    pub address_source: Option<&'static str>,
    /// What was refused, one entry for each reason.
    pub refusals: Vec<Refusals>,
    /// When anything of this changed but what each write changes, and the order of the addresses.
    pub changed: Option<Instant>,
    rate: Rate,
}

/// How often a spoke was refused for one reason.
#[derive(Debug, Clone)]
pub struct Refusals {
    /// The reason's name.
    pub reason: &'static str,
    /// How many series or samples, or requests where the whole request was refused.
    pub count: u64,
    /// The last example. Comes from the sender.
    pub example: String,
    /// When it last happened.
    pub last: SystemTime,
    repeats: Repeats,
}

impl Status {
    /// Remembers who sent a request, and how the address is known.
    pub fn record_request(
        &self,
        protocol: Protocol,
        user_agent: &str,
        address: IpAddr,
        address_source: &'static str,
    ) {
        let mut state = self.lock();
        let sent = (Some(protocol), Some(address_source));
        let mut changes = (state.protocol, state.address_source) != sent;
        (state.protocol, state.address_source) = sent;
        let cut = user_agent.floor_char_boundary(USER_AGENT_BYTES_MAX);
        if state.user_agent != user_agent[..cut] {
            user_agent[..cut].clone_into(&mut state.user_agent);
            changes = true;
        }
        if state.addresses.front() != Some(&address) {
            let before = state.addresses.len();
            state.addresses.retain(|known| *known != address);
            // The servers of a pair take turns.
            changes |= state.addresses.len() == before;
            state.addresses.push_front(address);
            state.addresses.truncate(ADDRESSES_MAX);
        }
        if changes {
            state.changed = Some(Instant::now());
        }
    }

    /// Remembers what the hub wrote, and the newest timestamp in it. Returns true the first time that
    /// a sample was written: metadata that passes is no sign that a spoke writes.
    pub fn record_written(&self, counts: &Counts, newest: Option<i64>) -> bool {
        let mut state = self.lock();
        state.rate.add(counts.samples());
        if counts.samples() == 0 {
            return false;
        }
        state.newest_sample = state.newest_sample.max(newest);
        state.last_write.replace(SystemTime::now()).is_none()
    }

    /// Remembers that `count` series, or one whole request, were refused. When it is time for a log
    /// line again, returns how many were refused since the last line, these included.
    pub fn record_refusal(&self, reason: &'static str, count: u64, example: &str) -> Option<u64> {
        let mut state = self.lock();
        let place = state
            .refusals
            .iter()
            .position(|known| known.reason == reason);
        let place = place.unwrap_or_else(|| {
            state.refusals.push(Refusals {
                reason,
                count: 0,
                example: String::new(),
                last: SystemTime::now(),
                repeats: Repeats::default(),
            });
            state.refusals.len() - 1
        });
        let now = Instant::now();
        state.changed = Some(now);
        let refusals = &mut state.refusals[place];
        refusals.count += count;
        refusals.last = SystemTime::now();
        example.clone_into(&mut refusals.example);
        refusals.repeats.add(count, now)
    }

    /// A copy for the status page.
    pub fn snapshot(&self) -> Snapshot {
        self.look(Clone::clone)
    }

    /// Looks at it without a copy. Requests of the spoke wait meanwhile.
    pub fn look<T>(&self, at: impl FnOnce(&Snapshot) -> T) -> T {
        at(&self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Snapshot> {
        // Nothing under the lock can leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    /// Samples of all kinds a second that the hub wrote, averaged over about a minute.
    pub fn samples_per_second(&self) -> f64 {
        self.rate.now()
    }
}

/// An exponentially decaying count, from which a rate follows.
#[derive(Debug, Clone, Default)]
struct Rate {
    decayed: f64,
    updated: Option<Instant>,
}

impl Rate {
    fn add(&mut self, count: u64) {
        self.decayed = self.decayed_now() + count as f64;
        self.updated = Some(Instant::now());
    }

    fn now(&self) -> f64 {
        self.decayed_now() / RATE_WINDOW.as_secs_f64()
    }

    fn decayed_now(&self) -> f64 {
        let elapsed = self
            .updated
            .map_or(Duration::ZERO, |updated| updated.elapsed());
        self.decayed * (-elapsed.as_secs_f64() / RATE_WINDOW.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use crate::reasons::RequestReason;
    use crate::wire::Kind;

    use super::*;

    /// Whether this changes something but what each write changes.
    fn changes(status: &Status, change: impl FnOnce(&Status)) -> bool {
        status.lock().changed = None;
        change(status);
        status.look(|it| it.changed.is_some())
    }

    #[test]
    fn a_spoke_that_only_writes_does_not_change() {
        let status = Status::default();
        let sends = |protocol, user_agent: &str, last, source| {
            changes(&status, |status| {
                let address = IpAddr::V4(Ipv4Addr::new(203, 0, 113, last));
                status.record_request(protocol, user_agent, address, source);
                status.record_written(&Counts::one(Kind::Float), Some(1));
            })
        };
        assert!(sends(Protocol::V1, "a", 1, "socket"));
        assert!(!sends(Protocol::V1, "a", 1, "socket"));
        assert!(sends(Protocol::V2, "a", 1, "socket"));
        assert!(sends(Protocol::V2, "b", 1, "socket"));
        assert!(sends(Protocol::V2, "b", 2, "socket"));
        assert!(!sends(Protocol::V2, "b", 1, "socket"));
        assert!(sends(Protocol::V2, "b", 1, "proxy_protocol"));
        let reason = RequestReason::Snappy.name();
        for _ in 0..2 {
            let refused = changes(&status, |status| {
                status.record_refusal(reason, 1, "");
            });
            assert!(refused);
        }
    }
}
