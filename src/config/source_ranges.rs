//! Which addresses may connect, or are trusted: a list of CIDRs.
//!
//! People write an IPv4 range in either form, so an IPv4-mapped range is converted to IPv4 here.
//! `listener::Peer` converts the address of a peer in the same way.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Prefix length of `::ffff:0:0/96`, the IPv6 range of the IPv4-mapped addresses.
const MAPPED_PREFIX_LEN: u8 = 96;

/// A list of CIDRs. An IPv4-mapped range is an IPv4 range: `::ffff:203.0.113.0/120` is
/// `203.0.113.0/24`, and `::/0` contains no IPv4 address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRanges(Vec<IpNet>);

impl SourceRanges {
    /// Returns the ranges that contain every IPv4 and every IPv6 address.
    pub fn everywhere() -> Self {
        let v4 = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
        let v6 = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0);
        Self(vec![v4.into(), v6.into()])
    }

    /// Returns the ranges that contain no address.
    pub fn nowhere() -> Self {
        Self(Vec::new())
    }

    /// The ranges, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }

    /// Tells whether there is no range.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells whether one of the ranges holds all addresses of IPv4 or of IPv6.
    pub fn has_a_whole_family(&self) -> bool {
        self.0.iter().any(|range| range.prefix_len() == 0)
    }

    /// Tells whether an address lies in one of the ranges. An IPv4 address must not be in its
    /// IPv4-mapped form.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(&address))
    }
}

impl FromIterator<IpNet> for SourceRanges {
    fn from_iter<I: IntoIterator<Item = IpNet>>(ranges: I) -> Self {
        Self(ranges.into_iter().map(canonical).collect())
    }
}

impl fmt::Display for SourceRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            range.fmt(f)?;
        }
        Ok(())
    }
}

/// Parses `ADDRESS/LENGTH`, or `ADDRESS` for that address alone.
pub(super) fn parse_range(text: &str) -> Option<IpNet> {
    let range = text.parse::<IpNet>();
    range
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .ok()
}

/// Clears the host bits, and converts an IPv4-mapped range to IPv4.
fn canonical(range: IpNet) -> IpNet {
    let range = range.trunc();
    let IpNet::V6(v6) = range else { return range };
    let mapped = v6.addr().to_ipv4_mapped();
    let prefix_len = v6.prefix_len().checked_sub(MAPPED_PREFIX_LEN);
    match mapped.zip(prefix_len) {
        Some((address, length)) => Ipv4Net::new(address, length).map_or(range, IpNet::from),
        None => range,
    }
}

#[cfg(test)]
mod tests {
    use super::{SourceRanges, parse_range};

    fn ranges(texts: &[&str]) -> SourceRanges {
        texts
            .iter()
            .map(|text| parse_range(text).expect(text))
            .collect()
    }

    #[test]
    fn contains_only_the_addresses_of_its_ranges() {
        let cases: [(&[&str], &str, bool); 14] = [
            (&["203.0.113.0/24"], "203.0.113.9", true),
            (&["203.0.113.0/24"], "203.0.114.9", false),
            (&["203.0.113.0/24"], "::203.0.113.9", false),
            (&["203.0.113.77/24"], "203.0.113.9", true),
            (&["203.0.113.7"], "203.0.113.7", true),
            (&["203.0.113.7"], "203.0.113.8", false),
            (&["::ffff:203.0.113.0/120"], "203.0.113.9", true),
            (&["::ffff:203.0.113.0/120"], "203.0.114.9", false),
            (&["::ffff:203.0.113.7"], "203.0.113.7", true),
            (&["::ffff:0:0/96"], "198.51.100.1", true),
            (&["::/0"], "2001:db8::1", true),
            (&["::/0"], "198.51.100.1", false),
            (&["2001:db8::/32"], "2001:db8:1::5", true),
            (&["10.0.0.0/8", "2001:db8::/32"], "192.0.2.1", false),
        ];
        for (texts, address, expected) in cases {
            let found = ranges(texts).contains(address.parse().expect(address));
            assert_eq!(found, expected, "{address} in {texts:?}");
        }
    }

    #[test]
    fn everywhere_contains_both_address_families() {
        for address in ["192.0.2.1", "2001:db8::1", "::1"] {
            assert!(SourceRanges::everywhere().contains(address.parse().expect(address)));
        }
    }

    #[test]
    fn an_empty_list_contains_no_address() {
        assert!(!ranges(&[]).contains("127.0.0.1".parse().expect("an address")));
    }

    #[test]
    fn displays_the_ranges_that_it_compares_with() {
        let shown = ranges(&["203.0.113.77/24", "::ffff:192.0.2.1", "2001:db8::1"]).to_string();
        assert_eq!(shown, "203.0.113.0/24, 192.0.2.1/32, 2001:db8::1/128");
    }

    #[test]
    fn refuses_a_text_that_is_not_a_range() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "host",
            "10.0.0.1/",
            "::1/129",
            "fe80::1%lo",
        ] {
            assert!(parse_range(text).is_none(), "{text}");
        }
    }
}
