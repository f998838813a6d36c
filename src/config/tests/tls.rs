//! Tests of `tls` of a listener, and of names in client certificates.

use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::files::Folder;
use super::{DIGEST, errors};
use crate::config::{Load, load};

const HUB: &str = "hub: {url: http://hub/api/v1/write}\n";

/// A folder with an authority, a certificate that it issued, and its key.
fn folder() -> Folder {
    let folder = Folder::new();
    write_identity(&folder, "", |_| {});
    folder
}

/// Writes `ca.crt`, `tls.crt` and `tls.key`, each with a prefix.
fn write_identity(folder: &Folder, prefix: &str, change: impl FnOnce(&mut CertificateParams)) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let pem = authority.self_signed(&key).expect("a certificate").pem();
    folder.write(&format!("{prefix}ca.crt"), pem);
    let issuer = Issuer::new(authority, key);
    let mut leaf = CertificateParams::new(["hub.example.com".to_owned()]).expect("parameters");
    change(&mut leaf);
    let key = KeyPair::generate().expect("a key");
    let pem = leaf.signed_by(&key, &issuer).expect("a certificate").pem();
    folder.write(&format!("{prefix}tls.crt"), pem);
    folder.write(&format!("{prefix}tls.key"), key.serialize_pem());
}

fn with_tls(keys: &str) -> String {
    let spokes = format!("spokes: [{{name: a, credentials: [{{token_sha256: {DIGEST}}}]}}]\n");
    format!("listen: {{tls: {{{keys}}}}}\n{HUB}{spokes}")
}

fn warnings(folder: &Folder) -> Vec<String> {
    let found = load(&folder.main()).warnings;
    found.into_iter().map(|warning| warning.message).collect()
}

#[test]
fn files_of_a_listener_are_read() {
    let folder = folder();
    let tls = "cert_file: tls.crt, key_file: tls.key";
    let clients = "client_ca_file: ca.crt, client_auth: optional, min_version: 1.3";
    let admin = format!("admin: {{tls: {{{tls}}}}}\n");
    folder.write(
        "hubgate.yaml",
        admin + &with_tls(&format!("{tls}, {clients}")),
    );
    let config = load(&folder.main()).result.expect("a valid configuration");
    let listen = config.listen.rules.tls.as_ref().expect("tls");
    assert!(!listen.client_auth().expect("client_auth").required);
    assert!(
        config
            .admin
            .rules
            .tls
            .as_ref()
            .expect("tls")
            .client_auth()
            .is_none()
    );
    assert!(warnings(&folder).is_empty());
    folder.write(
        "hubgate.yaml",
        with_tls(&format!("{tls}, client_auth: none")),
    );
    let config = load(&folder.main()).result.expect("a valid configuration");
    assert!(
        config
            .listen
            .rules
            .tls
            .as_ref()
            .expect("tls")
            .client_auth()
            .is_none()
    );
}

#[test]
fn a_change_of_a_file_changes_the_configuration_and_its_fingerprint() {
    let folder = folder();
    folder.write(
        "hubgate.yaml",
        with_tls("cert_file: tls.crt, key_file: tls.key"),
    );
    let before = load(&folder.main());
    assert!(before.fingerprint.is_current());
    write_identity(&folder, "", |_| {});
    assert!(!before.fingerprint.is_current());
    let after = load(&folder.main());
    assert_ne!(before.fingerprint, after.fingerprint);
    let tls = |load: Load| load.result.expect("a configuration").listen.rules;
    assert_ne!(tls(before), tls(after));
}

#[test]
fn errors_are_at_the_key_that_they_are_about() {
    let folder = folder();
    write_identity(&folder, "other-", |_| {});
    folder.write("empty", "");
    folder.write("der", [0x30, 0x82, 1, 2]);
    folder.write("text", "not PEM");
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----";
    folder.write("encrypted", encrypted);
    let both = "cert_file: tls.crt, key_file: tls.key";
    for (keys, key, expected) in [
        ("", "cert_file", "required key is missing"),
        ("", "key_file", "required key is missing"),
        ("key_file: tls.key", "cert_file", "required key is missing"),
        ("cert_file: tls.crt", "key_file", "required key is missing"),
        (
            "cert_file: no, key_file: tls.key",
            "cert_file",
            "cannot read no: No such file",
        ),
        (
            "cert_file: empty, key_file: tls.key",
            "cert_file",
            "the file empty is empty",
        ),
        (
            "cert_file: der, key_file: tls.key",
            "cert_file",
            "the file der is in DER",
        ),
        (
            "cert_file: text, key_file: tls.key",
            "cert_file",
            "the file text contains no",
        ),
        (
            "cert_file: tls.key, key_file: tls.key",
            "cert_file",
            "the file tls.key contains no",
        ),
        (
            "cert_file: tls.crt, key_file: tls.crt",
            "key_file",
            "the file tls.crt contains no",
        ),
        (
            "cert_file: tls.crt, key_file: encrypted",
            "key_file",
            "the file encrypted is encrypted",
        ),
        (
            "cert_file: tls.crt, key_file: other-tls.key",
            "key_file",
            "the file other-tls.key does not fit the certificate",
        ),
        (
            &format!("{both}, min_version: 1.1"),
            "min_version",
            "allowed: 1.2, 1.3",
        ),
        (
            &format!("{both}, client_auth: yes"),
            "client_auth",
            "allowed: none, optional, required",
        ),
        (
            &format!("{both}, client_auth: required"),
            "client_auth",
            "needs client_ca_file",
        ),
        (
            &format!("{both}, client_ca_file: ca.crt"),
            "client_ca_file",
            "needs client_auth: optional",
        ),
        (
            &format!("{both}, client_ca_file: ca.crt, client_auth: none"),
            "client_ca_file",
            "needs client_auth: optional",
        ),
        (
            &format!(
                "{both}, client_crl_file: text, client_ca_file: ca.crt, client_auth: optional"
            ),
            "client_crl_file",
            "the file text contains no",
        ),
        (
            &format!("{both}, client_ca_file: tls.key, client_auth: optional"),
            "client_ca_file",
            "the file tls.key contains no",
        ),
        (&format!("{both}, chain: a"), "tls", "unknown key"),
        (
            &format!("{both}, ca_file: a"),
            "tls",
            "write client_ca_file: FILE",
        ),
        (
            &format!("{both}, client_auth_type: a"),
            "tls",
            "write client_auth: optional or client_auth: required",
        ),
    ] {
        folder.write("hubgate.yaml", with_tls(keys));
        let found = folder.errors();
        let wanted = |line: &str| line.contains(&format!("{key}: ")) && line.contains(expected);
        assert!(found.lines().any(wanted), "{keys}: {found}");
    }
    // All at once.
    let both = "cert_file: no, key_file: empty, client_auth: 1, min_version: 2";
    folder.write("hubgate.yaml", with_tls(both));
    assert_eq!(folder.errors().lines().count(), 4);
}

#[test]
fn a_chain_in_the_wrong_order_is_an_error_that_says_so() {
    let folder = folder();
    let read = |name| std::fs::read_to_string(folder.path(name)).expect("a file");
    folder.write("chain", read("ca.crt") + &read("tls.crt"));
    folder.write(
        "hubgate.yaml",
        with_tls("cert_file: chain, key_file: tls.key"),
    );
    let found = folder.errors();
    assert!(
        found.contains("does not fit the first certificate, but number 2"),
        "{found}"
    );
}

#[test]
fn doubtful_certificates_are_named() {
    let folder = folder();
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    let now = SystemTime::now();
    let tls = with_tls("cert_file: tls.crt, key_file: tls.key");
    folder.write("hubgate.yaml", &tls);
    write_identity(&folder, "", |leaf| leaf.not_after = (now - days(1)).into());
    let found = warnings(&folder);
    assert!(found[0].contains("tls.crt expired at "), "{found:?}");
    write_identity(&folder, "", |leaf| leaf.not_after = (now + days(1)).into());
    let found = warnings(&folder);
    assert!(found[0].contains("tls.crt expires soon, at "), "{found:?}");
    write_identity(&folder, "", |leaf| leaf.not_before = (now + days(1)).into());
    let found = warnings(&folder);
    assert!(
        found[0].contains("tls.crt is not valid before "),
        "{found:?}"
    );
    write_identity(&folder, "", |leaf| leaf.subject_alt_names.clear());
    let found = warnings(&folder);
    assert!(
        found[0].contains("without a DNS name or IP address"),
        "{found:?}"
    );
}

#[test]
fn keys_of_tls_beside_it_are_answered_with_their_place() {
    for key in [
        "client_ca_file",
        "client_crl_file",
        "client_auth",
        "cert_file",
    ] {
        let spokes = format!("spokes: [{{name: a, credentials: [{{token_sha256: {DIGEST}}}]}}]\n");
        let found = errors(&format!("admin: {{{key}: a}}\n{HUB}{spokes}"));
        assert!(found.contains("listen or admin"), "{found}");
    }
}

#[test]
fn a_certificate_in_place_of_its_authority_is_named() {
    let folder = Folder::new();
    write_identity(&folder, "", |leaf| {
        leaf.distinguished_name.push(DnType::CommonName, "spoke");
    });
    let tls = "cert_file: tls.crt, key_file: tls.key, client_auth: optional";
    for (file, doubted) in [("ca.crt", false), ("tls.crt", true)] {
        folder.write(
            "hubgate.yaml",
            with_tls(&format!("{tls}, client_ca_file: {file}")),
        );
        let found = warnings(&folder);
        let named = found
            .iter()
            .any(|it| it.contains("is not that of an authority"));
        assert_eq!(named, doubted, "{file}: {found:?}");
    }
}

/// A configuration whose spokes have these credentials.
fn with_certificates(client_auth: &str, certificates: &[&str]) -> String {
    let tls = "cert_file: tls.crt, key_file: tls.key, client_ca_file: ca.crt";
    let spokes = certificates.iter().zip('a'..).map(|(certificate, name)| {
        format!("- {{name: {name}, credentials: [{{certificate: {{{certificate}}}}}]}}\n")
    });
    let spokes: String = spokes.collect();
    format!("listen: {{tls: {{{tls}, client_auth: {client_auth}}}}}\n{HUB}spokes:\n{spokes}")
}

#[test]
fn a_name_in_a_certificate_is_a_credential() {
    let folder = folder();
    let uri = "uri: 'spiffe://example.com/ns/monitoring/sa/prometheus'";
    let names = ["dns: Prod.Example.com", uri, "common_name: Prod EU"];
    folder.write("hubgate.yaml", with_certificates("required", &names));
    let config = load(&folder.main()).result.expect("a valid configuration");
    let names = config.spokes.iter().map(|it| &it.credentials[0].name);
    assert_eq!(
        Vec::from_iter(names),
        [
            "certificate:dns:prod.example.com",
            "certificate:uri:spiffe://example.com/ns/monitoring/sa/prometheus",
            "certificate:common_name:Prod EU",
        ]
    );
}

#[test]
fn names_that_no_certificate_can_prove_are_errors() {
    let folder = folder();
    for (names, expected) in [
        (&["dns: '*.example.com'"][..], "wildcard"),
        (&["dns: ''"], "not a DNS name"),
        (&["dns: a..b"], "not a DNS name"),
        (&["dns: a.example.com."], "not a DNS name"),
        (&["dns: 'a b'"], "not a DNS name"),
        (&["dns: bücher.example"], "not a DNS name"),
        (&["uri: example.com/prod"], "not a URI"),
        (&["uri: 'spiffe://a/ b'"], "not a URI"),
        (&["common_name: ''"], "must have 1 to 256 bytes"),
        (&["common_name: \"a\\u200b\""], "invisible"),
        (
            &[""],
            "contains no name; give one of: dns, uri, common_name",
        ),
        (
            &["dns: a, uri: 'b:c'"],
            "contains several names; give one of",
        ),
        (&["email: a"], "unknown key"),
        (
            &["dns: a", "dns: A"],
            "a name in a certificate may be used only once",
        ),
    ] {
        folder.write("hubgate.yaml", with_certificates("optional", names));
        let found = folder.errors();
        assert!(found.contains(expected), "{names:?}: {found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
    // Different kinds of names do not meet.
    folder.write(
        "hubgate.yaml",
        with_certificates("optional", &["dns: a", "common_name: a"]),
    );
    load(&folder.main()).result.expect("a valid configuration");
}

#[test]
fn a_certificate_credential_needs_a_listener_that_asks_for_certificates() {
    let expected = "spokes[0].credentials[0].certificate: needs listen.tls with client_auth";
    let spokes = "spokes: [{name: a, credentials: [{certificate: {dns: a}}]}]\n";
    let found = errors(&format!("{HUB}{spokes}"));
    assert!(found.contains(expected), "{found}");
    let folder = folder();
    let tls = "listen: {tls: {cert_file: tls.crt, key_file: tls.key}}\n";
    folder.write("hubgate.yaml", format!("{tls}{HUB}{spokes}"));
    let found = folder.errors();
    assert!(found.contains(expected), "{found}");
    // An error in tls is not followed by one that it may have caused.
    folder.write(
        "hubgate.yaml",
        format!("listen: {{tls: {{}}}}\n{HUB}{spokes}"),
    );
    let found = folder.errors();
    assert!(!found.contains("credentials"), "{found}");
}
