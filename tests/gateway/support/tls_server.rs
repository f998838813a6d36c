//! The TLS of servers inside the test process.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::pki::{Authority, Subject};

/// What a server proves itself with, and whom it trusts.
#[derive(Clone)]
pub(crate) struct ServerTls {
    pub(crate) chain: String,
    pub(crate) key: String,
    /// PEM of the authorities whose clients are let in. Without it, no client is asked.
    pub(crate) clients: Option<String>,
    /// The only version that it speaks; `None` for all.
    pub(crate) version: Option<&'static SupportedProtocolVersion>,
    pub(crate) alpn: &'static [&'static str],
}

impl ServerTls {
    /// A server with a certificate of an authority.
    pub(crate) fn new(authority: &Authority, subject: &Subject<'_>) -> Self {
        let (chain, key) = authority.issue(subject);
        Self {
            chain,
            key,
            clients: None,
            version: None,
            alpn: &["h2", "http/1.1"],
        }
    }

    /// Lets in only clients with certificates of an authority.
    pub(crate) fn clients_of(self, authority: &Authority) -> Self {
        Self {
            clients: Some(authority.pem().to_owned()),
            ..self
        }
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions: &[_] = match &self.version {
            None => rustls::ALL_VERSIONS,
            Some(version) => std::slice::from_ref(version),
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap();
        let certificates = |pem: &str| -> Vec<CertificateDer<'static>> {
            let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
            certificates.map(Result::unwrap).collect()
        };
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates(authorities));
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let mut config = builder
            .with_single_cert(certificates(&self.chain), key)
            .unwrap();
        config.alpn_protocols = self.alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Bytes of a connection, with TLS or without.
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// The server's side of a new connection.
pub(crate) async fn accept(tcp: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Box<dyn Bytes>> {
    Ok(match tls {
        None => Box::new(tcp),
        Some(acceptor) => Box::new(acceptor.accept(tcp).await?),
    })
}
