//! Speaks HTTP on one connection until it ends, misses a deadline, or hubgate drains.
//!
//! All deadlines are kept here, for both versions alike. hyper has one for the heads of HTTP/1.1,
//! but it also covers the idle time before them. hyper has none for HTTP/2, and hyper-util has none
//! for the bytes that tell the two versions apart. `admit` and `establish` decide who may connect, and
//! the handler decides what a request means.
//!
//! What ends a connection, other than its peer:
//!
//! | why | counted as | decided in |
//! |---|---|---|
//! | the peer is outside `listen.source_ranges` | `source_range` | `admit.rs` |
//! | a PROXY header is required, and the peer is no trusted proxy | `untrusted_proxy` | `admit.rs` |
//! | all places are taken, and no connection gives way | `connections_max` | `places.rs` |
//! | its address has as many as it may, and none gives way | `connections_per_address_max` | `places/holders.rs` |
//! | it gives way to another one | `evicted` | `places.rs`, `places/holders.rs` |
//! | the PROXY header is missing, malformed or late | `proxy_header` | `establish.rs` |
//! | the head of a request is late | `header_timeout` | `activity.rs` |
//! | there was no request for long | `idle_timeout` | `activity.rs` |
//! | a head can be read in two ways, or has not one Host | `malformed_head` | `head.rs`, [`check`] |
//! | its TLS handshake fails | `tls_handshake`, `plain_http` | `handshake.rs` |
//! | its TLS handshake is late | `tls_handshake_timeout` | `handshake.rs` |
//! | after a reload, or the end of its certificate, it could not begin as it did | `outdated` | `standing.rs` |
//! | HTTP/2 frames come without progress | `http2_flood` | `frames.rs` |
//! | a response says `Connection: close`, as before the spoke is identified | | `write/respond.rs` |
//! | a refused body is not read, or not to its end | | `write/body.rs` |
//! | a response comes after the drain is announced | | [`connection`] |
//! | it is older than `listen.connection_age_max`, and a response ends it | | `establish.rs` |
//! | hubgate drains | | [`Lifetime::run`] |
//! | the bytes are not HTTP, a head is too large, or an HTTP/2 ping is not answered | | hyper |
//!
//! Where the peer may still be sending, [`linger`] closes the connection.

use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::reasons::ConnectionRefusal;

use super::activity::{Activity, Deadlines, InFlight};
use super::admit::Access;
use super::establish::Established;
use super::head::{HeadFault, Heads};
use super::places::Place;
use super::standing::Standing;
use super::stream::{Followed, linger};
use super::{Drain, Handler, ResponseBody};

/// The read buffer of an HTTP/1.1 connection, in bytes. A head must fit into it.
pub(super) const READ_BUFFER_BYTES: usize = 32 * 1024;

/// The number of requests at once on one HTTP/2 connection. Prometheus has at most 50 shards by
/// default.
const STREAMS_MAX: u32 = 64;

/// The bytes that the sender on one HTTP/2 connection may make hubgate buffer.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// The bytes that one HTTP/2 stream may make hubgate buffer.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// The time between two pings on an HTTP/2 connection. Pings find peers that are gone.
const PING_INTERVAL: Duration = Duration::from_secs(60);

type BoxError = Box<dyn Error + Send + Sync>;

/// Speaks HTTP on one connection until its end.
pub(super) async fn connection<S, H>(
    established: Established<S>,
    access: Arc<Access>,
    handler: Arc<H>,
    drain: Drain,
    deadlines: Deadlines,
) -> Result<(), BoxError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    H: Handler,
{
    let Established {
        stream,
        peer,
        standing,
        activity,
        place,
        old_at,
    } = established;
    let lifetime = Lifetime {
        closing: drain.begun.child_token(),
        activity: Arc::clone(&activity),
        standing: Arc::clone(&standing),
        deadlines,
        drain,
    };
    let heads = Arc::new(Heads::default());
    let (stream, mut unread) = Followed::new(
        stream,
        Arc::clone(&activity),
        Arc::clone(&heads),
        Arc::clone(&access),
    );
    let closing = lifetime.closing.clone();
    let announced = Arc::clone(&lifetime.drain.announced);
    let turn = Arc::clone(place.turn());
    let refuser = Arc::clone(&access);
    let service = service_fn(move |request: Request<Incoming>| {
        let (in_flight, unanswered) = (activity.begin(), activity.ask());
        let fault = check(&request, &heads).err();
        let (handler, peer, turn) = (Arc::clone(&handler), peer.clone(), Arc::clone(&turn));
        let (refuser, heads, closing) = (Arc::clone(&refuser), Arc::clone(&heads), closing.clone());
        let (announced, standing) = (Arc::clone(&announced), Arc::clone(&standing));
        async move {
            let mut response = match fault {
                None if !standing.holds() => {
                    standing.count_loss();
                    outdated()
                }
                None => handler.handle(peer, Arc::clone(&turn), request).await,
                Some(fault) => {
                    refuser.count_refusal(ConnectionRefusal::MalformedHead);
                    refuse(fault)
                }
            };
            drop(unanswered);
            heads.responded();
            turn.idle();
            let old = old_at.is_some_and(|old_at| Instant::now() >= old_at);
            if old || announced.load(Ordering::Relaxed) {
                close(&mut response);
            }
            if closes(&response) {
                closing.cancel();
            }
            Ok::<_, Infallible>(response.map(|body| InFlightBody {
                body,
                _in_flight: in_flight,
            }))
        }
    });
    let http = http();
    let connection = http.serve_connection(TokioIo::new(stream), service);
    let ended = lifetime.run(connection, &access, &place).await;
    let Some(ended) = ended else {
        return Ok(());
    };
    if let (Ok(stream), Some(_permit)) = (unread.try_recv(), place.may_linger()) {
        tokio::select! {
            () = linger(stream) => {}
            () = place.evicted() => access.count_refusal(ConnectionRefusal::Evicted),
        }
    }
    ended
}

/// Checks what must be clear about a request before anything else is.
fn check(request: &Request<Incoming>, heads: &Heads) -> Result<(), HeadFault> {
    let version = request.version();
    if version != Version::HTTP_2 {
        heads.next()?;
    }
    let needs_host = match version {
        Version::HTTP_11 => true,
        Version::HTTP_2 => request.uri().authority().is_none(),
        _ => false,
    };
    match request.headers().get_all(HOST).iter().count() {
        0 if needs_host => Err(HeadFault::MissingHost),
        0 | 1 => Ok(()),
        _ => Err(HeadFault::SecondHost),
    }
}

/// The response to a request whose head is not taken.
fn refuse(fault: HeadFault) -> Response<ResponseBody> {
    let reason = ConnectionRefusal::MalformedHead.name();
    last(StatusCode::BAD_REQUEST, format!("{reason}: {fault}\n"))
}

/// The response to a request on a connection that could not begin as it did.
fn outdated() -> Response<ResponseBody> {
    let reason = ConnectionRefusal::Outdated.name();
    let advice = "the configuration changed, or the client certificate expired; connect again";
    let mut response = last(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("{reason}: {advice}\n"),
    );
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// A response after which the connection ends.
fn last(status: StatusCode, text: String) -> Response<ResponseBody> {
    let body = Full::from(text).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, text);
    close(&mut response);
    response
}

/// Has a response ask for the end of its connection. The header belongs to HTTP/1.1; hyper removes it
/// from responses of HTTP/2, where a frame (GOAWAY) says the same.
fn close(response: &mut Response<ResponseBody>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

/// Speaks HTTP/1.1, and HTTP/2 with prior knowledge. The first bytes of a connection tell which.
fn http() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .header_read_timeout(None)
        // A sender may close its side after a request, and still wait for the response.
        .half_close(true)
        .max_buf_size(READ_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES);
    builder
}

/// Ends a connection when its peer does not.
struct Lifetime {
    activity: Arc<Activity>,
    standing: Arc<Standing>,
    deadlines: Deadlines,
    drain: Drain,
    /// Cancelled when hubgate drains or a response asked for the end of the connection.
    closing: CancellationToken,
}

/// How a connection ends whose peer does not end it.
enum Ending {
    /// It is asked to, and finishes what it began.
    Asked,
    /// At once.
    Cut,
}

impl Lifetime {
    /// Drives a connection until its end. Returns `None` when it has to be cut.
    async fn run<C>(
        &self,
        connection: C,
        access: &Access,
        place: &Place,
    ) -> Option<Result<(), BoxError>>
    where
        C: GracefulConnection<Error: Into<BoxError>>,
    {
        let mut connection = pin!(connection);
        // It is polled when something in it has happened, and not with each part of a request.
        let mut ending = FuturesUnordered::from_iter([self.ending(access, place)]);
        tokio::select! {
            biased;
            ended = connection.as_mut() => return Some(ended.map_err(Into::into)),
            ending = ending.next() => match ending {
                Some(Ending::Cut) => return None,
                Some(Ending::Asked) | None => {}
            }
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection => Some(ended.map_err(Into::into)),
            () = self.closing_overdue(place) => None,
            () = place.evicted() => {
                access.count_refusal(ConnectionRefusal::Evicted);
                None
            }
        }
    }

    /// Waits until the connection is to end.
    async fn ending(&self, access: &Access, place: &Place) -> Ending {
        tokio::select! {
            () = self.closing.cancelled() => Ending::Asked,
            () = self.standing.lost() => {
                self.standing.count_loss();
                Ending::Asked
            }
            () = place.evicted() => {
                access.count_refusal(ConnectionRefusal::Evicted);
                Ending::Cut
            }
            overdue = self.activity.overdue(&self.deadlines) => {
                access.count_refusal(overdue);
                match overdue {
                    ConnectionRefusal::HeaderTimeout => Ending::Cut,
                    _ => Ending::Asked,
                }
            }
        }
    }

    /// Waits until a connection that was asked to end has had enough time to do so.
    async fn closing_overdue(&self, place: &Place) {
        // A request of a stranger, whose response may never be read, is not waited for.
        let unknown = async {
            sleep(self.deadlines.closing).await;
            if !place.turn().waits() {
                pending::<()>().await;
            }
        };
        let drained = async {
            self.drain.begun.cancelled().await;
            tokio::select! {
                () = self.activity.quiet(self.deadlines.drain) => {}
                // A peer that reads no response would hold up the end of the process.
                () = self.activity.answered(self.deadlines.closing) => {}
            }
        };
        tokio::select! {
            () = unknown => {}
            () = drained => {}
            () = self.activity.quiet(self.deadlines.closing) => {}
        }
    }
}

/// Tells whether a response asks for the end of its connection.
fn closes(response: &Response<ResponseBody>) -> bool {
    let connection = response.headers().get(CONNECTION);
    connection.is_some_and(|value| value == "close")
}

/// The body of a response. The request is in flight until hyper drops it.
struct InFlightBody {
    body: ResponseBody,
    _in_flight: InFlight,
}

impl Body for InFlightBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
