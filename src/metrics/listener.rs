//! What is known of a listener with TLS.

use std::time::SystemTime;

use super::families::ListenerFamilies;

/// The metrics of a listener with TLS.
#[derive(Debug)]
pub struct ListenerMetrics {
    name: &'static str,
    pub(super) families: ListenerFamilies,
}

impl ListenerMetrics {
    /// The metrics of the listener `name`, whose certificate is valid until `not_after`.
    pub fn new(name: &'static str, not_after: SystemTime) -> Self {
        let families = ListenerFamilies::default();
        families
            .tls_certificate_expiry_timestamp_seconds
            .set_to(Some(not_after));
        Self { name, families }
    }

    /// The label of its series.
    pub(super) fn labels(&self) -> [(&'static str, &str); 1] {
        [("listener", self.name)]
    }
}
