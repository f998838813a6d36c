//! Why a spoke has to send a request again, and what it is told.

use http::StatusCode;

use crate::reasons::HubFailure;
use crate::rewrite::RewriteError;

use super::response::HubResponse;

/// A request that the spoke has to send again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The status for the spoke.
    pub status: StatusCode,
    /// What the spoke is told.
    pub reason: String,
    /// What only the log is told, since it may describe the hub's side.
    pub(super) detail: String,
    /// When the spoke is to send again.
    pub retry_after: RetryAfter,
    /// A hub took the request or a part of it, perhaps another hub than the one that failed.
    pub(super) reached_a_hub: bool,
}

impl Failed {
    /// There is no response of the hub.
    pub fn no_response(failure: HubFailure) -> Self {
        let status = match failure {
            HubFailure::Connect | HubFailure::Reset | HubFailure::Tls => StatusCode::BAD_GATEWAY,
            HubFailure::Busy { .. } | HubFailure::Skipped => StatusCode::SERVICE_UNAVAILABLE,
            HubFailure::Timeout => StatusCode::GATEWAY_TIMEOUT,
        };
        Self {
            status,
            reason: failure.to_string(),
            detail: failure.to_string(),
            retry_after: match failure {
                HubFailure::Busy { seconds } => RetryAfter::Seconds(seconds),
                _ => RetryAfter::Soon,
            },
            reached_a_hub: false,
        }
    }

    /// The hub responded to a V2 message with a success that does not say what was written.
    pub(super) fn silent(response: &HubResponse) -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            reason: "the hub did not say what it wrote, so it may not speak remote write 2.0"
                .to_owned(),
            detail: detail(response),
            retry_after: RetryAfter::Soon,
            reached_a_hub: false,
        }
    }

    /// The hub has a fault, or it refuses hubgate itself, which is a fault of the set-up.
    pub(super) fn hub_fault(response: &HubResponse) -> Self {
        let (status, otherwise) = match response.status.as_u16() {
            // Most senders drop what is answered 429.
            429 => (StatusCode::SERVICE_UNAVAILABLE, RetryAfter::Soon),
            500 | 502 | 504 => (response.status, RetryAfter::Unsaid),
            503 => (response.status, RetryAfter::Soon),
            _ => (StatusCode::BAD_GATEWAY, RetryAfter::Unsaid),
        };
        let reason = match response.status.as_u16() {
            415 => {
                "the hub answered 415 to every version of remote write that its protocol setting \
                 allows"
                    .to_owned()
            }
            code => format!("the hub answered {code}"),
        };
        let advice = match response.status.as_u16() {
            401 | 403 => "; it refuses hubgate, so check the credentials of the hub",
            _ => "",
        };
        Self {
            status,
            reason,
            detail: detail(response) + advice,
            retry_after: match response.retry_after {
                Some(seconds @ 1..) => RetryAfter::Seconds(seconds),
                _ => otherwise,
            },
            reached_a_hub: false,
        }
    }

    /// The hub wants other TLS than hubgate speaks.
    pub(super) fn tls(response: &HubResponse, advice: &str) -> Self {
        let failed = Self::hub_fault(response);
        Self {
            detail: format!("{}; {advice}", failed.detail),
            ..failed
        }
    }

    /// The hub is too slow for the further requests that would find the bad samples of this one.
    pub(super) fn slow() -> Self {
        let reason = "the hub refused some samples and is too slow to find out which";
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason: reason.to_owned(),
            detail: reason.to_owned(),
            retry_after: RetryAfter::Soon,
            reached_a_hub: false,
        }
    }

    /// The further requests that would find the bad samples of this one waited for those of others.
    pub(super) fn crowded() -> Self {
        let reason = "the hub refused some samples and has too much to do to find out which";
        Self {
            reason: reason.to_owned(),
            detail: reason.to_owned(),
            ..Self::slow()
        }
    }

    /// The request waited here for so long that the hub was not asked.
    pub(super) fn late() -> Self {
        let reason = "the request waited for too long; try again";
        Self {
            reason: reason.to_owned(),
            detail: reason.to_owned(),
            ..Self::slow()
        }
    }

    /// The hub took a part of the request, and the requests or the time for the rest ran out.
    pub(super) fn unfinished() -> Self {
        let reason = "the hub takes the request in parts, and not all of them are sent";
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason: reason.to_owned(),
            detail: reason.to_owned(),
            retry_after: RetryAfter::Soon,
            reached_a_hub: false,
        }
    }

    /// The hub refuses samples of the present as too old, and takes none.
    pub(super) fn ahead(response: &HubResponse) -> Self {
        let reason = "the hub refuses samples of the present as out of bounds, so its newest sample \
                      may be ahead of the clock";
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason: reason.to_owned(),
            detail: format!("{reason}: {}", detail(response)),
            retry_after: RetryAfter::Soon,
            reached_a_hub: false,
        }
    }

    /// hubgate could not make what the hub is to get.
    pub(super) fn here(error: &RewriteError) -> Self {
        let detail = error.to_string();
        match error {
            RewriteError::Crowded(_) | RewriteError::Overloaded(_) => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                reason: detail.clone(),
                detail,
                retry_after: RetryAfter::Soon,
                reached_a_hub: false,
            },
            _ => Self {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                reason: "internal error; the log of hubgate says more".to_owned(),
                detail,
                retry_after: RetryAfter::Unsaid,
                reached_a_hub: false,
            },
        }
    }
}

/// When the spoke is to send again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// Nothing is said: the sender's own backoff suits, or there is nothing to send again.
    Unsaid,
    /// In a few seconds.
    Soon,
    /// In the seconds that the hub named.
    Seconds(u64),
}

/// What the hub answered, for the log. Its text may be empty.
fn detail(response: &HubResponse) -> String {
    let answered = format!("the hub answered {}", response.status.as_u16());
    if response.text.is_empty() {
        answered
    } else {
        format!("{answered}: {}", response.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_the_hub_is_never_a_4xx() {
        use RetryAfter::{Seconds, Soon, Unsaid};
        let rows = [
            (401, None, 502, Unsaid),
            (403, None, 502, Unsaid),
            (404, None, 502, Unsaid),
            (415, None, 502, Unsaid),
            (429, None, 503, Soon),
            (429, Some(7), 503, Seconds(7)),
            (301, None, 502, Unsaid),
            (500, None, 500, Unsaid),
            (500, Some(3), 500, Seconds(3)),
            (502, None, 502, Unsaid),
            (503, None, 503, Soon),
            (503, Some(0), 503, Soon),
            (504, None, 504, Unsaid),
            (599, None, 502, Unsaid),
        ];
        for (hub, said, status, retry_after) in rows {
            let failed = Failed::hub_fault(&HubResponse {
                status: StatusCode::from_u16(hub).unwrap(),
                written: None,
                retry_after: said,
                text: "secret of the hub".to_owned(),
                date: None,
            });
            assert_eq!(failed.status.as_u16(), status, "{hub}");
            assert_eq!(failed.retry_after, retry_after, "{hub}");
            assert!(
                !failed.reason.contains("secret"),
                "{hub}: {}",
                failed.reason
            );
            let logged = format!("the hub answered {hub}: secret of the hub");
            let is_refused = [401, 403].contains(&hub);
            assert!(failed.detail.starts_with(&logged), "{}", failed.detail);
            assert_eq!(failed.detail.contains("credentials"), is_refused, "{hub}");
        }
    }
}
