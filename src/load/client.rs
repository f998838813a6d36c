//! A client with one HTTP/1.1 connection, over TLS or not, which it opens for the first request and
//! again after an error.
//!
//! A shard of a real sender has one request in flight on one connection, so the client needs no
//! pool. It does not retry: the caller counts each failure. The size of a response and the time
//! until it is read are limited.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

use crate::remote_write;
use crate::tls::ClientTls;
use crate::wire::{Kind, Protocol};

/// How long Prometheus waits for a response by default.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Far above the `/metrics` pages and query results that are read here.
const RESPONSE_BYTES_MAX: usize = 16 << 20;

/// The address of a server.
#[derive(Debug, Clone)]
pub struct Server {
    /// `host:port`, to connect to.
    authority: String,
    host: HeaderValue,
    tls: Option<(ClientTls, ServerName<'static>)>,
}

impl Server {
    /// Takes the server out of an `http://` URL, or out of an `https://` URL, which needs `tls`.
    pub fn new(url: &Uri, tls: Option<ClientTls>) -> anyhow::Result<Self> {
        let host = url.host().with_context(|| format!("{url}: no host"))?;
        let (tls, port) = match url.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => {
                let tls = tls.with_context(|| format!("{url}: no authority is trusted"))?;
                let name = host.trim_start_matches('[').trim_end_matches(']');
                let name = ServerName::try_from(name.to_owned())?;
                (Some((tls, name)), 443)
            }
            _ => bail!("{url}: only http:// and https:// URLs are supported"),
        };
        let port = url.port_u16().unwrap_or(port);
        let authority = format!("{host}:{port}");
        let host = HeaderValue::try_from(&authority).context("the host is not a header value")?;
        Ok(Self {
            authority,
            host,
            tls,
        })
    }

    /// Takes the server at an address.
    pub fn at(address: SocketAddr) -> Self {
        let authority = address.to_string();
        let host = HeaderValue::try_from(&authority).expect("an address is visible ASCII");
        Self {
            authority,
            host,
            tls: None,
        }
    }
}

/// A response, read whole.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Response {
    /// The body as text, without white space at its end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_end().to_owned()
    }

    /// The number of samples in the Written headers.
    pub fn samples_written(&self) -> Option<u64> {
        remote_write::written(&self.headers).map(|written| written.of(Kind::Float))
    }
}

/// A response of which a success is not read yet.
#[derive(Debug)]
pub enum Opened {
    /// A success, whose body goes on.
    Success(Incoming),
    /// Anything else, read whole.
    Other(Response),
}

/// Makes the `Authorization` header of a bearer token.
pub fn bearer(token: &str) -> anyhow::Result<HeaderValue> {
    secret_header(&format!("Bearer {token}"))
}

/// Makes the `Authorization` header of a user name and password.
pub fn basic(username: &str, password: &str) -> anyhow::Result<HeaderValue> {
    let pair = BASE64_STANDARD.encode(format!("{username}:{password}"));
    secret_header(&format!("Basic {pair}"))
}

fn secret_header(value: &str) -> anyhow::Result<HeaderValue> {
    let mut header =
        HeaderValue::from_str(value).context("the credential is not a header value")?;
    header.set_sensitive(true);
    Ok(header)
}

/// Builds a remote-write request as Prometheus does.
pub fn write_request(
    path: &str,
    protocol: Protocol,
    authorization: Option<&HeaderValue>,
    body: Bytes,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = Request::post(path)
        .header(CONTENT_ENCODING, "snappy")
        .header(
            USER_AGENT,
            concat!("hubgate-load/", env!("CARGO_PKG_VERSION")),
        )
        .body(Full::new(body))
        .context("build the request")?;
    let headers = request.headers_mut();
    remote_write::insert_message_headers(headers, protocol);
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    Ok(request)
}

/// A client of one server.
pub struct Client {
    server: Server,
    connection: Option<http1::SendRequest<Full<Bytes>>>,
}

impl Client {
    /// Makes a client; it connects at the first request.
    pub fn new(server: Server) -> Self {
        Self {
            server,
            connection: None,
        }
    }

    /// Sends one request and reads the whole response.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Response> {
        timeout(REQUEST_TIMEOUT, self.exchange(request))
            .await
            .context("no response in time")?
    }

    /// Sends one request and reads the head of the response, and the whole of one that is no success.
    pub async fn open(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Opened> {
        timeout(REQUEST_TIMEOUT, self.begin(request))
            .await
            .context("no response in time")?
    }

    async fn begin(&mut self, mut request: Request<Full<Bytes>>) -> anyhow::Result<Opened> {
        let mut connection = self.connection().await?;
        request.headers_mut().insert(HOST, self.server.host.clone());
        let (head, body) = connection.send_request(request).await?.into_parts();
        // The driver of the connection ends with its last handle.
        self.connection = Some(connection);
        if head.status.is_success() {
            return Ok(Opened::Success(body));
        }
        Ok(Opened::Other(Response {
            status: head.status,
            headers: head.headers,
            body: read(body).await?,
        }))
    }

    async fn exchange(&mut self, mut request: Request<Full<Bytes>>) -> anyhow::Result<Response> {
        let mut connection = self.connection().await?;
        request.headers_mut().insert(HOST, self.server.host.clone());
        let (head, body) = connection.send_request(request).await?.into_parts();
        let body = read(body).await?;
        self.connection = Some(connection);
        Ok(Response {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    async fn connection(&mut self) -> anyhow::Result<http1::SendRequest<Full<Bytes>>> {
        if let Some(mut connection) = self.connection.take()
            && connection.ready().await.is_ok()
        {
            return Ok(connection);
        }
        self.connect().await
    }

    async fn connect(&self) -> anyhow::Result<http1::SendRequest<Full<Bytes>>> {
        let Server { authority, tls, .. } = &self.server;
        let stream = TcpStream::connect(authority)
            .await
            .with_context(|| format!("connect to {authority}"))?;
        stream.set_nodelay(true)?;
        let stream = match tls {
            None => Either::Left(stream),
            Some((tls, name)) => {
                let connector = TlsConnector::from(Arc::clone(tls.config()));
                let connected = connector.connect(name.clone(), stream).await;
                Either::Right(connected.with_context(|| format!("TLS with {authority}"))?)
            }
        };
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
        // The request in flight gets its error. The task ends when the connection is dropped.
        tokio::spawn(driver);
        Ok(connection)
    }
}

async fn read(mut body: Incoming) -> anyhow::Result<Bytes> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > RESPONSE_BYTES_MAX {
                bail!("the response is longer than {RESPONSE_BYTES_MAX} bytes");
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}
