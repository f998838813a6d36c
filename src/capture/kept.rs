//! A body that is kept for a capture, as far as there is room for it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Capture, HELD_BYTES_MAX};

/// The first bytes of a body, as they came.
pub struct Kept {
    capture: Arc<Capture>,
    bytes: Vec<u8>,
    /// What the buffer has of the bound of all bodies, in bytes.
    held: usize,
    /// All that came, in bytes.
    came: usize,
    /// The end of the body has come.
    complete: bool,
}

impl Kept {
    /// Keeps nothing yet.
    pub fn new(capture: &Arc<Capture>) -> Self {
        Self {
            capture: Arc::clone(capture),
            bytes: Vec::new(),
            held: 0,
            came: 0,
            complete: false,
        }
    }

    /// What it is kept for.
    pub fn capture(&self) -> &Arc<Capture> {
        &self.capture
    }

    /// Adds the bytes that follow. What has no room is left out, with all that comes after it.
    pub fn add(&mut self, bytes: &[u8]) {
        let whole = self.bytes.len() == self.came;
        self.came = self.came.saturating_add(bytes.len());
        let room = self.capture.terms.body_bytes - self.bytes.len();
        let taken = &bytes[..bytes.len().min(room)];
        if whole && self.make_room(taken.len()) {
            self.bytes.extend_from_slice(taken);
        }
    }

    /// The body ends here.
    pub fn end(&mut self) {
        self.complete = true;
    }

    /// Whether the end of the body has come. Without it, nobody knows how long the body is.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// What is kept.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes came, as far as they were read.
    pub fn came(&self) -> usize {
        self.came
    }

    /// Makes room for so many bytes more. They are reserved before they are held.
    fn make_room(&mut self, bytes: usize) -> bool {
        let length = self.bytes.len() + bytes;
        if length <= self.held {
            return true;
        }
        let wanted = length.max(2 * self.held).min(self.capture.terms.body_bytes);
        let more = wanted - self.held;
        let sum = |held: usize| Some(held + more).filter(|sum| *sum <= HELD_BYTES_MAX);
        let of_all = &self.capture.held;
        let taken = of_all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
        if taken.is_err() {
            return false;
        }
        self.held = wanted;
        let missing = wanted - self.bytes.len();
        self.bytes.try_reserve_exact(missing).is_ok()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.capture.held.fetch_sub(self.held, Ordering::Relaxed);
    }
}

/// A body is shown to whoever asked for it and to nobody else.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("kept", &self.bytes.len())
            .field("came", &self.came)
            .finish_non_exhaustive()
    }
}
