//! Tests of what is made of PEM files.

use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::ProtocolVersion;
use rustls::pki_types::CertificateDer;

use super::*;

/// An authority, and a chain with a key that it issued.
struct Issued {
    authority: String,
    /// The leaf and an authority in between.
    leaf: String,
    between: String,
    key: String,
}

fn authority(name: &str) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    (params, KeyPair::generate().unwrap())
}

fn issue(change: impl FnOnce(&mut CertificateParams)) -> Issued {
    let (root, root_key) = authority("root");
    let (between, between_key) = authority("between");
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let root = Issuer::new(root, root_key);
    let between_pem = between.signed_by(&between_key, &root).unwrap().pem();
    let between = Issuer::new(between, between_key);
    let mut leaf = CertificateParams::new(["hub.example.com".to_owned()]).unwrap();
    change(&mut leaf);
    let key = KeyPair::generate().unwrap();
    Issued {
        authority: root_pem,
        leaf: leaf.signed_by(&key, &between).unwrap().pem(),
        between: between_pem,
        key: key.serialize_pem(),
    }
}

fn chain(pem: &str) -> Chain {
    Chain::from_pem(pem.as_bytes()).unwrap()
}

fn key(pem: &str) -> Key {
    Key::from_pem(pem.as_bytes()).unwrap()
}

fn client(change: impl FnOnce(&mut CertificateParams)) -> ClientCertificate {
    let it = issue(change);
    let chain: Vec<CertificateDer<'static>> =
        sections((it.leaf + &it.between).as_bytes(), "CERTIFICATE").unwrap();
    ClientCertificate::new(&chain).unwrap()
}

fn names(change: impl FnOnce(&mut CertificateParams)) -> Vec<String> {
    let client = client(change);
    client.names().iter().map(ToString::to_string).collect()
}

#[test]
fn a_client_has_the_names_of_its_certificate() {
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let uri = |name: &str| SanType::URI(name.try_into().unwrap());
    let found = names(|params| {
        let names = &mut params.subject_alt_names;
        *names = vec![dns("Prod.Example.COM"), uri("spiffe://example.com/Prod")];
        names.push(SanType::Rfc822Name("prod@example.com".try_into().unwrap()));
        names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.distinguished_name.push(DnType::CommonName, "Prod");
    });
    assert_eq!(
        found,
        [
            "dns:prod.example.com",
            "uri:spiffe://example.com/Prod",
            "common_name:Prod"
        ]
    );
    let many = client(|params| {
        let names = ["a", "b", "c", "d", "e"];
        params.subject_alt_names = names.map(dns).to_vec();
    });
    let shown = many.to_string();
    assert!(shown.starts_with("dns:a, dns:b, dns:c, and "), "{shown}");
    let none = names(|params| {
        params.subject_alt_names = Vec::new();
        params.distinguished_name = rcgen::DistinguishedName::new();
    });
    assert!(none.is_empty(), "{none:?}");
}

#[test]
fn a_certificate_with_too_many_names_has_none() {
    for (count, expected) in [(63, 64), (64, 65), (65, 0)] {
        let found = names(|params| {
            let names = (0..count).map(|n| format!("{n}.example.com"));
            let names = names.map(|name| SanType::DnsName(name.as_str().try_into().unwrap()));
            params.subject_alt_names = names.collect();
            params.distinguished_name.push(DnType::CommonName, "Prod");
        });
        assert_eq!(found.len(), expected, "{count}");
    }
}

#[test]
fn a_connection_is_judged_again_by_what_a_handshake_would_ask_for() {
    let (it, other) = (issue(|_| {}), issue(|_| {}));
    let server = |clients: Option<(&Issued, bool)>, version| {
        let identity = Identity::new(&chain(&it.leaf), &key(&it.key)).unwrap();
        let client_auth = clients.map(|(clients, required)| ClientAuth {
            authorities: Authorities::from_pem(clients.authority.as_bytes()).unwrap(),
            revoked: None,
            required,
        });
        ServerTls::new(&identity, client_auth, version).unwrap()
    };
    let sent: Vec<CertificateDer<'static>> =
        sections((it.leaf.clone() + &it.between).as_bytes(), "CERTIFICATE").unwrap();
    let client = ClientCertificate::new(&sent).unwrap();
    let leaf_alone = ClientCertificate::new(&sent[..1]).unwrap();
    let now = SystemTime::now();
    let late = client.not_after() + Duration::from_secs(1);
    let (v12, v13) = (ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3);
    let (old, new) = (MinVersion::Tls12, MinVersion::Tls13);
    for (case, clients, min_version, version, certificate, time, expected) in [
        ("plain TLS", None, old, v12, None, now, true),
        ("an older version", None, new, v12, None, now, false),
        ("a newer version", None, old, v13, None, now, true),
        ("not asked", None, old, v13, Some(&client), now, false),
        (
            "asked",
            Some((&it, true)),
            old,
            v13,
            Some(&client),
            now,
            true,
        ),
        ("required", Some((&it, true)), old, v13, None, now, false),
        ("optional", Some((&it, false)), old, v13, None, now, true),
        (
            "another authority",
            Some((&other, false)),
            old,
            v13,
            Some(&client),
            now,
            false,
        ),
        (
            "no way to it",
            Some((&it, false)),
            old,
            v13,
            Some(&leaf_alone),
            now,
            false,
        ),
        (
            "expired",
            Some((&it, true)),
            old,
            v13,
            Some(&client),
            late,
            false,
        ),
    ] {
        let server = server(clients, min_version);
        let accepted = server.accepts(version, certificate, time);
        assert_eq!(accepted, expected, "{case}");
    }
}

/// Certificates of the same name, each of which could have issued each.
fn same_named(count: usize) -> Vec<CertificateDer<'static>> {
    let (params, key) = authority("same");
    let issuer = Issuer::new(params.clone(), key);
    let certificates = (0..count).map(|_| {
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &issuer).unwrap().der().clone()
    });
    certificates.collect()
}

#[test]
fn a_long_chain_is_refused_before_its_paths_are_searched() {
    let it = issue(|_| {});
    let identity = Identity::new(&chain(&it.leaf), &key(&it.key)).unwrap();
    let auth = ClientAuth {
        authorities: Authorities::from_pem(it.authority.as_bytes()).unwrap(),
        revoked: None,
        required: true,
    };
    let server = ServerTls::new(&identity, Some(auth), MinVersion::Tls12).unwrap();
    let own: Vec<CertificateDer<'static>> =
        sections((it.leaf + &it.between).as_bytes(), "CERTIFICATE").unwrap();
    // The path to the authority is found in each of them, after a search.
    for (others, expected) in [(0, true), (4, true), (5, false)] {
        let sent = [own.clone(), same_named(others)].concat();
        let client = ClientCertificate::new(&sent).unwrap();
        let accepted = server.accepts(ProtocolVersion::TLSv1_3, Some(&client), SystemTime::now());
        assert_eq!(accepted, expected, "{others}");
    }
}

#[test]
fn a_chain_and_its_key_serve_and_connect() {
    let it = issue(|_| {});
    let chain = chain(&(it.leaf + &it.between));
    let identity = Identity::new(&chain, &key(&it.key)).unwrap();
    let authorities = Authorities::from_pem(it.authority.as_bytes()).unwrap();
    let client_auth = ClientAuth {
        authorities: authorities.clone(),
        revoked: None,
        required: true,
    };
    let server = ServerTls::new(&identity, Some(client_auth), MinVersion::Tls12).unwrap();
    assert_eq!(server.config().send_tls13_tickets, 0);
    assert!(!server.config().session_storage.can_cache());
    ClientTls::new(&authorities, Some(&identity)).unwrap();
    assert!(chain.names_a_server());
    assert!(chain.doubts(SystemTime::now()).is_empty());
}

#[test]
fn configurations_are_equal_when_their_files_are() {
    let (it, other) = (issue(|_| {}), issue(|_| {}));
    let authorities = |pem: &str| Authorities::from_pem(pem.as_bytes()).unwrap();
    let server = |it: &Issued, clients: Option<&Issued>, required, version| {
        let identity = Identity::new(&chain(&it.leaf), &key(&it.key)).unwrap();
        let client_auth = clients.map(|clients| ClientAuth {
            authorities: authorities(&clients.authority),
            revoked: None,
            required,
        });
        ServerTls::new(&identity, client_auth, version).unwrap()
    };
    let different = [
        server(&it, None, false, MinVersion::Tls12),
        server(&other, None, false, MinVersion::Tls12),
        server(&it, None, false, MinVersion::Tls13),
        server(&it, Some(&it), false, MinVersion::Tls12),
        server(&it, Some(&it), true, MinVersion::Tls12),
        server(&it, Some(&other), true, MinVersion::Tls12),
    ];
    for (place, one) in different.iter().enumerate() {
        for (other_place, other) in different.iter().enumerate() {
            assert_eq!(one == other, place == other_place, "{place} {other_place}");
        }
    }
    let again = server(&it, Some(&other), true, MinVersion::Tls12);
    assert_eq!(again, different[5]);
    let client = |it: &Issued| ClientTls::new(&authorities(&it.authority), None).unwrap();
    assert_eq!(client(&it), client(&it));
    assert_ne!(client(&it), client(&other));
}

#[test]
fn what_is_doubtful_about_a_chain_is_named() {
    let now = SystemTime::now();
    let day = Duration::from_secs(24 * 3600);
    let from_now = |days| (now + day * days).into();
    let cases = [
        (issue(|_| {}), None),
        (
            issue(|it| it.not_after = (now - day).into()),
            Some("expired at "),
        ),
        (
            issue(|it| it.not_after = from_now(1)),
            Some("expires soon, at "),
        ),
        (issue(|it| it.not_after = from_now(30)), None),
        (
            issue(|it| it.not_before = from_now(1)),
            Some("is not valid before "),
        ),
    ];
    for (it, expected) in cases {
        let doubts = chain(&it.leaf).doubts(now);
        assert_eq!(doubts.len(), usize::from(expected.is_some()), "{doubts:?}");
        let starts = expected.is_none_or(|expected| doubts[0].starts_with(expected));
        assert!(starts, "{doubts:?}");
    }
    let it = issue(|_| {});
    let [doubt] = &chain(&(it.leaf.clone() + &it.authority + &it.between)).doubts(now)[..] else {
        panic!("one doubt");
    };
    assert!(doubt.contains("wrong order"), "{doubt}");
    let nameless = issue(|it| it.subject_alt_names.clear());
    assert!(!chain(&nameless.leaf).names_a_server());
}

#[test]
fn files_that_are_of_no_use_are_refused_with_the_reason() {
    let it = issue(|_| {});
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----";
    let broken = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    let cut = &it.leaf[..it.leaf.len() / 2];
    let certificate = |pem: &str| Chain::from_pem(pem.as_bytes()).unwrap_err();
    let authority = |pem: &str| Authorities::from_pem(pem.as_bytes()).unwrap_err();
    let private = |pem: &str| Key::from_pem(pem.as_bytes()).err().unwrap();
    let list = |pem: &str| RevocationLists::from_pem(pem.as_bytes()).unwrap_err();
    for (fault, expected) in [
        (certificate(""), "is empty"),
        (certificate("0\u{1}"), "is in DER"),
        (
            certificate(&it.key),
            "contains no `-----BEGIN CERTIFICATE-----`",
        ),
        (
            certificate(broken),
            "contains a certificate that cannot be read",
        ),
        (certificate(cut), "is not PEM"),
        (
            authority(&it.key),
            "contains no `-----BEGIN CERTIFICATE-----`",
        ),
        (
            authority(broken),
            "contains a certificate that cannot be read",
        ),
        (
            private(&it.leaf),
            "contains no `-----BEGIN PRIVATE KEY-----`",
        ),
        (private(encrypted), "is encrypted"),
        (list(&it.leaf), "contains no `-----BEGIN X509 CRL-----`"),
    ] {
        let fault = fault.to_string();
        assert!(fault.starts_with(expected), "{fault}");
    }
}

#[test]
fn a_key_that_does_not_fit_the_first_certificate_is_refused() {
    let (it, other) = (issue(|_| {}), issue(|_| {}));
    let strange = Identity::new(&chain(&it.leaf), &key(&other.key)).unwrap_err();
    assert_eq!(strange.to_string(), "does not fit the certificate");
    let reversed = chain(&(it.between + &it.leaf));
    let reversed = Identity::new(&reversed, &key(&it.key)).unwrap_err();
    assert!(reversed.to_string().contains("number 2"), "{reversed}");
}
