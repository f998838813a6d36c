//! Who may use the admin port: whoever has one of `admin.credentials`, and everybody without those.
//!
//! Health checks need no credential. A kubelet sends none, and they tell nothing that a connection does
//! not tell.

use std::net::IpAddr;

use axum::body::Body;
use axum::response::IntoResponse;
use http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};

use crate::identify::{NotIdentified, Operator, challenges};
use crate::reasons::AuthFailure;
use crate::state::State;

/// The paths that need no credential.
const OPEN: [&str; 2] = ["/-/healthy", "/-/ready"];

/// When a password may be checked that others kept from its check.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Checks the credential of a request from an address, and returns whose it is, if it needs one.
pub(super) async fn check(
    head: &Parts,
    address: IpAddr,
    state: &State,
) -> Result<Option<Operator>, NotIdentified> {
    match &state.operators {
        Some(operators) if !OPEN.contains(&head.uri.path()) => {
            let operator = operators.identify(&head.headers, None, address).await;
            operator.map(Some)
        }
        _ => Ok(None),
    }
}

/// The response to a request whose sender is not identified.
pub(super) fn refusal(reason: NotIdentified) -> Response<Body> {
    let (status, text) = match reason {
        NotIdentified::Busy | NotIdentified::KeysUnavailable | NotIdentified::NotYetValid => {
            (StatusCode::SERVICE_UNAVAILABLE, reason.to_string())
        }
        NotIdentified::Internal => (StatusCode::INTERNAL_SERVER_ERROR, reason.to_string()),
        NotIdentified::Expired => (
            StatusCode::UNAUTHORIZED,
            advice(AuthFailure::Expired).to_owned(),
        ),
        NotIdentified::Unauthenticated(failure) => {
            (StatusCode::UNAUTHORIZED, advice(failure).to_owned())
        }
    };
    let mut response = (status, text + "\n").into_response();
    let headers = response.headers_mut();
    match status {
        StatusCode::UNAUTHORIZED => {
            for challenge in challenges(false) {
                headers.append(WWW_AUTHENTICATE, challenge);
            }
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        _ => {}
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// What is wrong and what an operator can do about it.
fn advice(failure: AuthFailure) -> &'static str {
    match failure {
        AuthFailure::Missing => {
            "no credential; the admin port asks for one of admin.credentials, so set authorization or \
             basic_auth in the scrape config"
        }
        AuthFailure::Unknown => {
            "admin.credentials has no such credential; check the token or password"
        }
        other => other.advice(),
    }
}
