//! Templates: the names that series of a message have, learnt from its first ones.
//!
//! The values of neighbouring series differ, and so do their bytes, but their names repeat: the
//! thousands of series of a request have a few dozen lists of names. A template is such a list, kept
//! as one pattern for each label. A series that fits the patterns of a template, one after the other
//! and to its end, has these names and no others, in this order. What had to be checked of the names
//! was checked when the template was learnt, and the pattern of the spoke's own label demands its
//! value as well. So the bytes of each label are compared with a pattern, and no label is taken apart.
//!
//! The state lives as long as a message and says nothing about any series before: whether a series
//! fits depends on the bytes of that series alone. A series that fits no template is not refused but
//! judged in full.
//!
//! Series that alternate between lists of names share the first of them, mostly. So a series that
//! leaves its template at some label goes on in another one that has the same patterns before.
//!
//! Two ways were tried and are slower on what clusters send: to compare a series with the bytes of the
//! one before, since the ends of equal blocks cannot be foreseen; and a tree of patterns, since each
//! step waits for the one before.

use std::ops::Range;

use super::Label;

/// Most templates of a message; further lists of names are judged in full. A message of 10,000 series
/// of 31 scraped targets has 17.
const TEMPLATES_MAX: usize = 64;

/// Most bytes of a name in a template.
const NAME_BYTES_MAX: usize = 100;

/// Most labels of a template.
pub(super) const LABELS_MAX: usize = 64;

/// Most patterns of all templates.
const PATTERNS_MAX: usize = 2048;

/// How often a series may go on in another template.
const SWITCHES_MAX: usize = 6;

/// Series without a template from which one may be tried to learn, beside every fourth.
const ATTEMPTS_FREE: u32 = 64;

/// Series for which a template may be searched in vain, beside as many as one was found for. A search
/// costs more than what it saves.
const MISSES_FREE: u32 = 256;

/// The name of the label with the name of the metric.
pub(crate) const METRIC_NAME: &[u8] = b"__name__";

/// What labels must be so that they are clean.
#[derive(Debug, Clone, Copy)]
pub struct Demands<'r> {
    /// The spoke's own cluster label. No other value of this name is clean.
    pub own: Label<'r>,
    /// Most labels.
    pub labels_max: usize,
    /// Most bytes of a name or value.
    pub length_max: usize,
}

impl<'r> Demands<'r> {
    /// Checks names in the order of a series.
    pub(super) fn names(&self) -> Names<'r, '_> {
        Names {
            demands: *self,
            count: 0,
            before: b"",
            named: false,
            clean: None,
        }
    }
}

/// The names of labels, checked one after the other.
pub(super) struct Names<'r, 'n> {
    demands: Demands<'r>,
    count: usize,
    before: &'n [u8],
    named: bool,
    clean: Option<Clean>,
}

/// Whose name it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// That of the spoke's own cluster label, so only one value is clean.
    Own,
    /// That of another label.
    Other,
}

impl<'n> Names<'_, 'n> {
    /// Takes the next name in; `None` when it is not as it should be. Then labels of this list are not
    /// clean.
    pub(super) fn next(&mut self, name: &'n [u8]) -> Option<Name> {
        let length_max = self.demands.length_max.min(NAME_BYTES_MAX);
        let count_max = self.demands.labels_max.min(LABELS_MAX);
        // The name before is empty at first.
        if name.len() > length_max || self.count == count_max || name <= self.before {
            return None;
        }
        let own = self.demands.own.name;
        let whose = if name == own { Name::Own } else { Name::Other };
        if whose == Name::Own {
            self.clean = Some(Clean::Own);
        } else if name > own {
            self.clean.get_or_insert(Clean::Without(self.count));
        }
        self.named |= name == METRIC_NAME;
        self.count += 1;
        self.before = name;
        Some(whose)
    }

    /// What labels of all these names are.
    pub(super) fn end(self) -> Option<Clean> {
        let clean = self.clean.unwrap_or(Clean::Without(self.count));
        self.named.then_some(clean)
    }
}

/// Labels about which nothing is left to judge: sorted by name, each name once, no string empty, all of
/// them UTF-8 and within the limits, with a metric name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clean {
    /// The spoke's own cluster label is among them.
    Own,
    /// There is no cluster label. It belongs at this place.
    Without(usize),
}

/// What the labels of one list of names are compared with.
#[derive(Debug)]
struct Template {
    patterns: Range<usize>,
    clean: Clean,
}

/// A template that fits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit {
    /// Where the labels end.
    pub(super) end: usize,
    pub(super) clean: Clean,
    /// The number of its first pattern among all.
    pub(super) first: usize,
}

/// The labels of a series, as its version encodes them.
pub(super) trait Fits {
    /// What one label is compared with.
    type Pattern;

    /// Where the label ends that begins at a place in the message, if it is one of the pattern.
    fn fits(&mut self, pattern: &Self::Pattern, at: usize) -> Option<usize>;

    /// True when a label begins at a place in the message.
    fn another(&self, at: usize) -> bool;
}

/// Where a series leaves a template.
#[derive(Debug, Clone, Copy)]
struct Departure {
    /// The number of the template.
    template: usize,
    /// How many of its patterns fitted, one after the other.
    fitted: usize,
}

/// The templates of a message; `P` is the pattern of a label.
#[derive(Debug)]
pub(super) struct Templates<P> {
    patterns: Vec<P>,
    list: Vec<Template>,
    /// How many patterns two templates have in common at their front at least, at
    /// `TEMPLATES_MAX * one + other`.
    common: Vec<u8>,
    /// The templates, those that were used last at the front.
    recent: Vec<usize>,
    /// That of the series before.
    last: usize,
    /// Where the last series left the last template that it was compared with, if it fits none.
    departure: Option<Departure>,
    /// Series that did fit.
    fits: u32,
    /// Series that fit no template.
    misses: u32,
    /// Series from which no template could be learnt.
    failures: u32,
}

impl<P> Default for Templates<P> {
    fn default() -> Self {
        Self {
            patterns: Vec::new(),
            list: Vec::new(),
            common: Vec::new(),
            recent: Vec::new(),
            last: 0,
            departure: None,
            fits: 0,
            misses: 0,
            failures: 0,
        }
    }
}

impl<P: Copy> Templates<P> {
    /// Forgets all templates.
    pub(super) fn clear(&mut self) {
        self.patterns.clear();
        self.list.clear();
        self.recent.clear();
        self.last = 0;
        self.departure = None;
        self.fits = 0;
        self.misses = 0;
        self.failures = 0;
    }

    /// The patterns from a number on.
    pub(super) fn patterns(&self, first: usize) -> &[P] {
        self.patterns.get(first..).unwrap_or_default()
    }

    /// The memory that they hold, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let lists = self.list.capacity() * size_of::<Template>();
        let patterns = self.patterns.capacity() * size_of::<P>();
        lists + patterns + self.common.capacity() + 8 * self.recent.capacity()
    }

    /// Finds the template whose patterns fit the labels that begin at `start`.
    #[inline(always)] // Each version has one caller, and how it fits must become part of the loop.
    pub(super) fn find<F: Fits<Pattern = P>>(
        &mut self,
        start: usize,
        labels: &mut F,
    ) -> Option<Fit> {
        self.departure = None;
        if self.misses > MISSES_FREE.saturating_add(self.fits) || !labels.another(start) {
            return None;
        }
        let mut current = self.last;
        let Some(mut template) = self.list.get(current) else {
            return self.miss(current, 0);
        };
        let (mut at, mut fitted) = (start, 0);
        let mut switches = 0;
        loop {
            let left = &self.patterns[template.patterns.start + fitted..template.patterns.end];
            let mut fits = |pattern| match labels.fits(pattern, at) {
                Some(end) => {
                    at = end;
                    true
                }
                None => false,
            };
            let unlike = left.iter().position(|pattern| !fits(pattern));
            fitted += unlike.unwrap_or(left.len());
            if unlike.is_none() && !labels.another(at) {
                break;
            }
            switches += 1;
            let next = match switches {
                ..=SWITCHES_MAX => self.switch(current, at, fitted, labels),
                _ => None,
            };
            let Some(next) = next else {
                return self.miss(current, fitted);
            };
            (current, at, fitted) = next;
            template = &self.list[current];
        }
        let fit = Fit {
            end: at,
            clean: template.clean,
            first: template.patterns.start,
        };
        self.fits = self.fits.saturating_add(1);
        if switches > 0 {
            self.try_first(current);
        }
        Some(fit)
    }

    /// The series that a template was found for is no UTF-8, so it was searched in vain.
    #[cold]
    pub(super) fn reject(&mut self) {
        self.fits = self.fits.saturating_sub(1);
        self.misses = self.misses.saturating_add(1);
    }

    /// The series fits no template. It left one after so many patterns.
    #[inline(never)] // So that the loop over labels stays small.
    fn miss(&mut self, template: usize, fitted: usize) -> Option<Fit> {
        self.misses = self.misses.saturating_add(1);
        self.departure = Some(Departure { template, fitted });
        None
    }

    /// Finds a template to go on in for a series that leaves another one at `at`: one that has the same
    /// `fitted` patterns in front, and fits the next label as well if there is one. Returns its number,
    /// where its labels end so far, and how many of its patterns fitted.
    #[inline(never)] // So that the loop over labels stays small.
    fn switch<F: Fits<Pattern = P>>(
        &self,
        from: usize,
        at: usize,
        fitted: usize,
        labels: &mut F,
    ) -> Option<(usize, usize, usize)> {
        let common = &self.common[TEMPLATES_MAX * from..TEMPLATES_MAX * (from + 1)];
        let others = self.recent.iter().copied();
        let mut others =
            others.filter(|other| *other != from && usize::from(common[*other]) >= fitted);
        let another = labels.another(at);
        others.find_map(|other| {
            let patterns = &self.patterns[self.list[other].patterns.clone()];
            match patterns.get(fitted) {
                Some(pattern) if another => {
                    let end = labels.fits(pattern, at)?;
                    Some((other, end, fitted + 1))
                }
                None if !another => Some((other, at, fitted)),
                _ => None,
            }
        })
    }

    /// Has the next series compared with this template first.
    fn try_first(&mut self, template: usize) {
        self.last = template;
        let mut recent = self.recent.iter();
        if let Some(place) = recent.position(|it| *it == template) {
            self.recent[..=place].rotate_right(1);
        }
    }

    /// Begins a template, if the last series fits none and it is worth while to learn from it: a message
    /// may be made of series from which nothing can be learnt. The template inherits the patterns that
    /// the series did fit; returns how many they are.
    pub(super) fn begin(&mut self) -> Option<usize> {
        let Departure { template, fitted } = self.departure?;
        if self.list.len() == TEMPLATES_MAX || self.failures >= ATTEMPTS_FREE + self.fits / 4 {
            return None;
        }
        if let Some(left) = self.list.get(template) {
            let start = left.patterns.start;
            self.patterns.extend_from_within(start..start + fitted);
        }
        Some(fitted)
    }

    /// Appends a pattern to the template that was begun.
    pub(super) fn append(&mut self, pattern: P) {
        self.patterns.push(pattern);
    }

    /// Ends the template that was begun, if the labels that its patterns are made of are clean, or
    /// forgets it. False when nothing was learnt.
    pub(super) fn end(&mut self, clean: Option<Clean>) -> bool {
        let start = self.list.last().map_or(0, |last| last.patterns.end);
        let end = self.patterns.len();
        let fits = end - start <= LABELS_MAX && end <= PATTERNS_MAX;
        let (Some(clean), Some(departure)) = (clean.filter(|_| fits), self.departure) else {
            self.patterns.truncate(start);
            self.failures += 1;
            return false;
        };
        let number = self.list.len();
        self.common.resize(TEMPLATES_MAX * TEMPLATES_MAX, 0);
        let parent = departure.template;
        // No template has more labels.
        let inherited = u8::try_from(departure.fitted).unwrap_or_default();
        for other in 0..number {
            let common = match other == parent {
                true => inherited,
                false => self.common[TEMPLATES_MAX * parent + other].min(inherited),
            };
            self.common[TEMPLATES_MAX * number + other] = common;
            self.common[TEMPLATES_MAX * other + number] = common;
        }
        self.list.push(Template {
            patterns: start..end,
            clean,
        });
        self.recent.insert(0, number);
        self.last = number;
        true
    }
}
