//! Fetches the keys of an issuer once: one connection, one or two requests, all bounded.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{Host, KeysPlace, KeysUrl};
use crate::jwt::{KEY_SET_BYTES_MAX, KeySet, KeySetError};

/// The time for everything together.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The time for a connection to one of several addresses.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

/// The keys were not fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("cannot connect to {authority}: {error}")]
    Connect { authority: String, error: io::Error },
    #[error("the response broke off or is not HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("{url} was not answered within {seconds} s", seconds = TIMEOUT.as_secs())]
    Late { url: String },
    #[error("what {url} responds {error}")]
    NotKeys { url: String, error: KeySetError },
    #[error(
        "what {url} responds is not the metadata of an issuer, a JSON object with issuer and jwks_uri"
    )]
    NotMetadata { url: String },
    #[error("the metadata are of the issuer {found:?}, and not of {wanted:?}")]
    OtherIssuer { wanted: String, found: String },
    #[error("the jwks_uri of the issuer {0}")]
    KeysUrl(String),
    #[error("the response broke off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("the response is larger than {KEY_SET_BYTES_MAX} bytes")]
    TooLarge,
    #[error("{url} responds with {status}{advice}")]
    Status {
        url: String,
        status: StatusCode,
        advice: &'static str,
    },
    #[error("TLS: {0}; the authority of the server goes into jwks_ca_file")]
    Tls(io::Error),
}

/// The part of the metadata of an issuer that is read (OpenID Connect Discovery 1.0 section 3).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// Fetches the keys at a place.
pub(super) async fn fetch(place: &KeysPlace) -> Result<KeySet, FetchError> {
    let fetched = timeout(TIMEOUT, fetch_unbounded(place)).await;
    fetched.unwrap_or_else(|_| {
        Err(FetchError::Late {
            url: place.url.to_string(),
        })
    })
}

async fn fetch_unbounded(place: &KeysPlace) -> Result<KeySet, FetchError> {
    let discovered = match &place.issuer {
        Some(issuer) => Some(discover(place, issuer).await?),
        None => None,
    };
    let url = discovered.as_ref().unwrap_or(&place.url);
    let keys = get(url, place).await?;
    KeySet::parse(&keys).map_err(|error| FetchError::NotKeys {
        url: url.to_string(),
        error,
    })
}

/// Returns the URL of the keys in the metadata of an issuer.
async fn discover(place: &KeysPlace, issuer: &str) -> Result<KeysUrl, FetchError> {
    let metadata = get(&place.url, place).await?;
    let metadata: Metadata =
        serde_json::from_slice(&metadata).map_err(|_| FetchError::NotMetadata {
            url: place.url.to_string(),
        })?;
    if metadata.issuer != issuer {
        return Err(FetchError::OtherIssuer {
            wanted: issuer.to_owned(),
            found: metadata.issuer.chars().take(200).collect(),
        });
    }
    let url = KeysUrl::parse(&metadata.jwks_uri).map_err(FetchError::KeysUrl)?;
    // An issuer elsewhere has no say in what is asked on this machine, and one on this machine has no
    // authorities for another.
    if place.url.is_https() != url.is_https() {
        let scheme = if place.url.is_https() {
            "https"
        } else {
            "http"
        };
        return Err(FetchError::KeysUrl(format!(
            "is not {scheme}, as the issuer is"
        )));
    }
    Ok(url)
}

/// Returns the body at a URL. Redirects are not followed: they could lead anywhere.
async fn get(url: &KeysUrl, place: &KeysPlace) -> Result<Bytes, FetchError> {
    let stream = connect(url).await.map_err(|error| FetchError::Connect {
        authority: url.authority().to_owned(),
        error,
    })?;
    let Some(tls) = place.tls.as_ref().filter(|_| url.is_https()) else {
        return exchange(url, stream).await;
    };
    let name = server_name(url.host()).map_err(|_| FetchError::KeysUrl("is no URL".to_owned()))?;
    let connector = TlsConnector::from(Arc::clone(tls.config()));
    let stream = connector.connect(name, stream).await;
    exchange(url, stream.map_err(FetchError::Tls)?).await
}

async fn exchange(
    url: &KeysUrl,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<Bytes, FetchError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(url.path())
        .header(HOST, url.authority())
        .header(USER_AGENT, crate::USER_AGENT)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    let Ok(request) = request else {
        return Err(FetchError::KeysUrl("is no URL".to_owned()));
    };
    let respond = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(FetchError::Status {
                url: url.to_string(),
                status,
                advice: advice(status),
            });
        }
        let body = Limited::new(response.into_body(), KEY_SET_BYTES_MAX);
        #[allow(clippy::disallowed_methods, reason = "the body is limited")]
        let body = body.collect().await;
        match body {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLarge),
            Err(error) => Err(FetchError::Body(error)),
        }
    };
    // The connection does its work only while it is polled, and ends with this function.
    let mut respond = std::pin::pin!(respond);
    tokio::select! {
        biased;
        response = &mut respond => response,
        ended = connection => {
            ended?;
            respond.await
        }
    }
}

/// The name that the certificate of a server must have.
fn server_name(host: &Host) -> Result<ServerName<'static>, InvalidDnsNameError> {
    match host {
        Host::Address(address) => Ok((*address).into()),
        // The dot at the end of a complete name is not part of it.
        Host::Name(name) => name.trim_end_matches('.').to_owned().try_into(),
    }
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; let everyone read the keys of the issuer, or give them in jwks_file"
        }
        status if status.is_redirection() => "; redirects are not followed",
        _ => "",
    }
}

async fn connect(url: &KeysUrl) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match url.host() {
        Host::Address(address) => vec![(*address, url.port()).into()],
        Host::Name(name) => {
            let found = lookup_host((name.as_str(), url.port())).await?;
            found.take(ADDRESSES_MAX).collect()
        }
    };
    let mut error = io::Error::new(io::ErrorKind::NotFound, "no address");
    for address in addresses {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(refused)) => error = refused,
            Err(late) => error = late.into(),
        }
    }
    Err(error)
}
