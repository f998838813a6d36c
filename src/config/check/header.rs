//! Headers of the requests to a hub: the mapping `headers`.
//!
//! Values may be credentials, and a value pasted in the place of a name is one still, so messages
//! quote neither; they point to it. Only names that every server knows are shown.

use std::collections::HashMap;

use http::HeaderName;

use super::entry::Fields;
use crate::config::errors::{Position, Report, Reported};
use crate::config::{HubHeader, HubHeaderValue};

/// Far above what a hub wants, and far below what the headers of a request may hold.
const HEADERS_MAX: usize = 32;

/// What hubgate sets itself (or leaves out for a reason), and what frames a message or belongs to
/// one connection (RFC 9110, sections 7.6.1, 8.6 and 10.1.1).
const TAKEN: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "retry-attempt",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-prometheus-remote-write-version",
];

/// What names begin with that are for proxies; they go no further than the next one.
const TAKEN_PREFIX: &str = "proxy-";

/// Checks `headers` among the fields of a hub.
pub(super) fn headers(
    report: &mut Report,
    fields: &Fields<'_>,
) -> Result<Vec<HubHeader>, Reported> {
    let Some(mapping) = fields.get("headers") else {
        return Ok(Vec::new());
    };
    let pairs = mapping.pairs(report)?;
    if pairs.len() > HEADERS_MAX {
        let message = format!("holds more than {HEADERS_MAX} headers");
        return Err(mapping.fail(report, message));
    }
    let mut seen = HashMap::new();
    let mut headers = Vec::new();
    for (at, written, value) in pairs {
        let fail = |message| report.add(mapping.file, Some(at), &mapping.key, message);
        let name = name(written).and_then(|name| claim(&mut seen, name, at));
        let name = name.map_err(fail);
        let value = value.read(report, HubHeaderValue::parse);
        headers.push(name.and_then(|name| {
            Ok(HubHeader {
                name,
                value: value?,
            })
        }));
    }
    headers.into_iter().collect()
}

fn name(written: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(written.as_bytes()).map_err(
        |_| "this key is no name of a header; allowed: letters, digits and any of !#$%&'*+-.^_`|~",
    )?;
    if TAKEN.contains(&name.as_str()) || name.as_str().starts_with(TAKEN_PREFIX) {
        return Err(format!(
            "{name} is set by hubgate or belongs to the connection; allowed: any header but {}, \
             {TAKEN_PREFIX}*",
            TAKEN.join(", ")
        ));
    }
    Ok(name)
}

/// Takes a name that did not stand before.
fn claim(
    seen: &mut HashMap<HeaderName, Position>,
    name: HeaderName,
    at: Position,
) -> Result<HeaderName, String> {
    match seen.insert(name.clone(), at) {
        Some(first) => Err(format!(
            "this header is given twice, as case does not count; also at {first}"
        )),
        None => Ok(name),
    }
}
