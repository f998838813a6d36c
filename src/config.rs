//! The configuration: a YAML file, or those of a folder, and the files they name, read whole, checked whole, then typed.
//!
//! Running code never sees a string where a type says more, and never meets a value that was not
//! checked. All errors of all files are reported at once. Nothing here keeps state: a reload is
//! another [`load`], and its [`Fingerprint`] tells whether anything changed since the last one.
//! Each key is documented on its field; `defaults` has the values of keys that are left out.

mod check;
mod connection_rules;
mod defaults;
mod errors;
mod hub_header;
mod hub_url;
mod jwt;
mod node;
pub mod schema;
mod source_ranges;
mod sources;
mod spoke_limits;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use rustls::pki_types::ServerName;

use crate::tls::{ClientTls, Validity};

pub use connection_rules::{ConnectionRules, ForwardedFor, ProxyProtocol};
pub use errors::{Errors, Finding, Position};
pub use hub_header::{HubHeader, HubHeaderValue};
pub use hub_url::{Host, HubUrl, Scheme};
pub use jwt::{Jwt, JwtKeys, KeysPlace, KeysUrl};
pub use source_ranges::SourceRanges;
pub use sources::Fingerprint;
pub use spoke_limits::{LimitAnswer, LimitMode, LimitSet, SpokeLimits};

use crate::tls::CertificateName;

use sources::Sources;

/// Takes the place of the file name in the errors of [`parse`].
const TEXT_NAME: &str = "config";

/// Reads the configuration file, or all those of a folder, and all files that they name, and checks
/// them.
///
/// A relative path in a file starts at the folder of that file.
pub fn load(path: &Path) -> Load {
    let mut sources = Sources::default();
    let (result, warnings) = check::path(path, &mut sources);
    Load {
        result,
        warnings,
        fingerprint: sources.fingerprint(),
    }
}

/// Checks a configuration that is not in a file. A relative path in it starts at the current
/// folder.
pub fn parse(text: &str) -> Result<Config, Errors> {
    let (result, _) = check::text(Path::new(TEXT_NAME), text, &mut Sources::default());
    result
}

/// Checks a configuration that nobody vouches for, as [`parse`] does, but asks nothing of the file
/// system: each file that it names is missing. The warnings come with the result.
pub fn parse_without_files(text: &str) -> (Result<Config, Errors>, Vec<Finding>) {
    check::text(Path::new(TEXT_NAME), text, &mut Sources::without_files())
}

/// Checks the name of a spoke, and returns it. The error says what is wrong with it.
pub fn spoke_name(text: &str) -> Result<String, String> {
    check::spoke_name(text)
}

/// The result of a load.
#[derive(Debug)]
pub struct Load {
    /// The configuration, or everything that is wrong with it.
    pub result: Result<Config, Errors>,
    /// What is allowed and yet doubtful, in order. If there are errors too, it may be incomplete.
    pub warnings: Vec<Finding>,
    /// What was read. An invalid configuration has one too.
    pub fingerprint: Fingerprint,
}

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the label that has the spoke's name as its value. It is a valid label name other
    /// than `__name__`.
    pub cluster_label: String,
    /// The listener for remote writes.
    pub listen: Listen,
    /// The listener for operators.
    pub admin: Admin,
    /// The hubs that get what spokes write, in the order of their list. There is at least one, and
    /// their names are unique.
    pub hubs: Vec<Hub>,
    /// How many of several hubs must accept a write.
    pub ack: Ack,
    /// Limits of the process.
    pub limits: Limits,
    /// The spokes of `spokes` and then those of `spoke_files`, each in order. Their names are
    /// unique.
    pub spokes: Vec<Spoke>,
}

/// `listen`: the listener for remote writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Address to bind. Port 0 binds a free port.
    pub address: SocketAddr,
    /// Maximum number of open connections.
    pub connections_max: usize,
    /// Who may connect, and for how long.
    pub rules: Arc<ConnectionRules>,
}

/// `admin`: the listener for metrics, health and reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Address to bind. Port 0 binds a free port.
    pub address: SocketAddr,
    /// Who may connect, and how.
    pub rules: Arc<ConnectionRules>,
    /// Any one of them is needed for all but health checks. Without any, everybody who reaches the
    /// port may use it. None of them is also a spoke's.
    pub credentials: Vec<Credential>,
}

/// `ack`: how many hubs must accept a write before it succeeds for the spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// All of them.
    All,
    /// One of them. A hub that misses a write never gets it later.
    Any,
}

/// `hub`, or an element of `hubs`: an upstream that takes remote write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// Its name in metrics and logs. A configured name has 1 to 128 bytes and nothing
    /// invisible. The default is the host and port, as the URL has them.
    pub name: String,
    /// Absolute URL of the remote-write endpoint, without user name or fragment.
    pub url: HubUrl,
    /// The TLS of the connections to it, if its URL begins with `https://`.
    pub tls: Option<HubTls>,
    /// Maximum time that one request of a spoke takes at this hub, including the wait for a
    /// connection and all requests for salvage.
    pub timeout: Duration,
    /// Maximum age of a connection at which it gets another request.
    pub connection_age_max: Duration,
    /// The version of remote write that is sent to it.
    pub protocol: HubProtocol,
    /// What happens to V1 metadata when V2 is sent to the hub.
    pub metadata: HubMetadata,
    /// Additional headers of every request to it. There are at most 32, and their names are unique.
    pub headers: Vec<HubHeader>,
    /// The value of the header `Authorization` of every request to it, marked as sensitive. `headers`
    /// has none then.
    pub authorization: Option<HeaderValue>,
    /// Maximum number of additional requests for the salvage of one request of a spoke, after the
    /// hub refused it for a bad sample or for its size. 0 turns salvage off; otherwise it is from 2
    /// to 10,000.
    pub salvage_requests_max: usize,
}

impl Hub {
    /// The URL for people. The query is left out, because it may contain a secret.
    pub fn shown_url(&self) -> String {
        let scheme = self.url.scheme().prefix();
        format!("{scheme}{}{}", self.url.authority(), self.url.path())
    }
}

/// `tls` of a hub: whom hubgate trusts to be the hub, and how it proves who it is itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubTls {
    /// What is trusted and shown.
    pub client: ClientTls,
    /// The name or address that the certificate of the hub must have. A name is sent as SNI.
    pub server_name: ServerName<'static>,
    /// When the certificate is valid that hubgate shows, if there is one.
    pub validity: Option<Validity>,
}

/// `protocol` of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubProtocol {
    /// Remote write 2.0 if a probe finds that the hub speaks it, otherwise 1.0.
    Auto,
    /// Remote write 1.0.
    V1,
    /// Remote write 2.0.
    V2,
}

/// `metadata` of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubMetadata {
    /// It is dropped, because V2 has no form for metadata without samples.
    Drop,
    /// It is forwarded as V1.
    ForwardV1,
}

/// `limits`: limits of the process, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Budget for the bodies and decoded bytes of all requests in flight. It has room for at least
    /// one request of the largest size, and is at most 1 TiB.
    pub bytes_in_flight_max: usize,
    /// Maximum size of a request body as sent, itself at most 1 GiB.
    pub body_bytes_max: usize,
    /// Maximum size of a request body after decompression, itself at most 1 GiB.
    pub decoded_bytes_max: usize,
}

impl Limits {
    /// The limits of a configuration that says nothing of them.
    pub const DEFAULT: Self = Self {
        bytes_in_flight_max: defaults::BYTES_IN_FLIGHT_MAX,
        body_bytes_max: defaults::BODY_BYTES_MAX,
        decoded_bytes_max: defaults::DECODED_BYTES_MAX,
    };
}

/// One source cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoke {
    /// Its name, which is the only value of the cluster label that it may write. It has 1 to 128
    /// bytes and nothing invisible, and is not `unknown`.
    pub name: String,
    /// Any one of them identifies the spoke. There is at least one, and no two spokes share one.
    pub credentials: Vec<Credential>,
    /// The addresses that it may write from.
    pub source_ranges: SourceRanges,
    /// What happens to a series whose cluster label is absent or names another spoke.
    pub labels: LabelPolicy,
    /// Limits of its requests.
    pub limits: SpokeLimits,
    /// How many times as much it gets of what is short as a spoke of weight 1; at most 1000.
    pub weight: NonZeroU32,
}

/// One way for a spoke, or for an operator, to prove who it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its name in metrics and logs: its kind with a digest prefix, a path, a user name, a subject or a
    /// name in a certificate. It is not secret.
    pub name: String,
    /// What the credential of a request is checked against.
    pub secret: Secret,
    /// The last moment at which it proves anything; `None` for no end.
    pub not_after: Option<SystemTime>,
    /// `captures`: whether an operator with it may capture what spokes send. False for one of a spoke.
    pub may_capture: bool,
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
        /// The hash in its own text format. It is known to parse, and its cost is bounded.
        password_hash: String,
    },
    /// A name in a client certificate.
    Certificate(CertificateName),
    /// A JSON Web Token of an issuer, about a subject.
    Jwt(Box<Jwt>),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credential").field(&self.name).finish()
    }
}

/// `labels`: what happens to a series whose cluster label is not the spoke's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelPolicy {
    /// What to do when the label is absent or empty.
    pub absent: Absent,
    /// What to do when the label names another spoke.
    pub mismatch: Mismatch,
}

/// `labels.absent`: what happens to a series without a cluster label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// Add the label with the spoke's name.
    Inject,
    /// Refuse the series.
    Reject,
}

/// `labels.mismatch`: what happens to a series with the cluster label of another spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// Set the label to the spoke's name; the foreign value is lost.
    Overwrite,
    /// Refuse the series.
    Reject,
    /// Keep the foreign value under `exported_<label>`, as a scrape does, and set the label.
    Rename,
}

impl Absent {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inject => "inject",
            Self::Reject => "reject",
        }
    }
}

impl Mismatch {
    /// Its name in the configuration and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overwrite => "overwrite",
            Self::Reject => "reject",
            Self::Rename => "rename",
        }
    }
}
