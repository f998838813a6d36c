//! What is counted of a place that keys of an issuer are fetched from.

use crate::reasons::FetchResult;

use super::families::JwksFamilies;

/// The metrics of one place.
#[derive(Debug)]
pub struct JwksMetrics {
    url: String,
    pub(super) families: Box<JwksFamilies>,
}

impl JwksMetrics {
    /// The metrics of the place at this URL, at 0.
    pub fn new(url: String) -> Self {
        Self {
            url,
            families: Box::default(),
        }
    }

    /// The label of its series.
    pub(super) fn labels(&self) -> [(&'static str, &str); 1] {
        [("url", &self.url)]
    }

    /// Counts an attempt to fetch keys.
    pub fn count_fetch(&self, result: FetchResult) {
        self.families.jwks_fetches.of(result).inc();
        if result == FetchResult::Success {
            let last = &self.families.jwks_last_success_timestamp_seconds;
            last.set_to_now();
        }
    }
}
