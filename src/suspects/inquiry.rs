//! One attempt at a message that a hub answers with a fault: what is sent next, and what follows from
//! the hub's answer.
//!
//! What is neither settled nor suspected is sent as one message first, since the hub may have
//! recovered. If it gets a fault and the hub stores something else, it is halved, depth first. What is
//! left over are suspects; [`lineup`](super::lineup) says what becomes of these.

use std::time::Instant;

use bytes::Bytes;

use crate::wire::transcode::{Part, Unit};
use crate::wire::{Counts, Kind, Protocol};

use super::case::{Case, Learned};
use super::lineup::LineUp;
use super::parts;
use super::search::PROBES_MAX;
use super::texts::Complaint;

/// Most units of a message that are remembered to be controls.
const CONTROLS_MAX: usize = 8;

/// Most parts in what is remembered to be settled.
const SETTLED_MAX: usize = 4096;

/// A sample that the hub has stored. The spoke sent it in another message.
#[derive(Debug, Clone)]
pub struct Control {
    /// The version of its message.
    pub protocol: Protocol,
    /// The message that holds nothing else, compressed.
    pub body: Bytes,
    /// What the message carries.
    pub counts: Counts,
    /// Its timestamp, in milliseconds since the Unix epoch.
    pub time: i64,
    /// When it was kept.
    pub since: Instant,
}

/// What is known at the beginning of an attempt.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The time.
    pub now: Instant,
    /// The time in milliseconds since the Unix epoch.
    pub clock: i64,
    /// Most requests to the hub.
    pub requests_max: usize,
    /// What refusals taught lately.
    pub learned: Vec<Learned>,
    /// The hub refused native histograms as such lately.
    pub histograms_refused: bool,
    /// When the hub last failed a control.
    pub unreliable: Option<Instant>,
    /// When the hub last stored samples of another message of the spoke.
    pub last_stored: Option<Instant>,
    /// A sample that the hub has stored.
    pub control: Option<Control>,
    /// Where the random order begins.
    pub seed: u64,
}

/// What the hub is sent.
#[derive(Debug, Clone)]
pub enum Shot {
    /// These units of the message.
    Parts(Vec<Part>),
    /// The sample of another message.
    Control(Control),
}

/// What the hub made of it.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It stored this much of it, and nothing is left.
    Stored(Counts),
    /// It refused it, or a part of it, for good.
    Refused {
        /// What it wrote.
        written: Counts,
        /// The status for the spoke.
        status: u16,
        /// What the spoke is told.
        said: String,
    },
    /// It refused all of it because of a part.
    Halve {
        /// The status for the spoke if that is all.
        status: u16,
        /// What the spoke is told then.
        said: String,
    },
    /// Its version has no place for it.
    Unsupported,
    /// It answered with a fault, which need not be its own.
    Fault {
        /// Its text.
        text: String,
        /// What the spoke is told if the sample is refused.
        said: String,
    },
}

/// What an attempt left.
#[derive(Debug)]
pub struct Closed {
    /// What is known of the message.
    pub case: Case,
    /// The message was cut because of a fault.
    pub cut: bool,
    /// What was refused because the hub answered it alone with a fault.
    pub convicted: Counts,
    /// The hub failed what it had stored, or stored what it had failed.
    pub unreliable: bool,
    /// What refusals taught.
    pub learned: Vec<Learned>,
    /// Native histograms were refused as such.
    pub histograms_refused: bool,
    /// The sample of another message was not stored.
    pub control_failed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Suspected,
    Settled,
}

#[derive(Debug)]
pub(super) enum Sent {
    Search(Vec<Part>),
    Probe(usize),
    Suspect(usize),
    OwnControl(usize),
    Control,
}

/// One attempt at a message.
#[derive(Debug)]
pub struct Inquiry {
    pub(super) units: Vec<Unit>,
    pub(super) states: Vec<State>,
    pub(super) terms: Terms,
    pub(super) random: fastrand::Rng,
    pub(super) requests_left: usize,
    pub(super) out: Closed,
    /// What to send, and to halve if it gets a fault; the last one is next.
    pub(super) stack: Vec<Vec<Part>>,
    sent: Option<Sent>,
    pub(super) line_up: Option<LineUp>,
    /// The classes of suspects that were lined up: those of [`Complaint::Time`], and the others.
    pub(super) lined_up: [bool; 2],
    /// Suspects were settled, so that others behind them may be sent.
    pub(super) resume: bool,
    /// The hub stores something of the spoke.
    pub(super) trusted: bool,
    /// The hub stored something of this message in this attempt.
    pub(super) stored_now: bool,
    pub(super) probes: u32,
    pub(super) faults: u32,
    pub(super) ended: bool,
}

impl Inquiry {
    /// Begins an attempt at a message that consists of `units`.
    pub fn open(mut case: Case, units: Vec<Unit>, terms: Terms) -> Self {
        let since_last = |at: Option<Instant>| at.is_some_and(|at| at > case.used);
        let trusted = since_last(terms.last_stored) && !since_last(terms.unreliable);
        case.arrivals += 1;
        case.used = terms.now;
        // A hub that fails at random has proved nothing against anybody.
        case.suspects
            .retain(|suspect| terms.unreliable.is_none_or(|at| at < suspect.since));
        let mut states = vec![State::Open; units.len()];
        let mut mark = |parts: &[Part], state| {
            for place in parts::places(parts) {
                if let Some(known) = states.get_mut(place) {
                    *known = state;
                }
            }
        };
        mark(&case.settled, State::Settled);
        for suspect in &mut case.suspects {
            suspect.is_new = false;
            mark(&suspect.parts, State::Suspected);
        }
        let mut inquiry = Self {
            random: fastrand::Rng::with_seed(terms.seed),
            requests_left: terms.requests_max,
            units,
            states,
            terms,
            stack: Vec::new(),
            sent: None,
            line_up: None,
            lined_up: [false; 2],
            resume: false,
            trusted,
            stored_now: false,
            probes: 0,
            faults: 0,
            ended: false,
            out: Closed {
                case,
                cut: false,
                convicted: Counts::default(),
                unreliable: false,
                learned: Vec::new(),
                histograms_refused: false,
                control_failed: false,
            },
        };
        inquiry.search();
        inquiry
    }

    /// Begins with the hub's fault for the whole message, which was sent already.
    pub fn begin_with_fault(&mut self, text: &str, said: &str, now: Instant) {
        // A sender that does not wait sends the message again while it is looked into. Then more is known
        // than this fault says, and what is settled must not be counted twice.
        if self.out.case.is_begun() {
            return;
        }
        self.stack.clear();
        let whole = parts::pick(self.states.len(), |_| true);
        self.fault(whole, text, said, now);
    }

    /// What the hub is sent next; `None` when the attempt is over.
    pub fn next_shot(&mut self) -> Option<Shot> {
        while !self.ended && self.requests_left > 0 {
            let shot = match self.line_up.as_mut().map(LineUp::next) {
                Some(Some(sent)) => Some(sent),
                Some(None) => {
                    self.close_line_up();
                    continue;
                }
                None => self.next_of_search(),
            };
            match shot {
                Some(sent) => return Some(self.send(sent)),
                None if std::mem::take(&mut self.resume) => self.search(),
                None if self.start_line_up() => {}
                None => return None,
            }
        }
        None
    }

    fn send(&mut self, sent: Sent) -> Shot {
        self.requests_left -= 1;
        let shot = match &sent {
            Sent::Search(parts) => Shot::Parts(parts.clone()),
            Sent::Probe(place) | Sent::OwnControl(place) => Shot::Parts(parts::one(*place)),
            Sent::Suspect(index) => Shot::Parts(self.out.case.suspects[*index].parts.clone()),
            Sent::Control => match &self.terms.control {
                Some(control) => Shot::Control(control.clone()),
                None => Shot::Parts(Vec::new()),
            },
        };
        self.sent = Some(sent);
        shot
    }

    /// Takes in the answer to what was sent last.
    pub fn answered(&mut self, answer: Answer, now: Instant) {
        match self.sent.take() {
            Some(Sent::Search(piece)) => self.search_answered(piece, answer, now),
            Some(Sent::Probe(place)) => match answer {
                Answer::Fault { .. } if self.probes < PROBES_MAX => {
                    let rest = self.stack.pop().unwrap_or_default();
                    self.probe_or_halve(rest, Complaint::Other);
                }
                Answer::Fault { .. } => self.ended = true,
                answer => {
                    self.trusted = true;
                    self.settle_by(&parts::one(place), answer);
                    let rest = self.stack.pop().unwrap_or_default();
                    self.halve(&rest);
                }
            },
            Some(Sent::Suspect(index)) => self.suspect_answered(index, answer),
            Some(Sent::OwnControl(place)) => {
                let usable = self.control_answered(&answer);
                let controls = &mut self.out.case.controls;
                controls.retain(|known| usable || *known != place);
            }
            Some(Sent::Control) => self.out.control_failed |= !self.control_answered(&answer),
            None => {}
        }
    }

    fn search_answered(&mut self, piece: Vec<Part>, answer: Answer, now: Instant) {
        match answer {
            Answer::Fault { text, said } => self.fault(piece, &text, &said, now),
            Answer::Halve { .. } if parts::len(&piece) > 1 => self.halve(&piece),
            answer => self.settle_by(&piece, answer),
        }
    }

    /// Settles units by an answer that says what becomes of them.
    pub(super) fn settle_by(&mut self, piece: &[Part], answer: Answer) {
        let case = &mut self.out.case;
        match answer {
            Answer::Stored(counts) => {
                case.written.add_all(&counts);
                if counts.samples() > 0 {
                    self.keep_controls(piece);
                    (self.trusted, self.stored_now, self.faults) = (true, true, 0);
                }
            }
            Answer::Refused {
                written,
                status,
                said,
            } => {
                case.written.add_all(&written);
                case.refuse(status, said);
            }
            Answer::Halve { status, said } => case.refuse(status, said),
            Answer::Unsupported => {
                for place in parts::places(piece) {
                    case.unsupported.add(self.units[place].kind, 1);
                }
            }
            Answer::Fault { .. } => return,
        }
        self.settle(piece);
    }

    pub(super) fn settle(&mut self, piece: &[Part]) {
        for place in parts::places(piece) {
            self.states[place] = State::Settled;
        }
    }

    /// Remembers the last sample of each kind in what was stored.
    fn keep_controls(&mut self, piece: &[Part]) {
        for kind in [Kind::Float, Kind::Histogram] {
            let of_kind = |place: &usize| self.units[*place].kind == kind;
            if let Some(place) = parts::places(piece).filter(of_kind).last() {
                self.out.case.controls.push(place);
            }
        }
        let extra = self.out.case.controls.len().saturating_sub(CONTROLS_MAX);
        self.out.case.controls.drain(..extra);
    }

    /// Nothing is suspected any more: the hub fails what it stores, or stores what it fails.
    pub(super) fn give_up(&mut self) {
        for suspect in std::mem::take(&mut self.out.case.suspects) {
            for place in parts::places(&suspect.parts) {
                if self.states[place] == State::Suspected {
                    self.states[place] = State::Open;
                }
            }
        }
        self.line_up = None;
        self.out.unreliable = true;
        self.ended = true;
    }

    /// A line-up may settle a suspect, and end before all of it is sent.
    pub(super) fn drop_settled_suspects(&mut self) {
        let states = &self.states;
        self.out.case.suspects.retain(|suspect| {
            parts::places(&suspect.parts).all(|place| states[place] == State::Suspected)
        });
    }

    /// The hub gave no answer, or one that means that it is out of order. That says nothing of the
    /// suspects: the line-up does not count.
    pub fn broken(&mut self) {
        self.line_up = None;
        self.ended = true;
    }

    /// Ends the attempt.
    pub fn close(mut self) -> Closed {
        self.drop_settled_suspects();
        let states = &self.states;
        let settled = parts::pick(states.len(), |place| states[place] == State::Settled);
        let complete = states.iter().all(|state| *state == State::Settled);
        if settled.len() > SETTLED_MAX && !complete {
            self.out.case = Case::new(self.out.case.opened);
        } else {
            self.out.case.settled = settled;
            self.out.case.complete = complete;
        }
        self.out
    }
}
