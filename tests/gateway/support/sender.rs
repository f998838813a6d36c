//! Requests as senders make them. Each has a connection of its own unless the test opens one.
//!
//! [`send_raw`] sends bytes that need not be HTTP.

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
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::body::{self, Protocol, Series};
use super::config;
use super::tls::TlsClient;

/// Longest wait for a response. It is longer than every deadline of the gate.
const RESPONSE_DEADLINE: Duration = Duration::from_secs(40);

/// A request that is not sent yet.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: http::Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    chunked: bool,
    http2: bool,
    from: Option<IpAddr>,
    tls: Option<TlsClient>,
}

impl Request {
    /// A request without headers and body.
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.parse().unwrap(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            chunked: false,
            http2: false,
            from: None,
            tls: None,
        }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// A write of an encoded body, with the headers that Prometheus sends.
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

    /// A V1 write of [`body::up`].
    pub(crate) fn up() -> Self {
        Self::series(Protocol::V1, &body::up())
    }

    pub(crate) fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Adds the token of a spoke of `config::spoke`.
    pub(crate) fn spoke(self, name: &str) -> Self {
        self.token(&config::token(name))
    }

    /// Adds a bearer token.
    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Adds a username and a password.
    pub(crate) fn basic(self, username: &str, password: &str) -> Self {
        let pair =
            base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
        self.header("authorization", &format!("Basic {pair}"))
    }

    /// Sets a header, and replaces one of the same name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers
            .insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    /// Adds a header, and keeps one of the same name.
    pub(crate) fn add_header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers
            .append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    /// Sends the body in chunks, without a `Content-Length`.
    pub(crate) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Sends over HTTP/2, from the first byte on.
    pub(crate) fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Sends from this address of the machine.
    pub(crate) fn from(mut self, address: &str) -> Self {
        self.from = Some(address.parse().unwrap());
        self
    }

    /// Sends over TLS.
    pub(crate) fn tls(mut self, client: &TlsClient) -> Self {
        self.tls = Some(client.clone());
        self
    }

    /// Sends the request on a new connection and reads the whole response.
    pub(crate) async fn send(self, to: SocketAddr) -> Result<Response, Failure> {
        let mut connection = match &self.tls {
            None => Connection::open(to, self.from, self.http2).await?,
            Some(client) => Connection::open_tls(to, client, self.http2).await?,
        };
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
    /// Fails unless the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Fails unless the response has this status, no Written headers, and a `Retry-After`.
    #[track_caller]
    pub(crate) fn expect_retryable(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.written(), None, "{self:?}");
        assert!(self.retry_after().is_some(), "{self:?}");
        self
    }

    /// Fails unless the response has this status and a text that contains all `parts`. The text
    /// must not exceed 1,024 bytes, the most that Prometheus logs of it.
    #[track_caller]
    pub(crate) fn expect_refusal(&self, case: &str, status: u16, parts: &[&str]) {
        assert_eq!(self.status, status, "{case}: {self:?}");
        let length = self.text.len();
        assert!((1..=1024).contains(&length), "{case}: {length} bytes");
        for part in parts {
            assert!(self.text.contains(part), "{case}: no {part:?} in {self:?}");
        }
    }

    /// The text of a header, or `None` when it is absent.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// `Retry-After` in seconds, or `None` when it is absent. It must be whole seconds and at most 30,
    /// or a spoke would fall behind while it waits.
    #[track_caller]
    pub(crate) fn retry_after(&self) -> Option<u64> {
        let seconds = self.header("retry-after")?.parse::<u64>();
        let seconds = seconds.unwrap_or_else(|_| panic!("no whole seconds: {self:?}"));
        assert!((1..=30).contains(&seconds), "{self:?}");
        Some(seconds)
    }

    /// The counts in the three Written headers, or `None` when all three are absent.
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

/// Why there is no response.
pub(crate) enum Failure {
    /// The connection could not be opened, or it broke.
    Broken(String),
    /// No response came before the deadline.
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

type RequestBody = BoxBody<Bytes, Infallible>;

/// An open connection for several requests, one after the other.
pub(crate) enum Connection {
    Http1(http1::SendRequest<RequestBody>, SocketAddr),
    Http2(http2::SendRequest<RequestBody>, SocketAddr),
}

impl Connection {
    /// Opens a connection, from an address of this machine if one is given.
    pub(crate) async fn open(
        to: SocketAddr,
        from: Option<IpAddr>,
        http2: bool,
    ) -> Result<Self, Failure> {
        Self::begin(connect(to, from).await?, to, http2).await
    }

    /// Opens a connection with TLS.
    pub(crate) async fn open_tls(
        to: SocketAddr,
        client: &TlsClient,
        http2: bool,
    ) -> Result<Self, Failure> {
        let stream = connect(to, None).await?;
        let stream = client.connect(stream, http2).await?;
        Self::begin(stream, to, http2).await
    }

    /// Speaks HTTP on a stream, which may have carried something else before.
    pub(crate) async fn over(stream: TcpStream, http2: bool) -> Result<Self, Failure> {
        let to = stream.peer_addr()?;
        Self::begin(stream, to, http2).await
    }

    async fn begin<S>(stream: S, to: SocketAddr, http2: bool) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = TokioIo::new(stream);
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

    /// Sends a request and reads the whole response.
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

/// Connects, from an address of this machine if one is given.
pub(crate) async fn connect(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
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

/// Sends raw bytes. Returns what came back as [`read_all`] does.
pub(crate) async fn send_raw(to: SocketAddr, bytes: &[u8], silence: Duration) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).await.unwrap();
    // The peer may close the connection before it has read everything.
    let _ = stream.write_all(bytes).await;
    read_all(stream, silence).await
}

/// Returns what comes until the peer closes the connection or sends nothing for as long as
/// `silence`.
pub(crate) async fn read_all(mut stream: TcpStream, silence: Duration) -> Vec<u8> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(Ok(length @ 1..)) = tokio::time::timeout(silence, stream.read(&mut buffer)).await {
        read.extend_from_slice(&buffer[..length]);
    }
    read
}

/// A body of unknown length, sent in chunks of 64 KiB.
struct Chunked(Bytes);

impl Body for Chunked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.0.len().min(64 * 1024);
        let chunk = self.0.split_to(length);
        Poll::Ready((!chunk.is_empty()).then(|| Ok(Frame::data(chunk))))
    }
}
