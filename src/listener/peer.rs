//! Who is at the other end of a connection.
//!
//! A handler learns about the other end only from [`Peer`].

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::tls::ClientCertificate;

use super::handshake::PeerTls;

/// The other end of a connection, or the sender of one of its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    ip: IpAddr,
    port: Option<u16>,
    source: AddressSource,
    tls: Option<Arc<PeerTls>>,
}

/// How the address of a peer is known. One that a proxy reports is only as trustworthy as that proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressSource {
    /// The socket reports it.
    Socket,
    /// A PROXY protocol header reports it.
    ProxyProtocol,
    /// The header `X-Forwarded-For` reports it.
    XForwardedFor,
}

impl AddressSource {
    /// Its name in the log and in the status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::ProxyProtocol => "proxy_protocol",
            Self::XForwardedFor => "x_forwarded_for",
        }
    }
}

impl Peer {
    /// The peer at an address that the socket reports.
    pub fn direct(address: SocketAddr) -> Self {
        Self::at(address, AddressSource::Socket)
    }

    /// The peer at an address that a PROXY protocol header reports.
    pub fn proxied(address: SocketAddr) -> Self {
        Self::at(address, AddressSource::ProxyProtocol)
    }

    /// The sender at an address that `X-Forwarded-For` reports. The certificate of the connection is
    /// that of a proxy, and says nothing about who is behind it.
    pub fn forwarded(ip: IpAddr) -> Self {
        Self {
            ip: ip.to_canonical(),
            port: None,
            source: AddressSource::XForwardedFor,
            tls: None,
        }
    }

    /// A dual-stack socket reports an IPv4 peer as `::ffff:a.b.c.d`. The address becomes IPv4 here, so
    /// that source ranges, the log and the status all see the same form.
    fn at(address: SocketAddr, source: AddressSource) -> Self {
        Self {
            ip: address.ip().to_canonical(),
            port: Some(address.port()),
            source,
            tls: None,
        }
    }

    /// The IP address, which is never IPv4-mapped IPv6.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Its verified certificate, if it sent one.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.tls.as_ref()?.certificate()
    }

    /// What the TLS handshake found out, if there was one.
    pub(super) fn tls(&self) -> Option<&Arc<PeerTls>> {
        self.tls.as_ref()
    }

    pub(super) fn set_tls(&mut self, tls: PeerTls) {
        self.tls = Some(Arc::new(tls));
    }

    /// How the address is known.
    pub fn address_source(&self) -> AddressSource {
        self.source
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

/// The part of an address that one party does not choose: an IPv4 address, or the first half of an IPv6
/// address, as one party has the other half for itself.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SourceRanges;

    #[test]
    fn an_ipv4_peer_of_a_dual_stack_socket_has_an_ipv4_address() {
        for (reported, expected) in [
            ("203.0.113.9:4711", "203.0.113.9:4711"),
            ("[::ffff:203.0.113.9]:4711", "203.0.113.9:4711"),
            ("[::203.0.113.9]:4711", "[::203.0.113.9]:4711"),
            ("[2001:db8::9]:4711", "[2001:db8::9]:4711"),
            // A zone has a meaning for the interfaces of this machine only.
            ("[fe80::9%2]:4711", "[fe80::9]:4711"),
        ] {
            let peer = Peer::direct(reported.parse().unwrap());
            let expected: SocketAddr = expected.parse().unwrap();
            assert_eq!(peer.ip(), expected.ip(), "{reported}");
            assert_eq!(peer.to_string(), expected.to_string(), "{reported}");
        }
    }

    #[test]
    fn source_ranges_take_an_ipv4_peer_in_either_form() {
        let peer = Peer::direct("[::ffff:203.0.113.9]:4711".parse().unwrap());
        for (range, expected) in [
            ("203.0.113.0/24", true),
            ("203.0.114.0/24", false),
            ("::ffff:203.0.113.0/120", true),
            ("::/0", false),
        ] {
            let ranges = SourceRanges::from_iter([range.parse().unwrap()]);
            assert_eq!(ranges.contains(peer.ip()), expected, "{range}");
        }
        assert!(SourceRanges::everywhere().contains(peer.ip()));
    }
}
