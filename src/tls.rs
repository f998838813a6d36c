//! TLS: certificates, keys, authorities and revocation lists in PEM, checked, and made into what rustls
//! takes.
//!
//! Bytes in, values out: `config` reads the files, `listener` and `forward` speak TLS. A configuration
//! is built whole from its files and never changed, so a reload cannot mix old and new ones. Two of
//! them are equal when they were built from the same bytes.
//!
//! Everything here names its cryptography. rustls has a default for the process, which panics as soon
//! as two of its providers are compiled in.

mod authorities;
mod certificate;
mod client;
mod client_certificate;
mod identity;
mod server;
mod short_chains;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use sha2::{Digest as _, Sha256};

pub use authorities::{Authorities, RevocationLists};
pub use certificate::Validity;
pub use client::ClientTls;
pub use client_certificate::{CertificateName, ClientCertificate};
pub use identity::{Chain, Identity, Key};
pub use server::{ClientAuth, MinVersion, ServerTls};

/// The cryptography of all connections.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// Why bytes or values are of no use for TLS. It continues a sentence whose subject is the file: "FILE
/// contains no certificate". It quotes nothing of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

impl Unusable {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// All sections of a kind in a PEM file, at least one. Sections of other kinds are skipped.
fn sections<T: PemObject>(pem: &[u8], what: &str) -> Result<Vec<T>, Unusable> {
    let sections: Result<Vec<T>, PemError> = T::pem_slice_iter(pem).collect();
    match sections {
        Ok(sections) if !sections.is_empty() => Ok(sections),
        Ok(_) if pem.trim_ascii().is_empty() => Err(Unusable::new("is empty")),
        // DER begins with a sequence.
        Ok(_) if pem.first() == Some(&0x30) => Err(Unusable::new(format!(
            "is in DER; wanted PEM, with `-----BEGIN {what}-----`"
        ))),
        Ok(_) => Err(Unusable::new(format!(
            "contains no `-----BEGIN {what}-----`"
        ))),
        Err(_) => Err(Unusable::new("is not PEM from its beginning to its end")),
    }
}

/// A digest of the bytes that something was built from. It may cover keys, so it is never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Digest([u8; 32]);

impl Digest {
    /// Digests pieces, each with its length, so that the border between two counts.
    fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut digest = Sha256::new();
        for piece in pieces {
            digest.update((piece.len() as u64).to_be_bytes());
            digest.update(piece);
        }
        Self(digest.finalize().into())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}
