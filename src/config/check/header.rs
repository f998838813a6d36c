//! Checks `headers` of a hub.
//!
//! A value may be a credential, and it still is one when it was pasted in the place of a name. A
//! message therefore quotes neither and gives only the position. The only names that it shows are
//! the reserved ones.

use std::collections::HashMap;

use http::HeaderName;

use super::entry::Fields;
use crate::config::errors::{Position, Report, Reported};
use crate::config::{HubHeader, HubHeaderValue};

/// Far more than a hub needs, and far fewer than a server accepts in a request.
const HEADERS_MAX: usize = 32;

/// Headers that hubgate sets itself or leaves out for a reason, and headers that frame a message or
/// belong to one connection (RFC 9110, sections 7.6.1, 8.6 and 10.1.1).
const RESERVED: &[&str] = &[
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

/// Prefix of the headers that are for the next proxy only.
const RESERVED_PREFIX: &str = "proxy-";

/// Checks the field `headers` of a hub.
pub(super) fn headers(
    report: &mut Report,
    fields: &Fields<'_>,
) -> Result<Vec<HubHeader>, Reported> {
    let Some(mapping) = fields.get("headers") else {
        return Ok(Vec::new());
    };
    let pairs = mapping.pairs(report)?;
    if pairs.len() > HEADERS_MAX {
        let message = format!("contains more than {HEADERS_MAX} headers");
        return Err(mapping.fail(report, message));
    }
    let mut positions = HashMap::new();
    let mut headers = Vec::new();
    for (at, key, value) in pairs {
        let fail = |message| report.add(mapping.file, Some(at), &mapping.key, message);
        let name = header_name(key).and_then(|name| require_new(&mut positions, name, at));
        let name = name.map_err(fail);
        let value = value.parse(report, HubHeaderValue::parse);
        headers.push(name.and_then(|name| {
            Ok(HubHeader {
                name,
                value: value?,
            })
        }));
    }
    headers.into_iter().collect()
}

fn header_name(key: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(key.as_bytes()).map_err(
        |_| "this key is not a header name; allowed: letters, digits and any of !#$%&'*+-.^_`|~",
    )?;
    if RESERVED.contains(&name.as_str()) || name.as_str().starts_with(RESERVED_PREFIX) {
        return Err(format!(
            "{name} is set by hubgate or belongs to the connection; allowed: any header except {}, \
             {RESERVED_PREFIX}*",
            RESERVED.join(", ")
        ));
    }
    Ok(name)
}

/// Returns the name unless it was given before.
fn require_new(
    positions: &mut HashMap<HeaderName, Position>,
    name: HeaderName,
    at: Position,
) -> Result<HeaderName, String> {
    match positions.insert(name.clone(), at) {
        Some(first) => Err(format!(
            "this header is given twice (names ignore case); the first is at {first}"
        )),
        None => Ok(name),
    }
}
