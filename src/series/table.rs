//! A table of series in few bytes each, which is read without a lock.
//!
//! A line of the table is a line of the processor's cache and has eight slots. A series has a place in one
//! of two lines, which its [`Mark`] chooses, and a new one goes into the line with more room. So a search
//! reads two lines at most, whatever came and went before, and a slot can be freed at any time. With
//! five of eight slots taken, about one in a hundred million finds both of its lines full (Azar, Broder,
//! Karlin and Upfal, "Balanced allocations", 1999).
//!
//! A slot is a single atomic number, so a reader sees an entry or none. Those who add and remove entries
//! exclude each other by a lock that is not here.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::clock::Minute;

/// Slots of a line.
const SLOTS: usize = 8;

/// Entries for each line, so that a new one finds room.
const ENTRIES_PER_LINE: usize = 5;

/// The bits of an entry: that it is one, a part of the identity, how many series it may stand for, and when
/// it was seen. An empty slot is 0.
const TAKEN: u64 = 1 << 63;
const SHIFT: u64 = 7 << SHIFT_AT;
const MINUTE: u64 = (1 << SHIFT_AT) - 1;
const SHIFT_AT: u32 = 10;

/// In the place of how many it stands for: it was idle for an hour, and is remembered.
const ASLEEP: u64 = SHIFT;

/// A series as the table knows it: 50 bits of its identity. The table of which [shard](super::shard) it is in,
/// others say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

impl Mark {
    pub(super) fn new(identity: u64) -> Self {
        Self((identity | TAKEN) & !(SHIFT | MINUTE))
    }

    #[inline]
    fn is_of(self, entry: u64) -> bool {
        (entry ^ self.0) & !(SHIFT | MINUTE) == 0
    }
}

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// A series that was not seen for so many minutes.
    Series(u64),
    /// A series that counts otherwise when it is seen again: it was seen once, when others passed unseen, or
    /// was idle for an hour.
    Awaited,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; SLOTS]);

/// The series that are known.
#[derive(Debug, Default)]
pub(super) struct Table {
    lines: Box<[Line]>,
}

impl Table {
    /// An empty table of so many lines.
    pub(super) fn with_lines(lines: usize) -> Self {
        Self {
            lines: std::iter::repeat_with(Line::default).take(lines).collect(),
        }
    }

    /// The lines that so many entries need.
    pub(super) fn lines_for(entries: usize) -> usize {
        entries.div_ceil(ENTRIES_PER_LINE)
    }

    /// The entries that it has room for.
    pub(super) fn room(&self) -> usize {
        self.lines.len() * ENTRIES_PER_LINE
    }

    /// The memory that it holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }

    /// How many lines it has.
    pub(super) fn lines(&self) -> usize {
        self.lines.len()
    }

    /// Searches a series, and notes that it was seen in this minute.
    #[inline]
    pub(super) fn see(&self, mark: Mark, minute: Minute) -> Found {
        let Some((slot, entry)) = self.find(mark) else {
            return Found::Nothing;
        };
        if entry & SHIFT != 0 {
            return Found::Awaited;
        }
        let seen = entry & !MINUTE | minute.number();
        if entry == seen {
            return Found::Series(0);
        }
        // If it fails, somebody else has noted it, or found it idle at the same moment.
        let _ = slot.compare_exchange(entry, seen, Relaxed, Relaxed);
        Found::Series(minute.since(entry & MINUTE))
    }

    /// True when it has a series.
    pub(super) fn has(&self, mark: Mark) -> bool {
        self.find(mark).is_some()
    }

    /// Notes that a series that is awaited was seen: it is sent again and again, so it stands for itself alone. Returns
    /// what it counted and what it counts.
    pub(super) fn see_again(&self, mark: Mark, minute: Minute) -> [Counted; 2] {
        let Some((slot, _)) = self.find(mark) else {
            return [Counted::default(); 2];
        };
        let seen = new_entry(mark, minute, 0);
        let change = |entry| mark.is_of(entry).then_some(seen);
        let before = slot.fetch_update(Relaxed, Relaxed, change);
        before.map_or([Counted::default(); 2], |entry| {
            [entry, seen].map(Counted::of)
        })
    }

    /// Adds a series that it does not have, when one in `1 << shift` was looked up. Returns what it counts;
    /// `None` when there is no slot for it.
    pub(super) fn add(&self, mark: Mark, minute: Minute, shift: u32) -> Option<Counted> {
        let entry = new_entry(mark, minute, shift);
        self.put(entry).then(|| Counted::of(entry))
    }

    /// Adds all entries of another table. Returns those that there is no slot for.
    pub(super) fn add_all(&self, other: &Self) -> Counted {
        let entries = other.slots().map(|slot| slot.load(Relaxed));
        let lost = entries.filter(|entry| *entry != 0 && !self.put(*entry));
        lost.map(Counted::of).fold(Counted::default(), Counted::and)
    }

    /// Removes the series that are idle, but for so many that are only to be remembered, and those that are
    /// remembered already; `None` removes all. Returns what those counted that are gone, and those that are remembered
    /// from now on.
    pub(super) fn remove_idle(
        &self,
        minute: Minute,
        remembered_max: Option<usize>,
    ) -> [Counted; 2] {
        let [mut gone, mut remembered] = [Counted::default(); 2];
        for slot in self.slots() {
            let entry = slot.load(Relaxed);
            if entry == 0 || !minute.finds_idle(entry & MINUTE) {
                continue;
            }
            let counted = Counted::of(entry);
            let is_asleep = counted.asleep > 0;
            let stays = remembered_max.is_some_and(|most| match is_asleep {
                true => !minute.has_forgotten(entry & MINUTE),
                false => remembered.entries < most,
            });
            let (then, sum) = match stays {
                true => (entry | ASLEEP, &mut remembered),
                false => (0, &mut gone),
            };
            // If it fails, the series was seen at the same moment.
            if entry != then && slot.compare_exchange(entry, then, Relaxed, Relaxed).is_ok() {
                *sum = sum.and(counted);
            }
        }
        [gone, remembered]
    }

    /// What all that it has counts.
    pub(super) fn all(&self) -> Counted {
        let entries = self.slots().map(|slot| slot.load(Relaxed));
        let entries = entries.filter(|entry| *entry != 0);
        entries
            .map(Counted::of)
            .fold(Counted::default(), Counted::and)
    }

    fn slots(&self) -> impl Iterator<Item = &AtomicU64> {
        self.lines.iter().flat_map(|line| &line.0)
    }

    fn put(&self, entry: u64) -> bool {
        let free = |line: &Line| {
            let mut slots = line.0.iter();
            let first = slots.position(|slot| slot.load(Relaxed) == 0);
            let more = slots.filter(|slot| slot.load(Relaxed) == 0).count();
            first.map(|first| (more, first))
        };
        let [Some(one), Some(other)] = self.lines_of(Mark::new(entry)) else {
            return false;
        };
        let (line, place) = match (free(one), free(other)) {
            (Some((more, place)), Some((others, _))) if more >= others => (one, place),
            (_, Some((_, place))) => (other, place),
            (Some((_, place)), None) => (one, place),
            (None, None) => return false,
        };
        line.0[place].store(entry, Relaxed);
        true
    }

    #[inline]
    fn find(&self, mark: Mark) -> Option<(&AtomicU64, u64)> {
        let [Some(one), Some(other)] = self.lines_of(mark) else {
            return None;
        };
        // Both lines are read before anything is decided: which of them has the series cannot be foreseen,
        // and neither is in a cache.
        let mut entries = [0; 2 * SLOTS];
        let slots = one.0.iter().chain(&other.0);
        for (entry, slot) in entries.iter_mut().zip(slots) {
            *entry = slot.load(Relaxed);
        }
        let place = entries.iter().position(|entry| mark.is_of(*entry))?;
        let slot = one.0.iter().chain(&other.0).nth(place)?;
        Some((slot, entries[place]))
    }

    /// Reads the lines of a series, so that they are in a cache when it is searched. What is returned says
    /// nothing.
    #[inline]
    pub(super) fn fetch(&self, mark: Mark) -> u64 {
        let lines = self.lines_of(mark).into_iter().flatten();
        lines
            .map(|line| line.0[0].load(Relaxed))
            .fold(0, u64::wrapping_add)
    }

    /// The two lines that a series may be in. They depend on bits of it that hardly overlap. A table
    /// without lines has none.
    #[inline]
    fn lines_of(&self, mark: Mark) -> [Option<&Line>; 2] {
        let count = self.lines.len() as u64;
        [mark.0 >> 13, mark.0 >> 31].map(|bits| {
            let place = ((bits & 0xffff_ffff) * count) >> 32;
            self.lines.get(place as usize)
        })
    }
}

/// The entry of a series that was seen when one in `1 << shift` was looked up.
fn new_entry(mark: Mark, minute: Minute, shift: u32) -> u64 {
    mark.0 | u64::from(shift) << SHIFT_AT & SHIFT | minute.number()
}

/// What entries count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Series that are active.
    pub(super) entries: usize,
    /// What these stand for that passed unseen.
    pub(super) unseen: usize,
    /// Series that are only remembered.
    pub(super) asleep: usize,
}

impl Counted {
    fn of(entry: u64) -> Self {
        match entry & SHIFT {
            ASLEEP => Self {
                asleep: 1,
                ..Self::default()
            },
            shift => Self {
                entries: 1,
                unseen: (1 << (shift >> SHIFT_AT)) - 1,
                asleep: 0,
            },
        }
    }

    /// The slots that they take.
    pub(super) fn slots(self) -> usize {
        self.entries + self.asleep
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            unseen: self.unseen + other.unseen,
            asleep: self.asleep + other.asleep,
        }
    }
}
