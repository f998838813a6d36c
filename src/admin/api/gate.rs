//! `GET /api/v1/status`: hubgate itself, and how its spokes are in one sentence.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;
use tokio::time::Instant;

use crate::admin::Sources;
use crate::admin::reload::LoadError;
use crate::config::LimitMode;
use crate::metrics::InUse;
use crate::reasons::Limit;
use crate::spoke::Spoke;
use crate::spoke::condition::Condition;

use super::ahead::{self, Ahead};
use super::door::AtTheDoor;
use super::sentence::{self, Seen};
use super::{ever, unix_seconds};

/// The body of the response.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    /// How the spokes are, in one sentence.
    summary: String,
    version: &'static str,
    /// The commit; empty where the build does not know it.
    revision: &'static str,
    start_timestamp_seconds: f64,
    /// The time at which this was true.
    timestamp_seconds: f64,
    configuration: Configuration,
    /// The spokes by their worst condition.
    spokes: BTreeMap<&'static str, usize>,
    bytes_in_flight: InUseStatus,
    connections: InUseStatus,
    certificates: Vec<Certificate>,
    /// A sentence for each clock of a hub that differs, and for each thing that ends soon or is nearly full, the most
    /// urgent first.
    ahead: Vec<String>,
    /// What was refused in the last hour before it was known which spoke sends, the most frequent first.
    door: Vec<AtTheDoor>,
    /// Null where none goes on.
    capture: Option<CaptureStatus>,
}

/// A capture that goes on.
#[derive(Debug, Serialize)]
struct CaptureStatus {
    /// The spoke whose refused requests are captured.
    spoke: String,
    /// When it ends at the latest.
    end_timestamp_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Configuration {
    /// When the configuration in force was loaded.
    last_success_timestamp_seconds: f64,
    /// When hubgate last tried to load one.
    last_load_timestamp_seconds: f64,
    /// What is wrong with the one that it tried to load; the one before is in force.
    errors: Vec<LoadError>,
}

#[derive(Debug, Serialize)]
struct InUseStatus {
    used: i64,
    limit: i64,
}

/// A certificate that hubgate shows.
#[derive(Debug, Serialize)]
struct Certificate {
    /// Where it is shown: `write` or `admin` for the listeners, else the name of a hub.
    shown_to: String,
    expiry_timestamp_seconds: f64,
}

impl Status {
    pub(super) fn of(sources: &Sources) -> Self {
        let state = sources.state.load();
        let now = SystemTime::now();
        let spokes: Vec<_> = state.spokes.iter().map(|it| Seen::of(it, now)).collect();
        let up = now.duration_since(sources.started).unwrap_or_default();
        let mut by_condition: BTreeMap<_, _> = Condition::ALL
            .into_iter()
            .map(|it| (it.name(), 0))
            .collect();
        for seen in &spokes {
            *by_condition.entry(seen.worst().name()).or_default() += 1;
        }
        let load = sources.last_load.load();
        let config = &state.config;
        let listeners = [
            ("write", &config.listen.rules),
            ("admin", &config.admin.rules),
        ];
        let listeners = listeners.into_iter().filter_map(|(name, rules)| {
            let expiry = rules.tls.as_ref()?.validity().not_after;
            Some((name.to_owned(), expiry))
        });
        let hubs = config.hubs.iter().filter_map(|hub| {
            let expiry = hub.tls.as_ref()?.validity?.not_after;
            Some((hub.name.clone(), expiry))
        });
        let certificates = listeners.chain(hubs).map(|(shown_to, expiry)| Certificate {
            shown_to,
            expiry_timestamp_seconds: unix_seconds(expiry),
        });
        let certificates: Vec<_> = certificates.collect();
        let bytes_in_flight = InUseStatus::of(sources.metrics.bytes_in_use());
        let connections = InUseStatus::of(sources.metrics.connections_in_use());
        let mut ahead = Ahead::new(unix_seconds(now));
        for hub in &state.hubs {
            ahead.clock(hub.name(), hub.clock_seconds_ahead());
        }
        for it in &certificates {
            let what = || format!("certificate for {}", it.shown_to);
            ahead.ends(what, it.expiry_timestamp_seconds);
        }
        for spoke in &state.spokes {
            look_ahead(spoke, &mut ahead);
        }
        for (what, in_use, most) in [
            ("bytes in flight", &bytes_in_flight, ahead::BYTES_SHARE),
            ("connections", &connections, ahead::CONNECTIONS_SHARE),
        ] {
            let what = || format!("the {what} that may be are");
            ahead.fills(what, in_use.share(), most);
        }
        Self {
            summary: sentence::of(&spokes, up),
            version: env!("CARGO_PKG_VERSION"),
            revision: env!("HUBGATE_REVISION"),
            start_timestamp_seconds: unix_seconds(sources.started),
            timestamp_seconds: unix_seconds(now),
            configuration: Configuration {
                last_success_timestamp_seconds: unix_seconds(load.succeeded),
                last_load_timestamp_seconds: unix_seconds(load.ended),
                errors: load.errors.clone(),
            },
            spokes: by_condition,
            bytes_in_flight,
            connections,
            certificates,
            ahead: ahead.sentences(),
            door: {
                let refused = sources.metrics.refused_at_the_door().into_iter();
                refused.filter_map(AtTheDoor::of).collect()
            },
            capture: sources.captures.current().map(|it| {
                let terms = it.terms();
                let left = terms.until.saturating_duration_since(Instant::now());
                CaptureStatus {
                    spoke: terms.spoke.clone(),
                    end_timestamp_seconds: unix_seconds(now + left),
                }
            }),
        }
    }
}

impl InUseStatus {
    fn of(InUse { used, limit }: InUse) -> Self {
        Self { used, limit }
    }

    fn share(&self) -> f64 {
        self.used as f64 / self.limit as f64
    }
}

/// Notices which credential of a spoke ends, and which of its limits were nearly full when the last step of
/// its history ended.
fn look_ahead(spoke: &Spoke, ahead: &mut Ahead) {
    for times in spoke.metrics.credential_times() {
        if let Some(expiry) = ever(times.expiry) {
            ahead.credential_ends(&spoke.name, times.name, times.last_used, expiry);
        }
    }
    let Some(step) = spoke.history.newest() else {
        return;
    };
    for limit in Limit::ALL {
        let what = || {
            let observed = match spoke.limits.mode(limit) {
                LimitMode::Enforce => "",
                LimitMode::Observe => ", which is only observed,",
            };
            format!("{} of {}{observed} is", limit.name(), spoke.name)
        };
        ahead.fills(what, step.limit(limit).into(), ahead::LIMIT_SHARE);
    }
}
