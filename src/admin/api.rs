//! The API of the admin port, `/api/v1/...`: what the status page and `hubgate status` show, as JSON.
//!
//! Within v1, fields are added and none is taken away or changes its meaning. `schema.json`
//! describes each answer, and a test holds them to it. Times are seconds since the Unix epoch; the time of
//! an event that never happened is null.
//!
//! A client that asks again sends the `ETag` of the last answer as `If-None-Match`, and gets 304 as long as
//! nothing changed. With `since` it gets of the history the steps that it does not have yet, and of the spokes what
//! changed.

mod ahead;
mod capture;
mod changes;
mod door;
mod gate;
mod history;
mod hubs;
mod reasons;
mod sentence;
mod spoke;
mod spokes;

use std::hash::{BuildHasher, Hasher};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use foldhash::fast::FixedState;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::Sources;

/// The answers that may be made at once, as of the pages of metrics.
static ANSWERS: Semaphore = Semaphore::const_new(1);

/// The routes of the API.
pub(super) fn router() -> Router<Sources> {
    Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/spokes", get(list))
        .route("/api/v1/spokes/{name}", get(one))
        .route("/api/v1/spokes/{name}/capture", post(capture::capture))
        .route("/api/v1/history", get(all_histories))
        .route("/api/v1/hubs", get(all_hubs))
        .route("/api/v1/reasons", get(all_reasons))
        .route("/api/v1/schema.json", get(schema))
}

async fn status(State(sources): State<Sources>, headers: HeaderMap) -> Response<Body> {
    answer(headers, move || gate::Status::of(&sources)).await
}

async fn list(State(sources): State<Sources>, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let Ok(since) = since(&uri) else {
        return only_since("the version of an answer");
    };
    let since = since.map(str::to_owned);
    answer(headers, move || {
        changes::Answer::of(&sources, since.as_deref())
    })
    .await
}

async fn one(
    State(sources): State<Sources>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let state = sources.state.load();
    match spoke::Detail::of(&state, &name) {
        Some(detail) => answer(headers, move || detail).await,
        None => (StatusCode::NOT_FOUND, "no spoke has this name\n").into_response(),
    }
}

async fn all_histories(
    State(sources): State<Sources>,
    uri: Uri,
    headers: HeaderMap,
) -> Response<Body> {
    let since = since(&uri).and_then(|since| since.map(str::parse).transpose().map_err(drop));
    let Ok(since) = since else {
        return only_since("the number of a step");
    };
    answer(headers, move || {
        history::Histories::of(&sources.state.load(), since)
    })
    .await
}

/// What the client has already, if it says so.
fn since(uri: &Uri) -> Result<Option<&str>, ()> {
    let parameter = uri.query().map(|query| query.strip_prefix("since="));
    parameter.map(|it| it.ok_or(())).transpose()
}

fn only_since(what: &str) -> Response<Body> {
    let text = format!("the only parameter is since, {what}\n");
    (StatusCode::BAD_REQUEST, text).into_response()
}

async fn all_hubs(State(sources): State<Sources>, headers: HeaderMap) -> Response<Body> {
    answer(headers, move || hubs::Hubs::of(&sources.state.load())).await
}

async fn all_reasons(headers: HeaderMap) -> Response<Body> {
    answer(headers, reasons::Reasons::all).await
}

async fn schema() -> impl IntoResponse {
    const SCHEMA: &str = include_str!("api/schema.json");
    ([(CONTENT_TYPE, "application/schema+json")], SCHEMA)
}

/// Makes an answer and encodes it as one line of JSON, or says that it is the one that the client has.
/// With many spokes that takes longer than requests may wait for a thread of the runtime.
async fn answer<T: Serialize>(
    headers: HeaderMap,
    content: impl FnOnce() -> T + Send + 'static,
) -> Response<Body> {
    let permit = ANSWERS.acquire().await;
    let encode = move || {
        let _permit = permit;
        serde_json::to_string(&content()).map(|json| json + "\n")
    };
    let json = match tokio::task::spawn_blocking(encode).await {
        Ok(Ok(json)) => json,
        failed => {
            tracing::error!(?failed, "cannot encode an answer of the API");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let tag = tag(&json);
    let known = headers.get_all(IF_NONE_MATCH).iter().any(|it| *it == tag);
    // A page that was restored from a cache of the browser would show an old state as the present one.
    let caching = (CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if known {
        return (StatusCode::NOT_MODIFIED, [(ETAG, tag), caching]).into_response();
    }
    let json_type = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ([(ETAG, tag), caching, json_type], json).into_response()
}

/// The entity tag of an answer. It tells a client what has changed and protects nothing.
fn tag(json: &str) -> HeaderValue {
    let mut hasher = FixedState::with_seed(0).build_hasher();
    hasher.write(json.as_bytes());
    let tag = format!("\"{:016x}\"", hasher.finish());
    HeaderValue::try_from(tag).expect("hexadecimal digits are visible ASCII")
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// The time, or none for 0, which means never.
fn ever(seconds: f64) -> Option<f64> {
    (seconds != 0.0).then_some(seconds)
}
