//! The way to a hub: one request out and its answer back, over pooled connections, and what the
//! answers tell of the hub.
//!
//! Nothing is queued or repeated here: the spoke's write-ahead log is the queue and the spoke the
//! one who retries. Only a request of which the pool wrote no byte, because the hub had closed
//! the idle connection, goes out again by itself.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout_at;

use crate::config::{self, HubHeader, HubMetadata, HubProtocol};
use crate::metrics::{HubMetrics, LOST_PARTS, Metrics};
use crate::reasons::{HubFailure, UNKNOWN};
use crate::remote_write;
use crate::telemetry::Repeats;
use crate::wire::writer::{Lost, Metadata};
use crate::wire::{Counts, Protocol};

use super::response::HubAnswer;

/// Prometheus takes 512 connections by default (`--web.max-connections`), for its users as well;
/// more than that hang unaccepted.
const REQUESTS_IN_FLIGHT_MAX: usize = 256;

/// A hub that does not take a connection within this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Below the 5 minutes after which Prometheus closes an idle connection (`--web.read-timeout`).
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// An empty message as a snappy block.
const EMPTY_MESSAGE: &[u8] = b"\0";

/// The name of the spoke in the headers of a probe; no spoke may have it.
const PROBING_SPOKE: &str = UNKNOWN;

/// One request to a hub.
#[derive(Debug)]
pub struct HubRequest<'r> {
    /// The version of the message.
    pub protocol: Protocol,
    /// The message, compressed.
    pub body: Bytes,
    /// The spoke that it is from; `None` for a probe.
    pub spoke: Option<&'r str>,
    /// The sender's count of attempts.
    pub retry_attempt: Option<&'r HeaderValue>,
    /// When the whole answer must be there.
    pub deadline: Instant,
}

/// One upstream that takes remote write.
#[derive(Debug)]
pub struct Hub {
    name: String,
    url: Uri,
    timeout: Duration,
    protocol: HubProtocol,
    metadata: Metadata,
    headers: Vec<HubHeader>,
    salvage_requests_max: usize,
    client: Client<HttpConnector, Full<Bytes>>,
    in_flight: Semaphore,
    metrics: HubMetrics,
    /// Newest protocol it was found to speak: 0 unknown, 1 V1, 2 V2.
    speaks: AtomicU8,
    /// Wakes the probe.
    doubt: Notify,
    /// Bytes of requests that spokes no longer wait for, and of those that they still do.
    held: AtomicUsize,
    /// What is lost on the way to it was named in the log: custom buckets, metadata, start
    /// timestamps.
    named: [AtomicBool; 3],
    failures: Mutex<Repeats>,
}

/// Bytes that a hub holds until this is dropped.
#[derive(Debug)]
pub struct HubPermit {
    hub: Arc<Hub>,
    bytes: usize,
}

impl Drop for HubPermit {
    fn drop(&mut self) {
        self.hub.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Hub {
    /// A hub that nothing is known of yet, unless the configuration says what it speaks.
    pub fn new(config: &config::Hub, metrics: &Metrics) -> Arc<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(REQUESTS_IN_FLIGHT_MAX)
            .build(connector);
        let hub = Arc::new(Self {
            metrics: metrics.hub(&config.name),
            name: config.name.clone(),
            url: config.url.clone(),
            timeout: config.timeout,
            protocol: config.protocol,
            metadata: match config.metadata {
                HubMetadata::Drop => Metadata::Drop,
                HubMetadata::ForwardV1 => Metadata::Forward,
            },
            headers: config.headers.clone(),
            salvage_requests_max: config.salvage_requests_max,
            client,
            in_flight: Semaphore::new(REQUESTS_IN_FLIGHT_MAX),
            speaks: AtomicU8::new(0),
            doubt: Notify::new(),
            held: AtomicUsize::new(0),
            named: Default::default(),
            failures: Mutex::default(),
        });
        match config.protocol {
            HubProtocol::Auto => hub.metrics.protocol(None),
            HubProtocol::V1 => hub.found(Protocol::V1),
            HubProtocol::V2 => hub.found(Protocol::V2),
        }
        hub
    }

    /// What it is to be written in, for a request that came as `from`: what it was found to
    /// speak, and until then what the spoke speaks.
    pub fn wants(&self, from: Protocol) -> Protocol {
        self.speaks().unwrap_or(from)
    }

    /// What becomes of V1 metadata where it is written V2.
    pub fn metadata(&self) -> Metadata {
        self.metadata
    }

    /// True when hubgate finds out by itself what it speaks.
    pub fn negotiates(&self) -> bool {
        self.protocol == HubProtocol::Auto
    }

    /// Most further requests for one request of a spoke.
    pub fn salvage_requests_max(&self) -> usize {
        self.salvage_requests_max
    }

    /// The deadline of a request that begins now.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Takes `bytes` for a request, unless the hub holds `bytes_max` with it; a request of any
    /// size may be the only one.
    pub fn hold(self: &Arc<Self>, bytes: usize, bytes_max: usize) -> Option<HubPermit> {
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        let held = HubPermit {
            hub: Arc::clone(self),
            bytes,
        };
        (before == 0 || before.saturating_add(bytes) <= bytes_max).then_some(held)
    }

    /// Counts a request that it was not sent, because it holds too many already.
    pub fn skipped(&self, protocol: Protocol) {
        self.metrics
            .request(protocol, HubFailure::Skipped.name(), None);
    }

    /// Logs that it did not take a write that another hub may have taken.
    pub fn failed(&self, example: &str) {
        // Nothing under the lock can leave it half done.
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = failures.add(1, Instant::now()) {
            tracing::warn!(
                hub = self.name,
                count,
                example,
                "a hub did not take a write"
            );
        }
    }

    /// Counts what it took.
    pub fn written(&self, counts: &Counts) {
        self.metrics.written(counts);
    }

    /// Counts what it could not be told in the version it speaks, and names it once in the log.
    pub fn lost(&self, lost: &Lost) {
        let counts = [lost.custom_buckets, lost.metadata, lost.start_timestamps];
        self.metrics.lost(counts);
        for ((part, count), named) in LOST_PARTS.into_iter().zip(counts).zip(&self.named) {
            if count > 0 && !named.swap(true, Ordering::Relaxed) {
                let protocol = self.speaks().map_or(UNKNOWN, Protocol::name);
                tracing::warn!(
                    hub = self.name,
                    protocol,
                    part,
                    "this has no place in the hub's protocol and is left out; it is counted in \
                     hubgate_hub_lost_total and not named again"
                );
            }
        }
    }

    /// Its name in metrics and logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes it out of the metrics; requests under way are counted no more.
    pub fn remove_from(&self, metrics: &Metrics) {
        metrics.remove_hub(&self.metrics);
    }

    /// The newest protocol it was found to speak.
    pub fn speaks(&self) -> Option<Protocol> {
        match self.speaks.load(Ordering::Relaxed) {
            1 => Some(Protocol::V1),
            2 => Some(Protocol::V2),
            _ => None,
        }
    }

    /// Sends one compressed message and waits for the whole answer.
    pub async fn write(&self, request: HubRequest<'_>) -> Result<HubAnswer, HubFailure> {
        let started = Instant::now();
        let protocol = request.protocol;
        let deadline = request.deadline;
        let probing = request.spoke.is_none();
        let answer = timeout_at(deadline.into(), self.exchange(self.request(request)));
        let answer = answer.await.unwrap_or(Err(HubFailure::Timeout));
        let code = match &answer {
            Ok(answer) => answer.status.as_str(),
            Err(failure) => failure.name(),
        };
        self.metrics
            .request(protocol, code, Some(started.elapsed()));
        if let (Protocol::V2, Ok(answer)) = (protocol, &answer) {
            self.learn(answer, probing);
        }
        answer
    }

    /// Draws from the answer to a V2 message whether the hub speaks V2. VictoriaMetrics and
    /// Prometheus before 2.54 answer 204 to V2 as well, without the Written headers, and store
    /// nothing. A success with a text says neither: no receiver of remote write has something to
    /// say, so it may be a page of something that stands before the hub. While V2 is written, such
    /// a page is no success; so what is known stays, or V1 would go out that it seems to take.
    fn learn(&self, answer: &HubAnswer, probing: bool) {
        if !self.negotiates() {
            return;
        }
        if answer.written.is_some() {
            self.found(Protocol::V2);
        } else if answer.status == StatusCode::UNSUPPORTED_MEDIA_TYPE || answer.took_nothing() {
            self.found(Protocol::V1);
        } else if !probing && !answer.status.is_server_error() {
            self.doubt.notify_one();
        }
    }

    /// Asks whether the hub speaks V2: an empty message must come back with the Written headers,
    /// until `deadline`.
    pub async fn probe(&self, deadline: Instant) -> Result<HubAnswer, HubFailure> {
        let request = HubRequest {
            protocol: Protocol::V2,
            body: Bytes::from_static(EMPTY_MESSAGE),
            spoke: None,
            retry_attempt: None,
            deadline,
        };
        self.write(request).await
    }

    /// Waits until an answer makes what is known of the hub doubtful.
    pub async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// Remembers what was found out of the hub.
    fn found(&self, protocol: Protocol) {
        if self.speaks() == Some(protocol) {
            return;
        }
        let code = match protocol {
            Protocol::V1 => 1,
            Protocol::V2 => 2,
        };
        self.speaks.store(code, Ordering::Relaxed);
        self.metrics.protocol(Some(protocol));
        let protocol = protocol.name();
        tracing::info!(hub = self.name, protocol, "found the protocol of a hub");
    }

    fn request(&self, sent: HubRequest<'_>) -> Request<Full<Bytes>> {
        let protocol = sent.protocol;
        let mut request = Request::new(Full::new(sent.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        headers.insert(USER_AGENT, HeaderValue::from_static(crate::USER_AGENT));
        remote_write::insert_message_headers(headers, protocol);
        if let Some(attempt) = sent.retry_attempt {
            headers.insert(remote_write::RETRY_ATTEMPT, attempt.clone());
        }
        for header in &self.headers {
            // A probe is nobody's; it holds no sample that could end up with this tenant.
            let value = header.value.value(sent.spoke.unwrap_or(PROBING_SPOKE));
            headers.insert(header.name.clone(), value);
        }
        request
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<HubAnswer, HubFailure> {
        // Closed never: the semaphore lives as long as the hub.
        let _permit = self
            .in_flight
            .acquire()
            .await
            .map_err(|_| HubFailure::Connect)?;
        let response = self.client.request(request).await.map_err(|error| {
            tracing::debug!(hub = self.name, %error, "no answer from the hub");
            if error.is_connect() {
                HubFailure::Connect
            } else {
                HubFailure::Reset
            }
        })?;
        HubAnswer::read(response).await
    }
}
