//! The search for what a hub does not take: pieces of a message in order, and halves of what gets a
//! fault.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::wire::Kind;
use crate::wire::transcode::Part;

use super::case::Suspect;
use super::inquiry::{Inquiry, Sent, State};
use super::lineup::{LineUp, Standard};
use super::parts;
use super::texts::Complaint;

/// Most faults in a row while the message is cut. Halving 50,000 samples down to one takes 16.
const FAULTS_MAX: u32 = 20;

/// Most single samples that are tried to find out whether the hub stores anything.
pub(super) const PROBES_MAX: u32 = 2;

/// Most suspects of a message at a time.
const SUSPECTS_MAX: usize = 64;

/// A sample that is older by the clock is beyond any window for samples out of order
/// (`out_of_order_time_window`) that a hub may have. Windows of hours are common and those of a day are
/// in use. A Prometheus keeps some three hours of what it could not send, so it sends nothing older.
const OLD: Duration = Duration::from_secs(48 * 3600);

impl Inquiry {
    pub(super) fn next_of_search(&mut self) -> Option<Sent> {
        // Line-ups get a share.
        let suspects = !self.out.case.suspects.is_empty();
        let reserve = if suspects {
            (self.terms.requests_max / 4).min(16)
        } else {
            0
        };
        if self.requests_left <= reserve || self.out.case.suspects.len() >= SUSPECTS_MAX {
            self.stack.clear();
        }
        while let Some(piece) = self.stack.pop() {
            let free = self.free(&piece);
            if !free.is_empty() {
                return Some(Sent::Search(free));
            }
        }
        None
    }

    /// Begins a search in all that is open. Native histograms are apart from the rest where the hub
    /// refused them lately.
    pub(super) fn search(&mut self) {
        let open = |place: usize| self.states[place] == State::Open;
        let is_histogram = |place: usize| self.units[place].kind == Kind::Histogram;
        let count = self.units.len();
        self.stack = if self.terms.histograms_refused {
            let histograms = parts::pick(count, |place| open(place) && is_histogram(place));
            let rest = parts::pick(count, |place| open(place) && !is_histogram(place));
            vec![histograms, rest]
        } else {
            vec![parts::pick(count, open)]
        };
    }

    /// The open units of `piece` that may be sent before what else is open. A unit must follow the
    /// earlier ones of its series: afterwards these would be out of order.
    fn free(&self, piece: &[Part]) -> Vec<Part> {
        let mut held = HashSet::new();
        let mut inside = parts::places(piece).peekable();
        parts::pick(self.units.len(), |place| {
            let within = inside.next_if_eq(&place).is_some();
            let series = self.units[place].series;
            match self.states[place] {
                State::Settled => false,
                State::Open if within && !held.contains(&series) => true,
                State::Open | State::Suspected => {
                    held.insert(series);
                    false
                }
            }
        })
    }

    /// Takes in a fault for a piece of the search.
    pub(super) fn fault(&mut self, piece: Vec<Part>, text: &str, said: &str, now: Instant) {
        self.faults += 1;
        let suspect = Suspect::new(piece, text, said, now);
        let complaint = suspect.complaint;
        let is_histogram = |place: usize| self.units[place].kind == Kind::Histogram;
        let histograms = parts::places(&suspect.parts).filter(|place| is_histogram(*place));
        let (length, histograms) = (parts::len(&suspect.parts), histograms.count());
        // What comes for the first time may come again when the hub is up again.
        let known = complaint != Complaint::Other || self.is_learned(&suspect);
        let is_first = !known && self.out.case.arrivals < 2;
        if complaint == Complaint::Outage || length == 0 {
            self.ended = true;
        } else if length == 1
            || (complaint == Complaint::HistogramsDisabled && histograms == length)
        {
            self.suspect(suspect);
            self.ended |= is_first;
        } else if complaint == Complaint::HistogramsDisabled && histograms > 0 {
            self.out.cut = true;
            for wanted in [true, false] {
                let mut inside = parts::places(&suspect.parts).peekable();
                let kind = parts::pick(self.units.len(), |place| {
                    inside.next_if_eq(&place).is_some() && is_histogram(place) == wanted
                });
                self.stack.push(kind);
            }
        } else if is_first || self.faults > FAULTS_MAX {
            self.ended = self.out.case.suspects.is_empty();
            self.stack.clear();
        } else {
            self.probe_or_halve(suspect.parts, complaint);
        }
    }

    /// Halves a piece if the hub is known to store something; else tries a single sample first.
    pub(super) fn probe_or_halve(&mut self, piece: Vec<Part>, complaint: Complaint) {
        if self.trusted {
            return self.halve(&piece);
        }
        let mut seen = HashSet::new();
        let mut firsts: Vec<_> = parts::places(&piece)
            .filter(|place| seen.insert(self.units[*place].series))
            .filter(|place| self.units[*place].time.is_some())
            .collect();
        self.random.shuffle(&mut firsts);
        if complaint == Complaint::Time {
            firsts.sort_by_key(|place| self.units[*place].time);
        }
        self.stack.push(piece);
        match firsts.pop() {
            Some(place) if self.requests_left > 0 => {
                self.probes += 1;
                // It is sent before anything else.
                self.line_up = Some(LineUp::probe(place));
            }
            _ => self.ended = true,
        }
    }

    pub(super) fn halve(&mut self, piece: &[Part]) {
        self.out.cut = true;
        let states = &self.states;
        let mut inside = parts::places(piece).peekable();
        let open = parts::pick(states.len(), |place| {
            inside.next_if_eq(&place).is_some() && states[place] == State::Open
        });
        let halves = parts::halves(&open).into_iter().rev();
        self.stack.extend(halves.filter(|half| !half.is_empty()));
    }

    /// What got a fault without company is suspected, unless it is known to be refused.
    fn suspect(&mut self, suspect: Suspect) {
        let is_old = |place: usize| {
            let old = self.terms.clock - i64::try_from(OLD.as_millis()).unwrap_or(i64::MAX);
            self.units[place].time.is_some_and(|time| time <= old)
        };
        let known = match suspect.complaint {
            Complaint::Time => parts::places(&suspect.parts).all(is_old),
            Complaint::HistogramsDisabled => {
                self.stored_now
                    && self.terms.histograms_refused
                    && self.standard(&suspect) == Some(Standard::KNOWN)
            }
            _ => false,
        };
        if known {
            return self.convict(&suspect);
        }
        for place in parts::places(&suspect.parts) {
            self.states[place] = State::Suspected;
        }
        self.out.case.suspects.push(suspect);
    }
}
