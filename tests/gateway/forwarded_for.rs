//! The address of a sender in `X-Forwarded-For`: when it is believed, and what it changes.

use std::net::SocketAddr;

use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::haproxy::Haproxy;
use crate::support::hub::ScriptedHub;
use crate::support::nginx::Nginx;
use crate::support::sender::{Connection, Request, connect};

use tokio::io::AsyncWriteExt;

/// Where the proxies of these tests connect from.
const PROXY: &str = "127.0.0.9";

const HEADER: &str = "x-forwarded-for";

/// A configuration that reads the header, with further keys of `listen`, and these spokes:
/// `anywhere`, `two` that writes from 127.0.0.2, and `six` that writes from 2001:db8::/64.
fn configuration(hub: &ScriptedHub, listen_keys: &str) -> String {
    let spokes = [
        spoke("anywhere", ""),
        spoke("two", "source_ranges: [127.0.0.2]"),
        spoke("six", "source_ranges: [\"2001:db8::/64\"]"),
    ];
    let listen = format!(
        "listen: {{address: \"127.0.0.1:0\", forwarded_for: x_forwarded_for, \
         trusted_proxies: [{PROXY}, 10.0.0.0/8]{listen_keys}}}\n"
    );
    listen + &config(&hub.url(), &spokes)
}

async fn start(hub: &ScriptedHub, listen_keys: &str) -> Gate {
    Gate::start(&configuration(hub, listen_keys)).await
}

async fn expect_senders_told_apart(proxy: SocketAddr, gate: &Gate, case: &str) {
    let forged = "127.0.0.2, 10.0.0.1";
    for (client, header, status) in [
        ("127.0.0.2", None, 204),
        ("127.0.0.3", None, 403),
        ("127.0.0.3", Some("127.0.0.2"), 403),
        ("127.0.0.3", Some(forged), 403),
        ("127.0.0.3", Some("garbage"), 403),
        ("127.0.0.2", Some("garbage"), 204),
        ("127.0.0.2", Some("127.0.0.3"), 204),
    ] {
        let mut request = Request::up().spoke("two").from(client);
        if let Some(header) = header {
            request = request.header(HEADER, header);
        }
        let response = request.send(proxy).await.expect("a response");
        let case = format!("{case}, {client}, {header:?}: {response:?}");
        assert_eq!(response.status, status, "{case}");
        assert!(
            status == 204 || response.text.contains(" 127.0.0.3 "),
            "{case}"
        );
    }
    let status = gate.spokes().await;
    let two = &status["spokes"][1];
    assert_eq!(
        two["source_addresses"],
        serde_json::json!(["127.0.0.2"]),
        "{case}"
    );
    assert_eq!(two["address_source"], "x_forwarded_for", "{case}");
}

#[tokio::test]
async fn haproxy_says_where_a_spoke_is() {
    let hub = ScriptedHub::start().await;
    for keys in ["", "proto h2"] {
        let gate = start(&hub, "").await;
        let backend = format!(
            "backend hubgate\n  option forwardfor\n  server gate {} source {PROXY} {keys}\n",
            gate.write_address()
        );
        let haproxy = Haproxy::start(&backend).await;
        expect_senders_told_apart(haproxy.address(), &gate, keys).await;
    }
}

#[tokio::test]
async fn nginx_says_where_a_spoke_is() {
    let hub = ScriptedHub::start().await;
    for value in ["$proxy_add_x_forwarded_for", "$remote_addr"] {
        let gate = start(&hub, "").await;
        let directives = format!(
            "proxy_bind {PROXY}; proxy_http_version 1.1; proxy_set_header X-Forwarded-For {value};"
        );
        let nginx = Nginx::start(gate.write_address(), &directives).await;
        expect_senders_told_apart(nginx.address(), &gate, value).await;
    }
}

#[tokio::test]
async fn a_header_is_believed_as_far_as_proxies_are_trusted() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, "").await;
    for (from, headers, name, status) in [
        // A header of whoever is no proxy is not read.
        ("127.0.0.3", &["127.0.0.2"][..], "two", 403),
        ("127.0.0.3", &["127.0.0.2, 10.0.0.1"], "two", 403),
        ("127.0.0.3", &["unknown"], "anywhere", 204),
        ("127.0.0.2", &["127.0.0.3"], "two", 204),
        // Nor is the part that a sender wrote.
        (PROXY, &["127.0.0.2, 127.0.0.3"], "two", 403),
        (PROXY, &["127.0.0.2", "127.0.0.3"], "two", 403),
        (PROXY, &["127.0.0.2, 127.0.0.3, 10.0.0.1"], "two", 403),
        (PROXY, &["unknown, 127.0.0.2"], "two", 204),
        // What trusted proxies wrote is.
        (PROXY, &["127.0.0.2"], "two", 204),
        (
            PROXY,
            &["127.0.0.3, 127.0.0.2, 10.0.0.1", "10.0.0.2"],
            "two",
            204,
        ),
        (PROXY, &["127.0.0.2:4711, ::ffff:10.0.0.1"], "two", 204),
        (PROXY, &["[2001:db8::1]:4711"], "six", 204),
        (PROXY, &["2001:db8::1%eth0"], "six", 204),
        (PROXY, &["2001:db8:0:1::1"], "six", 403),
        // Without a word of the proxy, it is the sender.
        (PROXY, &[], "anywhere", 204),
        (PROXY, &[""], "anywhere", 204),
        // Garbage is a fault of the proxy, and no reason to drop data.
        (PROXY, &["unknown"], "two", 503),
        (PROXY, &["127.0.0.2, _hidden"], "two", 503),
        (PROXY, &["127.0.0.2", "for=127.0.0.2"], "two", 503),
        (PROXY, &["127.0.0.2, localhost, 10.0.0.1"], "anywhere", 503),
        (PROXY, &["127.0.0.2 10.0.0.1"], "anywhere", 503),
        (
            PROXY,
            &[&format!("127.0.0.2{}", ", 10.0.0.1".repeat(32))],
            "two",
            503,
        ),
        // A spoke may be behind it, and must not drop data because the proxy does not say so.
        (PROXY, &[], "two", 503),
        (PROXY, &["10.0.0.2, 10.0.0.1"], "two", 503),
    ] {
        for http2 in [false, true] {
            let mut request = Request::up().spoke(name).from(from);
            for value in headers {
                request = request.add_header(HEADER, value);
            }
            if http2 {
                request = request.http2();
            }
            let response = gate.send(request).await;
            let case = format!("{from} {headers:?} {name}");
            assert_eq!(response.status, status, "{case}: {response:?}");
            if status == 503 {
                response.expect_refusal(&case, 503, &["forwarded_for", "X-Forwarded-For"]);
                response.expect_retryable(503);
            }
        }
    }
    gate.wait_for_log(&["the address of a sender is not known", PROXY, "unknown"])
        .await;
}

#[tokio::test]
async fn the_listener_judges_the_true_address_before_the_credential() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, ", source_ranges: [127.0.0.2]").await;
    // The address of the proxy need not be one that may write.
    for (address, name, status) in [
        ("127.0.0.2", "anywhere", 204),
        ("127.0.0.2", "nobody", 401),
        ("127.0.0.3", "anywhere", 403),
        ("127.0.0.3", "nobody", 403),
    ] {
        let request = Request::up().spoke(name).from(PROXY);
        let response = gate.send(request.header(HEADER, address)).await;
        let case = format!("{address} {name}");
        assert_eq!(response.status, status, "{case}: {response:?}");
        if status == 403 {
            response.expect_refusal(
                &case,
                403,
                &["source_range", address, "listen.source_ranges"],
            );
        }
    }
    let direct = Request::up().spoke("anywhere").header(HEADER, "127.0.0.2");
    gate.try_send(direct.from("127.0.0.3"))
        .await
        .expect_err("no response");
    gate.wait_for_log(&["a sender is not identified", "127.0.0.2"])
        .await;
}

#[tokio::test]
async fn with_both_the_header_counts_if_the_proxy_protocol_names_a_trusted_proxy() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, ", proxy_protocol: required").await;
    for (address, status) in [("10.0.0.1", 204), ("127.0.0.3", 403), ("127.0.0.9", 204)] {
        let from = Some(PROXY.parse().unwrap());
        let mut stream = connect(gate.write_address(), from).await.unwrap();
        let header = format!("PROXY TCP4 {address} 127.0.0.1 9 9\r\n");
        stream.write_all(header.as_bytes()).await.unwrap();
        let mut connection = Connection::over(stream, false).await.unwrap();
        let request = Request::up().spoke("two").header(HEADER, "127.0.0.2");
        let response = connection.send(request).await.unwrap();
        assert_eq!(response.status, status, "{address}: {response:?}");
    }
}

#[tokio::test]
async fn a_reload_applies_to_the_next_request_of_a_connection() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, "").await;
    let from = Some(PROXY.parse().unwrap());
    let mut connection = Connection::open(gate.write_address(), from, true)
        .await
        .unwrap();
    let request = Request::up().spoke("anywhere").header(HEADER, "127.0.0.2");
    connection.send(request.clone()).await.unwrap().expect(204);
    gate.reload_with(&configuration(&hub, ", source_ranges: [127.0.0.3]"))
        .await;
    connection.send(request).await.unwrap().expect(403);
}
