//! Why there is no room for a request.

use std::time::Duration;

/// There is no room for more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many bytes in flight; try again")]
pub struct Overloaded {
    /// What the request would hold if there was room, in bytes.
    pub needed: usize,
    /// What has no room.
    pub full: Full,
    /// The time in which as many bytes become free, where it is known.
    pub wait: Option<Duration>,
}

impl Overloaded {
    /// There is no room for a request of so many bytes.
    pub fn new(needed: usize, full: Full) -> Self {
        Self {
            needed,
            full,
            wait: None,
        }
    }
}

/// What has no room for more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The limit of a spoke, although the budget may have room.
    Account(AccountFull),
    /// The budget.
    Budget,
    /// The share of a spoke, although the budget may have room.
    Share,
}

/// The requests of a spoke hold what its limit allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountFull {
    /// The limit, in bytes.
    pub limit: usize,
    /// What they hold and what one of them waits for, in bytes.
    pub taken: usize,
}
