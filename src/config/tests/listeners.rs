//! Tests of who may connect: the keys of `listen` about addresses, proxies and connections.

use std::time::Duration;

use super::values::{refuses_each, with_line};
use super::warnings::warnings;
use super::{COMPLETE, DIGEST, parse, with_spoke};
use crate::config::{ForwardedFor, ProxyProtocol};

#[test]
fn the_rules_of_connections_are_read() {
    let rules = |text| parse(text).expect("a valid configuration").listen.rules;
    let given = rules(COMPLETE);
    assert_eq!(given.proxy_protocol, ProxyProtocol::Required);
    assert_eq!(given.forwarded_for, ForwardedFor::XForwardedFor);
    assert_eq!(given.trusted_proxies.to_string(), "10.0.0.0/8, fd00::1/128");
    assert_eq!(given.connections_per_address_max, None);
    assert_eq!(given.connection_age_max, Some(Duration::from_secs(3600)));
    let default = rules(&with_line("listen: {connection_age_max: 0s}"));
    assert_eq!(default.proxy_protocol, ProxyProtocol::Off);
    assert_eq!(default.forwarded_for, ForwardedFor::Off);
    assert!(default.trusted_proxies.is_empty());
    assert_eq!(default.connections_per_address_max, Some(1024));
    assert_eq!(default.connection_age_max, None);
}

#[test]
fn bad_rules_of_connections_are_refused() {
    let table = "
listen: {connections_per_address_max: x} => 1:39: listen.connections_per_address_max => from 0 to
listen: {connection_age_max: 10} => 1:30: listen.connection_age_max => not a duration
listen: {connection_age_max: 25h} => 1:30: listen.connection_age_max => up to 24h, or 0s for no limit
listen: {proxy_protocol: v2} => 1:26: listen.proxy_protocol => allowed: off, required
listen: {forwarded_for: on} => 1:25: listen.forwarded_for => allowed: off, x_forwarded_for
listen: {proxy_protocol: required} => 1:26: listen.proxy_protocol => needs trusted_proxies
listen: {forwarded_for: x_forwarded_for} => 1:25: listen.forwarded_for => needs trusted_proxies
listen: {proxy_protocol: required, trusted_proxies: []} => 1:53: listen.trusted_proxies => needs trusted_proxies
listen: {trusted_proxies: [10.0.0.0/8, x]} => 1:40: listen.trusted_proxies[1] => not a source range
listen: {trusted_proxies: 10.0.0.0/8} => 1:27: listen.trusted_proxies => wanted a list
";
    refuses_each(table, with_line);
}

#[test]
fn trust_without_use_and_trust_in_everybody_are_doubtful() {
    let hub = "hub: {url: http://a/api/v1/write}\n";
    let of = |listen: &str| {
        let spoke = with_spoke(&format!("  credentials: [token_sha256: {DIGEST}]"));
        warnings(&format!(
            "listen: {{{listen}}}\n{}",
            spoke.replace("hub: {url: http://hub/}\n", hub)
        ))
    };
    for (listen, doubt) in [
        (
            "trusted_proxies: [10.0.0.1]",
            "1:27: listen.trusted_proxies: is not used",
        ),
        (
            "proxy_protocol: required, trusted_proxies: [10.0.0.1, 0.0.0.0/0]",
            "1:53: listen.trusted_proxies: trusts everybody",
        ),
        (
            "forwarded_for: x_forwarded_for, trusted_proxies: [\"::/0\"]",
            "1:59: listen.trusted_proxies: trusts everybody",
        ),
    ] {
        let found = of(listen);
        assert!(
            found.starts_with(&format!("config:{doubt}")),
            "{listen}: {found}"
        );
    }
    for listen in [
        "trusted_proxies: []",
        "proxy_protocol: required, trusted_proxies: [10.0.0.0/8]",
    ] {
        assert_eq!(of(listen), "", "{listen}");
    }
}
