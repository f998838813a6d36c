//! Asking whether a series is known, before it may travel on.
//!
//! To find out takes longer than all the rest that a walk does with a series. So whoever keeps count says
//! which series to ask about, and the others cost a count down.

use crate::wire::identity::Key;

/// Keeps count of the series of a spoke, and says which of them to ask about.
pub trait Census {
    /// The key of [identities](crate::wire::identity).
    fn key(&self) -> &Key;

    /// How many series pass before the next one that is asked about.
    fn pass(&mut self) -> u32;

    /// True when the series is known. Then it stays so for some time.
    fn knows(&mut self, series: u64) -> bool;

    /// True when the series is known, of which no notice is taken.
    fn has(&mut self, series: u64) -> bool;

    /// Takes in a series that is not known. False when there are too many.
    fn admit(&mut self, series: u64, metric: &[u8]) -> bool;

    /// What people have to know of the series there are when one is too many.
    fn describe(&mut self) -> String;
}

/// Which series of a request a census is asked about.
pub(super) struct Lookout<'c> {
    pub(super) census: &'c mut dyn Census,
    /// A series of the message was one too many.
    pub(super) refuses: bool,
    /// Series that pass before the next one.
    pass: u32,
}

impl<'c> Lookout<'c> {
    pub(super) fn new(census: &'c mut (dyn Census + '_)) -> Self {
        let pass = census.pass();
        Self {
            census,
            refuses: false,
            pass,
        }
    }

    /// True when the series at hand is one to ask about.
    #[inline]
    pub(super) fn picks(&mut self) -> bool {
        let left = self.pass.checked_sub(1);
        self.pass = left.unwrap_or_else(|| self.census.pass());
        left.is_none()
    }
}
