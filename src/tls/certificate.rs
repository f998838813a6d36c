//! What a certificate says of itself.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::Unusable;

/// The time in which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Its beginning.
    pub not_before: SystemTime,
    /// Its end.
    pub not_after: SystemTime,
}

/// The facts of a certificate that are checked before it is used.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) validity: Validity,
    /// Whether it has a DNS name or an IP address of a server.
    pub(super) names_a_server: bool,
    /// Whether it may issue others.
    pub(super) may_issue: bool,
    pub(super) issuer: Vec<u8>,
    pub(super) subject: Vec<u8>,
    pub(super) public_key: Vec<u8>,
}

impl Facts {
    /// Reads a certificate.
    pub(super) fn of(der: &CertificateDer<'_>) -> Result<Self, Unusable> {
        let unreadable = || Unusable::new("contains a certificate that cannot be read");
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| unreadable())?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| unreadable())?;
        let names_a_server = names.is_some_and(|names| {
            let mut names = names.value.general_names.iter();
            names.any(|name| match name {
                GeneralName::DNSName(_) => true,
                GeneralName::IPAddress(bytes) => address(bytes).is_some(),
                _ => false,
            })
        });
        let validity = certificate.validity();
        Ok(Self {
            validity: Validity {
                not_before: time(validity.not_before),
                not_after: time(validity.not_after),
            },
            names_a_server,
            may_issue: certificate.is_ca(),
            issuer: certificate.issuer().as_raw().to_vec(),
            subject: certificate.subject().as_raw().to_vec(),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// A time in a certificate. One before 1970 becomes 1970.
pub(super) fn time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
