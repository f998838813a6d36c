//! From the text of one value to its type, or to what is allowed.
//!
//! Pure functions without places; the caller knows where the text stands. None is used for secrets,
//! so messages may quote the text.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use http::Uri;
use http::uri::Scheme;
use ipnet::IpNet;

use super::entry::quote;
use crate::config::defaults::{COUNT_CEILING, SALVAGE_REQUESTS_CEILING, TIMEOUT_CEILING};
use crate::config::source_ranges::parse_range;
use crate::config::{Absent, Ack, HubMetadata, HubProtocol, Mismatch};
use crate::reasons::UNKNOWN;

/// Longest name of a spoke or hub; a spoke's becomes a label value of every series.
const NAME_BYTES_MAX: usize = 128;

/// Reads `labels.absent`.
pub(super) fn absent(text: &str) -> Result<Absent, String> {
    match text {
        "inject" => Ok(Absent::Inject),
        "reject" => Ok(Absent::Reject),
        _ => Err(format!(
            "unknown value {}; allowed: inject, reject",
            quote(text)
        )),
    }
}

/// Reads `labels.mismatch`.
pub(super) fn mismatch(text: &str) -> Result<Mismatch, String> {
    match text {
        "overwrite" => Ok(Mismatch::Overwrite),
        "reject" => Ok(Mismatch::Reject),
        "rename" => Ok(Mismatch::Rename),
        _ => Err(format!(
            "unknown value {}; allowed: reject, rename, overwrite",
            quote(text)
        )),
    }
}

/// Reads `ack`.
pub(super) fn ack(text: &str) -> Result<Ack, String> {
    match text {
        "all" => Ok(Ack::All),
        "any" => Ok(Ack::Any),
        _ => Err(format!("unknown value {}; allowed: all, any", quote(text))),
    }
}

/// Reads `protocol` of a hub.
pub(super) fn hub_protocol(text: &str) -> Result<HubProtocol, String> {
    match text {
        "auto" => Ok(HubProtocol::Auto),
        "v1" => Ok(HubProtocol::V1),
        "v2" => Ok(HubProtocol::V2),
        _ => Err(format!(
            "unknown value {}; allowed: auto, v1, v2",
            quote(text)
        )),
    }
}

/// Reads `metadata` of a hub.
pub(super) fn hub_metadata(text: &str) -> Result<HubMetadata, String> {
    match text {
        "drop" => Ok(HubMetadata::Drop),
        "forward_v1" => Ok(HubMetadata::ForwardV1),
        _ => Err(format!(
            "unknown value {}; allowed: drop, forward_v1",
            quote(text)
        )),
    }
}

/// Reads an address to bind.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "{} is no address; write IP:PORT, such as 0.0.0.0:9480 or [::]:9480",
            quote(text)
        )
    })
}

/// Reads the number of things that are counted one by one.
pub(super) fn count(text: &str) -> Result<usize, String> {
    whole_number(text, 1, COUNT_CEILING)
}

/// Reads how many further requests a hub may get for one of a spoke. A cut takes two.
pub(super) fn salvage_requests(text: &str) -> Result<usize, String> {
    match whole_number(text, 0, SALVAGE_REQUESTS_CEILING) {
        Ok(1) => Err(format!(
            "1 is too few, as a cut takes two; write 0 for none, or up to {SALVAGE_REQUESTS_CEILING}"
        )),
        checked => checked,
    }
}

fn whole_number(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            format!(
                "{} is no count; write a whole number from {least} to {most}",
                quote(text)
            )
        })
}

/// Reads a number of bytes from 1 to the ceiling.
pub(super) fn size(ceiling: u64) -> impl FnOnce(&str) -> Result<usize, String> {
    move |text| {
        let bytes = text.parse::<ByteSize>().map(|size| size.as_u64());
        let bytes = bytes.map_err(|_| {
            format!(
                "{} is no size; write 32MiB, 500kB or bytes as a number",
                quote(text)
            )
        })?;
        let in_range = (1..=ceiling).contains(&bytes).then_some(bytes);
        in_range
            .and_then(|bytes| usize::try_from(bytes).ok())
            .ok_or_else(|| {
                let most = ByteSize::b(ceiling);
                format!("{} is out of range; allowed: 1 byte to {most}", quote(text))
            })
    }
}

/// Reads a time to wait.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| format!("{} is no duration; write 25s or 1m30s", quote(text)))?;
    if duration.is_zero() || duration > TIMEOUT_CEILING {
        let most = humantime::format_duration(TIMEOUT_CEILING);
        return Err(format!(
            "{} is out of range; allowed: above 0 to {most}",
            quote(text)
        ));
    }
    Ok(duration)
}

/// Reads a CIDR or an address.
pub(super) fn range(text: &str) -> Result<IpNet, String> {
    parse_range(text).ok_or_else(|| {
        format!(
            "{} is no source range; write a CIDR such as 203.0.113.0/24 or 2001:db8::/32, \
             or one address",
            quote(text)
        )
    })
}

/// Reads the name of the label that holds the spoke's name.
pub(super) fn label_name(text: &str) -> Result<String, String> {
    let mut bytes = text.bytes();
    let starts = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let goes_on = bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !(starts && goes_on) {
        let message = "is no label name; it must match [a-zA-Z_][a-zA-Z0-9_]*";
        return Err(format!("{} {message}", quote(text)));
    }
    if text == "__name__" {
        return Err("__name__ is the metric's name; choose another label".to_owned());
    }
    Ok(text.to_owned())
}

/// Reads the name of a spoke.
pub(super) fn spoke_name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty; it is the value of the spoke's cluster label".to_owned());
    }
    check_name(text)?;
    if text == UNKNOWN {
        return Err(format!(
            "{UNKNOWN:?} stands for senders that are no spoke in metrics; choose another name"
        ));
    }
    Ok(text.to_owned())
}

/// Reads the name of a hub.
pub(super) fn hub_name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty; leave the key out to name the hub after its url".to_owned());
    }
    check_name(text)?;
    Ok(text.to_owned())
}

fn check_name(text: &str) -> Result<(), String> {
    if text.len() > NAME_BYTES_MAX {
        return Err(format!("is longer than {NAME_BYTES_MAX} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("holds a control character".to_owned());
    }
    if text.trim() != text {
        return Err("begins or ends with a space".to_owned());
    }
    Ok(())
}

/// Reads a path as it is written.
pub(super) fn path(text: &str) -> Result<&Path, String> {
    if text.is_empty() {
        return Err("is empty; write the path of a file".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("holds a control character".to_owned());
    }
    Ok(Path::new(text))
}

/// Reads the URL of a hub. Messages do not quote it: it may hold a password.
pub(super) fn hub_url(text: &str) -> Result<Uri, String> {
    let wanted = "write http://HOST:PORT/PATH, such as http://127.0.0.1:9090/api/v1/write";
    if text
        .get(..8)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
    {
        return Err(format!("https is not supported yet; {wanted}"));
    }
    let url: Uri = text.parse().map_err(|_| format!("is no URL; {wanted}"))?;
    let authority = url
        .authority()
        .filter(|_| url.scheme() == Some(&Scheme::HTTP));
    let Some(authority) = authority.filter(|authority| !authority.host().is_empty()) else {
        return Err(format!("is no absolute http:// URL; {wanted}"));
    };
    if authority.as_str().contains('@') {
        return Err(format!("must not hold a user name or password; {wanted}"));
    }
    if text.contains('#') {
        return Err(format!("must not hold a fragment (#...); {wanted}"));
    }
    Ok(url)
}
