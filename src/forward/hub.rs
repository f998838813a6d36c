//! One hub: its connections, and what is known of it.
//!
//! A request goes out and its response comes back, over connections that are kept. Only a request that
//! the hub did not read, because it closed the kept connection, is sent again here: once, over a new
//! one. Writes may be repeated, since the samples are the same.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::Full;
use tokio::time::sleep;

use crate::config::{self, HubMetadata, HubUrl};
use crate::metrics::HubMetrics;
use crate::reasons::{HubFailure, UNKNOWN};
use crate::remote_write;
use crate::rewrite::Metadata;
use crate::shares::Share;
use crate::wire::Protocol;

use super::backlog::Backlog;
use super::clock::HubClock;
use super::connections::{Connections, Lost};
use super::history::History;
use super::places::Places;
use super::probe::Discovery;
use super::record::Recorder;
use super::response::HubResponse;

/// How often the places and the clock are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// An empty message as a snappy block.
const EMPTY_MESSAGE: &[u8] = b"\0";

/// No snappy block: a length that does not end. Every receiver refuses it.
const BROKEN_MESSAGE: &[u8] = b"\xff";

/// The name of the spoke in the headers of a probe; no spoke may have it.
const PROBING_SPOKE: &str = UNKNOWN;

/// One request to a hub.
#[derive(Debug)]
pub struct HubRequest<'r> {
    /// The version of the message.
    pub protocol: Protocol,
    /// The message, compressed.
    pub body: Bytes,
    /// The spoke whose message it is; `None` for a probe, which waits for no place.
    pub spoke: Option<Writer<'r>>,
    /// The sender's number of attempts.
    pub retry_attempt: Option<&'r HeaderValue>,
    /// When the whole response must have arrived.
    pub deadline: Instant,
}

/// A spoke at a hub.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'r> {
    /// Its name.
    pub name: &'r str,
    /// Its share of the places at the hub.
    pub share: Share,
}

/// One upstream that takes remote write.
#[derive(Debug)]
pub struct Hub {
    config: config::Hub,
    /// The headers that are the same for all requests, with a message of V1 and of V2.
    headers: [HeaderMap; 2],
    connections: Connections,
    places: Arc<Places>,
    discovery: Arc<Discovery>,
    backlog: Arc<Backlog>,
    history: Arc<History>,
    clock: Arc<HubClock>,
    recorder: Recorder,
}

impl Hub {
    /// A hub that keeps the counters of the hub of the same name `before` it. At the same URL it is the
    /// same server, so what is known of it stays: a renewed credential or certificate must not cost a
    /// write because a V2 hub is taken for one that is not known yet. Its connections are new.
    pub fn new(config: &config::Hub, before: Option<&Self>) -> Arc<Self> {
        let recorder = Recorder::new(&config.name, before.map(Self::metrics));
        let same = before.filter(|it| it.config.url == config.url);
        let known = same.filter(|it| it.config.protocol == config.protocol);
        let discovery = known.map_or_else(
            || Arc::new(Discovery::new(config.protocol)),
            |it| Arc::clone(&it.discovery),
        );
        let shown = config.tls.as_ref().and_then(|tls| tls.validity);
        let metrics = recorder.metrics();
        metrics.record_certificate(shown.map(|validity| validity.not_after));
        match discovery.found() {
            Some(protocol) if known.is_none() => recorder.found(protocol),
            found => metrics.record_protocol(found),
        }
        Arc::new(Self {
            config: config.clone(),
            headers: [Protocol::V1, Protocol::V2].map(|protocol| headers(config, protocol)),
            connections: Connections::new(config, same.map(|it| &it.connections)),
            places: same.map_or_else(Arc::default, |it| Arc::clone(&it.places)),
            discovery,
            backlog: same.map_or_else(Arc::default, |it| Arc::clone(&it.backlog)),
            history: same.map_or_else(
                || Arc::new(History::new(metrics)),
                |it| Arc::clone(&it.history),
            ),
            clock: same.map_or_else(Arc::default, |it| Arc::clone(&it.clock)),
            recorder,
        })
    }

    /// Its name in metrics and logs.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its URL.
    pub fn url(&self) -> &HubUrl {
        &self.config.url
    }

    /// Its URL for people.
    pub fn shown_url(&self) -> String {
        self.config.shown_url()
    }

    /// The newest protocol that it was found to speak.
    pub fn speaks(&self) -> Option<Protocol> {
        self.discovery.found()
    }

    /// The version in which to send a request that arrived as `from`: what the hub was found to
    /// speak, and until then what the spoke speaks.
    pub fn wants(&self, from: Protocol) -> Protocol {
        self.speaks().unwrap_or(from)
    }

    /// What becomes of V1 metadata where V2 is sent.
    pub fn metadata(&self) -> Metadata {
        match self.config.metadata {
            HubMetadata::Drop => Metadata::Drop,
            HubMetadata::ForwardV1 => Metadata::Forward,
        }
    }

    /// True when hubgate finds out by itself what the hub speaks.
    pub fn negotiates(&self) -> bool {
        self.discovery.negotiates()
    }

    /// Most further requests for one request of a spoke.
    pub fn salvage_requests_max(&self) -> usize {
        self.config.salvage_requests_max
    }

    /// How long it may take to respond.
    pub fn timeout(&self) -> Duration {
        self.config.timeout
    }

    pub(super) fn backlog(&self) -> &Arc<Backlog> {
        &self.backlog
    }

    pub(super) fn clock(&self) -> &HubClock {
        &self.clock
    }

    /// By how many seconds its clock is ahead of that here, or behind it if that is negative; 0 while they agree.
    pub fn clock_seconds_ahead(&self) -> i64 {
        self.clock.seconds_ahead()
    }

    pub(super) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Its metrics.
    pub fn metrics(&self) -> &HubMetrics {
        self.recorder.metrics()
    }

    /// Its last hour.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Ends the step of this number in its history.
    pub fn record_history(&self, number: u64) {
        self.history.record(number, self.metrics());
    }

    /// Finds out what the hub speaks, and again whenever a response makes it doubtful, closes idle
    /// connections, and looks whether the hub is silent, and whether its clock differs. Does not return.
    pub async fn run(&self) -> Infallible {
        let probe = |protocol| self.ask(protocol, Instant::now() + self.config.timeout);
        tokio::select! {
            never = self.discovery.run(self.name(), probe) => never,
            never = self.connections.sweep() => never,
            never = self.watch() => never,
        }
    }

    async fn watch(&self) -> Infallible {
        loop {
            let places = self.places.tick();
            self.metrics().record_places(places);
            self.history.see(places);
            self.recorder.clock(self.clock.seconds_ahead());
            sleep(WATCH_INTERVAL).await;
        }
    }

    /// Has all later requests use connections that are opened from now on.
    pub fn renew_connections(&self) {
        self.connections.renew();
    }

    /// Asks whether the hub speaks V2: the response to an empty message must carry the Written
    /// headers and arrive by `deadline`.
    pub async fn probe(&self, deadline: Instant) -> Result<HubResponse, HubFailure> {
        self.ask(Protocol::V2, deadline).await
    }

    /// Sends an empty message of V2, or a broken one of V1.
    async fn ask(&self, protocol: Protocol, deadline: Instant) -> Result<HubResponse, HubFailure> {
        let body = match protocol {
            Protocol::V1 => BROKEN_MESSAGE,
            Protocol::V2 => EMPTY_MESSAGE,
        };
        let request = HubRequest {
            protocol,
            body: Bytes::from_static(body),
            spoke: None,
            retry_attempt: None,
            deadline,
        };
        self.send(request).await.map(|(response, _)| response)
    }

    /// Sends one compressed message, when there is a place for it, and waits for the whole response.
    /// Returns the time that the hub took as well, without the wait for the place.
    pub async fn send(
        &self,
        request: HubRequest<'_>,
    ) -> Result<(HubResponse, Duration), HubFailure> {
        let (protocol, probing) = (request.protocol, request.spoke.is_none());
        let sending = match request.spoke {
            Some(writer) => {
                let (bytes, deadline) = (request.body.len(), request.deadline);
                let timeout = self.config.timeout;
                let entered = self.places.enter(writer.share, bytes, deadline, timeout);
                let entered = entered.await;
                Some(entered.map_err(|busy| self.recorder.unsent(protocol, busy))?)
            }
            None => None,
        };
        let started = Instant::now();
        let result = self.exchange(&request).await;
        if let Some(sending) = sending {
            sending.ended(&result);
        }
        let took = started.elapsed();
        self.recorder.request(protocol, &result, took);
        if let Ok(response) = &result {
            self.clock.hear(response);
        }
        if let (true, Ok(response)) = (probing, &result) {
            self.history.probed(response);
        }
        if let (Protocol::V2, Ok(response)) = (protocol, &result)
            && let Some(found) = self.discovery.learn(response, probing)
        {
            self.recorder.found(found);
        }
        result.map(|response| (response, took))
    }

    fn http_request(&self, sent: &HubRequest<'_>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(sent.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.config.url.target().clone();
        let [v1, v2] = &self.headers;
        let headers = request.headers_mut();
        *headers = match sent.protocol {
            Protocol::V1 => v1.clone(),
            Protocol::V2 => v2.clone(),
        };
        if let Some(attempt) = sent.retry_attempt {
            headers.insert(remote_write::RETRY_ATTEMPT, attempt.clone());
        }
        for header in &self.config.headers {
            // A probe holds no sample that could be stored for the tenant that it names.
            let name = sent.spoke.map_or(PROBING_SPOKE, |writer| writer.name);
            let value = header.value.value(name);
            headers.insert(header.name.clone(), value);
        }
        request
    }

    /// Sends a request, and once more if a kept connection turns out to be closed.
    async fn exchange(&self, sent: &HubRequest<'_>) -> Result<HubResponse, HubFailure> {
        let deadline = sent.deadline;
        let send = |held| {
            let request = self.http_request(sent);
            self.connections.send(held, request, sent)
        };
        if let Some(kept) = self.connections.take() {
            match send(kept).await {
                Err(Lost::Unread) => self.recorder.resent(sent.protocol),
                result => return result.map_err(Lost::failure),
            }
        }
        // It is rare and takes much more memory than a request over a kept connection.
        let opened = Box::pin(self.connections.open(deadline)).await?;
        send(opened).await.map_err(Lost::failure)
    }
}

/// The headers that all requests to a hub have, with a message of this version.
fn headers(config: &config::Hub, protocol: Protocol) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, config.url.host_header().clone());
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    headers.insert(USER_AGENT, HeaderValue::from_static(crate::USER_AGENT));
    remote_write::insert_message_headers(&mut headers, protocol);
    if let Some(authorization) = &config.authorization {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    headers
}
