//! Names in client certificates.
//!
//! The listener has verified the certificate. Here its names are looked up, so that a reload which
//! takes a spoke away takes it from open connections as well.

use std::collections::HashMap;

use crate::tls::{CertificateName, ClientCertificate};

use super::Place;

/// The names of one configuration.
#[derive(Default)]
pub(super) struct Certificates(HashMap<CertificateName, Place>);

impl Certificates {
    /// Adds a name.
    pub(super) fn insert(&mut self, name: &CertificateName, place: Place) {
        self.0.insert(name.clone(), place);
    }

    /// Returns the credentials whose names a certificate has.
    pub(super) fn find(&self, certificate: &ClientCertificate) -> impl Iterator<Item = Place> {
        let names = certificate.names().iter();
        names.filter_map(|name| self.0.get(name).copied())
    }

    /// The names.
    pub(super) fn names(&self) -> impl Iterator<Item = &CertificateName> {
        self.0.keys()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;
    use crate::config::{self, Credential, Secret};
    use crate::identify::{Authenticator, Identity, Passwords};
    use crate::reasons::AuthFailure;
    use crate::spoke::Spoke;

    fn spoke(name: &str) -> Arc<Spoke> {
        let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let config = format!(
            "hub: {{url: http://hub/}}\nspokes: [{{name: {name}, credentials: [{{token_sha256: \
             {digest}}}]}}]"
        );
        let config = config::parse(&config).unwrap();
        Arc::new(Spoke::new(&config.spokes[0], "cluster", None).unwrap())
    }

    fn certificate(dns: &[&str], uri: &[&str], common_name: &str) -> ClientCertificate {
        let mut params = CertificateParams::default();
        let dns = dns
            .iter()
            .map(|name| SanType::DnsName((*name).try_into().unwrap()));
        let uri = uri
            .iter()
            .map(|name| SanType::URI((*name).try_into().unwrap()));
        params.subject_alt_names = dns.chain(uri).collect();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        ClientCertificate::new(&[certificate.der().clone()]).unwrap()
    }

    #[test]
    fn a_certificate_proves_the_only_spoke_that_it_names() {
        let (production, staging) = (spoke("production"), spoke("staging"));
        let credentials = [
            (&production, CertificateName::dns("prod.example.com"), 0),
            (
                &production,
                CertificateName::Uri("spiffe://a/prod".into()),
                1,
            ),
            (&staging, CertificateName::CommonName("Staging".into()), 0),
            (&staging, CertificateName::dns("staging.example.com"), 1),
        ]
        .map(|(spoke, name, credential)| {
            let spoke = Arc::clone(spoke);
            let identity = Identity { spoke, credential };
            let credential = Credential {
                name: name.to_string(),
                secret: Secret::Certificate(name),
                not_after: None,
                may_capture: false,
            };
            (identity, credential)
        });
        let credentials = credentials
            .iter()
            .map(|(it, credential)| (it.clone(), credential));
        let authenticator =
            Authenticator::new(credentials, &[], &Passwords::new().unwrap()).unwrap();
        let unknown = Err(AuthFailure::UnknownCertificate);
        let ambiguous = Err(AuthFailure::AmbiguousCertificate);
        for (case, dns, uri, common_name, expected) in [
            (
                "dns",
                &["prod.example.com"][..],
                &[][..],
                "",
                Ok(("production", 0)),
            ),
            (
                "case of dns",
                &["PROD.example.COM"],
                &[],
                "",
                Ok(("production", 0)),
            ),
            ("uri", &[], &["spiffe://a/prod"], "", Ok(("production", 1))),
            ("case of a uri", &[], &["spiffe://a/Prod"], "", unknown),
            ("more of a uri", &[], &["spiffe://a/prod/"], "", unknown),
            ("common name", &[], &[], "Staging", Ok(("staging", 0))),
            ("case of a common name", &[], &[], "staging", unknown),
            ("dns as common name", &[], &[], "prod.example.com", unknown),
            ("common name as dns", &["Staging"], &[], "", unknown),
            ("uri as dns", &["spiffe://a/prod"], &[], "", unknown),
            ("a wildcard", &["*.example.com"], &[], "", unknown),
            ("a subdomain", &["a.prod.example.com"], &[], "", unknown),
            ("a parent", &["example.com"], &[], "", unknown),
            ("none", &[], &[], "", unknown),
            (
                "names beside",
                &["other.example.com", "prod.example.com"],
                &["spiffe://a/other"],
                "Other",
                Ok(("production", 0)),
            ),
            (
                "two names of one spoke",
                &["prod.example.com"],
                &["spiffe://a/prod"],
                "",
                Ok(("production", 0)),
            ),
            (
                "names of two spokes",
                &["prod.example.com", "staging.example.com"],
                &[],
                "",
                ambiguous,
            ),
            (
                "names of two spokes of two kinds",
                &["prod.example.com"],
                &[],
                "Staging",
                ambiguous,
            ),
        ] {
            let certificate = certificate(dns, uri, common_name);
            let found = authenticator.find_certificate(&certificate).map(|place| {
                let Identity { spoke, credential } = &authenticator.known[place].proven;
                (spoke.name.clone(), *credential)
            });
            let expected = expected.map(|(name, credential)| (name.to_owned(), credential));
            assert_eq!(found, expected, "{case}");
        }
    }
}
