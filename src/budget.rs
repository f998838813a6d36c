//! Admission by bytes: what a request may hold in memory is taken from a budget of the process
//! before it is held.
//!
//! There is no queue: who finds the budget taken is told so at once and comes again, since a
//! waiting request would hold a connection and its body. A count of requests would be no measure:
//! one may hold a kilobyte or the whole limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

use crate::write::refusal::Refusal;

/// The bytes that all requests together may hold.
#[derive(Debug)]
pub struct Budget {
    limit: AtomicUsize,
    taken: AtomicUsize,
    gauge: IntGauge,
}

impl Budget {
    /// A budget of `limit` bytes that shows in `gauge` how many are taken.
    pub fn new(limit: usize, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self {
            limit: limit.into(),
            taken: 0.into(),
            gauge,
        })
    }

    /// Changes the limit, in bytes; what is taken stays taken.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// An empty share for one request.
    pub fn share(self: &Arc<Self>) -> Share {
        Share {
            budget: Arc::clone(self),
            bytes: 0.into(),
        }
    }

    /// Takes `bytes` for a share that holds `held`. A share that is alone may go beyond the
    /// limit: else a request that grows beyond it when it is written anew would never pass.
    fn take(&self, bytes: usize, held: usize) -> Result<(), Refusal> {
        let limit = self.limit.load(Ordering::Relaxed);
        let grown = |taken: usize| {
            let sum = taken.checked_add(bytes)?;
            let alone = held > 0 && taken == held;
            (sum <= limit || alone).then_some(sum)
        };
        match self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown)
        {
            Ok(before) => self.show(before + bytes),
            Err(_) => return Err(Refusal::Overloaded),
        }
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        let before = self.taken.fetch_sub(bytes, Ordering::Relaxed);
        self.show(before - bytes);
    }

    fn show(&self, taken: usize) {
        self.gauge.set(taken.try_into().unwrap_or(i64::MAX));
    }
}

/// What one request has taken; dropping it gives everything back.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: AtomicUsize,
}

/// Bytes that a share holds until this is dropped.
#[derive(Debug)]
pub struct Passing {
    share: Arc<Share>,
    bytes: usize,
}

impl Share {
    /// What it holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes more bytes, or fails and takes none.
    pub fn grow(&self, bytes: usize) -> Result<(), Refusal> {
        self.budget.take(bytes, self.bytes())?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Takes more bytes for a while, or fails and takes none.
    pub fn grow_for_now(self: &Arc<Self>, bytes: usize) -> Result<Passing, Refusal> {
        self.grow(bytes)?;
        let share = Arc::clone(self);
        Ok(Passing { share, bytes })
    }

    /// Takes or gives back bytes until it holds `bytes`, or fails and changes nothing.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Refusal> {
        let held = self.bytes();
        if bytes > held {
            return self.grow(bytes - held);
        }
        self.shrink(held - bytes);
        Ok(())
    }

    fn shrink(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.give_back(bytes);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes());
    }
}

impl Passing {
    /// Takes more bytes, or fails and takes none.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.share.grow(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Parts with `bytes` of what it holds, or with all when that is less.
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let share = Arc::clone(&self.share);
        Self { share, bytes }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.share.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_all_or_nothing_and_gives_back() {
        let gauge = IntGauge::new("taken", "taken").unwrap();
        let budget = Budget::new(100, gauge.clone());
        let mut first = budget.share();
        let mut second = budget.share();
        first.grow(60).unwrap();
        second.grow(41).unwrap_err();
        second.grow(40).unwrap();
        assert_eq!(gauge.get(), 100);
        first.resize(10).unwrap();
        assert_eq!(gauge.get(), 50);
        let first = Arc::new(first);
        first.grow_for_now(51).unwrap_err();
        let mut passing = first.grow_for_now(40).unwrap();
        passing.grow(11).unwrap_err();
        passing.grow(10).unwrap();
        assert_eq!((gauge.get(), first.bytes()), (100, 60));
        let part = passing.split(20);
        drop(passing);
        assert_eq!((gauge.get(), first.bytes()), (70, 30));
        drop(part);
        assert_eq!((gauge.get(), first.bytes()), (50, 10));
        second.grow(usize::MAX).unwrap_err();
        drop(first);
        second.resize(120).unwrap();
        let third = budget.share();
        third.grow(1).unwrap_err();
        drop(second);
        third.grow(101).unwrap_err();
        drop(third);
        assert_eq!(gauge.get(), 0);
    }
}
