//! Values that may be used only once in all files: names of hubs and spokes, tokens, user names, names
//! in certificates, and what identifies a JSON Web Token.
//!
//! An error says where the value was used first, and never shows a secret.

use std::collections::HashMap;
use std::hash::Hash;

use super::entry::Entry;
use crate::config::KeysPlace;
use crate::config::errors::{Report, Reported};
use crate::tls::CertificateName;

/// The values that were used so far, each with the place of its first use.
#[derive(Default)]
pub(super) struct UniqueValues {
    hub_names: HashMap<String, String>,
    spoke_names: HashMap<String, String>,
    tokens: HashMap<[u8; 32], String>,
    usernames: HashMap<String, String>,
    certificate_names: HashMap<CertificateName, String>,
    jwts: HashMap<[String; 3], String>,
    keys_places: HashMap<String, (KeysPlace, String)>,
}

impl UniqueValues {
    /// Claims the name of a hub, or reports that another hub has it.
    pub(super) fn claim_hub_name(
        &mut self,
        report: &mut Report,
        entry: &Entry<'_>,
        name: &str,
    ) -> Result<(), Reported> {
        claim(
            &mut self.hub_names,
            name.to_owned(),
            report,
            entry,
            "a hub name (by default the host and port of the url)",
            "; give each hub a `name`",
        )
    }

    /// Claims the name of a spoke, or reports that another spoke has it.
    pub(super) fn claim_spoke_name(
        &mut self,
        report: &mut Report,
        entry: &Entry<'_>,
        name: &str,
    ) -> Result<(), Reported> {
        claim(
            &mut self.spoke_names,
            name.to_owned(),
            report,
            entry,
            "a spoke name",
            "",
        )
    }

    /// Claims a token by its digest, or reports that it was used before.
    pub(super) fn claim_token(
        &mut self,
        report: &mut Report,
        entry: &Entry<'_>,
        digest: [u8; 32],
    ) -> Result<(), Reported> {
        claim(&mut self.tokens, digest, report, entry, "a token", "")
    }

    /// Claims a user name, or reports that it was used before.
    pub(super) fn claim_username(
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

    /// Claims a name in a certificate, or reports that it was used before.
    pub(super) fn claim_certificate_name(
        &mut self,
        report: &mut Report,
        entry: &Entry<'_>,
        name: &CertificateName,
    ) -> Result<(), Reported> {
        claim(
            &mut self.certificate_names,
            name.clone(),
            report,
            entry,
            "a name in a certificate",
            "",
        )
    }

    /// Claims what identifies a token, or reports that it was used before.
    pub(super) fn claim_jwt(
        &mut self,
        report: &mut Report,
        entry: &Entry<'_>,
        [issuer, audience, subject]: [&str; 3],
    ) -> Result<(), Reported> {
        claim(
            &mut self.jwts,
            [issuer, audience, subject].map(str::to_owned),
            report,
            entry,
            "the same issuer, audience and subject",
            "; clusters whose issuers have one name need an audience each",
        )
    }

    /// Claims a place that keys are fetched from, or reports that another credential fetches from
    /// there in another way. Its URL is its name in metrics.
    pub(super) fn claim_keys_place(
        &mut self,
        report: &mut Report,
        entry: &Entry<'_>,
        place: &KeysPlace,
    ) -> Result<(), Reported> {
        let url = place.url.to_string();
        match self.keys_places.get(&url) {
            Some((first, _)) if first == place => Ok(()),
            Some((_, at)) => {
                let message = format!(
                    "keys are fetched from here in another way at {at}; give both the same \
                     jwks_ca_file, and discovery the same issuer"
                );
                Err(entry.fail(report, message))
            }
            None => {
                let at = place_of(entry);
                self.keys_places.insert(url, (place.clone(), at));
                Ok(())
            }
        }
    }
}

fn claim<K: Eq + Hash>(
    used: &mut HashMap<K, String>,
    value: K,
    report: &mut Report,
    entry: &Entry<'_>,
    what: &str,
    remedy: &str,
) -> Result<(), Reported> {
    if let Some(first) = used.get(&value) {
        let message =
            format!("{what} may be used only once; this one is already used at {first}{remedy}");
        return Err(entry.fail(report, message));
    }
    used.insert(value, place_of(entry));
    Ok(())
}

/// Where an entry is, for messages.
fn place_of(entry: &Entry<'_>) -> String {
    format!(
        "{}:{} ({})",
        entry.file.path.display(),
        entry.at(),
        entry.key
    )
}
