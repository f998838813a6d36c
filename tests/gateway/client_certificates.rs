//! Client certificates as credentials, and how a reload or time takes them away.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::support::config::{config, spoke_with, token, token_sha256};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::pki::{Authority, Files, Subject};
use crate::support::sender::{Connection, Failure, Request, Response};
use crate::support::tls::{self, TlsClient};
use crate::support::{DEADLINE, eventually};

/// A gate that asks clients for certificates.
struct Asking {
    gate: Gate,
    hub: ScriptedHub,
    /// Issues certificates of clients. Its files `trusted` and `revoked` are those of the gate.
    clients: Authority,
    /// Issued the certificate of the gate.
    servers: Authority,
    yaml: String,
}

/// Starts with `client_auth` and the spokes of a test, each with credentials in YAML flow style.
async fn asking(client_auth: &str, spokes: &[(&str, &str)]) -> Asking {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let hub = ScriptedHub::start().await;
    let (trusted, revoked) = (clients.dir().join("trusted"), clients.dir().join("revoked"));
    std::fs::write(&trusted, clients.pem()).unwrap();
    std::fs::write(&revoked, clients.revoke(&[])).unwrap();
    let keys = format!(
        "{}, client_crl_file: {}",
        tls::client_auth(client_auth, &trusted),
        revoked.display()
    );
    let spokes = spokes
        .iter()
        .map(|(name, credentials)| spoke_with(name, credentials, ""));
    let spokes: Vec<_> = spokes.collect();
    let listen = tls::listen(&tls::gate_certificate(&servers), &keys);
    let yaml = listen + &config(&hub.url(), &spokes);
    Asking {
        gate: Gate::start(&yaml).await,
        hub,
        clients,
        servers,
        yaml,
    }
}

impl Asking {
    fn client(&self, name: &str, subject: &Subject<'_>) -> TlsClient {
        let files = self.clients.issue_files(name, subject);
        TlsClient::with_certificate(&self.servers, &files)
    }

    /// A client whose certificate has a DNS name.
    fn named(&self, dns: &str, serial: u64) -> TlsClient {
        let subject = Subject {
            dns: &[dns],
            serial,
            ..Subject::default()
        };
        self.client(dns, &subject)
    }

    async fn open(&self, client: &TlsClient, http2: bool) -> Result<Connection, Failure> {
        Connection::open_tls(self.gate.write_address(), client, http2).await
    }

    async fn outdated(&self) -> f64 {
        let name = "hubgate_connections_refused_total";
        self.gate.sum(name, &[("reason", "outdated")]).await
    }
}

const PRODUCTION: (&str, &str) = (
    "production",
    "{certificate: {dns: prod.example.com}}, {certificate: {common_name: Production}}",
);
const STAGING: (&str, &str) = (
    "staging",
    "{certificate: {uri: \"spiffe://example.com/staging\"}}, {certificate: {dns: staging.example.com}}",
);

#[tokio::test]
async fn a_name_in_a_certificate_identifies_its_spoke() {
    let tokens = token_sha256(&token("tokens"));
    let it = asking("optional", &[PRODUCTION, STAGING, ("tokens", &tokens)]).await;
    let subject = |dns, uri, common_name| Subject {
        dns,
        uri,
        common_name,
        ..Subject::default()
    };
    let staging = &["spiffe://example.com/staging"][..];
    for (case, subject, expected) in [
        (
            "dns",
            subject(&["PROD.example.com"], &[], ""),
            Ok("production"),
        ),
        (
            "common name",
            subject(&[], &[], "Production"),
            Ok("production"),
        ),
        ("uri", subject(&[], staging, ""), Ok("staging")),
        (
            "other names beside",
            subject(&["other.example.com"], staging, "Other"),
            Ok("staging"),
        ),
        (
            "unknown",
            subject(&["other.example.com"], &[], ""),
            Err("unknown_certificate"),
        ),
        (
            "a wildcard",
            subject(&["*.example.com"], &[], ""),
            Err("unknown_certificate"),
        ),
        ("no name", subject(&[], &[], ""), Err("unknown_certificate")),
        (
            "two spokes",
            subject(&["prod.example.com"], staging, ""),
            Err("ambiguous_certificate"),
        ),
    ] {
        let client = it.client("client", &subject);
        for http2 in [false, true] {
            let mut connection = it.open(&client, http2).await.unwrap();
            let response = connection.send(Request::up()).await.unwrap();
            match expected {
                Ok(spoke) => {
                    response.expect(204);
                    let labels = it.hub.take_one().labels().remove(0);
                    assert!(
                        labels.contains(&format!("cluster={spoke}")),
                        "{case}: {labels}"
                    );
                }
                Err(reason) => {
                    response.expect_refusal(case, 401, &["client certificate"]);
                    let name = "hubgate_auth_failures_total";
                    let count = it.gate.sum(name, &[("reason", reason)]).await;
                    assert!(count >= 1.0, "{case}");
                }
            }
        }
    }
    it.gate
        .wait_for_log(&[
            "is not identified",
            "\"certificate\":\"dns:other.example.com\"",
        ])
        .await;
    let used = "hubgate_credential_last_used_timestamp_seconds";
    let name = [("credential", "certificate:dns:prod.example.com")];
    assert!(it.gate.sum(used, &name).await > 1e9);
}

#[tokio::test]
async fn an_authorization_header_decides_in_place_of_the_certificate() {
    let tokens = token_sha256(&token("tokens"));
    let it = asking("optional", &[PRODUCTION, ("tokens", &tokens)]).await;
    let client = it.named("prod.example.com", 1);
    let mut connection = it.open(&client, false).await.unwrap();
    let with_token = Request::up().spoke("tokens");
    connection
        .send(with_token.clone())
        .await
        .unwrap()
        .expect(204);
    let labels = it.hub.take_one().labels().remove(0);
    assert!(labels.contains("cluster=tokens"), "{labels}");
    let wrong = Request::up().token(&token("nobody"));
    connection.send(wrong).await.unwrap().expect(401);
    // Without a certificate a token is enough where certificates are optional.
    let client = TlsClient::new(&it.servers);
    it.gate.send(with_token.tls(&client)).await.expect(204);
    it.gate.send(Request::up().tls(&client)).await.expect(401);
}

/// Fails unless a client gets no response, and is told why the handshake failed.
async fn expect_no_handshake(it: &Asking, case: &str, client: &TlsClient, alert: &str) {
    let request = Request::up().tls(client).send(it.gate.write_address());
    match request.await {
        Err(Failure::Broken(error)) => assert!(error.contains(alert), "{case}: {error}"),
        other => panic!("{case}: {other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_verified_gets_no_handshake() {
    for client_auth in ["optional", "required"] {
        let it = asking(client_auth, &[PRODUCTION]).await;
        it.gate
            .send(Request::up().tls(&it.named("prod.example.com", 1)))
            .await
            .expect(204);
        let dns = &["prod.example.com"][..];
        let subject = Subject {
            dns,
            ..Subject::default()
        };
        let other = Authority::new("other");
        let foreign = other.issue_files("foreign", &subject);
        let foreign = TlsClient::with_certificate(&it.servers, &foreign);
        expect_no_handshake(&it, "another authority", &foreign, "UnknownCA").await;
        let expired = Subject {
            dns,
            ends_in: Some(-60),
            ..Subject::default()
        };
        let expired = it.client("expired", &expired);
        expect_no_handshake(&it, "expired", &expired, "CertificateExpired").await;
        std::fs::write(it.clients.dir().join("revoked"), it.clients.revoke(&[7])).unwrap();
        it.gate.reload().await.expect(200);
        let revoked = it.named("prod.example.com", 7);
        expect_no_handshake(&it, "revoked", &revoked, "CertificateRevoked").await;
        if client_auth == "required" {
            let none = TlsClient::new(&it.servers);
            expect_no_handshake(&it, "none", &none, "CertificateRequired").await;
        }
        it.gate
            .wait_for_log(&["a TLS handshake failed", "tls_handshake"])
            .await;
        assert_eq!(it.gate.sum("hubgate_auth_failures_total", &[]).await, 0.0);
    }
}

#[tokio::test]
async fn a_client_may_send_five_certificates_beside_its_own() {
    let it = asking("optional", &[PRODUCTION]).await;
    let subject = Subject {
        dns: &["prod.example.com"],
        ..Subject::default()
    };
    let files = it.clients.issue_files("long", &subject);
    let own = std::fs::read_to_string(&files.cert).unwrap();
    let sending = |others: usize| {
        std::fs::write(&files.cert, own.clone() + &it.clients.pem().repeat(others)).unwrap();
        TlsClient::with_certificate(&it.servers, &files)
    };
    it.gate
        .send(Request::up().tls(&sending(5)))
        .await
        .expect(204);
    expect_no_handshake(&it, "too many", &sending(6), "CertificateUnknown").await;
    it.gate
        .wait_for_log(&["a TLS handshake failed", "at most 5 are taken"])
        .await;
}

/// A client that writes all the time, over connections of its own, as a Prometheus does.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    task: JoinHandle<Written>,
}

/// What came of the requests of a writer.
#[derive(Debug, Default)]
struct Written {
    written: usize,
    /// Responses other than 2xx.
    refused: Vec<Response>,
    /// Requests without a response, which a Prometheus sends again. In TLS 1.3 a client learns only
    /// then that its certificate is refused.
    broken: usize,
}

impl Writer {
    fn start(it: &Asking, http2: bool, client: impl Fn() -> TlsClient + Send + 'static) -> Self {
        let address = it.gate.write_address();
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (stopped, count): (_, Arc<AtomicUsize>) = (Arc::clone(&stop), Arc::clone(&written));
        let task = tokio::spawn(async move {
            let mut all = Written::default();
            let mut connection = None;
            while !stopped.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(2)).await;
                if connection.is_none() {
                    connection = Connection::open_tls(address, &client(), http2).await.ok();
                }
                let Some(open) = &mut connection else {
                    continue;
                };
                match open.send(Request::up()).await {
                    Ok(response) if response.status == 204 => {
                        all.written += 1;
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(response) => {
                        all.refused.push(response);
                        connection = None;
                    }
                    Err(_) => {
                        all.broken += 1;
                        connection = None;
                    }
                }
            }
            all
        });
        Self {
            stop,
            written,
            task,
        }
    }

    /// Waits until it has written this many more requests.
    async fn goes_on(&self, more: usize) {
        let goal = self.written.load(Ordering::Relaxed) + more;
        eventually("the writer goes on", DEADLINE, async || {
            let written = self.written.load(Ordering::Relaxed);
            if written >= goal {
                Ok(())
            } else {
                Err(written)
            }
        })
        .await;
    }

    async fn end(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// A client that reads its certificate again for each connection, as a Prometheus does.
fn renewing(it: &Asking, files: &Files) -> impl Fn() -> TlsClient + Send + 'static {
    let (anonymous, files) = (TlsClient::new(&it.servers), files.clone());
    move || anonymous.reading(&files)
}

fn production(serial: u64) -> Subject<'static> {
    Subject {
        dns: &["prod.example.com"],
        serial,
        ..Subject::default()
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_shut_out_under_flow_and_no_other() {
    for http2 in [false, true] {
        let it = asking("required", &[PRODUCTION, STAGING]).await;
        let production = it.clients.issue_files("production", &production(7));
        let staging = Subject {
            dns: &["staging.example.com"],
            serial: 8,
            ..Subject::default()
        };
        let staging = it.clients.issue_files("staging", &staging);
        let revoked = Writer::start(&it, http2, renewing(&it, &production));
        let other = Writer::start(&it, http2, renewing(&it, &staging));
        revoked.goes_on(20).await;
        let list = it.clients.revoke(&[7]);
        std::fs::write(it.clients.dir().join("revoked"), list).unwrap();
        it.gate.reload().await.expect(200);
        // A request that was accepted before may still be in flight.
        other.goes_on(20).await;
        let before = written(&it, "production").await;
        other.goes_on(50).await;
        assert_eq!(
            written(&it, "production").await,
            before,
            "nothing more is written"
        );
        let (revoked, other) = (revoked.end().await, other.end().await);
        assert!(revoked.broken > 1, "{revoked:?}");
        expect_no_4xx(&revoked);
        assert!(other.refused.is_empty() && other.broken == 0, "{other:?}");
        assert_eq!(it.outdated().await, 1.0);
    }
}

async fn written(it: &Asking, spoke: &str) -> f64 {
    let labels = [("spoke", spoke), ("code", "204")];
    let metrics = it.gate.metrics().await;
    metrics.sum_or_zero("hubgate_requests_total", &labels)
}

/// Fails if a response would make a Prometheus drop samples.
#[track_caller]
fn expect_no_4xx(all: &Written) {
    assert!(all.refused.iter().all(|it| it.status == 503), "{all:?}");
}

#[tokio::test]
async fn an_authority_is_replaced_under_flow_in_two_steps() {
    for http2 in [false, true] {
        let it = asking("required", &[PRODUCTION]).await;
        let trusted = it.clients.dir().join("trusted");
        let files = it.clients.issue_files("production", &production(1));
        let writer = Writer::start(&it, http2, renewing(&it, &files));
        let others = Writer::start(&it, http2, renewing(&it, &files));
        writer.goes_on(20).await;
        let new = Authority::new("new");
        std::fs::write(&trusted, it.clients.pem().to_owned() + new.pem()).unwrap();
        it.gate.reload().await.expect(200);
        writer.goes_on(20).await;
        let (certificate, key) = new.issue(&production(1));
        tls::replace(&files, &certificate, &key);
        std::fs::write(&trusted, new.pem()).unwrap();
        // The list of an authority that is not trusted is of no use, and harms nobody.
        it.gate.reload().await.expect(200);
        writer.goes_on(50).await;
        others.goes_on(50).await;
        for all in [writer.end().await, others.end().await] {
            expect_no_4xx(&all);
            // A request may meet the end of its connection.
            assert!(all.broken + all.refused.len() <= 1, "{all:?}");
        }
        assert_eq!(it.outdated().await, 2.0);
        let failed = [("spoke", "production"), ("code", "503")];
        assert_eq!(it.gate.sum("hubgate_requests_total", &failed).await, 0.0);
    }
}

#[tokio::test]
async fn a_certificate_that_expires_ends_its_connection_and_is_never_a_401() {
    let it = asking("required", &[PRODUCTION]).await;
    let ending = Subject {
        ends_in: Some(3),
        ..production(1)
    };
    let client = it.client("ending", &ending);
    let mut idle = it.open(&client, true).await.unwrap();
    idle.send(Request::up()).await.unwrap().expect(204);
    let files = it.clients.issue_files("production", &ending);
    let writer = Writer::start(&it, false, renewing(&it, &files));
    writer.goes_on(20).await;
    let (certificate, key) = it.clients.issue(&production(2));
    tls::replace(&files, &certificate, &key);
    it.gate
        .wait_for_metric(
            "hubgate_connections_refused_total",
            &[("reason", "outdated")],
            2.0,
        )
        .await;
    idle.send(Request::up()).await.expect_err("it is closed");
    writer.goes_on(50).await;
    let all = writer.end().await;
    expect_no_4xx(&all);
    assert!(all.broken + all.refused.len() <= 1, "{all:?}");
    expect_no_handshake(&it, "expired", &client, "CertificateExpired").await;
}

#[tokio::test]
async fn a_spoke_or_a_name_that_a_reload_takes_away_is_unknown_at_the_next_request() {
    let it = asking("optional", &[PRODUCTION, STAGING]).await;
    let production = it.named("prod.example.com", 1);
    let staging = it.named("staging.example.com", 2);
    let mut production = it.open(&production, false).await.unwrap();
    let mut staging = it.open(&staging, true).await.unwrap();
    for connection in [&mut production, &mut staging] {
        connection.send(Request::up()).await.unwrap().expect(204);
    }
    let (kept, _) = it.yaml.split_once("- {name: staging").unwrap();
    it.gate.reload_with(kept).await;
    let refused = staging.send(Request::up()).await.unwrap();
    refused.expect_refusal(
        "no spoke",
        401,
        &["no spoke has a name of this client certificate"],
    );
    production.send(Request::up()).await.unwrap().expect(204);
    let renamed = kept.replace("dns: prod.example.com", "dns: other.example.com");
    it.gate.reload_with(&renamed).await;
    production.send(Request::up()).await.unwrap().expect(401);
}

#[tokio::test]
async fn asking_for_certificates_ends_connections_without_one() {
    let tokens = token_sha256(&token("tokens"));
    let it = asking("optional", &[PRODUCTION, ("tokens", &tokens)]).await;
    let request = || Request::up().spoke("tokens");
    let without = TlsClient::new(&it.servers);
    let mut without = it.open(&without, true).await.unwrap();
    without.send(request()).await.unwrap().expect(204);
    let with = it.named("prod.example.com", 1);
    let mut with = it.open(&with, true).await.unwrap();
    with.send(request()).await.unwrap().expect(204);
    let required = it
        .yaml
        .replace("client_auth: optional", "client_auth: required");
    it.gate.reload_with(&required).await;
    with.send(request()).await.unwrap().expect(204);
    without.send(request()).await.expect_err("it is closed");
    assert_eq!(it.outdated().await, 1.0);
}

#[tokio::test]
async fn a_revocation_list_that_is_out_of_date_stays_in_force() {
    let it = asking("required", &[PRODUCTION]).await;
    let late = it.clients.revoke_until(&[7], -60);
    std::fs::write(it.clients.dir().join("revoked"), late).unwrap();
    it.gate.reload().await.expect(200);
    it.gate
        .wait_for_log(&["the configuration is doubtful", "out of date since"])
        .await;
    let good = it.named("prod.example.com", 1);
    it.gate.send(Request::up().tls(&good)).await.expect(204);
    let revoked = it.named("prod.example.com", 7);
    expect_no_handshake(&it, "revoked", &revoked, "CertificateRevoked").await;
}

#[tokio::test]
async fn authorities_that_cannot_be_read_leave_the_old_ones_in_force() {
    let mut it = asking("required", &[PRODUCTION]).await;
    it.gate.allow_error("the old one stays in force");
    let client = it.named("prod.example.com", 1);
    for (file, content) in [
        ("trusted", ""),
        ("revoked", "no list"),
        ("trusted", "no PEM"),
    ] {
        let path: &Path = &it.clients.dir().join(file);
        let before = std::fs::read(path).unwrap();
        std::fs::write(path, content).unwrap();
        let refused = it.gate.reload().await.expect(500);
        assert!(refused.text.contains(file), "{refused:?}");
        it.gate.send(Request::up().tls(&client)).await.expect(204);
        std::fs::write(path, before).unwrap();
        it.gate.reload().await.expect(200);
    }
}
