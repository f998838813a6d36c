//! Whether it is the hub that fails, or what one spoke sends.
//!
//! A hub that has too much to do fails the requests of all. One that resets the connection for what a
//! request holds, or works on it until the time is over, fails those of one spoke, which sends them again for
//! ever. So what a spoke that fails often is answered says nothing while most others are served.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{FAILING_MAX, FAILING_RESPONSES};

/// A spoke that the hub has not answered for so long is not asked about. Each sends every few seconds.
const LATELY: Duration = Duration::from_secs(30);

/// As many spokes are remembered; a part of many says as much as all.
const SPOKES_MAX: usize = 256;

/// What the hub did lately with the requests of each spoke.
#[derive(Debug, Default)]
pub(super) struct Spokes(HashMap<u64, Answered>);

#[derive(Debug, Clone, Copy)]
struct Answered {
    /// The part that failed.
    failing: f32,
    last: Instant,
}

impl Spokes {
    /// A request of this spoke was served.
    pub(super) fn served(&mut self, spoke: u64, now: Instant) {
        let answered = self.answered(spoke, now);
        answered.failing -= answered.failing / FAILING_RESPONSES;
    }

    /// A request of this spoke failed. Returns true if that says something about the hub.
    pub(super) fn failed(&mut self, spoke: u64, now: Instant) -> bool {
        let answered = self.answered(spoke, now);
        let often = answered.fails();
        answered.failing += (1.0 - answered.failing) / FAILING_RESPONSES;
        if !often {
            return true;
        }
        let lately = self.0.values().filter(|it| it.is_recent(now));
        let (all, failing) = lately.fold((0, 0), |(all, failing), it| {
            (all + 1, failing + usize::from(it.fails()))
        });
        2 * failing > all
    }

    fn answered(&mut self, spoke: u64, now: Instant) -> &mut Answered {
        if self.0.len() >= SPOKES_MAX && !self.0.contains_key(&spoke) {
            self.0.retain(|_, it| it.is_recent(now));
            // Those that fail are kept, or each of their failures would count like a first one.
            let oldest = self.0.iter().min_by_key(|(_, it)| (it.fails(), it.last));
            if let Some(oldest) = oldest.map(|(spoke, _)| *spoke)
                && self.0.len() >= SPOKES_MAX
            {
                self.0.remove(&oldest);
            }
        }
        let first = Answered {
            failing: 0.0,
            last: now,
        };
        let answered = self.0.entry(spoke).or_insert(first);
        answered.last = now;
        answered
    }
}

impl Answered {
    fn fails(&self) -> bool {
        self.failing > FAILING_MAX
    }

    fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) <= LATELY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the failures of `spoke` say something about the hub.
    fn count(spokes: &mut Spokes, spoke: u64, failures: usize, now: Instant) -> usize {
        (0..failures).filter(|_| spokes.failed(spoke, now)).count()
    }

    #[test]
    fn only_what_most_spokes_see_is_about_the_hub() {
        let now = Instant::now();
        let mut spokes = Spokes::default();
        assert_eq!(count(&mut spokes, 0, 100, now), 100, "it is alone");
        spokes.served(1, now);
        assert_eq!(count(&mut spokes, 0, 100, now), 0);
        assert_eq!(count(&mut spokes, 1, 100, now), 100, "both fail");
        spokes.served(2, now);
        assert_eq!(count(&mut spokes, 0, 100, now), 100, "one is served");
        spokes.served(3, now);
        assert_eq!(count(&mut spokes, 0, 100, now), 0, "half are served");
        let later = now + LATELY + Duration::from_secs(1);
        assert_eq!(count(&mut spokes, 0, 100, later), 100, "long ago");
    }

    #[test]
    fn a_spoke_that_fails_is_remembered_among_many() {
        let now = Instant::now();
        let mut spokes = Spokes::default();
        let mut counted = 0;
        for spoke in 0..10_000 {
            spokes.served(1 + spoke, now);
            counted += count(&mut spokes, 0, 1, now);
        }
        assert!(counted < 10, "{counted}");
        assert_eq!(spokes.0.len(), SPOKES_MAX);
    }
}
