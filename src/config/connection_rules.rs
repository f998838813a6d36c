//! Who may connect to a listener, how its address is known, and for how long it stays.

use std::net::IpAddr;
use std::time::Duration;

use crate::tls::ServerTls;

use super::SourceRanges;

/// The rules of the connections of one listener. A connection keeps those of its accept; only the
/// addresses in `X-Forwarded-For` are judged by those of their request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRules {
    /// The true addresses that may connect. A connection from elsewhere is closed before HTTP is
    /// spoken on it, where the address is known by then.
    pub source_ranges: SourceRanges,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
    /// Whether a header of a request says where it comes from.
    pub forwarded_for: ForwardedFor,
    /// The proxies whose word is taken for an address. There are some if one of the two is on.
    pub trusted_proxies: SourceRanges,
    /// Maximum number of open connections of one address; `None` for no limit.
    pub connections_per_address_max: Option<usize>,
    /// Maximum age of a connection at which it gets another request; `None` for no limit.
    pub connection_age_max: Option<Duration>,
    /// TLS; without it, connections are plain.
    pub tls: Option<ServerTls>,
}

/// `listen.proxy_protocol`: whether a connection begins with a header of the PROXY protocol. It is
/// never found out from the bytes: whoever connects could then choose an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// None does.
    Off,
    /// Each does, and comes from a trusted proxy.
    Required,
}

/// `listen.forwarded_for`: which header of a request says where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedFor {
    /// None does.
    Off,
    /// `X-Forwarded-For` does, if a trusted proxy sends it.
    XForwardedFor,
}

impl ConnectionRules {
    /// The rules that keep nobody out.
    pub fn open() -> Self {
        Self {
            source_ranges: SourceRanges::everywhere(),
            proxy_protocol: ProxyProtocol::Off,
            forwarded_for: ForwardedFor::Off,
            trusted_proxies: SourceRanges::nowhere(),
            connections_per_address_max: None,
            connection_age_max: None,
            tls: None,
        }
    }

    /// Tells whether an address is that of a proxy whose word is taken for anything.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        let asked = self.proxy_protocol == ProxyProtocol::Required
            || self.forwarded_for == ForwardedFor::XForwardedFor;
        asked && self.trusted_proxies.contains(address)
    }

    /// Tells whether an address is that of a proxy whose `X-Forwarded-For` says where a request comes
    /// from.
    pub fn forwards(&self, address: IpAddr) -> bool {
        self.forwarded_for == ForwardedFor::XForwardedFor && self.trusted_proxies.contains(address)
    }
}
