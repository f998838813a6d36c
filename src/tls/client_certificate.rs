//! The certificate of a client, after a listener has verified it.

use std::fmt;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::certificate::{Facts, Validity};

/// The most names in a certificate. One with more proves nobody.
const NAMES_MAX: usize = 64;

/// A name in a certificate, by which a client is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CertificateName {
    /// The only common name of the subject.
    CommonName(String),
    /// A DNS name among the subject alternative names, in lower case.
    Dns(String),
    /// A URI among the subject alternative names.
    Uri(String),
}

impl CertificateName {
    /// A DNS name. Upper and lower case are the same (RFC 4343).
    pub fn dns(name: &str) -> Self {
        Self::Dns(name.to_ascii_lowercase())
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommonName(name) => write!(f, "common_name:{name}"),
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Uri(name) => write!(f, "uri:{name}"),
        }
    }
}

/// The names that the log shows of a certificate, and the characters of each.
const NAMES_SHOWN: usize = 3;
const NAME_CHARS_SHOWN: usize = 200;

/// The verified certificate of a client, with the chain that it sent.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    names: Vec<CertificateName>,
    validity: Validity,
}

impl ClientCertificate {
    /// Reads the chain of a client, its own certificate first. `None` when there is no certificate, or
    /// it cannot be read.
    pub fn new(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let own = chain.first()?;
        Some(Self {
            names: names(own)?,
            validity: Facts::of(own).ok()?.validity,
            chain: chain.iter().map(|it| it.clone().into_owned()).collect(),
        })
    }

    /// What it calls the client. There is no name if it has too many.
    pub fn names(&self) -> &[CertificateName] {
        &self.names
    }

    /// When it expires.
    pub fn not_after(&self) -> SystemTime {
        self.validity.not_after
    }

    /// The chain as it was sent.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }
}

/// Shows the first names, which its authority let the client choose.
impl fmt::Display for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.names.is_empty() {
            return f.write_str("no names");
        }
        for (place, name) in self.names.iter().take(NAMES_SHOWN).enumerate() {
            let name: String = name.to_string().chars().take(NAME_CHARS_SHOWN).collect();
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{name}")?;
        }
        match self.names.len().checked_sub(NAMES_SHOWN) {
            Some(more @ 1..) => write!(f, ", and {more} more"),
            _ => Ok(()),
        }
    }
}

/// The names in a certificate. `None` when it cannot be read.
fn names(der: &CertificateDer<'_>) -> Option<Vec<CertificateName>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let alternative = certificate.subject_alternative_name().ok()?;
    let alternative = alternative.map_or(&[][..], |names| &names.value.general_names);
    if alternative.len() > NAMES_MAX {
        return Some(Vec::new());
    }
    let alternative = alternative.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(CertificateName::dns(name)),
        GeneralName::URI(name) => Some(CertificateName::Uri((*name).to_owned())),
        _ => None,
    });
    // Of two common names, programs take different ones.
    let mut common = certificate.subject().iter_common_name();
    let common = match (common.next(), common.next()) {
        (Some(name), None) => name.as_str().ok(),
        _ => None,
    };
    let common = common.map(|name| CertificateName::CommonName(name.to_owned()));
    Some(alternative.chain(common).collect())
}
