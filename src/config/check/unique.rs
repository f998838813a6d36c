//! What may stand only once in all files: names of hubs and spokes, tokens, user names.
//!
//! An error names the other place, never the secret itself.

use std::collections::HashMap;
use std::hash::Hash;

use super::entry::Entry;
use crate::config::errors::{Report, Reported};

/// Where names and credentials stood first.
#[derive(Default)]
pub(super) struct Seen {
    hubs: HashMap<String, String>,
    names: HashMap<String, String>,
    tokens: HashMap<[u8; 32], String>,
    usernames: HashMap<String, String>,
}

impl Seen {
    /// Claims the name of a hub.
    pub(super) fn hub(
        &mut self,
        report: &mut Report,
        entry: &Entry<'_>,
        name: &str,
    ) -> Result<(), Reported> {
        claim(
            &mut self.hubs,
            name.to_owned(),
            report,
            entry,
            "the name of a hub, by default host and port of its url,",
            "; give each a `name`",
        )
    }

    /// Claims the name of a spoke.
    pub(super) fn name(
        &mut self,
        report: &mut Report,
        entry: &Entry<'_>,
        name: &str,
    ) -> Result<(), Reported> {
        claim(
            &mut self.names,
            name.to_owned(),
            report,
            entry,
            "the name of a spoke",
            "",
        )
    }

    /// Claims a token by its digest.
    pub(super) fn token(
        &mut self,
        report: &mut Report,
        entry: &Entry<'_>,
        digest: [u8; 32],
    ) -> Result<(), Reported> {
        claim(&mut self.tokens, digest, report, entry, "a token", "")
    }

    /// Claims a user name.
    pub(super) fn username(
        &mut self,
        report: &mut Report,
        entry: &Entry<'_>,
        username: &str,
    ) -> Result<(), Reported> {
        claim(
            &mut self.usernames,
            username.to_owned(),
            report,
            entry,
            "a user name",
            "",
        )
    }
}

fn claim<K: Eq + Hash>(
    seen: &mut HashMap<K, String>,
    value: K,
    report: &mut Report,
    entry: &Entry<'_>,
    what: &str,
    remedy: &str,
) -> Result<(), Reported> {
    if let Some(first) = seen.get(&value) {
        let message =
            format!("{what} may stand only once; this one stands at {first} already{remedy}");
        return Err(entry.fail(report, message));
    }
    let place = format!(
        "{}:{} ({})",
        entry.file.path.display(),
        entry.at(),
        entry.key
    );
    seen.insert(value, place);
    Ok(())
}
