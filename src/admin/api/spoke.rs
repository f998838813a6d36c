//! `GET /api/v1/spokes/NAME`: everything that is known of one spoke.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::{self, Absent, LimitAnswer, Secret};
use crate::metrics::{CredentialTimes, Requests};
use crate::spoke::Spoke;
use crate::state::State;
use crate::wire::{Counts, Kind};

use super::ever;
use super::history::History;
use super::spokes::Row;

/// The body of the response.
#[derive(Debug, Serialize)]
pub(super) struct Detail {
    #[serde(flatten)]
    row: Row,
    samples: Samples,
    requests: Vec<RequestCount>,
    credentials: Vec<CredentialStatus>,
    rules: Rules,
    /// What its Prometheus needs, without the secret.
    remote_write: String,
    history: History,
}

/// Samples of the spoke since the start, by their kind; received = written + rejected + failed.
#[derive(Debug, Serialize)]
struct Samples {
    received: KindCounts,
    written: KindCounts,
    /// Those that were refused for good, by their reason.
    rejected: BTreeMap<&'static str, KindCounts>,
    /// Those of requests that the sender retries.
    failed: KindCounts,
}

/// A count for each kind.
type KindCounts = BTreeMap<&'static str, u64>;

#[derive(Debug, Serialize)]
pub(super) struct RequestCount {
    /// The version of their messages, if that was known.
    protocol: Option<&'static str>,
    /// The status code, or the name of what happened instead.
    code: String,
    count: u64,
}

#[derive(Debug, Serialize)]
struct CredentialStatus {
    name: String,
    last_used_timestamp_seconds: Option<f64>,
    /// Null for one that does not expire.
    expiry_timestamp_seconds: Option<f64>,
}

/// What the configuration says of the spoke.
#[derive(Debug, Serialize)]
struct Rules {
    cluster_label: String,
    /// What happens to a series without the cluster label.
    absent: &'static str,
    /// What happens to a series whose cluster label names another spoke.
    mismatch: &'static str,
    /// The addresses that it may write from.
    source_ranges: Vec<String>,
    weight: u32,
    /// The status of a request that a limit refuses and that would pass later.
    limit_answer: u16,
}

impl Detail {
    /// What is known of the spoke of this name.
    pub(super) fn of(state: &State, name: &str) -> Option<Self> {
        let spoke = state.spoke(name)?;
        let config = state.config.spokes.iter().find(|it| it.name == name)?;
        let credentials = spoke.metrics.credential_times();
        Some(Self {
            row: Row::of(spoke),
            samples: Samples::of(spoke),
            requests: spoke
                .metrics
                .requests()
                .into_iter()
                .map(RequestCount::of)
                .collect(),
            credentials: credentials.map(CredentialStatus::of).collect(),
            rules: Rules::of(&state.config, config),
            remote_write: remote_write(&state.config, config),
            history: History::of(&spoke.history.shown()),
        })
    }
}

impl Samples {
    fn of(spoke: &Spoke) -> Self {
        let metrics = &spoke.metrics;
        let rejected = metrics.rejected();
        let rejected = rejected.map(|(reason, counts)| (reason.name(), by_kind(counts)));
        Self {
            received: by_kind(metrics.received()),
            written: by_kind(metrics.written()),
            rejected: rejected.collect(),
            failed: by_kind(metrics.failed()),
        }
    }
}

pub(super) fn by_kind(counts: Counts) -> KindCounts {
    let each = Kind::ALL.into_iter();
    each.map(|kind| (kind.name(), counts.of(kind))).collect()
}

impl RequestCount {
    pub(super) fn of(requests: Requests) -> Self {
        Self {
            protocol: requests.protocol.map(|protocol| protocol.name()),
            code: requests.code,
            count: requests.count,
        }
    }
}

impl CredentialStatus {
    fn of(times: CredentialTimes<'_>) -> Self {
        Self {
            name: times.name.to_owned(),
            last_used_timestamp_seconds: ever(times.last_used),
            expiry_timestamp_seconds: ever(times.expiry),
        }
    }
}

impl Rules {
    fn of(config: &config::Config, spoke: &config::Spoke) -> Self {
        Self {
            cluster_label: config.cluster_label.clone(),
            absent: spoke.labels.absent.name(),
            mismatch: spoke.labels.mismatch.name(),
            source_ranges: spoke
                .source_ranges
                .iter()
                .map(ToString::to_string)
                .collect(),
            weight: spoke.weight.get(),
            limit_answer: match spoke.limits.answer {
                LimitAnswer::ServiceUnavailable => 503,
                LimitAnswer::TooManyRequests => 429,
            },
        }
    }
}

/// The configuration of a Prometheus that writes as the spoke. hubgate does not know by which name or
/// through which port spokes reach it, so that is left to fill in.
fn remote_write(config: &config::Config, spoke: &config::Spoke) -> String {
    let scheme = match config.listen.rules.tls {
        Some(_) => "https",
        None => "http",
    };
    let port = config.listen.address.port();
    let mut text = String::new();
    if spoke.labels.absent == Absent::Reject {
        let (label, name) = (&config.cluster_label, quoted(&spoke.name));
        text += &format!("global:\n  external_labels:\n    {label}: {name}\n");
    }
    text += &format!("remote_write:\n  - url: {scheme}://HUBGATE:{port}/api/v1/write\n");
    text += &match spoke
        .credentials
        .first()
        .map(|credential| &credential.secret)
    {
        Some(Secret::Basic { username, .. }) => format!(
            "    basic_auth:\n      username: {}\n      password_file: /etc/prometheus/hubgate-password\n",
            quoted(username)
        ),
        Some(Secret::Certificate(_)) => "    tls_config:\n      \
             cert_file: /etc/prometheus/tls/tls.crt\n      \
             key_file: /etc/prometheus/tls/tls.key\n      \
             ca_file: /etc/prometheus/tls/ca.crt\n"
            .to_owned(),
        Some(Secret::Jwt(_)) => "    authorization:\n      \
             credentials_file: /var/run/secrets/hubgate/token\n"
            .to_owned(),
        Some(Secret::Token(_)) | None => "    authorization:\n      \
             credentials_file: /etc/prometheus/hubgate-token\n"
            .to_owned(),
    };
    if spoke.limits.answer == LimitAnswer::TooManyRequests {
        text += "    queue_config:\n      retry_on_http_429: true\n";
    }
    text
}

/// A string in YAML, whatever it holds: JSON is YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
