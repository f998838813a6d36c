//! The admin port of a running hubgate, as commands ask it.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::load::client::{Client, Opened, Response, Server};
use crate::printable::clean;

use super::access::Access;

/// Whoever asks waits in front of a terminal, maybe while a replica is down.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The admin port at a URL.
pub(super) struct AdminPort {
    client: Client,
    url: Uri,
    authorization: Option<HeaderValue>,
    /// The flags that name the credential.
    given: Option<&'static str>,
}

impl AdminPort {
    /// Connects at the first question. `authorization` is that of `access`, whose file may be a pipe and is read
    /// once for all.
    pub(super) fn new(
        url: &Uri,
        access: &Access,
        authorization: Option<&HeaderValue>,
    ) -> anyhow::Result<Self> {
        let server = Server::new(url, access.tls(url)?)?;
        Ok(Self {
            client: Client::new(server),
            url: url.clone(),
            authorization: authorization.cloned(),
            given: access.given(),
        })
    }

    /// Where it is.
    pub(super) fn url(&self) -> &Uri {
        &self.url
    }

    /// The whole answer to a GET.
    pub(super) async fn ask(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let request = self.request(Method::GET, path)?;
        let response = timeout(ANSWER_TIMEOUT, self.client.send(request)).await;
        let response = response.with_context(|| self.silent())?;
        let response = response.with_context(|| self.silent())?;
        match response.status {
            StatusCode::OK => Ok(response.body),
            _ => self.refused(&response),
        }
    }

    /// The answer to a POST, which goes on.
    pub(super) async fn open(&mut self, path: &str) -> anyhow::Result<Incoming> {
        let request = self.request(Method::POST, path)?;
        let opened = timeout(ANSWER_TIMEOUT, self.client.open(request)).await;
        match opened.with_context(|| self.silent())? {
            Ok(Opened::Success(body)) => Ok(body),
            Ok(Opened::Other(response)) => self.refused(&response),
            Err(error) => Err(error).with_context(|| self.silent()),
        }
    }

    fn request(&self, method: Method, path: &str) -> anyhow::Result<Request<Full<Bytes>>> {
        let path = format!("{}{path}", self.url.path().trim_end_matches('/'));
        let request = Request::builder().method(method).uri(path);
        let mut request = request.body(Full::default()).context("build the request")?;
        if let Some(authorization) = &self.authorization {
            let headers = request.headers_mut();
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }

    fn silent(&self) -> String {
        format!("{} cannot be asked", self.url)
    }

    fn refused<T>(&self, response: &Response) -> anyhow::Result<T> {
        let (url, text) = (&self.url, clean(&response.text()));
        match (response.status, self.given) {
            // What the port says is for a Prometheus.
            (StatusCode::UNAUTHORIZED, None) => bail!(
                "{url}: 401: the admin port asks for one of admin.credentials; give its token with --token-file, \
                 or a user name and password with --username and --password-file"
            ),
            (StatusCode::UNAUTHORIZED, Some(flags)) => {
                bail!("{url}: 401: the credential of {flags} is not good: {text}")
            }
            (status, _) => {
                let url = url.to_string();
                Err(Refused { url, status, text }.into())
            }
        }
    }
}

/// An answer that is no success.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {status}: {text}")]
pub(super) struct Refused {
    url: String,
    pub(super) status: StatusCode,
    text: String,
}

/// A name as a segment of a path (RFC 3986, section 3.3).
pub(super) fn path_segment(name: &str) -> String {
    let mut segment = String::new();
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                segment.push(byte.into());
            }
            _ => segment += &format!("%{byte:02X}"),
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::path_segment;

    #[test]
    fn a_name_is_one_segment_of_a_path() {
        assert_eq!(path_segment("eu-1.prod_a~b"), "eu-1.prod_a~b");
        assert_eq!(path_segment("a/b c?#%é"), "a%2Fb%20c%3F%23%25%C3%A9");
    }
}
