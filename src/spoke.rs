//! One configured spoke at run time: its rules, its counters, and what was last seen of it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::config::{self, SourceRanges};
use crate::metrics::SpokeMetrics;
use crate::policy::Rules;
use crate::telemetry::Repeats;
use crate::wire::{Counts, Protocol};

/// Source addresses remembered of a spoke.
const ADDRESSES_MAX: usize = 8;

/// Longest User-Agent remembered, in bytes.
const USER_AGENT_BYTES_MAX: usize = 128;

/// So many times in a row a spoke is told to come again when the hub is too slow for salvage.
const SALVAGE_PUT_OFF_MAX: u32 = 2;

/// Time constant of the rate that the status shows.
const RATE_WINDOW: Duration = Duration::from_secs(60);

/// A spoke as the request path uses it.
#[derive(Debug)]
pub struct Spoke {
    /// Its name, the only value of the cluster label it may write.
    pub name: String,
    /// Where it may write from.
    pub source_ranges: SourceRanges,
    /// Its label rules.
    pub rules: Rules,
    /// Its counters.
    pub metrics: SpokeMetrics,
    /// The rules changed something in its last request, so they may well in the next.
    pub changes: AtomicBool,
    /// Salvages in a row that the hub was too slow for.
    salvage_put_off: AtomicU32,
    /// What was last seen of it; goes on over reloads.
    pub seen: Arc<Seen>,
}

impl Spoke {
    /// Puts together what the configuration says and what was seen before.
    pub fn new(
        config: &config::Spoke,
        cluster_label: &str,
        metrics: SpokeMetrics,
        seen: Arc<Seen>,
    ) -> Self {
        Self {
            name: config.name.clone(),
            source_ranges: config.source_ranges.clone(),
            rules: Rules::new(cluster_label, &config.name, config.labels, config.limits),
            metrics,
            changes: AtomicBool::new(false),
            salvage_put_off: AtomicU32::new(0),
            seen,
        }
    }

    /// True when a request that the hub is too slow to salvage shall come again. Now and then one
    /// may not: a spoke sends nothing else before, so it would come again for ever.
    pub fn put_off_salvage(&self) -> bool {
        let next = |before| Some((before + 1) % (SALVAGE_PUT_OFF_MAX + 1));
        let counter = &self.salvage_put_off;
        let before = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        before.is_ok_and(|before| before < SALVAGE_PUT_OFF_MAX)
    }

    /// A salvage came to its end in time.
    pub fn salvaged(&self) {
        self.salvage_put_off.store(0, Ordering::Relaxed);
    }
}

/// What was last seen of a spoke, for the status page and for refusals in the log.
#[derive(Debug, Default)]
pub struct Seen(Mutex<State>);

/// A copy of what was last seen.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// When the hub last took something.
    pub last_write: Option<SystemTime>,
    /// The newest timestamp that the hub took, in milliseconds since the Unix epoch.
    pub newest_sample: Option<i64>,
    /// The protocol of the last request.
    pub protocol: Option<Protocol>,
    /// The User-Agent of the last request, cut. Comes from the sender.
    pub user_agent: String,
    /// The last addresses, newest first.
    pub addresses: VecDeque<IpAddr>,
    /// What was refused, an entry a reason.
    pub refusals: Vec<RefusalSeen>,
    rate: Rate,
}

/// How often a spoke was refused for one reason.
#[derive(Debug, Clone)]
pub struct RefusalSeen {
    /// The reason's name.
    pub reason: &'static str,
    /// How many series, or requests where the whole request was refused.
    pub count: u64,
    /// The last example. Comes from the sender.
    pub example: String,
    /// When it last happened.
    pub last: SystemTime,
    repeats: Repeats,
}

impl Seen {
    /// Remembers who sent a request.
    pub fn request(&self, protocol: Protocol, user_agent: &str, address: IpAddr) {
        let mut state = self.lock();
        state.protocol = Some(protocol);
        let cut = user_agent.floor_char_boundary(USER_AGENT_BYTES_MAX);
        if state.user_agent != user_agent[..cut] {
            user_agent[..cut].clone_into(&mut state.user_agent);
        }
        if state.addresses.front() != Some(&address) {
            state.addresses.retain(|known| *known != address);
            state.addresses.push_front(address);
            state.addresses.truncate(ADDRESSES_MAX);
        }
    }

    /// Remembers what the hub took.
    pub fn written(&self, counts: &Counts, newest: Option<i64>) {
        let mut state = self.lock();
        state.rate.add(counts.total());
        if !counts.is_empty() {
            state.last_write = Some(SystemTime::now());
            state.newest_sample = state.newest_sample.max(newest);
        }
    }

    /// Remembers a refusal. Returns how many were not logged since the last line, this one
    /// included, when it is time for a line again.
    pub fn refused(&self, reason: &'static str, count: u64, example: &str) -> Option<u64> {
        let mut state = self.lock();
        let place = state.refusals.iter().position(|seen| seen.reason == reason);
        let place = place.unwrap_or_else(|| {
            state.refusals.push(RefusalSeen {
                reason,
                count: 0,
                example: String::new(),
                last: SystemTime::now(),
                repeats: Repeats::default(),
            });
            state.refusals.len() - 1
        });
        let seen = &mut state.refusals[place];
        seen.count += count;
        seen.last = SystemTime::now();
        example.clone_into(&mut seen.example);
        seen.repeats.add(count, Instant::now())
    }

    /// A copy for the status page.
    pub fn state(&self) -> State {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing under the lock can leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Samples of all kinds a second that the hub took, averaged over about a minute.
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
