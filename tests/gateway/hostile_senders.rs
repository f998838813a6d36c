//! What strangers send, while a spoke beside them writes without an error.
//!
//! `benches/hostile` has these and other attacks in full size.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::DEADLINE;
use crate::support::gate::start_hub_and_gate;
use crate::support::honest_spoke::HonestSpoke;
use crate::support::sender::{Connection, Request};

/// The start of a TLS handshake: a record with a ClientHello of version 1.2.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// The preface of HTTP/2, and a frame that is longer than any may be.
const OVERLONG_FRAME: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x04\0\0\0\0\0";

#[tokio::test]
async fn garbage_ends_its_connection_at_once() {
    let (_hub, gate) = start_hub_and_gate("").await;
    let honest = HonestSpoke::start(&gate);
    let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(4096)
        .collect();
    let request = b"POST /api/v1/write HTTP/1.1\r\nHost: gate\r\n\r\n";
    for (case, garbage) in [
        ("random bytes", [b"\0".as_slice(), &random].concat()),
        ("zeros", vec![0; 100_000]),
        ("a TLS handshake", [CLIENT_HELLO, &random].concat()),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        (
            "a PROXY header",
            [b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", &request[..]].concat(),
        ),
        (
            "an unknown version",
            b"GET / HTTP/3.0\r\nHost: gate\r\n\r\n".to_vec(),
        ),
        ("a long line", [b"GET /", &[b'x'; 100_000][..]].concat()),
        (
            "a frame that is too long",
            [OVERLONG_FRAME, &random].concat(),
        ),
    ] {
        let mut stream = TcpStream::connect(gate.write_address()).await.unwrap();
        // The gate may have closed it.
        let _ = stream.write_all(&garbage).await;
        let mut buffer = vec![0; 4096];
        let closed = async { while let Ok(1..) = stream.read(&mut buffer).await {} };
        let closed = tokio::time::timeout(DEADLINE / 2, closed).await;
        assert!(closed.is_ok(), "{case}: the connection stays open");
    }
    honest.stop().await;
    gate.wait_for_metric("hubgate_connections", &[], 0.0).await;
}

#[tokio::test]
async fn wrong_tokens_of_which_none_repeats_leave_nothing_behind() {
    const SENDERS: usize = 16;
    const WARM_UP: usize = 50;
    const TOKENS: usize = 500;
    let (_hub, gate) = start_hub_and_gate("").await;
    let honest = HonestSpoke::start(&gate);
    let to = gate.write_address();
    let send = async |tokens: usize| {
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            senders.spawn(async move {
                for _ in 0..tokens {
                    let token = format!("{:032x}", fastrand::u128(..));
                    // After many from one address, the responses would be held back.
                    let [a, b] = fastrand::u16(..).to_be_bytes();
                    let request = Request::up().token(&token).from(&format!("127.1.{a}.{b}"));
                    let response = request.send(to).await;
                    response.expect("a response").expect(401);
                }
            });
        }
        senders.join_all().await;
    };
    send(WARM_UP).await;
    let before = gate.memory_bytes("VmRSS");
    send(TOKENS).await;
    let grown = gate.memory_bytes("VmRSS").saturating_sub(before);
    honest.stop().await;
    assert!(grown < 4 << 20, "{grown} bytes more");
    let unknown = [("reason", "unknown")];
    let counted = gate.sum("hubgate_auth_failures_total", &unknown).await;
    assert_eq!(counted, (SENDERS * (WARM_UP + TOKENS)) as f64);
}

#[tokio::test]
async fn a_gate_without_a_free_descriptor_goes_on_with_open_connections() {
    let (_hub, gate) = start_hub_and_gate("").await;
    let request = || Request::up().spoke("production");
    let opened = Connection::open(gate.write_address(), None, false).await;
    let mut kept = opened.unwrap();
    kept.send(request()).await.unwrap().expect(204);
    let open = gate.sum("process_open_fds", &[]).await as u64;
    // The connection of the scrape may be counted or not.
    let before = gate.set_open_files_max(open - 2);
    let mut strangers = Vec::new();
    for _ in 0..20 {
        strangers.push(TcpStream::connect(gate.write_address()).await.unwrap());
    }
    gate.wait_for_log(&["cannot accept connections", "Too many open files"])
        .await;
    for _ in 0..20 {
        kept.send(request()).await.unwrap().expect(204);
    }
    // It waits to be accepted, which is as soon as there is a descriptor.
    let waiting = tokio::spawn(request().send(gate.write_address()));
    kept.send(request()).await.unwrap().expect(204);
    assert!(!waiting.is_finished());
    gate.set_open_files_max(before);
    waiting.await.unwrap().unwrap().expect(204);
    kept.send(request()).await.unwrap().expect(204);
    drop(strangers);
    gate.wait_for_metric("hubgate_connections", &[], 1.0).await;
}
