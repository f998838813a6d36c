//! [Templates](crate::wire::templates) of V1: labels compared byte by byte.
//!
//! A label is `0a L 0a n name 12 v value`, where `L`, `n` and `v` are lengths. A pattern demands all of
//! it but `L`, `v` and the value, and that `L` is what `n` and `v` make of it. So the label has one name
//! and one value and nothing else, for every decoder, and the next field begins where it ends. Of the
//! spoke's own label the pattern demands every byte.
//!
//! A comparison reads a window that may reach beyond the series, but never beyond the message. What it
//! compares lies within the label all the same. Labels may fit that lie beyond their series: then the
//! series is not read, and nothing is learnt from it.

use std::ops::Range;

use crate::wire::templates::{Clean, Demands, Fit, Fits, LABELS_MAX, Name, Templates};
use crate::wire::utf8::is_ascii;
use crate::wire::{Label, Labels, Series};

use super::{LABELS_KEY, NAME_KEY, VALUE_KEY, read_items, usual_label};

/// The bytes of a label that are compared at once.
const WINDOW: usize = 32;

/// Most bytes of all patterns beyond their windows.
const BEYOND_BYTES_MAX: usize = 1 << 14;

/// Where the length of a label lies that takes one byte.
const LENGTH_AT: usize = 1;

/// Lengths from here on take more than one byte. A value below is not compared with the limit.
const LONG: usize = 0x80;

/// What one label is compared with.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    /// The label from its key on, as far as it is demanded and the window reaches.
    window: [u64; WINDOW / 8],
    /// The bits of the window that are demanded.
    mask: [u64; WINDOW / 8],
    /// Where the length of the value stands, in a label with a length of one byte.
    value_len_at: usize,
    /// What is demanded beyond the window: from where in [`Shapes::beyond`], and how much.
    beyond: (usize, usize),
    /// Every byte is demanded.
    whole: bool,
}

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
    /// Everything was ASCII up to `checked` but the framing of long labels, which cannot be.
    ascii: bool,
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
            self.ascii &= is_ascii(message.get(self.checked..=at)?);
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

    #[inline(always)] // Together with the above.
    fn another(&self, at: usize) -> bool {
        at < self.end && self.message.get(at) == Some(&LABELS_KEY)
    }
}

impl Pattern {
    /// The length of the name, in bytes: before the length of the value lie two keys and two lengths
    /// and the name.
    fn name_len(&self) -> usize {
        self.value_len_at - 5
    }

    /// Fits a label with a length of two bytes, such as the `id` that cAdvisor gives every series. All
    /// behind the length lies one byte further on. Returns where the value begins and ends.
    #[inline(never)] // So that the loop over labels stays small.
    fn fits_long(
        &self,
        message: &[u8],
        at: usize,
        beyond: &[u8],
        length_max: usize,
    ) -> Option<(usize, usize)> {
        // The bytes of the window where the key and the length were.
        const LENGTH: u64 = 0xffff;
        let [key, window @ ..] = message.get(at..)?.first_chunk::<{ WINDOW + 1 }>()?;
        let length = two_bytes(*window.first_chunk()?)?;
        if self.whole || *key != LABELS_KEY || self.differs(window, !LENGTH) {
            return None;
        }
        let value_len_at = at + 1 + self.value_len_at;
        let (value, value_len) = match *message.get(value_len_at..)?.first_chunk::<2>()? {
            [length, _] if usize::from(length) < LONG => (value_len_at + 1, length.into()),
            length => (value_len_at + 2, two_bytes(length)?),
        };
        let end = at + 3 + length;
        let whole = value_len != 0 && value_len <= length_max && value + value_len == end;
        let fits = whole && self.fits_beyond(message, at + 1, beyond);
        fits.then_some((value, end))
    }

    /// True when one of the demanded bits differs; `first` takes bits of the first word away.
    #[inline(always)] // The result of the comparison stays in registers.
    fn differs(&self, window: &[u8; WINDOW], first: u64) -> bool {
        let (words, _) = window.as_chunks::<8>();
        let differs = |place: usize| {
            let word = u64::from_le_bytes(words[place]);
            (word ^ self.window[place]) & self.mask[place]
        };
        differs(0) & first | differs(1) | differs(2) | differs(3) != 0
    }

    /// True when the bytes behind the window that begins at `at` are those demanded.
    #[inline(always)]
    fn fits_beyond(&self, message: &[u8], at: usize, beyond: &[u8]) -> bool {
        self.beyond.1 == 0 || {
            let behind = message.get(at + WINDOW..).unwrap_or_default();
            behind.starts_with(self.beyond(beyond))
        }
    }

    /// What is demanded beyond the window.
    fn beyond<'b>(&self, beyond: &'b [u8]) -> &'b [u8] {
        let (start, length) = self.beyond;
        &beyond[start..][..length]
    }

    /// The pattern of a label with a name that a template may have. One of which the whole is demanded
    /// must be shorter than [`LONG`].
    fn new(label: Label<'_>, whole: bool, beyond: &mut Vec<u8>) -> Option<Self> {
        let Label { name, value } = label;
        let value = if whole { value } else { b"" };
        let lengths = [name.len(), value.len()].map(|length| u8::try_from(length).ok());
        let (name_len, value_len) = (lengths[0]?, lengths[1]?);
        let length = name_len.checked_add(value_len)?.checked_add(4)?;
        let front = [LABELS_KEY, length, NAME_KEY, name_len];
        let behind_name = &[VALUE_KEY, value_len][..if whole { 2 } else { 1 }];
        // As much of it as the window takes, and the rest of it.
        let (mut window, mut end) = ([0; WINDOW], 0);
        let start = beyond.len();
        for part in [&front, name, behind_name, value] {
            let (within, rest) = part.split_at(part.len().min(WINDOW - end));
            window[end..end + within.len()].copy_from_slice(within);
            end += within.len();
            beyond.extend_from_slice(rest);
        }
        let value_len_at = front.len() + name.len() + 1;
        let mut mask = [0; WINDOW];
        mask[..end].fill(0xff);
        if !whole {
            mask[LENGTH_AT] = 0;
        }
        let words = |bytes: [u8; WINDOW]| {
            let (words, _) = bytes.as_chunks::<8>();
            std::array::from_fn(|place| u64::from_le_bytes(words[place]))
        };
        Some(Self {
            window: words(window),
            mask: words(mask),
            value_len_at,
            beyond: (start, beyond.len() - start),
            whole,
        })
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

    /// Finds the template of the labels between two places. `None` as well when they are not ASCII.
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
            ascii: true,
            checked: start,
        };
        let fit = templates.find(start, &mut labels)?;
        *count = labels.count;
        let ascii = labels.ascii && is_ascii(message.get(labels.checked..fit.end)?);
        ascii.then_some(fit)
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
        let Some(mut known) = templates.begin() else {
            return;
        };
        let before = beyond.len();
        let clean = clean(&message[place], demands, |label, whole| {
            if known > 0 {
                known -= 1;
            } else {
                templates.append(Pattern::new(label, whole, beyond)?);
            }
            Some(())
        });
        // Labels beyond the series may have fit.
        let clean = clean.filter(|_| known == 0 && beyond.len() <= BEYOND_BYTES_MAX);
        if !templates.end(clean) {
            beyond.truncate(before);
        }
    }
}

/// Whether the labels of a series are clean and ASCII, and `each` takes all of them. It is told whether
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
        let ascii = is_ascii(name) && is_ascii(value);
        let sized = !value.is_empty() && value.len() <= demands.length_max;
        if !ascii || !sized || is_own && value != own {
            return None;
        }
        each(label, is_own)?;
        rest = after;
    }
    names.end()
}

/// A canonical varint of two bytes.
#[inline]
fn two_bytes([low, high]: [u8; 2]) -> Option<usize> {
    let canonical = low >= 0x80 && (1..0x80).contains(&high);
    canonical.then_some(usize::from(low & 0x7f) | usize::from(high) << 7)
}
