//! Puts an answer or a refusal into an HTTP response.

use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full};

use crate::forward::outcome::RetryAfter;
use crate::identify;
use crate::listener::ResponseBody;
use crate::remote_write::{self, RETRY_AFTER_SECONDS_MAX};
use crate::wire::{Counts, Protocol};

use super::answer::{self, Answer};
use super::record::Progress;
use super::refusal::Refusal;

/// Seconds of Retry-After where the hub names none; spread so that spokes do not retry together.
const RETRY_AFTER_SECONDS: std::ops::RangeInclusive<u64> = 1..=5;

/// The response to a request that was decoded.
pub(super) fn with_answer(answer: &Answer) -> Response<ResponseBody> {
    let mut response = plain(answer.status, &answer.text);
    let headers = response.headers_mut();
    if let Some(written) = answer.written {
        remote_write::insert_written(headers, &written);
    }
    let seconds = match answer.retry_after {
        RetryAfter::Unsaid => None,
        RetryAfter::Soon => Some(fastrand::u64(RETRY_AFTER_SECONDS)),
        RetryAfter::Seconds(seconds) => Some(jittered(seconds)),
    };
    if let Some(seconds) = seconds {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// The response to a request that was refused whole.
pub(super) fn with_refusal(progress: &Progress, refusal: &Refusal) -> Response<ResponseBody> {
    let status = progress.status(refusal);
    let spoke = progress.spoke.as_ref().map(|spoke| spoke.name.as_str());
    let mut response = plain(status, &text(spoke, refusal));
    let headers = response.headers_mut();
    match status {
        StatusCode::UNAUTHORIZED => {
            let invalid_token = match refusal {
                Refusal::Unauthenticated(failure) => failure.is_of_token(),
                _ => false,
            };
            for challenge in identify::challenges(invalid_token) {
                headers.append(WWW_AUTHENTICATE, challenge);
            }
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            let seconds = match refusal.wait() {
                Some(wait) => jittered(wait.as_secs() + 1),
                None => fastrand::u64(RETRY_AFTER_SECONDS),
            };
            headers.insert(RETRY_AFTER, seconds.into());
        }
        _ => {}
    }
    // Spokes may keep idle connections; senders that are not identified may not.
    if progress.spoke.is_none() && status.is_client_error() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // After a successful negotiation a V2 sender is owed the counts, and nothing was written.
    if progress.protocol == Some(Protocol::V2) && status.is_client_error() {
        remote_write::insert_written(headers, &Counts::default());
    }
    response
}

/// The text of the response to a request that was refused whole, of a spoke if its sender is one.
pub(super) fn text(spoke: Option<&str>, refusal: &Refusal) -> String {
    let reason = refusal.reason().name();
    match spoke {
        Some(spoke) => format!("spoke {spoke}: {reason}: {refusal}"),
        None => format!("{reason}: {refusal}"),
    }
}

/// Spreads the seconds that several senders are told alike, upward and within the cap.
fn jittered(seconds: u64) -> u64 {
    let seconds = seconds.min(RETRY_AFTER_SECONDS_MAX);
    fastrand::u64(seconds..=seconds + seconds / 2 + 1).min(RETRY_AFTER_SECONDS_MAX)
}

fn plain(status: StatusCode, text: &str) -> Response<ResponseBody> {
    let mut body = answer::cut(text.to_owned());
    if !body.is_empty() {
        body.push('\n');
    }
    let with_text = !body.is_empty();
    let body = Full::from(body).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    if with_text {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
    }
    response
}
