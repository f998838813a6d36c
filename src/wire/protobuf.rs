//! A cursor over protobuf bytes that only ever returns sub-slices and numbers, or says what is
//! wrong.
//!
//! It accepts what prost accepts, with one rule that is stricter: groups are refused, since
//! no remote-write message has ever held one and decoders disagree on how to skip them. Keys
//! above 32 bits are refused like in prost; Go's generated code would cut them to another
//! field's number.

/// Why bytes are not the message they are said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A group, in any place.
    #[error("it holds a group, which no remote-write message has")]
    Group,
    /// A key with field number 0, an unknown wire type or more than 32 bits.
    #[error("it holds an invalid field key")]
    Key,
    /// The bytes end inside a field.
    #[error("it ends inside a field")]
    Truncated,
    /// A varint of more than 64 bits.
    #[error("it holds a varint of more than 64 bits")]
    Varint,
    /// A field of the message with another wire type than the message defines.
    #[error("it gives a field another wire type than the message defines")]
    WireType,
}

/// How the bytes of a field are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireType {
    /// A varint.
    Varint,
    /// Eight bytes.
    Fixed64,
    /// A length and that many bytes.
    Len,
    /// Four bytes.
    Fixed32,
}

/// Reads fields from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes not yet read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads the next field's number and wire type; `None` at the end.
    #[inline]
    pub fn key(&mut self) -> Result<Option<(u32, WireType)>, Malformed> {
        let Some(&first) = self.rest.first() else {
            return Ok(None);
        };
        let key = if first < 0x80 {
            self.rest = &self.rest[1..];
            u32::from(first)
        } else {
            u32::try_from(self.varint()?).map_err(|_| Malformed::Key)?
        };
        let wire_type = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Len,
            5 => WireType::Fixed32,
            3 | 4 => return Err(Malformed::Group),
            _ => return Err(Malformed::Key),
        };
        match key >> 3 {
            0 => Err(Malformed::Key),
            field => Ok(Some((field, wire_type))),
        }
    }

    /// Passes over a key of one byte, if that comes next.
    #[inline]
    pub fn pass(&mut self, key: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == key => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Reads a varint of at most 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        match self.rest {
            [first, rest @ ..] if *first < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*first))
            }
            [first, second, rest @ ..] if *second < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*first & 0x7f) | u64::from(*second) << 7)
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            // The tenth byte holds the 64th bit alone.
            if index == 9 && byte > 1 {
                return Err(Malformed::Varint);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(Malformed::Truncated)
    }

    /// Reads a length and that many bytes.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed::Truncated)?;
        self.take(length)
    }

    /// Passes over eight bytes.
    #[inline]
    pub fn fixed64(&mut self) -> Result<(), Malformed> {
        self.take(8).map(drop)
    }

    /// Reads a `double`.
    #[inline]
    pub fn double(&mut self) -> Result<f64, Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(f64::from_le_bytes(*bytes))
    }

    /// Passes over the value of a field.
    pub fn skip(&mut self, wire_type: WireType) -> Result<(), Malformed> {
        match wire_type {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.take(8).map(drop),
            WireType::Len => self.bytes().map(drop),
            WireType::Fixed32 => self.take(4).map(drop),
        }
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(head)
    }
}

/// Calls `each` with the values of a repeated varint field, packed or not.
pub fn varints(
    reader: &mut Reader<'_>,
    wire_type: WireType,
    mut each: impl FnMut(u64),
) -> Result<(), Malformed> {
    match wire_type {
        WireType::Varint => each(reader.varint()?),
        WireType::Len => {
            let mut packed = Reader::new(reader.bytes()?);
            while !packed.rest().is_empty() {
                each(packed.varint()?);
            }
        }
        _ => return Err(Malformed::WireType),
    }
    Ok(())
}

/// Calls `each` with the values of a repeated double field, packed or not.
pub fn doubles(
    reader: &mut Reader<'_>,
    wire_type: WireType,
    mut each: impl FnMut(f64),
) -> Result<(), Malformed> {
    match wire_type {
        WireType::Fixed64 => each(reader.double()?),
        WireType::Len => {
            let mut packed = Reader::new(reader.bytes()?);
            while !packed.rest().is_empty() {
                each(packed.double()?);
            }
        }
        _ => return Err(Malformed::WireType),
    }
    Ok(())
}

/// Fails unless a field has the wire type its message defines.
#[inline]
pub fn expect(actual: WireType, defined: WireType) -> Result<(), Malformed> {
    if actual == defined {
        Ok(())
    } else {
        Err(Malformed::WireType)
    }
}

/// Appends a field key.
#[inline]
pub fn put_key(out: &mut Vec<u8>, field: u32, wire_type: WireType) {
    let wire_type = match wire_type {
        WireType::Varint => 0,
        WireType::Fixed64 => 1,
        WireType::Len => 2,
        WireType::Fixed32 => 5,
    };
    put_varint(out, u64::from(field << 3 | wire_type));
}

/// Appends a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Appends a length-delimited field.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_key(out, field, WireType::Len);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The bytes that [`put_varint`] appends.
#[inline]
pub fn varint_len(value: u64) -> usize {
    // `| 1` makes 0 take one byte. Up to 64 bits, 9/64 rounds as a seventh does, without a division.
    let bits = 64 - (value | 1).leading_zeros() as usize;
    (bits * 9 + 64) / 64
}

/// The bytes of a length-delimited field of a number below 16.
#[inline]
pub fn field_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_length_of_varints() {
        let edges = (0..64).flat_map(|bits| [(1u64 << bits) - 1, 1 << bits]);
        for value in edges.chain([u64::MAX]) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(varint_len(value), out.len(), "{value}");
        }
    }
}
