//! The decisions on the series of a request. A second walk encodes by them and judges nothing.
//!
//! Neighbours mostly get the same decision, so a run of equal decisions takes one entry of twelve
//! bytes. A request of which everything is kept takes a single entry.
//!
//! The decisions on single samples take no entry: the sieve that made them is kept, and what it does
//! depends on nothing but the sample.

use crate::reasons::Reason;
use crate::wire::{Protocol, Sieve};

use super::{Rules, series_len_min};

/// What becomes of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It may travel on as it lies, but for the samples that the sieve leaves out.
    Keep,
    /// It may travel on with the spoke's label added at this place of its sorted labels.
    Insert(u32),
    /// It may travel on with edited labels.
    Edit(Edit),
    /// It may not travel on.
    Refuse(Reason),
}

/// How the labels of a series are edited: those without a value are left out, and the spoke's own
/// label is set. The rest was decided when the series was judged, so [`Rules::apply`] decides
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edit {
    /// The labels are out of order.
    pub(super) sort: bool,
    /// The value that the spoke's own label had before is kept under this exported name.
    pub(super) exported: Option<u8>,
}

/// The decisions on one request, in the order of its series.
#[derive(Debug, Default)]
pub struct Decisions {
    runs: Vec<Run>,
    /// Decided on the samples of what may travel on.
    sieve: Sieve,
}

/// The same decision, several times in a row.
#[derive(Debug, Clone, Copy)]
struct Run {
    decision: Decision,
    count: u32,
}

impl Decisions {
    /// Most bytes that the decisions on a message take: 600 KB at the default limit of 50,000
    /// series, since beyond the limit nothing is decided any more; and about once the length of a V1
    /// message and three times that of a V2 message. The worst case alternates between the shortest
    /// series that can be kept and one that is refused, which takes two bytes at least.
    pub fn room(protocol: Protocol, message_len: usize, rules: &Rules) -> usize {
        let pair_len_min = series_len_min(protocol) + 2;
        let runs_max = message_len / pair_len_min * 2 + 2;
        rules.series_max().min(runs_max) * size_of::<Run>()
    }

    /// The memory that they hold, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.runs.capacity() * size_of::<Run>()
    }

    #[cfg(test)]
    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Forgets the decisions on the request before, and keeps what decides on the samples of this.
    pub(super) fn start(&mut self, sieve: Sieve) {
        self.runs.clear();
        self.sieve = sieve;
    }

    /// What decided on the samples of what may travel on.
    pub(super) fn sieve(&self) -> Sieve {
        self.sieve
    }

    #[inline]
    pub(super) fn push(&mut self, decision: Decision) {
        match self.runs.last_mut() {
            Some(run) if run.decision == decision => run.count += 1,
            _ => self.runs.push(Run { decision, count: 1 }),
        }
    }

    /// Adds a refusal. A replay does not ask for the reason, so refusals in a row are one entry.
    pub(super) fn push_refusal(&mut self, reason: Reason) {
        match self.runs.last().map(|run| run.decision) {
            Some(refused @ Decision::Refuse(_)) => self.push(refused),
            _ => self.push(Decision::Refuse(reason)),
        }
    }

    /// The decision on the last series. Of refusals in a row, it has the reason of the first.
    pub(super) fn last(&self) -> Option<Decision> {
        self.runs.last().map(|run| run.decision)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Decision> {
        let runs = self.runs.iter();
        runs.flat_map(|run| std::iter::repeat_n(run.decision, run.count as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_decisions_in_a_row_take_one_entry() {
        let mut decisions = Decisions::default();
        let edit = Decision::Edit(Edit {
            sort: true,
            exported: Some(1),
        });
        let pushed = [
            [Decision::Keep; 3].as_slice(),
            &[Decision::Insert(2); 2],
            &[edit, Decision::Insert(2)],
            &[Decision::Refuse(Reason::LabelLength); 4],
        ]
        .concat();
        pushed.iter().for_each(|it| decisions.push(*it));
        assert_eq!(decisions.runs(), 5);
        assert_eq!(decisions.iter().collect::<Vec<_>>(), pushed);
        let sieve = Sieve {
            newest_max: 7,
            oldest_min: 3,
        };
        decisions.start(sieve);
        assert_eq!((decisions.iter().count(), decisions.sieve()), (0, sieve));
    }
}
