//! Requests as senders make them, each on a connection of its own unless one is opened first.
//!
//! Nothing here knows what response is right; hostile bytes go over [`raw`].

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::body::{self, Protocol, Series};

/// Longest wait for a response; more than the gate's longest own deadline.
const RESPONSE_DEADLINE: Duration = Duration::from_secs(40);

/// A request to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: http::Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    chunked: bool,
    http2: bool,
    from: Option<IpAddr>,
}

impl Request {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.parse().unwrap(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            chunked: false,
            http2: false,
            from: None,
        }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// A write of a finished body, with the headers Prometheus sends.
    pub(crate) fn write(protocol: Protocol, body: impl Into<Bytes>) -> Self {
        let mut request = Self::new("POST", "/api/v1/write")
            .header("content-type", protocol.content_type())
            .header("content-encoding", "snappy")
            .header("user-agent", "Prometheus/2.42.0")
            .header("x-prometheus-remote-write-version", protocol.version());
        request.body = body.into();
        request
    }

    /// A write of some series.
    pub(crate) fn series(protocol: Protocol, series: &[Series]) -> Self {
        Self::write(protocol, body::encode(protocol, series))
    }

    pub(crate) fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn basic(self, username: &str, password: &str) -> Self {
        let pair =
            base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
        self.header("authorization", &format!("Basic {pair}"))
    }

    /// Sets a header, in place of one of the same name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers
            .insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    /// Adds a header beside one of the same name.
    pub(crate) fn also(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers
            .append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    pub(crate) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    pub(crate) fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Sends from an address of this machine other than the usual one.
    pub(crate) fn from(mut self, address: &str) -> Self {
        self.from = Some(address.parse().unwrap());
        self
    }

    /// Sends on a connection of its own and reads the response to its end.
    pub(crate) async fn send(self, to: SocketAddr) -> Result<Response, Failure> {
        let mut connection = Connection::open(to, self.from, self.http2).await?;
        connection.send(self).await
    }
}

/// A response, read to its end.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Response {
    /// Fails with the whole response when the status is another.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Fails unless it is a refusal that says all this, short enough for what senders log of it.
    #[track_caller]
    pub(crate) fn expect_refusal(&self, case: &str, status: u16, says: &[&str]) {
        assert_eq!(self.status, status, "{case}: {self:?}");
        let length = self.text.len();
        assert!((1..=1024).contains(&length), "{case}: {length} bytes");
        for part in says {
            assert!(
                self.text.contains(part),
                "{case}: does not say {part:?}: {self:?}"
            );
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The three Written headers, or nothing when none is there.
    #[track_caller]
    pub(crate) fn written(&self) -> Option<(usize, usize, usize)> {
        let read = |kind: &str| {
            let value = self.header(&format!("x-prometheus-remote-write-{kind}-written"))?;
            Some(value.parse::<usize>().unwrap())
        };
        match (read("samples"), read("histograms"), read("exemplars")) {
            (None, None, None) => None,
            (Some(samples), Some(histograms), Some(exemplars)) => {
                Some((samples, histograms, exemplars))
            }
            _ => panic!("some of the three Written headers are missing: {self:?}"),
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "response {} {:?}\n{}",
            self.status, self.headers, self.text
        )
    }
}

/// No response: what happened to the connection instead.
pub(crate) enum Failure {
    /// It could not be opened, or broke.
    Broken(String),
    /// Nothing came in time.
    Silence,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "broken connection: {error}"),
            Self::Silence => write!(f, "no response within {RESPONSE_DEADLINE:?}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        Self::Broken(format!("{error:?}"))
    }
}

type SentBody = BoxBody<Bytes, Infallible>;

/// An open connection, for several requests one after the other.
pub(crate) enum Connection {
    Http1(http1::SendRequest<SentBody>, SocketAddr),
    Http2(http2::SendRequest<SentBody>, SocketAddr),
}

impl Connection {
    pub(crate) async fn open(
        to: SocketAddr,
        from: Option<IpAddr>,
        http2: bool,
    ) -> Result<Self, Failure> {
        let stream = TokioIo::new(connect(to, from).await?);
        if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(connection);
            Ok(Self::Http2(sender, to))
        } else {
            let (sender, connection) = http1::handshake(stream).await?;
            tokio::spawn(connection);
            Ok(Self::Http1(sender, to))
        }
    }

    pub(crate) async fn send(&mut self, request: Request) -> Result<Response, Failure> {
        let exchange = self.exchange(request);
        let response = tokio::time::timeout(RESPONSE_DEADLINE, exchange).await;
        response.map_err(|_| Failure::Silence)?
    }

    async fn exchange(&mut self, request: Request) -> Result<Response, Failure> {
        let body = if request.chunked {
            Chunked(request.body).boxed()
        } else {
            Full::new(request.body).boxed()
        };
        let mut sent = http::Request::new(body);
        *sent.method_mut() = request.method;
        *sent.headers_mut() = request.headers;
        let response = match self {
            Self::Http1(sender, to) => {
                *sent.uri_mut() = request.path.parse().unwrap();
                let host = HeaderValue::from_str(&to.to_string()).unwrap();
                sent.headers_mut().insert(header::HOST, host);
                sender.ready().await?;
                sender.send_request(sent).await?
            }
            Self::Http2(sender, to) => {
                let uri = format!("http://{to}{}", request.path);
                *sent.uri_mut() = uri.parse().unwrap();
                sender.ready().await?;
                sender.send_request(sent).await?
            }
        };
        let (head, body) = response.into_parts();
        let text = body.collect().await?.to_bytes();
        Ok(Response {
            status: head.status.as_u16(),
            headers: head.headers,
            text: String::from_utf8_lossy(&text).into_owned(),
        })
    }
}

async fn connect(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends bytes as they are and returns what came back until the peer closed or fell silent.
pub(crate) async fn raw(to: SocketAddr, bytes: &[u8], silence: Duration) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).await.unwrap();
    // The peer may close before it has read everything; what it said counts.
    let _ = stream.write_all(bytes).await;
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(Ok(length @ 1..)) = tokio::time::timeout(silence, stream.read(&mut buffer)).await {
        read.extend_from_slice(&buffer[..length]);
    }
    read
}

/// A body of unknown length, in pieces of 64 KiB.
struct Chunked(Bytes);

impl Body for Chunked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.0.len().min(64 * 1024);
        let piece = self.0.split_to(length);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }
}
