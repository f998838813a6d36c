//! Counts how often the rules judge a series, as a rule with state would.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// How often each series was judged, by its description; nothing is counted by default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Judged(Option<Arc<Mutex<BTreeMap<String, u64>>>>);

impl Judged {
    /// A counter; its clones count into the same map.
    pub(crate) fn counting() -> Self {
        Self(Some(Arc::default()))
    }

    pub(crate) fn count(&self, series: impl FnOnce() -> String) {
        if let Some(counts) = &self.0 {
            *counts.lock().unwrap().entry(series()).or_default() += 1;
        }
    }

    /// What was counted since the last call.
    pub(crate) fn take(&self) -> BTreeMap<String, u64> {
        let counts = self.0.as_ref().expect("it counts");
        std::mem::take(&mut counts.lock().unwrap())
    }
}
