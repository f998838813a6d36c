//! TLS with real peers: Prometheus as a spoke and as a scraper, nginx and HAProxy in front.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::body::Protocol;
use crate::support::config::{bcrypt, config, spoke, spoke_with, token};
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::haproxy::Haproxy;
use crate::support::hub::ScriptedHub;
use crate::support::nginx::Nginx;
use crate::support::pki::{Authority, Files, Subject};
use crate::support::prometheus::{Binary, ONE_AT_A_TIME, Prometheus, Spoke, free_address};
use crate::support::sender::Request;
use crate::support::tls::{self, TlsClient};

/// Longest wait for the samples of a spoke.
const ARRIVAL_DEADLINE: Duration = Duration::from_secs(30);

fn named(dns: &'static [&'static str], serial: u64) -> Subject<'static> {
    Subject {
        dns,
        serial,
        ..Subject::default()
    }
}

/// The number of responses with a status that a spoke got.
async fn responses(gate: &Gate, spoke: &str, code: &str) -> f64 {
    let metrics = gate.metrics().await;
    let labels = [("spoke", spoke), ("code", code)];
    metrics.sum_or_zero("hubgate_requests_total", &labels)
}

/// Waits until a spoke has written this many more requests.
async fn goes_on(gate: &Gate, spoke: &str, more: f64) {
    let goal = responses(gate, spoke, "204").await + more;
    eventually("the spoke goes on", ARRIVAL_DEADLINE, async || {
        let written = responses(gate, spoke, "204").await;
        if written >= goal {
            Ok(())
        } else {
            Err(written)
        }
    })
    .await;
}

/// Fails if a spoke got a response other than 204, or dropped something.
async fn expect_no_refusal(gate: &Gate, name: &str, spoke: &Prometheus) {
    let metrics = spoke.metrics().await;
    for kind in ["samples", "exemplars", "metadata", "histograms"] {
        let failed = format!("prometheus_remote_storage_{kind}_failed_total");
        assert_eq!(metrics.sum(&failed, &[]), 0.0, "{name}: {failed}");
    }
    let all = gate.sum("hubgate_requests_total", &[("spoke", name)]).await;
    let written = responses(gate, name, "204").await;
    assert!(all - written <= 1.0, "{name}: {written} of {all}");
    for code in ["400", "401", "403", "503"] {
        assert_eq!(responses(gate, name, code).await, 0.0, "{name}: {code}");
    }
}

#[tokio::test]
async fn a_prometheus_writes_over_tls_while_everything_is_renewed() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        for protocol in binary.protocols() {
            eprintln!("{binary:?} {protocol:?}");
            writes_over_tls(&binary, *protocol).await;
        }
    }
}

async fn writes_over_tls(binary: &Binary, protocol: Protocol) {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let hub = ScriptedHub::start().await;
    hub.keep_nothing();
    let (trusted, revoked) = (clients.dir().join("trusted"), clients.dir().join("revoked"));
    std::fs::write(&trusted, clients.pem()).unwrap();
    std::fs::write(&revoked, clients.revoke(&[])).unwrap();
    let server = tls::gate_certificate(&servers);
    let asks = tls::client_auth("optional", &trusted);
    let keys = format!("{asks}, client_crl_file: {}", revoked.display());
    let certified = |name: &str| format!("{{certificate: {{dns: {name}.example.com}}}}");
    let spokes = [
        spoke("token", ""),
        spoke_with("basic", &bcrypt("basic", "basic-password"), ""),
        spoke_with("certified", &certified("certified"), ""),
        spoke_with("revoked", &certified("revoked"), ""),
    ];
    let yaml = tls::listen(&server, &keys) + &config(&hub.url(), &spokes);
    let gate = Gate::start(&yaml).await;
    let certified = clients.issue_files("certified", &named(&["certified.example.com"], 1));
    let to_revoke = clients.issue_files("to-revoke", &named(&["revoked.example.com"], 2));
    let ca = servers.file();
    let trusts = format!("ca_file: {}", ca.display());
    let proves = |files: &Files| {
        let (cert, key) = (files.cert.display(), files.key.display());
        format!("tls_config: {{{trusts}, cert_file: {cert}, key_file: {key}}}")
    };
    let authentications = [
        (
            "token",
            format!(
                "authorization: {{credentials: {}}}\n  tls_config: {{{trusts}}}",
                token("token")
            ),
        ),
        (
            "basic",
            format!(
                "basic_auth: {{username: basic, password: basic-password}}\n  tls_config: \
                 {{{trusts}}}"
            ),
        ),
        ("certified", proves(&certified)),
        ("revoked", proves(&to_revoke)),
    ];
    let mut senders = Vec::new();
    for (name, authentication) in authentications {
        let spoke = Spoke {
            url: gate.url().replace("http://", "https://"),
            authentication,
            ..Spoke::new(&gate, name, protocol)
        };
        senders.push((name, Prometheus::start_spoke(binary, &spoke).await));
    }
    for (name, _) in &senders {
        goes_on(&gate, name, 2.0).await;
    }
    // The certificate of the gate, the authority of clients, and a certificate of a client.
    tls::gate_certificate(&servers);
    let new = Authority::new("new");
    std::fs::write(&trusted, clients.pem().to_owned() + new.pem()).unwrap();
    gate.reload().await.expect(200);
    goes_on(&gate, "certified", 2.0).await;
    let (certificate, key) = new.issue(&named(&["certified.example.com"], 3));
    tls::replace(&certified, &certificate, &key);
    let (certificate, key) = new.issue(&named(&["revoked.example.com"], 4));
    tls::replace(&to_revoke, &certificate, &key);
    std::fs::write(&trusted, new.pem()).unwrap();
    std::fs::write(&revoked, new.revoke(&[])).unwrap();
    gate.reload().await.expect(200);
    for (name, _) in &senders {
        goes_on(&gate, name, 2.0).await;
    }
    std::fs::write(&revoked, new.revoke(&[4])).unwrap();
    gate.reload().await.expect(200);
    let written = responses(&gate, "revoked", "204").await;
    for (name, sender) in &senders {
        if *name != "revoked" {
            goes_on(&gate, name, 2.0).await;
        }
        expect_no_refusal(&gate, name, sender).await;
    }
    assert_eq!(responses(&gate, "revoked", "204").await, written);
    gate.wait_for_log(&["a TLS handshake failed", "Revoked"])
        .await;
}

#[tokio::test]
async fn a_prometheus_scrapes_the_admin_listener_over_tls() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let authority = Authority::new("authority");
    let hub = ScriptedHub::start().await;
    let admin = tls::admin(&tls::gate_certificate(&authority));
    let gate = Gate::start(&(admin + &config(&hub.url(), &[spoke("production", "")]))).await;
    for binary in Binary::all() {
        let job = ("hubgate", gate.admin_address());
        let scraper = Prometheus::scraper_over_tls(&binary, job, &authority.file()).await;
        eventually("a scrape", ARRIVAL_DEADLINE, async || {
            let query = "hubgate_tls_certificate_expiry_timestamp_seconds - time() > 86400";
            let found = scraper.query(query).await;
            if found.len() == 1 { Ok(()) } else { Err(found) }
        })
        .await;
    }
}

/// Fails unless what the gate responds with arrives through a proxy.
async fn expect_statuses_pass(proxy: SocketAddr, client: &TlsClient) {
    for http2 in [false, true] {
        for (request, status) in [
            (Request::up().spoke("production"), 204),
            (Request::up().spoke("nobody"), 401),
            (Request::up(), 401),
            (
                Request::write(Protocol::V1, "no snappy").spoke("production"),
                400,
            ),
            (
                Request::write(Protocol::V1, vec![0; 1 << 20]).spoke("nobody"),
                401,
            ),
        ] {
            let request = request.tls(client);
            let request = if http2 { request.http2() } else { request };
            let response = request.send(proxy).await;
            response.expect("a response").expect(status);
        }
    }
}

#[tokio::test]
async fn nginx_ends_tls_before_the_gate() {
    let authority = Authority::new("authority");
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&config(&hub.url(), &[spoke("production", "")])).await;
    let files = tls::gate_certificate(&authority);
    let nginx = Nginx::start_with_tls(gate.write_address(), &files).await;
    let client = TlsClient::new(&authority);
    expect_statuses_pass(nginx.address(), &client).await;
    // The gate speaks TLS as well.
    let listen = tls::listen(&files, "");
    let yaml = listen + &config(&hub.url(), &[spoke("production", "")]);
    let gate = Gate::start(&yaml).await;
    let nginx = Nginx::start_between_tls(gate.write_address(), &files, &authority.file()).await;
    for _ in 0..3 {
        let request = Request::up().spoke("production").tls(&client);
        let response = request.send(nginx.address()).await;
        response.expect("a response").expect(204);
    }
}

#[tokio::test]
async fn haproxy_ends_tls_before_the_gate() {
    let authority = Authority::new("authority");
    let hub = ScriptedHub::start().await;
    let gate = Gate::start(&config(&hub.url(), &[spoke("production", "")])).await;
    let files = tls::gate_certificate(&authority);
    let both = authority.dir().join("both.pem");
    let [cert, key] = [&files.cert, &files.key].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(&both, cert + &key).unwrap();
    let front = free_address();
    let sections = format!(
        "frontend tls\n  bind {front} ssl crt {} alpn h2,http/1.1\n  default_backend hubgate\n\
         backend hubgate\n  server gate {}\n",
        both.display(),
        gate.write_address()
    );
    let _haproxy = Haproxy::start(&sections).await;
    expect_statuses_pass(front, &TlsClient::new(&authority)).await;
}
