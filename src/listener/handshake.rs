//! The TLS handshake of a connection.
//!
//! Anybody can ask for one, and it costs more than what follows: half a millisecond or more, for an RSA
//! key. A peer that is slow keeps only its place, which gives way like that of any stranger. Those
//! that are ready to be computed take [`turns`] on half of the threads, so that established connections
//! keep the other half, however many strangers connect.

mod turns;

use std::fmt;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use rustls::ProtocolVersion;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::StartHandshake;
use tokio_rustls::server::{FallibleAccept, TlsStream};

use crate::reasons::ConnectionRefusal;
use crate::telemetry::SharedRepeats;
use crate::tls::{ClientCertificate, ServerTls};

use super::establish::Unestablished;
use super::peer::Peer;
use super::places::Place;
use super::stream::linger;
use turns::{HandshakeTurns, Turns};

/// The bytes that are read at once of a ClientHello. It is seldom longer.
const HELLO_BYTES: usize = 4096;

/// What a peer gets that does not speak TLS. It is no 4xx, or a Prometheus whose URL is changed later
/// than the configuration here would drop samples.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Connection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 60\r\n\
    Retry-After: 5\r\n\
    \r\n\
    plain_http: this port speaks TLS; write https:// in the URL\n";

/// The handshakes of all listeners.
#[derive(Debug)]
pub struct Handshakes {
    turns: Arc<Turns>,
    /// Anybody can make them fail without end.
    failed: SharedRepeats,
}

/// What a handshake found out about a peer.
#[derive(Debug, PartialEq, Eq)]
pub struct PeerTls {
    version: ProtocolVersion,
    certificate: Option<ClientCertificate>,
}

/// Why there is no handshake.
enum Failure<S> {
    /// The peer left before it sent anything, as the health check of a load balancer does.
    Silent,
    /// The peer left later, or the connection broke.
    Gone(io::Error),
    /// The peer sent plain HTTP.
    PlainHttp(S),
    /// It failed, and the peer was told.
    Tls(S, io::Error),
}

impl Handshakes {
    /// Handshakes that are computed on half of the `threads` at most.
    pub fn new(threads: usize) -> Self {
        Self {
            turns: Turns::new((threads / 2).max(1)),
            failed: SharedRepeats::default(),
        }
    }

    /// Does the handshake of a peer until the `deadline`.
    pub(super) async fn accept<S>(
        &self,
        stream: S,
        tls: &ServerTls,
        deadline: Instant,
        peer: &Peer,
        place: &Place,
    ) -> Result<(TlsStream<S>, PeerTls), Unestablished>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = timeout_at(deadline, self.handshake(stream, tls, peer)).await;
        let accepted = accepted.map_err(|_| ConnectionRefusal::TlsHandshakeTimeout)?;
        let failure = match accepted {
            Ok(accepted) => return Ok(accepted),
            Err(failure) => failure,
        };
        let reason = match &failure {
            Failure::Silent => return Err(Unestablished::Gone),
            Failure::PlainHttp(_) => ConnectionRefusal::PlainHttp,
            Failure::Gone(_) | Failure::Tls(..) => ConnectionRefusal::TlsHandshake,
        };
        self.log(peer, reason, &failure);
        if let (Some(stream), Some(_permit)) = (failure.into_stream().await, place.may_linger()) {
            linger(stream).await;
        }
        Err(reason.into())
    }

    async fn handshake<S>(
        &self,
        mut stream: S,
        tls: &ServerTls,
        peer: &Peer,
    ) -> Result<(TlsStream<S>, PeerTls), Failure<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut acceptor = Acceptor::default();
        let mut buffer = [0; HELLO_BYTES];
        let mut first = true;
        let accepted = loop {
            let length = match stream.read(&mut buffer).await {
                Ok(0) | Err(_) if first => return Err(Failure::Silent),
                Ok(0) => return Err(Failure::Gone(ErrorKind::UnexpectedEof.into())),
                Ok(length) => length,
                Err(error) => return Err(Failure::Gone(error)),
            };
            let mut received = &buffer[..length];
            // The first byte of TLS is 22, and a method of HTTP begins with a letter.
            if first && received[0].is_ascii_uppercase() {
                return Err(Failure::PlainHttp(stream));
            }
            first = false;
            while !received.is_empty() {
                if let Err(error) = acceptor.read_tls(&mut received) {
                    return Err(Failure::Tls(stream, error));
                }
            }
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => break accepted,
                Err((error, mut alert)) => {
                    let mut bytes = Vec::new();
                    // A vector takes all bytes. The peer may be gone.
                    let _ = alert.write_all(&mut bytes);
                    let _ = stream.write_all(&bytes).await;
                    return Err(Failure::Tls(stream, io::Error::other(error)));
                }
            }
        };
        let handshake = StartHandshake::from_parts(accepted, stream);
        let handshake = handshake.into_stream(Arc::clone(tls.config()));
        let (handshake, turns) = (handshake.into_fallible(), self.turns.of(peer.ip()));
        let accepted = TakesTurns { handshake, turns }.await;
        let stream = accepted.map_err(|(error, stream)| match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                Failure::Gone(error)
            }
            _ => Failure::Tls(stream, error),
        })?;
        match PeerTls::of(&stream) {
            Some(facts) => Ok((stream, facts)),
            None => Err(Failure::Gone(io::Error::other(
                "the client certificate cannot be read",
            ))),
        }
    }

    /// Waits for a turn to compute something of a handshake.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.next().await
    }

    fn log<S>(&self, peer: &Peer, reason: ConnectionRefusal, failure: &Failure<S>) {
        let reason = reason.name();
        if let Some(count) = self.failed.add() {
            tracing::warn!(%peer, reason, %failure, count, "a TLS handshake failed");
        } else {
            tracing::debug!(%peer, reason, %failure, "a TLS handshake failed");
        }
    }
}

impl<S: AsyncWrite + Unpin> Failure<S> {
    /// Tells a peer that speaks plain HTTP, and returns the stream if the peer may still be sending.
    async fn into_stream(self) -> Option<S> {
        match self {
            Self::Silent | Self::Gone(_) => None,
            Self::PlainHttp(mut stream) => {
                stream.write_all(PLAIN_HTTP).await.ok()?;
                Some(stream)
            }
            Self::Tls(stream, _) => Some(stream),
        }
    }
}

impl<S> fmt::Display for Failure<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("nothing was sent"),
            Self::PlainHttp(_) => f.write_str("plain HTTP"),
            Self::Gone(error) | Self::Tls(_, error) => error.fmt(f),
        }
    }
}

/// A handshake that waits for a turn each time that something is to be computed.
struct TakesTurns<S> {
    handshake: FallibleAccept<S>,
    turns: HandshakeTurns,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for TakesTurns<S> {
    type Output = Result<TlsStream<S>, (io::Error, S)>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let _turn = ready!(self.turns.poll_next(context));
        Pin::new(&mut self.handshake).poll(context)
    }
}

impl PeerTls {
    /// The facts of a handshake that succeeded. `None` when the certificate of the client cannot be
    /// read, although it is verified.
    fn of<S>(stream: &TlsStream<S>) -> Option<Self> {
        let (_, connection) = stream.get_ref();
        let certificate = match connection.peer_certificates() {
            Some(chain) => Some(ClientCertificate::new(chain)?),
            None => None,
        };
        Some(Self {
            version: connection.protocol_version()?,
            certificate,
        })
    }

    /// The verified certificate of the client, if it sent one.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_ref()
    }

    /// Whether another handshake would succeed at this time.
    pub(super) fn fits(&self, tls: &ServerTls, now: SystemTime) -> bool {
        tls.accepts(self.version, self.certificate.as_ref(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::PLAIN_HTTP;

    #[test]
    fn the_response_to_plain_http_says_its_length() {
        let text = String::from_utf8_lossy(PLAIN_HTTP);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length = format!("\r\nContent-Length: {}\r\n", body.len());
        assert!(head.contains(&length), "{text}");
    }
}
