//! JSON Web Tokens as a credential: whose tokens are taken, and where the keys are that sign them.

use std::fmt;
use std::sync::Arc;

use super::{Host, HubUrl, Scheme, hub_url};
use crate::jwt::{Algorithm, KeySet};
use crate::tls::ClientTls;

/// What an issuer's URL is followed by in that of its metadata (OpenID Connect Discovery 1.0 section
/// 4; a Kubernetes API server serves it too).
const METADATA_PATH: &str = "/.well-known/openid-configuration";

const WANTED: &str =
    "write https://HOST/PATH, or http:// with a loopback address such as 127.0.0.1";

/// `jwt` of a credential: a token of this issuer, for this audience, about this subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// `iss` of the token, letter for letter.
    pub issuer: String,
    /// One of the values of `aud` of the token.
    pub audience: String,
    /// `sub` of the token, such as `system:serviceaccount:monitoring:prometheus-k8s`.
    pub subject: String,
    /// The algorithms by which it may be signed; at least one.
    pub algorithms: Vec<Algorithm>,
    /// The keys by which it may be signed.
    pub keys: JwtKeys,
}

/// The keys of an issuer, or where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// `jwks_file`: they are in a file, which is read with the configuration.
    File(Arc<KeySet>),
    /// They are fetched.
    Remote(Box<KeysPlace>),
}

/// Where keys are fetched from. Credentials with equal places share the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysPlace {
    /// The URL of the keys, or of the metadata that has their URL.
    pub url: KeysUrl,
    /// With `discovery: true`, the issuer whose metadata are at the URL.
    pub issuer: Option<String>,
    /// The TLS of an `https://` URL: the server is vouched for by an authority of `jwks_ca_file`, or
    /// of the system without that.
    pub tls: Option<ClientTls>,
}

/// A URL that keys may be fetched from: `https://`, or `http://` to a loopback address. Whoever could
/// change keys on their way could sign any token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysUrl(HubUrl);

impl KeysUrl {
    /// Parses a value of the configuration, or of the metadata of an issuer.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse(text).map_err(|fault| format!("{fault}; {WANTED}"))
    }

    /// Parses the URL of an issuer, and returns that of its metadata.
    pub(super) fn of_metadata(issuer: &str) -> Result<Self, String> {
        Self::parse(&format!("{}{METADATA_PATH}", issuer.trim_end_matches('/')))
    }

    /// Whether the server proves who it is.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == Scheme::Https
    }

    /// The host to connect to.
    pub fn host(&self) -> &Host {
        self.0.host()
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// The host and the port as the URL has them.
    pub fn authority(&self) -> &str {
        self.0.authority()
    }

    /// The path.
    pub fn path(&self) -> &str {
        self.0.path()
    }
}

impl fmt::Display for KeysUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme().prefix();
        write!(f, "{scheme}{}{}", self.authority(), self.path())
    }
}

fn parse(text: &str) -> Result<KeysUrl, &'static str> {
    let url = hub_url::parse(text)?;
    if url.target().query().is_some() {
        return Err("must not contain a query (?...)");
    }
    let loopback = matches!(url.host(), Host::Address(address) if address.is_loopback());
    if url.scheme() == Scheme::Http && !loopback {
        return Err("is not https, so everyone on the way could change the keys");
    }
    Ok(KeysUrl(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_by_https_or_from_this_machine() {
        let cases = [
            (
                "https://issuer.example/keys",
                443,
                "https://issuer.example/keys",
            ),
            (
                "HTTPS://issuer.example:6443",
                6443,
                "https://issuer.example:6443/",
            ),
            (
                "https://[2001:db8::1]/keys",
                443,
                "https://[2001:db8::1]/keys",
            ),
            (
                "https://[2001:db8::1]:80/k",
                80,
                "https://[2001:db8::1]:80/k",
            ),
            (
                "http://127.0.0.1:8001/keys",
                8001,
                "http://127.0.0.1:8001/keys",
            ),
            ("http://[::1]/keys", 80, "http://[::1]/keys"),
        ];
        for (text, port, shown) in cases {
            let url = KeysUrl::parse(text).expect(text);
            assert_eq!((url.port(), &*url.to_string()), (port, shown), "{text}");
            assert_eq!(url.is_https(), text.to_lowercase().starts_with("https"));
        }
    }

    #[test]
    fn other_urls_are_refused_with_the_reason() {
        let cases = [
            ("http://issuer.example/keys", "is not https"),
            ("http://localhost/keys", "is not https"),
            ("http://10.0.0.1/keys", "is not https"),
            ("ftp://issuer.example/keys", "is not an absolute http"),
            ("issuer.example/keys", "is not an absolute http"),
            (
                "https://user:word@issuer.example/",
                "must not contain a user",
            ),
            (
                "https://issuer.example/keys?key=1",
                "must not contain a query",
            ),
            (
                "https://issuer.example/keys#1",
                "must not contain a fragment",
            ),
            ("https:///keys", "has no host"),
            ("https://127.1/keys", "has a host that ends in a number"),
            ("https://issuer.example:0/", "has a port"),
        ];
        for (text, start) in cases {
            let error = KeysUrl::parse(text).expect_err(text);
            assert!(error.starts_with(start), "{text}: {error}");
            assert!(error.ends_with(WANTED), "{text}: {error}");
        }
    }

    #[test]
    fn metadata_are_below_the_issuer() {
        for (issuer, url) in [
            (
                "https://a.example",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example/",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example/id/1",
                "https://a.example/id/1/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(KeysUrl::of_metadata(issuer).unwrap().to_string(), url);
        }
    }
}
