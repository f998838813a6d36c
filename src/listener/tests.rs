//! The deadlines of a connection under a paused clock, with pipes instead of sockets.

pub(super) mod addresses;
mod before_http;

use http::header::{CONNECTION, HOST};
use http::{HeaderValue, StatusCode, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::activity::Activity;
use super::places::Taker;
use super::*;
use crate::config::ConnectionRules;
use crate::metrics::{Metrics, PageFormat};

const MINUTE: Duration = Duration::from_secs(60);

/// Longer than any deadline.
const LONG: Duration = Duration::from_secs(15 * 60);

/// What an HTTP/2 client sends before its first request: the preface and an empty SETTINGS frame.
const HTTP2_OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Responds at once, after [`LONG`] on `/long` and `/unknown`, with `Connection: close` on `/close`, and
/// with a body on `/text`.
/// It knows all senders but those that ask for `/unknown`.
struct Paths;

impl Handler for Paths {
    async fn handle(
        self: Arc<Self>,
        _: Peer,
        turn: Arc<Turn>,
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let path = request.uri().path();
        let body = Full::from(if path == "/text" { "text" } else { "" });
        let body = body.map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(body);
        if path != "/unknown" {
            turn.stay(path);
        }
        match path {
            "/long" | "/unknown" => sleep(LONG).await,
            "/close" => {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            _ => {}
        }
        response
    }
}

/// One connection, whose task returns how long it lasted.
struct Served {
    metrics: Metrics,
    drain: Drain,
    accepted: Instant,
    task: JoinHandle<Duration>,
}

impl Served {
    async fn start() -> (Self, DuplexStream) {
        Self::start_with(ConnectionRules::open()).await
    }

    /// Starts a connection from 127.0.0.1 under these rules.
    async fn start_with(rules: ConnectionRules) -> (Self, DuplexStream) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let metrics = Metrics::new();
        let rules = Arc::new(rules);
        let access = Access {
            connections_max: 1,
            gives_way: GivesWay::Unknown,
            head_timeout: HEAD_TIMEOUT,
            rules: Box::new({
                let rules = Arc::clone(&rules);
                move || Arc::clone(&rules)
            }),
            reloads: watch::channel(()).1,
            handshakes: Arc::new(Handshakes::new(2)),
            metrics: Some(metrics.clone()),
            proxy_log: ProxyLog::default(),
        };
        let drain = Drain::default();
        let accepted = Instant::now();
        let places = Places::new(access.connections_max, access.gives_way);
        let taker = Taker::Address([127, 0, 0, 1].into(), None);
        let gauge = metrics.connections().clone();
        let place = places.take(taker, Some(gauge)).await;
        let place = place.unwrap();
        let admitted = Admitted {
            stream: far,
            peer: Peer::direct(([127, 0, 0, 1], 1).into()),
            rules,
            accepted,
            activity: Activity::new(Arc::clone(place.turn())),
            place,
        };
        let served = run(
            admitted,
            Arc::new(access),
            Arc::new(Paths),
            drain.clone(),
            Deadlines::default(),
        );
        let task = tokio::spawn(async move {
            served.await;
            accepted.elapsed()
        });
        let served = Self {
            metrics,
            drain,
            accepted,
            task,
        };
        (served, near)
    }

    /// Waits for the end of the connection. Panics unless it came `expected` after the accept and
    /// was counted with this reason.
    async fn ends(self, expected: Duration, reason: Option<&str>) {
        let lasted = self.task.await.unwrap();
        let late = lasted.saturating_sub(expected);
        assert!(
            lasted >= expected && late < Duration::from_millis(100),
            "lasted {lasted:?}, not {expected:?}"
        );
        let text = self.metrics.encode(PageFormat::Text, Arc::new(())).unwrap();
        let family = "hubgate_connections_refused_total{reason=\"";
        let counted: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix(family)?.strip_suffix("\"} 1"))
            .collect();
        assert_eq!(counted, Vec::from_iter(reason));
    }
}

/// A client of either version.
enum Client {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Client {
    async fn open(stream: DuplexStream, version: Version) -> Self {
        let io = TokioIo::new(stream);
        match version {
            Version::HTTP_11 => {
                let (client, connection) = http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                Self::Http1(client)
            }
            Version::HTTP_2 => {
                let (client, connection) =
                    http2::handshake(TokioExecutor::new(), io).await.unwrap();
                tokio::spawn(connection);
                Self::Http2(client)
            }
            _ => unreachable!("no test asks for another version"),
        }
    }

    async fn get(&mut self, path: &str) -> hyper::Result<StatusCode> {
        let request = Request::get(format!("http://gate{path}")).header(HOST, "gate");
        let request = request.body(Empty::new()).unwrap();
        let response = match self {
            Self::Http1(client) => {
                client.ready().await?;
                client.send_request(request).await?
            }
            Self::Http2(client) => {
                client.ready().await?;
                client.send_request(request).await?
            }
        };
        Ok(response.status())
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_head_must_arrive_within_ten_seconds_of_the_accept() {
    for opening in [b"".as_slice(), b"P", b"POST /api", HTTP2_OPENING] {
        let (served, mut stream) = Served::start().await;
        stream.write_all(opening).await.unwrap();
        served
            .ends(Duration::from_secs(10), Some("header_timeout"))
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_arrives_byte_by_byte_gets_no_more_time() {
    let (served, mut stream) = Served::start().await;
    let trickle = tokio::spawn(async move {
        for byte in b"POST /api/v1/write HTTP/1.1" {
            sleep(Duration::from_secs(1)).await;
            stream.write_all(&[*byte]).await?;
        }
        std::io::Result::Ok(())
    });
    served
        .ends(Duration::from_secs(10), Some("header_timeout"))
        .await;
    trickle.await.unwrap().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_later_head_must_arrive_within_ten_seconds_of_its_first_byte() {
    let (served, mut stream) = Served::start().await;
    let request = b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n";
    for _ in 0..2 {
        stream.write_all(request).await.unwrap();
        let mut response = [0; 1024];
        let length = stream.read(&mut response).await.unwrap();
        assert!(response[..length].starts_with(b"HTTP/1.1 200"));
        sleep(5 * MINUTE).await;
    }
    stream.write_all(b"G").await.unwrap();
    served
        .ends(
            10 * MINUTE + Duration::from_secs(10),
            Some("header_timeout"),
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_six_minutes() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (served, stream) = Served::start().await;
        let mut client = Client::open(stream, version).await;
        client.get("/").await.unwrap();
        sleep(5 * MINUTE).await;
        client.get("/").await.unwrap();
        served.ends(11 * MINUTE, Some("idle_timeout")).await;
        client.get("/").await.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_a_request_in_flight_is_not_idle() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (served, stream) = Served::start().await;
        let mut client = Client::open(stream, version).await;
        client.get("/long").await.unwrap();
        assert_eq!(served.accepted.elapsed().as_secs(), LONG.as_secs());
        served.ends(LONG + 6 * MINUTE, Some("idle_timeout")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_with_connection_close_ends_its_connection() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (served, stream) = Served::start().await;
        let mut client = Client::open(stream, version).await;
        client.get("/close").await.unwrap();
        served.ends(Duration::ZERO, None).await;
        client.get("/").await.unwrap_err();
    }
}

#[tokio::test]
async fn a_head_of_http1_over_32_kib_is_refused() {
    for (bytes, expected) in [(30 * 1024, "HTTP/1.1 200"), (34 * 1024, "HTTP/1.1 431")] {
        let (_served, stream) = Served::start().await;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let head = format!(
            "GET / HTTP/1.1\r\nHost: gate\r\nX: {}\r\n\r\n",
            "x".repeat(bytes)
        );
        let written = tokio::spawn(async move { writer.write_all(head.as_bytes()).await });
        let mut status = [0; 12];
        reader.read_exact(&mut status).await.unwrap();
        assert_eq!(status, expected.as_bytes(), "a head of {bytes} bytes");
        drop(reader);
        let _ = written.await.unwrap();
    }
}

#[tokio::test]
async fn http2_connections_announce_their_bounds() {
    let (_served, mut stream) = Served::start().await;
    stream.write_all(HTTP2_OPENING).await.unwrap();
    let mut opening = [0; 1024];
    let length = stream.read(&mut opening).await.unwrap();
    let opening = &opening[..length];
    // RFC 9113 sections 6.5.2 and 6.9: two settings, and a WINDOW_UPDATE of what exceeds 65,535.
    for (bound, bytes) in [
        ("64 streams", &[0, 3, 0, 0, 0, 64][..]),
        ("256 KiB for a stream", &[0, 4, 0, 4, 0, 0]),
        ("1 MiB for all", &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 15, 0, 1]),
    ] {
        let announced = opening.windows(bytes.len()).any(|window| window == bytes);
        assert!(announced, "{bound} in {opening:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn draining_closes_connections_without_a_request() {
    for opening in [b"".as_slice(), b"POST /api", HTTP2_OPENING] {
        let (served, mut stream) = Served::start().await;
        stream.write_all(opening).await.unwrap();
        sleep(Duration::from_secs(3)).await;
        served.drain.begun.cancel();
        let lasted = served.task.await.unwrap();
        assert!(lasted <= Duration::from_millis(4100), "{lasted:?}");
    }
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (served, stream) = Served::start().await;
        let mut client = Client::open(stream, version).await;
        client.get("/").await.unwrap();
        sleep(Duration::from_secs(3)).await;
        served.drain.begun.cancel();
        served.ends(Duration::from_secs(3), None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_requests_in_flight() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (served, stream) = Served::start().await;
        let mut client = Client::open(stream, version).await;
        let asked = tokio::spawn(async move { client.get("/long").await });
        sleep(MINUTE).await;
        served.drain.begun.cancel();
        asked.await.unwrap().unwrap();
        served.ends(LONG, None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn draining_cuts_a_request_of_a_stranger() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (served, stream) = Served::start().await;
        let mut client = Client::open(stream, version).await;
        let asked = tokio::spawn(async move { client.get("/unknown").await });
        sleep(MINUTE).await;
        served.drain.begun.cancel();
        let closing = Deadlines::default().closing;
        served.ends(MINUTE + closing, None).await;
        asked.await.unwrap().unwrap_err();
    }
}

/// A request for `/text` whose response has a body, after SETTINGS that allow none of it (RFC 9113
/// section 6.5.2, RFC 7541).
const UNREAD_REQUEST: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0\
    \0\0\x0f\x01\x05\0\0\0\x01\x82\x86\x01\x04gate\x04\x05/text";

#[tokio::test(start_paused = true)]
async fn draining_cuts_a_response_that_is_not_read() {
    let (served, mut stream) = Served::start().await;
    stream.write_all(UNREAD_REQUEST).await.unwrap();
    // The peer answers no ping, which ends the connection as well, but later.
    let before = Duration::from_secs(30);
    sleep(before).await;
    assert!(!served.task.is_finished());
    served.drain.begun.cancel();
    let closing = Deadlines::default().closing;
    served.ends(before + closing, None).await;
}

#[tokio::test]
async fn draining_begins_when_the_accept_loop_panics() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let drain = Drain::default();
    let access = Access {
        connections_max: 1,
        gives_way: GivesWay::Unknown,
        head_timeout: HEAD_TIMEOUT,
        rules: Box::new(|| panic!("the fault of this test")),
        reloads: watch::channel(()).1,
        handshakes: Arc::new(Handshakes::new(2)),
        metrics: None,
        proxy_log: ProxyLog::default(),
    };
    let accepting = tokio::spawn(serve(listener, access, Arc::new(Paths), drain.clone()));
    assert!(!drain.begun());
    let _stream = tokio::net::TcpStream::connect(address).await.unwrap();
    assert!(accepting.await.unwrap_err().is_panic());
    assert!(drain.begun());
}
