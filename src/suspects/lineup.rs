//! Line-ups: suspects among controls in random order, and what follows.

use std::time::{Duration, Instant};

use crate::wire::Kind;

use super::case::{Learned, Suspect};
use super::inquiry::{Answer, Inquiry, Sent, State};
use super::parts;
use super::texts::Complaint;

/// Most suspects in a line-up.
const LINE_MAX: usize = 24;

/// Controls in a line-up: for suspects of whom nothing is known, and for others.
const CONTROLS: usize = 7;
const CONTROLS_KNOWN: usize = 3;

/// How far from the clock a control may be to show what the hub takes at present, in milliseconds.
const PRESENT: i64 = 600_000;

/// What it takes to refuse a suspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standard {
    /// Line-ups in which it failed and all controls were stored.
    rounds: u32,
    /// What these say against it, in bits.
    bits: u32,
    /// Time since it was suspected first.
    span: Duration,
}

impl Standard {
    /// Nothing is known. A hub that fails every request with the same probability, whatever that is,
    /// fails a sample so consistently once in 2^34 cases, and no hub that does not look at what it is
    /// sent does so more often than once in 2^24.
    const UNKNOWN: Self = Self {
        rounds: 8,
        bits: 24,
        span: Duration::from_secs(30),
    };

    /// The text is known to be about samples of this kind.
    pub(super) const KNOWN: Self = Self {
        rounds: 5,
        bits: 10,
        span: Duration::ZERO,
    };

    /// A suspect with the same text or of the same series was refused lately, and the hub has failed no control since.
    const LEARNED: Self = Self {
        rounds: 2,
        bits: 4,
        span: Duration::ZERO,
    };
}

/// What is sent in random order, and what became of it.
#[derive(Debug, Default)]
pub(super) struct LineUp {
    left: Vec<Sent>,
    failed: Vec<usize>,
    controls: u32,
}

impl LineUp {
    /// A single sample that shows whether the hub stores anything.
    pub(super) fn probe(place: usize) -> Self {
        Self {
            left: vec![Sent::Probe(place)],
            ..Self::default()
        }
    }

    pub(super) fn next(&mut self) -> Option<Sent> {
        self.left.pop()
    }
}

impl Inquiry {
    /// What it takes to refuse a suspect; `None` if nothing suffices.
    pub(super) fn standard(&self, suspect: &Suspect) -> Option<Standard> {
        let mut places = parts::places(&suspect.parts);
        let histograms = places.all(|place| self.units[place].kind == Kind::Histogram);
        match suspect.complaint {
            Complaint::Outage => None,
            Complaint::Time => Some(Standard::UNKNOWN),
            Complaint::Histogram | Complaint::HistogramsDisabled if histograms => {
                Some(Standard::KNOWN)
            }
            Complaint::Sample => Some(Standard::KNOWN),
            _ if self.is_learned(suspect) => Some(Standard::LEARNED),
            _ => Some(Standard::UNKNOWN),
        }
    }

    /// True if one like this suspect was refused lately: with the same text, or of the same series.
    pub(super) fn is_learned(&self, suspect: &Suspect) -> bool {
        let is_same = |lesson: &Learned| match lesson {
            Learned::Text(text) => *text == suspect.fingerprint,
            Learned::Series(series) => {
                let mut places = parts::places(&suspect.parts);
                places.any(|place| self.units[place].series == *series)
            }
        };
        self.terms.learned.iter().any(is_same)
    }

    /// Begins the next line-up of this attempt, if there is one.
    pub(super) fn start_line_up(&mut self) -> bool {
        for class in 0..self.lined_up.len() {
            if !std::mem::replace(&mut self.lined_up[class], true) && self.line_up_class(class == 1)
            {
                return true;
            }
        }
        false
    }

    /// Lines up the suspects of one class that one kind of control suits.
    fn line_up_class(&mut self, time: bool) -> bool {
        let suspects = &self.out.case.suspects;
        let of_class = |index: &usize| (suspects[*index].complaint == Complaint::Time) == time;
        let mut line: Vec<_> = (0..suspects.len()).filter(of_class).collect();
        line.sort_by_key(|index| std::cmp::Reverse(suspects[*index].bits));
        let first = line
            .first()
            .and_then(|index| parts::places(&suspects[*index].parts).next());
        let Some(kind) = first.map(|place| self.units[place].kind) else {
            return false;
        };
        if time {
            // Only a sample of the same kind shows what the hub takes of it at present.
            line.retain(|index| {
                let mut places = parts::places(&suspects[*index].parts);
                places.all(|place| self.units[place].kind == kind)
            });
        }
        let brief = line.iter().all(|index| {
            self.standard(&suspects[*index])
                .is_some_and(|it| it.span.is_zero())
        });
        let control = self.pick_control(kind, time);
        let wanted = if brief { CONTROLS_KNOWN } else { CONTROLS };
        let controls = if control.is_some() {
            wanted.min(self.requests_left / 2)
        } else {
            0
        };
        if controls == 0 {
            // It only shows whether the hub is up again.
            line.retain(|index| !suspects[*index].is_new);
        }
        line.truncate(LINE_MAX.min(self.requests_left.saturating_sub(controls)));
        if line.is_empty() {
            return false;
        }
        let mut left: Vec<_> = line.into_iter().map(Sent::Suspect).collect();
        for _ in 0..controls {
            left.push(match control {
                Some(Some(place)) => Sent::OwnControl(place),
                _ => Sent::Control,
            });
        }
        self.random.shuffle(&mut left);
        self.line_up = Some(LineUp {
            left,
            ..LineUp::default()
        });
        true
    }

    /// A stored sample to be sent beside suspects: of this message by its place, or `Some(None)` for
    /// that of another message.
    fn pick_control(&self, kind: Kind, time: bool) -> Option<Option<usize>> {
        let is_present = |time: i64| time.abs_diff(self.terms.clock) <= PRESENT.unsigned_abs();
        let suits = |place: &usize| {
            let unit = &self.units[*place];
            let present = unit.kind == kind && unit.time.is_some_and(is_present);
            self.is_last_of_series(*place) && (!time || present)
        };
        let own = || self.out.case.controls.iter().copied().filter(suits);
        let same_kind = own().rfind(|place| self.units[*place].kind == kind);
        if let Some(place) = same_kind.or_else(|| own().next_back()) {
            return Some(Some(place));
        }
        let control = self.terms.control.as_ref()?;
        let present = control.counts.of(kind) > 0 && is_present(control.time);
        (!self.out.control_failed && (!time || present)).then_some(None)
    }

    /// True when nothing of the series behind this place is stored. An older sample would be out of
    /// order if it were sent once more.
    fn is_last_of_series(&self, place: usize) -> bool {
        let series = self.units[place].series;
        let mut behind =
            (place + 1..self.units.len()).filter(|at| self.units[*at].series == series);
        behind.all(|at| self.states[at] != State::Settled)
    }

    pub(super) fn suspect_answered(&mut self, index: usize, answer: Answer) {
        let suspect = &mut self.out.case.suspects[index];
        match answer {
            Answer::Fault { text, said } => {
                suspect.complaint = Complaint::of(&text);
                suspect.said = said;
                if let Some(line_up) = &mut self.line_up {
                    line_up.failed.push(index);
                }
            }
            Answer::Halve { .. } if parts::len(&suspect.parts) > 1 => self.give_up(),
            answer => {
                let stored = matches!(answer, Answer::Stored(_));
                let piece = suspect.parts.clone();
                self.settle_by(&piece, answer);
                self.resume = true;
                if stored {
                    self.give_up();
                }
            }
        }
    }

    /// Takes in what became of a control; false when it is none any more.
    pub(super) fn control_answered(&mut self, answer: &Answer) -> bool {
        match answer {
            Answer::Stored(_) => {
                if let Some(line_up) = &mut self.line_up {
                    line_up.controls += 1;
                }
                true
            }
            Answer::Fault { .. } => {
                self.give_up();
                true
            }
            _ => {
                // The line-up is void.
                self.line_up = None;
                false
            }
        }
    }

    /// Ends a line-up: refuses the suspects against whom it suffices.
    pub(super) fn close_line_up(&mut self) {
        let Some(line_up) = self.line_up.take() else {
            return;
        };
        let now = self.terms.now;
        let mut again = [false; 2];
        let mut convicted = Vec::new();
        for index in line_up.failed {
            let suspect = &mut self.out.case.suspects[index];
            if line_up.controls > 0 {
                suspect.rounds += 1;
                suspect.bits += (line_up.controls + 1).ilog2();
            }
            let suspect = &self.out.case.suspects[index];
            let Some(standard) = self.standard(suspect) else {
                continue;
            };
            if suspect.meets(standard, now) {
                convicted.push(suspect.clone());
            } else if standard.span.is_zero() && line_up.controls > 0 {
                again[usize::from(suspect.complaint == Complaint::Time)] = true;
            }
        }
        for suspect in convicted {
            self.convict(&suspect);
            self.resume = true;
        }
        self.drop_settled_suspects();
        for (lined_up, again) in self.lined_up.iter_mut().zip(again) {
            *lined_up &= !again;
        }
    }

    /// Refuses a suspect.
    pub(super) fn convict(&mut self, suspect: &Suspect) {
        for place in parts::places(&suspect.parts) {
            self.out.convicted.add(self.units[place].kind, 1);
        }
        self.settle(&suspect.parts);
        self.out.case.refuse(400, suspect.said.clone());
        match suspect.complaint {
            Complaint::HistogramsDisabled => self.out.histograms_refused = true,
            Complaint::Other => {
                let mut places = parts::places(&suspect.parts);
                if let Some(place) = places.next() {
                    let lessons = suspect.lessons(self.units[place].series);
                    self.out.learned.extend(lessons);
                }
            }
            _ => {}
        }
    }
}

impl Suspect {
    fn meets(&self, standard: Standard, now: Instant) -> bool {
        self.rounds >= standard.rounds
            && self.bits >= standard.bits
            && now.duration_since(self.since) >= standard.span
    }
}
