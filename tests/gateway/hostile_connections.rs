//! What strangers do with connections alone, while a spoke beside them writes without an error.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::support::config::{basic, config, spoke, spoke_with, token};
use crate::support::gate::{Gate, start_hub_and_gate};
use crate::support::honest_spoke::HonestSpoke;
use crate::support::hub::ScriptedHub;
use crate::support::sender::{Connection, Request};
use crate::support::{DEADLINE, eventually};

/// The address of the strangers.
const STRANGER: [u8; 4] = [127, 0, 0, 9];

async fn gate_with_connections_max(hub: &ScriptedHub, connections_max: usize) -> Gate {
    let listen = format!("{{address: \"127.0.0.1:0\", connections_max: {connections_max}}}");
    let config = config(&hub.url(), &[spoke("production", "")]);
    Gate::start(&format!("listen: {listen}\n{config}")).await
}

/// Opens connections as a stranger, and sends these bytes on each.
async fn open_many(to: std::net::SocketAddr, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((STRANGER, 0).into()).unwrap();
        let mut stream = socket.connect(to).await.unwrap();
        // The gate may have closed it.
        let _ = stream.write_all(bytes).await;
        held.push(stream);
    }
    held
}

async fn refused(gate: &Gate, reason: &str) -> f64 {
    let reason = [("reason", reason)];
    gate.sum("hubgate_connections_refused_total", &reason).await
}

#[tokio::test]
async fn connections_without_a_request_give_way_to_new_ones() {
    let hub = ScriptedHub::start().await;
    let gate = gate_with_connections_max(&hub, 20).await;
    let mut kept = Connection::open(gate.write_address(), None, false)
        .await
        .unwrap();
    let request = Request::up().spoke("production");
    kept.send(request.clone()).await.unwrap().expect(204);
    let honest = HonestSpoke::start(&gate);
    let mut held = Vec::new();
    for bytes in [&b""[..], b"POST /api", PREFACE] {
        held.extend(open_many(gate.write_address(), 50, bytes).await);
    }
    for _ in 0..10 {
        gate.send(request.clone()).await.expect(204);
    }
    honest.stop().await;
    kept.send(request).await.unwrap().expect(204);
    assert!(refused(&gate, "evicted").await >= 130.0);
    assert_eq!(refused(&gate, "connections_max").await, 0.0);
    let log = gate
        .wait_for_log(&["all connections", "evicted", "127.0.0.9: "])
        .await;
    let lines = gate.log();
    let lines = lines.iter().filter(|line| line.contains("all connections"));
    assert!(lines.count() <= 2, "{log}");
}

#[tokio::test]
async fn strangers_on_many_addresses_leave_a_new_connection_time_for_its_head() {
    const STRANGERS: u8 = 40;
    let hub = ScriptedHub::start().await;
    let gate = gate_with_connections_max(&hub, 20).await;
    let to = gate.write_address();
    let mut strangers = JoinSet::new();
    for last in 0..STRANGERS {
        strangers.spawn(async move {
            loop {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(([127, 0, 9, last], 0).into()).unwrap();
                let mut stream = socket.connect(to).await.unwrap();
                // The next one follows as soon as this one gives way.
                while let Ok(1..) = stream.read(&mut [0; 16]).await {}
            }
        });
    }
    eventually("connections give way", DEADLINE, async || {
        match refused(&gate, "evicted").await {
            200.0.. => Ok(()),
            few => Err(few),
        }
    })
    .await;
    for _ in 0..30 {
        let response = gate.send(Request::up().spoke("production")).await;
        response.expect(204);
    }
    assert!(!strangers.is_empty());
}

/// A bcrypt hash of the usual cost, so that checks wait for one another.
const SLOW_HASH: &str = "$2y$10$f1uKEwuUgaMqn2d1/02yz.hWf.qVy2V5Q56tM/9mBq4aC58F23ZdG";

#[tokio::test]
async fn requests_of_strangers_keep_no_connections_open() {
    let hub = ScriptedHub::start().await;
    let slow = spoke_with("slow", &basic("slow", SLOW_HASH), "");
    let config = config(&hub.url(), &[spoke("production", ""), slow]);
    let listen = "{address: \"127.0.0.1:0\", connections_max: 20}";
    let gate = Gate::start(&format!("listen: {listen}\n{config}")).await;
    let honest = HonestSpoke::start(&gate);
    // A response with a text, for which there is no window.
    let unread = [PREFACE, &no_window(), &write_headers(1, "nobody")].concat();
    let waiting = |number| {
        let password = BASE64_STANDARD.encode(format!("slow:{number}"));
        let head = format!(
            "POST /api/v1/write HTTP/1.1\r\nHost: gate\r\nAuthorization: Basic {password}\r\n\r\n"
        );
        head.into_bytes()
    };
    let mut held = Vec::new();
    for number in 0..100 {
        for bytes in [&unread, &waiting(number)] {
            held.extend(open_many(gate.write_address(), 1, bytes).await);
        }
    }
    for _ in 0..10 {
        gate.send(Request::up().spoke("production"))
            .await
            .expect(204);
    }
    honest.stop().await;
    assert!(refused(&gate, "evicted").await >= 100.0);
    assert_eq!(refused(&gate, "connections_max").await, 0.0);
}

/// A connection for which the system has no room is opened a second later at the earliest.
#[tokio::test]
async fn a_burst_of_connections_waits_to_be_accepted() {
    let (_hub, gate) = start_hub_and_gate("").await;
    gate.signal("STOP");
    let opened = open_many(gate.write_address(), 500, b"");
    let opened = tokio::time::timeout(DEADLINE, opened).await;
    gate.signal("CONT");
    opened.expect("all connections are open");
    gate.send(Request::up().spoke("production"))
        .await
        .expect(204);
}

#[tokio::test]
async fn a_low_limit_of_open_files_leaves_some_for_hubs_and_operators() {
    let hub = ScriptedHub::start().await;
    let yaml = config(&hub.url(), &[spoke("production", "")]);
    let gate = Gate::start_with_ulimit("-n 256", &yaml).await;
    gate.wait_for_log(&["fewer connections are accepted", "\"connections_max\":64"])
        .await;
    assert_eq!(gate.sum("hubgate_connections_limit", &[]).await, 64.0);
    let honest = HonestSpoke::start(&gate);
    let held = open_many(gate.write_address(), 300, b"").await;
    for _ in 0..15 {
        gate.metrics().await;
        gate.reload().await.expect(200);
    }
    honest.stop().await;
    drop(held);
    let log = gate.log();
    let failed = |line: &&String| line.contains("cannot");
    assert_eq!(log.iter().find(failed), None);
}

#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised() {
    let hub = ScriptedHub::start().await;
    let yaml = config(&hub.url(), &[spoke("production", "")]);
    let gate = Gate::start_with_ulimit("-Sn 64", &yaml).await;
    let hard = getrlimit(Resource::Nofile).maximum.unwrap();
    assert_eq!(gate.sum("process_max_fds", &[]).await, hard as f64);
}

#[tokio::test]
async fn half_sent_and_idle_and_unread_requests_leave_the_admin_port_open() {
    let (_hub, gate) = start_hub_and_gate("").await;
    let honest = HonestSpoke::start(&gate);
    let ready = b"GET /-/ready HTTP/1.1\r\nHost: gate\r\n\r\n";
    // A response for which there is no window.
    let unread = [PREFACE, &no_window(), &write_headers(1, "nobody")].concat();
    let mut held = Vec::new();
    for bytes in [&b"GET /metr"[..], b"", ready, &unread] {
        held.extend(open_many(gate.admin_address(), 300, bytes).await);
        for _ in 0..10 {
            gate.metrics().await;
        }
    }
    gate.reload().await.expect(200);
    honest.stop().await;
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// What an HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A SETTINGS frame that allows no part of a response's body.
fn no_window() -> Vec<u8> {
    frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])
}

/// The flag of headers that no CONTINUATION follows.
const END_HEADERS: u8 = 4;

/// The headers of a write with the token of a spoke, whose body is still to come.
fn write_headers(stream: u32, spoke: &str) -> Vec<u8> {
    // RFC 7541: indexes of the static table, and values that are not indexed.
    let mut block = vec![0x83, 0x86];
    let authorization = format!("Bearer {}", token(spoke));
    for (name, value) in [
        (&[0x01][..], "gate"),
        (&[0x04], "/api/v1/write"),
        (&[0x0f, 0x08], &authorization),
        (&[0x0f, 0x10], "application/x-protobuf"),
    ] {
        block.extend_from_slice(name);
        block.push(u8::try_from(value.len()).unwrap());
        block.extend_from_slice(value.as_bytes());
    }
    frame(1, END_HEADERS, stream, &block)
}

#[tokio::test]
async fn a_flood_of_http2_frames_ends_its_connection() {
    const MANY: usize = 5000;
    const RESETS: &str = "resets";
    let (_hub, gate) = start_hub_and_gate("").await;
    let honest = HonestSpoke::start(&gate);
    let empty_data = [
        write_headers(1, "production"),
        frame(0, 0, 1, b"").repeat(MANY),
    ];
    let resets = (0..5000).map(|number| {
        let stream = 2 * number + 1;
        [
            write_headers(stream, "production"),
            frame(3, 0, stream, &[0, 0, 0, 8]),
        ]
        .concat()
    });
    let settings = frame(4, 0, 0, b"");
    let mut headers = write_headers(1, "production");
    headers[4] &= !END_HEADERS;
    let continuation = [headers, frame(9, 0, 1, b"").repeat(MANY)].concat();
    for (flooded, (case, flood)) in [
        ("PING", frame(6, 0, 0, &[0; 8]).repeat(MANY)),
        ("acknowledged PING", frame(6, 1, 0, &[0; 8]).repeat(MANY)),
        ("SETTINGS", settings.repeat(MANY)),
        ("WINDOW_UPDATE", frame(8, 0, 0, &[0, 0, 0, 1]).repeat(MANY)),
        ("PRIORITY", frame(2, 0, 3, &[0; 5]).repeat(MANY)),
        ("an unknown frame", frame(0x99, 0, 0, b"").repeat(MANY)),
        ("empty DATA", empty_data.concat()),
        ("CONTINUATION", continuation),
        // h2 has a limit for these, and counts nothing.
        (RESETS, resets.collect::<Vec<_>>().concat()),
    ]
    .into_iter()
    .enumerate()
    {
        let stream = TcpStream::connect(gate.write_address()).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let bytes = [PREFACE, &settings, &flood].concat();
        let sent = tokio::spawn(async move {
            // The gate closes the connection meanwhile. The writer must not do so first.
            let _ = writer.write_all(&bytes).await;
            writer
        });
        let closed = async {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(1..) = reader.read(&mut buffer).await {}
        };
        let closed = tokio::time::timeout(DEADLINE / 2, closed).await;
        closed.unwrap_or_else(|_| panic!("{case}: the connection stays open"));
        drop(sent.await.unwrap());
        let counted = if case == RESETS { flooded } else { flooded + 1 };
        let seen = refused(&gate, "http2_flood").await;
        assert_eq!(seen, counted as f64, "{case}");
    }
    honest.stop().await;
}

#[tokio::test]
async fn many_writes_on_one_http2_connection_are_no_flood() {
    let (_hub, gate) = start_hub_and_gate("").await;
    let opened = Connection::open(gate.write_address(), None, true).await;
    let mut connection = opened.unwrap();
    for _ in 0..3000 {
        let request = Request::up().spoke("production");
        connection.send(request).await.unwrap().expect(204);
    }
    assert_eq!(refused(&gate, "http2_flood").await, 0.0);
}
