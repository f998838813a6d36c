//! What one request holds of the budget, and what it waits for.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::time::{Instant, timeout_at};

use crate::shares::Share;

use super::{
    Account, AccountFull, BYTES_BESIDE_A_TURN_MAX, Budget, Full, Overloaded,
    PARTS_BESIDE_A_LARGE_ONE, TURN_TIMEOUT, Turn,
};

/// A request that needs no more than one in so many parts of the limit of its spoke does not wait for the
/// others of the spoke: it finds room among those of its size, and they would keep the turn from a large one.
const SMALL_PARTS_OF_LIMIT: usize = 4;

/// As [`SMALL_PARTS_OF_LIMIT`], for the share of a spoke and in parts of the budget.
const SMALL_PARTS_OF_BUDGET: usize = 16;

/// The bytes that one request has taken; dropping it gives all of them back.
#[derive(Debug)]
pub struct Reservation {
    share: Share,
    budget: Arc<Budget>,
    account: Arc<Account>,
    bytes: AtomicUsize,
    /// What it holds of its body and of the decoded form, at most. The rest is for work on them, comes
    /// back at once, and is taken by the next request as soon.
    lasting: AtomicUsize,
    /// Until when it may wait, from its first wait on, and has its turns.
    deadline: OnceLock<Instant>,
    /// The ticket of its turn; 0 if it had none.
    turn: AtomicU64,
    /// The ticket of its turn among the requests of its spoke.
    account_turn: AtomicU64,
    /// It exceeded the limit of its account.
    exceeded: AtomicBool,
}

/// Some bytes of a reservation, which are given back when this is dropped.
#[derive(Debug)]
pub struct Permit {
    reservation: Arc<Reservation>,
    bytes: usize,
}

impl Reservation {
    pub(super) fn new(budget: &Arc<Budget>, account: &Arc<Account>, share: Share) -> Self {
        Self {
            share,
            budget: Arc::clone(budget),
            account: Arc::clone(account),
            bytes: 0.into(),
            lasting: 0.into(),
            deadline: OnceLock::new(),
            turn: 0.into(),
            account_turn: 0.into(),
            exceeded: false.into(),
        }
    }

    /// The share of the spoke.
    pub fn share(&self) -> Share {
        self.share
    }

    /// What it holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes more bytes, or fails and takes none.
    pub fn grow(&self, bytes: usize) -> Result<(), Overloaded> {
        let held = self.bytes();
        match self.account.take(bytes, held, self.owed()) {
            Ok(true) => {}
            Ok(false) => self.exceed(),
            Err(full) => return Err(self.account_full(full, bytes)),
        }
        let taken = self.budget.take(bytes, held, self.beside(bytes));
        taken.inspect_err(|_| {
            self.account.untake(bytes);
            self.budget.tell();
        })?;
        let ticket = self.account_turn.load(Ordering::Relaxed);
        if ticket > 0 {
            self.account.turn().paid(ticket, bytes);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The error of an account without room for more bytes.
    fn account_full(&self, full: AccountFull, bytes: usize) -> Overloaded {
        self.exceed();
        self.overloaded(bytes, Full::Account(full))
    }

    /// The error of something without room for more bytes.
    fn overloaded(&self, bytes: usize, full: Full) -> Overloaded {
        Overloaded::new(self.bytes().saturating_add(bytes), full)
    }

    /// Counts the request among those that exceeded the limit of its account, once.
    fn exceed(&self) {
        if !self.exceeded.swap(true, Ordering::Relaxed) {
            self.account.exceed();
        }
    }

    fn has_turn(&self) -> bool {
        let ticket = self.turn.load(Ordering::Relaxed);
        ticket > 0 && self.budget.turn.is(ticket)
    }

    /// What all others may hold while this request takes so many bytes more than there are in all.
    fn beside(&self, bytes: usize) -> usize {
        if self.exceeds_budget(self.bytes().saturating_add(bytes)) && self.has_turn() {
            self.budget.limit.load(Ordering::Relaxed) / PARTS_BESIDE_A_LARGE_ONE
        } else {
            0
        }
    }

    fn exceeds_budget(&self, needed: usize) -> bool {
        needed > self.budget.limit.load(Ordering::Relaxed)
    }

    fn has_account_turn(&self) -> bool {
        let ticket = self.account_turn.load(Ordering::Relaxed);
        ticket > 0 && self.account.turn().is(ticket)
    }

    /// What this request must leave to the one of its spoke whose turn it is: nothing once it holds
    /// something, since what has begun is to be finished.
    fn owed(&self) -> usize {
        if self.has_account_turn() || self.bytes() > 0 {
            return 0;
        }
        self.account.turn().lacks()
    }

    /// Takes more bytes, as far as the share of the spoke goes, and waits for them when it is the turn
    /// of this request, or can be.
    pub async fn grow_in_turn(&self, bytes: usize) -> Result<(), Overloaded> {
        loop {
            let needed = self.bytes().saturating_add(bytes);
            let taken = self
                .check_account(bytes)
                .and_then(|()| self.check_share(bytes))
                .and_then(|()| self.check_turn(needed))
                .and_then(|()| self.grow(bytes));
            match taken {
                Ok(()) => {
                    self.lasting.fetch_add(bytes, Ordering::Relaxed);
                    return Ok(());
                }
                Err(overloaded) => self.wait(overloaded, needed).await?,
            }
        }
    }

    /// Waits until the spoke may hold so many bytes more, when it is the turn of this request or can be.
    /// Fails when the budget has no room for them at present. Takes none.
    pub async fn wait_to_begin(&self, bytes: usize) -> Result<(), Overloaded> {
        while let Err(full) = self
            .check_account(bytes)
            .and_then(|()| self.check_share(bytes))
        {
            self.wait(full, full.needed).await?;
        }
        let room = self.check_space(bytes);
        room.map_err(|overloaded| self.refused(overloaded, overloaded.needed))
    }

    /// Fails when the limit of the spoke has no room for more bytes.
    fn check_account(&self, bytes: usize) -> Result<(), Overloaded> {
        let room = self.account.check_room(bytes, self.bytes(), self.owed());
        room.map_err(|full| self.account_full(full, bytes))
    }

    /// Fails when the spoke would hold more than its share, unless this is its only request.
    fn check_share(&self, bytes: usize) -> Result<(), Overloaded> {
        let owed = self.owed();
        let all = self.account.bytes();
        let alone = all == self.bytes() && owed == 0;
        let more = owed.saturating_add(bytes);
        let sum = all.saturating_add(more);
        if alone || self.budget.leaves_enough(self.share, more, sum) {
            return Ok(());
        }
        Err(self.overloaded(bytes, Full::Share))
    }

    fn check_space(&self, bytes: usize) -> Result<(), Overloaded> {
        let held = self.bytes();
        self.check_turn(held.saturating_add(bytes))?;
        let beside = self.beside(bytes);
        let fits = || {
            let taken = self.budget.taken.load(Ordering::Acquire);
            self.budget.sum(taken, bytes, held, beside).is_some()
        };
        if !fits() {
            self.budget.reclaim();
            return fits()
                .then_some(())
                .ok_or(self.overloaded(bytes, Full::Budget));
        }
        Ok(())
    }

    /// Waits until there is room for what the request needs, when it is its turn or can be, and no longer
    /// than 10 s from its first wait on. The bytes are not taken, so they may be gone again.
    pub async fn wait_for_room(&self, overloaded: Overloaded) -> Result<(), Overloaded> {
        // What the work takes comes back at once, and no pace counts it.
        let lasting = match self.lasting.load(Ordering::Relaxed) {
            0 => overloaded.needed,
            lasting => lasting,
        };
        self.wait(overloaded, lasting).await
    }

    /// The same for a request that holds so many bytes for long.
    async fn wait(&self, overloaded: Overloaded, lasting: usize) -> Result<(), Overloaded> {
        let now = Instant::now();
        let deadline = *self.deadline.get_or_init(|| now + TURN_TIMEOUT);
        if now < deadline && self.begin_turn(&overloaded, deadline) {
            let room = async {
                match overloaded.full {
                    Full::Budget => self.wait_for_budget(overloaded.needed).await,
                    Full::Account(_) => self.wait_for_account(overloaded.needed).await,
                    Full::Share => self.wait_for_share(overloaded.needed).await,
                }
            };
            if timeout_at(deadline, room).await.is_ok() {
                return Ok(());
            }
        }
        Err(self.refused(overloaded, lasting))
    }

    async fn wait_for_budget(&self, needed: usize) {
        let turn = &self.budget.turn;
        let ticket = self.turn.load(Ordering::Relaxed);
        let _waiting = Waiting { turn, ticket };
        let given_back = &self.budget.given_back;
        // No room that others leave would suffice, so they need not.
        let lacks = match self.exceeds_budget(needed) {
            true => 0,
            false => needed.max(1),
        };
        while turn.lack(ticket, lacks) {
            let missing = needed.saturating_sub(self.bytes());
            // Whoever finds the spoke at its limit waits for that next.
            if self.check_account(missing).is_err() || self.check_space(missing).is_ok() {
                return;
            }
            given_back.notified().await;
        }
        // What woke it was for the request whose turn it is.
        given_back.notify_one();
    }

    /// Waits for what the other requests of the spoke give back.
    async fn wait_for_account(&self, needed: usize) {
        let given_back = self.account.given_back();
        while let Some(missing) = self.lack_of_account(needed) {
            if self.check_account(missing).is_ok() {
                return;
            }
            given_back.notified().await;
        }
        given_back.notify_one();
    }

    /// Waits for what others give back: those of other spokes raise the share of this one.
    async fn wait_for_share(&self, needed: usize) {
        // Whoever gives something back from here on wakes it.
        let mut freed = pin!(self.budget.freed.notified());
        while let Some(missing) = self.lack_of_account(needed) {
            if self.check_share(missing).is_ok() {
                return;
            }
            freed.as_mut().await;
            freed.set(self.budget.freed.notified());
        }
    }

    /// Notes what it lacks of the bytes that it needs, for those of its spoke. Returns `None` if its turn
    /// among them is over.
    fn lack_of_account(&self, needed: usize) -> Option<usize> {
        let missing = needed.saturating_sub(self.bytes());
        let ticket = self.account_turn.load(Ordering::Relaxed);
        self.account.turn().lack(ticket, missing).then_some(missing)
    }

    /// The error of a request that is not to wait here any longer. It says when there will be room for the
    /// bytes that it holds for long.
    fn refused(&self, overloaded: Overloaded, lasting: usize) -> Overloaded {
        let now = Instant::now();
        let own = self.account.drain();
        let pace = match overloaded.full {
            Full::Budget => self.budget.drain.pace(now),
            Full::Account(_) | Full::Share => own.pace(now),
        };
        // Each spoke waits for what it was refused itself, not for a flood of another one.
        let wait = pace.map(|pace| own.promise(lasting, pace, now));
        Overloaded { wait, ..overloaded }
    }

    /// Fails when another request waits in its turn and this one, or its spoke, would hold too much
    /// beside it.
    fn check_turn(&self, needed: usize) -> Result<(), Overloaded> {
        let waiting = self.budget.turn.lacks();
        if waiting == 0 || self.has_turn() {
            return Ok(());
        }
        let spoke_max = waiting.max(BYTES_BESIDE_A_TURN_MAX);
        if needed > BYTES_BESIDE_A_TURN_MAX || self.account.bytes() > spoke_max {
            return Err(Overloaded::new(needed, Full::Budget));
        }
        Ok(())
    }

    /// True when it is the turn of this request at what has no room, as it is when it is nobody's.
    fn begin_turn(&self, overloaded: &Overloaded, until: Instant) -> bool {
        let budget = self.budget.limit.load(Ordering::Relaxed);
        let (mine, whose, small) = match overloaded.full {
            Full::Budget => (&self.turn, &self.budget.turn, 0),
            Full::Account(AccountFull { limit, .. }) => {
                let small = limit / SMALL_PARTS_OF_LIMIT;
                (&self.account_turn, self.account.turn(), small)
            }
            Full::Share => {
                let small = budget / SMALL_PARTS_OF_BUDGET;
                (&self.account_turn, self.account.turn(), small)
            }
        };
        let ticket = mine.load(Ordering::Relaxed);
        if ticket > 0 && whose.is(ticket) {
            return true;
        }
        let began = (overloaded.needed > small).then(|| whose.begin(until));
        let began = began.flatten();
        if let Some(ticket) = began {
            mine.store(ticket, Ordering::Relaxed);
        }
        began.is_some()
    }

    /// Lets another request have its turn; this one has what it needs.
    pub fn end_turn(&self) {
        let ticket = self.turn.swap(0, Ordering::Relaxed);
        if ticket > 0 {
            self.budget.turn.end(ticket);
        }
        let ticket = self.account_turn.swap(0, Ordering::Relaxed);
        if ticket > 0 {
            self.account.turn().end(ticket);
        }
    }

    /// Takes more bytes as long as the permit lives, or fails and takes none.
    pub fn permit(self: &Arc<Self>, bytes: usize) -> Result<Permit, Overloaded> {
        self.grow(bytes)?;
        let reservation = Arc::clone(self);
        Ok(Permit { reservation, bytes })
    }

    /// Takes or gives back bytes until it holds `bytes`, or fails and changes nothing.
    pub fn resize(&self, bytes: usize) -> Result<(), Overloaded> {
        let held = self.bytes();
        if bytes > held {
            return self.grow(bytes - held);
        }
        self.shrink(held - bytes);
        Ok(())
    }

    fn shrink(&self, bytes: usize) {
        let left = self.bytes.fetch_sub(bytes, Ordering::Relaxed) - bytes;
        let lasting = self.lasting.fetch_min(left, Ordering::Relaxed);
        let lasting = lasting.saturating_sub(left).min(bytes);
        self.account.give_back(bytes, lasting);
        self.budget.give_back(bytes, lasting);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.end_turn();
        self.shrink(self.bytes());
    }
}

/// A request that waits in its turn.
struct Waiting<'b> {
    turn: &'b Turn,
    ticket: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turn.lack(self.ticket, 0);
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
