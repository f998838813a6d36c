//! Tests of hubs: one or several, their names, and the headers of the requests to them.

use std::time::Duration;

use super::values::{refuses, refuses_each, with_line};
use super::{COMPLETE, DIGEST, errors};
use crate::config::{Ack, Config, Hub, HubMetadata, HubProtocol, parse};

/// The configuration whose hubs `line` gives.
fn hubs(line: &str) -> Config {
    parse(&with_line(line)).expect(line)
}

fn names(config: &Config) -> Vec<&str> {
    config.hubs.iter().map(|hub| hub.name.as_str()).collect()
}

/// The headers that a hub gets with the requests of a spoke.
fn headers(hub: &Hub, spoke: &str) -> Vec<(String, String)> {
    let headers = hub.headers.iter().map(|header| {
        let value = header.value.value(spoke);
        assert!(value.is_sensitive());
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (header.name.to_string(), value)
    });
    headers.collect()
}

#[test]
fn hub_is_the_same_as_hubs_with_one_item() {
    let alone = hubs("hub: {url: http://hub:9090/, protocol: v1}");
    let listed = hubs("hubs: [{url: http://hub:9090/, protocol: v1}]");
    assert_eq!(alone, listed);
    assert_eq!(names(&alone), ["hub:9090"]);
    assert_eq!(alone.hubs[0].protocol, HubProtocol::V1);
}

#[test]
fn hubs_keep_their_order() {
    let config = hubs(
        "hubs: [{url: http://b/}, {url: http://a:80/1, name: ü 1}, {url: http://a:80/2}]\nack: any",
    );
    assert_eq!(names(&config), ["b", "ü 1", "a:80"]);
    assert_eq!(config.ack, Ack::Any);
}

#[test]
fn values_of_a_hub_are_read() {
    let config = parse(COMPLETE).expect("a valid configuration");
    let hub = &config.hubs[0];
    assert_eq!(config.ack, Ack::Any);
    assert_eq!(hub.protocol, HubProtocol::V2);
    assert_eq!(hub.metadata, HubMetadata::ForwardV1);
    assert_eq!(hub.salvage_requests_max, 0);
    assert_eq!(hub.connection_age_max, Duration::from_secs(300));
    let written = "hubs: [{url: http://hub/, protocol: auto, metadata: drop, \
                   connection_age_max: 30s, salvage_requests_max: 10000, headers: {}}]\nack: all";
    let config = hubs(written);
    assert_eq!(config.ack, Ack::All);
    assert_eq!(config.hubs[0].protocol, HubProtocol::Auto);
    assert_eq!(config.hubs[0].metadata, HubMetadata::Drop);
    assert_eq!(config.hubs[0].salvage_requests_max, 10_000);
    assert_eq!(config.hubs[0].connection_age_max, Duration::from_secs(30));
    assert_eq!(config.hubs[0].headers, []);
}

#[test]
fn the_name_of_the_spoke_replaces_the_variable_in_a_header() {
    let cases = [
        ("a", "a"),
        ("${spoke}", "ü 1"),
        ("hub-${spoke}", "hub-ü 1"),
        ("${spoke}/${spoke}${spoke}.", "ü 1/ü 1ü 1."),
        ("$spoke $ {spoke} $$ }", "$spoke $ {spoke} $$ }"),
        ("$${spoke}", "$ü 1"),
        ("Bearer ö=", "Bearer ö="),
        ("42", "42"),
    ];
    for (written, expected) in cases {
        let config = hubs(&format!(
            "hub: {{url: http://hub/, headers: {{X-Scope-OrgID: '{written}'}}}}"
        ));
        let expected = ("x-scope-orgid".to_owned(), expected.to_owned());
        assert_eq!(headers(&config.hubs[0], "ü 1"), [expected]);
    }
}

#[test]
fn the_name_of_a_spoke_enters_a_header_unchanged() {
    let config = hubs("hub: {url: http://hub/, headers: {a: 'x${spoke}'}}");
    let names = ["${spoke}", "\u{a0}", "\u{10ffff}", "\u{ff}"];
    for name in names {
        let expected = ("a".to_owned(), format!("x{name}"));
        assert_eq!(headers(&config.hubs[0], name), [expected]);
    }
}

#[test]
fn hubs_that_differ_in_a_header_value_are_not_equal() {
    let with = |value: &str| {
        let line = format!("hub: {{url: http://hub/, headers: {{a: '{value}'}}}}");
        hubs(&line).hubs
    };
    assert_eq!(with("a${spoke}"), with("a${spoke}"));
    assert_ne!(with("a${spoke}"), with("b${spoke}"));
    assert_ne!(with("a${spoke}"), with("a"));
}

#[test]
fn bad_values_of_a_hub_are_refused() {
    let table = "
hub: http://hub/ => 1:6: hub => wanted a mapping
hub: {} => 1:6: hub.url => required key is missing
hub: {url: hub:9090} => 1:12: hub.url => not an absolute http:// or https:// URL
hub: {url: /api/v1/write} => 1:12: hub.url => not an absolute http:// or https:// URL
hub: {url: 'http://'} => 1:12: hub.url => has no host
hub: {url: 'http://:9090/'} => 1:12: hub.url => has no host
hub: {url: 'ftp://hub/'} => 1:12: hub.url => not an absolute http:// or https:// URL
hub: {url: http://hub/, timeout: 0s} => 1:34: hub.timeout => allowed: above 0 to 1h
hub: {url: http://hub/, timeout: 2h} => 1:34: hub.timeout => allowed: above 0 to 1h
hub: {url: http://hub/, timeout: soon} => 1:34: hub.timeout => write 25s or 1m30s
hub: {url: http://hub/, connection_age_max: 0s} => 1:45: hub.connection_age_max => allowed: above 0 to 1h
hub: {url: http://hub/, connection_age_max: 2h} => 1:45: hub.connection_age_max => allowed: above 0 to 1h
hub: {url: http://hub/, connection_age_max: old} => 1:45: hub.connection_age_max => write 25s or 1m30s
hub: {url: http://hub/, name: ''} => 1:31: hub.name => is empty; leave the key out
hub: {url: http://hub/, name: ~} => 1:31: hub.name => has no value
hub: {url: http://hub/, name: ' a'} => 1:31: hub.name => begins or ends with a space
hub: {url: http://hub/, name: \"a\\tb\"} => 1:31: hub.name => contains U+0009 as character 2
hub: {url: http://hub/, protocol: v3} => 1:35: hub.protocol => unknown value \"v3\"; allowed: auto, v1, v2
hub: {url: http://hub/, metadata: keep} => 1:35: hub.metadata => unknown value \"keep\"; allowed: drop, forward_v1
hub: {url: http://hub/, salvage_requests_max: 10001} => 1:47: hub.salvage_requests_max => from 0 to 10000
hub: {url: http://hub/, salvage_requests_max: 1} => 1:47: hub.salvage_requests_max => a halved request takes two
hub: {url: http://hub/, salvage_requests_max: -1} => 1:47: hub.salvage_requests_max => not a count
hub: {url: http://hub/, salvage_requests_max: ''} => 1:47: hub.salvage_requests_max => not a count
hub: {url: http://hub/, ack: all} => 1:25: hub => unknown key \"ack\"; allowed: name, url, timeout, connection_age_max, protocol, metadata, headers, credentials, tls, salvage_requests_max
hub: {url: http://hub/, ulr: a} => 1:25: hub => unknown key \"ulr\", did you mean url?
hubs: {url: http://hub/} => 1:7: hubs => wanted a list, found a mapping
hubs: http://hub/ => 1:7: hubs => wanted a list, found a single value
hubs: [http://hub/] => 1:8: hubs[0] => wanted a mapping
hubs: [{url: http://hub/}, {name: a}] => 1:28: hubs[1].url => required key is missing
";
    refuses_each(table, with_line);
    let long = format!("hub: {{url: http://hub/, name: {}}}", "é".repeat(65));
    let message = "longer than 128 bytes";
    refuses(&with_line(&long), "1:31: hub.name", message);
}

/// A general parser of URLs takes most of these, and what is dialled then is something else, or
/// nothing.
#[test]
fn a_url_that_cannot_be_dialled_as_written_is_refused() {
    let table = "
http://hub:65536/w => has a port that is not a number from 1 to 65535
http://hub:0/w => has a port that is not a number from 1 to 65535
http://hub:09090/w => has a port that is not a number from 1 to 65535
http://hub:+90/w => has a port that is not a number from 1 to 65535
http://hub:http/w => has a port that is not a number from 1 to 65535
http://hub:99999999999999999999/w => has a port that is not a number from 1 to 65535
http://hub:/w => has a colon without a port
http://hub: => has a colon without a port
http://[::1]:/w => has a colon without a port
http://[::1]9090/w => has something other than a port after the ]
http://[::1/w => has a [ without a ]
http://[127.0.0.1]/w => has something other than an IPv6 address in brackets
http://[hub]/w => has something other than an IPv6 address in brackets
http://[]/w => has something other than an IPv6 address in brackets
http://::1/w => an IPv6 address is written in brackets, as [2001:db8::1]:9090
http://::1:9090/w => an IPv6 address is written in brackets
http://[fe80::1%eth0]:9090/w => has an IPv6 zone (%...), which is not supported
http://[fe80::1%25eth0]:9090/w => has an IPv6 zone (%...), which is not supported
http://[2001:db8::1%1]/w => has an IPv6 zone (%...), which is not supported
http://[fe80::1]/w => has a link-local IPv6 address, which needs a zone
http://[ff02::1]/w => has a multicast or broadcast address
http://224.0.0.1/w => has a multicast or broadcast address
http://255.255.255.255/w => has a multicast or broadcast address
http://$(HUB)/w => contains a variable, and variables are not replaced in a url
http://${HUB}:9090/w => contains a variable
http://hub/$(WRITE_PATH) => contains a variable
http://$HUB/w => has a host with a character that no name has
http://{{hub}}/w => has a host with a character that no name has
http://<hub>/w => has a host with a character that no name has
http://hub%2e/w => has a host with a character that no name has
http://hub,hub2/w => has a host with a character that no name has
http://hub\\\\@127.0.0.1/w => must not contain a user name or password
http://hub\\\\w => has a host with a character that no name has
http://a@hub/ => must not contain a user name or password
http://a:b@hub:9090/ => must not contain a user name or password
http://@hub/ => must not contain a user name or password
http://hub/#a => must not contain a fragment
http://hub#a => must not contain a fragment
http://hub /w => must not contain a space or control character
http://hub/a b => must not contain a space or control character
http://hub/\\ta => must not contain a space or control character
http://hub\\u00a0/w => must not contain a space or control character
http://hüb/w => write its ASCII form (xn--...)
http://hub/ü => must be percent-encoded
http://hub..example/w => a part (between dots) that is empty
http://.hub/w => a part (between dots) that is empty
http://./w => a part (between dots) that is empty
http://-hub/w => a part (between dots) that starts or ends with -
http://hub-.example/w => a part (between dots) that starts or ends with -
http://127.0.0/w => ends in a number and is not an IPv4 address
http://127.0.0.256/w => ends in a number and is not an IPv4 address
http://0x7f000001/w => ends in a number and is not an IPv4 address
http:///w => has no host
http://?a => has no host
http:/hub/w => not an absolute http:// or https:// URL
//hub/w => not an absolute http:// or https:// URL
' http://hub/w' => not an absolute http:// or https:// URL
";
    for case in table.lines().filter(|line| !line.is_empty()) {
        let (url, message) = case.split_once(" => ").unwrap();
        let url = url.trim_matches('\'');
        let line = format!("hub: {{url: \"{url}\"}}");
        refuses(&with_line(&line), "1:12: hub.url", message);
        let example = "write http(s)://HOST:PORT/PATH, such as http://127.0.0.1:9090/api/v1/write";
        refuses(&with_line(&line), "1:12: hub.url", example);
    }
    let label = format!("hub: {{url: 'http://{}/'}}", "a".repeat(64));
    refuses(&with_line(&label), "1:12: hub.url", "longer than 63");
    let name = format!("hub: {{url: 'http://a{}/'}}", ".a".repeat(127));
    refuses(
        &with_line(&name),
        "1:12: hub.url",
        "more than 253 characters",
    );
}

#[test]
fn bad_headers_are_refused() {
    let table = "
a => 1:34: hub.headers => wanted a mapping, found a single value
['a: b'] => 1:34: hub.headers => wanted a mapping, found a list
{'': a} => 1:35: hub.headers => not a header name; allowed: letters, digits and any of
{a b: c} => 1:35: hub.headers => not a header name
{'a:': c} => 1:35: hub.headers => not a header name
{':path': c} => 1:35: hub.headers => not a header name
{é: c} => 1:35: hub.headers => not a header name
{a: b, A: b} => 1:41: hub.headers => given twice (names ignore case); the first is at 1:35
{a: b, a: b} => 1:41: hub.headers => given twice
{a: ~} => 1:38: hub.headers => has no value
{a: ''} => 1:38: hub.headers => is empty; give a value or leave the header out
{a: {b: c}} => 1:38: hub.headers => wanted a single value
{a: [b]} => 1:38: hub.headers => wanted a single value
{a: ' b'} => 1:38: hub.headers => begins or ends with a space
{a: \"b\\r\"} => 1:38: hub.headers => control character
{a: \"b\\tc\"} => 1:38: hub.headers => control character
{a: \"b\\x7f\"} => 1:38: hub.headers => control character
{a: \"b\\x85\"} => 1:38: hub.headers => control character
{a: '${cluster}'} => 1:38: hub.headers => contains an unknown variable ${...}; allowed: ${spoke}
{a: '${spoke'} => 1:38: hub.headers => contains an unknown variable ${...}
{a: '${}'} => 1:38: hub.headers => contains an unknown variable ${...}
{a: '${Spoke}'} => 1:38: hub.headers => contains an unknown variable ${...}
{a: '${ spoke }'} => 1:38: hub.headers => contains an unknown variable ${...}
{a: '${spoke}${x}'} => 1:38: hub.headers => contains an unknown variable ${...}
{a: '${${spoke}}'} => 1:38: hub.headers => contains an unknown variable ${...}
";
    let with = |headers: &str| with_line(&format!("hub: {{url: http://hub/, headers: {headers}}}"));
    refuses_each(table, with);
    let long = with(&format!("{{a: {}}}", "a".repeat(8193)));
    refuses(&long, "1:38: hub.headers", "longer than 8192 bytes");
    let many: Vec<_> = (0..33).map(|index| format!("a{index}: b")).collect();
    let many = with(&format!("{{{}}}", many.join(", ")));
    refuses(&many, "1:34: hub.headers", "more than 32 headers");
    let both = with("{a b: '', a: b}");
    assert_eq!(errors(&both).lines().count(), 2, "{}", errors(&both));
}

#[test]
fn headers_of_hubgate_or_of_the_connection_are_refused() {
    let names = [
        "accept-encoding",
        "Connection",
        "content-encoding",
        "Content-Length",
        "content-type",
        "Expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "Proxy-Connection",
        "retry-attempt",
        "TE",
        "trailer",
        "Transfer-Encoding",
        "upgrade",
        "User-Agent",
        "X-Prometheus-Remote-Write-Version",
    ];
    for name in names {
        let line = format!("hub: {{url: http://hub/, headers: {{{name}: a}}}}");
        let message = "is set by hubgate or belongs to the connection; allowed: any header except";
        refuses(&with_line(&line), "1:35: hub.headers", message);
    }
    let line = "hub: {url: http://hub/, headers: {Authorization: a, hosts: a, x-proxy-a: a}}";
    assert_eq!(errors(&with_line(line)), "");
}

#[test]
fn a_repeated_hub_name_is_refused() {
    let table = "
[{url: http://a/1}, {url: http://a/2}] => 1:27: hubs[1] => a hub name (by default the host and port of the url) may be used only once; this one is already used at config:1:8 (hubs[0]); give each hub a `name`
[{url: http://a/}, {url: http://b/, name: a}] => 1:49: hubs[1].name => is already used at config:1:8 (hubs[0])
[{url: http://a/, name: b}, {url: http://b/}] => 1:35: hubs[1] => is already used at config:1:31 (hubs[0].name)
";
    refuses_each(table, |list| with_line(&format!("hubs: {list}")));
    let line = "hubs: [{url: http://a/1}, {url: http://a/2, name: production}]";
    // A hub and a spoke may have the same name.
    let text = with_line(line).replace("name: a", "name: production");
    assert_eq!(errors(&text), "");
}

#[test]
fn exactly_one_of_hub_and_hubs_must_be_given() {
    let spokes = format!("spokes: [{{name: a, credentials: [token_sha256: {DIGEST}]}}]");
    let none = "no hub is configured; give one in hub, or list several in hubs";
    refuses(&spokes, "1:1", none);
    refuses(&format!("hubs: []\n{spokes}"), "1:7: hubs", none);
    refuses(&format!("hubs: ~\n{spokes}"), "1:7: hubs", none);
    let both = format!("hub: {{url: http://a/}}\nhubs: [{{url: http://b/}}]\n{spokes}");
    let message = "hub is given as well, at 1:6; list all hubs in hubs, or give one in hub";
    refuses(&both, "2:7: hubs", message);
    let found = errors("hub: {url: a}\nhubs: [{url: b}]\nack: c\nspokes: d");
    assert_eq!(found.lines().count(), 5, "{found}");
}
