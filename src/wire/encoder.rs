//! Encodes messages: checked series of either version in, a message of either version out.
//!
//! Only fields that a version defines are encoded, in the order of their numbers. V2 has no form for
//! metadata without a series and for exemplars without a sample; a message for a V2 hub may have a
//! second message in V1 beside it that holds these. Buffers are kept from message to message.

mod assembly;
mod buffer;
mod interner;
mod new_labels;
mod source;
mod v1;
mod v2;

use super::item::Item;
use super::protobuf::{Malformed, Reader};
use super::transcode::Part;
use super::v2::Symbols;
use super::{Counts, Kind, Label, Protocol, Series, Sieve};

pub use assembly::Assembly;
pub use interner::SYMBOL_BYTES;
pub use new_labels::NewLabels;
pub use source::Source;

/// Most bytes of a V1 message that is made of a V2 message, whose references let a few bytes stand
/// for long strings. Prometheus takes no more (`storage/remote/write_handler.go`, decoded 32 MiB).
pub const V1_BYTES_MAX: usize = 32 << 20;

/// Memory that a symbol of a message takes while that is walked and encoded: in the table of the walk
/// and, where V1 is made of V2, in that of the labels that lie in the new message.
pub fn symbol_bytes(from: Protocol, to: Protocol) -> usize {
    match (from, to) {
        (Protocol::V1, _) => 0,
        (Protocol::V2, Protocol::V2) => Symbols::EACH_BYTES,
        (Protocol::V2, Protocol::V1) => Symbols::EACH_BYTES + v1::LABEL_BYTES,
    }
}

/// Some of the samples and histograms of a series. Everything else that the series carries belongs to
/// the last of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'p> {
    /// Parts of the message, in order; `None` for all of it.
    parts: Option<&'p [Part]>,
    /// Units of the message before the series.
    before: u64,
    /// What it leaves out is not encoded.
    sieve: Option<Sieve>,
}

impl<'p> Piece<'p> {
    /// All of them.
    pub const WHOLE: Self = Self {
        parts: None,
        before: 0,
        sieve: None,
    };

    /// All of them that a sieve leaves.
    pub fn sifted(sieve: Sieve) -> Self {
        Self {
            sieve: Some(sieve),
            ..Self::WHOLE
        }
    }

    /// Those in `parts` of the message, which are in order and do not overlap. There are `before`
    /// units before the series.
    pub(super) fn of(parts: &'p [Part], before: u64) -> Self {
        Self {
            parts: Some(parts),
            before,
            sieve: None,
        }
    }

    /// True for the sample or histogram at this place in the series.
    fn contains(&self, place: u64) -> bool {
        self.parts.is_none_or(|parts| {
            let unit = self.before + place;
            let next = parts.partition_point(|part| part.end <= unit);
            parts.get(next).is_some_and(|part| part.first <= unit)
        })
    }
}

/// What was left out, since the version of the message has no place for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Histograms of custom buckets. The V1 of some hubs drops their bounds and stores the rest.
    pub custom_buckets: u64,
    /// Metadata: in V1 that of series, in V2 that of metric families and of exemplars without a
    /// sample.
    pub metadata: u64,
    /// Start timestamps of samples and histograms that are encoded without them.
    pub start_timestamps: u64,
}

impl Lost {
    /// Adds each count of `other`.
    pub fn add_all(&mut self, other: &Self) {
        self.custom_buckets += other.custom_buckets;
        self.metadata += other.metadata;
        self.start_timestamps += other.start_timestamps;
    }
}

/// A finished message and what it carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Message<'w> {
    /// Its bytes; empty when nothing was put into it.
    pub bytes: &'w [u8],
    /// What it carries.
    pub counts: Counts,
}

/// The messages that were made of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encoded<'w> {
    /// The message of the version asked for.
    pub message: Message<'w>,
    /// The side message: V1, with what V2 has no form for. It is sent after the main message.
    pub side: Message<'w>,
    /// What neither message holds.
    pub lost: Lost,
    /// Metadata of exemplars without a sample that went into a series with its own metadata. It is
    /// neither lost nor counted in the message.
    pub merged_metadata: u64,
    /// Set when the V1 message, main or side, needs more than its room: the bytes that it needs, or a
    /// lower bound above [`V1_BYTES_MAX`]. That message is incomplete then and must not be sent. A V2
    /// message is complete all the same.
    pub overflow: Option<usize>,
}

/// Encodes messages, one after the other.
#[derive(Debug)]
pub struct Encoder {
    protocol: Protocol,
    metadata: Metadata,
    v1: v1::Encoder,
    v2: v2::Encoder,
    counts: Counts,
    lost: Lost,
}

/// The form of the message to be encoded.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// The version.
    pub protocol: Protocol,
    /// What becomes of V1 metadata.
    pub metadata: Metadata,
    /// Room for a V1 message that is made of V2, in bytes; the length of the source if that is
    /// more. See [`Encoded::overflow`].
    pub v1_room: usize,
}

impl Form {
    /// A form with room for V1 of any allowed length.
    pub fn new(protocol: Protocol, metadata: Metadata) -> Self {
        Self {
            protocol,
            metadata,
            v1_room: V1_BYTES_MAX,
        }
    }
}

/// What becomes of V1 metadata in a V2 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// It is counted as lost.
    Drop,
    /// It goes into the V1 message beside.
    Forward,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            protocol: Protocol::V1,
            metadata: Metadata::Drop,
            v1: v1::Encoder::default(),
            v2: v2::Encoder::default(),
            counts: Counts::default(),
            lost: Lost::default(),
        }
    }
}

impl Encoder {
    /// The version of the message.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Starts a message that is made of a message of `source_len` bytes.
    pub fn start(&mut self, form: Form, source_len: usize) {
        self.protocol = form.protocol;
        self.metadata = form.metadata;
        let ahead = match form.protocol {
            Protocol::V1 => source_len,
            // Few V2 messages have a side message.
            Protocol::V2 => 0,
        };
        self.v1.clear(form.v1_room.max(source_len), ahead);
        self.v2.clear();
        self.counts = Counts::default();
        self.lost = Lost::default();
    }

    /// Appends a series that was walked without a fault, with `labels` instead of its own labels. Of a
    /// piece with a sieve, `series` is what the sieve left.
    ///
    /// The strings of `labels` must stay where they are until the message is finished, since long ones
    /// are recognized by their address.
    #[inline]
    pub fn put_series<'a>(
        &mut self,
        series: &Series<'a>,
        labels: NewLabels<'_, 'a>,
        source: Source<'_, 'a>,
        piece: Piece<'_>,
    ) -> Result<(), Malformed> {
        let put = Put {
            series,
            labels,
            source,
            piece,
        };
        match self.protocol {
            Protocol::V1 => self.v1.put(&put, &mut self.counts, &mut self.lost),
            Protocol::V2 => self.v2.put(&put, &mut self.counts),
        }
    }

    /// Appends the bytes of a V1 `MetricMetadata` as they lie.
    pub fn put_metadata(&mut self, raw: &[u8]) {
        if self.protocol == Protocol::V1 {
            self.counts.add(Kind::Metadata, 1);
        } else if self.metadata == Metadata::Drop {
            self.lost.metadata += 1;
            return;
        }
        self.v1.put_metadata(raw);
    }

    /// Ends the message.
    pub fn finish(&mut self) -> Result<Encoded<'_>, Malformed> {
        if self.protocol == Protocol::V1 {
            return Ok(Encoded {
                message: self.v1.finish(self.counts),
                side: Message::default(),
                lost: self.lost,
                merged_metadata: 0,
                overflow: self.v1.overflow(),
            });
        }
        let mut side = Counts::one(Kind::Metadata).times(self.v1.metadata());
        let folded = self.v2.fold(&mut self.v1, &mut self.lost)?;
        side.add(Kind::Exemplar, folded.exemplars_aside);
        Ok(Encoded {
            message: self.v2.finish(self.counts.minus(&side)),
            side: match self.v1.overflow() {
                Some(_) => Message::default(),
                None => self.v1.finish(side),
            },
            lost: self.lost,
            merged_metadata: folded.merged_metadata,
            overflow: self.v1.overflow(),
        })
    }

    /// The memory that it holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.v1.bytes() + self.v2.bytes()
    }

    /// Gives memory back if the last messages left more than about `bytes_max` in a buffer.
    pub fn trim(&mut self, bytes_max: usize) {
        if self.v1.bytes() > bytes_max {
            self.v1 = v1::Encoder::default();
        }
        if self.v2.bytes() > bytes_max {
            self.v2 = v2::Encoder::default();
        }
    }
}

/// A series to be appended.
struct Put<'p, 'a> {
    series: &'p Series<'a>,
    labels: NewLabels<'p, 'a>,
    source: Source<'p, 'a>,
    piece: Piece<'p>,
}

impl<'a> Put<'_, 'a> {
    /// The bytes of its samples, when it carries nothing else but [metadata](Series::metadata) and both
    /// versions encode them alike.
    #[inline]
    fn samples(&self) -> Option<&'a [u8]> {
        self.series
            .samples
            .filter(|_| self.piece == Piece::WHOLE && self.series.counts.of(Kind::Float) > 0)
    }

    /// Tells its labels to `each`, in their order.
    #[inline]
    fn each_label(&self, each: impl FnMut(Label<'a>)) {
        self.labels.each(self.source, each);
    }

    /// What its piece carries, in the order of the message.
    fn items(&self) -> impl Iterator<Item = Result<Item<'a>, Malformed>> {
        let mut reader = Reader::new(self.series.raw);
        let mut place = 0;
        let piece = self.piece;
        let has_last = piece.contains(self.series.units() - 1);
        // None is counted where its metadata may not travel on.
        let described = self.series.counts.of(Kind::Metadata) > 0;
        let source = self.source;
        std::iter::from_fn(move || {
            loop {
                let item = match Item::next(&mut reader, source.protocol()) {
                    Ok(None) => return None,
                    Ok(Some(item)) => item,
                    Err(malformed) => return Some(Err(malformed)),
                };
                let wanted = match item {
                    Item::Sample(_) | Item::Histogram(_) => {
                        place += 1;
                        piece.contains(place - 1)
                    }
                    Item::Exemplar(_) => has_last,
                    Item::Metadata(_) => has_last && described,
                    Item::Other => false,
                };
                if !wanted {
                    continue;
                }
                match piece.sieve.map(|sieve| sieve.stops(item, source)) {
                    Some(Ok(true)) => {}
                    Some(Err(malformed)) => return Some(Err(malformed)),
                    Some(Ok(false)) | None => return Some(Ok(item)),
                }
            }
        })
    }
}
