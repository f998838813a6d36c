//! What hubgate tells of a capture: a line of JSON for each event.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::time::timeout;

use crate::printable::clean;

/// hubgate sends something each second while a capture goes on.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest line, in bytes: the largest body in base64, and what is said of it.
const LINE_BYTES_MAX: usize = 48 << 20;

/// The last second of the year 9999, since the Unix epoch; there RFC 3339 ends.
const RFC_3339_END_SECONDS: u64 = 253_402_300_799;

/// What is said of an answer that cannot be read.
pub(super) const UNKNOWN: &str = "the answer is not that of a hubgate of this version";

/// A line of the answer. What a newer hubgate adds is passed over.
#[derive(Debug, Deserialize)]
#[serde(tag = "capture", rename_all = "lowercase")]
pub(super) enum Event {
    Begins(Begins),
    Request(Request),
    Ended(Ended),
}

#[derive(Debug, Deserialize)]
pub(super) struct Begins {
    pub(super) requests: u64,
    pub(super) end_timestamp_seconds: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub(super) timestamp_seconds: f64,
    pub(super) spoke: String,
    pub(super) status: u16,
    pub(super) reasons: Vec<String>,
    pub(super) protocol: Option<String>,
    pub(super) source_address: String,
    pub(super) user_agent: Option<String>,
    pub(super) body_bytes: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Ended {
    why: String,
}

impl Ended {
    /// Why it ended.
    pub(super) fn words(&self) -> String {
        match self.why.as_str() {
            "requests" => "all are there",
            "bytes" => "the bodies reached the size",
            "time" => "the time is over",
            "revoked" => "the credential is no longer valid, or the spoke is gone",
            "shutdown" => "hubgate shuts down",
            why => return format!("ended ({})", clean(why)),
        }
        .to_owned()
    }
}

/// A time that a server names, as far as it can be printed.
pub(super) fn time(seconds: f64) -> SystemTime {
    let since = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    UNIX_EPOCH + since.min(Duration::from_secs(RFC_3339_END_SECONDS))
}

/// The lines of a body that goes on.
pub(super) struct Lines {
    body: Incoming,
    /// What came after the last line.
    rest: Vec<u8>,
    /// How much of it has no end of a line.
    searched: usize,
}

impl Lines {
    pub(super) fn new(body: Incoming) -> Self {
        Self {
            body,
            rest: Vec::new(),
            searched: 0,
        }
    }

    /// The next line that is not empty. May be dropped in between.
    pub(super) async fn next(&mut self) -> anyhow::Result<Vec<u8>> {
        loop {
            let unseen = &self.rest[self.searched..];
            if let Some(end) = memchr::memchr(b'\n', unseen) {
                let after = self.rest.split_off(self.searched + end + 1);
                let mut line = std::mem::replace(&mut self.rest, after);
                self.searched = 0;
                line.pop();
                if line.is_empty() {
                    continue;
                }
                return Ok(line);
            }
            self.searched = self.rest.len();
            if self.searched > LINE_BYTES_MAX {
                bail!(UNKNOWN);
            }
            let frame = timeout(SILENCE_TIMEOUT, self.body.frame()).await;
            let frame = frame.context("hubgate does not answer any more")?;
            let frame = frame
                .context("hubgate broke off")?
                .context("hubgate broke off")?;
            if let Ok(data) = frame.into_data() {
                self.rest.extend_from_slice(&data);
            }
        }
    }
}
