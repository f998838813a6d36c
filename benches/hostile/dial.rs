//! How attackers reach the gate. An attack sees a stream of bytes, so that it is the same over TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use anyhow::Context;
use hubgate::tls::{Authorities, Chain, ClientTls, Identity, Key};
use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The certificates that attackers make up. Each handshake has the next one.
const CERTIFICATES: usize = 64;

/// Opens connections to the gate.
pub(crate) trait Dial: Clone + Send + Sync + 'static {
    /// A connection on which HTTP can begin.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Opens a connection.
    fn dial(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Plain TCP from many addresses. One address would soon have no port left, since each stays in use
/// for a minute after its connection.
#[derive(Debug, Clone)]
pub(crate) struct Plain {
    to: SocketAddr,
    last: Arc<AtomicU8>,
}

impl Plain {
    pub(crate) fn to(to: SocketAddr) -> Self {
        Self {
            to,
            last: Arc::default(),
        }
    }
}

impl Dial for Plain {
    type Stream = TcpStream;

    async fn dial(&self) -> io::Result<TcpStream> {
        let last = self.last.fetch_add(1, Ordering::Relaxed);
        let socket = TcpSocket::new_v4()?;
        socket.bind((IpAddr::from([127, 0, 9, last]), 0).into())?;
        socket.connect(self.to).await
    }
}

/// TLS over it. Each connection has a whole handshake, and no session is resumed.
#[derive(Clone)]
pub(crate) struct Tls {
    plain: Plain,
    /// What clients prove themselves by; one without a certificate, or many.
    clients: Arc<[TlsConnector]>,
    next: Arc<AtomicUsize>,
}

impl Tls {
    /// Trusts a gate whose certificate these authorities issued, and speaks one protocol above TLS.
    pub(crate) fn to(to: SocketAddr, trusted: &Authorities, alpn: &[u8]) -> anyhow::Result<Self> {
        Self::with(to, alpn, [ClientTls::new(trusted, None)?])
    }

    /// As [`Self::to`], with certificates that no authority issued.
    pub(crate) fn with_false_certificates(
        to: SocketAddr,
        trusted: &Authorities,
        alpn: &[u8],
    ) -> anyhow::Result<Self> {
        let clients = (0..CERTIFICATES).map(|number| {
            let key = KeyPair::generate()?;
            let params = CertificateParams::new([format!("spoke-{number}.example.com")])?;
            let certificate = params.self_signed(&key)?.pem();
            let chain = Chain::from_pem(certificate.as_bytes())?;
            let key = Key::from_pem(key.serialize_pem().as_bytes())?;
            Ok(ClientTls::new(
                trusted,
                Some(&Identity::new(&chain, &key)?),
            )?)
        });
        let clients: Vec<_> = clients.collect::<anyhow::Result<_>>()?;
        Self::with(to, alpn, clients).context("make certificates up")
    }

    fn with(
        to: SocketAddr,
        alpn: &[u8],
        clients: impl IntoIterator<Item = ClientTls>,
    ) -> anyhow::Result<Self> {
        let clients = clients.into_iter().map(|client| {
            let mut config = ClientConfig::clone(client.config());
            config.alpn_protocols = vec![alpn.to_vec()];
            config.resumption = Resumption::disabled();
            TlsConnector::from(Arc::new(config))
        });
        Ok(Self {
            plain: Plain::to(to),
            clients: clients.collect(),
            next: Arc::default(),
        })
    }
}

impl Dial for Tls {
    type Stream = TlsStream<TcpStream>;

    async fn dial(&self) -> io::Result<Self::Stream> {
        let stream = self.plain.dial().await?;
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let client = &self.clients[next % self.clients.len()];
        let name = ServerName::from(self.plain.to.ip());
        client.connect(name, stream).await
    }
}
