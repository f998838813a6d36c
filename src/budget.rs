//! The budget of bytes: what a request may hold in memory is reserved before it is held.
//!
//! There is no queue. A request that finds the budget taken is refused at once and sent again later,
//! since a waiting request would hold a connection and its body. Counting requests would be no
//! measure: one of them may hold a kilobyte or the whole limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::Gauge;

/// The budget has no room for more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many bytes in flight; try again")]
pub struct Overloaded;

/// The bytes that all requests together may hold.
#[derive(Debug)]
pub struct Budget {
    limit: AtomicUsize,
    taken: AtomicUsize,
    /// Follows `taken` by additions, which leave the right value in whatever order they happen.
    gauge: Gauge,
}

impl Budget {
    /// A budget of `limit` bytes that shows in `gauge` how many are taken.
    pub fn new(limit: usize, gauge: Gauge) -> Arc<Self> {
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

    /// Reserves `bytes` for a new request of the spoke with this account, or fails and takes none.
    pub fn reserve(
        self: &Arc<Self>,
        account: &Arc<Account>,
        bytes: usize,
    ) -> Result<Reservation, Overloaded> {
        let reservation = Reservation {
            budget: Arc::clone(self),
            account: Arc::clone(account),
            bytes: 0.into(),
        };
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// Takes `bytes` for a reservation that holds `held`. One that is alone may go beyond the limit,
    /// or a request that grows beyond it when it is rewritten would never pass.
    fn take(&self, bytes: usize, held: usize) -> Result<(), Overloaded> {
        let limit = self.limit.load(Ordering::Relaxed);
        let grown = |taken: usize| {
            let sum = taken.checked_add(bytes)?;
            let alone = held > 0 && taken == held;
            (sum <= limit || alone).then_some(sum)
        };
        let taken = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown);
        taken.map_err(|_| Overloaded)?;
        self.gauge.inc_by(to_i64(bytes));
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
        self.gauge.dec_by(to_i64(bytes));
    }
}

fn to_i64(bytes: usize) -> i64 {
    bytes.try_into().unwrap_or(i64::MAX)
}

/// The bytes that all requests of one spoke have taken from the budget.
#[derive(Debug, Default)]
pub struct Account(AtomicUsize);

impl Account {
    /// What they have taken, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The bytes that one request has taken; dropping it gives all of them back.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    account: Arc<Account>,
    bytes: AtomicUsize,
}

/// Some bytes of a reservation, which are given back when this is dropped.
#[derive(Debug)]
pub struct Permit {
    reservation: Arc<Reservation>,
    bytes: usize,
}

impl Reservation {
    /// What it holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes more bytes, or fails and takes none.
    pub fn grow(&self, bytes: usize) -> Result<(), Overloaded> {
        self.budget.take(bytes, self.bytes())?;
        self.account.0.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Takes more bytes as long as the permit lives, or fails and takes none.
    pub fn permit(self: &Arc<Self>, bytes: usize) -> Result<Permit, Overloaded> {
        self.grow(bytes)?;
        let reservation = Arc::clone(self);
        Ok(Permit { reservation, bytes })
    }

    /// Takes or gives back bytes until it holds `bytes`, or fails and changes nothing.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Overloaded> {
        let held = self.bytes();
        if bytes > held {
            return self.grow(bytes - held);
        }
        self.shrink(held - bytes);
        Ok(())
    }

    fn shrink(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.account.0.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.give_back(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes());
    }
}

impl Permit {
    /// Takes more bytes, or fails and takes none.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Overloaded> {
        self.reservation.grow(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Splits `bytes` off into a permit of their own, or all when it holds less.
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let reservation = Arc::clone(&self.reservation);
        Self { reservation, bytes }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.reservation.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_all_or_nothing_and_gives_back() {
        let gauge = Gauge::default();
        let budget = Budget::new(100, gauge.clone());
        let (account, other) = (Arc::default(), Arc::default());
        let mut first = budget.reserve(&account, 0).unwrap();
        let mut second = budget.reserve(&other, 0).unwrap();
        first.grow(60).unwrap();
        second.grow(41).unwrap_err();
        budget.reserve(&other, 41).unwrap_err();
        second.grow(40).unwrap();
        assert_eq!(gauge.get(), 100);
        assert_eq!((account.bytes(), other.bytes()), (60, 40));
        first.resize(10).unwrap();
        assert_eq!(gauge.get(), 50);
        let first = Arc::new(first);
        first.permit(51).unwrap_err();
        let mut permit = first.permit(40).unwrap();
        permit.grow(11).unwrap_err();
        permit.grow(10).unwrap();
        assert_eq!((gauge.get(), first.bytes()), (100, 60));
        let part = permit.split(20);
        drop(permit);
        assert_eq!((gauge.get(), first.bytes()), (70, 30));
        drop(part);
        assert_eq!((gauge.get(), first.bytes()), (50, 10));
        second.grow(usize::MAX).unwrap_err();
        drop(first);
        second.resize(120).unwrap();
        budget.reserve(&account, 1).unwrap_err();
        drop(second);
        budget.reserve(&account, 101).unwrap_err();
        assert_eq!(gauge.get(), 0);
        assert_eq!((account.bytes(), other.bytes()), (0, 0));
    }
}
