//! PROXY protocol headers: whose are taken, and what they change.

use crate::support::DEADLINE;
use std::net::{IpAddr, SocketAddr};

use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::haproxy::Haproxy;
use crate::support::hub::ScriptedHub;
use crate::support::sender::{Connection, Failure, Request, Response, connect};

use tokio::io::AsyncWriteExt;

/// What version 2 begins with.
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Where the proxy of these tests connects from.
const PROXY: &str = "127.0.0.9";

/// A gate that requires headers, with further keys of `listen`, and these spokes: `anywhere`, `two`
/// that writes from 127.0.0.2, and `six` that writes from 2001:db8::/64.
async fn start(hub: &ScriptedHub, listen_keys: &str) -> Gate {
    let spokes = [
        spoke("anywhere", ""),
        spoke("two", "source_ranges: [127.0.0.2]"),
        spoke("six", "source_ranges: [\"2001:db8::/64\"]"),
    ];
    let listen = format!(
        "listen: {{address: \"127.0.0.1:0\", proxy_protocol: required, \
         trusted_proxies: [{PROXY}]{listen_keys}}}\n"
    );
    Gate::start(&(listen + &config(&hub.url(), &spokes))).await
}

/// Connects from an address, and begins with these bytes.
async fn begin(gate: &Gate, from: &str, bytes: &[u8], http2: bool) -> Result<Connection, Failure> {
    begin_at(gate.write_address(), from, bytes, http2).await
}

/// Connects to this address of a gate, as [`begin`] does.
async fn begin_at(
    to: SocketAddr,
    from: &str,
    bytes: &[u8],
    http2: bool,
) -> Result<Connection, Failure> {
    let mut stream = connect(to, Some(from.parse().unwrap())).await?;
    stream.write_all(bytes).await?;
    Connection::over(stream, http2).await
}

/// Writes as a spoke behind these first bytes.
async fn write(gate: &Gate, from: &str, bytes: &[u8], name: &str) -> Result<Response, Failure> {
    let mut connection = begin(gate, from, bytes, false).await?;
    connection.send(Request::up().spoke(name)).await
}

/// A header of version 2.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE, &[command, family], &length, block].concat()
}

/// The status of the last spoke that wrote: its newest address, and how it is known.
async fn known(gate: &Gate, name: &str) -> (String, String) {
    let status = gate.spokes().await;
    let spokes = status["spokes"].as_array().unwrap();
    let spoke = spokes.iter().find(|it| it["name"] == name).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    (
        text(&spoke["source_addresses"][0]),
        text(&spoke["address_source"]),
    )
}

fn pair(address: &str, source: &str) -> (String, String) {
    (address.to_owned(), source.to_owned())
}

async fn refused(gate: &Gate, reason: &str) -> f64 {
    let reason = [("reason", reason)];
    gate.sum("hubgate_connections_refused_total", &reason).await
}

#[tokio::test]
async fn haproxy_says_where_a_spoke_is_with_either_version() {
    let hub = ScriptedHub::start().await;
    for keys in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proto h2"] {
        let gate = start(&hub, "").await;
        let backend = format!(
            "backend hubgate\n  server gate {} source {PROXY} {keys}\n",
            gate.write_address()
        );
        let haproxy = Haproxy::start(&backend).await;
        haproxy.wait_for_status("gate", "no check").await;
        for (client, status) in [("127.0.0.2", 204), ("127.0.0.3", 403), ("127.0.0.2", 204)] {
            let request = Request::up().spoke("two").from(client);
            let response = request.send(haproxy.address()).await.expect("a response");
            assert_eq!(response.status, status, "{client}, {keys}: {response:?}");
        }
        let two = known(&gate, "two").await;
        assert_eq!(two, pair("127.0.0.2", "proxy_protocol"), "{keys}");
    }
}

#[tokio::test]
async fn the_address_in_a_header_is_the_one_that_is_judged() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, "").await;
    let inet = [127, 0, 0, 2, 127, 0, 0, 1, 0, 9, 0, 9];
    let with_tlv = [inet.as_slice(), &[0x04, 0, 2, 0, 0]].concat();
    let through = "proxy_protocol";
    for (header, name, status, address, source) in [
        (
            b"PROXY TCP4 127.0.0.2 127.0.0.1 9 9\r\n".to_vec(),
            "two",
            204,
            "127.0.0.2",
            through,
        ),
        (
            b"PROXY TCP4 127.0.0.3 127.0.0.1 9 9\r\n".to_vec(),
            "two",
            403,
            "127.0.0.3",
            through,
        ),
        (
            b"PROXY TCP6 ::ffff:127.0.0.2 ::1 9 9\r\n".to_vec(),
            "two",
            204,
            "127.0.0.2",
            through,
        ),
        (
            b"PROXY TCP6 2001:db8::9 ::1 9 9\r\n".to_vec(),
            "six",
            204,
            "2001:db8::9",
            through,
        ),
        (
            b"PROXY TCP6 2001:db8:0:1::9 ::1 9 9\r\n".to_vec(),
            "six",
            403,
            "2001:db8:0:1::9",
            through,
        ),
        (v2(0x21, 0x11, &inet), "two", 204, "127.0.0.2", through),
        (v2(0x21, 0x11, &with_tlv), "two", 204, "127.0.0.2", through),
        (
            b"PROXY UNKNOWN\r\n".to_vec(),
            "anywhere",
            204,
            PROXY,
            "socket",
        ),
        (
            b"PROXY UNKNOWN 127.0.0.2 127.0.0.1 9 9\r\n".to_vec(),
            "two",
            403,
            PROXY,
            "socket",
        ),
        (v2(0x20, 0x00, b""), "anywhere", 204, PROXY, "socket"),
        (v2(0x20, 0x11, &inet), "two", 403, PROXY, "socket"),
        (v2(0x21, 0x00, b""), "two", 403, PROXY, "socket"),
    ] {
        let case = format!("{name}: {}", header.escape_ascii());
        let response = write(&gate, PROXY, &header, name).await.expect(&case);
        assert_eq!(response.status, status, "{case}: {response:?}");
        if status == 204 {
            assert_eq!(known(&gate, name).await, pair(address, source), "{case}");
        } else {
            assert!(
                response.text.contains(&format!(" {address} ")),
                "{case}: {response:?}"
            );
        }
    }
    let header = b"PROXY TCP4 127.0.0.2 127.0.0.1 9 9\r\n";
    let mut http2 = begin(&gate, PROXY, header, true).await.unwrap();
    http2
        .send(Request::up().spoke("two"))
        .await
        .unwrap()
        .expect(204);
}

#[tokio::test]
async fn a_forged_or_unreadable_header_ends_the_connection() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, "").await;
    let inet = [127, 0, 0, 2, 127, 0, 0, 1, 0, 9, 0, 9];
    let mut counts =
        std::collections::BTreeMap::from([("proxy_header", 0.0), ("untrusted_proxy", 0.0)]);
    for (from, bytes, reason) in [
        // A header of whoever is no proxy is not believed, and neither is a connection without one.
        (
            "127.0.0.2",
            b"PROXY TCP4 127.0.0.2 127.0.0.1 9 9\r\n".to_vec(),
            "untrusted_proxy",
        ),
        ("127.0.0.3", v2(0x21, 0x11, &inet), "untrusted_proxy"),
        ("127.0.0.3", v2(0x20, 0x00, b""), "untrusted_proxy"),
        ("127.0.0.2", b"".to_vec(), "untrusted_proxy"),
        // A proxy that sends none, or one that says nothing.
        (PROXY, b"".to_vec(), "proxy_header"),
        (PROXY, b"PROXY TCP4 127.0.0.2\r\n".to_vec(), "proxy_header"),
        (
            PROXY,
            b"PROXY TCP4 localhost 127.0.0.1 9 9\r\n".to_vec(),
            "proxy_header",
        ),
        (
            PROXY,
            b"PROXY TCP6 fe80::1%lo ::1 9 9\r\n".to_vec(),
            "proxy_header",
        ),
        (
            PROXY,
            [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 600], b"\r\n"].concat(),
            "proxy_header",
        ),
        (PROXY, v2(0x21, 0x31, &[0; 216]), "proxy_header"),
        (PROXY, v2(0x21, 0x11, &inet[..8]), "proxy_header"),
        (PROXY, v2(0x2F, 0x11, &inet), "proxy_header"),
        (PROXY, v2(0x21, 0x11, &[0; 600]), "proxy_header"),
    ] {
        let case = format!("{from}: {}", bytes.escape_ascii());
        let response = write(&gate, from, &bytes, "two").await;
        assert!(response.is_err(), "{case}: {response:?}");
        let count = counts.get_mut(reason).unwrap();
        *count += 1.0;
        let labels = [("reason", reason)];
        gate.wait_for_metric("hubgate_connections_refused_total", &labels, *count)
            .await;
    }
    gate.wait_for_metric("hubgate_connections", &[], 0.0).await;
    gate.wait_for_log(&[
        "no connection of a proxy",
        "127.0.0.2",
        "listen.trusted_proxies",
    ])
    .await;
    // A second header is no HTTP, and changes nothing.
    let twice = b"PROXY TCP4 127.0.0.3 127.0.0.1 9 9\r\nPROXY TCP4 127.0.0.2 127.0.0.1 9 9\r\n";
    let response = write(&gate, PROXY, twice, "two").await;
    assert!(
        response.as_ref().map_or(true, |it| it.status == 400),
        "{response:?}"
    );
}

/// Health checks of load balancers do that every few seconds.
#[tokio::test]
async fn a_connection_that_ends_without_a_byte_is_no_refusal() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, "").await;
    for _ in 0..3 {
        let from = Some(PROXY.parse().unwrap());
        drop(connect(gate.write_address(), from).await.unwrap());
    }
    write(&gate, PROXY, b"PROXY UNKNOWN\r\n", "anywhere")
        .await
        .unwrap()
        .expect(204);
    gate.wait_for_metric("hubgate_connections", &[], 0.0).await;
    assert_eq!(refused(&gate, "proxy_header").await, 0.0);
}

#[tokio::test]
async fn the_listener_judges_the_true_address_before_a_request() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, ", source_ranges: [127.0.0.2]").await;
    let of = |address: &str| format!("PROXY TCP4 {address} 127.0.0.1 9 9\r\n").into_bytes();
    write(&gate, PROXY, &of("127.0.0.2"), "anywhere")
        .await
        .unwrap()
        .expect(204);
    write(&gate, PROXY, &of("127.0.0.3"), "anywhere")
        .await
        .expect_err("no response");
    write(&gate, PROXY, b"PROXY UNKNOWN\r\n", "anywhere")
        .await
        .expect_err("no response");
    assert_eq!(refused(&gate, "source_range").await, 2.0);
}

#[tokio::test]
async fn a_listener_of_both_families_knows_its_proxies() {
    let hub = ScriptedHub::start().await;
    let listen = format!(
        "listen: {{address: \":0\", proxy_protocol: required, trusted_proxies: [{PROXY}, \"::1\"]}}\n"
    );
    let two = spoke("two", "source_ranges: [127.0.0.2, \"::2\"]");
    let gate = Gate::start(&(listen + &config(&hub.url(), &[two]))).await;
    let port = gate.write_address().port();
    for (host, from, header, taken) in [
        (
            "127.0.0.1",
            PROXY,
            "PROXY TCP4 127.0.0.2 127.0.0.1 9 9\r\n",
            true,
        ),
        (
            "127.0.0.1",
            "127.0.0.2",
            "PROXY TCP4 127.0.0.2 127.0.0.1 9 9\r\n",
            false,
        ),
        ("::1", "::1", "PROXY TCP6 ::2 ::1 9 9\r\n", true),
    ] {
        let to = (host.parse::<IpAddr>().unwrap(), port).into();
        // The gate may have closed a refused connection before the header is written.
        let response = match begin_at(to, from, header.as_bytes(), false).await {
            Ok(mut connection) => connection.send(Request::up().spoke("two")).await,
            Err(failure) => Err(failure),
        };
        let status = response.as_ref().map(|it| it.status).ok();
        assert_eq!(status, taken.then_some(204), "{from}: {response:?}");
    }
}

#[tokio::test]
async fn senders_behind_a_proxy_are_told_apart() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, ", connections_per_address_max: 2").await;
    let mut held = Vec::new();
    for address in ["203.0.113.1", "203.0.113.1", "203.0.113.1", "203.0.113.2"] {
        let header = format!("PROXY TCP4 {address} 127.0.0.1 9 9\r\n");
        let connection = begin(&gate, PROXY, header.as_bytes(), false).await;
        let mut connection = connection.unwrap();
        let response = connection.send(Request::up().spoke("anywhere")).await;
        response.unwrap().expect(204);
        held.push(connection);
    }
    // The third of the first sender took the place of its first.
    assert_eq!(refused(&gate, "evicted").await, 1.0);
    for (place, connection) in held.iter_mut().enumerate() {
        let response = connection.send(Request::up().spoke("anywhere")).await;
        assert_eq!(response.is_ok(), place > 0, "{place}: {response:?}");
    }
    let header = b"PROXY TCP4 203.0.113.3 127.0.0.1 9 9\r\n";
    write(&gate, PROXY, header, "nobody")
        .await
        .unwrap()
        .expect(401);
    gate.wait_for_log(&["a sender is not identified", "203.0.113.3"])
        .await;
}

#[tokio::test]
async fn a_reload_changes_who_is_trusted() {
    let hub = ScriptedHub::start().await;
    let gate = start(&hub, "").await;
    let header = b"PROXY TCP4 127.0.0.2 127.0.0.1 9 9\r\n";
    let mut open = begin(&gate, PROXY, header, false).await.unwrap();
    open.send(Request::up().spoke("two"))
        .await
        .unwrap()
        .expect(204);
    let listen = "listen: {address: \"127.0.0.1:0\", proxy_protocol: required, \
                  trusted_proxies: [127.0.0.8]}\n";
    gate.reload_with(&format!(
        "{listen}{}",
        config(&hub.url(), &[spoke("two", "")])
    ))
    .await;
    write(&gate, PROXY, header, "two")
        .await
        .expect_err("no response");
    write(&gate, "127.0.0.8", header, "two")
        .await
        .unwrap()
        .expect(204);
    let response = tokio::time::timeout(DEADLINE, open.send(Request::up().spoke("two"))).await;
    response.unwrap().unwrap().expect(204);
}

#[tokio::test]
async fn a_connection_from_before_the_proxy_protocol_ends_and_drops_nothing() {
    let hub = ScriptedHub::start().await;
    let yaml = |listen: &str, ranges: &str| {
        let ranges = format!("source_ranges: [{ranges}]");
        listen.to_owned() + &config(&hub.url(), &[spoke("two", &ranges)])
    };
    let direct = yaml("listen: {address: \"127.0.0.1:0\"}\n", PROXY);
    let behind = yaml(
        &format!(
            "listen: {{address: \"127.0.0.1:0\", proxy_protocol: required, \
             trusted_proxies: [{PROXY}]}}\n"
        ),
        "127.0.0.2",
    );
    let gate = Gate::start(&direct).await;
    let header: &[u8] = b"PROXY TCP4 127.0.0.2 127.0.0.1 9 9\r\n";
    let mut open = begin(&gate, PROXY, b"", false).await.unwrap();
    let request = || Request::up().spoke("two");
    open.send(request()).await.unwrap().expect(204);
    for (yaml, opening) in [(&behind, header), (&direct, b"")] {
        gate.reload_with(yaml).await;
        // It has ended, or its next request ends it.
        if let Ok(response) = open.send(request()).await {
            response.expect_retryable(503);
        }
        open = begin(&gate, PROXY, opening, false).await.unwrap();
        open.send(request()).await.unwrap().expect(204);
    }
    assert_eq!(refused(&gate, "outdated").await, 2.0);
}
