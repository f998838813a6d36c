//! Checks `certificate` of an item of `credentials`: a name in a client certificate.

use super::Check;
use super::entry::{Entry, UnknownKeys, quote};
use super::visible::check_visible;
use crate::config::Secret;
use crate::config::errors::Reported;
use crate::tls::CertificateName;

const KINDS: &[&str] = &["dns", "uri", "common_name"];

/// The longest DNS name (RFC 1035).
const DNS_BYTES_MAX: usize = 253;

/// The longest label of a DNS name.
const DNS_LABEL_BYTES_MAX: usize = 63;

/// The longest SPIFFE ID.
const URI_BYTES_MAX: usize = 2048;

/// Longer than the 64 characters that X.520 allows, since not all authorities keep to that.
const COMMON_NAME_BYTES_MAX: usize = 256;

/// Checks the value of `certificate`, and returns the name of the credential as well.
pub(super) fn certificate(
    check: &mut Check<'_>,
    entry: &Entry<'_>,
) -> Result<(String, Secret), Reported> {
    let fields = entry.fields(&mut check.report, UnknownKeys::Shown, KINDS);
    let (kind, value) = match (fields.found(), fields.reported()) {
        ([], Some(reported)) => return Err(reported),
        ([(kind, value)], _) => (*kind, value),
        (found, _) => {
            let what = if found.is_empty() {
                "no name"
            } else {
                "several names"
            };
            let message = format!("contains {what}; give one of: {}", KINDS.join(", "));
            return Err(entry.fail(&mut check.report, message));
        }
    };
    let name = value.parse(
        &mut check.report,
        match kind {
            "dns" => dns,
            "uri" => uri,
            _ => common_name,
        },
    )?;
    check
        .unique
        .claim_certificate_name(&mut check.report, value, &name)?;
    if check.asks_for_certificates == Some(false) {
        let message = "needs listen.tls with client_auth: optional or client_auth: required; \
                       otherwise no client is asked for a certificate";
        return Err(entry.fail(&mut check.report, message));
    }
    Ok((format!("certificate:{name}"), Secret::Certificate(name)))
}

fn dns(text: &str) -> Result<CertificateName, String> {
    if text.contains('*') {
        return Err("contains a wildcard; write the whole name, as the certificate has it".into());
    }
    let is_label = |label: &str| {
        let ascii = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=DNS_LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(ascii)
    };
    if text.len() > DNS_BYTES_MAX || !text.split('.').all(is_label) {
        return Err(format!(
            "{} is not a DNS name; write letters, digits, hyphens and dots, such as \
             production.example.com",
            quote(text)
        ));
    }
    Ok(CertificateName::dns(text))
}

fn uri(text: &str) -> Result<CertificateName, String> {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_scheme = scheme.starts_with(|it: char| it.is_ascii_alphabetic());
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_scheme || !visible || text.len() > URI_BYTES_MAX {
        return Err(format!(
            "{} is not a URI; write one such as spiffe://example.com/ns/monitoring/sa/prometheus",
            quote(text)
        ));
    }
    Ok(CertificateName::Uri(text.to_owned()))
}

fn common_name(text: &str) -> Result<CertificateName, String> {
    if text.is_empty() || text.len() > COMMON_NAME_BYTES_MAX {
        return Err(format!("must have 1 to {COMMON_NAME_BYTES_MAX} bytes"));
    }
    check_visible(text)?;
    Ok(CertificateName::CommonName(text.to_owned()))
}
