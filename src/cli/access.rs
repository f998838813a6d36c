//! The flags of a client: whom it trusts, and how it proves who it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use http::{HeaderValue, Uri};

use crate::load::client;
use crate::tls::{Authorities, Chain, ClientTls, Identity, Key, Unusable};

/// The flags.
#[derive(Debug, clap::Args)]
pub(super) struct Access {
    /// PEM file with the authorities that are trusted for an https:// URL; without it, those of the
    /// system are
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM file with the certificate that is shown to a server which asks for one, and the certificates
    /// of the authorities between it and a root
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// PEM file with the key of the certificate
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// Bearer token; prefer --token-file, because everyone on the machine can see arguments
    #[arg(long, allow_hyphen_values = true, conflicts_with_all = ["token_file", "username"])]
    token: Option<String>,
    /// File with the bearer token
    #[arg(long, conflicts_with = "username")]
    token_file: Option<PathBuf>,
    /// User name of basic authentication
    #[arg(long, requires = "password_file")]
    username: Option<String>,
    /// File with the password of basic authentication
    #[arg(long, requires = "username")]
    password_file: Option<PathBuf>,
}

impl Access {
    /// The TLS for a URL, if it is an `https://` URL.
    pub(super) fn tls(&self, url: &Uri) -> anyhow::Result<Option<ClientTls>> {
        if url.scheme_str() != Some("https") {
            return Ok(None);
        }
        let authorities = match &self.ca_file {
            Some(file) => read(file, Authorities::from_pem)?,
            None => {
                let system = rustls_native_certs::load_native_certs().certs;
                Authorities::of_system(&system)
                    .context("the system trusts no authority; set --ca-file")?
            }
        };
        let identity = match (&self.cert_file, &self.key_file) {
            (Some(chain), Some(key)) => {
                let identity =
                    Identity::new(&read(chain, Chain::from_pem)?, &read(key, Key::from_pem)?);
                Some(identity.with_context(|| key.display().to_string())?)
            }
            _ => None,
        };
        Ok(Some(ClientTls::new(&authorities, identity.as_ref())?))
    }

    /// The flags that name the credential, if some do.
    pub(super) fn given(&self) -> Option<&'static str> {
        match self {
            Self {
                username: Some(_), ..
            } => Some("--username and --password-file"),
            Self {
                token_file: Some(_),
                ..
            } => Some("--token-file"),
            Self { token: Some(_), .. } => Some("--token"),
            _ => None,
        }
    }

    /// The header `Authorization`, if there is a credential.
    pub(super) fn authorization(&self) -> anyhow::Result<Option<HeaderValue>> {
        if let (Some(username), Some(file)) = (&self.username, &self.password_file) {
            return client::basic(username, &read_secret(file)?).map(Some);
        }
        let token = match &self.token_file {
            Some(file) => Some(read_secret(file)?),
            None => self.token.clone(),
        };
        token.map(|token| client::bearer(&token)).transpose()
    }
}

/// Reads a file in PEM.
fn read<T>(file: &Path, from_pem: fn(&[u8]) -> Result<T, Unusable>) -> anyhow::Result<T> {
    let pem = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    from_pem(&pem).with_context(|| file.display().to_string())
}

fn read_secret(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let secret = text.trim();
    ensure!(!secret.is_empty(), "{}: empty", file.display());
    Ok(secret.to_owned())
}
