//! What series carry, in the order of the message.

use super::protobuf::{Malformed, Reader};
use super::{Protocol, v1, v2};

/// Something that a series carries, with its bytes in the message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item<'a> {
    Sample(&'a [u8]),
    Histogram(&'a [u8]),
    Exemplar(&'a [u8]),
    Metadata(&'a [u8]),
    /// Labels, or a field that the message does not define.
    Other,
}

impl<'a> Item<'a> {
    /// Reads the next field of a series; `None` at its end.
    pub(super) fn next(
        reader: &mut Reader<'a>,
        protocol: Protocol,
    ) -> Result<Option<Self>, Malformed> {
        let Some((field, wire_type)) = reader.key()? else {
            return Ok(None);
        };
        Ok(Some(match (protocol, field) {
            (Protocol::V1, v1::SAMPLES) | (Protocol::V2, v2::SAMPLES) => {
                Self::Sample(reader.bytes()?)
            }
            (Protocol::V1, v1::HISTOGRAMS) | (Protocol::V2, v2::HISTOGRAMS) => {
                Self::Histogram(reader.bytes()?)
            }
            (Protocol::V1, v1::EXEMPLARS) | (Protocol::V2, v2::EXEMPLARS) => {
                Self::Exemplar(reader.bytes()?)
            }
            (Protocol::V2, v2::METADATA) => Self::Metadata(reader.bytes()?),
            _ => {
                reader.skip(wire_type)?;
                Self::Other
            }
        }))
    }
}
