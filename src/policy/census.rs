//! Asking whether a series is known, before it may travel on.
//!
//! To find out takes longer than all the rest that a walk does with a series. So whoever keeps count says
//! which series to ask about, and the others cost a count down.

use crate::wire::encoder::Assembly;
use crate::wire::identity::Key;

/// Keeps count of the series of a spoke, and says which of them to ask about.
pub trait Census {
    /// The key of [identities](crate::wire::identity).
    fn key(&self) -> &Key;

    /// How many series pass before the next one that is asked about.
    fn pass(&mut self) -> u32;

    /// True while it need not say at once whether a series may travel on.
    fn is_patient(&self) -> bool;

    /// Fetches what it has of some series that it will be asked about next, so that it waits for the memory
    /// once and not for each of them.
    fn fetch(&mut self, series: &[u64]);

    /// True when the series is known. Then it stays so for some time.
    fn knows(&mut self, series: u64) -> bool;

    /// True when the series is known, of which no notice is taken.
    fn has(&mut self, series: u64) -> bool;

    /// Takes in a series that is not known. False when there are too many.
    fn admit(&mut self, series: u64, metric: &[u8]) -> bool;

    /// What people have to know of the series there are when one is too many.
    fn describe(&mut self) -> String;
}

/// Series that are asked about together, where there is time.
const TOGETHER: usize = 16;

/// Which series of a request a census is asked about.
pub(super) struct Lookout<'c, 'a> {
    pub(super) census: &'c mut dyn Census,
    /// A series of the message was one too many.
    pub(super) refuses: bool,
    /// Series that pass before the next one.
    pass: u32,
    assembly: Assembly,
    /// Series that are to be asked about, and their metrics.
    later: [(u64, &'a [u8]); TOGETHER],
    /// How many they are.
    count: usize,
}

impl<'c, 'a> Lookout<'c, 'a> {
    pub(super) fn new(census: &'c mut (dyn Census + '_)) -> Self {
        let pass = census.pass();
        Self {
            census,
            refuses: false,
            pass,
            assembly: Assembly::default(),
            later: [(0, b""); TOGETHER],
            count: 0,
        }
    }

    /// Asks about a series later, which travels on. Returns how many turned out to be too many.
    pub(super) fn ask_later(&mut self, series: u64, metric: &'a [u8]) -> u64 {
        self.later[self.count] = (series, metric);
        self.count += 1;
        match self.count {
            TOGETHER => self.ask_now(),
            _ => 0,
        }
    }

    /// Asks about all that was left for later.
    pub(super) fn ask_now(&mut self) -> u64 {
        let later = &self.later[..std::mem::take(&mut self.count)];
        let mut series = [0; TOGETHER];
        for (series, (later, _)) in series.iter_mut().zip(later) {
            *series = *later;
        }
        let census = &mut *self.census;
        census.fetch(&series[..later.len()]);
        let asked = later.iter();
        let too_many =
            asked.filter(|(it, metric)| !census.knows(*it) && !census.admit(*it, metric));
        too_many.count() as u64
    }

    /// What the identity of a series is made with.
    pub(super) fn identity(&mut self) -> (&Key, &mut Assembly) {
        (self.census.key(), &mut self.assembly)
    }

    /// True when the series at hand is one to ask about.
    #[inline]
    pub(super) fn picks(&mut self) -> bool {
        let left = self.pass.checked_sub(1);
        self.pass = left.unwrap_or_else(|| self.census.pass());
        left.is_none()
    }
}
