//! The flags of a client: whom it trusts, and how it proves who it is.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use http::{HeaderValue, Uri};

use crate::load::client;
use crate::tls::{Authorities, ClientTls};

/// The flags.
#[derive(Debug, clap::Args)]
pub(super) struct Access {
    /// PEM file with the authorities that are trusted for an https:// URL; without it, those of the
    /// system are
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
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
            Some(file) => {
                let pem =
                    std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
                Authorities::from_pem(&pem).with_context(|| file.display().to_string())?
            }
            None => {
                let system = rustls_native_certs::load_native_certs().certs;
                Authorities::of_system(&system)
                    .context("the system trusts no authority; set --ca-file")?
            }
        };
        Ok(Some(ClientTls::new(&authorities, None)?))
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

fn read_secret(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let secret = text.trim();
    ensure!(!secret.is_empty(), "{}: empty", file.display());
    Ok(secret.to_owned())
}
