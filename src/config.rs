//! The configuration: one YAML file and the files it names, read whole, checked whole, then typed.
//!
//! Running code never sees a string where a type says more, and never meets a value that was not
//! checked. All errors of all files are reported at once. Nothing here keeps state: a reload is
//! another [`load`], and its [`Fingerprint`] tells whether anything changed since the last.
//! The keys and what they mean stand on the types; `defaults` has what happens without them.

mod check;
mod defaults;
mod errors;
mod hub_header;
mod node;
mod source_ranges;
mod sources;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub use errors::{Error, Errors, Position};
pub use hub_header::{HubHeader, HubHeaderValue};
pub use source_ranges::SourceRanges;
pub use sources::Fingerprint;

use sources::Sources;

/// What stands for the file in errors about a text.
const TEXT_NAME: &str = "config";

/// Reads the configuration file and all files it names, and checks them.
///
/// Relative paths in a file start at the folder of that file.
pub fn load(path: &Path) -> Load {
    let mut sources = Sources::default();
    let result = check::file(path, &mut sources);
    Load {
        result,
        fingerprint: sources.fingerprint(),
    }
}

/// Checks a configuration that is not in a file; relative paths start at the current folder.
pub fn parse(text: &str) -> Result<Config, Errors> {
    check::text(Path::new(TEXT_NAME), text, &mut Sources::default())
}

/// What a load found.
#[derive(Debug)]
pub struct Load {
    /// The configuration, or everything that is wrong with it.
    pub result: Result<Config, Errors>,
    /// Digest of all that was read; a broken configuration has one too.
    pub fingerprint: Fingerprint,
}

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the label that holds the spoke's name; a valid label name other than `__name__`.
    pub cluster_label: String,
    /// Where spokes write to.
    pub listen: Listen,
    /// Where operators look.
    pub admin: Admin,
    /// Where checked requests go, in the order of the file: at least one; names are unique.
    pub hubs: Vec<Hub>,
    /// Whose word counts when there are several hubs.
    pub ack: Ack,
    /// Limits of the process.
    pub limits: Limits,
    /// The spokes, in the order of the file and then of `spoke_files`; names are unique.
    pub spokes: Vec<Spoke>,
}

/// `listen`: the listener for remote writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Address to bind; port 0 takes a free one.
    pub address: SocketAddr,
    /// Peers outside are closed before a byte is read.
    pub source_ranges: SourceRanges,
    /// Most open connections.
    pub connections_max: usize,
}

/// `admin`: the listener for metrics, health and reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Address to bind; port 0 takes a free one.
    pub address: SocketAddr,
}

/// `ack`: how many hubs must take a write before the spoke is told that it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// Every one.
    All,
    /// One of them; what the others miss is lost to them.
    Any,
}

/// `hub`, or an element of `hubs`: an upstream that takes remote write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// Its name in metrics and logs: as given, 1 to 128 bytes without control characters, or host
    /// and port as they stand in the URL.
    pub name: String,
    /// Absolute `http://` URL of the remote-write endpoint, without user name or fragment.
    pub url: http::Uri,
    /// Whole time of a spoke's request at the hub: what is sent again in pieces and the wait for a
    /// connection included.
    pub timeout: Duration,
    /// What it is written in.
    pub protocol: HubProtocol,
    /// What happens to V1 metadata when the hub is written V2.
    pub metadata: HubMetadata,
    /// More headers of every request to it; at most 32, names are unique.
    pub headers: Vec<HubHeader>,
    /// Most further requests for one request of a spoke, to save what a bad sample or a too large
    /// body would cost; 0 is never, else from 2 to 10,000.
    pub salvage_requests_max: usize,
}

/// `protocol` of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubProtocol {
    /// Remote write 2.0 if the hub is found to speak it, else 1.0.
    Auto,
    /// Remote write 1.0.
    V1,
    /// Remote write 2.0.
    V2,
}

/// `metadata` of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubMetadata {
    /// It goes no further: V2 has no form for metadata without samples.
    Drop,
    /// It is sent on as V1.
    ForwardV1,
}

/// `limits`: bounds of the process, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Budget for bodies and decoded bytes of all requests in flight; holds at least one request
    /// of the largest size, and at most 1 TiB.
    pub bytes_in_flight_max: usize,
    /// Largest request body as sent; at most 1 GiB.
    pub body_bytes_max: usize,
    /// Largest request body after decompression; at most 1 GiB.
    pub decoded_bytes_max: usize,
}

/// One source cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoke {
    /// Its name, which is the only value of the cluster label it may write: 1 to 128 bytes without
    /// control characters, and not `unknown`.
    pub name: String,
    /// How it proves who it is; any one suffices. Never empty, and none is shared by two spokes.
    pub credentials: Vec<Credential>,
    /// Where it may write from.
    pub source_ranges: SourceRanges,
    /// What happens to series whose cluster label is absent or foreign.
    pub labels: LabelPolicy,
    /// Bounds of one of its requests.
    pub limits: SpokeLimits,
}

/// One way for a spoke to prove who it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// What metrics and logs call it: its kind with a digest prefix, file or user name. Never secret.
    pub name: String,
    /// What is compared.
    pub secret: Secret,
}

/// What a credential is checked against. No variant holds a secret in the clear.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// SHA-256 of a bearer token.
    Token([u8; 32]),
    /// A user name with an argon2 (PHC string) or bcrypt (`$2b$`) password hash.
    Basic {
        /// The user name of HTTP basic authentication.
        username: String,
        /// The hash in its own text format; it parses, and its cost is bounded.
        password_hash: String,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credential").field(&self.name).finish()
    }
}

/// What happens to a series by its cluster label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelPolicy {
    /// What to do when the label is absent or empty.
    pub absent: Absent,
    /// What to do when the label names another spoke.
    pub mismatch: Mismatch,
}

/// `labels.absent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// Add the label with the spoke's name.
    Inject,
    /// Refuse the series.
    Reject,
}

/// `labels.mismatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// Set the label to the spoke's name; the foreign value is lost.
    Overwrite,
    /// Refuse the series.
    Reject,
    /// Keep the foreign value under `exported_<label>`, as a scrape does, and set the label.
    Rename,
}

/// Bounds of one request of a spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpokeLimits {
    /// Most series in a request.
    pub series_per_request_max: usize,
    /// Most labels of a series.
    pub labels_per_series_max: usize,
    /// Longest label name or value, in bytes.
    pub label_value_bytes_max: usize,
}
