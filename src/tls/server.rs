//! The TLS of a listener.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ProtocolVersion, ServerConfig, SupportedProtocolVersion, version};

use super::certificate::Validity;
use super::short_chains::ShortChains;
use super::{
    Authorities, ClientCertificate, Digest, Identity, RevocationLists, Unusable, provider,
};

/// What clients may speak above TLS, the better one first (RFC 7301).
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The oldest version of TLS that a listener accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// How clients prove themselves by certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAuth {
    /// Who issues their certificates.
    pub authorities: Authorities,
    /// Which of those are revoked.
    pub revoked: Option<RevocationLists>,
    /// Whether a client without a certificate is refused.
    pub required: bool,
}

/// The TLS of a listener.
#[derive(Debug, Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    validity: Validity,
    min_version: MinVersion,
    clients: Option<Clients>,
    digest: Digest,
}

/// How clients prove themselves, and what verifies that.
#[derive(Debug, Clone)]
struct Clients {
    auth: ClientAuth,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ServerTls {
    /// Serves as `identity`. Fails when the revocation lists cannot be read.
    pub fn new(
        identity: &Identity,
        client_auth: Option<ClientAuth>,
        min_version: MinVersion,
    ) -> Result<Self, Unusable> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(min_version.versions())
            .map_err(|error| Unusable::new(error.to_string()))?;
        let clients = match client_auth {
            None => None,
            Some(auth) => Some(Clients {
                verifier: auth.verifier()?,
                auth,
            }),
        };
        let builder = match &clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(&clients.verifier)),
        };
        let certified = SingleCertAndKey::from(Arc::clone(identity.certified()));
        let mut config = builder.with_cert_resolver(Arc::new(certified));
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        if clients.is_some() {
            // A session that is resumed skips the verifier, and so a certificate that was revoked
            // meanwhile would pass.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        let mut pieces = vec![identity.digest(), min_version.name().as_bytes()];
        if let Some(Clients {
            auth: client_auth, ..
        }) = &clients
        {
            let required: &[u8] = if client_auth.required {
                b"required"
            } else {
                b"optional"
            };
            pieces.extend([required, client_auth.authorities.digest()]);
            pieces.extend(client_auth.revoked.as_ref().map(RevocationLists::digest));
        }
        Ok(Self {
            digest: Digest::of(pieces),
            config: Arc::new(config),
            validity: identity.validity(),
            min_version,
            clients,
        })
    }

    /// What rustls takes.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// When the certificate of the listener is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// How clients prove themselves by certificates, if they may.
    pub fn client_auth(&self) -> Option<&ClientAuth> {
        self.clients.as_ref().map(|clients| &clients.auth)
    }

    /// Whether a handshake with these results could succeed at this time: with a version of TLS, and
    /// the certificate of the client if it sent one.
    pub fn accepts(
        &self,
        version: ProtocolVersion,
        certificate: Option<&ClientCertificate>,
        now: SystemTime,
    ) -> bool {
        let versions = self.min_version.versions();
        if versions.iter().all(|it| it.version != version) {
            return false;
        }
        match (&self.clients, certificate) {
            (None, None) => true,
            // It was asked for, and is not any more.
            (None, Some(_)) => false,
            (Some(clients), None) => !clients.auth.required,
            (Some(clients), Some(certificate)) => clients.accept(certificate, now),
        }
    }
}

impl PartialEq for ServerTls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for ServerTls {}

impl Clients {
    fn accept(&self, certificate: &ClientCertificate, now: SystemTime) -> bool {
        let Some((own, between)) = certificate.chain().split_first() else {
            return false;
        };
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH);
        let now = UnixTime::since_unix_epoch(since_epoch.unwrap_or_default());
        let verified = self.verifier.verify_client_cert(own, between, now);
        verified.is_ok()
    }
}

impl ClientAuth {
    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, Unusable> {
        let roots = self.authorities.roots();
        let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
        if let Some(revoked) = &self.revoked {
            // An authority may have no list. A list that is late does not shut out every spoke.
            builder = builder
                .with_crls(revoked.lists().iter().cloned())
                .allow_unknown_revocation_status();
        }
        if !self.required {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder
            .build()
            .map_err(|_| Unusable::new("contains a revocation list that cannot be read"))?;
        Ok(Arc::new(ShortChains(verifier)))
    }
}

impl MinVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
        match self {
            Self::Tls12 => &BOTH,
            Self::Tls13 => &BOTH[..1],
        }
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}
