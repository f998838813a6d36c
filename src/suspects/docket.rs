//! What is remembered of one spoke at one hub from request to request, within bounds.

use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::Closed;
use super::case::{Case, Learned};
use super::inquiry::Control;

/// Most cases of a spoke at a hub. A Prometheus has 50 shards by default, each with one request on
/// its way.
const CASES_MAX: usize = 64;

/// A case that was not looked at for so long is forgotten: the spoke gave the request up. Senders wait
/// seconds between attempts, some a minute.
const CASE_AGE_MAX: Duration = Duration::from_secs(600);

/// The same for a case whose units are all settled: the sender gets the answer in its next attempt.
const COMPLETE_AGE_MAX: Duration = Duration::from_secs(120);

/// So long a refusal shortens the way for others like it.
const LEARNED_AGE_MAX: Duration = Duration::from_secs(600);

/// Most of what refusals taught that is remembered.
const LEARNED_MAX: usize = 256;

/// Why there was no time for the salvage of a request. The number is how much it counts of what makes an
/// end of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOff {
    /// The further requests waited for those of others.
    Crowded = 1,
    /// The hub is too slow.
    Slow = 10,
}

/// A request is put off twice in a row at least when the hub is too slow, and 20 times when it waits for
/// others.
const PUT_OFF_MAX: u32 = 20;

/// A request is put off for so long at least. A hub may be slow for minutes, as while it compacts or restarts,
/// and the spoke keeps two hours of what it could not send.
const PUT_OFF_TIME: Duration = Duration::from_secs(600);

/// A hub is slow without a break while a request is put off each minute: a sender retries each half minute or
/// sooner, and a hub has 25 s to answer.
const SLOW_BREAK: Duration = Duration::from_secs(60);

/// Most requests of a spoke at a hub of which it is known that they were put off. An entry has some 40 bytes.
const PUT_OFFS_MAX: usize = 1024;

/// What tells a message from others: a part of the SHA-256 of its bytes.
pub type Digest = [u8; 16];

/// The digest of a message as it is sent.
pub fn digest(body: &[u8]) -> Digest {
    let whole: [u8; 32] = Sha256::digest(body).into();
    std::array::from_fn(|place| whole[place])
}

/// What is remembered of the requests of one spoke at one hub.
#[derive(Debug, Default)]
pub struct Docket {
    /// The last one was looked at last.
    cases: Vec<(Digest, Case)>,
    learned: Vec<(Learned, Instant)>,
    histograms_refused: Option<Instant>,
    last_stored: Option<Instant>,
    unreliable: Option<Instant>,
    control: Option<Control>,
    /// The last one was put off last.
    put_off: Vec<(Digest, Delayed)>,
    slow: Option<Slow>,
}

/// The hub is too slow for salvages.
#[derive(Debug, Clone, Copy)]
struct Slow {
    /// Since when it is without a break.
    since: Instant,
    /// When it last was.
    last: Instant,
}

/// A request for whose salvage there was no time.
#[derive(Debug, Clone, Copy)]
struct Delayed {
    /// How many times in a row, by what each counts.
    times: u32,
    /// When it was put off first.
    since: Instant,
}

impl Docket {
    /// True when nothing is open, and the hub takes native histograms as far as is known.
    pub fn is_idle(&self) -> bool {
        !self.wants_control() && self.histograms_refused.is_none()
    }

    /// True when the next message may be one of which something is known.
    pub fn has_cases(&self) -> bool {
        !self.cases.is_empty()
    }

    /// The hub stored samples of a request as usual.
    pub fn stored(&mut self, now: Instant) {
        self.last_stored = Some(now);
    }

    /// When the hub last stored samples of the spoke as usual.
    pub fn last_stored(&self) -> Option<Instant> {
        self.last_stored
    }

    /// Takes the case of a message out, to work on it.
    pub fn take(&mut self, digest: &Digest, now: Instant) -> Option<Case> {
        self.cases.retain(|(_, case)| {
            let age_max = if case.complete {
                COMPLETE_AGE_MAX
            } else {
                CASE_AGE_MAX
            };
            now.duration_since(case.used) < age_max
        });
        let place = self.cases.iter().position(|(known, _)| known == digest)?;
        Some(self.cases.remove(place).1)
    }

    /// Keeps a case until the message comes again.
    pub fn put(&mut self, digest: Digest, case: Case) {
        let known = self.cases.iter().position(|(known, _)| *known == digest);
        if let Some(place) = known {
            // The message was sent again before an attempt at it was over.
            if self.cases[place].1.complete {
                return;
            }
            self.cases.remove(place);
        } else if self.cases.len() >= CASES_MAX {
            let complete = self.cases.iter().position(|(_, case)| case.complete);
            self.cases.remove(complete.unwrap_or_default());
        }
        self.cases.push((digest, case));
    }

    /// Takes in what an inquiry found out.
    pub fn close(&mut self, digest: Digest, closed: Closed, now: Instant) {
        if closed.unreliable {
            self.unreliable = Some(now);
            self.learned.clear();
            self.histograms_refused = None;
        } else {
            if closed.histograms_refused {
                self.histograms_refused = Some(now);
            }
            for lesson in closed.learned {
                self.learned.retain(|(known, _)| *known != lesson);
                self.learned.truncate(LEARNED_MAX - 1);
                self.learned.insert(0, (lesson, now));
            }
        }
        if closed.control_failed {
            self.control = None;
        }
        self.put(digest, closed.case);
    }

    /// What recent refusals taught.
    pub fn learned(&mut self, now: Instant) -> Vec<Learned> {
        self.learned
            .retain(|(_, since)| now.duration_since(*since) < LEARNED_AGE_MAX);
        let learned = self.learned.iter();
        learned.map(|(lesson, _)| lesson.clone()).collect()
    }

    /// True when the hub refused native histograms as such, and recently.
    pub fn refuses_histograms(&mut self, now: Instant) -> bool {
        self.histograms_refused = self
            .histograms_refused
            .filter(|since| now.duration_since(*since) < LEARNED_AGE_MAX);
        self.histograms_refused.is_some()
    }

    /// When the hub last turned out to fail at random.
    pub fn unreliable(&self) -> Option<Instant> {
        self.unreliable
    }

    /// True when a sample of another request would help as a control.
    pub fn wants_control(&self) -> bool {
        self.cases.iter().any(|(_, case)| !case.complete)
    }

    /// Keeps a sample that the hub has stored just now.
    pub fn keep_control(&mut self, control: Control) {
        self.control = Some(control);
    }

    /// A sample that the hub has stored.
    pub fn control(&self) -> Option<Control> {
        self.control.clone()
    }

    /// Records that there was no time to salvage a request, and returns true when the spoke is to retry
    /// it. After some times and ten minutes the rest is refused instead; otherwise the spoke would send
    /// the same request for ever. If the hub is always slow, the ten minutes are those of the first request:
    /// the spoke would fall behind if each of them took as long.
    pub fn put_off_salvage(&mut self, digest: &Digest, cause: PutOff, now: Instant) -> bool {
        let place = self.put_off.iter().position(|(known, _)| known == digest);
        let first = Delayed {
            times: 0,
            since: now,
        };
        let delayed = place.map_or(first, |place| self.put_off.remove(place).1);
        let times = delayed.times.saturating_add(cause as u32);
        let since = match cause {
            PutOff::Crowded => delayed.since,
            PutOff::Slow => self.slow_since(now).min(delayed.since),
        };
        if times > PUT_OFF_MAX && now.duration_since(since) >= PUT_OFF_TIME {
            return false;
        }
        if self.put_off.len() >= PUT_OFFS_MAX {
            self.put_off.remove(0);
        }
        self.put_off.push((*digest, Delayed { times, ..delayed }));
        true
    }

    /// Since when the hub is slow, as it is now.
    fn slow_since(&mut self, now: Instant) -> Instant {
        let slow = self.slow;
        let slow = slow.filter(|slow| now.duration_since(slow.last) <= SLOW_BREAK);
        let since = slow.map_or(now, |slow| slow.since);
        self.slow = Some(Slow { since, last: now });
        since
    }

    /// Remembers that the salvage of a request ended in time.
    pub fn record_salvage(&mut self, digest: &Digest) {
        self.put_off.retain(|(known, _)| known != digest);
        self.slow = None;
    }

    /// True when it matters that a salvage ended in time: one was put off.
    pub fn has_put_off(&self) -> bool {
        !self.put_off.is_empty() || self.slow.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_waits_for_others_is_put_off_more_often() {
        let start = Instant::now();
        let mut docket = Docket::default();
        let stuck = digest(b"stuck");
        for number in 0..20 {
            let now = start + PUT_OFF_TIME * number;
            assert!(docket.put_off_salvage(&stuck, PutOff::Crowded, now));
        }
        let now = start + PUT_OFF_TIME * 20;
        assert!(!docket.put_off_salvage(&stuck, PutOff::Crowded, now));
        assert!(docket.put_off_salvage(&stuck, PutOff::Slow, now));
    }

    #[test]
    fn each_request_is_put_off_twice_whatever_becomes_of_others() {
        let start = Instant::now();
        let mut docket = Docket::default();
        let (stuck, other) = (digest(b"stuck"), digest(b"other"));
        for number in 0..2 {
            let now = start + PUT_OFF_TIME * number;
            assert!(docket.put_off_salvage(&stuck, PutOff::Slow, now));
            // Another shard of the spoke is salvaged in time.
            assert!(docket.put_off_salvage(&other, PutOff::Slow, now));
            docket.record_salvage(&other);
        }
        let now = start + PUT_OFF_TIME * 2;
        assert!(!docket.put_off_salvage(&stuck, PutOff::Slow, now));
        docket.record_salvage(&other);
        assert!(!docket.has_put_off());
        for request in 0..2000_u32 {
            docket.put_off_salvage(&digest(&request.to_le_bytes()), PutOff::Slow, now);
        }
        assert_eq!(docket.put_off.len(), PUT_OFFS_MAX);
    }

    #[test]
    fn a_hub_that_is_always_slow_has_each_request_put_off_twice() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut docket = Docket::default();
        // The attempts that each of some requests takes, one after the other, at a hub that takes 20 s.
        let mut now = start;
        let attempts_of = |docket: &mut Docket, now: &mut Instant, request: u32| {
            let digest = digest(&request.to_le_bytes());
            let mut attempts = 1;
            while docket.put_off_salvage(&digest, PutOff::Slow, *now) {
                attempts += 1;
                *now += 25 * second;
            }
            *now += 25 * second;
            attempts
        };
        for (request, attempts) in [(0, 25), (1, 3), (2, 3), (3, 3)] {
            assert_eq!(attempts_of(&mut docket, &mut now, request), attempts);
        }
        // It was fast in between.
        docket.record_salvage(&digest(b"other"));
        for (request, attempts) in [(4, 25), (5, 3)] {
            assert_eq!(attempts_of(&mut docket, &mut now, request), attempts);
        }
        // Nothing is known of an hour.
        now += 3600 * second;
        assert_eq!(attempts_of(&mut docket, &mut now, 6), 25);
    }

    /// Senders retry a request each half minute or sooner.
    #[test]
    fn a_hub_that_is_slow_for_some_minutes_costs_nothing() {
        let start = Instant::now();
        let mut docket = Docket::default();
        let stuck = digest(b"stuck");
        let step = Duration::from_millis(100);
        let attempts = PUT_OFF_TIME.as_millis() / step.as_millis();
        let attempts = u32::try_from(attempts).unwrap();
        for number in 0..attempts {
            let now = start + step * number;
            assert!(docket.put_off_salvage(&stuck, PutOff::Slow, now));
        }
        let now = start + PUT_OFF_TIME;
        assert!(!docket.put_off_salvage(&stuck, PutOff::Slow, now));
    }

    #[test]
    fn cases_are_kept_in_bounds() {
        let start = Instant::now();
        let mut docket = Docket::default();
        for message in 0..1000_u32 {
            docket.put(digest(&message.to_le_bytes()), Case::new(start));
        }
        assert_eq!(docket.cases.len(), CASES_MAX);
        assert!(docket.take(&digest(&0_u32.to_le_bytes()), start).is_none());
        let last = digest(&999_u32.to_le_bytes());
        let case = docket.take(&last, start).unwrap();
        docket.put(last, case);
        docket.put(digest(b"open"), Case::new(start));
        let complete = Case {
            complete: true,
            ..Case::new(start)
        };
        docket.put(last, complete);
        docket.put(last, Case::new(start));
        assert!(docket.take(&last, start).unwrap().complete);
        assert!(docket.take(&last, start + CASE_AGE_MAX).is_none());
        assert!(docket.is_idle());
    }

    #[test]
    fn what_was_learned_expires_and_is_dropped_when_the_hub_fails_at_random() {
        let start = Instant::now();
        let lesson = Learned::Series;
        let closed = |learned: Vec<Learned>, unreliable| Closed {
            case: Case::new(start),
            cut: true,
            convicted: Default::default(),
            unreliable,
            learned,
            histograms_refused: true,
            control_failed: false,
        };
        let mut docket = Docket::default();
        let message = digest(b"message");
        docket.close(
            message,
            closed((0..1000).map(lesson).collect(), false),
            start,
        );
        assert_eq!(docket.learned(start).len(), LEARNED_MAX);
        assert!(docket.learned(start).contains(&lesson(999)));
        assert!(docket.refuses_histograms(start));
        docket.close(message, closed(vec![lesson(7)], true), start);
        assert_eq!(docket.learned(start), []);
        assert!(!docket.refuses_histograms(start));
        docket.close(message, closed(vec![lesson(7)], false), start);
        assert_eq!(docket.learned(start), [lesson(7)]);
        assert_eq!(docket.learned(start + LEARNED_AGE_MAX), []);
        assert!(!docket.refuses_histograms(start + LEARNED_AGE_MAX));
    }
}
