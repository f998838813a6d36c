//! What will break next: clocks that differ, what ends soon and what is nearly full, by the thresholds of the alerts
//! in `deploy/`.

use std::time::Duration;

use crate::telemetry::words;

/// What ends within this time is told.
const ENDS_SOON: Duration = Duration::from_hours(14 * 24);

/// A credential that was not used for longer is no longer in use.
const UNUSED_AFTER: Duration = Duration::from_hours(1);

/// The shares from which on the bytes in flight, the connections and a limit of a spoke are told.
pub(super) const BYTES_SHARE: f64 = 0.7;
pub(super) const CONNECTIONS_SHARE: f64 = 0.8;
pub(super) const LIMIT_SHARE: f64 = 0.8;

/// The sentences that are told. The rest is a number.
const TOLD_MAX: usize = 20;

/// What needs an operator soon.
#[derive(Debug)]
pub(super) struct Ahead {
    /// The time, in seconds since the Unix epoch.
    now: f64,
    /// By how many seconds the clock of which hub is ahead.
    differs: Vec<(f64, String)>,
    /// What ends, and after how many seconds.
    ends: Vec<(f64, String)>,
    /// What is nearly full, and which share of it is in use.
    fills: Vec<(f64, String)>,
}

impl Ahead {
    pub(super) fn new(now: f64) -> Self {
        Self {
            now,
            differs: Vec::new(),
            ends: Vec::new(),
            fills: Vec::new(),
        }
    }

    /// Notices by how many seconds the clock of a hub is ahead, negative if it is behind.
    pub(super) fn clock(&mut self, hub: &str, seconds_ahead: i64) {
        if seconds_ahead != 0 {
            self.differs.push((seconds_ahead as f64, hub.to_owned()));
        }
    }

    /// Notices something that ends at this time.
    pub(super) fn ends(&mut self, what: impl FnOnce() -> String, expiry: f64) {
        let left = expiry - self.now;
        if left < ENDS_SOON.as_secs_f64() {
            self.ends.push((left, what()));
        }
    }

    /// The same for a credential of a spoke, unless it is no longer used.
    pub(super) fn credential_ends(&mut self, spoke: &str, name: &str, used: f64, expiry: f64) {
        if self.now - used < UNUSED_AFTER.as_secs_f64() {
            self.ends(|| format!("credential {name} of spoke {spoke}"), expiry);
        }
    }

    /// Notices something of which this share is in use, and that is told above `most`.
    pub(super) fn fills(&mut self, what: impl FnOnce() -> String, share: f64, most: f64) {
        if share > most {
            self.fills.push((share, what()));
        }
    }

    /// A sentence for each: clocks that differ, then what ends, the first at the front, then what is fullest.
    pub(super) fn sentences(mut self) -> Vec<String> {
        self.ends.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        self.fills.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let time = |seconds: f64| {
            words::time(Duration::try_from_secs_f64(seconds.abs()).unwrap_or(Duration::MAX))
        };
        let differs = self.differs.iter().map(|(ahead, hub)| {
            let time = time(*ahead);
            match *ahead > 0.0 {
                true => format!("The clock of hub {hub} is {time} ahead of that of hubgate."),
                false => format!("The clock of hub {hub} is {time} behind that of hubgate."),
            }
        });
        let ends = self.ends.iter().map(|(left, what)| {
            let time = time(*left);
            match *left > 0.0 {
                true => format!("The {what} ends in {time}."),
                false => format!("The {what} ended {time} ago."),
            }
        });
        let fills = self.fills.iter();
        let fills =
            fills.map(|(share, what)| format!("{} of {what} in use.", words::share(*share)));
        let mut sentences: Vec<_> = differs.chain(ends).chain(fills).collect();
        let more = sentences.len().saturating_sub(TOLD_MAX);
        if more > 0 {
            sentences.truncate(TOLD_MAX);
            sentences.push(format!("{more} more end soon or are nearly full."));
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: f64 = 86_400.0;

    #[test]
    fn what_ends_or_fills_soon_is_told_the_most_urgent_first() {
        let mut ahead = Ahead::new(1e9);
        let certificate = || "certificate for write".to_owned();
        for days in [13.5, 14.5, -0.5] {
            ahead.ends(certificate, 1e9 + days * DAY);
        }
        for (hub, seconds) in [("a", 0), ("b", 10_800), ("c", -600)] {
            ahead.clock(hub, seconds);
        }
        // The second is not used any more.
        for (name, unused) in [("new", 60.0), ("old", 7200.0)] {
            ahead.credential_ends("production", name, 1e9 - unused, 1e9 + DAY);
        }
        for share in [0.7, 0.8, 1.5] {
            ahead.fills(|| "the connections are".to_owned(), share, 0.7);
        }
        let expected = [
            "The clock of hub b is 3 h ahead of that of hubgate.",
            "The clock of hub c is 10 min behind that of hubgate.",
            "The certificate for write ended 12 h ago.",
            "The credential new of spoke production ends in 24 h.",
            "The certificate for write ends in 13 d.",
            "150 % of the connections are in use.",
            "80 % of the connections are in use.",
        ];
        assert_eq!(ahead.sentences(), expected);
    }

    #[test]
    fn no_more_are_told_than_somebody_reads() {
        let mut ahead = Ahead::new(1e9);
        for _ in 0..22 {
            ahead.fills(|| "it is".to_owned(), 0.9, 0.8);
        }
        let sentences = ahead.sentences();
        assert_eq!(sentences.len(), 21);
        assert_eq!(sentences[20], "2 more end soon or are nearly full.");
    }
}
