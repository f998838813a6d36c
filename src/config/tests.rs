//! Tests of configurations as texts: what they are read as, and the errors they get.

mod admin;
mod files;
mod folder;
mod hub_credentials;
mod hub_tls;
mod hubs;
mod invariants;
mod jwt;
mod limits;
mod listeners;
mod tls;
mod values;
mod warnings;

use std::time::{Duration, SystemTime};

use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
use proptest::sample::{Index, select};
use values::with_line;

use super::{
    Absent, Ack, Config, HubMetadata, HubProtocol, LabelPolicy, Mismatch, Secret, SpokeLimits,
    parse,
};

/// SHA-256 of `test`.
const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const BCRYPT: &str = "$2b$12$EXRkfkdmXn2gzds2SSitu.MW9.gAVqa9eLS1//RYtYCmB1eLHg.9q";
const ARGON2: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21l$\
                      PpcTKd+SiYo0PvLS5dEOvzXsSIwd+4X+ZSLTb2YBTeg";

const COMPLETE: &str = r#"
cluster_label: cluster
listen:
  address: 0.0.0.0:9480
  source_ranges: [0.0.0.0/0, "::/0"]
  proxy_protocol: required
  forwarded_for: x_forwarded_for
  trusted_proxies: [10.0.0.0/8, "fd00::1"]
  connections_max: 4096
  connections_per_address_max: 0
  connection_age_max: 1h
admin:
  address: 127.0.0.1:9481
  credentials: [{captures: allow, basic: {username: operator, password_hash: "$2b$12$EXRkfkdmXn2gzds2SSitu.MW9.gAVqa9eLS1//RYtYCmB1eLHg.9q"}}]
hub:
  url: http://127.0.0.1:9090/api/v1/write
  timeout: 1m30s
  protocol: v2
  metadata: forward_v1
  headers: {X-Scope-OrgID: "${spoke}", Authorization: Bearer c2VjcmV0LWh1Yg}
  salvage_requests_max: 0
ack: any
limits:
  bytes_in_flight_max: 256MiB
  body_bytes_max: 32MiB
  decoded_bytes_max: 1000000
spoke_defaults:
  labels: {absent: reject}
  limits: {labels_per_series_max: 64}
spokes:
  - name: production
    credentials:
      - token_sha256: 9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08
        not_after: 2100-01-31T00:00:00Z
      - basic: {username: production, password_hash: "$2b$12$EXRkfkdmXn2gzds2SSitu.MW9.gAVqa9eLS1//RYtYCmB1eLHg.9q"}
    source_ranges: [203.0.113.7/32, "::ffff:198.51.100.0/120"]
    labels: {mismatch: rename}
    limits: {series_per_request_max: 50000, label_value_bytes_max: 64KiB}
  - name: off
    credentials: [basic: {username: 123, password_hash: "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21l$PpcTKd+SiYo0PvLS5dEOvzXsSIwd+4X+ZSLTb2YBTeg"}]
    labels: {absent: inject}
"#;

/// The errors of a text, one on each line; empty if it has none.
fn errors(text: &str) -> String {
    match parse(text) {
        Ok(_) => String::new(),
        Err(errors) => errors.to_string(),
    }
}

/// A configuration whose only spoke has the given lines besides its name.
fn with_spoke(lines: &str) -> String {
    format!("hub: {{url: http://hub/}}\nspokes:\n- name: a\n{lines}\n")
}

fn names(config: &Config) -> Vec<&str> {
    config.spokes.iter().map(|it| it.name.as_str()).collect()
}

#[test]
fn a_complete_configuration_is_read() {
    let config = parse(COMPLETE).expect("a valid configuration");
    assert_eq!(config.hubs[0].timeout, Duration::from_secs(90));
    assert_eq!(config.limits.decoded_bytes_max, 1_000_000);
    assert_eq!(names(&config), ["production", "off"]);
    let [production, off] = &config.spokes[..] else {
        panic!("two spokes");
    };
    assert_eq!(
        production.source_ranges.to_string(),
        "203.0.113.7/32, 198.51.100.0/24"
    );
    let credentials: Vec<_> = production.credentials.iter().map(|it| &it.name).collect();
    assert_eq!(credentials, ["token_sha256:9f86d081", "basic:production"]);
    let [operator] = &config.admin.credentials[..] else {
        panic!("one credential");
    };
    assert_eq!(operator.name, "basic:operator");
    assert!(operator.may_capture && !production.credentials[0].may_capture);
    let ends: Vec<_> = production
        .credentials
        .iter()
        .map(|it| it.not_after)
        .collect();
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(4_105_036_800);
    assert_eq!(ends, [Some(end), None]);
    assert!(
        matches!(&off.credentials[0].secret, Secret::Basic { username, .. } if username == "123")
    );
}

#[test]
fn each_key_of_a_spoke_overrides_its_default() {
    let config = parse(COMPLETE).expect("a valid configuration");
    let policy = |absent, mismatch| LabelPolicy { absent, mismatch };
    assert_eq!(
        config.spokes[0].labels,
        policy(Absent::Reject, Mismatch::Rename)
    );
    assert_eq!(
        config.spokes[1].labels,
        policy(Absent::Inject, Mismatch::Reject)
    );
    let limits = SpokeLimits {
        series_per_request_max: 50_000,
        labels_per_series_max: 64,
        label_value_bytes_max: 65_536,
        samples_ahead_max: Some(Duration::from_secs(600)),
        named: config.spokes[0].limits.named,
        ..SpokeLimits::DEFAULT
    };
    assert_eq!(config.spokes[0].limits, limits);
}

#[test]
fn keys_that_are_left_out_have_defaults() {
    let text = with_spoke(&format!("  credentials: [token_sha256: {DIGEST}]"));
    let config = parse(&text).expect("a valid configuration");
    assert_eq!(config.cluster_label, "cluster");
    assert_eq!(config.listen.address.to_string(), "0.0.0.0:9480");
    assert_eq!(
        config.listen.rules.source_ranges.to_string(),
        "0.0.0.0/0, ::/0"
    );
    assert_eq!(config.listen.connections_max, 4096);
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9481");
    assert_eq!(config.ack, Ack::All);
    let [hub] = &config.hubs[..] else {
        panic!("one hub");
    };
    assert_eq!(hub.name, "hub");
    assert_eq!(hub.timeout, Duration::from_secs(25));
    assert_eq!(hub.protocol, HubProtocol::Auto);
    assert_eq!(hub.metadata, HubMetadata::Drop);
    assert_eq!(hub.headers, []);
    assert_eq!(hub.salvage_requests_max, 64);
    assert_eq!(config.limits.bytes_in_flight_max, 256 << 20);
    assert_eq!(config.limits.body_bytes_max, 32 << 20);
    assert_eq!(config.limits.decoded_bytes_max, 32 << 20);
    assert_eq!(config.spokes[0].limits.series_per_request_max, 50_000);
    assert_eq!(config.spokes[0].labels.absent, Absent::Inject);
}

#[test]
fn a_missing_value_is_an_empty_list_or_mapping() {
    let text = with_spoke(&format!(
        "  credentials: [token_sha256: {DIGEST}]\n  labels:\n  limits: ~\nlisten:\nadmin: null\nspoke_files:"
    ));
    assert_eq!(errors(&text), "");
}

#[test]
fn all_errors_are_reported_in_order() {
    let text = "\
cluster_label: 1st
listen: {adress: 0.0.0.0:1, source_ranges: [nowhere]}
hub:
  timeout: 25
limits: {body_bytes_max: 0}
spokes:
- name: unknown
  credentials: []
- credentials:
  - token_sha256: abc
  - token_file: /no/such/file
  labels: {absent: ignore}
colour: blue
";
    let expected = [
        "config:1:16: cluster_label: \"1st\" is not a label name; it must match [a-zA-Z_][a-zA-Z0-9_]*",
        "config:2:10: listen: unknown key \"adress\", did you mean address? allowed: address, source_ranges, proxy_protocol, forwarded_for, trusted_proxies, connections_max, connections_per_address_max, connection_age_max, tls",
        "config:2:45: listen.source_ranges[0]: \"nowhere\" is not a source range; write a CIDR such as 203.0.113.0/24 or 2001:db8::/32, or one address",
        "config:4:3: hub.url: required key is missing",
        "config:4:12: hub.timeout: \"25\" is not a duration; write 25s or 1m30s",
        "config:5:26: limits.body_bytes_max: \"0\" is out of range; allowed: 1 byte to 1.0 GiB",
        "config:7:9: spokes[0].name: in metrics, \"unknown\" means senders that are not a spoke; choose another name",
        "config:8:16: spokes[0].credentials: is empty, so nobody could write as this spoke; `hubgate token` makes a token",
        "config:9:3: spokes[1].name: required key is missing",
        "config:10:19: spokes[1].credentials[0].token_sha256: is not a SHA-256 in 64 hex digits; `hubgate token` prints a token and its digest",
        "config:11:17: spokes[1].credentials[1].token_file: cannot read /no/such/file: No such file or directory (os error 2)",
        "config:12:20: spokes[1].labels.absent: unknown value \"ignore\"; allowed: inject, reject",
        "config:13:1: unknown key \"colour\"; allowed: cluster_label, listen, admin, hub, hubs, ack, limits, spoke_defaults, spokes, spoke_files",
    ];
    assert_eq!(errors(text).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn neither_errors_nor_debug_output_show_a_secret() {
    let secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0";
    let cases = [
        format!("  credentials: [token_sha256: {secret}]"),
        format!("  credentials: [token: {secret}]"),
        format!("  credentials: [token_file: {secret}]"),
        format!("  credentials: [token_file: /{secret}/a]"),
        format!("  credentials: [token_file: a/{secret}]"),
        format!("  credentials: [token_file: {secret}/b]"),
        format!("  token: {secret}"),
        format!("  credentials: [basic: {{username: a, password_hash: 'a:{secret}'}}]"),
        format!(
            "  credentials: [basic: {{username: a, password_hash: $argon2id$v=19$m=1,t={secret},p=1}}]"
        ),
        format!("  credentials: [basic: {{username: a, password_hash: {{SHA}}{secret}}}]"),
        format!("  credentials: [{secret}: token]"),
        format!("  credentials: [{secret}]"),
        format!("  credentials: {{token_sha256: {secret}}}"),
        format!("  credentials: {secret}"),
        format!("  credentials: [basic: {secret}]"),
        format!("  credentials: [basic: {{username: a, password_hash: {secret}}}]"),
        format!("  credentials: [basic: {{username: a, password_hash: $2b$12${secret}}}]"),
        format!("  credentials: [basic: {{username: a, password_hash: $argon2id${secret}}}]"),
        format!("  credentials: [basic: {{username: a, {secret}: b}}]"),
        format!("  credentials: [token_sha256: {secret}, token_sha256: {secret}]"),
        format!("  credentials: [token_sha256: \"{secret}]"),
        format!("  credentials: [token_sha256: &{secret} a]"),
        format!("  credentials: [token_sha256: *{secret}]"),
        format!("  credentials: [token_sha256: !{secret} a]"),
        format!("hub: {{url: http://user:{secret}@hub/}}"),
        format!("hub: {{url: \"http://user:{secret}@hu b/\"}}"),
        format!("hub: {{url: http://hub/, headers: {secret}}}"),
        format!("hub: {{url: http://hub/, headers: [\"Authorization: Bearer {secret}\"]}}"),
        format!("hub: {{url: http://hub/, headers: {{\"Bearer {secret}\": ~}}}}"),
        format!("hub: {{url: http://hub/, headers: {{{secret}: ~}}}}"),
        format!("hub: {{url: http://hub/, headers: {{{secret}: a, {secret}: b}}}}"),
        format!("hub: {{url: http://hub/, headers: {{host: {secret}}}}}"),
        format!("hub: {{url: http://hub/, headers: {{a: {{{secret}: a}}}}}}"),
        format!("hub: {{url: http://hub/, headers: {{a: [{secret}]}}}}"),
        format!("hub: {{url: http://hub/, headers: {{a: \"{secret}\\t\"}}}}"),
        format!("hub: {{url: http://hub/, headers: {{a: \"{secret}${{{secret}}}\"}}}}"),
    ];
    for case in cases {
        let text = if case.starts_with("hub:") {
            with_line(&case)
        } else {
            with_spoke(&case)
        };
        let found = parse(&text).expect_err(&case);
        let shown = format!("{found} {found:?}");
        assert!(!shown.contains(secret), "{shown}");
    }
    let config = parse(COMPLETE).expect("a valid configuration");
    let shown = format!("{config:?}");
    for part in ["EXRkfkdm", "PpcTKd", "884c7d65", "9F86D081884C", "c2VjcmV0"] {
        assert!(!shown.contains(part), "{shown}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_arbitrary_text_is_refused(text in any::<String>()) {
        prop_assert!(parse(&text).is_err());
    }

    #[test]
    fn a_changed_configuration_is_read_or_refused_with_a_message(
        from in any::<Index>(),
        to in any::<Index>(),
        with in select(vec!["", ":", "- ", "[", "{", "}", "\n", "\n  ", "'", "\"", "~", "&a ", "*a", "!", "|", "é", "\t", "0", "---\n"]),
    ) {
        let (from, to) = (from.index(COMPLETE.len()), to.index(COMPLETE.len()));
        let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 40));
        let text = format!("{}{with}{}", &COMPLETE[..from], &COMPLETE[to..]);
        if let Err(errors) = parse(&text) {
            prop_assert!(errors.iter().count() > 0);
            prop_assert!(errors.iter().all(|error| !error.message.is_empty()));
        }
    }
}

#[test]
fn without_files_none_is_read() {
    let text = format!(
        "hub: {{url: http://h/w}}\nspokes: [{{name: a, credentials: [token_file: {file}]}}]\n\
         spoke_files: [{file}, /etc/*]\n",
        file = file!()
    );
    let (result, warnings) = super::parse_without_files(&text);
    let errors = result.unwrap_err();
    let errors: Vec<_> = errors.iter().map(|error| error.to_string()).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("there are no files"), "{errors:?}");
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().all(|it| it.contains("no file matches")));
}

#[test]
fn a_finding_is_one_line_whatever_it_shows() {
    let text = "hub: {url: http://h/w}\n\"a\\nb\": 1\nspoke_files: [\"*\\t\\e[2J.yaml\"]\n";
    let (result, warnings) = super::parse_without_files(text);
    let error = result.unwrap_err().to_string();
    assert!(error.contains("\"a\\nb\""), "{error}");
    let warning = warnings.last().unwrap().to_string();
    assert!(warning.ends_with("/*\\t\\u{1b}[2J.yaml"), "{warning}");
}

#[test]
fn the_invariants_hold_for_a_complete_configuration() {
    invariants::check(COMPLETE);
}
