//! A certificate chain with its key: what one side of a connection proves itself with.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use super::certificate::{Facts, Validity};
use super::{Digest, Unusable, provider, sections};

/// A certificate that ends within this time is doubtful: it is the time in which most issuers have
/// renewed one.
const ENDS_SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// A certificate, and those of the authorities between it and a root, in the order of the file.
#[derive(Debug, Clone)]
pub struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    /// Of each certificate; at least one.
    facts: Vec<Facts>,
}

/// A private key.
#[derive(Clone)]
pub struct Key {
    key: Arc<dyn SigningKey>,
    /// In DER.
    digest: Digest,
}

/// A chain with the key of its first certificate.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    validity: Validity,
    digest: Digest,
}

impl Chain {
    /// Reads all certificates of a PEM file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Unusable> {
        let certificates: Vec<CertificateDer<'static>> = sections(pem, "CERTIFICATE")?;
        let facts = certificates.iter().map(Facts::of);
        Ok(Self {
            facts: facts.collect::<Result<_, _>>()?,
            certificates,
        })
    }

    /// What may keep peers from accepting the chain of a server or client at this time. Each text
    /// continues a sentence whose subject is the file.
    pub fn doubts(&self, now: SystemTime) -> Vec<String> {
        let Validity {
            not_before,
            not_after,
        } = self.facts[0].validity;
        let mut doubts = Vec::new();
        let day = |time| humantime::format_rfc3339_seconds(time);
        if now > not_after {
            doubts.push(format!("expired at {}", day(not_after)));
        } else if now + ENDS_SOON > not_after {
            doubts.push(format!("expires soon, at {}", day(not_after)));
        }
        if now < not_before {
            doubts.push(format!("is not valid before {}", day(not_before)));
        }
        let mut pairs = self.facts.windows(2);
        if pairs.any(|pair| pair[0].issuer != pair[1].subject) {
            doubts.push(
                "has certificates in the wrong order; put each before the one that issued it"
                    .to_owned(),
            );
        }
        doubts
    }

    /// Whether the first certificate names a server by DNS name or IP address. Prometheus ignores its
    /// common name (Go, crypto/x509).
    pub fn names_a_server(&self) -> bool {
        self.facts[0].names_a_server
    }
}

impl Key {
    /// Reads the first key of a PEM file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Unusable> {
        let has = |text: &str| pem.windows(text.len()).any(|it| it == text.as_bytes());
        if has("BEGIN ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") {
            let message = "is encrypted; hubgate takes keys without a passphrase only";
            return Err(Unusable::new(message));
        }
        let [key, ..] = &sections::<PrivateKeyDer<'static>>(pem, "PRIVATE KEY")?[..] else {
            return Err(Unusable::new("contains no key"));
        };
        let loaded = provider().key_provider.load_private_key(key.clone_key());
        Ok(Self {
            key: loaded.map_err(|_| Unusable::new("contains a key of an unknown kind"))?,
            digest: Digest::of([key.secret_der()]),
        })
    }
}

impl Identity {
    /// Joins a chain and the key of its first certificate. The error is about the file of the key.
    pub fn new(chain: &Chain, key: &Key) -> Result<Self, Unusable> {
        let Key { key, digest } = key;
        let public = key.public_key();
        let public = public.ok_or_else(|| Unusable::new("contains a key of an unknown kind"))?;
        let is_of = |facts: &Facts| facts.public_key == public.as_ref();
        match chain.facts.iter().position(is_of) {
            Some(0) => {}
            Some(place) => {
                return Err(Unusable::new(format!(
                    "does not fit the first certificate, but number {} of its file; put that one \
                     first",
                    place + 1
                )));
            }
            None => return Err(Unusable::new("does not fit the certificate")),
        }
        let pieces = chain.certificates.iter().map(AsRef::as_ref);
        Ok(Self {
            digest: Digest::of(pieces.chain([&digest.0[..]])),
            certified: Arc::new(CertifiedKey::new(
                chain.certificates.clone(),
                Arc::clone(key),
            )),
            validity: chain.facts[0].validity,
        })
    }

    /// When the certificate is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    pub(super) fn digest(&self) -> &[u8] {
        &self.digest.0
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.validity).finish()
    }
}
