//! Tests of one bad value at a time: its error, with position and key.
//!
//! A table has one case on each line: what is written, the position and key of the only error, and
//! a part of its message. `\n` stands for a line break.

use super::{ARGON2, BCRYPT, DIGEST, errors, parse, with_spoke};

/// Asserts that a text has one error, at the given position and key, and with the given message.
pub(super) fn refuses(text: &str, place: &str, message: &str) {
    let found = errors(text);
    assert_eq!(found.lines().count(), 1, "of {text:?}: {found}");
    let start = format!("config:{place}:");
    assert!(
        found.starts_with(&start) && found[start.len()..].contains(message),
        "of {text:?}: {found}\nwanted: {place}: {message}"
    );
}

/// Asserts [`refuses`] for each case of a table. `text` makes a configuration of what is written.
pub(super) fn refuses_each(table: &str, text: impl Fn(&str) -> String) {
    for case in table.lines().filter(|line| !line.is_empty()) {
        let case = case.replace("\\n", "\n");
        let parts: Vec<_> = case.split(" => ").collect();
        let [written, place, message] = parts[..] else {
            panic!("three parts: {case}");
        };
        refuses(&text(written), place, message);
    }
}

/// A valid configuration with the given line in front of it, or in place of its hub.
pub(super) fn with_line(line: &str) -> String {
    let rest = with_spoke(&format!("  credentials: [token_sha256: {DIGEST}]"));
    if line.starts_with("hub") {
        rest.replacen("hub: {url: http://hub/}", line, 1)
    } else {
        format!("{line}\n{rest}")
    }
}

#[test]
fn bad_values_of_the_process_are_refused() {
    let table = "
cluster_label: '' => 1:16: cluster_label => not a label name
cluster_label: a-b => 1:16: cluster_label => [a-zA-Z_][a-zA-Z0-9_]*
cluster_label: __name__ => 1:16: cluster_label => choose another label
cluster_label: ~ => 1:16: cluster_label => has no value
cluster_label: [a] => 1:16: cluster_label => found a list
cluster_label: {a: b} => 1:16: cluster_label => found a mapping
listen: x => 1:9: listen => wanted a mapping, found a single value
hub: http://a/ => 1:6: hub => wanted a mapping, found a URL; write {url: URL}
hubs: [http://a/] => 1:8: hubs[0] => wanted a mapping, found a URL; write {url: URL}
hub: url:http://a/ => 1:6: hub => put a space after the colon of each key
limits: {samples_ahead_max: 1m} => 1:10: limits => it goes into limits of a spoke, or of spoke_defaults
spoke_defaults: {limits: {body_bytes_max: 1}} => 1:27: spoke_defaults.limits => it goes into limits of the whole file
listen: [] => 1:9: listen => wanted a mapping, found a list
listen: {address: ':'} => 1:19: listen.address => write IP:PORT, such as 127.0.0.1:9480, or :PORT for all interfaces
listen: {address: '9480'} => 1:19: listen.address => write IP:PORT
listen: {address: '*:9480'} => 1:19: listen.address => write IP:PORT
listen: {address: ':65536'} => 1:19: listen.address => write IP:PORT
listen: {address: ':+1'} => 1:19: listen.address => write IP:PORT
listen: {address: '::9480'} => 1:19: listen.address => write IP:PORT
listen: {address: :9481} => 1:19: listen.address => need two ports
listen: {address: 0.0.0.0:9481} => 1:19: listen.address => need two ports
admin: {address: :9480} => 1:18: admin.address => need two ports
admin: {address: 0.0.0.0:9480} => 1:18: admin.address => need two ports
listen: {address: localhost:1} => 1:19: listen.address => write IP:PORT
listen: {address: 127.0.0.1:9481} => 1:19: listen.address => need two ports
listen: {source_ranges: []} => 1:25: listen.source_ranges => is empty
listen: {source_ranges: ~} => 1:25: listen.source_ranges => is empty
listen: {source_ranges: 10.0.0.0/8} => 1:25: listen.source_ranges => wanted a list
listen: {source_ranges: {a: b}} => 1:25: listen.source_ranges => wanted a list
listen: {source_ranges: [10.0.0.0/33]} => 1:26: listen.source_ranges[0] => not a source range
listen: {connections_max: 0} => 1:27: listen.connections_max => from 1 to
listen: {connections_max: +5} => 1:27: listen.connections_max => not a count
listen: {connections_max: 1e3} => 1:27: listen.connections_max => not a count
listen: {connections_max: -1} => 1:27: listen.connections_max => not a count
admin: {address: 1} => 1:18: admin.address => write IP:PORT
ack: most => 1:6: ack => unknown value \"most\"; allowed: all, any
ack: ~ => 1:6: ack => has no value
limits: {body_bytes_max: big} => 1:26: limits.body_bytes_max => write 32MiB
limits: {body_bytes_max: 2GiB} => 1:26: limits.body_bytes_max => 1 byte to 1.0 GiB
limits: {bytes_in_flight_max: 2PiB} => 1:31: limits.bytes_in_flight_max => 1 byte to 1.0 TiB
limits: {bytes_in_flight_max: 63MiB} => 1:31: limits.bytes_in_flight_max => must hold one
limits: {body_bytes_max: 225MiB} => 1:26: limits.body_bytes_max => make 269484032
spoke_files: a.yaml => 1:14: spoke_files => wanted a list
spoke_files: ['['] => 1:15: spoke_files[0] => is not a glob
spoke_defaults: {limits: {labels_per_series_max: 0}} => 1:50: spoke_defaults.limits.labels_per_series_max => from 1 to
spoke_defaults: {limits: {samples_ahead_max: 10}} => 1:46: spoke_defaults.limits.samples_ahead_max => not a duration
spoke_defaults: {limits: {samples_ahead_max: 366d}} => 1:46: spoke_defaults.limits.samples_ahead_max => allowed: up to 365d, or 0s for no limit
";
    refuses_each(table, with_line);
}

#[test]
fn an_address_without_an_ip_is_that_of_all_interfaces() {
    // YAML takes a colon before a digit as a part of the text.
    for written in [":9090", "':9090'"] {
        let line = format!("listen: {{address: {written}}}");
        let config = parse(&with_line(&line)).expect(&line);
        assert_eq!(config.listen.address.to_string(), "[::]:9090");
    }
    // Listeners that can be bound at once.
    for (listen, admin) in [
        ("127.0.0.1:1", "127.0.0.2:1"),
        ("127.0.0.1:1", "[::1]:1"),
        ("0.0.0.0:1", "[::1]:1"),
        (":0", ":0"),
    ] {
        let line = format!("listen: {{address: '{listen}'}}\nadmin: {{address: '{admin}'}}");
        assert_eq!(errors(&with_line(&line)), "");
    }
}

#[test]
fn unknown_and_repeated_keys_are_refused() {
    let table = "
cluster: a => 1:1 => unknown key \"cluster\", did you mean cluster_label? allowed: cluster_label, listen, admin,
color: a => 1:1 => unknown key \"color\"; allowed: cluster_label, listen, admin,
listen-address: a => 1:1 => did you mean listen?
remote_write: [] => 1:1 => unknown key \"remote_write\"; write hub: {url: URL}
clusterLabel: a => 1:1 => unknown key \"clusterLabel\", did you mean cluster_label? allowed:
listen: {color: {}} => 1:10: listen => \"color\"; allowed: address, source_ranges, proxy_protocol
spoke_defaults: {name: a} => 1:18: spoke_defaults => allowed: source_ranges, labels, limits, weight
admin: {}\\nadmin: {} => 2:1: admin => this key is given twice; its first value is at 1:8
~: a => 1:1 => unknown key \"null\"
? {a: b}\\n: c => 1:3 => a key must be a text
<<: {a: b} => 1:1 => unknown key \"<<\"
";
    refuses_each(table, with_line);
}

#[test]
fn a_document_that_is_not_one_plain_mapping_is_refused() {
    let table = "
cluster_label: &a b => 1:19 => anchors and aliases are not supported
cluster_label: *a => 1:16 => anchors and aliases are not supported
cluster_label: !!str b => 1:22 => tags are not supported
a: b: c => 1:5 => not valid YAML
cluster_label: a\\n---\\na: b\\n--- => 2:1 => a second document begins here
";
    refuses_each(table, with_line);
    refuses("a", "1:1", "wanted a mapping, found a single value");
    refuses("- a", "1:1", "wanted a mapping, found a list");
    let empty = "config:1:1: no hub is configured; give one in hub, or list several in hubs";
    assert!(errors("").starts_with(empty), "{}", errors(""));
}

#[test]
fn nesting_and_size_are_bounded() {
    refuses(&"[".repeat(100_000), "1:33", "nested deeper than 32 levels");
    let levels = (0..40).map(|level| format!("{}a:\n", " ".repeat(level)));
    let deep: String = levels.collect();
    refuses(&deep, "33:33", "nested deeper than 32 levels");
    let many = "- a\n".repeat(600_000);
    refuses(&many, "500001:3", "more than 500000 values");
}

#[test]
fn bad_values_of_a_spoke_are_refused() {
    let table = "
name: '' => 3:9: spokes[0].name => is empty
name: unknown => 3:9: spokes[0].name => choose another name
name: \"a\\tb\" => 3:9: spokes[0].name => contains U+0009 as character 2
name: \"a\\u200Bb\" => 3:9: spokes[0].name => contains U+200B as character 2
name: ' a' => 3:9: spokes[0].name => begins or ends with a space
source_ranges: [::1] => 3:3: spokes[0].name => required key is missing
name: a\\n  color: b => 4:3: spokes[0] => allowed: name, credentials, source_ranges, labels, limits, weight
name: a\\n  labels: {absent: ignore} => 4:20: spokes[0].labels.absent => unknown value \"ignore\"; allowed: inject, reject
name: a\\n  labels: {mismatch: drop} => 4:22: spokes[0].labels.mismatch => allowed: reject, rename, overwrite
name: a\\n  limits: {label_value_bytes_max: 0} => 4:35: spokes[0].limits.label_value_bytes_max => out of range
name: a\\n  limits: {series_per_request_max: x} => 4:36: spokes[0].limits.series_per_request_max => from 1 to
name: a\\n  source_ranges: [::1, ::g] => 4:24: spokes[0].source_ranges[1] => not a source range
";
    let with = |lines: &str| {
        let credentials = format!("credentials: [token_sha256: {DIGEST}]");
        format!("hub: {{url: http://hub/}}\nspokes:\n- {lines}\n  {credentials}\n")
    };
    refuses_each(table, with);
    let long = with(&format!("name: {}", "é".repeat(65)));
    refuses(&long, "3:9: spokes[0].name", "longer than 128 bytes");
}

#[test]
fn bad_credentials_are_refused() {
    let table = "
[] => 4:16: spokes[0].credentials => is empty
~ => 4:16: spokes[0].credentials => is empty
a => 4:16: spokes[0].credentials => wanted a list
[{}] => 4:17: spokes[0].credentials[0] => one of: token_sha256, token_file, basic, certificate, jwt
[a] => 4:17: spokes[0].credentials[0] => wanted a mapping
[tokn_file: a] => 4:17: spokes[0].credentials[0] => unknown key, did you mean token_file?
[{token_sha256: DIGEST, token_file: a}] => 4:17: spokes[0].credentials[0] => token_sha256 and token_file at once
[token_sha256: DIGEST0] => 4:31: spokes[0].credentials[0].token_sha256 => 64 hex digits
[token_sha256: gDIGEST] => 4:31: spokes[0].credentials[0].token_sha256 => 64 hex digits
[token_sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855] => 4:31: spokes[0].credentials[0].token_sha256 => SHA-256 of an empty text
[token_file: ''] => 4:29: spokes[0].credentials[0].token_file => is empty
[token_file: /dev/null] => 4:29: spokes[0].credentials[0].token_file => cannot read /dev/null: not a regular file
[{token_sha256: DIGEST, not_after: 2027-01-31}] => 4:109: spokes[0].credentials[0].not_after => is not a time in UTC; write it as 2027-01-31T00:00:00Z
[{token_sha256: DIGEST, not_after: 2027-01-31T00:00:00+01:00}] => 4:109: spokes[0].credentials[0].not_after => is not a time in UTC
[{token_sha256: DIGEST, not_after: ''}] => 4:109: spokes[0].credentials[0].not_after => is not a time in UTC
[{token_sha256: DIGEST, not_after: }] => 4:107: spokes[0].credentials[0].not_after => has no value
[not_after: 2027-01-31T00:00:00Z] => 4:17: spokes[0].credentials[0] => contains no credential; give one of: token_sha256, token_file, basic
[basic: a] => 4:24: spokes[0].credentials[0].basic => wanted a mapping
[basic: {password_hash: BCRYPT}] => 4:24: spokes[0].credentials[0].basic.username => missing
[basic: {username: 'a:b', password_hash: BCRYPT}] => 4:35: spokes[0].credentials[0].basic.username => colon
[basic: {username: '', password_hash: BCRYPT}] => 4:35: spokes[0].credentials[0].basic.username => 1 to 128 bytes
[basic: {username: a}] => 4:24: spokes[0].credentials[0].basic.password_hash => missing
[token_sha256: DIGEST, token_sha256: DIGEST] => 4:111: spokes[0].credentials[1].token_sha256 => is already used at config:4:31 (spokes[0].credentials[0].token_sha256)
";
    refuses_each(table, |credentials| {
        let written = credentials.replace("DIGEST", DIGEST);
        let written = written.replace("BCRYPT", BCRYPT);
        with_spoke(&format!("  credentials: {written}"))
    });
    let none = "required key is missing";
    refuses(&with_spoke(""), "3:3: spokes[0].credentials", none);
}

fn with_hash(hash: &str) -> String {
    with_spoke(&format!(
        "  credentials: [basic: {{username: a, password_hash: '{hash}'}}]"
    ))
}

#[test]
fn bad_password_hashes_are_refused() {
    let cases = [
        ("password".into(), "wanted argon2 ($argon2id$...) or bcrypt"),
        ("$8$abc$def".into(), "wanted argon2 ($argon2id$...)"),
        (BCRYPT.replace("$2b$", "$2x$"), "$2a$, $2b$ or $2y$"),
        (BCRYPT.replace("$12$", "$15$"), "allowed: 4 to 14"),
        (BCRYPT.replace("$12$", "$03$"), "allowed: 4 to 14"),
        (BCRYPT[..59].into(), "not a complete bcrypt hash"),
        (ARGON2.replace("2id", "2ix"), "not a complete argon2 hash"),
        (ARGON2.replace("v=19", "v=18"), "not a complete argon2 hash"),
        (ARGON2.replace("p=1", "q=1"), "not a complete argon2 hash"),
        (ARGON2.replace("m=19456", "m=1"), "not a complete argon2"),
        (
            ARGON2.replace("c29tZXNhbHRzb21l", "c29tZQ"),
            "not a complete",
        ),
        (ARGON2[..ARGON2.len() - 44].into(), "not a complete argon2"),
        (
            ARGON2.replace("m=19456", "m=262145"),
            "memory m up to 262144",
        ),
        (
            ARGON2.replace("t=2", "t=100"),
            "times passes t up to 1048576",
        ),
    ];
    let place = "4:53: spokes[0].credentials[0].basic.password_hash";
    for (hash, message) in cases {
        let hash: String = hash;
        refuses(&with_hash(&hash), place, message);
    }
}

#[test]
fn keys_of_other_programs_are_answered_with_the_key_of_hubgate() {
    // What follows the name of a spoke, at which position, and what to write.
    let table = "
token: a => 4:3: spokes[0] => unknown key \"token\"; credentials take the digest of a token as token_sha256 (`hubgate token` prints both), or a file
bearer_token: a => 4:3: spokes[0] => unknown key \"bearer_token\"; credentials take the digest
token_sha256: a => 4:3: spokes[0] => it goes into an item of credentials
certificate: {dns: a} => 4:3: spokes[0] => it goes into an item of credentials
basic_auth: {username: a} => 4:3: spokes[0] => write an item of credentials, basic: {username: NAME, password_hash: HASH}
password: a => 4:3: spokes[0] => hubgate keeps only a hash of a password; write password_hash
credential: [] => 4:3: spokes[0] => did you mean credentials?
url: a => 4:3: spokes[0] => write hub: {url: URL}
";
    refuses_each(table, |line| {
        with_spoke(&format!(
            "  {line}\n  credentials: [token_sha256: {DIGEST}]"
        ))
    });
    // In an item of credentials, or in `basic`.
    let table = "
token: a => 4:17: spokes[0].credentials[0] => unknown key \"token\"; credentials take the digest
bearer: a => 4:17: spokes[0].credentials[0] => unknown key \"bearer\"; credentials take the digest
tokenFile: a => 4:17: spokes[0].credentials[0] => unknown key, did you mean token_file?
token-sha256: a => 4:17: spokes[0].credentials[0] => unknown key, did you mean token_sha256?
token_sha: a => 4:17: spokes[0].credentials[0] => unknown key, did you mean token_sha256?
sha256: a => 4:17: spokes[0].credentials[0] => write an item of credentials, token_sha256: DIGEST
credentials_file: a => 4:17: spokes[0].credentials[0] => write an item of credentials, token_file: FILE
basic_auth: {username: a} => 4:17: spokes[0].credentials[0] => unknown key \"basic_auth\"; write an item of credentials, basic: {
basicAuth: {username: a} => 4:17: spokes[0].credentials[0] => write an item of credentials, basic: {username: NAME, password_hash: HASH}
htpasswd: a => 4:17: spokes[0].credentials[0] => write an item of credentials, basic: {
username: a => 4:17: spokes[0].credentials[0] => write username into basic
password: a => 4:17: spokes[0].credentials[0] => hubgate keeps only a hash of a password
passwordHash: a => 4:17: spokes[0].credentials[0] => write password_hash into basic
basic: {username: a, password_hash: BCRYPT, password: a} => 4:115: spokes[0].credentials[0].basic => `hubgate hash-password` makes one
basic: {username: a, password_hash: BCRYPT, user: a} => 4:115: spokes[0].credentials[0].basic => unknown key, did you mean username?
basic: {username: a, password_hash: BCRYPT, hash: a} => 4:115: spokes[0].credentials[0].basic => write password_hash into basic
";
    refuses_each(table, |item| {
        let item = item.replace("BCRYPT", BCRYPT);
        with_spoke(&format!("  credentials: [{item}]"))
    });
}

#[test]
fn a_value_in_place_of_a_list_or_mapping_is_answered_with_its_form() {
    let table = "
{token_sha256: a} => 4:16: spokes[0].credentials => wanted a list, found a mapping; begin each item with a hyphen
a => 4:16: spokes[0].credentials => wanted a list, found a single value; put it into brackets
[token_sha256:a] => 4:17: spokes[0].credentials[0] => put a space after the colon of each key
[basic: a:b] => 4:24: spokes[0].credentials[0].basic => put a space after the colon of each key
";
    refuses_each(table, |credentials| {
        with_spoke(&format!("  credentials: {credentials}"))
    });
}

#[test]
fn what_tools_print_beside_a_digest_is_answered_with_what_to_cut() {
    let written = [
        format!("{DIGEST}  -"),
        format!("{DIGEST}  token"),
        format!("SHA2-256(stdin)= {DIGEST}"),
        format!("sha256:{DIGEST}"),
    ];
    for digest in written {
        let text = with_spoke(&format!("  credentials: [token_sha256: \"{digest}\"]"));
        let place = "4:31: spokes[0].credentials[0].token_sha256";
        refuses(&text, place, "keep only the 64 hex digits");
    }
}

#[test]
fn an_argon2_hash_without_quotes_is_answered_with_the_quotes() {
    let place = "4:53: spokes[0].credentials[0].basic.password_hash";
    let message = "ends at its first comma; put the hash into quotes";
    let flow = with_hash(ARGON2).replace('\'', "");
    refuses(&flow, place, message);
    refuses(&with_hash("$argon2id$v=19$m=19456"), place, message);
    let block = "  credentials:\n  - basic:\n      username: a\n      password_hash: ";
    for hash in [ARGON2, BCRYPT] {
        assert_eq!(errors(&with_spoke(&format!("{block}{hash}"))), "");
    }
    assert_eq!(errors(&with_hash(BCRYPT).replace('\'', "")), "");
    for broken in [
        "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "Encoded: $argon2id$v=19",
    ] {
        let found = errors(&with_spoke(&format!("{block}{broken}")));
        assert_eq!(found.lines().count(), 1, "{found}");
        assert!(found.contains("not valid YAML: "), "{found}");
        assert!(found.ends_with("; put the hash into quotes"), "{found}");
    }
}

#[test]
fn what_is_pasted_beside_or_instead_of_a_hash_is_answered_with_what_to_change() {
    let colon = "cut off what stands before the colon, and the colon";
    let other = "`hubgate hash-password` makes an argon2 hash, and `htpasswd -nB` a bcrypt hash";
    let before = "has a text before the hash; cut it off";
    let dollars = "write each $ once";
    let shell = "has lost its $ signs to a shell";
    let bare = "is a bare hash without its parameters";
    let cases = [
        (format!("production:{BCRYPT}"), colon),
        (format!("production:{ARGON2}"), colon),
        (format!("password_hash:{ARGON2}"), colon),
        (format!("Encoded: {ARGON2}"), before),
        (format!(" {BCRYPT}"), "begins or ends with a space"),
        (format!("{ARGON2} "), "begins or ends with a space"),
        (BCRYPT.replace('$', "$$"), dollars),
        (format!("a:{}", BCRYPT.replace('$', "$$")), dollars),
        ("$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/".to_owned(), other),
        ("a:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/".to_owned(), other),
        ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned(), other),
        ("a:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned(), other),
        ("$6$abc$def".to_owned(), other),
        ("$y$j9T$abc$def".to_owned(), other),
        ("=19=19456,t=2,p=1/M07lRtXFz7PrCC".to_owned(), shell),
        ("y0/02yz.hWf.qVy2V5Q56tM/9mBq4aC58F23ZdG".to_owned(), shell),
        (DIGEST.to_owned(), bare),
        (DIGEST[..32].to_owned(), bare),
        (
            "a password".to_owned(),
            "such as `hubgate hash-password` prints",
        ),
    ];
    let place = "4:53: spokes[0].credentials[0].basic.password_hash";
    for (written, message) in cases {
        refuses(&with_hash(&written), place, message);
    }
}

#[test]
fn good_password_hashes_are_accepted() {
    let hashes = [
        BCRYPT.to_owned(),
        BCRYPT.replace("$2b$", "$2a$"),
        BCRYPT.replace("$2b$12$", "$2y$14$"),
        ARGON2.to_owned(),
        ARGON2.replace("argon2id", "argon2i"),
        ARGON2.replace("argon2id", "argon2d"),
        ARGON2.replace("m=19456,t=2", "m=65536,t=3"),
    ];
    for hash in hashes {
        assert_eq!(errors(&with_hash(&hash)), "", "{hash}");
    }
}

#[test]
fn repeated_names_tokens_and_user_names_are_refused() {
    let text = "\
hub: {url: http://hub/}
spokes:
- name: a
  credentials:
  - token_sha256: DIGEST
  - basic: {username: u, password_hash: BCRYPT}
- name: a
  credentials:
  - token_sha256: UPPER
  - basic: {username: u, password_hash: BCRYPT}
";
    let text = text.replace("UPPER", &DIGEST.to_uppercase());
    let text = text.replace("DIGEST", DIGEST).replace("BCRYPT", BCRYPT);
    let expected = "\
config:7:9: spokes[1].name: a spoke name may be used only once; this one is already used at config:3:9 (spokes[0].name)
config:9:19: spokes[1].credentials[0].token_sha256: a token may be used only once; this one is already used at config:5:19 (spokes[0].credentials[0].token_sha256)
config:10:23: spokes[1].credentials[1].basic.username: a user name may be used only once; this one is already used at config:6:23 (spokes[0].credentials[1].basic.username)";
    assert_eq!(errors(&text), expected);
}

#[test]
fn spokes_or_spoke_files_must_be_given() {
    let hub = "hub: {url: http://hub/}";
    let message = "no spoke is configured; list some in spokes, or files in spoke_files";
    refuses(hub, "1:1", message);
    refuses(&format!("{hub}\nspokes: []"), "2:9: spokes", message);
    let no_mapping = "wanted a mapping, found a single value";
    refuses(
        &format!("{hub}\nspokes: [a]"),
        "2:10: spokes[0]",
        no_mapping,
    );
    let both = format!("{hub}\nspokes: ~\nspoke_files: []");
    refuses(&both, "2:9: spokes", message);
    let no_match = format!("{hub}\nspoke_files: ['no/such/folder/*.yaml']");
    assert_eq!(errors(&no_match), "");
}
