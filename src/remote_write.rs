//! What both sides of HTTP share in remote write: paths, media types and headers.
//!
//! The listener reads them from spokes, and the client writes them to hubs. The messages themselves
//! are in [`crate::wire`], which knows no HTTP.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::wire::{Counts, Kind, Protocol};

/// The path at which Prometheus takes remote writes.
pub const WRITE_PATH: &str = "/api/v1/write";

/// The paths at which Prometheus, Mimir and Thanos take remote writes.
pub const PATHS: [&str; 3] = [WRITE_PATH, "/api/v1/push", "/api/v1/receive"];

/// The media type of both messages, without parameters.
pub const MEDIA_TYPE: &str = "application/x-protobuf";

/// The sender's number of attempts (remote write 2.0, "Retries").
pub const RETRY_ATTEMPT: HeaderName = HeaderName::from_static("retry-attempt");

/// The version of remote write that a sender speaks.
pub const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");

/// The numbers of samples, histograms and exemplars that were written, in the order of [`Counts`];
/// metadata has none (remote write 2.0, "Required Written Response Headers").
pub const WRITTEN: [HeaderName; 3] = [
    HeaderName::from_static("x-prometheus-remote-write-samples-written"),
    HeaderName::from_static("x-prometheus-remote-write-histograms-written"),
    HeaderName::from_static("x-prometheus-remote-write-exemplars-written"),
];

/// Most samples of a kind that a hub is believed to have written of one request.
const WRITTEN_MAX: u64 = u32::MAX as u64;

/// Most seconds of Retry-After that a hub is believed or a spoke is told.
pub const RETRY_AFTER_SECONDS_MAX: u64 = 30;

/// The canonical Content-Type of a message. Prometheus splits it at `;` without trimming, so a
/// space before `proto=` would make it read the body as V1 (client_golang
/// `exp/api/remote/remote_api.go`).
pub fn content_type(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::V1 => MEDIA_TYPE,
        Protocol::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    }
}

/// The value of [`VERSION`] for a message.
pub fn version(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::V1 => "0.1.0",
        Protocol::V2 => "2.0.0",
    }
}

/// Puts the headers of a request with a message of `protocol`, but for its encoding.
pub fn insert_message_headers(headers: &mut HeaderMap, protocol: Protocol) {
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(content_type(protocol)),
    );
    headers.insert(VERSION, HeaderValue::from_static(version(protocol)));
}

/// Reads the Written headers; `None` when there is none of them. One that is missing beside another
/// is 0, and one that no request can reach is cut, so that sums of them cannot overflow.
pub fn written(headers: &HeaderMap) -> Option<Counts> {
    let number = |name| -> Option<u64> {
        let number: u64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
        Some(number.min(WRITTEN_MAX))
    };
    let numbers = WRITTEN.map(number);
    if numbers.iter().all(Option::is_none) {
        return None;
    }
    let [samples, histograms, exemplars] = numbers.map(Option::unwrap_or_default);
    Some(Counts::new([samples, histograms, exemplars, 0]))
}

/// Puts the Written headers.
pub fn insert_written(headers: &mut HeaderMap, written: &Counts) {
    for (name, kind) in WRITTEN.into_iter().zip(Kind::ALL) {
        headers.insert(name, written.of(kind).into());
    }
}

/// The sender's number of attempts, when it is a number above 0.
pub fn retry_attempt(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(RETRY_ATTEMPT)?;
    let attempt: u32 = value.to_str().ok()?.parse().ok()?;
    (attempt > 0).then(|| attempt.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_headers_are_read_as_they_are_put() {
        let mut headers = HeaderMap::new();
        assert_eq!(written(&headers), None);
        let counts = Counts::new([3, 2, 1, 0]);
        insert_written(&mut headers, &counts);
        assert_eq!(written(&headers), Some(counts));
        headers.remove(&WRITTEN[1]);
        headers.insert(&WRITTEN[2], HeaderValue::from_static(" 7 "));
        assert_eq!(written(&headers), Some(Counts::new([3, 0, 7, 0])));
        headers.clear();
        headers.insert(&WRITTEN[0], HeaderValue::from_static("many"));
        assert_eq!(written(&headers), None);
        for name in WRITTEN {
            headers.insert(name, HeaderValue::from(u64::MAX));
        }
        let sum = written(&headers).map(|counts| counts.total());
        assert_eq!(sum, Some(3 * WRITTEN_MAX));
    }

    #[test]
    fn an_attempt_is_a_number_above_0() {
        for (value, expected) in [
            ("1", Some("1")),
            ("007", Some("7")),
            ("0", None),
            ("-1", None),
            ("99999999999", None),
            ("", None),
        ] {
            let header = (RETRY_ATTEMPT, HeaderValue::from_static(value));
            let attempt = retry_attempt(&HeaderMap::from_iter([header]));
            assert_eq!(attempt.as_ref().and_then(|it| it.to_str().ok()), expected);
        }
    }
}
