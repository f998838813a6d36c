//! The response of a hub, read to its end and cut to what is used of it.

use std::time::SystemTime;

use bytes::Buf;
use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::remote_write::{self, RETRY_AFTER_SECONDS_MAX};
use crate::wire::Counts;

/// Most bytes of a response that are read; beyond them the connection is closed.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of a response's text that are kept.
const TEXT_BYTES_MAX: usize = 1024;

/// What servers of Go, such as Prometheus, say in plain HTTP where they speak TLS.
const WANTS_TLS: &str = "Client sent an HTTP request to an HTTPS server";

/// What nginx and Apache say.
const WANTS_TLS_PAGES: [&str; 2] = [
    "The plain HTTP request was sent to HTTPS port",
    "speaking plain HTTP to an SSL-enabled server port",
];

/// What nginx says without a client certificate, and with one that it cannot verify.
const WANTS_CERTIFICATE_PAGES: [&str; 2] = [
    "No required SSL certificate was sent",
    "The SSL certificate error",
];

/// What a hub said.
#[derive(Debug, Clone)]
pub struct HubResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its Written headers; `None` when it sent none of them.
    pub written: Option<Counts>,
    /// Its Retry-After in seconds, capped.
    pub retry_after: Option<u64>,
    /// The start of its text, in one line.
    pub text: String,
    /// What time it is there, if it says so.
    pub date: Option<SystemTime>,
}

impl HubResponse {
    /// Reads a response to its end. Fails when the connection breaks before.
    pub(super) async fn read(response: Response<Incoming>) -> hyper::Result<Self> {
        let (head, body) = response.into_parts();
        Ok(Self {
            status: head.status,
            written: remote_write::written(&head.headers),
            retry_after: retry_after(&head.headers),
            date: date(&head.headers),
            text: text(body).await?,
        })
    }

    /// What to do about the 400 of a server that wants other TLS than hubgate speaks; `None` for all
    /// other responses. It says nothing about the message. What a hub says of a sample may quote the
    /// sample, so the words must stand where no hub quotes: at the beginning, or in a page.
    pub fn tls_advice(&self) -> Option<&'static str> {
        if self.status != StatusCode::BAD_REQUEST || self.written.is_some() {
            return None;
        }
        let text = self.text.as_str();
        let is_page_of =
            |words: &[&str]| text.starts_with('<') && words.iter().any(|it| text.contains(it));
        if text.starts_with(WANTS_TLS) || is_page_of(&WANTS_TLS_PAGES) {
            Some("begin the url of the hub with https://")
        } else if is_page_of(&WANTS_CERTIFICATE_PAGES) {
            Some("check tls.cert_file of the hub")
        } else {
            None
        }
    }

    /// True for a success that says nothing: in response to a V2 message it means that nothing of
    /// the message was understood.
    pub fn took_nothing(&self) -> bool {
        self.status.is_success() && self.written.is_none() && self.text.is_empty()
    }
}

fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let seconds: u64 = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(seconds.min(RETRY_AFTER_SECONDS_MAX))
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    let date = headers.get(DATE)?.to_str().ok()?;
    httpdate::parse_http_date(date).ok()
}

/// Reads a text to its end, so that the connection can be used again, and keeps its start.
async fn text(mut body: Incoming) -> hyper::Result<String> {
    let mut kept = Vec::new();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame?.into_data() else {
            continue;
        };
        read += data.remaining();
        data.truncate(TEXT_BYTES_MAX - kept.len());
        kept.extend_from_slice(&data);
        if read > RESPONSE_BYTES_MAX {
            break;
        }
    }
    let text = String::from_utf8_lossy(&kept);
    // A refusal of several lines becomes one, and nothing in it steers a terminal.
    let words = text.split(|character: char| character.is_whitespace() || character.is_control());
    Ok(words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" "))
}
