//! `POST /api/v1/spokes/NAME/capture`: the next refused requests of a spoke, as they are refused.
//!
//! The answer is a line of JSON for each event: that the capture begins, each request with its body in
//! base64, and that it ended. An empty line each second finds out whether the client is still there; when
//! it is not, the capture ends. Whoever asks needs one of `admin.credentials` that says so, also where
//! everybody else may use the admin port: the bodies belong to another team.

mod lines;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode, Uri};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use crate::admin::{Asker, Sources};
use crate::capture::bounds::{self, Bound};
use crate::capture::{Capture, End, Terms};

use lines::{Begin, Ended, Sending};

/// The time between two empty lines. After the end of a client, the second of them fails.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// The numbers that may be asked for.
const PARAMETERS: [Bound; 4] = [
    bounds::REQUESTS,
    bounds::SECONDS,
    bounds::BODY_BYTES,
    bounds::BYTES,
];

const NO_CREDENTIAL: &str = "\
a capture shows what another team sent, so it is off until the admin port asks for a credential; write one \
with captures: allow into admin.credentials of the configuration, and send it with the request. From then on \
all but the health checks needs one: give the Prometheus that scrapes /metrics another (authorization)\n";

const NOT_ALLOWED: &str = "\
a capture shows what another team sent, and this credential may not see that; write captures: allow beside it \
into admin.credentials of the configuration\n";

pub(super) async fn capture(
    State(sources): State<Sources>,
    Path(name): Path<String>,
    uri: Uri,
    asker: Option<Extension<Asker>>,
) -> Response<Body> {
    let state = sources.state.load_full();
    let Some(Extension(asker)) = asker else {
        return (StatusCode::FORBIDDEN, NO_CREDENTIAL).into_response();
    };
    if !asker.credential.may_capture {
        return (StatusCode::FORBIDDEN, NOT_ALLOWED).into_response();
    }
    if state.spoke(&name).is_none() {
        return (StatusCode::NOT_FOUND, "no spoke has this name\n").into_response();
    }
    let asked = match Asked::parse(uri.query().unwrap_or_default()) {
        Ok(asked) => asked,
        Err(text) => return (StatusCode::BAD_REQUEST, text + "\n").into_response(),
    };
    let begun = Instant::now();
    let terms = asked.terms(name, begun);
    let capture = match sources.captures.begin(terms) {
        Ok(capture) => capture,
        Err(other) => return (StatusCode::CONFLICT, taken(&other)).into_response(),
    };
    let mut signs = interval(SIGN_OF_LIFE);
    signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
    signs.reset();
    let session = Session {
        sources,
        capture,
        asker,
        begun,
        signs,
        sending: None,
        stage: Stage::Begins,
    };
    session.log_begin();
    let lines = stream::unfold(session, async |mut session| {
        let next = session.next().await?;
        Some((next, session))
    });
    let headers = [
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-ndjson"),
        ),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Body::from_stream(lines)).into_response()
}

/// Says what a second capture waits for.
fn taken(other: &Capture) -> String {
    let left = other.terms().until.duration_since(Instant::now());
    format!(
        "a capture of spoke {} goes on, and only one may; it ends in {} s at the latest\n",
        other.terms().spoke,
        left.as_secs() + 1
    )
}

/// The parameters of a request.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    /// In the order of [`PARAMETERS`].
    numbers: [usize; 4],
    reasons: Vec<&'static str>,
}

impl Asked {
    /// Reads a query. The values need no percent-encoding.
    fn parse(query: &str) -> Result<Self, String> {
        let mut asked = Self {
            numbers: PARAMETERS.map(|it| it.default),
            reasons: Vec::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name == "reason" {
                let reason = bounds::reason(value).map_err(|error| format!("reason: {error}"))?;
                asked.reasons.push(reason);
                continue;
            }
            let place = PARAMETERS.iter().position(|it| it.name == name);
            let Some(place) = place else {
                let names = PARAMETERS.map(|it| it.name).join(", ");
                return Err(format!("the parameters are {names} and reason"));
            };
            let bound = PARAMETERS[place];
            asked.numbers[place] = match value.parse() {
                Ok(number) if bound.allows(number) => number,
                _ => {
                    let most = bound.most;
                    return Err(format!("{name} must be a number from 1 to {most}"));
                }
            };
        }
        Ok(asked)
    }

    fn terms(self, spoke: String, begun: Instant) -> Terms {
        let [requests, seconds, body_bytes, bytes] = self.numbers;
        Terms {
            spoke,
            reasons: self.reasons,
            requests,
            body_bytes,
            bytes,
            until: begun + Duration::from_secs(seconds as u64),
        }
    }
}

/// A capture and the client that asked for it. It ends with whichever goes first.
struct Session {
    sources: Sources,
    capture: Arc<Capture>,
    asker: Asker,
    begun: Instant,
    signs: Interval,
    /// The request of which a part was sent.
    sending: Option<Sending>,
    stage: Stage,
}

/// A client took too long, and what it did not take is gone.
#[derive(Debug, thiserror::Error)]
#[error("the capture is over")]
struct Over;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begins,
    GoesOn,
    Ended,
}

impl Session {
    /// The next part of the answer; `None` at its end.
    async fn next(&mut self) -> Option<Result<Bytes, Over>> {
        match self.stage {
            Stage::Begins => {
                self.stage = Stage::GoesOn;
                let left = self.capture.terms().until - self.begun;
                let end = SystemTime::now() + left;
                return Some(Ok(lines::line(&Begin::new(self.capture.terms(), end))));
            }
            Stage::GoesOn => {}
            Stage::Ended => return None,
        }
        loop {
            if let Some(sending) = &mut self.sending {
                let Some((part, last)) = sending.next(&self.capture) else {
                    self.stage = Stage::Ended;
                    return Some(Err(Over));
                };
                if last {
                    self.sending = None;
                    self.capture.drop_first();
                }
                return Some(Ok(part));
            }
            if !self.may_go_on() {
                self.capture.revoke();
            }
            if let Some((sending, part)) = Sending::begin(&self.capture) {
                self.sending = Some(sending);
                return Some(Ok(part));
            }
            if let Some(end) = self.capture.end() {
                self.stage = Stage::Ended;
                let (requests, _) = self.capture.captured();
                return Some(Ok(lines::line(&Ended::new(end, requests))));
            }
            tokio::select! {
                () = self.capture.changed() => {}
                () = sleep_until(self.capture.terms().until) => self.capture.finish(End::Time),
                () = self.sources.writes.begins() => self.capture.finish(End::Shutdown),
                _ = self.signs.tick() => return Some(Ok(Bytes::from_static(b"\n"))),
            }
        }
    }

    /// A credential that has expired, or that a reload took away, must not show bodies any longer.
    fn may_go_on(&self) -> bool {
        let state = self.sources.state.load();
        let credential = &*self.asker.credential;
        let now = SystemTime::now();
        state.config.admin.credentials.contains(credential)
            && credential.not_after.is_none_or(|end| end >= now)
            && state.spoke(&self.capture.terms().spoke).is_some()
    }

    fn log_begin(&self) {
        let Terms {
            spoke,
            reasons,
            requests,
            until,
            ..
        } = self.capture.terms();
        let Asker {
            credential,
            address,
        } = &self.asker;
        tracing::info!(
            spoke,
            credential = credential.name,
            %address,
            requests,
            seconds = (*until - self.begun).as_secs(),
            reasons = reasons.join(","),
            "a capture of refused requests begins"
        );
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sources.captures.end(&self.capture, End::Gone);
        let (requests, bytes) = self.capture.captured();
        let why = self.capture.end().map(End::name);
        tracing::info!(
            spoke = self.capture.terms().spoke,
            credential = self.asker.credential.name,
            address = %self.asker.address,
            requests,
            bytes,
            seconds = self.begun.elapsed().as_secs(),
            why,
            "a capture of refused requests ended"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_bounds_and_reasons_are_known() {
        let numbers = |query| Asked::parse(query).map(|it| it.numbers);
        assert_eq!(numbers(""), Ok([10, 300, 1 << 20, 64 << 20]));
        assert_eq!(
            numbers("requests=1000&seconds=1&bytes=1073741824"),
            Ok([1000, 1, 1 << 20, 1 << 30])
        );
        let reasons = Asked::parse("reason=hub&reason=malformed").unwrap().reasons;
        assert_eq!(reasons, ["hub", "malformed"]);
        for (query, text) in [
            ("requests=0", "requests must be a number from 1 to 1000"),
            ("requests=1001", "requests must be a number from 1 to 1000"),
            ("seconds=-1", "seconds must be a number from 1 to 3600"),
            ("seconds", "seconds must be a number from 1 to 3600"),
            (
                "body_bytes=99999999999999999999",
                "body_bytes must be a number from 1 to 33554432",
            ),
            (
                "count=1",
                "the parameters are requests, seconds, body_bytes, bytes and reason",
            ),
        ] {
            assert_eq!(Asked::parse(query), Err(text.to_owned()), "{query}");
        }
        let unknown = Asked::parse("reason=maleformed").unwrap_err();
        assert!(unknown.starts_with("reason: must be one of "), "{unknown}");
    }
}
