//! The TLS of connections that hubgate opens.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::sign::SingleCertAndKey;

use super::{Authorities, Digest, Identity, Unusable, provider};

/// The name of HTTP/1.1 in ALPN (RFC 7301).
const HTTP_1_1: &[u8] = b"http/1.1";

/// The TLS of connections to one server.
#[derive(Debug, Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    digest: Digest,
}

impl ClientTls {
    /// Trusts servers whose certificates these authorities issued, and proves itself by `identity` to
    /// those that ask.
    pub fn new(authorities: &Authorities, identity: Option<&Identity>) -> Result<Self, Unusable> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Unusable::new(error.to_string()))?
            .with_root_certificates(authorities.roots());
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let certified = SingleCertAndKey::from(Arc::clone(identity.certified()));
                builder.with_client_cert_resolver(Arc::new(certified))
            }
        };
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        let identity = identity.map(Identity::digest);
        Ok(Self {
            config: Arc::new(config),
            digest: Digest::of([authorities.digest()].into_iter().chain(identity)),
        })
    }

    /// What rustls takes. It offers HTTP/1.1 alone.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for ClientTls {}
