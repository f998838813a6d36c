//! Buffers that are lent for the work on large messages.

use std::convert::Infallible;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::budget::{Budget, Reservation};

use super::Buffers;

/// How long buffers that nothing uses are kept.
const KEPT_FOR: Duration = Duration::from_secs(5);

/// Buffers that are more than this many times as large as a message are not used for it: a large
/// message now and then must not take room for ever. A V2 message takes about eight times what it is
/// made of.
const OVERSIZE_MAX: usize = 8;

/// Lends buffers, and keeps those that come back for a while.
pub(in crate::rewrite) struct Lender {
    budget: Arc<Budget>,
    /// What nothing uses.
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    buffers: Buffers,
    since: Instant,
    /// What the buffers take of the budget.
    reservation: Reservation,
}

impl Lender {
    /// A lender that has nothing yet.
    pub(in crate::rewrite) fn new(budget: &Arc<Budget>) -> Arc<Self> {
        let lender = Arc::new(Self {
            budget: Arc::clone(budget),
            kept: Mutex::default(),
        });
        let reclaimed = Arc::downgrade(&lender);
        budget.on_shortage(move || {
            if let Some(lender) = reclaimed.upgrade() {
                lender.clear();
            }
        });
        lender
    }

    /// Lends buffers to `work` on a message of `size` bytes, which are reserved.
    pub(in crate::rewrite) fn lend<T>(
        &self,
        size: usize,
        work: impl FnOnce(&mut Buffers) -> T,
    ) -> T {
        let kept = self.kept().pop();
        let mut kept = kept.unwrap_or_else(|| Kept {
            buffers: Buffers::default(),
            since: Instant::now(),
            reservation: self.budget.keep(),
        });
        kept.buffers.trim(size.saturating_mul(OVERSIZE_MAX));
        // This gives back, and so it cannot fail.
        let _ = kept
            .reservation
            .resize(kept.buffers.bytes().saturating_sub(size));
        let done = work(&mut kept.buffers);
        self.keep(kept);
        done
    }

    /// Keeps buffers if the budget has room for them.
    fn keep(&self, kept: Kept) {
        if kept.reservation.resize(kept.buffers.bytes()).is_err() {
            return;
        }
        self.kept().push(Kept {
            since: Instant::now(),
            ..kept
        });
    }

    /// Gives back what is unused for long. Does not return.
    pub(in crate::rewrite) async fn expire(&self) -> Infallible {
        loop {
            sleep(KEPT_FOR / 5).await;
            let is_unused = |kept: &mut Kept| kept.since.elapsed() >= KEPT_FOR;
            let unused: Vec<_> = self.kept().extract_if(.., is_unused).collect();
            drop(unused);
        }
    }

    /// Gives back all that nothing uses.
    pub(in crate::rewrite) fn clear(&self) {
        let kept = mem::take(&mut *self.kept());
        drop(kept);
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        // Nothing is done under the lock that can panic halfway.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lender").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::Gauge;
    use crate::shares::Share;

    use super::*;

    const MIB: usize = 1024 * 1024;

    /// Works on a message of `size` bytes with a buffer of that size. Returns where the buffer is.
    fn work(lender: &Arc<Lender>, size: usize) -> *const u8 {
        lender.lend(size, |buffers| {
            buffers.decoded.resize(size, 0);
            buffers.decoded.as_ptr()
        })
    }

    fn fixture(limit: usize) -> (Arc<Budget>, Gauge, Arc<Lender>) {
        let taken = Gauge::default();
        let budget = Budget::new(limit, taken.clone());
        let lender = Lender::new(&budget);
        (budget, taken, lender)
    }

    fn mib(gauge: &Gauge) -> i64 {
        gauge.get() >> 20
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_buffers_for_some_seconds() {
        let (_budget, taken, lender) = fixture(64 * MIB);
        let first = work(&lender, 16 * MIB);
        assert_eq!(mib(&taken), 16);
        let uses = async {
            for _ in 0..20 {
                sleep(KEPT_FOR / 4).await;
                assert_eq!(work(&lender, 16 * MIB), first, "the same buffer");
            }
            sleep(KEPT_FOR / 2).await;
            assert_eq!(mib(&taken), 16);
            sleep(KEPT_FOR).await;
            assert_eq!(taken.get(), 0);
        };
        tokio::select! {
            never = lender.expire() => match never {},
            () = uses => {}
        }
    }

    #[tokio::test]
    async fn charges_what_a_smaller_message_does_not_need() {
        let (_budget, taken, lender) = fixture(64 * MIB);
        work(&lender, 16 * MIB);
        lender.lend(4 * MIB, |_| assert_eq!(mib(&taken), 12));
        assert_eq!(mib(&taken), 16);
        lender.lend(MIB, |_| assert_eq!(taken.get(), 0, "too large to be used"));
        assert_eq!(taken.get(), 0);
    }

    #[tokio::test]
    async fn what_is_kept_gives_way_to_a_request() {
        let (budget, taken, lender) = fixture(32 * MIB);
        work(&lender, 16 * MIB);
        let request = budget.begin(&Arc::default(), Share::default());
        request.grow(30 * MIB).unwrap();
        assert_eq!(mib(&taken), 30);
        work(&lender, 16 * MIB);
        assert_eq!(mib(&taken), 30, "there is no room to keep them");
    }
}
