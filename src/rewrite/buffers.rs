//! The memory that is reused from message to message.
//!
//! An async worker has buffers of its own, in which it keeps little. Large messages are worked on
//! with buffers that are lent: to give them back to the system after each message, and to get them
//! from there for the next one, takes longer than the work itself. What is kept counts towards the
//! budget, and goes back when it was not used for some seconds, or when requests need the room.

mod lent;

use std::cell::RefCell;

use crate::policy;
use crate::wire::encoder::Encoder;
use crate::wire::transcode;

use super::payload::{Compressor, KEPT_BYTES_MAX};

pub(super) use lent::Lender;

thread_local! {
    /// The buffers of this thread. No request leaves anything in them, and a pool would need a lock.
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// What a message is worked on with.
#[derive(Default)]
pub(super) struct Buffers {
    /// The decompressed message.
    pub(super) decoded: Vec<u8>,
    pub(super) compressor: Compressor,
    pub(super) policy: policy::Scratch,
    pub(super) transcode: transcode::Scratch,
    pub(super) encoders: Encoders,
}

/// Encoders, as many as one walk ever needed.
#[derive(Default)]
pub(super) struct Encoders(Vec<Encoder>);

/// Lends the thread's buffers to `work`.
pub(super) fn with_buffers<T>(work: impl FnOnce(&mut Buffers) -> T) -> T {
    BUFFERS.with_borrow_mut(|buffers| {
        let done = work(buffers);
        buffers.trim(KEPT_BYTES_MAX);
        done
    })
}

impl Buffers {
    /// The memory that they hold, in bytes.
    fn bytes(&self) -> usize {
        let encoders: usize = self.encoders.0.iter().map(Encoder::bytes).sum();
        let scratch = self.policy.bytes() + self.transcode.bytes();
        self.decoded.capacity() + self.compressor.bytes() + scratch + encoders
    }

    /// Gives memory back if the last messages left more than about `bytes_max` in a buffer.
    fn trim(&mut self, bytes_max: usize) {
        if self.decoded.capacity() > bytes_max {
            self.decoded = Vec::new();
        }
        self.compressor.trim(bytes_max);
        self.policy.trim(bytes_max);
        self.transcode.trim(bytes_max);
        for encoder in &mut self.encoders.0 {
            encoder.trim(bytes_max);
        }
    }
}

impl Encoders {
    /// The first `count` encoders.
    pub(super) fn first(&mut self, count: usize) -> &mut [Encoder] {
        if self.0.len() < count {
            self.0.resize_with(count, Encoder::default);
        }
        &mut self.0[..count]
    }
}
