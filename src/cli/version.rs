//! What this program is built from, in the form of Prometheus.

use std::env::consts::{ARCH, OS};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The version of hubgate.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit, or "unknown" in a debug build and without git.
pub(super) fn revision() -> &'static str {
    known(env!("HUBGATE_REVISION"))
}

/// What `--version` prints after the name of the program.
pub(super) fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(text);
    &TEXT
}

fn text() -> String {
    format!(
        "version {VERSION} (branch: {}, revision: {})\n  \
         build date:       {}\n  \
         rust version:     {}\n  \
         platform:         {OS}/{ARCH}",
        known(env!("HUBGATE_BRANCH")),
        revision(),
        date(env!("HUBGATE_DATE")).map_or_else(|| "unknown".to_owned(), rfc3339),
        known(env!("HUBGATE_RUSTC")),
    )
}

fn known(text: &'static str) -> &'static str {
    if text.is_empty() { "unknown" } else { text }
}

fn date(seconds: &str) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))
}

fn rfc3339(date: SystemTime) -> String {
    humantime::format_rfc3339_seconds(date).to_string()
}

#[cfg(test)]
mod tests {
    use super::{date, rfc3339};

    #[test]
    fn the_date_is_shown_in_utc() {
        let shown = |seconds| date(seconds).map(rfc3339);
        assert_eq!(shown("1795710000").as_deref(), Some("2026-11-26T16:20:00Z"));
        assert_eq!(shown(""), None);
        assert_eq!(shown("yesterday"), None);
    }
}
