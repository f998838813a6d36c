//! Keeps what a spoke sends aside while its refused requests are captured.
//!
//! The body is copied, since what the request reserved for it is given back before a hub has answered. What
//! a refusal leaves unread is kept as it is discarded.

use std::time::SystemTime;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, StatusCode};

use crate::capture::{Captured, Captures, Kept, Sender};
use crate::listener::Peer;
use crate::wire::Protocol;

use super::answer::Answer;
use super::refusal::Refusal;
use super::respond;

/// The longest part of a header that is kept, in bytes.
const HEADER_BYTES_MAX: usize = 256;

/// A request that may be refused.
#[derive(Debug)]
pub(super) struct Aside {
    sender: Sender,
    body: Kept,
}

impl Aside {
    /// Begins with a request of a spoke, if its requests are captured. Of its headers, those that are named
    /// here are kept and no others: the rest may hold secrets.
    pub(super) fn begin(
        captures: &Captures,
        spoke: &str,
        peer: &Peer,
        headers: &HeaderMap,
    ) -> Option<Box<Self>> {
        let capture = captures.of(spoke)?;
        let header = |name: HeaderName| {
            let value = String::from_utf8_lossy(headers.get(name)?.as_bytes());
            let cut = value.floor_char_boundary(HEADER_BYTES_MAX);
            Some(value[..cut].to_owned())
        };
        let sender = Sender {
            address: peer.ip(),
            address_source: peer.address_source().name(),
            user_agent: header(USER_AGENT),
            content_type: header(CONTENT_TYPE),
            content_encoding: header(CONTENT_ENCODING),
        };
        let body = Kept::new(&capture);
        Some(Box::new(Self { sender, body }))
    }

    /// A part of the body has come.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.body.add(bytes);
    }

    /// No more of the body comes.
    pub(super) fn end(&mut self) {
        self.body.end();
    }

    /// The whole request is refused. `None` if that is of no interest.
    pub(super) fn refused(
        self,
        protocol: Option<Protocol>,
        status: StatusCode,
        refusal: &Refusal,
    ) -> Option<Captured> {
        let reasons = vec![refusal.reason().name()];
        let text = respond::text(Some(&self.body.capture().terms().spoke), refusal);
        self.told(protocol, status, reasons, text)
    }

    /// The request has its answer.
    pub(super) fn answered(self, protocol: Option<Protocol>, answer: &Answer) {
        let reasons = answer.reasons.clone();
        if let Some(captured) = self.told(protocol, answer.status, reasons, answer.text.clone()) {
            captured.store();
        }
    }

    fn told(
        self,
        protocol: Option<Protocol>,
        status: StatusCode,
        reasons: Vec<&'static str>,
        text: String,
    ) -> Option<Captured> {
        let Self { sender, body } = self;
        body.capture().wants(status, &reasons).then(|| Captured {
            time: SystemTime::now(),
            status,
            reasons,
            text,
            protocol,
            sender,
            body,
        })
    }
}
