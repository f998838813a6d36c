//! Checks `credentials` of a hub, with which hubgate proves who it is.
//!
//! What is made of them is the header `Authorization`, which is marked as sensitive. Messages quote
//! neither a token nor a password.

use std::net::{IpAddr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::AUTHORIZATION;

use super::credential::parse_username;
use super::entry::{Entry, Fields, UnknownKeys};
use super::{Check, absolute, advice, value};
use crate::config::errors::{Report, Reported};
use crate::config::{Host, HubHeader, HubUrl, Scheme};

pub(super) const KINDS: &[&str] = &["token_file", "basic"];
pub(super) const BASIC_KEYS: &[&str] = &["username", "password_file"];

/// Longer than any token or password. Many servers accept no longer header.
const SECRET_BYTES_MAX: usize = 8 << 10;

/// Checks the field `credentials` of a hub. `None` means that it was left out.
pub(super) fn authorization(
    check: &mut Check<'_>,
    hub: &Fields<'_>,
) -> Result<Option<HeaderValue>, Reported> {
    let Some(entry) = hub.get("credentials") else {
        return Ok(None);
    };
    let fields = entry.fields(&mut check.report, UnknownKeys::Hidden, KINDS);
    match (fields.found(), fields.reported()) {
        ([("token_file", file)], _) => token(check, file).map(Some),
        ([(_, login)], _) => basic(check, login).map(Some),
        ([], Some(reported)) => Err(reported),
        ([], None) => {
            let message = format!("contains no credential; give one of: {}", KINDS.join(", "));
            Err(entry.fail(&mut check.report, message))
        }
        (_, _) => {
            let message = "contains token_file and basic at once; a hub gets one of them";
            Err(entry.fail(&mut check.report, message))
        }
    }
}

fn token(check: &mut Check<'_>, entry: &Entry<'_>) -> Result<HeaderValue, Reported> {
    let token = secret(check, entry, "a token", |token| {
        if token.iter().all(u8::is_ascii_graphic) {
            Ok(())
        } else {
            Err("is not one word of ASCII; put only the token into it")
        }
    })?;
    Ok(sensitive(&[b"Bearer ", token.as_slice()].concat()))
}

fn basic(check: &mut Check<'_>, entry: &Entry<'_>) -> Result<HeaderValue, Reported> {
    let fields = entry.fields(&mut check.report, UnknownKeys::Hidden, BASIC_KEYS);
    let username = fields.parse_required(&mut check.report, "username", parse_username);
    let file = fields.require(&mut check.report, "password_file");
    let password = file.and_then(|entry| {
        secret(check, entry, "a password", |password| {
            if password.iter().any(u8::is_ascii_control) {
                Err("contains a control character or a second line; put only the password into it")
            } else {
                Ok(())
            }
        })
    });
    let login = [username?.as_bytes(), b":", password?.as_slice()].concat();
    Ok(sensitive(
        format!("Basic {}", STANDARD.encode(login)).as_bytes(),
    ))
}

/// Reads the file of a secret, without the white space around it, as Prometheus does. The error of
/// `check` continues "the file PATH".
fn secret(
    check: &mut Check<'_>,
    entry: &Entry<'_>,
    what: &str,
    check_secret: impl Fn(&[u8]) -> Result<(), &'static str>,
) -> Result<Vec<u8>, Reported> {
    let text = entry.parse(&mut check.report, |text| {
        value::path(text).map(|_| text.to_owned())
    })?;
    let path = entry.file.resolve(&text);
    let secret = match check.sources.read(&path, SECRET_BYTES_MAX) {
        Err(reason) => Err(advice::unreadable_file(&text, &absolute(&path), &reason)),
        Ok(content) => {
            let secret = content.trim_ascii();
            let fault = match secret {
                [] => Err(format!("is empty; put {what} into it")),
                _ => check_secret(secret).map_err(str::to_owned),
            };
            let path = absolute(&path);
            fault
                .map(|()| secret.to_vec())
                .map_err(|fault| format!("the file {} {fault}", path.display()))
        }
    };
    secret.map_err(|message| entry.fail(&mut check.report, message))
}

/// A header value of bytes that were checked to be allowed in one.
fn sensitive(bytes: &[u8]) -> HeaderValue {
    let mut value = HeaderValue::from_bytes(bytes).expect("a secret contains no control character");
    value.set_sensitive(true);
    value
}

/// Refuses two values of `Authorization`.
pub(super) fn refuse_second(
    report: &mut Report,
    hub: &Fields<'_>,
    headers: &[HubHeader],
) -> Result<(), Reported> {
    match hub.get("credentials") {
        Some(entry) if has_authorization(headers) => {
            let message = "headers has Authorization as well; give one of them";
            Err(entry.fail(report, message))
        }
        _ => Ok(()),
    }
}

fn has_authorization(headers: &[HubHeader]) -> bool {
    headers.iter().any(|it| it.name == AUTHORIZATION)
}

/// Warns of a secret that everyone on the way to the hub could read.
pub(super) fn warn_of_plaintext(
    report: &mut Report,
    hub: &Fields<'_>,
    url: &HubUrl,
    headers: &[HubHeader],
) {
    let header = hub.get("headers").filter(|_| has_authorization(headers));
    let entry = hub.get("credentials").or(header);
    if let Some(entry) = entry
        && url.scheme() == Scheme::Http
        && !is_loopback(url.host())
    {
        let message = format!(
            "goes to {} in the clear, since the url begins with http://",
            url.authority()
        );
        entry.warn(report, message);
    }
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Address(IpAddr::V4(address)) => address.is_loopback(),
        Host::Address(IpAddr::V6(address)) => *address == Ipv6Addr::LOCALHOST,
        Host::Name(name) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
    }
}
