//! The certificate of every subject that is measured over TLS.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rcgen::{CertificateParams, KeyPair};

/// An ECDSA certificate of 127.0.0.1, which is its own authority.
static CERTIFICATE: LazyLock<(String, String)> = LazyLock::new(|| {
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address is a name");
    let key = KeyPair::generate().expect("the system has random bytes");
    let certificate = params.self_signed(&key).expect("the key signs");
    (certificate.pem(), key.serialize_pem())
});

/// The PEM files of the certificate.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file, as HAProxy takes them.
    pub(crate) both: PathBuf,
}

impl Files {
    /// Writes the certificate into a folder.
    pub(crate) fn write(folder: &Path) -> anyhow::Result<Self> {
        let (certificate, key) = &*CERTIFICATE;
        let file = |name: &str, pem: &str| {
            let path = folder.join(name);
            std::fs::write(&path, pem).map(|()| path)
        };
        Ok(Self {
            cert: file("tls.crt", certificate)?,
            key: file("tls.key", key)?,
            both: file("tls.pem", &format!("{certificate}{key}"))?,
        })
    }
}
