//! Who is trusted to issue certificates, and what they revoked.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::certificate::{Facts, time};
use super::{Digest, Unusable, sections};

/// Certificates of authorities, at least one.
#[derive(Debug, Clone)]
pub struct Authorities {
    roots: Arc<RootCertStore>,
    /// Whether one of the certificates verifies no certificate at all.
    has_idle: bool,
    digest: Digest,
}

/// Certificate revocation lists (RFC 5280), at least one.
#[derive(Debug, Clone)]
pub struct RevocationLists {
    lists: Vec<CertificateRevocationListDer<'static>>,
    /// When the first of the next lists is due.
    next_update: Option<SystemTime>,
    digest: Digest,
}

impl Authorities {
    /// Reads all certificates of a PEM file; each of them is trusted.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Unusable> {
        let certificates: Vec<CertificateDer<'static>> = sections(pem, "CERTIFICATE")?;
        let mut has_idle = false;
        for certificate in &certificates {
            let facts = Facts::of(certificate)?;
            // One that signed itself verifies itself.
            has_idle |= !facts.may_issue && facts.issuer != facts.subject;
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            let added = roots.add(certificate.clone());
            added.map_err(|_| {
                Unusable::new("contains a certificate that cannot be that of an authority")
            })?;
        }
        let authorities = Self::new(roots, &certificates);
        Ok(Self {
            has_idle,
            ..authorities
        })
    }

    /// What is probably not meant. The text continues a sentence whose subject is the file.
    pub fn doubt(&self) -> Option<&'static str> {
        self.has_idle.then_some(
            "has a certificate that is not that of an authority and verifies no other; give the \
             certificate of the authority that issued it",
        )
    }

    /// Trusts the authorities that a system trusts, without those that cannot be read. `None` when
    /// none is left.
    pub fn of_system(certificates: &[CertificateDer<'static>]) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        (!roots.is_empty()).then(|| Self::new(roots, certificates))
    }

    fn new(roots: RootCertStore, certificates: &[CertificateDer<'static>]) -> Self {
        Self {
            roots: Arc::new(roots),
            has_idle: false,
            digest: Digest::of(certificates.iter().map(AsRef::as_ref)),
        }
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }

    pub(super) fn digest(&self) -> &[u8] {
        &self.digest.0
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Authorities {}

impl RevocationLists {
    /// Reads all lists of a PEM file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Unusable> {
        let lists: Vec<CertificateRevocationListDer<'static>> = sections(pem, "X509 CRL")?;
        let mut next_update = None;
        for list in &lists {
            let read = CertificateRevocationList::from_der(list);
            let (_, list) =
                read.map_err(|_| Unusable::new("contains a revocation list that cannot be read"))?;
            let next = list.next_update().map(time);
            next_update = next_update.into_iter().chain(next).min();
        }
        Ok(Self {
            digest: Digest::of(lists.iter().map(AsRef::as_ref)),
            next_update,
            lists,
        })
    }

    /// What is doubtful about the lists at this time; it continues a sentence whose subject is the
    /// file.
    pub fn doubt(&self, now: SystemTime) -> Option<String> {
        let late = self.next_update.filter(|next| now > *next)?;
        let since = humantime::format_rfc3339_seconds(late);
        Some(format!(
            "contains a revocation list that is out of date since {since}; it stays in force"
        ))
    }

    pub(super) fn lists(&self) -> &[CertificateRevocationListDer<'static>] {
        &self.lists
    }

    pub(super) fn digest(&self) -> &[u8] {
        &self.digest.0
    }
}

impl PartialEq for RevocationLists {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for RevocationLists {}
