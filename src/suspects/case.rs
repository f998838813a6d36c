//! What is known of one message that a hub answered with a fault. It outlives the attempts of the
//! spoke.

use std::time::Instant;

use crate::wire::Counts;
use crate::wire::transcode::Part;

use super::texts::{Complaint, fingerprint, is_telling};

/// What is known of a message that a hub answered with a fault.
#[derive(Debug)]
pub struct Case {
    /// When the hub answered it with a fault first.
    pub opened: Instant,
    /// When it was last looked at.
    pub used: Instant,
    /// Each unit was stored or refused. The sender may not know: it did not wait for the answer, or
    /// another hub failed.
    pub complete: bool,
    /// How many times the spoke sent it.
    pub arrivals: u32,
    /// What the hub wrote of it.
    pub written: Counts,
    /// What the version that the hub speaks cannot hold.
    pub unsupported: Counts,
    /// What the hub said of what is refused: a status and a text for each status.
    pub refusals: Vec<(u16, String)>,
    /// The units that are neither to be sent nor suspected: stored or refused.
    pub(super) settled: Vec<Part>,
    pub(super) suspects: Vec<Suspect>,
    /// Some units that the hub stored.
    pub(super) controls: Vec<usize>,
}

/// A unit, or a group of histograms, that got a fault without company.
#[derive(Debug, Clone)]
pub(super) struct Suspect {
    pub(super) parts: Vec<Part>,
    pub(super) since: Instant,
    /// It got its first fault in this attempt.
    pub(super) is_new: bool,
    /// Line-ups in which it failed and every control was stored.
    pub(super) rounds: u32,
    /// What these say against it, in bits.
    pub(super) bits: u32,
    pub(super) complaint: Complaint,
    /// What stays the same in the hub's text from sample to sample.
    pub(super) fingerprint: String,
    /// What the hub said of it last.
    pub(super) said: String,
}

/// A refusal shortens the way for others like it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Learned {
    /// For samples with a text of which this stays the same, if it tells what is wrong.
    Text(String),
    /// For samples of the same series. The hub's text may be vague, or another one each time.
    Series(u64),
}

impl Case {
    /// Nothing is known but that the hub answered a message with a fault.
    pub fn new(now: Instant) -> Self {
        Self {
            opened: now,
            used: now,
            complete: false,
            arrivals: 0,
            written: Counts::default(),
            unsupported: Counts::default(),
            refusals: Vec::new(),
            settled: Vec::new(),
            suspects: Vec::new(),
            controls: Vec::new(),
        }
    }

    /// True when parts of the message are settled or suspected, so that it is not to be sent whole.
    pub fn is_begun(&self) -> bool {
        !self.settled.is_empty() || !self.suspects.is_empty()
    }

    /// Takes back what was settled, so that it is sent again.
    pub fn reopen(&mut self) {
        self.complete = false;
        self.written = Counts::default();
        self.unsupported = Counts::default();
        self.refusals.clear();
        self.settled.clear();
    }

    /// Records a refusal, the first one of each status.
    pub(super) fn refuse(&mut self, status: u16, said: String) {
        if self.refusals.iter().all(|(known, _)| *known != status) {
            self.refusals.push((status, said));
        }
    }
}

impl Suspect {
    pub(super) fn new(parts: Vec<Part>, text: &str, said: &str, now: Instant) -> Self {
        Self {
            parts,
            since: now,
            is_new: true,
            rounds: 0,
            bits: 0,
            complaint: Complaint::of(text),
            fingerprint: fingerprint(text),
            said: said.to_owned(),
        }
    }

    /// What its refusal teaches, if it is a sample of this series.
    pub(super) fn lessons(&self, series: u64) -> impl Iterator<Item = Learned> {
        let text = is_telling(&self.fingerprint).then(|| Learned::Text(self.fingerprint.clone()));
        text.into_iter().chain([Learned::Series(series)])
    }
}
