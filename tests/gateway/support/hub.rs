//! A hub that does as it is told and remembers all it was sent.
//!
//! Untold it stores everything but what a test has it refuse: of a V2 message all other samples, as
//! Prometheus 3 does, and of a V1 message nothing. Probes (empty V2 messages) are answered apart:
//! they are not remembered and use up no scripted reply.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::DEADLINE;
use super::body::{Protocol, Series, counts, decode, unsnappy};

/// An in-process hub on a port of its own; it ends with the runtime of the test.
pub(crate) struct ScriptedHub {
    address: SocketAddr,
    state: Arc<State>,
}

/// One request as the hub saw it.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// As it came, compressed.
    pub(crate) body: Bytes,
    pub(crate) message: Vec<u8>,
    pub(crate) protocol: Protocol,
    pub(crate) series: Vec<Series>,
}

impl Received {
    /// The labels of each series in wire order, in the notation of `body::series`.
    pub(crate) fn labels(&self) -> Vec<String> {
        self.series.iter().map(Series::notation).collect()
    }
}

/// What the hub does with a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    /// `None` to judge and store as it does untold.
    status: Option<u16>,
    headers: Vec<(&'static str, String)>,
    text: String,
    delay: Duration,
    fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Reset,
    CutBody,
    Hang,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status: Some(status),
            ..Self::default()
        }
    }

    /// What it does untold, with what is added.
    pub(crate) fn usual() -> Self {
        Self::default()
    }

    /// Resets the connection instead of a response.
    pub(crate) fn reset() -> Self {
        Self::fault(Fault::Reset, 0)
    }

    /// Announces more body than it sends, then closes.
    pub(crate) fn cut_body(status: u16) -> Self {
        Self::fault(Fault::CutBody, status)
    }

    /// Never answers.
    pub(crate) fn hang() -> Self {
        Self::fault(Fault::Hang, 0)
    }

    fn fault(fault: Fault, status: u16) -> Self {
        Self {
            fault: Some(fault),
            ..Self::status(status)
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Sets the three Written headers.
    pub(crate) fn written(self, samples: usize, histograms: usize, exemplars: usize) -> Self {
        self.header(
            "x-prometheus-remote-write-samples-written",
            &samples.to_string(),
        )
        .header(
            "x-prometheus-remote-write-histograms-written",
            &histograms.to_string(),
        )
        .header(
            "x-prometheus-remote-write-exemplars-written",
            &exemplars.to_string(),
        )
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        text.clone_into(&mut self.text);
        self
    }

    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// What a hub makes of V2 messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum V2 {
    /// It understands them.
    Speaks,
    /// It takes them for V1, so answers 2xx and stores nothing: VictoriaMetrics, Prometheus 2.42.
    Ignores,
    /// It answers 415.
    Refuses,
}

/// Says of a series of one sample, histogram or exemplar whether it is bad.
type Judge = Box<dyn Fn(&Series) -> bool + Send>;

struct State {
    script: Mutex<VecDeque<Reply>>,
    always: Mutex<Option<Reply>>,
    v2: watch::Sender<V2>,
    bad: Mutex<Judge>,
    message_bytes_max: Mutex<usize>,
    stored: Mutex<Vec<Series>>,
    keeps: watch::Sender<bool>,
    held: watch::Sender<bool>,
    received: watch::Sender<Vec<Received>>,
    probe_reply: Mutex<Option<Reply>>,
    probes: watch::Sender<usize>,
}

impl ScriptedHub {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    /// A hub at an address that a gate knows already.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            script: Mutex::default(),
            always: Mutex::default(),
            v2: watch::Sender::new(V2::Speaks),
            bad: Mutex::new(Box::new(|_| false)),
            message_bytes_max: Mutex::new(usize::MAX),
            stored: Mutex::default(),
            keeps: watch::Sender::new(true),
            held: watch::Sender::new(false),
            received: watch::Sender::new(Vec::new()),
            probe_reply: Mutex::default(),
            probes: watch::Sender::new(0),
        });
        tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state }
    }

    /// A hub that takes every message for V1.
    pub(crate) async fn start_v1_only() -> Self {
        let hub = Self::start().await;
        hub.set_v2(V2::Ignores);
        hub
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// Its name in the metrics of a gate that was given no other.
    pub(crate) fn name(&self) -> String {
        self.address.to_string()
    }

    /// Changes what it makes of V2.
    pub(crate) fn set_v2(&self, v2: V2) {
        self.state.v2.send_replace(v2);
    }

    /// Answers 400 to a request that holds a bad sample, histogram or exemplar. `bad` is shown each
    /// as a series with nothing else in it.
    pub(crate) fn refuse(&self, bad: impl Fn(&Series) -> bool + Send + 'static) {
        *self.state.bad.lock().unwrap() = Box::new(bad);
    }

    /// Answers 413 to larger messages, before compression.
    pub(crate) fn limit_message(&self, bytes_max: usize) {
        *self.state.message_bytes_max.lock().unwrap() = bytes_max;
    }

    /// What it stored since the last time, in order: each sample, histogram and exemplar as a
    /// series with nothing else in it.
    pub(crate) fn take_stored(&self) -> Vec<Series> {
        std::mem::take(&mut self.state.stored.lock().unwrap())
    }

    /// Replies so to the next request that has no reply yet.
    pub(crate) fn reply(&self, reply: Reply) {
        self.state.script.lock().unwrap().push_back(reply);
    }

    /// Replies so to every request from now on.
    pub(crate) fn always(&self, reply: Reply) {
        *self.state.always.lock().unwrap() = Some(reply);
    }

    /// Stores everything again.
    pub(crate) fn recover(&self) {
        *self.state.always.lock().unwrap() = None;
    }

    /// Replies so to every probe from now on.
    pub(crate) fn reply_to_probes(&self, reply: Reply) {
        *self.state.probe_reply.lock().unwrap() = Some(reply);
    }

    /// Answers probes like any write again.
    pub(crate) fn answer_probes(&self) {
        *self.state.probe_reply.lock().unwrap() = None;
    }

    /// Waits until it was probed so many times in all.
    pub(crate) async fn wait_probed(&self, count: usize) {
        let mut probes = self.state.probes.subscribe();
        let enough = probes.wait_for(|probes| *probes >= count);
        let enough = tokio::time::timeout(DEADLINE, enough).await.is_ok();
        assert!(enough, "{} of {count} probes came", self.probed());
    }

    /// How many times it was probed.
    pub(crate) fn probed(&self) -> usize {
        *self.state.probes.borrow()
    }

    /// Forgets what it receives, for tests about volume.
    pub(crate) fn forget(&self) {
        self.state.keeps.send_replace(false);
    }

    /// Takes requests and holds all answers back until `release`.
    pub(crate) fn hold(&self) {
        self.state.held.send_replace(true);
    }

    pub(crate) fn release(&self) {
        self.state.held.send_replace(false);
    }

    /// Waits until so many requests have come since the last `take`.
    pub(crate) async fn wait_received(&self, count: usize) {
        let mut received = self.state.received.subscribe();
        let enough = received.wait_for(|received| received.len() >= count);
        let enough = tokio::time::timeout(DEADLINE, enough).await.is_ok();
        assert!(
            enough,
            "{} of {count} requests came",
            self.state.received.borrow().len()
        );
    }

    /// Everything received since the last time.
    pub(crate) fn take(&self) -> Vec<Received> {
        self.state.received.send_replace(Vec::new())
    }

    /// The only request received since the last time.
    #[track_caller]
    pub(crate) fn one(&self) -> Received {
        let mut received = self.take();
        assert_eq!(received.len(), 1, "{received:#?}");
        received.remove(0)
    }

    /// Fails when anything was received.
    #[track_caller]
    pub(crate) fn expect_nothing(&self) {
        let received = self.take();
        assert!(received.is_empty(), "{received:#?}");
    }
}

type ResponseBody = BoxBody<Bytes, io::Error>;

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(stream, Arc::clone(&state)));
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    // A second handle on the socket, by which a reply can turn its closing into a reset.
    let stream = stream.into_std().unwrap();
    let handle = TcpStream::from_std(stream.try_clone().unwrap()).unwrap();
    let stream = TokioIo::new(TcpStream::from_std(stream).unwrap());
    let handle = Arc::new(handle);
    let service = service_fn(|request| respond(request, Arc::clone(&state), Arc::clone(&handle)));
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(stream, service)
        .await;
}

async fn respond(
    request: http::Request<Incoming>,
    state: Arc<State>,
    socket: Arc<TcpStream>,
) -> Result<Response<ResponseBody>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let Some(received) = read(&head, body) else {
        return Ok(response(
            Reply::status(400).text("the hub cannot read this"),
        ));
    };
    if received.protocol == Protocol::V2 && received.message.is_empty() {
        let scripted = state.probe_reply.lock().unwrap().clone();
        let reply = scripted.unwrap_or_else(|| state.judge(&received));
        state.probes.send_modify(|probes| *probes += 1);
        return Ok(response(reply));
    }
    let next = state.script.lock().unwrap().pop_front();
    let next = next.or_else(|| state.always.lock().unwrap().clone());
    let mut reply = next.unwrap_or_else(Reply::usual);
    if *state.keeps.borrow() {
        let received = received.clone();
        state.received.send_modify(|all| all.push(received));
    }
    let _ = state.held.subscribe().wait_for(|held| !held).await;
    tokio::time::sleep(reply.delay).await;
    if reply.status.is_none() && reply.fault.is_none() {
        let usual = state.judge(&received);
        reply.status = usual.status;
        reply.headers.extend(usual.headers);
        reply.text += &usual.text;
    }
    match reply.fault {
        Some(Fault::Reset) => {
            socket.set_zero_linger()?;
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::CutBody) | None => Ok(response(reply)),
    }
}

/// Reads as the strictest of receivers: the two canonical media types and nothing else.
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
    /// Stores what is to be stored of a request, and says so.
    fn judge(&self, received: &Received) -> Reply {
        let v2 = *self.v2.borrow();
        match (received.protocol, v2) {
            (Protocol::V2, V2::Ignores) => return Reply::status(204),
            (Protocol::V2, V2::Refuses) => return Reply::status(415).text("unsupported proto"),
            (Protocol::V1, _) | (Protocol::V2, V2::Speaks) => {}
        }
        if received.message.len() > *self.message_bytes_max.lock().unwrap() {
            return Reply::status(413).text("message too large");
        }
        let bad = self.bad.lock().unwrap();
        let units: Vec<_> = received.series.iter().flat_map(Series::units).collect();
        let (refused, mut taken): (Vec<_>, Vec<_>) = units.into_iter().partition(|unit| bad(unit));
        if received.protocol == Protocol::V1 && !refused.is_empty() {
            taken.clear();
        }
        let mut reply = Reply::status(if refused.is_empty() { 204 } else { 400 });
        if let [first, ..] = refused.as_slice() {
            reply = reply.text(&format!("bad: {}", first.notation()));
        }
        if received.protocol == Protocol::V2 {
            let (samples, histograms, exemplars) = counts(&taken);
            reply = reply.written(samples, histograms, exemplars);
        }
        if *self.keeps.borrow() {
            self.stored.lock().unwrap().extend(taken);
        }
        reply
    }
}

fn response(reply: Reply) -> Response<ResponseBody> {
    let status = reply.status.expect("it is known by now");
    let mut response = Response::builder().status(status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let body = Cut {
        text: Bytes::from(reply.text),
        missing: if reply.fault == Some(Fault::CutBody) {
            100
        } else {
            0
        },
    };
    response.body(body.boxed()).unwrap()
}

/// A body that announces `missing` bytes more than it has, then fails.
struct Cut {
    text: Bytes,
    missing: usize,
}

impl Body for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let text = std::mem::take(&mut self.text);
        Poll::Ready(match (text.is_empty(), self.missing) {
            (false, _) => Some(Ok(Frame::data(text))),
            (true, 0) => None,
            (true, _) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty() && self.missing == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.text.len() + self.missing) as u64)
    }
}
