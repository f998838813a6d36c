//! What a capture waits for, and what was refused meanwhile that it passed over.
//!
//! Whoever waits in vain must not think that nothing is refused.

use std::collections::BTreeSet;

use anyhow::Context;
use serde::Deserialize;

use crate::capture::bounds;
use crate::cli::admin_port::{AdminPort, path_segment};
use crate::printable::clean;
use crate::spoke::condition::Condition;

use super::events::{Begins, UNKNOWN, time};

/// Says what a capture waits for and until when, and which flag adds the rest.
pub(super) fn text(spoke: &str, reasons: &[&str], begins: &Begins) -> String {
    let most = begins.requests;
    let end = humantime::format_rfc3339_seconds(time(begins.end_timestamp_seconds));
    let (how, rest) = match reasons {
        [] => {
            let sent_again = bounds::reasons().filter(|it| is_sent_again(it));
            let sent_again: Vec<_> = sent_again.collect();
            (
                "with a status 4xx".to_owned(),
                format!(
                    "those with 5xx, which the spoke sends again, need a --reason: {}",
                    sent_again.join(", ")
                ),
            )
        }
        some => (
            format!("for {}", some.join(" or ")),
            "those that are refused for others need a --reason of their own".to_owned(),
        ),
    };
    let spoke = clean(spoke);
    format!(
        "waiting for requests of {spoke} that are refused {how}: {most} at most, until {end}; Ctrl-C ends it\n\
         {rest}"
    )
}

/// True for the reasons whose requests usually have a status 5xx.
fn is_sent_again(reason: &str) -> bool {
    match Condition::of_reason(reason) {
        Condition::Failing | Condition::Limited => true,
        Condition::NeverCame
        | Condition::Silent
        | Condition::Refused
        | Condition::Late
        | Condition::Writing => false,
    }
}

/// The refusals of a spoke since a moment.
pub(super) struct Watch {
    admin: AdminPort,
    path: String,
    before: Vec<Refusals>,
}

/// The answer about one spoke, as far as it is read.
#[derive(Debug, Deserialize)]
struct Spoke {
    refusals: Vec<Refusals>,
}

/// What was refused for one reason since the start.
#[derive(Debug, Deserialize)]
struct Refusals {
    reason: String,
    count: u64,
}

impl Watch {
    /// Begins to watch a spoke.
    pub(super) async fn begin(admin: AdminPort, spoke: &str) -> anyhow::Result<Self> {
        let mut watch = Self {
            admin,
            path: format!("/api/v1/spokes/{}", path_segment(spoke)),
            before: Vec::new(),
        };
        watch.before = watch.refusals().await?;
        Ok(watch)
    }

    /// Says what was refused since for reasons that none of the stored requests has, or that nothing was
    /// refused at all.
    pub(super) async fn missed(&mut self, stored: &BTreeSet<String>) -> Option<String> {
        // It may be gone.
        let now = self.refusals().await.ok()?;
        let missed = now.into_iter().filter(|it| {
            let mut before = self.before.iter();
            let before = before.find(|before| before.reason == it.reason);
            it.count > before.map_or(0, |it| it.count) && !stored.contains(&it.reason)
        });
        let names: Vec<_> = missed.map(|it| it.reason).collect();
        let flags = names.iter().filter_map(|it| bounds::reason(it).ok());
        let flags: String = flags.map(|it| format!(" --reason {it}")).collect();
        let names = clean(&names.join(", "));
        match (names.is_empty(), flags.is_empty()) {
            (true, _) => stored
                .is_empty()
                .then(|| "meanwhile nothing of it was refused".to_owned()),
            (false, true) => Some(format!("meanwhile something was refused for {names}")),
            (false, false) => Some(format!(
                "meanwhile something was refused for {names}; to capture that, say{flags}"
            )),
        }
    }

    async fn refusals(&mut self) -> anyhow::Result<Vec<Refusals>> {
        let answer = self.admin.ask(&self.path).await?;
        let spoke: Spoke = serde_json::from_slice(&answer).context(UNKNOWN)?;
        Ok(spoke.refusals)
    }
}
