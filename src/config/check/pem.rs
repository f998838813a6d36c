//! Reads PEM files that values name.

use std::time::SystemTime;

use super::entry::Entry;
use super::{Check, absolute, advice, value};
use crate::config::errors::Reported;
use crate::tls::{Chain, Unusable};

/// Some hundred authorities, or a revocation list with tens of thousands of entries.
const PEM_BYTES_MAX: usize = 4 << 20;

/// Reads the PEM file that a value names.
pub(super) fn pem<T>(
    check: &mut Check<'_>,
    entry: &Entry<'_>,
    parse: impl FnOnce(&[u8]) -> Result<T, Unusable>,
) -> Result<T, Reported> {
    let text = entry.text(&mut check.report)?;
    entry.parse(&mut check.report, |text| value::path(text).map(|_| ()))?;
    let path = entry.file.resolve(text);
    let content = check.sources.read(&path, PEM_BYTES_MAX).map_err(|reason| {
        let message = advice::unreadable_file(text, &absolute(&path), &reason);
        entry.fail(&mut check.report, message)
    })?;
    parse(&content).map_err(|problem| unusable(check, entry, &problem))
}

pub(super) fn unusable(check: &mut Check<'_>, entry: &Entry<'_>, problem: &Unusable) -> Reported {
    let message = about_file(entry, &problem.to_string());
    entry.fail(&mut check.report, message)
}

/// Reads the file of a certificate chain, and warns of what is doubtful about it.
pub(super) fn chain(check: &mut Check<'_>, entry: &Entry<'_>) -> Result<Chain, Reported> {
    let chain = pem(check, entry, Chain::from_pem)?;
    for doubt in chain.doubts(SystemTime::now()) {
        doubtful(check, entry, &doubt);
    }
    Ok(chain)
}

/// Warns about the file that a value names.
pub(super) fn doubtful(check: &mut Check<'_>, entry: &Entry<'_>, doubt: &str) {
    entry.warn(&mut check.report, about_file(entry, doubt));
}

/// A sentence about the file that a value names.
pub(super) fn about_file(entry: &Entry<'_>, predicate: &str) -> String {
    let path = entry.file.resolve(entry.peek_text().unwrap_or_default());
    format!("the file {} {predicate}", absolute(&path).display())
}
