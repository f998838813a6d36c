//! The lines of a capture. A body is encoded piece by piece, as a client takes it.

use std::net::IpAddr;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Serialize;

use crate::admin::api::unix_seconds;
use crate::capture::{Capture, Captured, End, Terms};
use crate::printable;
use crate::wire::Protocol;

/// The part of a body that is encoded at once, in bytes. Base64 takes three at a time.
const PART_BYTES: usize = 48 * 1024;

/// The first line. The key `capture` comes first in each line, and tells a file of them apart from a body.
#[derive(Serialize)]
pub(super) struct Begin<'t> {
    capture: &'static str,
    spoke: &'t str,
    /// The most requests.
    requests: usize,
    /// The most bytes of one body.
    body_bytes: usize,
    /// The bytes of all bodies after which it ends.
    bytes: usize,
    reasons: &'t [&'static str],
    /// When it ends at the latest.
    end_timestamp_seconds: f64,
}

/// The line of a request; the body comes last.
#[derive(Serialize)]
struct RequestHead<'r> {
    capture: &'static str,
    spoke: &'r str,
    /// When it was answered.
    timestamp_seconds: f64,
    status: u16,
    reasons: &'r [&'static str],
    /// What the spoke was told.
    text: &'r str,
    protocol: Option<&'static str>,
    source_address: IpAddr,
    address_source: &'static str,
    user_agent: Option<&'r str>,
    content_type: Option<&'r str>,
    content_encoding: Option<&'r str>,
    /// The bytes of the body that were read. It is cut where `body` has fewer.
    body_bytes: usize,
    /// All of the body was read.
    complete: bool,
    /// In base64; empty here.
    body: &'static str,
}

/// The last line.
#[derive(Serialize)]
pub(super) struct Ended {
    capture: &'static str,
    /// Why it ended.
    why: &'static str,
    /// How many requests were captured.
    requests: usize,
}

impl<'t> Begin<'t> {
    pub(super) fn new(terms: &'t Terms, end: SystemTime) -> Self {
        Self {
            capture: "begins",
            spoke: &terms.spoke,
            requests: terms.requests,
            body_bytes: terms.body_bytes,
            bytes: terms.bytes,
            reasons: &terms.reasons,
            end_timestamp_seconds: unix_seconds(end),
        }
    }
}

impl Ended {
    pub(super) fn new(end: End, requests: usize) -> Self {
        Self {
            capture: "ended",
            why: end.name(),
            requests,
        }
    }
}

/// Encodes a line, as a terminal may show it: whoever asks with curl sees what strangers wrote.
pub(super) fn line(line: &impl Serialize) -> Bytes {
    let mut json = json(line);
    json.push(b'\n');
    json.into()
}

fn json(line: &impl Serialize) -> Vec<u8> {
    printable::json(line).unwrap_or_else(|error| {
        tracing::error!(%error, "cannot encode a line of a capture");
        Vec::new()
    })
}

/// What was sent of the line of the first request that a capture has.
pub(super) struct Sending {
    /// How much of the body was sent.
    body_bytes: usize,
}

/// What stands after the body.
const TAIL: &[u8] = b"\"}\n";

impl Sending {
    /// Begins with what stands before the body. `None` if the capture has no request.
    pub(super) fn begin(capture: &Capture) -> Option<(Self, Bytes)> {
        let head = capture.first(|captured| head(captured, &capture.terms().spoke))?;
        Some((Self { body_bytes: 0 }, head.into()))
    }

    /// The next part, and whether it is the last. `None` if the capture has the request no more.
    pub(super) fn next(&mut self, capture: &Capture) -> Option<(Bytes, bool)> {
        capture.first(|captured| {
            let rest = &captured.body.bytes()[self.body_bytes..];
            if rest.is_empty() {
                return (Bytes::from_static(TAIL), true);
            }
            let part = &rest[..rest.len().min(PART_BYTES)];
            self.body_bytes += part.len();
            (BASE64_STANDARD.encode(part).into(), false)
        })
    }
}

fn head(captured: &Captured, spoke: &str) -> Vec<u8> {
    let sender = &captured.sender;
    let mut head = json(&RequestHead {
        capture: "request",
        spoke,
        timestamp_seconds: unix_seconds(captured.time),
        status: captured.status.as_u16(),
        reasons: &captured.reasons,
        text: &captured.text,
        protocol: captured.protocol.map(Protocol::name),
        source_address: sender.address,
        address_source: sender.address_source,
        user_agent: sender.user_agent.as_deref(),
        content_type: sender.content_type.as_deref(),
        content_encoding: sender.content_encoding.as_deref(),
        body_bytes: captured.body.came(),
        complete: captured.body.is_complete(),
        body: "",
    });
    // The empty body is still open.
    head.truncate(head.len().saturating_sub(TAIL.len() - 1));
    head
}
