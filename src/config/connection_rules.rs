//! Who may connect to a listener, and for how long: what a reload changes for new connections.

use crate::tls::ServerTls;

use super::SourceRanges;

/// The rules of the connections of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRules {
    /// A connection from any other address is closed before HTTP is spoken on it.
    pub source_ranges: SourceRanges,
    /// Maximum number of open connections of one address; `None` for no limit.
    pub connections_per_address_max: Option<usize>,
    /// TLS; without it, connections are plain.
    pub tls: Option<ServerTls>,
}

impl ConnectionRules {
    /// The rules that keep nobody out.
    pub fn open() -> Self {
        Self {
            source_ranges: SourceRanges::everywhere(),
            connections_per_address_max: None,
            tls: None,
        }
    }
}
