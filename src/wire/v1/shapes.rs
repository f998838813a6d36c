//! [Templates](crate::wire::templates) of V1: labels compared byte by byte.
//!
//! A [pattern](Pattern) demands all of a label but its value, and of the spoke's own label every byte.
//! A comparison reads a window that may reach beyond the series, but never beyond the message. What it
//! compares lies within the label all the same. Labels may fit that lie beyond their series: then the
//! series is not read, and nothing is learnt from it.

mod pattern;

use std::ops::Range;

use crate::wire::templates::{Clean, Demands, Fit, Fits, LABELS_MAX, Name, Templates};
use crate::wire::utf8::is_utf8;
use crate::wire::{Label, Labels, Series};

use super::{LABELS_KEY, read_items, usual_label};

use pattern::{LONG, Pattern, WINDOW};

/// Most bytes of all patterns beyond their windows.
const BEYOND_BYTES_MAX: usize = 1 << 14;

/// The templates of a message.
#[derive(Debug, Default)]
pub struct Shapes {
    templates: Templates<Pattern>,
    /// What patterns demand beyond their windows.
    beyond: Vec<u8>,
    /// The values of the series that did fit last. Empty when they are not recorded.
    values: Vec<Range<usize>>,
    /// How many they are.
    count: usize,
    /// The number of the first pattern that it did fit.
    first: usize,
}

/// The labels of a series that fits a template, by pattern: those of one pattern have one name.
#[derive(Debug, Clone, Copy)]
pub struct Matched<'s, 'a> {
    message: &'a [u8],
    /// The number of the first pattern.
    first: usize,
    patterns: &'s [Pattern],
    spans: &'s [Range<usize>],
}

impl<'a> Matched<'_, 'a> {
    /// The number of the pattern of the first label. Those of the labels behind it follow.
    #[inline]
    pub(in crate::wire) fn first_pattern(&self) -> usize {
        self.first
    }

    /// Where the values of the labels lie in the message.
    #[inline]
    pub(in crate::wire) fn values(&self) -> &[Range<usize>] {
        self.spans
    }

    /// How many bytes the labels take from a place on; `None` for the first place.
    #[inline]
    pub(in crate::wire) fn bytes_from(&self, place: usize) -> Option<usize> {
        let before = self.spans.get(place.checked_sub(1)?)?;
        Some(self.spans.last()?.end - before.end)
    }

    /// The message.
    #[inline]
    pub(in crate::wire) fn message(&self) -> &'a [u8] {
        self.message
    }

    /// The name of the label at a place.
    pub(in crate::wire) fn name(&self, place: usize) -> &'a [u8] {
        let (Some(pattern), Some(span)) = (self.patterns.get(place), self.spans.get(place)) else {
            return b"";
        };
        // Between name and value lie a key and a length.
        let value_framing = if span.len() < LONG { 2 } else { 3 };
        let name_end = span.start - value_framing;
        &self.message[name_end - pattern.name_len()..name_end]
    }
}

/// The labels of a series, as far as they fit.
struct Fitted<'m, const RECORDS: bool> {
    message: &'m [u8],
    /// Where the series ends.
    end: usize,
    /// Most bytes of a value.
    length_max: usize,
    /// That of [`Shapes`].
    beyond: &'m [u8],
    /// Those of [`Shapes`], and how many were recorded.
    values: &'m mut [Range<usize>],
    count: usize,
    /// Everything was UTF-8 up to `checked` but the framing of long labels, which cannot be. That of others
    /// is ASCII, so where it lies between strings that are no UTF-8, all of them together are none.
    utf8: bool,
    checked: usize,
}

impl<const RECORDS: bool> Fits for Fitted<'_, RECORDS> {
    type Pattern = Pattern;

    #[inline(always)] // It is the body of the loop over labels.
    fn fits(&mut self, pattern: &Pattern, at: usize) -> Option<usize> {
        let message = self.message;
        let window = message.get(at..)?.first_chunk::<{ WINDOW + 1 }>()?;
        let [short @ .., _] = window;
        let length = usize::from(short[1]);
        let (value, end) = if length < LONG {
            if pattern.differs(short, u64::MAX) {
                return None;
            }
            let value_len = usize::from(*message.get(at + pattern.value_len_at)?);
            let whole = value_len != 0 && pattern.value_len_at - 1 + value_len == length;
            if !whole || !pattern.fits_beyond(message, at, self.beyond) {
                return None;
            }
            let end = at + 2 + length;
            (end - value_len, end)
        } else {
            let (value, end) = pattern.fits_long(message, at, self.beyond, self.length_max)?;
            self.utf8 &= is_utf8(message.get(self.checked..=at)?);
            self.checked = value;
            (value, end)
        };
        // No template has more labels.
        if RECORDS && let Some(slot) = self.values.get_mut(self.count) {
            *slot = value..end;
            self.count += 1;
        }
        Some(end)
    }

    #[inline(always)] // It ends the loop over labels.
    fn another(&self, at: usize) -> bool {
        at < self.end && self.message.get(at) == Some(&LABELS_KEY)
    }
}

impl Shapes {
    /// Starts a message. `records` says that [`Self::matched`] is asked for.
    pub fn start(&mut self, records: bool) {
        self.templates.clear();
        self.beyond.clear();
        self.values.clear();
        if records {
            self.values.resize(LABELS_MAX, 0..0);
        }
    }

    /// The memory that they hold, in bytes.
    pub fn bytes(&self) -> usize {
        let values = self.values.capacity() * size_of::<Range<usize>>();
        self.templates.bytes() + self.beyond.capacity() + values
    }

    /// Walks the series at `place` in the message if its labels fit a template, so that they are
    /// clean. Otherwise it returns false and may learn a template; then the series has to be walked by
    /// [`series`](super::series).
    #[inline]
    pub fn read<'a>(
        &mut self,
        series: &mut Series<'a>,
        message: &'a [u8],
        place: Range<usize>,
        demands: &Demands<'_>,
        labels: &mut Labels<'a>,
    ) -> bool {
        let Range { start, end } = place;
        let fit = match self.records() {
            true => self.fit::<true>(message, start, end, demands),
            false => self.fit::<false>(message, start, end, demands),
        };
        let Some(fit) = fit else {
            self.learn(message, place, demands);
            return false;
        };
        let Some(rest) = message.get(fit.end..end) else {
            return false;
        };
        series.block = Some(&message[start..fit.end]);
        series.clean = Some(fit.clean);
        self.first = fit.first;
        let labelled = read_items(series, rest, labels);
        labelled == Ok(false) && !series.foreign && series.fault.is_none()
    }

    /// The labels of the series that was read last, if they are recorded. It is in `message`.
    #[inline]
    pub fn matched<'a>(&self, message: &'a [u8]) -> Option<Matched<'_, 'a>> {
        self.records().then(|| Matched {
            message,
            first: self.first,
            patterns: self.templates.patterns(self.first),
            spans: &self.values[..self.count],
        })
    }

    #[inline]
    fn records(&self) -> bool {
        !self.values.is_empty()
    }

    /// Finds the template of the labels between two places. `None` as well when they are not UTF-8.
    #[inline]
    fn fit<const RECORDS: bool>(
        &mut self,
        message: &[u8],
        start: usize,
        end: usize,
        demands: &Demands<'_>,
    ) -> Option<Fit> {
        let Self {
            templates,
            beyond,
            values,
            count,
            ..
        } = self;
        let mut labels = Fitted::<RECORDS> {
            message,
            end,
            length_max: demands.length_max,
            beyond,
            values,
            count: 0,
            utf8: true,
            checked: start,
        };
        let fit = templates.find(start, &mut labels)?;
        *count = labels.count;
        let utf8 = labels.utf8 && is_utf8(message.get(labels.checked..fit.end)?);
        if !utf8 {
            templates.reject();
            return None;
        }
        Some(fit)
    }

    /// Learns a template from a series that fits none, if its labels are clean.
    #[cold]
    fn learn(&mut self, message: &[u8], place: Range<usize>, demands: &Demands<'_>) {
        // The last labels of a message have no window.
        let windowed = message.len() - place.end > WINDOW;
        let own = demands.own;
        let own_is_short = own.name.len() + own.value.len() + 4 < LONG;
        let values_hold = demands.length_max >= LONG - 1;
        if !(windowed && own_is_short && values_hold) {
            return;
        }
        let Self {
            templates, beyond, ..
        } = self;
        let Some(mut inherited) = templates.begin() else {
            return;
        };
        let before = beyond.len();
        let clean = clean(&message[place], demands, |label, whole| {
            if inherited > 0 {
                inherited -= 1;
            } else {
                templates.append(Pattern::new(label, whole, beyond)?);
            }
            Some(())
        });
        // Labels beyond the series may have fit.
        let clean = clean.filter(|_| inherited == 0 && beyond.len() <= BEYOND_BYTES_MAX);
        if !templates.end(clean) {
            beyond.truncate(before);
        }
    }
}

/// Whether the labels of a series are clean and UTF-8, and `each` takes all of them. It is told whether
/// a value is demanded.
fn clean<'a>(
    raw: &'a [u8],
    demands: &Demands<'_>,
    mut each: impl FnMut(Label<'a>, bool) -> Option<()>,
) -> Option<Clean> {
    let own = demands.own.value;
    let mut names = demands.names();
    let mut rest = raw;
    while rest.first() == Some(&LABELS_KEY) {
        let (label, after) = usual_label(rest)?;
        let Label { name, value } = label;
        let is_own = names.next(name)? == Name::Own;
        let utf8 = is_utf8(name) && is_utf8(value);
        let sized = !value.is_empty() && value.len() <= demands.length_max;
        if !utf8 || !sized || is_own && value != own {
            return None;
        }
        each(label, is_own)?;
        rest = after;
    }
    names.end()
}
