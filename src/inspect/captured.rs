//! A request that `hubgate capture` stored, as it is shown: how it was answered, who sent it, its body.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize, Serializer};

use crate::printable::clean;
use crate::wire::Protocol;

use super::shown::{LINE_BYTES_MAX, Text, Time};

/// How a line of a capture begins. No body begins like this: it is neither a snappy block nor a message.
pub const LINE_START: &[u8] = b"{\"capture\":";

/// A captured request without its body.
#[derive(Debug, Deserialize, Serialize)]
pub struct Captured {
    /// When it was answered.
    #[serde(rename(deserialize = "timestamp_seconds", serialize = "timestamp"))]
    #[serde(serialize_with = "time")]
    seconds: f64,
    #[serde(serialize_with = "text")]
    spoke: String,
    status: u16,
    #[serde(serialize_with = "texts")]
    reasons: Vec<String>,
    /// What the spoke was told.
    #[serde(serialize_with = "text")]
    text: String,
    #[serde(serialize_with = "or_null")]
    protocol: Option<String>,
    #[serde(serialize_with = "text")]
    source_address: String,
    #[serde(serialize_with = "text")]
    address_source: String,
    #[serde(serialize_with = "or_null")]
    user_agent: Option<String>,
    #[serde(serialize_with = "or_null")]
    content_type: Option<String>,
    #[serde(serialize_with = "or_null")]
    content_encoding: Option<String>,
    /// The bytes of the body that came, which may be more than were kept.
    body_bytes: usize,
    /// All of the body came.
    complete: bool,
}

/// A line of a capture.
#[derive(Deserialize)]
struct Line {
    capture: String,
    #[serde(flatten)]
    captured: Option<Captured>,
    #[serde(default)]
    body: String,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It is not JSON, or not that of a request.
    #[error("a line is not one of a capture")]
    Unknown,
    /// The body is not in base64.
    #[error("the body in a line is not in base64")]
    Body,
}

/// Reads a line of a capture: the request and what was kept of its body. `None` for one that has no
/// request.
pub fn read_line(line: &[u8]) -> Result<Option<(Captured, Vec<u8>)>, LineError> {
    let line: Line = serde_json::from_slice(line).map_err(|_| LineError::Unknown)?;
    if line.capture != "request" {
        return Ok(None);
    }
    let captured = line.captured.ok_or(LineError::Unknown)?;
    let body = BASE64_STANDARD.decode(line.body);
    Ok(Some((captured, body.map_err(|_| LineError::Body)?)))
}

impl Captured {
    /// When it was answered, in milliseconds since the Unix epoch.
    pub fn millis(&self) -> i64 {
        millis(self.seconds)
    }

    /// The spoke that sent it.
    pub fn spoke(&self) -> &str {
        &self.spoke
    }

    /// Why something of it was refused.
    pub(super) fn reasons(&self) -> &[String] {
        &self.reasons
    }

    /// The version that its headers name.
    pub fn protocol(&self) -> Option<Protocol> {
        let name = self.protocol.as_deref()?;
        [Protocol::V1, Protocol::V2]
            .into_iter()
            .find(|protocol| protocol.name() == name)
    }

    /// True if the body has more than these bytes, or may have.
    pub(super) fn is_cut(&self, body: &[u8]) -> bool {
        !self.complete || body.len() < self.body_bytes
    }

    /// The lines that say how it came here.
    pub(super) fn lines(&self) -> Vec<String> {
        let reasons: Vec<_> = self.reasons.iter().map(|it| bare(it)).collect();
        let time = Time(self.millis());
        let mut lines = vec![format!(
            "captured at {time} of spoke {}: {} {}",
            bare(&self.spoke),
            self.status,
            reasons.join(", ")
        )];
        let mut sender = format!(
            "sent by {} ({})",
            bare(&self.source_address),
            bare(&self.address_source)
        );
        for (name, value) in [
            ("User-Agent", &self.user_agent),
            ("Content-Type", &self.content_type),
            ("Content-Encoding", &self.content_encoding),
        ] {
            if let Some(value) = value {
                sender += &format!(", {name} {}", Text(value.as_bytes()));
            }
        }
        lines.push(sender);
        let told = &self.text[..self.text.floor_char_boundary(LINE_BYTES_MAX)];
        lines.push(format!("told: {}", clean(told)));
        lines
    }
}

fn millis(seconds: f64) -> i64 {
    let since = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn bare(text: &str) -> String {
    Text(text.as_bytes()).bare().to_string()
}

fn time<S: Serializer>(seconds: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    Time(millis(*seconds)).serialize(serializer)
}

fn text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    Text(text.as_bytes()).serialize(serializer)
}

fn texts<S: Serializer>(texts: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(texts.iter().map(|it| Text(it.as_bytes())))
}

fn or_null<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_ref()
        .map(|it| Text(it.as_bytes()))
        .serialize(serializer)
}
