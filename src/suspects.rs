//! What becomes of a message that a hub answers with a fault (500) again and again, while it takes
//! others of the same spoke.
//!
//! Such a message may hold a sample that the hub will never take; then the spoke would send it for
//! ever, and everything behind it would wait. Or the hub is down, or flaky, and takes the message
//! later; then nothing of it may be refused. No text tells the two apart for every receiver, so the
//! hub is tried. An [`Inquiry`] cuts the message as long as the hub stores parts of it. A sample
//! that gets a fault alone becomes a suspect. Suspects are lined up: they are sent once more, in
//! random order among controls, which are samples that the hub has stored just before. A hub that
//! does not look at what it is sent fails a suspect and stores all of `c` controls in at most one of
//! `c + 1` orders, so each line-up adds `log2(c + 1)` bits against the suspect. When one control
//! fails, the hub is not to be trusted, and nothing is suspected any more. A suspect is refused
//! after several line-ups, over some time, with enough bits; `lineup` has the numbers. Texts that
//! are known shorten the way, see [`Complaint`].
//!
//! Two more rules follow from what a hub is. Parts are sent in the order of the message as far as they
//! concern the same series, so that nothing is out of order for being tried later. And what a hub
//! finds too old is only refused if it is old by the clock, or if the hub stores the spoke's samples
//! of the present: the hub compares with its newest sample, which another sender may have put far
//! ahead.
//!
//! Pure: the time is passed in, and what is sent comes out.

mod case;
mod docket;
mod inquiry;
mod lineup;
mod parts;
mod search;
#[cfg(test)]
mod tests;
mod texts;

pub use case::{Case, Learned};
pub use docket::{Digest, Docket, PutOff, digest};
pub use inquiry::{Answer, Closed, Control, Inquiry, Shot, Terms};
pub use texts::{Complaint, compares_with_newest};
