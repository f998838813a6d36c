//! Wrong credentials without end: they are answered more and more slowly, and a right one is not.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::support::config::{bcrypt, config, spoke, spoke_with};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;
use crate::support::{DEADLINE, eventually};

/// The wrong credentials of an address that are answered at once.
const FREE: usize = 10;

/// The first delay.
const DELAY_MIN: Duration = Duration::from_millis(100);

/// The longest delay.
const DELAY_MAX: Duration = Duration::from_secs(5);

/// The responses that are held back at once.
const HELD_MAX: usize = 256;

/// The address of those who guess.
const GUESSER: &str = "127.0.0.9";

const DELAYED: &str = "hubgate_auth_delayed_total";

fn wrong(attempt: usize) -> Request {
    Request::up()
        .token(&format!("wrong-{attempt}"))
        .from(GUESSER)
}

/// Sends a request, and returns how long the response took.
async fn timed(gate: &Gate, request: Request, status: u16) -> Duration {
    let started = Instant::now();
    gate.send(request).await.expect(status);
    started.elapsed()
}

/// Sends wrong tokens until their responses are held back for as long as they ever are.
async fn guess_until_slow(gate: &Gate) {
    let mut guesses = JoinSet::new();
    for attempt in 0..FREE + 8 {
        guesses.spawn(wrong(attempt).send(gate.write_address()));
    }
    for response in guesses.join_all().await {
        response.expect("a response").expect(401);
    }
}

#[tokio::test]
async fn wrong_credentials_from_one_address_are_answered_more_and_more_slowly() {
    let hub = ScriptedHub::start().await;
    let spokes = [
        spoke("production", ""),
        spoke_with("basic", &bcrypt("basic", "right"), ""),
    ];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    for attempt in 0..FREE {
        gate.send(wrong(attempt)).await.expect(401);
    }
    assert_eq!(gate.sum(DELAYED, &[]).await, 0.0);
    // A body that is not read must not keep the response from its sender.
    let large = |attempt| {
        let body = vec![0; 1 << 20];
        let request = Request::write(crate::support::body::Protocol::V1, body);
        request.token(&format!("large-{attempt}")).from(GUESSER)
    };
    let basic = Request::up().basic("basic", "wrong").from(GUESSER);
    for (place, request) in [wrong(FREE), basic, large(0), large(1).http2()]
        .into_iter()
        .enumerate()
    {
        let took = timed(&gate, request, 401).await;
        let least = DELAY_MIN * 2_u32.pow(place as u32);
        assert!(took >= least, "{place}: {took:?}");
    }
    assert_eq!(gate.sum(DELAYED, &[]).await, 4.0);
    // Neither of these is a guess, and neither is what another address sends.
    for request in [
        Request::up().from(GUESSER),
        Request::up()
            .header("authorization", "Basic %")
            .from(GUESSER),
        Request::up().token("wrong").from("127.0.0.10"),
    ] {
        gate.send(request).await.expect(401);
    }
    assert_eq!(gate.sum(DELAYED, &[]).await, 4.0);
}

#[tokio::test]
async fn a_right_credential_from_the_address_of_guesses_is_not_held_back() {
    let hub = ScriptedHub::start().await;
    let spokes = [
        spoke("production", ""),
        spoke_with("basic", &bcrypt("basic", "right"), ""),
    ];
    let gate = Gate::start(&config(&hub.url(), &spokes)).await;
    guess_until_slow(&gate).await;
    let held = tokio::spawn(wrong(0).send(gate.write_address()));
    for request in [
        Request::up().spoke("production"),
        Request::up().basic("basic", "right"),
        Request::up().spoke("production").http2(),
    ] {
        let took = timed(&gate, request.from(GUESSER), 204).await;
        assert!(took < DELAY_MAX, "{took:?}");
    }
    assert!(!held.is_finished());
}

/// Sends a wrong token on a connection, and leaves without the response.
async fn guess(to: SocketAddr, attempt: usize) -> std::io::Result<()> {
    let mut stream = connect(to).await?;
    let request = format!(
        "POST /api/v1/write HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer wrong-{attempt}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut response = [0; 1024];
    let read = stream.read(&mut response);
    let _ = tokio::time::timeout(Duration::from_millis(20), read).await;
    Ok(())
}

async fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(GUESSER.parse::<IpAddr>().unwrap(), 0))?;
    socket.connect(to).await
}

#[tokio::test]
async fn thousands_of_guesses_cost_little_and_do_not_slow_down_a_spoke_at_their_address() {
    const GUESSERS: usize = 32;
    const GUESSES: usize = 5_000;
    let (_hub, gate) = start_hub_and_gate("").await;
    guess_until_slow(&gate).await;
    let before = gate.memory_bytes("VmRSS");
    let to = gate.write_address();
    let mut guessers = JoinSet::new();
    for guesser in 0..GUESSERS {
        guessers.spawn(async move {
            for attempt in (guesser..GUESSES).step_by(GUESSERS) {
                guess(to, attempt).await.expect("a connection");
            }
        });
    }
    let mut slowest = Duration::ZERO;
    let mut written = 0;
    while !guessers.is_empty() {
        let request = Request::up().spoke("production").from(GUESSER);
        slowest = slowest.max(timed(&gate, request, 204).await);
        written += 1;
        while let Some(ended) = guessers.try_join_next() {
            ended.unwrap();
        }
    }
    assert!(written > 10, "{written}");
    assert!(slowest < DELAY_MAX / 2, "{slowest:?} of {written}");
    eventually("the count of guesses", DEADLINE, async || {
        let failures = gate.sum("hubgate_auth_failures_total", &[]).await;
        if failures >= GUESSES as f64 {
            Ok(())
        } else {
            Err(failures)
        }
    })
    .await;
    let metrics = gate.metrics().await;
    let (delayed, open) = (
        metrics.sum(DELAYED, &[]),
        metrics.sum("hubgate_connections", &[]),
    );
    assert!(delayed >= HELD_MAX as f64, "{delayed}");
    assert!(
        delayed < GUESSES as f64 / 2.0,
        "{delayed} were held back, a few at once"
    );
    assert!(open <= (HELD_MAX + GUESSERS) as f64, "{open} connections");
    let grown = gate.peak_memory_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes more");
}

#[tokio::test]
async fn responses_that_are_held_back_keep_no_place_from_a_spoke() {
    const CONNECTIONS: usize = 8;
    let hub = ScriptedHub::start().await;
    let listen = format!("{{address: \"127.0.0.1:0\", connections_max: {CONNECTIONS}}}");
    let config = config(&hub.url(), &[spoke("production", "")]);
    let gate = Gate::start(&format!("listen: {listen}\n{config}")).await;
    for attempt in 0..FREE + 7 {
        gate.send(wrong(attempt)).await.expect(401);
    }
    let before = gate.sum(DELAYED, &[]).await;
    let held: Vec<_> = (0..CONNECTIONS)
        .map(|attempt| tokio::spawn(wrong(attempt).send(gate.write_address())))
        .collect();
    gate.wait_for_metric(DELAYED, &[], before + CONNECTIONS as f64)
        .await;
    gate.send(Request::up().spoke("production"))
        .await
        .expect(204);
    let evicted = [("reason", "evicted")];
    let refused = "hubgate_connections_refused_total";
    assert_eq!(gate.sum(refused, &evicted).await, 1.0);
    drop(held);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_responses_that_are_held_back() {
    let (_hub, mut gate) = start_hub_and_gate("").await;
    guess_until_slow(&gate).await;
    let before = gate.sum(DELAYED, &[]).await;
    let held = tokio::spawn(wrong(0).send(gate.write_address()));
    gate.wait_for_metric(DELAYED, &[], before + 1.0).await;
    let started = Instant::now();
    gate.signal("TERM");
    held.await.unwrap().expect("a response").expect(401);
    assert!(started.elapsed() < DELAY_MAX - Duration::from_secs(1));
    assert!(gate.wait_for_exit().await.success());
}
