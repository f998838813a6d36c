//! What must hold of any bytes that are said to be a PROXY protocol header or an `X-Forwarded-For`.
//! The fuzz targets include this file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::listener::forwarded_for::{ENTRIES_MAX, ENTRY_BYTES_MAX, walk};
use crate::listener::proxy_header::{HEADER_BYTES_MAX, parse};

/// Panics unless each part of the bytes is incomplete or is read as the whole, and a header of
/// version 2 says what its bytes say.
pub(crate) fn check_proxy_header(bytes: &[u8]) {
    let whole = parse(bytes);
    for end in 0..=bytes.len().min(HEADER_BYTES_MAX) {
        let part = parse(&bytes[..end]);
        assert!(part == Ok(None) || part == whole, "{end}: {part:?}");
        assert!(end < HEADER_BYTES_MAX || part != Ok(None), "without an end");
    }
    let Ok(Some(header)) = whole else {
        return;
    };
    assert!(header.length <= HEADER_BYTES_MAX.min(bytes.len()));
    let taken = &bytes[..header.length];
    if taken.starts_with(b"PROXY ") {
        assert!(taken.len() <= 107 && taken.ends_with(b"\r\n"));
        let known = taken.starts_with(b"PROXY TCP");
        assert_eq!(header.source.is_some(), known);
    } else {
        assert_eq!(header.source, v2_source(taken));
    }
}

/// The source of a sound header of version 2.
fn v2_source(header: &[u8]) -> Option<SocketAddr> {
    let (command, family, block) = (header[12], header[13] >> 4, &header[16..]);
    let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    match (command, family) {
        (0x21, 1) => {
            let ip: [u8; 4] = block[..4].try_into().expect("four bytes");
            Some((Ipv4Addr::from(ip), port(8)).into())
        }
        (0x21, 2) => {
            let ip: [u8; 16] = block[..16].try_into().expect("sixteen bytes");
            Some((Ipv6Addr::from(ip), port(32)).into())
        }
        _ => None,
    }
}

/// Panics unless the walk over these values, one on each line, is that of the documentation.
pub(crate) fn check_forwarded_for(bytes: &[u8]) {
    let values: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let peer = Ipv4Addr::new(10, 0, 0, 1).into();
    let walked = walk(peer, values.iter().copied(), is_trusted);
    assert_eq!(walked.ok(), model(&values), "{values:?}");
}

/// Trusts 10.0.0.0/8 and fd00::/8.
pub(crate) fn is_trusted(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.octets()[0] == 0xfd,
    }
}

/// The walk in the words of the documentation: joined, split, and read from the right. `None` is a
/// fault.
fn model(values: &[&[u8]]) -> Option<Option<IpAddr>> {
    let joined = values.join(&b","[..]);
    let entries: Vec<&[u8]> = joined.split(|byte| *byte == b',').collect();
    let mut last = None;
    for (walked, entry) in entries.into_iter().rev().enumerate() {
        if walked == ENTRIES_MAX {
            return None;
        }
        let entry = entry.trim_ascii();
        if entry.is_empty() {
            continue;
        }
        let address = entry_address(entry)?;
        last = Some(address);
        if !is_trusted(address) {
            break;
        }
    }
    Some(last)
}

/// The address of an entry, as the standard library reads it once quotes and zone are gone.
fn entry_address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?;
    if text.len() > ENTRY_BYTES_MAX {
        return None;
    }
    let mut text = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => text,
    }
    .to_owned();
    if let Some(start) = text.find('%') {
        let end = text.find(']').unwrap_or(text.len());
        let zone = text.get(start + 1..end)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if zone.is_empty() || !zone.bytes().all(allowed) || text[..start].matches(':').count() < 2 {
            return None;
        }
        text.replace_range(start..end, "");
    }
    let inner = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let address = match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    };
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|it| it.ip()))?;
    Some(address.to_canonical())
}
