//! Authorities and certificates that are made for a test, as PEM files.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType,
    SerialNumber,
};
use tempfile::TempDir;

/// An authority, with a folder for its files.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    dir: TempDir,
}

/// What a certificate says. The default says nothing, and is valid for a day.
#[derive(Clone, Default)]
pub(crate) struct Subject<'a> {
    pub(crate) dns: &'a [&'a str],
    pub(crate) ip: &'a [&'a str],
    pub(crate) uri: &'a [&'a str],
    pub(crate) common_name: &'a str,
    pub(crate) serial: u64,
    /// The seconds from now until it ends, or that it ended before now.
    pub(crate) ends_in: Option<i64>,
}

/// The PEM files of a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.crt"), &pem).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            pem,
            dir,
        }
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Its key, in PEM.
    pub(crate) fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The file of its certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    /// The folder of its files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Issues a certificate with a key, in PEM.
    pub(crate) fn issue(&self, subject: &Subject<'_>) -> (String, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !subject.common_name.is_empty() {
            let name = &mut params.distinguished_name;
            name.push(DnType::CommonName, subject.common_name);
        }
        let dns = subject.dns.iter();
        let dns = dns.map(|name| SanType::DnsName((*name).try_into().unwrap()));
        let uri = subject.uri.iter();
        let uri = uri.map(|name| SanType::URI((*name).try_into().unwrap()));
        let ip = subject.ip.iter();
        let ip = ip.map(|address| SanType::IpAddress(address.parse().unwrap()));
        params.subject_alt_names = dns.chain(uri).chain(ip).collect();
        params.serial_number = Some(SerialNumber::from(subject.serial.max(1)));
        params.not_before = (SystemTime::now() - Duration::from_secs(3600)).into();
        params.not_after = in_seconds(subject.ends_in.unwrap_or(24 * 3600)).into();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// Issues a certificate into the files `NAME.crt` and `NAME.key`, which it replaces.
    pub(crate) fn issue_files(&self, name: &str, subject: &Subject<'_>) -> Files {
        let (certificate, private) = self.issue(subject);
        let files = Files {
            cert: self.dir.path().join(format!("{name}.crt")),
            key: self.dir.path().join(format!("{name}.key")),
        };
        std::fs::write(&files.cert, certificate).unwrap();
        std::fs::write(&files.key, private).unwrap();
        files
    }

    /// A revocation list of certificates, in PEM.
    pub(crate) fn revoke(&self, serials: &[u64]) -> String {
        self.revoke_until(serials, 24 * 3600)
    }

    /// A revocation list whose next one is due in this many seconds, or was due before now.
    pub(crate) fn revoke_until(&self, serials: &[u64], due_in: i64) -> String {
        let now = SystemTime::now();
        let day = Duration::from_secs(24 * 3600);
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now.into(),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: (now - day).into(),
            next_update: in_seconds(due_in).into(),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// The time in this many seconds, or before now.
fn in_seconds(seconds: i64) -> SystemTime {
    let moved = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        SystemTime::now() - moved
    } else {
        SystemTime::now() + moved
    }
}
