//! The memory that a thread reuses from request to request.

use std::cell::RefCell;

use crate::policy;
use crate::wire::encoder::Encoder;
use crate::wire::transcode;

use super::payload::{Compressor, KEPT_BYTES_MAX};

thread_local! {
    /// The buffers of this thread. No request leaves anything in them, and a pool would need a lock.
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// What a thread works with.
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
        buffers.trim();
        done
    })
}

impl Buffers {
    fn trim(&mut self) {
        if self.decoded.capacity() > KEPT_BYTES_MAX {
            self.decoded = Vec::new();
        }
        self.compressor.trim();
        self.policy.trim(KEPT_BYTES_MAX);
        self.transcode.trim(KEPT_BYTES_MAX);
        for encoder in &mut self.encoders.0 {
            encoder.trim(KEPT_BYTES_MAX);
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
