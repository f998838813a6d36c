//! Checks `tls` of a hub, and reads the files that it names.

use rustls::pki_types::{DnsName, ServerName};

use super::Check;
use super::entry::{Fields, quote};
use super::pem::{about_file, chain, pem, unusable};
use crate::config::errors::Reported;
use crate::config::{Host, HubTls, HubUrl, Scheme};
use crate::tls::{Authorities, ClientTls, Identity, Key};

pub(super) const KEYS: &[&str] = &["ca_file", "cert_file", "key_file", "server_name"];

/// Checks the field `tls` of a hub with this URL. `None` means that the hub is spoken to without TLS.
pub(super) fn tls(
    check: &mut Check<'_>,
    hub: &Fields<'_>,
    url: &HubUrl,
) -> Result<Option<HubTls>, Reported> {
    let fields = hub.section(&mut check.report, "tls", KEYS);
    if url.scheme() == Scheme::Http {
        return match hub.get("tls") {
            None => Ok(None),
            Some(entry) => {
                let message =
                    "the url begins with http://; begin it with https://, or leave tls out";
                Err(entry.fail(&mut check.report, message))
            }
        };
    }
    let identity = identity(check, &fields);
    let server_name = server_name(check, &fields, url);
    let authorities = authorities(check, &fields);
    fields.ensure_mapping()?;
    let (identity, server_name) = (identity?, server_name?);
    let client = ClientTls::new(&authorities?, identity.as_ref());
    let client =
        client.map_err(|problem| fields.entry().fail(&mut check.report, problem.to_string()))?;
    Ok(Some(HubTls {
        client,
        server_name,
        validity: identity.map(|identity| identity.validity()),
    }))
}

/// Whom hubgate trusts: those in `ca_file`, or else those that the system trusts.
fn authorities(check: &mut Check<'_>, fields: &Fields<'_>) -> Result<Authorities, Reported> {
    if let Some(entry) = fields.get("ca_file") {
        let authorities = pem(check, entry, Authorities::from_pem)?;
        if let Some(doubt) = authorities.doubt() {
            let message = about_file(entry, doubt);
            entry.warn(&mut check.report, message);
        }
        return Ok(authorities);
    }
    let authorities = check.sources.system_authorities();
    authorities.ok_or_else(|| {
        let message = "the system has no certificates of authorities, so no hub can be verified; \
                       set ca_file";
        fields.entry().fail(&mut check.report, message)
    })
}

/// What hubgate proves itself with, if the hub asks for it.
fn identity(check: &mut Check<'_>, fields: &Fields<'_>) -> Result<Option<Identity>, Reported> {
    let (cert_entry, key_entry) = (fields.get("cert_file"), fields.get("key_file"));
    let chain = cert_entry.map(|entry| chain(check, entry));
    let key = key_entry.map(|entry| Ok((entry, pem(check, entry, Key::from_pem)?)));
    let (chain, (key_entry, key)) = match (chain, key) {
        (None, None) => return Ok(None),
        (Some(chain), Some(key)) => (chain?, key?),
        (Some(_), None) => {
            let message = "needs key_file, the file of its key";
            return Err(cert_entry
                .unwrap_or(fields.entry())
                .fail(&mut check.report, message));
        }
        (None, Some(_)) => {
            let message = "needs cert_file, the file of its certificate";
            return Err(key_entry
                .unwrap_or(fields.entry())
                .fail(&mut check.report, message));
        }
    };
    let identity = Identity::new(&chain, &key);
    let identity = identity.map_err(|problem| unusable(check, key_entry, &problem));
    identity.map(Some)
}

fn server_name(
    check: &mut Check<'_>,
    fields: &Fields<'_>,
    url: &HubUrl,
) -> Result<ServerName<'static>, Reported> {
    if let Some(entry) = fields.get("server_name") {
        return entry.parse(&mut check.report, parse_server_name);
    }
    match url.host() {
        Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
        Host::Name(name) => dns_name(name).ok_or_else(|| {
            let message = "the host of the url is not a name that a certificate can have; set \
                           server_name";
            fields.entry().fail(&mut check.report, message)
        }),
    }
}

fn parse_server_name(text: &str) -> Result<ServerName<'static>, String> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok(ServerName::IpAddress(address.into()));
    }
    dns_name(text).ok_or_else(|| {
        format!(
            "{} is neither a DNS name nor an IP address; write the name that the certificate of \
             the hub has, without a port",
            quote(text)
        )
    })
}

/// A name without the dot that says that it is complete, since no certificate has it.
fn dns_name(text: &str) -> Option<ServerName<'static>> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let name = DnsName::try_from(name.to_owned()).ok()?;
    Some(ServerName::DnsName(name))
}
