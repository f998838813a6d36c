//! The way to the hub: one request out for one request in, over pooled connections.
//!
//! Nothing is queued or repeated here: the spoke's write-ahead log is the queue and the spoke the
//! one who retries. Only a request of which the pool wrote no byte, because the hub had closed
//! the idle connection, goes out again by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use crate::config;
use crate::metrics::{HubMetrics, Metrics};
use crate::wire::{Counts, Protocol};

/// The sender's count of attempts (remote write 2.0, "Retries"); passed on.
pub const RETRY_ATTEMPT: HeaderName = HeaderName::from_static("retry-attempt");

/// What was written, in the order of [`Counts`] without metadata (remote write 2.0, "Required
/// Written Response Headers").
pub const WRITTEN: [HeaderName; 3] = [
    HeaderName::from_static("x-prometheus-remote-write-samples-written"),
    HeaderName::from_static("x-prometheus-remote-write-histograms-written"),
    HeaderName::from_static("x-prometheus-remote-write-exemplars-written"),
];

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");

/// Prometheus takes 512 connections by default (`--web.max-connections`), for its users as well;
/// more than that hang unaccepted.
const REQUESTS_IN_FLIGHT_MAX: usize = 256;

/// A hub that does not take a connection within this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Below the 5 minutes after which Prometheus closes an idle connection (`--web.read-timeout`).
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Most of an answer that is read; more and the connection is given up.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Most of an answer's text that is kept.
const TEXT_BYTES_MAX: usize = 1024;

/// Most seconds of Retry-After that are believed of a hub or told a spoke.
pub const RETRY_AFTER_MAX: u64 = 30;

/// An empty message as a snappy block.
const EMPTY_MESSAGE: &[u8] = b"\0";

/// What the hub said.
#[derive(Debug, Clone)]
pub struct HubAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its Written headers; `None` when it sent none of them.
    pub written: Option<Counts>,
    /// Its Retry-After in seconds, capped.
    pub retry_after: Option<u64>,
    /// The start of its text, in one line.
    pub text: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HubFailure {
    /// No connection.
    #[error("the hub cannot be reached")]
    Connect,
    /// The connection broke before the answer was whole.
    #[error("the connection to the hub broke")]
    Reset,
    /// No answer in time.
    #[error("the hub did not answer in time")]
    Timeout,
}

impl HubFailure {
    fn code(self) -> &'static str {
        match self {
            Self::Connect => "connect_error",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
        }
    }
}

/// One upstream that takes remote write.
#[derive(Debug)]
pub struct Hub {
    name: String,
    url: Uri,
    timeout: Duration,
    client: Client<HttpConnector, Full<Bytes>>,
    in_flight: Semaphore,
    metrics: HubMetrics,
    /// Newest protocol it was found to speak: 0 unknown, 1 V1, 2 V2.
    speaks: AtomicU8,
    /// Wakes the probe.
    doubt: Notify,
}

impl Hub {
    /// A hub that nothing is known of yet.
    pub fn new(config: &config::Hub, metrics: &Metrics) -> Arc<Self> {
        let name = config
            .url
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default();
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(REQUESTS_IN_FLIGHT_MAX)
            .build(connector);
        Arc::new(Self {
            metrics: metrics.hub(&name),
            name,
            url: config.url.clone(),
            timeout: config.timeout,
            client,
            in_flight: Semaphore::new(REQUESTS_IN_FLIGHT_MAX),
            speaks: AtomicU8::new(0),
            doubt: Notify::new(),
        })
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

    /// Sends one compressed message and waits for the whole answer, at most the hub's timeout.
    pub async fn write(
        &self,
        protocol: Protocol,
        body: Bytes,
        retry_attempt: Option<&HeaderValue>,
    ) -> Result<HubAnswer, HubFailure> {
        let started = Instant::now();
        let request = self.request(protocol, body, retry_attempt);
        let answer = timeout(self.timeout, self.exchange(request));
        let answer = answer.await.unwrap_or(Err(HubFailure::Timeout));
        let code = match &answer {
            Ok(answer) => answer.status.as_str(),
            Err(failure) => failure.code(),
        };
        self.metrics.request(protocol, code, started.elapsed());
        if let (Protocol::V2, Ok(answer)) = (protocol, &answer) {
            if answer.written.is_some() {
                self.found(Some(Protocol::V2));
            } else if answer.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
                self.found(Some(Protocol::V1));
            } else if answer.status.is_success() {
                // It may be a page of something that stands before the hub; the probe will tell.
                self.found(None);
            }
        }
        answer
    }

    /// Asks whether the hub speaks V2: an empty message must come back with the Written headers.
    /// VictoriaMetrics and Prometheus before 2.54 answer 204 to V2, too, and store nothing. A
    /// success with a text is neither: no receiver of remote write has something to say.
    pub async fn probe(&self) -> Result<(), HubFailure> {
        let message = Bytes::from_static(EMPTY_MESSAGE);
        let answer = self.write(Protocol::V2, message, None).await?;
        if answer.written.is_none() && answer.status.is_success() && answer.text.is_empty() {
            self.found(Some(Protocol::V1));
        }
        Ok(())
    }

    /// Waits until an answer makes what is known of the hub doubtful.
    pub async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// Remembers what was found out of the hub.
    fn found(&self, protocol: Option<Protocol>) {
        let before = self.speaks();
        if before == protocol {
            return;
        }
        let code = match protocol {
            None => 0,
            Some(Protocol::V1) => 1,
            Some(Protocol::V2) => 2,
        };
        self.speaks.store(code, Ordering::Relaxed);
        self.metrics.protocol(protocol);
        let protocol = protocol.map_or("unknown", Protocol::name);
        tracing::info!(hub = self.name, protocol, "the hub's protocol changed");
        if code == 0 {
            self.doubt.notify_one();
        }
    }

    fn request(
        &self,
        protocol: Protocol,
        body: Bytes,
        retry_attempt: Option<&HeaderValue>,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static(protocol.content_type()),
        );
        headers.insert(USER_AGENT, HeaderValue::from_static(crate::USER_AGENT));
        headers.insert(VERSION, HeaderValue::from_static(protocol.version()));
        if let Some(attempt) = retry_attempt {
            headers.insert(RETRY_ATTEMPT, attempt.clone());
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
        let (head, body) = Response::into_parts(response);
        Ok(HubAnswer {
            status: head.status,
            written: written(&head.headers),
            retry_after: retry_after(&head.headers),
            text: text(body).await?,
        })
    }
}

/// The Written headers; one that is missing beside another is 0.
fn written(headers: &HeaderMap) -> Option<Counts> {
    let counts = WRITTEN
        .map(|name| -> Option<u64> { headers.get(name)?.to_str().ok()?.trim().parse().ok() });
    let [samples, histograms, exemplars] = counts;
    counts.iter().any(Option::is_some).then(|| {
        let or_none = |count: Option<u64>| count.unwrap_or(0);
        Counts::new([or_none(samples), or_none(histograms), or_none(exemplars), 0])
    })
}

fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let seconds: u64 = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(seconds.min(RETRY_AFTER_MAX))
}

/// Reads an answer to its end, so that the connection can be used again, and keeps its start.
async fn text(mut body: Incoming) -> Result<String, HubFailure> {
    let mut kept = Vec::new();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame.map_err(|_| HubFailure::Reset)?.into_data() else {
            continue;
        };
        read += data.remaining();
        data.truncate(TEXT_BYTES_MAX - kept.len());
        kept.extend_from_slice(&data);
        if read > ANSWER_BYTES_MAX {
            break;
        }
    }
    let text = String::from_utf8_lossy(&kept);
    // A refusal of several lines becomes one, and nothing in it steers a terminal.
    let words = text.split(|character: char| character.is_whitespace() || character.is_control());
    Ok(words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" "))
}
