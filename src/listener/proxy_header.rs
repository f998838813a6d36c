//! The header of the PROXY protocol, with which a proxy begins a connection and says where it comes
//! from.
//!
//! Versions 1 and 2 are told apart by their first bytes. Whether there is a header at all is the
//! configuration's word and is never guessed: a request may begin with the same letter.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest header that is read. The protocol wants that much to fit into one segment of TCP.
pub const HEADER_BYTES_MAX: usize = 536;

/// The longest header of version 1 (section 2.1).
const V1_BYTES_MAX: usize = 107;

/// What version 1 begins with.
const V1_SIGNATURE: &[u8] = b"PROXY ";

/// What version 2 begins with. Version and command, family and transport, and the length of the rest
/// follow, in four bytes.
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2 and the command `LOCAL`: the proxy connects for itself.
const V2_LOCAL: u8 = 0x20;

/// The families of version 2 that are no address of the internet begin here: `AF_UNIX` and those that
/// do not exist.
const V2_FAMILY_UNIX: u8 = 3;

/// A header, read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Where the connection comes from. `None` when the proxy connects for itself or does not know.
    pub source: Option<SocketAddr>,
    /// Its length in bytes.
    pub length: usize,
}

/// What is wrong with the start of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The peer closed the connection within the header.
    #[error("the PROXY protocol header is cut off")]
    CutOff,
    /// It does not come from the internet.
    #[error("the PROXY protocol header has an address that is neither IPv4 nor IPv6")]
    Family,
    /// It did not arrive in time.
    #[error("the PROXY protocol header did not arrive in time")]
    Late,
    /// It cannot be read.
    #[error("the PROXY protocol header is malformed")]
    Malformed,
    /// The connection begins with something else.
    #[error("there is no PROXY protocol header; have the proxy send it (send-proxy)")]
    Missing,
    /// It is longer than any that is read.
    #[error("the PROXY protocol header is longer than {HEADER_BYTES_MAX} bytes")]
    TooLong,
}

/// Reads a header at the start of these bytes. Returns `None` when they end within it.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, HeaderFault> {
    if begins(bytes, V1_SIGNATURE) {
        // A longer line could be taken or not, depending on how much of it arrives at once.
        return read_by_crate(&bytes[..bytes.len().min(V1_BYTES_MAX)]);
    }
    if !begins(bytes, V2_SIGNATURE) {
        return Err(HeaderFault::Missing);
    }
    let Some(&[command, family, high, low]) = bytes
        .get(V2_SIGNATURE.len()..)
        .and_then(|rest| rest.first_chunk::<4>())
    else {
        return Ok(None);
    };
    let length = V2_SIGNATURE.len() + 4 + usize::from(u16::from_be_bytes([high, low]));
    if length > HEADER_BYTES_MAX {
        return Err(HeaderFault::TooLong);
    }
    if command != V2_LOCAL && family >> 4 >= V2_FAMILY_UNIX {
        return Err(HeaderFault::Family);
    }
    let Some(header) = bytes.get(..length) else {
        return Ok(None);
    };
    if command == V2_LOCAL {
        // The rest is to be ignored, the family included (section 2.2).
        let source = None;
        return Ok(Some(Header { source, length }));
    }
    let parsed = read_by_crate(header)?;
    // The addresses do not fit into the length.
    parsed.ok_or(HeaderFault::Malformed).map(Some)
}

/// Tells whether bytes begin like a signature, as far as they have arrived.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.starts_with(signature) || signature.starts_with(bytes)
}

fn read_by_crate(bytes: &[u8]) -> Result<Option<Header>, HeaderFault> {
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    match ProxyHeader::parse(bytes, config) {
        Ok((header, length)) => Ok(Some(Header {
            source: header.proxied_address().map(|addresses| addresses.source),
            length,
        })),
        Err(Error::BufferTooShort) => Ok(None),
        Err(_) => Err(HeaderFault::Malformed),
    }
}

/// Reads the header from a stream. Returns where the connection comes from, and what was read behind
/// the header. Returns `None` when the peer has closed the connection, or broken it, without a byte:
/// health checks do.
pub(super) async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
) -> Result<Option<(Option<SocketAddr>, Bytes)>, HeaderFault> {
    let mut buffer = BytesMut::with_capacity(HEADER_BYTES_MAX);
    loop {
        let room = HEADER_BYTES_MAX - buffer.len();
        let read = stream.read_buf(&mut (&mut buffer).limit(room)).await;
        match read.unwrap_or(0) {
            0 if buffer.is_empty() => return Ok(None),
            0 => return Err(HeaderFault::CutOff),
            _ => {}
        }
        if let Some(Header { source, length }) = parse(&buffer)? {
            return Ok(Some((source, buffer.split_off(length).freeze())));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};
    use proptest::{
        collection::vec,
        prop_oneof,
        strategy::{Just, Strategy},
    };
    use tokio::io::AsyncWriteExt;

    use super::super::tests::addresses::check_proxy_header;
    use super::*;

    const HTTP: &[u8] = b"POST /api/v1/write HTTP/1.1\r\n";

    /// A header of version 2.
    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, block].concat()
    }

    /// The addresses of version 2: 203.0.113.7:4711 to 192.0.2.1:9480.
    const V2_INET: &[u8] = &[203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 0x25, 0x08];

    fn source(bytes: &[u8]) -> Result<Option<Option<String>>, HeaderFault> {
        let header = parse(bytes)?;
        Ok(header.map(|header| header.source.map(|source| source.to_string())))
    }

    #[test]
    fn the_source_of_both_versions_is_read() {
        let mut inet6 = vec![0; 36];
        inet6[..16].copy_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        inet6[33] = 5;
        let with_tlvs = [V2_INET, &[0xEA, 0, 3, 1, 2, 3, 0xFF]].concat();
        let cases: &[(Vec<u8>, Option<&str>)] = &[
            (
                b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 9480\r\n".to_vec(),
                Some("203.0.113.7:4711"),
            ),
            (
                b"PROXY TCP6 2001:db8::9 ::1 5 9480\r\n".to_vec(),
                Some("[2001:db8::9]:5"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (
                b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(),
                None,
            ),
            (v2(0x21, 0x11, V2_INET), Some("203.0.113.7:4711")),
            (v2(0x21, 0x12, V2_INET), Some("203.0.113.7:4711")),
            (v2(0x21, 0x21, &inet6), Some("[2001:db8::9]:5")),
            (v2(0x21, 0x11, &with_tlvs), Some("203.0.113.7:4711")),
            (v2(0x21, 0x00, b""), None),
            (v2(0x21, 0x00, b"skipped"), None),
            (v2(0x20, 0x00, b""), None),
            (v2(0x20, 0x11, V2_INET), None),
            (v2(0x20, 0x31, b"any"), None),
            (v2(0x20, 0xFF, b""), None),
        ];
        for (header, expected) in cases {
            let bytes = [header, HTTP].concat();
            let parsed = parse(&bytes).unwrap().unwrap();
            assert_eq!(parsed.length, header.len(), "{header:?}");
            assert_eq!(
                source(&bytes).unwrap().unwrap().as_deref(),
                *expected,
                "{header:?}"
            );
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        use HeaderFault::{Family, Malformed, Missing, TooLong};
        let long = [b"PROXY UNKNOWN ", [b'x'; 200].as_slice(), b"\r\n"].concat();
        let cases: &[(Vec<u8>, HeaderFault)] = &[
            (HTTP.to_vec(), Missing),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), Missing),
            (b"PUT / HTTP/1.1\r\n".to_vec(), Missing),
            (b"PROXYTCP4 203.0.113.7".to_vec(), Missing),
            (b"\x16\x03\x01".to_vec(), Missing),
            (b"\r\n\r\n\0\r\nQUIX\n".to_vec(), Missing),
            (
                b"PROXY TCP4 203.0.113 192.0.2.1 4711 9480\r\n".to_vec(),
                Malformed,
            ),
            (b"PROXY TCP4 2001:db8::9 ::1 5 9480\r\n".to_vec(), Malformed),
            (
                b"PROXY TCP6 fe80::1%eth0 ::1 5 9480\r\n".to_vec(),
                Malformed,
            ),
            (
                b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 99999\r\n".to_vec(),
                Malformed,
            ),
            (
                b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 9480\rX".to_vec(),
                Malformed,
            ),
            (
                b"PROXY UDP4 203.0.113.7 192.0.2.1 4711 9480\r\n".to_vec(),
                Malformed,
            ),
            (long, Malformed),
            (v2(0x21, 0x11, &V2_INET[..11]), Malformed),
            (v2(0x22, 0x11, V2_INET), Malformed),
            (v2(0x31, 0x11, V2_INET), Malformed),
            (v2(0x21, 0x10, V2_INET), Malformed),
            (v2(0x21, 0x31, &[0; 216]), Family),
            (v2(0x21, 0x41, V2_INET), Family),
            (v2(0x21, 0x11, &[0; 521]), TooLong),
            (v2(0x20, 0x00, &[0; 521]), TooLong),
        ];
        for (bytes, fault) in cases {
            assert_eq!(parse(bytes), Err(*fault), "{}", bytes.escape_ascii());
        }
        assert!(parse(&v2(0x20, 0x00, &[0; 520])).unwrap().is_some());
    }

    #[tokio::test]
    async fn what_is_read_behind_the_header_is_kept() {
        let header = v2(0x21, 0x11, V2_INET);
        for piece in 1..header.len() + HTTP.len() {
            let (mut near, mut far) = tokio::io::duplex(piece);
            let bytes = [&header, HTTP].concat();
            let write = async move { near.write_all(&bytes).await.unwrap() };
            let read = async {
                let (source, rest) = read(&mut far).await.unwrap().unwrap();
                assert_eq!(source, Some("203.0.113.7:4711".parse().unwrap()));
                let mut whole = rest.to_vec();
                far.read_to_end(&mut whole).await.unwrap();
                assert_eq!(whole, HTTP, "in pieces of {piece} bytes");
            };
            tokio::join!(write, read);
        }
    }

    #[tokio::test]
    async fn a_peer_that_leaves_has_sent_a_header_or_nothing() {
        let read_of = async |bytes: &[u8]| {
            let (mut near, mut far) = tokio::io::duplex(64);
            near.write_all(bytes).await.unwrap();
            drop(near);
            read(&mut far).await
        };
        assert_eq!(read_of(b"").await, Ok(None));
        assert_eq!(read_of(b"PROXY TCP4").await, Err(HeaderFault::CutOff));
    }

    /// Bytes near to headers.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let v1 = "(PROXY )?(TCP4|TCP6|UNKNOWN|)[ 0-9.:a-f\r\n]{0,120}".prop_map(String::into_bytes);
        let block = vec(any::<u8>(), 0..600);
        let v2 = (
            prop_oneof![Just(0x20), Just(0x21), any::<u8>()],
            any::<u8>(),
            block,
        )
            .prop_map(|(command, family, block)| v2(command, family, &block));
        prop_oneof![v1, v2, vec(any::<u8>(), 0..64)]
    }

    proptest! {
        #[test]
        fn a_part_is_incomplete_or_is_read_as_the_whole(
            bytes in bytes(), rest in vec(any::<u8>(), 0..8)
        ) {
            check_proxy_header(&[bytes.as_slice(), &rest].concat());
        }
    }
}
