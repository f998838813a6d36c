//! The admin listener: the status page and its API, metrics, health, and reload.
//!
//! For operators and scrapers. It shows nothing that is secret, and binds to loopback by default. What
//! the web pages of others send is refused first, whatever credential a browser adds. Then, where
//! `admin.credentials` are set, one of them is needed.

mod access;
mod api;
mod origin;
pub mod reload;
mod ui;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::capture::Captures;
use crate::config::Credential;
use crate::identify::{Guesses, NotIdentified, Operator};
use crate::listener::{Drain, Handler, Peer, ResponseBody, Turn};
use crate::metrics::{Metrics, PageFormat};
use crate::state::State;
use crate::telemetry::SharedRepeats;

use origin::Foreign;
use reload::{LastLoad, Reloads};

/// The metrics pages that may be made at once. One takes milliseconds; more at once take a thread each,
/// and memory that the allocator keeps.
static PAGES: Semaphore = Semaphore::const_new(1);

/// The part of a header that a log line repeats.
const LOGGED_CHARS_MAX: usize = 100;

/// Answers the requests of the admin listener.
#[derive(Debug)]
pub struct Admin {
    router: Router,
    sources: Sources,
    bound: SocketAddr,
    /// A page can repeat its requests without end.
    refused: SharedRepeats,
    /// So can whoever has no credential.
    unidentified: SharedRepeats,
}

/// What the admin listener shows and asks.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The configuration in force.
    pub state: Arc<ArcSwap<State>>,
    /// The metrics of the process.
    pub metrics: Metrics,
    /// Who guesses credentials.
    pub guesses: Arc<Guesses>,
    /// What is captured of the requests of a spoke.
    pub captures: Arc<Captures>,
    /// The drain of the write listener; once it is announced, hubgate is not ready.
    pub writes: Drain,
    /// Who loads the configuration again.
    pub reloads: Reloads,
    /// How that ended the last time.
    pub last_load: Arc<ArcSwap<LastLoad>>,
    /// When hubgate started.
    pub started: SystemTime,
    /// The same by a clock that only goes forward.
    pub begun: Instant,
}

/// Who sends a request with a right credential.
#[derive(Debug, Clone)]
struct Asker {
    credential: Arc<Credential>,
    address: IpAddr,
}

impl Admin {
    /// Shows what `sources` hold, on a listener that is bound to an address.
    pub fn new(sources: Sources, bound: SocketAddr) -> Self {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/-/healthy", get(healthy))
            .route("/-/ready", get(ready))
            .route("/-/reload", post(reload))
            .merge(api::router())
            .merge(ui::router())
            .with_state(sources.clone());
        Self {
            router,
            sources,
            bound,
            refused: SharedRepeats::default(),
            unidentified: SharedRepeats::default(),
        }
    }

    async fn respond(
        &self,
        peer: &Peer,
        turn: &Turn,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let (mut head, body) = request.into_parts();
        if let Err(reason) = origin::check(&head, self.bound) {
            return self.refuse(&head, peer, reason);
        }
        let state = self.sources.state.load_full();
        match access::check(&head, peer.ip(), &state).await {
            Ok(Some(Operator(credential))) => {
                let address = peer.ip();
                let asker = Asker {
                    credential,
                    address,
                };
                head.extensions.insert(asker);
            }
            Ok(None) => {}
            Err(reason) => {
                // It must not fill buffers while the response is held back.
                drop(body);
                return self.deny(peer, turn, reason).await;
            }
        }
        let request = Request::from_parts(head, body);
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    fn refuse(&self, head: &Parts, peer: &Peer, reason: Foreign) -> Response<Body> {
        if let Some(count) = self.refused.add() {
            let header = |name| head.headers.get(name).map(HeaderValue::as_bytes);
            let [origin, host] = [ORIGIN, HOST].map(|name| {
                let value = String::from_utf8_lossy(header(name).unwrap_or_default());
                value.chars().take(LOGGED_CHARS_MAX).collect::<String>()
            });
            tracing::warn!(%peer, origin, host, count, "refused a request to the admin port");
        }
        (StatusCode::FORBIDDEN, format!("{reason}\n")).into_response()
    }

    /// Responds to a request without a right credential, after a while when its sender may be guessing.
    async fn deny(&self, peer: &Peer, turn: &Turn, reason: NotIdentified) -> Response<Body> {
        if let Some(failure) = reason.failure() {
            let Sources {
                metrics,
                guesses,
                writes,
                ..
            } = &self.sources;
            metrics.count_admin_auth_failure(failure);
            if let Some(count) = self.unidentified.add() {
                let failure = failure.name();
                tracing::warn!(%peer, failure, count, "no credential for the admin port");
            }
            if let Some(delay) = guesses.add(peer.ip(), failure) {
                metrics.count_auth_delayed();
                turn.idle();
                tokio::select! {
                    () = delay.passes() => {}
                    () = writes.begins() => {}
                }
            }
        }
        access::refusal(reason)
    }
}

impl Handler for Admin {
    async fn handle(
        self: Arc<Self>,
        peer: Peer,
        turn: Arc<Turn>,
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let response = self.respond(&peer, &turn, request).await;
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    }
}

async fn metrics(
    extract::State(sources): extract::State<Sources>,
    headers: HeaderMap,
) -> impl IntoResponse {
    let format = PageFormat::negotiate(&headers);
    let permit = PAGES.acquire().await;
    let encode = move || {
        let _permit = permit;
        let state = sources.state.load_full();
        for spoke in &state.spokes {
            // Some numbers change with time alone.
            spoke.limits_in_use();
        }
        sources.metrics.encode(format, state)
    };
    // With many spokes it takes longer than requests may wait for a thread of the runtime.
    match tokio::task::spawn_blocking(encode).await {
        Ok(Ok(page)) => {
            let page = Bytes::from_owner(page);
            ([(CONTENT_TYPE, format.content_type())], page).into_response()
        }
        failed => {
            tracing::error!(?failed, "cannot encode the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn healthy() -> &'static str {
    "hubgate is healthy.\n"
}

async fn ready(extract::State(sources): extract::State<Sources>) -> (StatusCode, &'static str) {
    if sources.writes.announced() {
        let text = "hubgate is shutting down.\n";
        (StatusCode::SERVICE_UNAVAILABLE, text)
    } else {
        (StatusCode::OK, "hubgate is ready.\n")
    }
}

async fn reload(extract::State(sources): extract::State<Sources>) -> (StatusCode, String) {
    match sources.reloads.request().await {
        Ok(()) => (StatusCode::OK, "the configuration is reloaded\n".to_owned()),
        Err(errors) => {
            let text = format!("the old configuration stays in force:\n{errors}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}
