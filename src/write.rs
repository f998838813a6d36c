//! `POST /api/v1/write`: a request from its headers to the hub's answer, stage by stage.
//!
//! The order of the stages is security: who sends and from where is known before a byte of the
//! body is read, what may be held before it is held, what is in it before it travels on. Only
//! this file knows the order.

pub mod answer;
mod body;
pub mod identify;
mod negotiate;
pub mod refusal;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, EXPECT, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio_util::task::TaskTracker;

use crate::budget::{Budget, Share};
use crate::config::{Ack, Limits};
use crate::forward::outcome::{Outcome, RetryAfter, Settled};
use crate::forward::{Hub, Plan, Sending};
use crate::metrics::Metrics;
use crate::policy::Verdict;
use crate::reasons::{AuthFailure, Reason, RequestReason};
use crate::remote_write::{self, RETRY_AFTER_SECONDS_MAX};
use crate::rewrite::{self, Inspected, Inspector};
use crate::spoke::Spoke;
use crate::telemetry::Repeats;
use crate::wire::{Counts, Protocol};

use answer::Answer;
use identify::Authenticator;
use refusal::Refusal;

/// Seconds of Retry-After where the hub names none; spread so that spokes do not come together.
const RETRY_AFTER_SECONDS: std::ops::RangeInclusive<u64> = 1..=5;

/// How far ahead of now a timestamp may be and still be believed.
const AHEAD_MAX: Duration = Duration::from_secs(600);

/// What one request needs to know of the configuration in force.
#[derive(Debug)]
pub struct Snapshot {
    /// The credentials of all spokes.
    pub authenticator: Authenticator,
    /// The hubs, at least one.
    pub hubs: Vec<Arc<Hub>>,
    /// How many of them must take a write.
    pub ack: Ack,
    /// The limits of the process.
    pub limits: Limits,
}

/// Takes writes under whatever configuration is in force when they come.
#[derive(Debug)]
pub struct Writes {
    budget: Arc<Budget>,
    inspector: Arc<Inspector>,
    metrics: Metrics,
    /// One for all strangers: they have no names to keep apart, and no bound.
    strangers: Mutex<Repeats>,
    /// Requests that were read and must be finished.
    tasks: TaskTracker,
}

/// What is known of a request while it is under way, for its account whatever its end.
#[derive(Debug)]
struct Progress {
    started: Instant,
    address: IpAddr,
    spoke: Option<Arc<Spoke>>,
    protocol: Option<Protocol>,
}

/// A request that is read and identified.
struct Job {
    spoke: Arc<Spoke>,
    protocol: Protocol,
    body: Bytes,
    share: Share,
    retry_attempt: Option<HeaderValue>,
}

impl Writes {
    /// Takes bytes from `budget` and runs what must be finished in `tasks`.
    pub fn new(budget: Arc<Budget>, metrics: Metrics, tasks: TaskTracker) -> Self {
        Self {
            budget,
            inspector: Arc::new(Inspector::new()),
            metrics,
            strangers: Mutex::default(),
            tasks,
        }
    }

    /// Answers one request.
    pub async fn handle(
        self: Arc<Self>,
        snapshot: Arc<Snapshot>,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let (head, mut body) = request.into_parts();
        let mut progress = Progress {
            started: Instant::now(),
            address: peer.ip().to_canonical(),
            spoke: None,
            protocol: None,
        };
        match self
            .receive(&snapshot, peer, &head, &mut body, &mut progress)
            .await
        {
            Ok(job) => {
                // What was read is finished even when the sender goes away meanwhile.
                let writes = Arc::clone(&self);
                let task = self
                    .tasks
                    .spawn(async move { writes.process(&snapshot, job).await });
                let processed = task.await.unwrap_or_else(|error| {
                    tracing::error!(%error, "a request panicked");
                    Err(Refusal::Internal)
                });
                match processed {
                    Ok(answer) => self.settle(&progress, answer),
                    Err(refusal) => self.refuse(&progress, &refusal),
                }
            }
            Err(refusal) => {
                // To poll the body of a sender that waits for leave would give it.
                if !expects_continue(&head) {
                    let bytes_max = 2 * snapshot.limits.body_bytes_max;
                    tokio::spawn(async move { body::drain(&mut body, bytes_max).await });
                }
                self.refuse(&progress, &refusal)
            }
        }
    }

    /// From the headers to a body in memory.
    async fn receive(
        &self,
        snapshot: &Snapshot,
        peer: SocketAddr,
        head: &Parts,
        body: &mut Incoming,
        progress: &mut Progress,
    ) -> Result<Job, Refusal> {
        route(head)?;
        let identity = snapshot.authenticator.identify(&head.headers).await?;
        let spoke = identity.spoke;
        progress.spoke = Some(Arc::clone(&spoke));
        let address = peer.ip().to_canonical();
        if !spoke.source_ranges.contains(address) {
            return Err(Refusal::SourceRange { address });
        }
        spoke.metrics.credential_used(identity.credential);
        let protocol = negotiate::negotiate(&head.headers)?;
        progress.protocol = Some(protocol);
        let user_agent = head
            .headers
            .get(USER_AGENT)
            .and_then(|agent| agent.to_str().ok());
        spoke
            .seen
            .request(protocol, user_agent.unwrap_or_default(), address);
        let retry_attempt = remote_write::retry_attempt(&head.headers);
        if retry_attempt.is_some() {
            spoke.metrics.retried();
        }
        let mut share = self.budget.share();
        let body = body::read(body, &snapshot.limits, &mut share).await?;
        Ok(Job {
            spoke,
            protocol,
            body,
            share,
            retry_attempt,
        })
    }

    /// From a body in memory to the hub's answer.
    async fn process(&self, snapshot: &Snapshot, job: Job) -> Result<Answer, Refusal> {
        let Job {
            spoke,
            protocol,
            body,
            share,
            retry_attempt,
        } = job;
        let body_bytes = body.len();
        let limits = &snapshot.limits;
        let plan = Plan::new(&snapshot.hubs, protocol);
        let request = rewrite::Request {
            spoke: Arc::clone(&spoke),
            protocol,
            body,
            share,
            targets: plan.targets.clone(),
            decoded_bytes_max: limits.decoded_bytes_max,
        };
        let Inspected {
            verdict,
            outgoing,
            decoded_bytes,
            share,
        } = self.inspector.inspect(request).await?;
        spoke.metrics.sizes(body_bytes, decoded_bytes);
        let outcome = if verdict.keeps() {
            let sending = Sending {
                spoke: &spoke,
                verdict: &verdict,
                outgoing,
                retry_attempt,
                share,
            };
            let hub_bytes_max = limits.bytes_in_flight_max / 2 / snapshot.hubs.len().max(1);
            plan.send(
                sending,
                snapshot.ack,
                hub_bytes_max,
                &self.inspector,
                &self.tasks,
            )
            .await
        } else {
            Outcome::Settled(Settled::default())
        };
        let answer = answer::answer(&spoke.name, protocol, &verdict, &outcome);
        record(&spoke, &verdict, &answer, outcome.text());
        Ok(answer)
    }

    /// Counts an answer and puts it into a response.
    fn settle(&self, progress: &Progress, answer: Answer) -> Response<Full<Bytes>> {
        self.count(progress, answer.status);
        let mut response = plain(&answer.status, &answer.text);
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

    /// Counts and logs a refusal of a whole request and puts it into a response.
    fn refuse(&self, progress: &Progress, refusal: &Refusal) -> Response<Full<Bytes>> {
        let status = refusal.status();
        self.count(progress, status);
        let text = match &progress.spoke {
            Some(spoke) => {
                log_refusal(
                    spoke,
                    refusal.reason().name(),
                    1,
                    &refusal.to_string(),
                    status,
                );
                if matches!(refusal, Refusal::SourceRange { .. }) {
                    spoke.metrics.source_range_refusal();
                }
                format!(
                    "spoke {}: {}: {refusal}",
                    spoke.name,
                    refusal.reason().name()
                )
            }
            None => {
                tracing::debug!(
                    reason = refusal.reason().name(),
                    "refused a request of nobody known"
                );
                format!("{}: {refusal}", refusal.reason().name())
            }
        };
        if let Refusal::Unauthenticated(failure) = refusal {
            self.metrics.auth_failure(*failure);
            self.log_stranger(progress.address, *failure, status);
        }
        let mut response = plain(&status, &text);
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                let challenges = ["Bearer realm=\"hubgate\"", "Basic realm=\"hubgate\""];
                for challenge in challenges {
                    headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
                }
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(ALLOW, HeaderValue::from_static("POST"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, fastrand::u64(RETRY_AFTER_SECONDS).into());
            }
            _ => {}
        }
        // Spokes keep idle connections, which are not for others to hold.
        if progress.spoke.is_none() && status.is_client_error() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // After a successful negotiation a V2 sender is owed the counts, and nothing was written.
        if progress.protocol == Some(Protocol::V2) && status.is_client_error() {
            remote_write::insert_written(headers, &Counts::default());
        }
        response
    }

    /// One event a stranger, of which few are lines. What it sent may be almost a credential.
    fn log_stranger(&self, address: IpAddr, failure: AuthFailure, code: StatusCode) {
        let strangers = self.strangers.lock();
        let mut strangers = strangers.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = strangers.add(1, Instant::now()) {
            let (failure, code) = (failure.name(), code.as_u16());
            tracing::warn!(%address, failure, code, count, "a sender is not identified");
        }
    }

    fn count(&self, progress: &Progress, status: StatusCode) {
        match &progress.spoke {
            Some(spoke) => {
                let duration = progress.started.elapsed();
                spoke
                    .metrics
                    .request(progress.protocol, status.as_u16(), duration);
            }
            None => self.metrics.unknown_request(status.as_u16()),
        }
    }
}

/// Takes a decoded request into the accounts of its spoke.
fn record(spoke: &Spoke, verdict: &Verdict, answer: &Answer, hub_text: &str) {
    let accounts = &answer.accounts;
    let newest = verdict.times.newest();
    let newest = newest.filter(|newest| *newest <= newest_plausible());
    spoke.metrics.received(&verdict.received);
    spoke.metrics.label_mismatches(verdict.mismatched_series);
    for rejection in &verdict.rejections {
        spoke.metrics.rejected(rejection.reason, &rejection.counts);
        let (reason, count) = (rejection.reason.name(), rejection.series);
        log_refusal(spoke, reason, count, &rejection.example, answer.status);
    }
    spoke.metrics.written(&accounts.written, newest);
    spoke
        .metrics
        .rejected(Reason::Hub, &accounts.rejected_by_hub);
    spoke
        .metrics
        .rejected(Reason::HubProtocol, &accounts.unsupported);
    spoke.metrics.failed(&accounts.failed);
    spoke.seen.written(&accounts.written, newest);
    if let Some((reason, count)) = hub_refusal(answer) {
        log_refusal(spoke, reason, count, hub_text, answer.status);
    }
}

fn route(head: &Parts) -> Result<(), Refusal> {
    if !remote_write::PATHS.contains(&head.uri.path()) {
        return Err(Refusal::NotFound);
    }
    if head.method == Method::POST {
        Ok(())
    } else {
        Err(Refusal::MethodNotAllowed)
    }
}

fn expects_continue(head: &Parts) -> bool {
    let expected = head
        .headers
        .get(EXPECT)
        .and_then(|expected| expected.to_str().ok());
    expected.is_some_and(|expected| expected.eq_ignore_ascii_case("100-continue"))
}

/// The latest timestamp that Prometheus takes, ten minutes ahead (`storage/remote/write_handler.go`,
/// `maxAheadTime`), in milliseconds since the Unix epoch. One sample beyond must not hide for ever
/// that a spoke fell silent.
fn newest_plausible() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from((now + AHEAD_MAX).as_millis()).unwrap_or(i64::MAX)
}

/// Spreads what a hub told every spoke alike, within the most that is ever told.
fn jittered(seconds: u64) -> u64 {
    fastrand::u64(seconds..=seconds + seconds / 2 + 1).min(RETRY_AFTER_SECONDS_MAX)
}

/// What to remember of a hub that did not take everything.
fn hub_refusal(answer: &Answer) -> Option<(&'static str, u64)> {
    let Answer { accounts, .. } = answer;
    if !accounts.rejected_by_hub.is_empty() {
        Some((Reason::Hub.name(), accounts.rejected_by_hub.total()))
    } else if answer.status.is_server_error() {
        Some((RequestReason::HubFailed.name(), accounts.failed.total()))
    } else {
        None
    }
}

/// One event a refusal, of which few are lines: a refusal is a counter, never a flood.
fn log_refusal(spoke: &Spoke, reason: &'static str, count: u64, example: &str, code: StatusCode) {
    if let Some(count) = spoke.seen.refused(reason, count, example) {
        let code = code.as_u16();
        tracing::warn!(spoke = spoke.name, reason, code, count, example, "refused");
    }
}

fn plain(status: &StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut body = answer::cut(text.to_owned());
    let mut response = Response::new(Full::default());
    *response.status_mut() = *status;
    if !body.is_empty() {
        body.push('\n');
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
        *response.body_mut() = Full::new(body.into());
    }
    response
}
