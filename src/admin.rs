//! The admin listener: metrics, health, reload, and what is known of the spokes.
//!
//! For operators and scrapers; it answers whoever reaches it, so it shows nothing that is secret
//! and binds to loopback by default.

mod status;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Json};
use axum::routing::{get, post};
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tower::ServiceExt;

use crate::gateway::Shared;
use crate::listener::{AnswerBody, Handler};

/// The text format that [`crate::metrics::Metrics::encode`] writes.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers the requests of the admin listener.
#[derive(Debug)]
pub struct Admin {
    router: Router,
}

impl Admin {
    /// Shows the state of `shared`.
    pub fn new(shared: Arc<Shared>) -> Self {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/-/healthy", get(healthy))
            .route("/-/ready", get(ready))
            .route("/-/reload", post(reload))
            .route("/api/v1/spokes", get(spokes))
            .with_state(shared);
        Self { router }
    }
}

impl Handler for Admin {
    async fn handle(
        self: Arc<Self>,
        _peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Response<AnswerBody> {
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    match shared.metrics().encode() {
        Ok(text) => ([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot encode the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn healthy() -> &'static str {
    "hubgate is healthy.\n"
}

async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    if shared.ready() {
        (StatusCode::OK, "hubgate is ready.\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "hubgate is shutting down.\n",
        )
    }
}

async fn reload(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    match shared.request_reload().await {
        Ok(()) => (StatusCode::OK, "the configuration is reloaded\n".to_owned()),
        Err(errors) => {
            let text = format!("the old configuration stays in force:\n{errors}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}

async fn spokes(State(shared): State<Arc<Shared>>) -> Json<status::Status> {
    Json(status::Status::of(&shared))
}
