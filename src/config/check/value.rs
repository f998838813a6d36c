//! Parsers from the text of one value to its type. An error says what is allowed.
//!
//! They are pure functions that know no positions; the caller adds the position. A message may
//! quote the text, except where it may contain a secret: in the path of a token file.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;

use super::entry::quote;
use super::visible::check_visible;
use crate::config::defaults::{
    CONNECTION_AGE_CEILING, COUNT_CEILING, SALVAGE_REQUESTS_CEILING, SAMPLES_AGE_CEILING,
    SAMPLES_AHEAD_CEILING, TIMEOUT_CEILING, WEIGHT_CEILING,
};
use crate::config::source_ranges::parse_range;
use crate::config::{
    Absent, Ack, ForwardedFor, HubMetadata, HubProtocol, LimitAnswer, LimitMode, Mismatch,
    ProxyProtocol,
};
use crate::reasons::UNKNOWN;

/// Longest name of a spoke or hub. The name of a spoke becomes a label value of its series.
const NAME_BYTES_MAX: usize = 128;

/// Parses `labels.absent`.
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

/// Parses `labels.mismatch`.
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

/// Parses `limits.answer`.
pub(super) fn limit_answer(text: &str) -> Result<LimitAnswer, String> {
    match text {
        "429" => Ok(LimitAnswer::TooManyRequests),
        "503" => Ok(LimitAnswer::ServiceUnavailable),
        _ => Err(format!("unknown value {}; allowed: 503, 429", quote(text))),
    }
}

/// Parses `mode` of a limit, or of all of them.
pub(super) fn limit_mode(text: &str) -> Result<LimitMode, String> {
    match text {
        "enforce" => Ok(LimitMode::Enforce),
        "observe" => Ok(LimitMode::Observe),
        _ => Err(format!(
            "unknown value {}; allowed: enforce, observe",
            quote(text)
        )),
    }
}

/// Parses `ack`.
pub(super) fn ack(text: &str) -> Result<Ack, String> {
    match text {
        "all" => Ok(Ack::All),
        "any" => Ok(Ack::Any),
        _ => Err(format!("unknown value {}; allowed: all, any", quote(text))),
    }
}

/// Parses `protocol` of a hub.
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

/// Parses `metadata` of a hub.
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

/// Parses `proxy_protocol`.
pub(super) fn proxy_protocol(text: &str) -> Result<ProxyProtocol, String> {
    match text {
        "off" => Ok(ProxyProtocol::Off),
        "required" => Ok(ProxyProtocol::Required),
        _ => Err(format!(
            "unknown value {}; allowed: off, required",
            quote(text)
        )),
    }
}

/// Parses `forwarded_for`.
pub(super) fn forwarded_for(text: &str) -> Result<ForwardedFor, String> {
    match text {
        "off" => Ok(ForwardedFor::Off),
        "x_forwarded_for" => Ok(ForwardedFor::XForwardedFor),
        _ => Err(format!(
            "unknown value {}; allowed: off, x_forwarded_for",
            quote(text)
        )),
    }
}

/// Parses an address to bind. One without an IP is that of all interfaces, IPv6 and IPv4, as in
/// Prometheus.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').filter(|port| is_digits(port));
    let address = match port {
        Some(port) => format!("[::]:{port}").parse(),
        None => text.parse(),
    };
    address.map_err(|_| {
        format!(
            "{} is not an address; write IP:PORT, such as 127.0.0.1:9480, or :PORT for all \
             interfaces",
            quote(text)
        )
    })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses a count, which is at least 1.
pub(super) fn count(text: &str) -> Result<usize, String> {
    whole_number(text, 1, COUNT_CEILING)
}

/// Parses a count where 0 is no limit.
pub(super) fn count_or_none(text: &str) -> Result<Option<usize>, String> {
    let count = whole_number(text, 0, COUNT_CEILING)?;
    Ok(Some(count).filter(|count| *count > 0))
}

/// Parses the weight of a spoke.
pub(super) fn weight(text: &str) -> Result<NonZeroU32, String> {
    let weight: Option<NonZeroU32> = text.parse().ok().filter(|_| is_digits(text));
    weight
        .filter(|weight| weight.get() <= WEIGHT_CEILING)
        .ok_or_else(|| {
            format!(
                "{} is not a weight; write a whole number from 1 to {WEIGHT_CEILING}",
                quote(text)
            )
        })
}

/// Parses the number of additional requests that a hub may get for one request of a spoke. Each
/// halving of a request takes two.
pub(super) fn salvage_requests(text: &str) -> Result<usize, String> {
    match whole_number(text, 0, SALVAGE_REQUESTS_CEILING) {
        Ok(1) => Err(format!(
            "1 is too few, because a halved request takes two; write 0 for none, or 2 to \
             {SALVAGE_REQUESTS_CEILING}"
        )),
        checked => checked,
    }
}

fn whole_number(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|_| is_digits(text));
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            format!(
                "{} is not a count; write a whole number from {least} to {most}",
                quote(text)
            )
        })
}

/// Returns a parser of a number of bytes from 1 to `ceiling`.
pub(super) fn size(ceiling: u64) -> impl FnOnce(&str) -> Result<usize, String> {
    move |text| {
        let bytes = text.parse::<ByteSize>().map(|size| size.as_u64());
        let bytes = bytes.map_err(|_| {
            format!(
                "{} is not a size; write 32MiB, 500kB or a number of bytes",
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

/// Returns a parser of a number of bytes up to `ceiling`, where 0 is no limit.
pub(super) fn size_or_none(ceiling: u64) -> impl FnOnce(&str) -> Result<Option<usize>, String> {
    move |text| match text {
        "0" => Ok(None),
        _ => size(ceiling)(text).map(Some),
    }
}

/// Parses the time by which a sample may be behind, where 0 is no limit.
pub(super) fn samples_age(text: &str) -> Result<Option<Duration>, String> {
    samples_time(text, SAMPLES_AGE_CEILING)
}

/// Parses the time by which a sample may be ahead, where 0 is no limit.
pub(super) fn samples_ahead(text: &str) -> Result<Option<Duration>, String> {
    samples_time(text, SAMPLES_AHEAD_CEILING)
}

fn samples_time(text: &str, ceiling: Duration) -> Result<Option<Duration>, String> {
    let duration = any_duration(text)?;
    if duration > ceiling {
        let days = ceiling.as_secs() / (24 * 3600);
        return Err(format!(
            "{} is out of range; allowed: up to {days}d, or 0s for no limit",
            quote(text)
        ));
    }
    Ok(Some(duration).filter(|duration| !duration.is_zero()))
}

/// Parses the age of a connection, where 0 is no limit.
pub(super) fn connection_age(text: &str) -> Result<Option<Duration>, String> {
    let duration = any_duration(text)?;
    if duration > CONNECTION_AGE_CEILING {
        let hours = CONNECTION_AGE_CEILING.as_secs() / 3600;
        return Err(format!(
            "{} is out of range; allowed: up to {hours}h, or 0s for no limit",
            quote(text)
        ));
    }
    Ok(Some(duration).filter(|age| !age.is_zero()))
}

fn any_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("{} is not a duration; write 25s or 1m30s", quote(text)))
}

/// Parses a timeout.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = any_duration(text)?;
    if duration.is_zero() || duration > TIMEOUT_CEILING {
        let most = humantime::format_duration(TIMEOUT_CEILING);
        return Err(format!(
            "{} is out of range; allowed: above 0 to {most}",
            quote(text)
        ));
    }
    Ok(duration)
}

/// Parses a CIDR, or one address.
pub(super) fn range(text: &str) -> Result<IpNet, String> {
    parse_range(text).ok_or_else(|| {
        format!(
            "{} is not a source range; write a CIDR such as 203.0.113.0/24 or 2001:db8::/32, \
             or one address",
            quote(text)
        )
    })
}

/// Parses the name of the label that holds the spoke's name.
pub(super) fn label_name(text: &str) -> Result<String, String> {
    let mut bytes = text.bytes();
    let valid_start = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let valid_rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !(valid_start && valid_rest) {
        let message = "is not a label name; it must match [a-zA-Z_][a-zA-Z0-9_]*";
        return Err(format!("{} {message}", quote(text)));
    }
    if text == "__name__" {
        return Err("__name__ is the metric's name; choose another label".to_owned());
    }
    Ok(text.to_owned())
}

/// Parses the name of a spoke.
pub(in crate::config) fn spoke_name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty; it is the value of the spoke's cluster label".to_owned());
    }
    check_name(text)?;
    if text == UNKNOWN {
        return Err(format!(
            "in metrics, {UNKNOWN:?} means senders that are not a spoke; choose another name"
        ));
    }
    Ok(text.to_owned())
}

/// Parses the name of a hub.
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
    check_visible(text)
}

/// Parses the path of a file. Messages do not quote it: it may be a token by mistake.
pub(super) fn path(text: &str) -> Result<&Path, String> {
    if text.is_empty() {
        return Err("is empty; write the path of a file".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("contains a control character".to_owned());
    }
    Ok(Path::new(text))
}
