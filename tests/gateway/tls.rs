//! TLS on both listeners: who gets a handshake, what is spoken after it, and what a reload changes.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::body::{Protocol, encode, up};
use crate::support::config::{config, spoke, token};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::metrics::Metrics;
use crate::support::pki::{Authority, Files, Subject};
use crate::support::sender::{Connection, Request, read_all, send_raw};
use crate::support::tls::{self, TlsClient};
use crate::support::{DEADLINE, eventually, eventually_equal};

/// A gate with TLS and the spoke `production`, and what issued its certificate.
struct Secured {
    gate: Gate,
    hub: ScriptedHub,
    authority: Authority,
    files: Files,
    client: TlsClient,
}

/// Starts with further keys of `listen.tls` in YAML flow style, or empty.
async fn secured(keys: &str) -> Secured {
    let authority = Authority::new("authority");
    let hub = ScriptedHub::start().await;
    let files = tls::gate_certificate(&authority);
    let gate = Gate::start(&yaml(&hub, &tls::listen(&files, keys))).await;
    let client = TlsClient::new(&authority);
    Secured {
        gate,
        hub,
        authority,
        files,
        client,
    }
}

fn yaml(hub: &ScriptedHub, listeners: &str) -> String {
    format!(
        "{listeners}{}",
        config(&hub.url(), &[spoke("production", "")])
    )
}

fn request() -> Request {
    Request::up().spoke("production")
}

async fn refused(gate: &Gate, reason: &str) -> f64 {
    let reason = [("reason", reason)];
    gate.sum("hubgate_connections_refused_total", &reason).await
}

#[tokio::test]
async fn requests_over_tls_are_answered_in_both_versions_of_http() {
    let it = secured("").await;
    for http2 in [false, true] {
        let address = it.gate.write_address();
        let opened = Connection::open_tls(address, &it.client, http2).await;
        let mut connection = opened.unwrap();
        for _ in 0..3 {
            connection.send(request()).await.unwrap().expect(204);
        }
        let refused = connection.send(Request::up()).await.unwrap();
        refused.expect(401);
    }
    assert_eq!(it.hub.take_received().len(), 6);
}

/// What `openssl s_client` says of a gate, and whether it ended well.
async fn s_client(gate: &Gate, arguments: &str) -> (bool, String) {
    let address = gate.write_address().to_string();
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address])
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, output).await;
    let output = output.unwrap().expect("openssl is on PATH");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.success(), said)
}

#[tokio::test]
async fn openssl_agrees_on_versions_and_ciphers_that_are_safe() {
    let both = secured("").await;
    let new = secured("min_version: \"1.3\"").await;
    for (gate, arguments, expected) in [
        (
            &both.gate,
            "-tls1_3",
            Some("Cipher is TLS_AES_256_GCM_SHA384"),
        ),
        (&both.gate, "-tls1_2", Some("Protocol  : TLSv1.2")),
        (&both.gate, "-tls1_1 -cipher DEFAULT@SECLEVEL=0", None),
        (&both.gate, "-tls1 -cipher DEFAULT@SECLEVEL=0", None),
        (
            &both.gate,
            "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256",
            Some("Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"),
        ),
        // Without authentication of the ciphertext, or without forward secrecy.
        (&both.gate, "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA", None),
        (&both.gate, "-tls1_2 -cipher AES128-GCM-SHA256", None),
        (&both.gate, "-alpn h2,http/1.1", Some("ALPN protocol: h2")),
        (
            &both.gate,
            "-alpn http/1.1",
            Some("ALPN protocol: http/1.1"),
        ),
        (&both.gate, "", Some("No ALPN negotiated")),
        (&both.gate, "-alpn spdy/3", None),
        (&new.gate, "-tls1_3", Some("TLSv1.3")),
        (&new.gate, "-tls1_2", None),
    ] {
        let (agreed, said) = s_client(gate, arguments).await;
        assert_eq!(agreed, expected.is_some(), "{arguments}: {said}");
        let expected = expected.unwrap_or_default();
        assert!(said.contains(expected), "{arguments}: {said}");
    }
}

#[tokio::test]
async fn sessions_are_resumed_without_client_certificates_only() {
    let authority = Authority::new("clients");
    let asks = tls::client_auth("optional", &authority.file());
    let (plain, asking) = (secured("").await, secured(&asks).await);
    let reused = async |gate: &Gate| {
        let (_, said) = s_client(gate, "-tls1_2 -reconnect").await;
        assert!(said.contains("New, TLSv1.2"), "{said}");
        said.matches("Reused, TLSv1.2").count()
    };
    assert_eq!(reused(&plain.gate).await, 5);
    assert_eq!(reused(&asking.gate).await, 0);
    // In TLS 1.3 a ticket comes after the handshake, so this reads until one did, or until a response.
    for (gate, resumed) in [(&plain.gate, true), (&asking.gate, false)] {
        let folder = tempfile::tempdir().unwrap();
        let session = folder.path().join("session");
        let address = gate.write_address();
        let command = format!(
            "printf 'GET / HTTP/1.1\\r\\nHost: gate\\r\\n\\r\\n' | \
             openssl s_client -connect {address} -tls1_3 -ign_eof -sess_out {}",
            session.display()
        );
        let output = Command::new("sh").args(["-c", &command]).output().await;
        let said = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
        assert!(said.contains("HTTP/1.1 404"), "{said}");
        assert_eq!(session.exists(), resumed, "{said}");
        if resumed {
            let arguments = format!("-tls1_3 -sess_in {}", session.display());
            let (_, said) = s_client(gate, &arguments).await;
            assert!(said.contains("Reused, TLSv1.3"), "{said}");
        }
    }
}

#[tokio::test]
async fn curl_writes_over_both_versions_of_http() {
    let it = secured("").await;
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body");
    let bytes = encode(Protocol::V1, &up());
    std::fs::write(&body, bytes).unwrap();
    for (version, expected) in [("--http1.1", "1.1 204"), ("--http2", "2 204")] {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", version, "--cacert"])
            .arg(it.authority.file())
            .args(["--write-out", "%{http_version} %{http_code}"])
            .args(["--header", "Content-Type: application/x-protobuf"])
            .args(["--header", "Content-Encoding: snappy"])
            .args(["--oauth2-bearer", &token("production")])
            .args(["--data-binary", &format!("@{}", body.display())])
            .arg(format!("https://{}/api/v1/write", it.gate.write_address()))
            .output();
        let output = output.await.expect("curl is on PATH");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said, expected, "{:?}", output.stderr);
    }
}

#[tokio::test]
async fn plain_http_is_told_to_use_https_and_drops_nothing() {
    let it = secured("").await;
    let response = it.gate.send(request()).await;
    assert!(response.text.contains("write https://"), "{response:?}");
    response.expect_retryable(503);
    // A large body is not read, and the response arrives nevertheless.
    let large = Request::write(Protocol::V1, vec![0; 1 << 20]);
    it.gate.send(large).await.expect_retryable(503);
    // HTTP/2 with prior knowledge.
    let address = it.gate.write_address();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let read = send_raw(address, preface, DEADLINE).await;
    assert!(read.starts_with(b"HTTP/1.1 503 "), "{read:?}");
    // A connection counts when it has ended.
    eventually_equal("refused connections", DEADLINE, 3.0, async || {
        refused(&it.gate, "plain_http").await
    })
    .await;
    it.gate
        .wait_for_log(&["a TLS handshake failed", "plain_http"])
        .await;
    it.hub.expect_no_request();
}

#[tokio::test]
async fn a_refusal_with_an_unread_body_arrives_over_tls() {
    let it = secured("").await;
    let stream = TcpStream::connect(it.gate.write_address()).await.unwrap();
    let mut stream = it.client.connect(stream, false).await.unwrap();
    let length = 1 << 20;
    let head =
        format!("POST /api/v1/write HTTP/1.1\r\nHost: gate\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![0; length]).await.unwrap();
    stream.flush().await.unwrap();
    let mut response = Vec::new();
    // It ends with a close_notify, or this would fail.
    let read = stream.read_to_end(&mut response);
    tokio::time::timeout(DEADLINE, read).await.unwrap().unwrap();
    assert!(response.starts_with(b"HTTP/1.1 401 "), "{response:?}");
    it.gate
        .wait_for_metric("hubgate_connections", &[], 0.0)
        .await;
}

/// Load balancers do this every few seconds.
#[tokio::test]
async fn a_connection_without_a_byte_is_no_failed_handshake() {
    let it = secured("").await;
    for _ in 0..3 {
        drop(TcpStream::connect(it.gate.write_address()).await.unwrap());
    }
    it.gate.send(request().tls(&it.client)).await.expect(204);
    it.gate
        .wait_for_metric("hubgate_connections", &[], 0.0)
        .await;
    assert_eq!(refused(&it.gate, "tls_handshake").await, 0.0);
}

/// The beginning of a ClientHello: a record of 512 bytes of which the first four have come.
const HALF_A_HELLO: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 252];

#[tokio::test]
async fn garbage_before_and_after_the_handshake_harms_nobody_else() {
    let it = secured("").await;
    let address = it.gate.write_address();
    let opened = Connection::open_tls(address, &it.client, false).await;
    let mut honest = opened.unwrap();
    let mut endless_record = vec![22, 3, 1, 255, 255];
    endless_record.resize(70_000, 1);
    for garbage in [
        &b"\0\0\0\0\0\0\0\0"[..],
        b"\x80\x2e\x01\x00\x02",
        b"\x16\x03\x01\x00\x00",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"hello there",
        b"\r\n\r\n",
        &endless_record,
    ] {
        let read = send_raw(address, garbage, Duration::from_secs(2)).await;
        // Nothing, or an alert.
        assert!(read.is_empty() || read[0] == 21, "{read:?}");
        honest.send(request()).await.unwrap().expect(204);
    }
    let failed = refused(&it.gate, "tls_handshake").await;
    assert!(failed >= 6.0, "{failed}");
    for garbage in [
        &b"\x17\x03\x03\x00\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"[..],
        b"POST /",
    ] {
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = it.client.connect(stream, false).await.unwrap();
        let (mut stream, _) = stream.into_inner();
        stream.write_all(garbage).await.unwrap();
        let read = read_all(stream, Duration::from_secs(3)).await;
        assert!(!String::from_utf8_lossy(&read).contains("HTTP"), "{read:?}");
        honest.send(request()).await.unwrap().expect(204);
    }
    it.gate
        .wait_for_metric("hubgate_connections", &[], 1.0)
        .await;
}

#[tokio::test]
async fn slow_handshakes_keep_no_spoke_out_and_end_in_time() {
    let authority = Authority::new("authority");
    let hub = ScriptedHub::start().await;
    let files = tls::gate_certificate(&authority);
    let listen = tls::listen(&files, "").replace("tls:", "connections_max: 20, tls:");
    let gate = Gate::start(&yaml(&hub, &listen)).await;
    let client = TlsClient::new(&authority);
    let address = gate.write_address();
    let opened = Connection::open_tls(address, &client, false).await;
    let mut honest = opened.unwrap();
    honest.send(request()).await.unwrap().expect(204);
    let started = Instant::now();
    let mut slow = Vec::new();
    for number in 0..60 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let hello = if number % 2 == 0 { HALF_A_HELLO } else { b"" };
        // It may have given way already.
        let _ = stream.write_all(hello).await;
        slow.push(stream);
    }
    // One that is connected, and one that connects.
    honest.send(request()).await.unwrap().expect(204);
    gate.send(request().tls(&client)).await.expect(204);
    let evicted = refused(&gate, "evicted").await;
    assert!(evicted >= 40.0, "{evicted}");
    eventually("slow handshakes end", DEADLINE * 2, async || {
        let late = refused(&gate, "tls_handshake_timeout").await;
        if late >= 15.0 { Ok(()) } else { Err(late) }
    })
    .await;
    let waited = started.elapsed();
    assert!(waited > Duration::from_secs(9), "{waited:?}");
    honest.send(request()).await.unwrap().expect(204);
    gate.wait_for_metric("hubgate_connections", &[], 1.0).await;
}

async fn expiry(gate: &Gate) -> f64 {
    let name = "hubgate_tls_certificate_expiry_timestamp_seconds";
    gate.sum(name, &[("listener", "write")]).await
}

/// Handshakes at full speed, each on a connection that is closed after it. The bound is for a machine
/// that runs other tests as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_handshakes_leaves_time_for_spokes() {
    let it = secured("").await;
    let address = it.gate.write_address();
    let opened = Connection::open_tls(address, &it.client, false).await;
    let mut honest = opened.unwrap();
    let flood: Vec<_> = (0..32)
        .map(|_| {
            let client = it.client.clone();
            tokio::spawn(async move {
                loop {
                    if let Ok(stream) = TcpStream::connect(address).await {
                        let _ = client.connect(stream, false).await;
                    }
                }
            })
        })
        .collect();
    for _ in 0..100 {
        let started = Instant::now();
        honest.send(request()).await.unwrap().expect(204);
        let took = started.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    it.gate.send(request().tls(&it.client)).await.expect(204);
    for task in &flood {
        task.abort();
    }
    for task in flood {
        let _ = task.await;
    }
    it.gate
        .wait_for_metric("hubgate_connections", &[], 1.0)
        .await;
}

/// Issues a certificate that a gate on loopback can use.
fn renew(authority: &Authority, days: i64) -> (String, String) {
    authority.issue(&Subject {
        ip: &["127.0.0.1"],
        ends_in: Some(days * 24 * 3600),
        ..Subject::default()
    })
}

#[tokio::test]
async fn a_renewed_certificate_is_used_for_new_connections_and_ends_no_old_one() {
    let mut it = secured("").await;
    it.gate.allow_error("does not fit the certificate");
    let address = it.gate.write_address();
    let opened = Connection::open_tls(address, &it.client, true).await;
    let mut old = opened.unwrap();
    old.send(request()).await.unwrap().expect(204);
    let before = expiry(&it.gate).await;
    let other = Authority::new("other");
    let (certificate, key) = renew(&other, 200);
    // Between two writes the files do not fit, and the old ones stay in force.
    std::fs::write(&it.files.cert, certificate).unwrap();
    let refused = it.gate.reload().await.expect(500);
    assert!(refused.text.contains("does not fit"), "{refused:?}");
    let valid = "hubgate_config_last_reload_successful";
    assert_eq!(it.gate.sum(valid, &[]).await, 0.0);
    assert_eq!(expiry(&it.gate).await, before);
    it.gate.send(request().tls(&it.client)).await.expect(204);
    std::fs::write(&it.files.key, key).unwrap();
    it.gate.reload().await.expect(200);
    let after = expiry(&it.gate).await;
    assert!(after > before + 100.0 * 24.0 * 3600.0, "{before} {after}");
    let unknown_issuer = it.gate.try_send(request().tls(&it.client)).await;
    unknown_issuer.expect_err("the client does not trust the new one");
    let client = TlsClient::new(&other);
    it.gate.send(request().tls(&client)).await.expect(204);
    old.send(request()).await.unwrap().expect(204);
}

#[tokio::test]
async fn tls_is_turned_on_and_off_by_a_reload_without_a_lost_write() {
    let authority = Authority::new("authority");
    let hub = ScriptedHub::start().await;
    let files = tls::gate_certificate(&authority);
    let client = TlsClient::new(&authority);
    let plain = yaml(&hub, "");
    let secure = yaml(&hub, &tls::listen(&files, ""));
    let gate = Gate::start(&plain).await;
    let address = gate.write_address();
    let mut idle = Connection::open(address, None, false).await.unwrap();
    idle.send(request()).await.unwrap().expect(204);
    gate.reload_with(&secure).await;
    gate.send(request().tls(&client)).await.expect(204);
    gate.send(request()).await.expect_retryable(503);
    idle.send(request()).await.expect_err("it is closed");
    let opened = Connection::open_tls(address, &client, true).await;
    let mut idle = opened.unwrap();
    idle.send(request()).await.unwrap().expect(204);
    gate.reload_with(&plain).await;
    gate.send(request()).await.expect(204);
    idle.send(request()).await.expect_err("it is closed");
    assert_eq!(refused(&gate, "outdated").await, 2.0);
}

#[tokio::test]
async fn a_higher_least_version_ends_connections_of_a_lower_one() {
    let it = secured("").await;
    let address = it.gate.write_address();
    let opened = Connection::open_tls(address, &it.client, false).await;
    // rustls speaks 1.3.
    let mut newest = opened.unwrap();
    newest.send(request()).await.unwrap().expect(204);
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-quiet", "-tls1_2", "-connect"])
        .arg(address.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut old = command.kill_on_drop(true).spawn().unwrap();
    it.gate
        .wait_for_metric("hubgate_connections", &[], 2.0)
        .await;
    let newer = yaml(&it.hub, &tls::listen(&it.files, "min_version: \"1.3\""));
    it.gate.reload_with(&newer).await;
    let ended = tokio::time::timeout(DEADLINE, old.wait()).await;
    ended.expect("the gate ends it").unwrap();
    newest.send(request()).await.unwrap().expect(204);
}

#[tokio::test]
async fn the_admin_listener_speaks_tls() {
    let authority = Authority::new("authority");
    let hub = ScriptedHub::start().await;
    let files = tls::gate_certificate(&authority);
    let gate = Gate::start(&yaml(&hub, &tls::admin(&files))).await;
    let client = TlsClient::new(&authority);
    for http2 in [false, true] {
        for path in ["/-/healthy", "/-/ready", "/metrics", "/api/v1/spokes"] {
            let mut request = Request::get(path).tls(&client);
            if http2 {
                request = request.http2();
            }
            gate.admin(request).await.expect(200);
        }
    }
    let page = gate.admin(Request::get("/metrics").tls(&client)).await;
    let page = Metrics::parse(&page.text);
    let expiry = "hubgate_tls_certificate_expiry_timestamp_seconds";
    assert_eq!(page.label_values(expiry, "listener"), ["admin"]);
    let reload = Request::new("POST", "/-/reload").tls(&client);
    gate.admin(reload).await.expect(200);
    gate.admin(Request::get("/metrics")).await.expect(503);
}

#[tokio::test]
async fn the_admin_listener_can_require_a_certificate_of_any_name() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let hub = ScriptedHub::start().await;
    let asks = tls::client_auth("required", &clients.file());
    let files = tls::gate_certificate(&servers);
    let admin = tls::admin(&files).replace("}}", &format!("{asks}}}}}"));
    let gate = Gate::start(&yaml(&hub, &admin)).await;
    let certificate = clients.issue_files("scraper", &Subject::default());
    let client = TlsClient::with_certificate(&servers, &certificate);
    let scrape = || Request::get("/metrics");
    gate.admin(scrape().tls(&client)).await.expect(200);
    let stranger = scrape().tls(&TlsClient::new(&servers));
    let refused = stranger.send(gate.admin_address()).await;
    refused.expect_err("no certificate");
}
