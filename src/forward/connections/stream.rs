//! What carries the bytes of a connection: TCP, or TLS over it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rustls::{AlertDescription, CertificateError, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::HubTls;

/// An open connection.
#[derive(Debug)]
pub(super) enum Stream {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS. It is more than a kilobyte, which a plain connection is not to hold.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Makes TLS of a connection. The caller has a deadline for it.
    pub(super) async fn handshake(tcp: TcpStream, tls: &HubTls) -> io::Result<Self> {
        let connector = TlsConnector::from(Arc::clone(tls.client.config()));
        let stream = connector.connect(tls.server_name.clone(), tcp).await?;
        Ok(Self::Tls(Box::new(stream)))
    }
}

impl Drop for Stream {
    /// Says that nothing more comes, so that the hub does not take the end for an attack. It is not
    /// waited for.
    fn drop(&mut self) {
        if let Self::Tls(stream) = self {
            let mut context = Context::from_waker(Waker::noop());
            let _ = Pin::new(stream).poll_shutdown(&mut context);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// What is wrong with the TLS of a hub and what to do about it, if that is behind an error. It may come
/// in place of a response: a hub of TLS 1.3 judges the certificate of hubgate after the handshake.
pub(super) fn tls_fault(error: &(dyn std::error::Error + 'static), tls: &HubTls) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(explain(found, tls.validity.is_some()));
        }
        // The source of an `io::Error` is that of the error in it.
        let inner = error.downcast_ref().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The same of an error of TLS. `proves` is whether hubgate shows a certificate.
fn explain(error: &Error, proves: bool) -> String {
    use AlertDescription as Alert;
    use CertificateError as Certificate;
    let advice = match error {
        Error::InvalidCertificate(Certificate::UnknownIssuer) => {
            "no trusted authority issued the certificate of the hub; set tls.ca_file of the hub to \
             the file of the authority that did"
        }
        Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => "set tls.server_name of the hub to a name that its certificate has",
        Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "the certificate of the hub has expired, or the clock of hubgate is wrong"
        }
        Error::InvalidCertificate(
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. },
        ) => "the certificate of the hub is not valid yet, or the clock of hubgate is wrong",
        // What webpki calls `CaUsedAsEndEntity`, of which rustls tells no more than the text.
        Error::InvalidCertificate(Certificate::Other(other))
            if format!("{other:?}").contains("CaUsedAsEndEntity") =>
        {
            "the certificate of the hub is that of an authority (CA:TRUE), as `openssl req -x509` \
             makes it; give the hub one that such an authority issued, or a self-signed one with \
             CA:FALSE"
        }
        // A server of Go sends the second of them where it misses a certificate.
        Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::AccessDenied
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::DecryptError
            | Alert::UnknownCA
            | Alert::UnsupportedCertificate,
        ) => {
            if proves {
                "the hub does not accept the certificate in tls.cert_file of the hub"
            } else {
                "the hub asks for a certificate; set tls.cert_file and tls.key_file of the hub"
            }
        }
        Error::AlertReceived(Alert::HandshakeFailure | Alert::ProtocolVersion) => {
            "the hub and hubgate have no version or cipher of TLS in common"
        }
        Error::AlertReceived(Alert::NoApplicationProtocol) => {
            "the hub does not speak HTTP/1.1 over TLS"
        }
        Error::AlertReceived(Alert::UnrecognisedName) => {
            "the hub has no certificate for this name; set tls.server_name of the hub"
        }
        Error::InvalidMessage(_) => {
            "what answers does not speak TLS; check the port, or write http:// in the url of the hub"
        }
        _ => return error.to_string(),
    };
    format!("{error}: {advice}")
}
