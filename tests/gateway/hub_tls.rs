//! TLS to hubs: whom hubgate trusts, how it proves who it is, and how both change under flow.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::body::{Protocol, many_series, now, up};
use crate::support::config::{config_with_hub_keys, spoke};
use crate::support::flow::Flow;
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::nginx::Nginx;
use crate::support::pki::{Authority, Files, Subject};
use crate::support::prometheus::{Binary, ONE_AT_A_TIME, Prometheus, Spoke};
use crate::support::raw_hub::{Act, RawHub, shared_port};
use crate::support::tls_server::ServerTls;
use crate::support::{DEADLINE, eventually};

/// The hubs of these tests are at this address.
const LOOPBACK: Subject<'_> = Subject {
    dns: &[],
    ip: &["127.0.0.1"],
    uri: &[],
    common_name: "",
    serial: 1,
    ends_in: None,
};

/// A client that no server has to find by a name.
const GATE: Subject<'_> = Subject {
    dns: &[],
    ip: &[],
    uri: &[],
    common_name: "hubgate",
    serial: 2,
    ends_in: None,
};

/// `tls` of a hub that trusts an authority, with further keys.
fn trusting(authority: &Path, keys: &str) -> String {
    format!("tls: {{ca_file: \"{}\"{keys}}}", authority.display())
}

fn proving(files: &Files) -> String {
    let (cert, key) = (files.cert.display(), files.key.display());
    format!(", cert_file: \"{cert}\", key_file: \"{key}\"")
}

/// The requests of the only hub so far, by code.
async fn requests(gate: &Gate, code: &str) -> f64 {
    let (metrics, labels) = (gate.metrics().await, [("code", code)]);
    let name = "hubgate_hub_requests_total";
    if metrics.has(name, &labels) {
        metrics.sum(name, &labels)
    } else {
        0.0
    }
}

#[tokio::test]
async fn a_hub_is_written_to_over_tls() {
    let authority = Authority::new("authority");
    let files = authority.issue_files("gate", &GATE);
    for version in [&TLS12, &TLS13] {
        for client_auth in [false, true] {
            let mut tls = ServerTls::new(&authority, &LOOPBACK);
            tls.version = Some(version);
            if client_auth {
                tls = tls.clients_of(&authority);
            }
            let hub = ScriptedHub::start_tls(&tls).await;
            let keys = trusting(&authority.file(), &proving(&files));
            let gate = Gate::start_for(&hub.url(), &keys).await;
            gate.wait_for_protocol(None, Protocol::V2).await;
            for protocol in Protocol::BOTH {
                gate.write(protocol, &up()).await.expect(204);
            }
            hub.wait_for_connections(|it| it.open == 1).await;
            assert_eq!(hub.broken(), [""; 0]);
            let expiry = "hubgate_hub_tls_certificate_expiry_timestamp_seconds";
            let expires_in = gate.sum(expiry, &[]).await - now() as f64 / 1000.0;
            assert!((86_000.0..=86_400.0).contains(&expires_in), "{expires_in}");
            gate.expect_balanced_counts("production").await;
        }
    }
}

/// A case of a hub that hubgate and TLS do not go together with.
struct Mismatch {
    case: &'static str,
    tls: ServerTls,
    keys: String,
    /// What the log says.
    advice: &'static str,
}

fn mismatches(ours: &Authority, other: &Authority) -> Vec<Mismatch> {
    let good = || ServerTls::new(ours, &LOOPBACK);
    let trusted = trusting(&ours.file(), "");
    let subject = |dns, ends_in| Subject {
        dns,
        ends_in,
        ..LOOPBACK
    };
    let of_other = other.issue_files("gate", &GATE);
    let version = |version| ServerTls {
        version: Some(version),
        ..good().clients_of(ours)
    };
    vec![
        Mismatch {
            case: "another authority",
            tls: good(),
            keys: trusting(&other.file(), ""),
            advice: "set tls.ca_file of the hub to the file of the authority",
        },
        Mismatch {
            case: "an authority's own",
            tls: ServerTls {
                chain: ours.pem().to_owned(),
                key: ours.key(),
                ..good()
            },
            keys: trusted.clone(),
            advice: "the certificate of the hub is that of an authority (CA:TRUE)",
        },
        Mismatch {
            case: "another name",
            tls: ServerTls::new(ours, &subject(&["hub.test"], None)),
            keys: trusting(&ours.file(), ", server_name: other.test"),
            advice: "set tls.server_name of the hub to a name that its certificate has",
        },
        Mismatch {
            case: "expired",
            tls: ServerTls::new(ours, &subject(&[], Some(-60))),
            keys: trusted.clone(),
            advice: "the certificate of the hub has expired",
        },
        Mismatch {
            case: "no certificate for TLS 1.3",
            tls: version(&TLS13),
            keys: trusted.clone(),
            advice: "the hub asks for a certificate; set tls.cert_file",
        },
        Mismatch {
            case: "no certificate for TLS 1.2",
            tls: version(&TLS12),
            keys: trusted.clone(),
            advice: "the hub asks for a certificate; set tls.cert_file",
        },
        Mismatch {
            case: "a certificate of another authority for TLS 1.3",
            tls: version(&TLS13),
            keys: trusting(&ours.file(), &proving(&of_other)),
            advice: "the hub does not accept the certificate in tls.cert_file",
        },
        Mismatch {
            case: "a certificate of another authority for TLS 1.2",
            tls: version(&TLS12),
            keys: trusting(&ours.file(), &proving(&of_other)),
            advice: "the hub does not accept the certificate in tls.cert_file",
        },
        Mismatch {
            case: "no HTTP/1.1",
            tls: ServerTls {
                alpn: &["h2"],
                ..good()
            },
            keys: trusted,
            advice: "the hub does not speak HTTP/1.1 over TLS",
        },
    ]
}

#[tokio::test]
async fn a_hub_that_is_not_trusted_is_a_502_and_the_log_says_what_to_set() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    for mismatch in mismatches(&ours, &other) {
        let case = mismatch.case;
        let hub = ScriptedHub::start_tls(&mismatch.tls).await;
        let keys = format!("protocol: v1, {}", mismatch.keys);
        let gate = Gate::start_for(&hub.url(), &keys).await;
        let response = gate.write(Protocol::V1, &up()).await;
        response.expect_refusal(case, 502, &["hubgate and the hub do not agree on TLS"]);
        let log = ["cannot speak TLS with the hub", mismatch.advice];
        gate.wait_for_log(&log).await;
        assert_eq!(requests(&gate, "tls_error").await, 1.0, "{case}");
        hub.expect_no_request();
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn a_hub_without_tls_at_an_https_url_is_a_502() {
    let hub = ScriptedHub::start().await;
    let authority = Authority::new("authority");
    let url = hub.url().replace("http://", "https://");
    let gate = Gate::start_for(&url, &trusting(&authority.file(), "")).await;
    gate.write(Protocol::V1, &up()).await.expect(502);
    gate.wait_for_log(&["what answers does not speak TLS"])
        .await;
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn the_certificate_may_be_for_the_server_name_instead_of_the_host() {
    let authority = Authority::new("authority");
    let names = [(&["hub.test"][..], &[][..]), (&[], &["192.0.2.1"])];
    for ((dns, ip), server_name) in names.into_iter().zip(["hub.test", "192.0.2.1"]) {
        let tls = ServerTls::new(
            &authority,
            &Subject {
                dns,
                ip,
                ..LOOPBACK
            },
        );
        let hub = ScriptedHub::start_tls(&tls).await;
        let keys = trusting(&authority.file(), &format!(", server_name: {server_name}"));
        let gate = Gate::start_for(&hub.url(), &keys).await;
        gate.write(Protocol::V1, &up()).await.expect(204);
        gate.reload_with(&config_with_hub_keys(
            &hub.url(),
            &trusting(&authority.file(), ""),
            &[spoke("production", "")],
        ))
        .await;
        gate.write(Protocol::V1, &up()).await.expect(502);
    }
}

#[tokio::test]
async fn the_certificate_of_a_hub_with_a_name_is_for_that_name() {
    let authority = Authority::new("authority");
    let subject = Subject {
        dns: &["hub.test"],
        ip: &[],
        ..LOOPBACK
    };
    let hub = ScriptedHub::start_tls(&ServerTls::new(&authority, &subject)).await;
    let url = hub.url().replace("127.0.0.1", "HUB.test");
    let keys = trusting(&authority.file(), "");
    let yaml = config_with_hub_keys(&url, &keys, &[spoke("production", "")]);
    let Some(gate) = Gate::start_with_hosts(&yaml, "127.0.0.1 hub.test\n").await else {
        return;
    };
    gate.write(Protocol::V1, &up()).await.expect(204);
}

/// A hub that takes connections and answers nothing, or closes them at once.
async fn speechless(closes: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // What is not read would reset the connection.
            let read = stream.read(&mut [0; 4096]).await.unwrap();
            assert_ne!(read, 0);
            if !closes {
                held.push(stream);
            }
        }
    });
    format!("https://{address}/api/v1/write")
}

#[tokio::test]
async fn a_hub_that_closes_in_the_handshake_is_a_502() {
    let authority = Authority::new("authority");
    let url = speechless(true).await;
    let gate = Gate::start_for(&url, &trusting(&authority.file(), "")).await;
    gate.write(Protocol::V1, &up()).await.expect(502);
    gate.wait_for_log(&["the hub ended the handshake"]).await;
    gate.expect_balanced_counts("production").await;
}

#[tokio::test]
async fn a_hub_that_is_silent_in_the_handshake_is_left_in_time() {
    let authority = Authority::new("authority");
    let url = speechless(false).await;
    let tls = trusting(&authority.file(), "");
    for (keys, status, code) in [
        ("timeout: 500ms, protocol: v1, ", 504, "timeout"),
        ("protocol: v1, ", 502, "tls_error"),
    ] {
        let gate = Gate::start_for(&url, &format!("{keys}{tls}")).await;
        let started = Instant::now();
        gate.write(Protocol::V1, &up()).await.expect(status);
        assert!(started.elapsed() < Duration::from_secs(7));
        assert_eq!(requests(&gate, code).await, 1.0);
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn a_hub_that_closes_a_kept_tls_connection_gets_the_request_again() {
    use Act::{CloseRead, CloseUnread, Take, TakeAndCut, TakeAndEnd};
    let authority = Authority::new("authority");
    let tls = ServerTls::new(&authority, &LOOPBACK);
    // Those that are closed before the next request are noticed, or the request is sent again.
    let cases: [(&'static [&'static [Act]], Option<f64>); 4] = [
        (&[&[Take, CloseUnread], &[Take]], Some(1.0)),
        (&[&[Take, CloseRead], &[Take]], Some(1.0)),
        (&[&[TakeAndEnd], &[Take]], None),
        (&[&[TakeAndCut], &[Take]], None),
    ];
    for (acts, resent) in cases {
        let hub = RawHub::start_with(acts, Some(&tls)).await;
        let keys = format!("protocol: v1, {}", trusting(&authority.file(), ""));
        let gate = Gate::start_for(&hub.url(), &keys).await;
        for _ in 0..3 {
            gate.write(Protocol::V1, &up()).await.expect(204);
        }
        assert_eq!(requests(&gate, "204").await, 3.0, "{acts:?}");
        if let Some(resent) = resent {
            assert_eq!(requests(&gate, "resent").await, resent, "{acts:?}");
        }
        for code in ["reset", "tls_error"] {
            assert_eq!(requests(&gate, code).await, 0.0, "{acts:?}");
        }
        gate.expect_balanced_counts("production").await;
    }
}

/// Otherwise a hub may log an attack for each of them.
#[tokio::test]
async fn a_kept_tls_connection_ends_with_a_goodbye() {
    let authority = Authority::new("authority");
    let tls = ServerTls::new(&authority, &LOOPBACK);
    let hub = RawHub::start_with(&[&[Act::Take]], Some(&tls)).await;
    let keys = format!("protocol: v1, {}", trusting(&authority.file(), ""));
    let gate = Gate::start_for(&hub.url(), &keys).await;
    gate.write(Protocol::V1, &up()).await.expect(204);
    gate.reload().await.expect(200);
    assert_eq!(hub.wait_for_end().await, [true]);
}

#[tokio::test]
async fn certificates_and_authorities_change_under_flow_without_a_refused_write() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.crt");
    let files = Files {
        cert: folder.path().join("gate.crt"),
        key: folder.path().join("gate.key"),
    };
    let trust = |pems: &[&Authority]| {
        let pems: String = pems.iter().map(|it| it.pem()).collect();
        std::fs::write(&ca_file, pems).unwrap();
    };
    trust(&[&old]);
    let (cert, key) = old.issue(&GATE);
    std::fs::write(&files.cert, cert).unwrap();
    std::fs::write(&files.key, key).unwrap();
    let server = |server: &Authority, clients: &[&Authority]| ServerTls {
        clients: Some(clients.iter().map(|it| it.pem()).collect()),
        ..ServerTls::new(server, &LOOPBACK)
    };
    let hub = ScriptedHub::start_tls(&server(&old, &[&old])).await;
    hub.keep_nothing();
    let keys = trusting(&ca_file, &proving(&files));
    let mut gate = Gate::start_for(&hub.url(), &keys).await;
    gate.allow_error("does not fit the certificate");
    gate.wait_for_protocol(None, Protocol::V2).await;
    let mut flow = Flow::start(&gate);

    // The hub gets a certificate of the new authority, and takes clients of both.
    trust(&[&old, &new]);
    gate.reload().await.expect(200);
    // A request of before the reload may still be about to connect.
    flow.pass().await;
    hub.set_tls(&server(&new, &[&old, &new]));
    flow.pass().await;
    // hubgate gets a new certificate. The two files are not written at once.
    let (cert, key) = new.issue(&GATE);
    std::fs::write(&files.cert, cert).unwrap();
    gate.reload().await.expect(500);
    std::fs::write(&files.key, key).unwrap();
    gate.reload().await.expect(200);
    flow.pass().await;
    // Nothing depends on the old authority any more.
    hub.set_tls(&server(&new, &[&new]));
    trust(&[&new]);
    gate.reload().await.expect(200);
    flow.pass().await;
    // What was found of the hub was kept all the time.
    let probes = hub.probes();
    flow.end().await;
    assert_eq!((probes, hub.broken()), (1, vec![]));
    for code in ["tls_error", "reset", "connect_error"] {
        assert_eq!(requests(&gate, code).await, 0.0, "{code}");
    }
    gate.expect_balanced_counts("production").await;

    // An authority that is removed is not trusted from the next connection on.
    trust(&[&old]);
    gate.reload().await.expect(200);
    gate.write(Protocol::V1, &up()).await.expect(502);
}

#[tokio::test]
async fn no_write_fails_while_an_nginx_with_tls_before_the_hub_closes_connections() {
    let authority = Authority::new("authority");
    let files = authority.issue_files("nginx", &LOOPBACK);
    let hub = ScriptedHub::start().await;
    let directives = format!(
        "keepalive_timeout 30ms; keepalive_requests 7; ssl_certificate {}; ssl_certificate_key {};",
        files.cert.display(),
        files.key.display()
    );
    let address = hub.default_name().parse().unwrap();
    let nginx = Nginx::start_tls(address, &directives).await;
    let keys = format!("protocol: v1, {}", trusting(&authority.file(), ""));
    let gate = Gate::start_for(&nginx.url(), &keys).await;
    let writer = async |pause: u64| {
        for _ in 0..40 {
            gate.write(Protocol::V1, &up()).await.expect(204);
            // About the time after which idle connections are closed.
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    };
    let reloads = async {
        for _ in 0..3 {
            hub.wait_for_requests(30).await;
            hub.take_received();
            nginx.reload();
        }
    };
    tokio::join!(writer(27), writer(29), writer(30), writer(31), reloads);
    gate.expect_balanced_counts("production").await;
}

/// What the hub Prometheus of [`strict_prometheus`] wants of hubgate.
fn keys_for_strict_prometheus(authority: &Authority) -> String {
    let files = authority.issue_files("gate", &GATE);
    let password = authority.dir().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    format!(
        "{}, credentials: {{basic: {{username: hubgate, password_file: \"{}\"}}}}",
        trusting(&authority.file(), &proving(&files)),
        password.display()
    )
}

/// A hub Prometheus that lets in clients with a certificate and a password.
async fn strict_prometheus(binary: &Binary, authority: &Authority) -> Prometheus {
    let files = authority.issue_files("hub", &LOOPBACK);
    let web = format!(
        "tls_server_config:
  cert_file: {}
  key_file: {}
  client_ca_file: {}
  client_auth_type: RequireAndVerifyClientCert
basic_auth_users:
  hubgate: {}
",
        files.cert.display(),
        files.key.display(),
        authority.file().display(),
        bcrypt::hash("secret", 4).unwrap()
    );
    Prometheus::start_hub_with_web_config(binary, &web).await
}

fn https(hub: &Prometheus) -> String {
    hub.url().replace("http://", "https://")
}

#[tokio::test]
async fn a_prometheus_that_asks_for_a_certificate_and_a_password_stores_what_a_spoke_writes() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        for protocol in binary.protocols() {
            let authority = Authority::new("authority");
            let mut hub = strict_prometheus(&binary, &authority).await;
            let keys = keys_for_strict_prometheus(&authority);
            let gate = Gate::start_for(&https(&hub), &keys).await;
            gate.wait_for_protocol(None, binary.receives()).await;
            let spoke = Spoke::new(&gate, "production", *protocol);
            let spoke = Prometheus::start_spoke(&binary, &spoke).await;
            eventually("samples are written", DEADLINE * 3, async || {
                let written = gate.samples("written", "float").await;
                if written > 1000.0 {
                    Ok(())
                } else {
                    Err(written)
                }
            })
            .await;
            assert_eq!(requests(&gate, "401").await, 0.0);
            drop(spoke);
            gate.expect_balanced_counts("production").await;
            hub.stop().await;
            hub.forget_web_config();
            hub.restart().await;
            let stored = hub.value("count(up{cluster=\"production\"})").await;
            assert_eq!(stored, 1.0, "{binary:?} {protocol:?}");
        }
    }
}

#[tokio::test]
async fn a_prometheus_that_is_not_shown_what_it_asks_for_is_a_502() {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        let authority = Authority::new("authority");
        let hub = strict_prometheus(&binary, &authority).await;
        let keys = keys_for_strict_prometheus(&authority);
        let (tls, credentials) = keys.split_once(", credentials").unwrap();
        let without_certificate = trusting(&authority.file(), "");
        let rows = [
            (
                format!("{without_certificate}, credentials{credentials}"),
                "tls_error",
                "the hub asks for a certificate",
            ),
            (tls.to_owned(), "401", "check the credentials of the hub"),
        ];
        for (keys, code, advice) in rows {
            let gate = Gate::start_for(&https(&hub), &format!("protocol: v1, {keys}")).await;
            gate.write(Protocol::V1, &up()).await.expect(502);
            assert_eq!(requests(&gate, code).await, 1.0);
            gate.wait_for_log(&[advice]).await;
        }
    }
}

#[tokio::test]
async fn an_address_of_a_name_that_speaks_no_tls_is_skipped() {
    let authority = Authority::new("authority");
    let subject = Subject {
        dns: &["hub.test"],
        ip: &[],
        ..LOOPBACK
    };
    let addresses = ["127.0.0.2", "127.0.0.3"];
    let port = shared_port(&addresses).await;
    let hubs = addresses.map(|it| ScriptedHub::start_at(format!("{it}:{port}").parse().unwrap()));
    let [plain, hub] = hubs;
    let (_plain, hub) = tokio::join!(plain, hub);
    hub.set_tls(&ServerTls::new(&authority, &subject));
    let url = format!("https://hub.test:{port}/api/v1/write");
    let keys = format!(
        "connection_age_max: 1ms, protocol: v1, {}",
        trusting(&authority.file(), "")
    );
    let yaml = config_with_hub_keys(&url, &keys, &[spoke("production", "")]);
    let hosts = addresses.map(|it| format!("{it} hub.test\n")).concat();
    let Some(gate) = Gate::start_with_hosts(&yaml, &hosts).await else {
        return;
    };
    for _ in 0..10 {
        gate.write(Protocol::V1, &up()).await.expect(204);
    }
    assert_eq!(hub.take_received().len(), 10);
}

/// The hub closes the connection with most of the request unread, which resets it.
#[tokio::test]
async fn the_reason_of_a_hub_is_found_beside_large_requests() {
    let authority = Authority::new("authority");
    let tls = ServerTls {
        version: Some(&TLS13),
        ..ServerTls::new(&authority, &LOOPBACK).clients_of(&authority)
    };
    let hub = ScriptedHub::start_tls(&tls).await;
    let keys = format!("protocol: v1, {}", trusting(&authority.file(), ""));
    let gate = Gate::start_for(&hub.url(), &keys).await;
    let large = many_series(40_000);
    // The reset may overtake the reason.
    eventually("the reason is found", DEADLINE, async || {
        gate.write(Protocol::V1, &large).await.expect(502);
        match requests(&gate, "tls_error").await {
            0.0 => Err(requests(&gate, "reset").await),
            _ => Ok(()),
        }
    })
    .await;
    gate.wait_for_log(&["the hub asks for a certificate"]).await;
}

/// Such a hub says 400, for which a spoke would drop its samples.
#[tokio::test]
async fn a_hub_that_wants_tls_at_an_http_url_costs_no_samples() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let authority = Authority::new("authority");
    let files = authority.issue_files("nginx", &LOOPBACK);
    let directives = format!(
        "ssl_certificate {}; ssl_certificate_key {};",
        files.cert.display(),
        files.key.display()
    );
    let hub = ScriptedHub::start().await;
    let address = hub.default_name().parse().unwrap();
    let nginx = Nginx::start_tls(address, &directives).await;
    let mut urls = vec![nginx.url().replace("https://", "http://")];
    let mut hubs = Vec::new();
    for binary in Binary::all() {
        let hub = strict_prometheus(&binary, &authority).await;
        urls.push(hub.url());
        hubs.push(hub);
    }
    for url in urls {
        for protocol in ["v1", "v2", "auto"] {
            let gate = Gate::start_for(&url, &format!("protocol: {protocol}")).await;
            for sent in Protocol::BOTH {
                let response = gate.write(sent, &up()).await;
                response.expect_refusal(&url, 502, &["the hub answered 400"]);
            }
            gate.wait_for_log(&["https://"]).await;
            assert_eq!(gate.samples("rejected", "float").await, 0.0, "{url}");
            gate.expect_balanced_counts("production").await;
        }
    }
}

/// nginx says 400 as well when it misses a certificate, or cannot verify it.
#[tokio::test]
async fn a_hub_behind_nginx_that_wants_a_certificate_costs_no_samples() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let files = authority.issue_files("nginx", &LOOPBACK);
    let directives = format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {}; ssl_verify_client on;",
        files.cert.display(),
        files.key.display(),
        authority.file().display()
    );
    let hub = ScriptedHub::start().await;
    let address = hub.default_name().parse().unwrap();
    let nginx = Nginx::start_tls(address, &directives).await;
    let ca_file = format!("ca_file: {}", authority.file().display());
    let shown = |authority: &Authority| {
        let files = authority.issue_files("hubgate", &LOOPBACK);
        let (cert, key) = (files.cert.display(), files.key.display());
        format!("{ca_file}, cert_file: {cert}, key_file: {key}")
    };
    for (tls, status) in [
        (ca_file.clone(), 502),
        (shown(&other), 502),
        (shown(&authority), 204),
    ] {
        let keys = format!("protocol: v1, tls: {{{tls}}}");
        let gate = Gate::start_for(&nginx.url(), &keys).await;
        let response = gate.write(Protocol::V1, &up()).await;
        assert_eq!(response.status, status, "{tls}: {response:?}");
        if status == 502 {
            gate.wait_for_log(&["tls.cert_file"]).await;
            assert_eq!(gate.samples("rejected", "float").await, 0.0, "{tls}");
        }
        gate.expect_balanced_counts("production").await;
    }
}

#[tokio::test]
async fn without_a_ca_file_the_authorities_of_the_system_are_trusted() {
    let authority = Authority::new("authority");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("hubgate.yaml");
    let yaml = config_with_hub_keys("https://hub/api/v1/write", "", &[spoke("production", "")]);
    std::fs::write(&config, yaml).unwrap();
    let check = |roots: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_hubgate"))
            .arg("check-config")
            .arg(&config)
            .env("SSL_CERT_FILE", roots)
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        (output.status.success(), said)
    };
    let (valid, said) = check(&authority.file());
    assert!(
        valid && said.contains("hub: https://hub/api/v1/write\n"),
        "{said}"
    );
    let (valid, said) = check(&folder.path().join("missing"));
    assert!(
        !valid && said.contains("hub.tls: the system has no certificates"),
        "{said}"
    );
    assert!(said.contains("set ca_file"), "{said}");
}
