//! A hub inside the test process, which records every request and replies as the test scripts it.
//!
//! By default it stores everything except what the test has it refuse. A V2 message that holds
//! something bad is stored without it, as Prometheus 3 does; a V1 message is then refused whole.
//! Probes (empty V2 messages) are handled apart: they are counted but not recorded, and they use up
//! no scripted reply. It does not say what time it is, unless a test asks for it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::DATE;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::DEADLINE;
use super::body::{Protocol, Series, counts, decode, now, unsnappy};
use super::reply::{Fault, Reply, ResponseBody};
use super::tls_server::ServerTls;

/// A hub on a port of its own. It ends with the runtime of the test.
pub(crate) struct ScriptedHub {
    address: SocketAddr,
    state: Arc<State>,
}

/// One request as the hub received it.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// The compressed body, byte for byte.
    pub(crate) body: Bytes,
    /// The message in the body.
    pub(crate) message: Vec<u8>,
    pub(crate) protocol: Protocol,
    pub(crate) series: Vec<Series>,
}

impl Received {
    /// The labels of each series in wire order, in the notation of `body::series`.
    pub(crate) fn labels(&self) -> Vec<String> {
        self.series.iter().map(Series::notation).collect()
    }

    /// The text of a header, or `None` when it is absent.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// The protocols of some requests, in order.
pub(crate) fn protocols(received: &[Received]) -> Vec<Protocol> {
    received.iter().map(|received| received.protocol).collect()
}

/// How a hub handles V2 messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum V2 {
    /// It understands them.
    Speaks,
    /// It decodes them as V1, so it replies 204 and stores nothing: VictoriaMetrics, Prometheus 2.42.
    Ignores,
    /// It replies 415.
    Refuses,
}

/// Returns true for a bad sample, histogram or exemplar. Each is passed as a series that holds
/// nothing else.
type IsBad = Box<dyn Fn(&Series) -> bool + Send>;

/// Returns the text of a 500, or nothing to have a request stored. The samples, histograms and
/// exemplars of the request are passed as series that hold nothing else.
type Fault500 = Box<dyn FnMut(&[Series]) -> Option<String> + Send>;

struct State {
    script: Mutex<VecDeque<Reply>>,
    /// The values of `Authorization` that are let in; all for none.
    authorizations: Mutex<Vec<String>>,
    tls: Mutex<Option<TlsAcceptor>>,
    /// The errors of connections.
    broken: watch::Sender<Vec<String>>,
    always: Mutex<Option<Reply>>,
    /// By how many seconds its clock is ahead, if it says what time it is.
    clock: Mutex<Option<i64>>,
    v2: watch::Sender<V2>,
    is_bad: Mutex<IsBad>,
    bad_text: Mutex<&'static str>,
    fault: Mutex<Fault500>,
    message_bytes_max: Mutex<usize>,
    stored: Mutex<Vec<Series>>,
    keeps: watch::Sender<bool>,
    holds_responses: watch::Sender<bool>,
    received: watch::Sender<Vec<Received>>,
    probe_reply: Mutex<Option<Reply>>,
    probes: watch::Sender<usize>,
    connections: watch::Sender<Connections>,
}

/// The numbers of connections to a hub.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Connections {
    /// Those since the start.
    pub(crate) accepted: usize,
    /// Those that are open now.
    pub(crate) open: usize,
}

impl ScriptedHub {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    /// Starts a hub at a given address, which a gate may have in its configuration already.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            script: Mutex::default(),
            authorizations: Mutex::default(),
            tls: Mutex::default(),
            broken: watch::Sender::default(),
            always: Mutex::default(),
            clock: Mutex::default(),
            v2: watch::Sender::new(V2::Speaks),
            is_bad: Mutex::new(Box::new(|_| false)),
            bad_text: Mutex::new("bad"),
            fault: Mutex::new(Box::new(|_| None)),
            message_bytes_max: Mutex::new(usize::MAX),
            stored: Mutex::default(),
            keeps: watch::Sender::new(true),
            holds_responses: watch::Sender::new(false),
            received: watch::Sender::new(Vec::new()),
            probe_reply: Mutex::default(),
            probes: watch::Sender::new(0),
            connections: watch::Sender::default(),
        });
        tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state }
    }

    /// Starts a hub that speaks TLS.
    pub(crate) async fn start_tls(tls: &ServerTls) -> Self {
        let hub = Self::start().await;
        hub.set_tls(tls);
        hub
    }

    /// Speaks TLS in this way on connections that come from now on.
    pub(crate) fn set_tls(&self, tls: &ServerTls) {
        *self.state.tls.lock().unwrap() = Some(tls.acceptor());
    }

    /// The errors of connections so far: of handshakes, and of ends without a goodbye in TLS.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.state.broken.borrow().clone()
    }

    /// Starts a hub that decodes every message as V1.
    pub(crate) async fn start_v1_only() -> Self {
        let hub = Self::start().await;
        hub.set_v2(V2::Ignores);
        hub
    }

    pub(crate) fn url(&self) -> String {
        let url = url(self.address);
        if self.state.tls.lock().unwrap().is_some() {
            return url.replace("http://", "https://");
        }
        url
    }

    /// The name that a gate gives a hub whose configuration has no name.
    pub(crate) fn default_name(&self) -> String {
        self.address.to_string()
    }

    /// Replies 401 to every request and probe without one of these `Authorization`s from now on.
    pub(crate) fn require_authorization(&self, values: &[&str]) {
        let values = values.iter().map(|it| (*it).to_owned()).collect();
        *self.state.authorizations.lock().unwrap() = values;
    }

    /// Says in each response from now on what time it is, by a clock that is ahead by so many seconds.
    pub(crate) fn show_clock(&self, seconds_ahead: i64) {
        *self.state.clock.lock().unwrap() = Some(seconds_ahead);
    }

    /// Changes how the hub handles V2 messages.
    pub(crate) fn set_v2(&self, v2: V2) {
        self.state.v2.send_replace(v2);
    }

    /// Replies 400 to every request with a sample, histogram or exemplar that `is_bad` returns
    /// true for. Each is passed as a series that holds nothing else.
    pub(crate) fn refuse_if(&self, is_bad: impl Fn(&Series) -> bool + Send + 'static) {
        *self.state.is_bad.lock().unwrap() = Box::new(is_bad);
    }

    /// As [`Self::refuse_if`], with this text.
    pub(crate) fn refuse_with(
        &self,
        text: &'static str,
        is_bad: impl Fn(&Series) -> bool + Send + 'static,
    ) {
        *self.state.bad_text.lock().unwrap() = text;
        self.refuse_if(is_bad);
    }

    /// Replies 500 to every request for which `fault` returns a text.
    pub(crate) fn fail_if(&self, fault: impl FnMut(&[Series]) -> Option<String> + Send + 'static) {
        *self.state.fault.lock().unwrap() = Box::new(fault);
    }

    /// Replies 413 to every message that is longer before compression.
    pub(crate) fn limit_message_bytes(&self, bytes_max: usize) {
        *self.state.message_bytes_max.lock().unwrap() = bytes_max;
    }

    /// What was stored since the last call, in order: each sample, histogram and exemplar as a
    /// series that holds nothing else.
    pub(crate) fn take_stored(&self) -> Vec<Series> {
        std::mem::take(&mut self.state.stored.lock().unwrap())
    }

    /// Sets the reply to one request: the first to come for which no reply is set yet.
    pub(crate) fn reply_once(&self, reply: Reply) {
        self.state.script.lock().unwrap().push_back(reply);
    }

    /// Takes back what [`Self::reply_once`] set and no request came for.
    pub(crate) fn forget_replies(&self) {
        self.state.script.lock().unwrap().clear();
    }

    /// Sets the reply to every request from now on, except those of [`Self::reply_once`]. What cannot be
    /// read gets it as well.
    pub(crate) fn reply_always(&self, reply: Reply) {
        *self.state.always.lock().unwrap() = Some(reply);
    }

    /// Ends the effect of [`Self::reply_always`].
    pub(crate) fn reply_as_usual(&self) {
        *self.state.always.lock().unwrap() = None;
    }

    /// Sets the reply to every probe from now on.
    pub(crate) fn reply_to_probes(&self, reply: Reply) {
        *self.state.probe_reply.lock().unwrap() = Some(reply);
    }

    /// Ends the effect of [`Self::reply_to_probes`].
    pub(crate) fn reply_to_probes_as_usual(&self) {
        *self.state.probe_reply.lock().unwrap() = None;
    }

    /// Waits until `count` probes have come since the start.
    pub(crate) async fn wait_for_probes(&self, count: usize) {
        let mut probes = self.state.probes.subscribe();
        let enough = probes.wait_for(|probes| *probes >= count);
        let enough = tokio::time::timeout(DEADLINE, enough).await.is_ok();
        assert!(enough, "{} of {count} probes came", self.probes());
    }

    /// The number of probes since the start.
    pub(crate) fn probes(&self) -> usize {
        *self.state.probes.borrow()
    }

    /// The number of connections since the start, and of those that are open.
    pub(crate) fn connections(&self) -> Connections {
        *self.state.connections.borrow()
    }

    /// Waits until the numbers of connections are as `expected`.
    pub(crate) async fn wait_for_connections(&self, expected: impl Fn(Connections) -> bool) {
        let mut connections = self.state.connections.subscribe();
        let seen = connections.wait_for(|it| expected(*it));
        let in_time = tokio::time::timeout(DEADLINE, seen).await.is_ok();
        assert!(in_time, "{:?}", self.connections());
    }

    /// Records and stores nothing from now on, for tests with much data.
    pub(crate) fn keep_nothing(&self) {
        self.state.keeps.send_replace(false);
    }

    /// Records requests but holds all responses back until [`Self::release_responses`].
    pub(crate) fn hold_responses(&self) {
        self.state.holds_responses.send_replace(true);
    }

    pub(crate) fn release_responses(&self) {
        self.state.holds_responses.send_replace(false);
    }

    /// Waits until `count` requests are recorded that no `take` returned yet.
    pub(crate) async fn wait_for_requests(&self, count: usize) {
        let mut received = self.state.received.subscribe();
        let enough = received.wait_for(|received| received.len() >= count);
        let enough = tokio::time::timeout(DEADLINE, enough).await.is_ok();
        let came = self.state.received.borrow().len();
        assert!(enough, "{came} of {count} requests came");
    }

    /// The requests since the last call.
    pub(crate) fn take_received(&self) -> Vec<Received> {
        self.state.received.send_replace(Vec::new())
    }

    /// The only request since the last call; fails when there are more or none.
    #[track_caller]
    pub(crate) fn take_one(&self) -> Received {
        let mut received = self.take_received();
        assert_eq!(received.len(), 1, "{received:#?}");
        received.remove(0)
    }

    /// Fails when a request came since the last `take`.
    #[track_caller]
    pub(crate) fn expect_no_request(&self) {
        let received = self.take_received();
        assert!(received.is_empty(), "{received:#?}");
    }
}

/// An address where nothing listens, and the URL of a hub there.
pub(crate) fn vacant() -> (SocketAddr, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (address, url(address))
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/api/v1/write")
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(stream, Arc::clone(&state)));
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    // The second handle on the socket lets a reply reset the connection when it is closed.
    let stream = stream.into_std().unwrap();
    let handle = TcpStream::from_std(stream.try_clone().unwrap()).unwrap();
    let tls = state.tls.lock().unwrap().clone();
    let stream = match super::tls_server::accept(TcpStream::from_std(stream).unwrap(), tls).await {
        Ok(stream) => TokioIo::new(stream),
        Err(error) => {
            let add = |all: &mut Vec<String>| all.push(error.to_string());
            return state.broken.send_modify(add);
        }
    };
    let handle = Arc::new(handle);
    let service = service_fn(async |request| {
        let mut response = respond(request, Arc::clone(&state), Arc::clone(&handle)).await?;
        if let Some(seconds_ahead) = *state.clock.lock().unwrap() {
            let time = UNIX_EPOCH + Duration::from_millis(now().unsigned_abs());
            let time = match seconds_ahead {
                0.. => time + Duration::from_secs(seconds_ahead.unsigned_abs()),
                _ => time - Duration::from_secs(seconds_ahead.unsigned_abs()),
            };
            let date = httpdate::fmt_http_date(time).parse().unwrap();
            response.headers_mut().insert(DATE, date);
        }
        Ok::<_, io::Error>(response)
    });
    state.connections.send_modify(|it| {
        it.accepted += 1;
        it.open += 1;
    });
    let served = hyper::server::conn::http1::Builder::new()
        .auto_date_header(false)
        .serve_connection(stream, service)
        .await;
    if let Err(error) = served {
        let add = |all: &mut Vec<String>| all.push(format!("{error:?}"));
        state.broken.send_modify(add);
    }
    state.connections.send_modify(|it| it.open -= 1);
}

async fn respond(
    request: http::Request<Incoming>,
    state: Arc<State>,
    socket: Arc<TcpStream>,
) -> Result<Response<ResponseBody>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let Some(received) = read(&head, body) else {
        let scripted = state.always.lock().unwrap().clone();
        let scripted = scripted.filter(|it| it.status.is_some() && it.fault.is_none());
        let reply = Reply::status(400).text("the hub cannot read this");
        return Ok(scripted.unwrap_or(reply).into_response());
    };
    let required = state.authorizations.lock().unwrap().clone();
    let shown = received.header("authorization").unwrap_or_default();
    if !required.is_empty() && !required.iter().any(|it| it == shown) {
        let reply = Reply::status(401).text("wrong Authorization");
        return Ok(reply.into_response());
    }
    if received.protocol == Protocol::V2 && received.message.is_empty() {
        let scripted = state.probe_reply.lock().unwrap().clone();
        let reply = scripted.unwrap_or_else(|| state.store(&received));
        state.probes.send_modify(|probes| *probes += 1);
        return Ok(reply.into_response());
    }
    let next = state.script.lock().unwrap().pop_front();
    let next = next.or_else(|| state.always.lock().unwrap().clone());
    let mut reply = next.unwrap_or_else(Reply::as_usual);
    if *state.keeps.borrow() {
        let received = received.clone();
        state.received.send_modify(|all| all.push(received));
    }
    let mut holds = state.holds_responses.subscribe();
    let _ = holds.wait_for(|holds| !holds).await;
    tokio::time::sleep(reply.delay).await;
    if reply.status.is_none() && reply.fault.is_none() {
        let usual = state.store(&received);
        reply.status = usual.status;
        reply.headers.extend(usual.headers);
        reply.text += &usual.text;
    }
    match reply.fault {
        Some(Fault::Reset) => {
            socket.set_zero_linger()?;
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Some(Fault::Never) => std::future::pending().await,
        Some(Fault::CutOff) | None => Ok(reply.into_response()),
    }
}

/// Decodes a request as strictly as a receiver may: only the two canonical media types are
/// accepted.
fn read(head: &http::request::Parts, body: Bytes) -> Option<Received> {
    let content_type = head.headers.get("content-type")?.to_str().ok()?;
    let mut protocols = Protocol::BOTH.into_iter();
    let protocol = protocols.find(|protocol| protocol.content_type() == content_type)?;
    let message = unsnappy(&body).ok()?;
    let series = decode(protocol, &message).ok()?;
    Some(Received {
        path: head.uri.path().to_owned(),
        headers: head.headers.clone(),
        body,
        message,
        protocol,
        series,
    })
}

impl State {
    /// Stores what is good in a request, and returns the reply with its counts.
    fn store(&self, received: &Received) -> Reply {
        let v2 = *self.v2.borrow();
        match (received.protocol, v2) {
            (Protocol::V2, V2::Ignores) => return Reply::status(204),
            (Protocol::V2, V2::Refuses) => return Reply::status(415).text("unsupported proto"),
            (Protocol::V1, _) | (Protocol::V2, V2::Speaks) => {}
        }
        if received.message.len() > *self.message_bytes_max.lock().unwrap() {
            return Reply::status(413).text("message too large");
        }
        let is_bad = self.is_bad.lock().unwrap();
        let units: Vec<_> = received.series.iter().flat_map(Series::units).collect();
        if !units.is_empty()
            && let Some(text) = (self.fault.lock().unwrap())(&units)
        {
            return Reply::status(500).text(&text);
        }
        let (bad, mut good): (Vec<_>, Vec<_>) = units.into_iter().partition(|unit| is_bad(unit));
        if received.protocol == Protocol::V1 && !bad.is_empty() {
            good.clear();
        }
        let mut reply = Reply::status(if bad.is_empty() { 204 } else { 400 });
        if let [first, ..] = bad.as_slice() {
            reply = reply.text(&format!(
                "{}: {}",
                self.bad_text.lock().unwrap(),
                first.notation()
            ));
        }
        if received.protocol == Protocol::V2 {
            let (samples, histograms, exemplars) = counts(&good);
            reply = reply.written(samples, histograms, exemplars);
        }
        if *self.keeps.borrow() {
            self.stored.lock().unwrap().extend(good);
        }
        reply
    }
}
