//! The true address of a request in its `X-Forwarded-For`, as far as proxies are trusted.
//!
//! Each proxy adds the address that it was asked from at the right end, so the list is walked from
//! there. An entry is believed if all proxies behind it are trusted; the first one that is no trusted
//! proxy is the sender. Whatever stands to the left of it, the sender may have written itself, and
//! it is not even read. An entry that would have to be believed and is no address makes the whole
//! request unanswerable: any other address would be a guess.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderName};

use crate::config::ConnectionRules;

use super::peer::Peer;

/// The most entries that are walked. Real chains have a few proxies.
pub const ENTRIES_MAX: usize = 32;

/// The longest entry: an address of IPv6 with a zone, in brackets and quotes, with a port.
pub const ENTRY_BYTES_MAX: usize = 80;

/// The most of an entry that a message shows.
const SHOWN_CHARS_MAX: usize = 40;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Why it is not known where a request comes from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardedForFault {
    /// An entry that has to be believed is no address.
    #[error("X-Forwarded-For of the trusted proxy {proxy} says {entry:?}, which is no address")]
    NoAddress {
        /// The proxy whose entry it is.
        proxy: IpAddr,
        /// The entry, cut.
        entry: String,
    },
    /// There is no entry but those of trusted proxies, and their own address is outside source ranges.
    #[error(
        "X-Forwarded-For says nobody behind the trusted proxy {proxy}, which is itself outside the \
         source ranges"
    )]
    Nobody {
        /// The proxy.
        proxy: IpAddr,
    },
    /// There are more entries of trusted proxies than any real chain has.
    #[error("X-Forwarded-For names more than {ENTRIES_MAX} trusted proxies, one behind another")]
    TooMany,
}

/// Who sends a request on the connection of `peer`. It is that peer, unless it is a trusted proxy
/// that names another one.
pub fn sender(
    peer: &Peer,
    headers: &HeaderMap,
    rules: &ConnectionRules,
) -> Result<Peer, ForwardedForFault> {
    if !rules.forwards(peer.ip()) {
        return Ok(peer.clone());
    }
    let values = headers.get_all(X_FORWARDED_FOR).iter();
    let values = values.map(http::HeaderValue::as_bytes);
    let trusts = |address| rules.trusted_proxies.contains(address);
    let address = walk(peer.ip(), values, trusts)?;
    Ok(address.map_or_else(|| peer.clone(), Peer::forwarded))
}

/// Walks the values of the header, in the order of the request, from the right. Returns the first
/// address that is not trusted, or else the leftmost one; none if there is no entry.
pub fn walk<'v>(
    peer: IpAddr,
    values: impl DoubleEndedIterator<Item = &'v [u8]>,
    trusts: impl Fn(IpAddr) -> bool,
) -> Result<Option<IpAddr>, ForwardedForFault> {
    let (mut proxy, mut address) = (peer, None);
    let entries = values
        .rev()
        .flat_map(|value| value.rsplit(|byte| *byte == b','));
    for (walked, entry) in entries.map(<[u8]>::trim_ascii).enumerate() {
        if walked == ENTRIES_MAX {
            return Err(ForwardedForFault::TooMany);
        }
        // An empty element of a list means nothing (RFC 9110, section 5.6.1.2).
        if entry.is_empty() {
            continue;
        }
        let Some(found) = parse(entry) else {
            let entry = String::from_utf8_lossy(entry);
            let entry = entry.chars().take(SHOWN_CHARS_MAX).collect();
            return Err(ForwardedForFault::NoAddress { proxy, entry });
        };
        address = Some(found);
        if !trusts(found) {
            break;
        }
        proxy = found;
    }
    Ok(address)
}

/// Parses an entry: an address, which may have a port, brackets, a zone and quotes. The address is
/// never IPv4-mapped IPv6.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    if entry.len() > ENTRY_BYTES_MAX {
        return None;
    }
    let text = str::from_utf8(entry).ok()?;
    let quoted = text.strip_prefix('"').map(|text| text.strip_suffix('"'));
    let text = quoted.unwrap_or(Some(text))?;
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            if !port.is_empty() {
                parse_port(port.strip_prefix(':')?)?;
            }
            parse_v6(address)?
        }
        None => match text.split_once(':') {
            Some((address, port)) if !port.contains(':') => {
                parse_port(port)?;
                IpAddr::V4(address.parse().ok()?)
            }
            Some(_) => parse_v6(text)?,
            None => IpAddr::V4(text.parse().ok()?),
        },
    };
    Some(address.to_canonical())
}

/// Parses an address of IPv6. A zone has a meaning on the machine of the proxy only.
fn parse_v6(text: &str) -> Option<IpAddr> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if zone.is_some_and(|zone| zone.is_empty() || !zone.bytes().all(allowed)) {
        return None;
    }
    address.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// Checks a port, which is of no further use.
fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};
    use proptest::strategy::Strategy;

    use super::super::tests::addresses::{check_forwarded_for, is_trusted};
    use super::*;

    /// The address of the proxy that sends the request.
    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn walked(values: &[&str]) -> Result<Option<IpAddr>, ForwardedForFault> {
        walk(
            PROXY,
            values.iter().map(|value| value.as_bytes()),
            is_trusted,
        )
    }

    #[test]
    fn the_first_untrusted_address_from_the_right_is_the_sender() {
        let cases: &[(&[&str], Option<&str>)] = &[
            (&[], None),
            (&[""], None),
            (&[" , ,"], None),
            (&["203.0.113.7"], Some("203.0.113.7")),
            (&["203.0.113.7, 10.0.0.2"], Some("203.0.113.7")),
            (
                &["198.51.100.1, 203.0.113.7, 10.0.0.2"],
                Some("203.0.113.7"),
            ),
            (&["198.51.100.1", "203.0.113.7"], Some("203.0.113.7")),
            (
                &["203.0.113.7", "10.0.0.2", "10.0.0.3"],
                Some("203.0.113.7"),
            ),
            (&["203.0.113.7,,10.0.0.2,"], Some("203.0.113.7")),
            (&["10.0.0.3, 10.0.0.2"], Some("10.0.0.3")),
            (&["garbage, 203.0.113.7"], Some("203.0.113.7")),
            (&["\u{ff}", "203.0.113.7"], Some("203.0.113.7")),
            (&["203.0.113.7:4711"], Some("203.0.113.7")),
            (&["[2001:db8::1]:4711"], Some("2001:db8::1")),
            (&["[2001:db8::1]"], Some("2001:db8::1")),
            (&["2001:db8::1"], Some("2001:db8::1")),
            (&["\"[2001:db8::1]:4711\""], Some("2001:db8::1")),
            (&["\"203.0.113.7\""], Some("203.0.113.7")),
            (&["fe80::1%eth0"], Some("fe80::1")),
            (&["::ffff:203.0.113.7"], Some("203.0.113.7")),
            (
                &["203.0.113.7, ::ffff:10.0.0.2, [fd00::1%2]:80"],
                Some("203.0.113.7"),
            ),
        ];
        for (values, expected) in cases {
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(walked(values), Ok(expected), "{values:?}");
        }
    }

    #[test]
    fn what_must_be_believed_and_is_no_address_is_a_fault() {
        for entry in [
            "unknown",
            "_hidden",
            "-",
            "localhost",
            "203.0.113",
            "203.0.113.07",
            "203.0.113.7:",
            "203.0.113.7:x",
            "203.0.113.7:+1",
            "203.0.113.7:65536",
            "203.0.113.7 10.0.0.2",
            "[203.0.113.7]",
            "[2001:db8::1",
            "[2001:db8::1]4711",
            "[2001:db8::1]:",
            "2001:db8::1::2",
            "fe80::1%",
            "\"203.0.113.7",
            "for=203.0.113.7",
            "203.0.113.7;proto=https",
            "\u{ff}",
            "<script>",
        ] {
            let fault = |proxy| {
                let entry = entry.to_owned();
                Err(ForwardedForFault::NoAddress { proxy, entry })
            };
            assert_eq!(walked(&["203.0.113.7", entry]), fault(PROXY), "{entry}");
            let hop = IpAddr::from([10, 0, 0, 2]);
            let value = format!("203.0.113.7, {entry}, 10.0.0.2");
            assert_eq!(walked(&[&value]), fault(hop), "{entry}");
        }
        let long = walked(&[&"1".repeat(1000)]).unwrap_err().to_string();
        assert!(long.len() < 150, "{long}");
        assert!(parse(format!("fe80::1%{}", "a".repeat(100)).as_bytes()).is_none());
    }

    #[test]
    fn a_chain_without_end_is_a_fault() {
        let chain = |proxies: usize| format!("203.0.113.7{}", ", 10.0.0.2".repeat(proxies));
        let sender = Some(IpAddr::from([203, 0, 113, 7]));
        assert_eq!(walked(&[&chain(ENTRIES_MAX - 1)]), Ok(sender));
        let fault = Err(ForwardedForFault::TooMany);
        assert_eq!(walked(&[&chain(ENTRIES_MAX)]), fault);
        assert_eq!(walked(&[&",".repeat(60_000)]), fault);
        let unread = format!("{}, 203.0.113.7", ",".repeat(60_000));
        assert_eq!(walked(&[&unread]), Ok(sender));
    }

    fn value() -> impl Strategy<Value = String> {
        let entry = "( ?)(10\\.0\\.0\\.[1-9]|203\\.0\\.113\\.[1-9]|fd00::[1-9]|2001:db8::[1-9]|unknown|)\
            (:80|%eth0|)( ?)";
        vec(entry, 0..5).prop_map(|entries| entries.join(","))
    }

    proptest! {
        #[test]
        fn the_walk_is_that_of_the_documentation(values in vec(value(), 0..5)) {
            check_forwarded_for(values.join("\n").as_bytes());
        }

        #[test]
        fn any_bytes_are_an_address_or_a_fault(bytes in vec(any::<u8>(), 0..300)) {
            check_forwarded_for(&bytes);
        }
    }
}
