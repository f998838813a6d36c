//! Tests of TLS to hubs.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rustls::pki_types::ServerName;

use super::DIGEST;
use super::files::Folder;
use crate::config::{Hub, load};

/// A certificate of an authority with its key, in PEM.
fn issue(years: std::ops::Range<i32>) -> (String, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test");
    params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn folder(hub: &str) -> Folder {
    let folder = Folder::new();
    let (certificate, key) = issue(2020..4000);
    folder.write("a.crt", &certificate);
    folder.write("a.key", &key);
    let (old, old_key) = issue(2020..2021);
    folder.write("old.crt", old);
    folder.write("old.key", old_key);
    folder.write("empty", "");
    let text =
        format!("hub: {{{hub}}}\nspokes: [{{name: a, credentials: [token_sha256: {DIGEST}]}}]\n");
    folder.write("hubgate.yaml", text);
    folder
}

fn hub(folder: &Folder) -> Hub {
    let config = load(&folder.main()).result;
    config.expect("a valid configuration").hubs.remove(0)
}

#[test]
fn the_server_name_is_that_of_the_url_unless_it_is_given() {
    let rows = [
        ("https://Hub.example:1/w", "", "hub.example"),
        ("https://hub.example./w", "", "hub.example"),
        ("https://my_hub/w", "", "my_hub"),
        ("https://127.0.0.1/w", "", "127.0.0.1"),
        ("https://[::1]:9090/w", "", "::1"),
        (
            "https://127.0.0.1/w",
            ", server_name: hub.example.",
            "hub.example",
        ),
        ("https://hub/w", ", server_name: 192.0.2.1", "192.0.2.1"),
        (
            "https://hub/w",
            ", server_name: '2001:db8::1'",
            "2001:db8::1",
        ),
    ];
    for (url, key, expected) in rows {
        let hub = hub(&folder(&format!(
            "url: '{url}', tls: {{ca_file: a.crt{key}}}"
        )));
        let tls = hub.tls.expect("TLS");
        assert_eq!(tls.server_name, ServerName::try_from(expected).unwrap());
        assert_eq!(tls.validity, None);
    }
}

#[test]
fn files_that_change_make_another_configuration() {
    let folder =
        folder("url: https://hub/w, tls: {ca_file: a.crt, cert_file: old.crt, key_file: old.key}");
    let mut before = (load(&folder.main()).fingerprint, hub(&folder));
    assert!(before.1.tls.as_ref().unwrap().validity.is_some());
    assert_eq!(before, (load(&folder.main()).fingerprint, hub(&folder)));
    let (certificate, key) = issue(2020..2021);
    for step in ["ca_file", "identity"] {
        assert!(before.0.is_current(), "{step}");
        if step == "ca_file" {
            folder.write("a.crt", &certificate);
        } else {
            folder.write("old.crt", &certificate);
            folder.write("old.key", &key);
        }
        let after = (load(&folder.main()).fingerprint, hub(&folder));
        assert_ne!(before.0, after.0, "{step}");
        assert!(!before.0.is_current(), "{step}");
        assert_ne!(before.1, after.1, "{step}");
        before = after;
    }
}

#[test]
fn bad_tls_of_a_hub_is_refused() {
    let table = "
http://hub/w {} => 1:31: hub.tls: the url begins with http://; begin it with https://, or leave tls out
https://hub/w a => 1:32: hub.tls: wanted a mapping, found a single value
https://hub/w {ca_file: ''} => 1:42: hub.tls.ca_file: is empty; write the path of a file
https://hub/w {ca_file: missing} => 1:42: hub.tls.ca_file: cannot read missing: No such file or directory (os error 2); a relative path starts at the folder of the file that contains it
https://hub/w {ca_file: empty} => 1:42: hub.tls.ca_file: the file empty is empty
https://hub/w {ca_file: a.key} => 1:42: hub.tls.ca_file: the file a.key contains no `-----BEGIN CERTIFICATE-----`
https://hub/w {ca_file: a.crt, cert_file: a.crt} => 1:60: hub.tls.cert_file: needs key_file, the file of its key
https://hub/w {ca_file: a.crt, key_file: a.key} => 1:59: hub.tls.key_file: needs cert_file, the file of its certificate
https://hub/w {ca_file: a.crt, cert_file: a.crt, key_file: old.key} => 1:77: hub.tls.key_file: the file old.key does not fit the certificate
https://hub/w {ca_file: a.crt, server_name: 'hub:443'} => 1:62: hub.tls.server_name: \"hub:443\" is neither a DNS name nor an IP address; write the name that the certificate of the hub has, without a port
https://hub/w {ca_file: a.crt, server_name: ''} => 1:62: hub.tls.server_name: \"\" is neither a DNS name nor an IP address; write the name that the certificate of the hub has, without a port
";
    for case in table.lines().filter(|line| !line.is_empty()) {
        let (written, expected) = case.split_once(" => ").unwrap();
        let (url, tls) = written.split_once(' ').unwrap();
        let folder = folder(&format!("url: {url}, tls: {tls}"));
        assert_eq!(
            folder.errors(),
            format!("hubgate.yaml:{expected}"),
            "{written}"
        );
    }
}

#[test]
fn a_client_certificate_that_expired_is_doubtful() {
    let folder =
        folder("url: https://hub/w, tls: {ca_file: a.crt, cert_file: old.crt, key_file: old.key}");
    let load = load(&folder.main());
    load.result.expect("a valid configuration");
    let [warning] = &load.warnings[..] else {
        panic!("{:?}", load.warnings);
    };
    assert_eq!(warning.key, "hub.tls.cert_file");
    let doubt = "old.crt expired at 2021-01-01T00:00:00Z";
    assert!(warning.message.ends_with(doubt), "{warning}");
}

#[test]
fn keys_of_prometheus_for_a_hub_are_answered_with_those_of_hubgate() {
    let table = "
basic_auth: {username: a} => write credentials: {basic: {username: NAME, password_file: FILE}} into the hub
authorization: {credentials: a} => write credentials: {token_file: FILE} into the hub
bearer_token_file: a => write credentials: {token_file: FILE} into the hub
credentials: {token_sha256: a} => a hub is sent the token itself; write credentials: {token_file: FILE}
credentials: {token: a} => write credentials: {token_file: FILE} into the hub
credentials: {basic: {username: a, password: b}} => write credentials: {basic: {username: NAME, password_file: FILE}}
tls_config: {ca_file: a} => write tls: {ca_file: FILE
ca_file: a => write tls: {ca_file: FILE
insecure_skip_verify: true => not supported: the certificate of a hub is always verified; set ca_file
tls: {insecure_skip_verify: true} => not supported: the certificate of a hub is always verified; set ca_file
tls: {cert: a} => write cert_file: FILE and key_file: FILE into tls of the hub
";
    for case in table.lines().filter(|line| !line.is_empty()) {
        let (keys, message) = case.split_once(" => ").unwrap();
        let found = folder(&format!("url: https://hub/w, {keys}")).errors();
        assert!(found.contains(message), "{keys}: {found}");
    }
}
