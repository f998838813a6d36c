//! What is read of the answers of the API. What a newer hubgate adds is passed over.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize)]
pub(super) struct Status {
    pub(super) summary: String,
    pub(super) version: String,
    pub(super) timestamp_seconds: f64,
    pub(super) start_timestamp_seconds: f64,
    pub(super) configuration: Configuration,
    /// A sentence for each thing that will break next.
    pub(super) ahead: Vec<String>,
    /// What was refused in the last hour before it was known which spoke sends.
    pub(super) door: Vec<AtTheDoor>,
}

/// What was refused there for one reason.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct AtTheDoor {
    pub(super) reason: String,
    /// What it refuses: a `request`, or a `connection`.
    pub(super) refuses: String,
    pub(super) count: u64,
    pub(super) last_timestamp_seconds: f64,
    pub(super) last_source_address: Option<String>,
    pub(super) remedy: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Configuration {
    pub(super) errors: Vec<LoadError>,
}

#[derive(Debug, Deserialize)]
pub(super) struct LoadError {
    file: Option<String>,
    line: Option<u64>,
    column: Option<u64>,
    key: String,
    message: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Spokes {
    pub(super) spokes: Vec<Spoke>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct Spoke {
    pub(super) name: String,
    pub(super) conditions: Vec<String>,
    pub(super) last_write_timestamp_seconds: Option<f64>,
    pub(super) newest_sample_timestamp_seconds: Option<f64>,
    pub(super) lag_seconds: Option<f64>,
    /// Whether it catches up.
    pub(super) lag_trend: Option<String>,
    pub(super) samples_per_second: f64,
    pub(super) rejected_ratio: f64,
    pub(super) bytes_in_flight: u64,
    pub(super) protocol: Option<String>,
    pub(super) user_agent: String,
    pub(super) source_addresses: Vec<String>,
    pub(super) address_source: Option<String>,
    pub(super) refusals: Vec<Refusal>,
    pub(super) active_series: Option<ActiveSeries>,
    pub(super) limits: Vec<Limit>,
    pub(super) credential_expiry_timestamp_seconds: Option<f64>,
    /// Only in the answer about one spoke.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) credentials: Vec<Credential>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct ActiveSeries {
    pub(super) active: u64,
    pub(super) exact: bool,
    pub(super) table_bytes: u64,
    pub(super) growing: Vec<Growing>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct Growing {
    pub(super) metric: String,
    pub(super) new: u64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct Refusal {
    pub(super) reason: String,
    pub(super) count: u64,
    pub(super) example: String,
    pub(super) last_timestamp_seconds: f64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct Limit {
    pub(super) name: String,
    pub(super) mode: String,
    pub(super) limit: f64,
    pub(super) used: Option<f64>,
    pub(super) exceeded: u64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct Credential {
    pub(super) name: String,
    pub(super) last_used_timestamp_seconds: Option<f64>,
    pub(super) expiry_timestamp_seconds: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Reasons {
    reasons: Vec<Reason>,
}

#[derive(Debug, Deserialize)]
struct Reason {
    name: String,
    meaning: String,
    remedy: String,
}

/// The conditions of a spoke that does not come.
pub(super) const NEVER_CAME: &str = "never_came";
pub(super) const SILENT: &str = "silent";

/// The rank of a condition; one that this version does not know may be the worst.
pub(super) fn worst_first(condition: &str) -> usize {
    const WORST_FIRST: [&str; 7] = [
        NEVER_CAME, SILENT, "refused", "failing", "limited", "late", "writing",
    ];
    let rank = WORST_FIRST.iter().position(|it| *it == condition);
    rank.unwrap_or_default()
}

#[cfg(test)]
impl Spoke {
    /// A spoke at a replica, with what differs from a fresh one.
    pub(super) fn with(fields: serde_json::Value) -> Self {
        let mut spoke = serde_json::json!({
            "name": "production", "conditions": ["writing"], "last_write_timestamp_seconds": null,
            "newest_sample_timestamp_seconds": null, "lag_seconds": null, "lag_trend": null,
            "samples_per_second": 0.0,
            "rejected_ratio": 0.0, "bytes_in_flight": 0, "protocol": null, "user_agent": "",
            "source_addresses": [], "refusals": [], "limits": [], "active_series": null,
            "credential_expiry_timestamp_seconds": null,
        });
        let serde_json::Value::Object(fields) = fields else {
            panic!("fields are an object");
        };
        spoke.as_object_mut().unwrap().extend(fields);
        serde_json::from_value(spoke).unwrap()
    }
}

impl Spoke {
    /// When the credential that it used expired, where that keeps it away.
    pub(super) fn expired(&self, now: f64) -> Option<f64> {
        let worst = self.conditions.first()?;
        let away = [NEVER_CAME, SILENT].contains(&worst.as_str());
        let expiry = self.credential_expiry_timestamp_seconds?;
        (away && expiry <= now).then_some(expiry)
    }
}

impl Limit {
    /// The part of it that is used.
    pub(super) fn share(&self) -> Option<f64> {
        Some(self.used? / self.limit)
    }
}

impl Reasons {
    /// What a reason means, and what to do, where it is known. Code stands between backticks.
    pub(super) fn advice(&self, name: &str) -> Option<(&str, &str)> {
        let reason = self.reasons.iter().find(|it| it.name == name)?;
        Some((&reason.meaning, &reason.remedy))
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
        }
        for place in [self.line, self.column].into_iter().flatten() {
            write!(f, "{place}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}
