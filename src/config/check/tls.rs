//! Checks `tls` of a listener, and reads the files that it names.

use std::time::SystemTime;

use super::Check;
use super::entry::{Fields, quote};
use super::pem::{chain, doubtful, pem, unusable};
use crate::config::defaults;
use crate::config::errors::Reported;
use crate::tls::{
    Authorities, ClientAuth, Identity, Key, MinVersion, RevocationLists, ServerTls, Unusable,
};

pub(super) const KEYS: &[&str] = &[
    "cert_file",
    "key_file",
    "client_ca_file",
    "client_crl_file",
    "client_auth",
    "min_version",
];

/// `client_auth`: whether clients prove themselves by certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    None,
    Optional,
    Required,
}

/// Checks `tls` among the fields of a listener.
pub(super) fn server(
    check: &mut Check<'_>,
    listener: &Fields<'_>,
) -> Result<Option<ServerTls>, Reported> {
    let Some(entry) = listener.get("tls") else {
        return Ok(None);
    };
    let fields = listener.section(&mut check.report, "tls", KEYS);
    fields.ensure_mapping()?;
    let identity = identity(check, &fields);
    let client_auth = client_auth(check, &fields);
    let report = &mut check.report;
    let default = defaults::TLS_MIN_VERSION;
    let min_version = fields.parse_or(report, "min_version", min_version, default);
    let tls = ServerTls::new(&identity?, client_auth?, min_version?);
    let tls = tls.map_err(|problem| entry.fail(report, problem.to_string()))?;
    Ok(Some(tls))
}

/// Whether a listener asks for certificates. `None` when its keys are wrong.
pub(super) fn asks_for_certificates(tls: &Result<Option<ServerTls>, Reported>) -> Option<bool> {
    let tls = tls.as_ref().ok()?.as_ref();
    Some(tls.is_some_and(|tls| tls.client_auth().is_some()))
}

fn identity(check: &mut Check<'_>, fields: &Fields<'_>) -> Result<Identity, Reported> {
    let cert_entry = fields.require(&mut check.report, "cert_file");
    let chain = cert_entry.and_then(|entry| {
        let chain = chain(check, entry)?;
        if !chain.names_a_server() {
            let doubt = "has a certificate without a DNS name or IP address; clients such as \
                         Prometheus do not look at its common name";
            doubtful(check, entry, doubt);
        }
        Ok(chain)
    });
    let key_entry = fields.require(&mut check.report, "key_file");
    let key = key_entry.and_then(|entry| Ok((entry, pem(check, entry, Key::from_pem)?)));
    let (chain, (key_entry, key)) = (chain?, key?);
    Identity::new(&chain, &key).map_err(|problem| unusable(check, key_entry, &problem))
}

fn client_auth(check: &mut Check<'_>, fields: &Fields<'_>) -> Result<Option<ClientAuth>, Reported> {
    let asked = fields.parse_or(&mut check.report, "client_auth", asked, Asked::None);
    let authorities = optional(check, fields, "client_ca_file", Authorities::from_pem);
    let revoked = optional(check, fields, "client_crl_file", RevocationLists::from_pem);
    if let (Some(entry), Ok(Some(authorities))) = (fields.get("client_ca_file"), &authorities)
        && let Some(doubt) = authorities.doubt()
    {
        doubtful(check, entry, doubt);
    }
    if let (Some(entry), Ok(Some(revoked))) = (fields.get("client_crl_file"), &revoked)
        && let Some(doubt) = revoked.doubt(SystemTime::now())
    {
        doubtful(check, entry, &doubt);
    }
    let asked = asked?;
    if asked == Asked::None {
        let idle = ["client_ca_file", "client_crl_file"].map(|key| fields.get(key));
        return match idle.into_iter().flatten().next() {
            None => Ok(None),
            Some(entry) => {
                let message = "needs client_auth: optional or client_auth: required; without it, \
                               no client is asked for a certificate";
                Err(entry.fail(&mut check.report, message))
            }
        };
    }
    let Some(authorities) = authorities? else {
        let entry = fields.get("client_auth").unwrap_or(fields.entry());
        let message = "needs client_ca_file, the authorities that issue the clients' certificates";
        return Err(entry.fail(&mut check.report, message));
    };
    Ok(Some(ClientAuth {
        authorities,
        revoked: revoked?,
        required: asked == Asked::Required,
    }))
}

fn asked(text: &str) -> Result<Asked, String> {
    match text {
        "none" => Ok(Asked::None),
        "optional" => Ok(Asked::Optional),
        "required" => Ok(Asked::Required),
        _ => Err(format!(
            "unknown value {}; allowed: none, optional, required",
            quote(text)
        )),
    }
}

fn min_version(text: &str) -> Result<MinVersion, String> {
    let allowed = [MinVersion::Tls12, MinVersion::Tls13];
    let version = allowed.into_iter().find(|version| version.name() == text);
    version.ok_or_else(|| {
        let [older, newer] = allowed.map(MinVersion::name);
        format!("unknown value {}; allowed: {older}, {newer}", quote(text))
    })
}

fn optional<T>(
    check: &mut Check<'_>,
    fields: &Fields<'_>,
    key: &str,
    parse: impl FnOnce(&[u8]) -> Result<T, Unusable>,
) -> Result<Option<T>, Reported> {
    let entry = fields.get(key);
    entry.map(|entry| pem(check, entry, parse)).transpose()
}
