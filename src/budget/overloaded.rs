//! Why there is no room for a request.

/// The budget has no room for more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many bytes in flight; try again")]
pub struct Overloaded {
    /// What the request would hold if there was room, in bytes.
    pub needed: usize,
    /// What the account has no room for, although the budget may have.
    pub account: Option<AccountFull>,
}

impl Overloaded {
    /// The budget has no room for a request of so many bytes.
    pub fn new(needed: usize) -> Self {
        Self {
            needed,
            account: None,
        }
    }
}

/// The requests of a spoke hold what its limit allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountFull {
    /// The limit, in bytes.
    pub limit: usize,
    /// What they hold, in bytes.
    pub taken: usize,
}
