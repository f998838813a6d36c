//! The metrics that new series come from.
//!
//! A few names are kept with their counts. Where a name has no place, it takes that of the smallest and
//! goes on from its count (Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and top-k
//! elements in data streams", 2005). So each name with more than a share of all is there, whatever else
//! comes, and how much of its count may be another's is known.

use std::fmt;

use super::clock::Second;

/// Names that are kept. Each with more than a 32nd of all is among them.
const NAMES: usize = 32;

/// Bytes of a name that are kept.
const NAME_BYTES: usize = 64;

/// Names that are shown.
const SHOWN: usize = 5;

/// What came before counts half after so many seconds.
const HALF_LIFE: u64 = 600;

/// A metric, and how often new series of it came lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growing {
    /// Its name, cut and escaped. Comes from the sender.
    pub metric: String,
    /// At least so often.
    pub count: u64,
}

impl fmt::Display for Growing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.metric, self.count)
    }
}

#[derive(Debug, Default)]
pub(super) struct Growth {
    names: Vec<Name>,
    halved: Second,
}

#[derive(Debug)]
struct Name {
    text: Vec<u8>,
    count: u64,
    /// What of the count may be of other names.
    others: u64,
}

impl Growth {
    /// Takes notice of a series of this metric that was not known.
    pub(super) fn add(&mut self, metric: &[u8], now: Second) {
        self.halve(now);
        self.add_count(&metric[..metric.len().min(NAME_BYTES)], 1);
    }

    /// Adds what a request brought, and leaves nothing of it there.
    pub(super) fn take(&mut self, request: &mut Self, now: Second) {
        self.halve(now);
        for name in request.names.drain(..) {
            self.add_count(&name.text, name.count.saturating_sub(name.others));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    fn add_count(&mut self, text: &[u8], count: u64) {
        let known = self.names.iter().position(|name| name.text == text);
        if let Some(place) = known {
            self.names[place].count += count;
            // So that a search finds what comes often at the front.
            if place > 0 && self.names[place - 1].count < self.names[place].count {
                self.names.swap(place - 1, place);
            }
        } else if self.names.len() < NAMES {
            self.names.push(Name {
                text: text.to_vec(),
                count,
                others: 0,
            });
        } else if let Some(smallest) = self.names.iter_mut().min_by_key(|name| name.count) {
            smallest.text.clear();
            smallest.text.extend_from_slice(text);
            smallest.others = smallest.count;
            smallest.count += count;
        }
    }

    /// The metrics that most new series came from, the first of them at the front.
    pub(super) fn most(&self) -> Vec<Growing> {
        let mut growing: Vec<Growing> = self
            .names
            .iter()
            .filter(|name| name.count > name.others)
            .map(|name| Growing {
                metric: shown(&name.text),
                count: name.count - name.others,
            })
            .collect();
        growing.sort_by_key(|it| std::cmp::Reverse(it.count));
        growing.truncate(SHOWN);
        growing
    }

    fn halve(&mut self, now: Second) {
        let times = now.since(self.halved) / HALF_LIFE;
        if times == 0 {
            return;
        }
        self.halved = now;
        for name in &mut self.names {
            name.count >>= times.min(63);
            name.others >>= times.min(63);
        }
        self.names.retain(|name| name.count > 0);
    }
}

/// A name for people, who must not be misled by what it holds.
fn shown(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    name.escape_debug().take(NAME_BYTES).collect()
}
