//! The source ranges of a spoke and of the listener.

use std::net::IpAddr;

use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::sender::Request;

#[tokio::test]
async fn a_spoke_may_write_from_its_source_ranges_only() {
    let hub = ScriptedHub::start().await;
    let spokes = [
        spoke("anywhere", ""),
        spoke("two", "source_ranges: [\"127.0.0.2/32\", \"::1/128\"]"),
        spoke("mapped", "source_ranges: [\"::ffff:127.0.0.3/128\"]"),
    ];
    let on = |address: &str| {
        format!(
            "listen: {{address: \"{address}:0\"}}\n{}",
            config(&hub.url(), &spokes)
        )
    };
    // The second listener has no IP, so it is for IPv6 and IPv4. It sees IPv4 clients as IPv4-mapped
    // IPv6 addresses.
    for (listen, clients) in [
        ("127.0.0.1", &["127.0.0.1", "127.0.0.2", "127.0.0.3"][..]),
        ("", &["127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"]),
    ] {
        let gate = Gate::start(&on(listen)).await;
        for client in clients {
            for (name, allowed) in [
                ("anywhere", true),
                ("two", ["127.0.0.2", "::1"].contains(client)),
                ("mapped", *client == "127.0.0.3"),
            ] {
                let request = Request::up().spoke(name).from(client);
                let port = gate.write_address().port();
                let host = if client.contains(':') {
                    "::1"
                } else {
                    "127.0.0.1"
                };
                let host: IpAddr = host.parse().unwrap();
                let response = request.send((host, port).into());
                let response = response.await.expect("a response");
                let case = format!("{name} from {client} on {listen}: {response:?}");
                assert_eq!(response.status, if allowed { 204 } else { 403 }, "{case}");
                assert!(
                    allowed || response.text.contains(name) && response.text.contains(client),
                    "{case}"
                );
                assert!(response.text.len() <= 1024, "{case}");
            }
        }
        let metrics = gate.metrics().await;
        let refusals =
            |name| metrics.sum("hubgate_source_range_refusals_total", &[("spoke", name)]);
        let outside = clients
            .iter()
            .filter(|c| !["127.0.0.2", "::1"].contains(*c))
            .count();
        assert_eq!(
            (refusals("anywhere"), refusals("two")),
            (0.0, outside as f64)
        );
    }
}

#[tokio::test]
async fn a_connection_from_outside_the_listener_s_source_ranges_is_closed() {
    let hub = ScriptedHub::start().await;
    let listen = "listen: {address: \"127.0.0.1:0\", source_ranges: [\"127.0.0.2/32\"]}\n";
    let yaml = format!("{listen}{}", config(&hub.url(), &[spoke("production", "")]));
    let gate = Gate::start(&yaml).await;
    let request = Request::up().spoke("production");
    gate.send(request.clone().from("127.0.0.2"))
        .await
        .expect(204);
    gate.try_send(request.clone().from("127.0.0.3"))
        .await
        .expect_err("no response");
    let reason = [("reason", "source_range")];
    let refused = gate.sum("hubgate_connections_refused_total", &reason).await;
    assert_eq!(refused, 1.0);
    hub.take_one();
}
