//! Clients that speak TLS, and the keys with which a gate speaks it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pki::{Authority, Files, Subject};

/// What a client trusts, and proves itself with.
#[derive(Debug, Clone)]
pub(crate) struct TlsClient {
    roots: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
}

impl TlsClient {
    /// A client without a certificate that trusts an authority.
    pub(crate) fn new(authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(authority.pem().as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
        Self::with(Arc::new(roots), None)
    }

    /// A client with a certificate.
    pub(crate) fn with_certificate(authority: &Authority, files: &Files) -> Self {
        Self::new(authority).reading(files)
    }

    /// The same client with a certificate, which is read now.
    pub(crate) fn reading(&self, files: &Files) -> Self {
        Self::with(Arc::clone(&self.roots), Some(files))
    }

    fn with(roots: Arc<RootCertStore>, files: Option<&Files>) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(Arc::clone(&roots));
        let config = match files {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let chain = CertificateDer::pem_file_iter(&files.cert).unwrap();
                let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
                let chain = chain.map(Result::unwrap).collect();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        Self {
            roots,
            config: Arc::new(config),
        }
    }

    /// Does the handshake on a stream to loopback, for HTTP/2 or HTTP/1.1.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        http2: bool,
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut config = ClientConfig::clone(&self.config);
        let protocol: &[u8] = if http2 { b"h2" } else { b"http/1.1" };
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await?;
        let (_, connection) = stream.get_ref();
        assert_eq!(connection.alpn_protocol(), Some(protocol));
        Ok(stream)
    }
}

/// Issues the certificate of a gate on loopback.
pub(crate) fn gate_certificate(authority: &Authority) -> Files {
    let subject = Subject {
        ip: &["127.0.0.1"],
        dns: &["localhost"],
        ends_in: Some(90 * 24 * 3600),
        ..Subject::default()
    };
    authority.issue_files("gate", &subject)
}

/// Replaces a certificate and its key. No reader sees a part of a file.
pub(crate) fn replace(files: &Files, certificate: &str, key: &str) {
    for (file, content) in [(&files.key, key), (&files.cert, certificate)] {
        let new = file.with_extension("new");
        std::fs::write(&new, content).unwrap();
        std::fs::rename(new, file).unwrap();
    }
}

/// `listen` with TLS on a free port of loopback, and further keys of `tls` in YAML flow style.
pub(crate) fn listen(files: &Files, keys: &str) -> String {
    format!(
        "listen: {{address: \"127.0.0.1:0\", tls: {}}}\n",
        section(files, keys)
    )
}

/// As [`listen`], for `admin`.
pub(crate) fn admin(files: &Files) -> String {
    format!(
        "admin: {{address: \"127.0.0.1:0\", tls: {}}}\n",
        section(files, "")
    )
}

/// The keys of `tls` by which clients are asked for certificates.
pub(crate) fn client_auth(client_auth: &str, authorities: &Path) -> String {
    format!(
        "client_auth: {client_auth}, client_ca_file: {}",
        authorities.display()
    )
}

fn section(files: &Files, keys: &str) -> String {
    let (cert, key) = (files.cert.display(), files.key.display());
    format!("{{cert_file: {cert}, key_file: {key}, {keys}}}")
}
