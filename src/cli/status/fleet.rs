//! Several replicas of hubgate as one.
//!
//! A spoke writes through whichever replica its connections lead to, and through another one tomorrow. So
//! what was counted adds up, what was seen last is that of the replica that saw it, and a spoke is silent
//! only if no replica hears of it. A trouble at one replica is a trouble: each judges on its own what comes
//! to it, and has limits of its own.

use std::cmp::Reverse;
use std::mem;

use super::answers::{
    ActiveSeries, Credential, Growing, Limit, NEVER_CAME, Refusal, SILENT, Spoke, Status,
    worst_first,
};

/// Metrics that grow which are shown of all replicas together.
const GROWING_MAX: usize = 5;

/// What one replica says.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) admin: String,
    pub(super) status: Status,
    pub(super) spokes: Vec<Spoke>,
}

/// The spokes of all replicas, each once, in the order in which they are first named.
pub(super) fn spokes(told: &[Told]) -> Vec<Spoke> {
    let mut merged: Vec<Spoke> = Vec::new();
    for spoke in told.iter().flat_map(|it| &it.spokes) {
        match merged.iter_mut().find(|it| it.name == spoke.name) {
            Some(known) => add(known, spoke),
            None => merged.push(spoke.clone()),
        }
    }
    merged
}

/// The time of the newest answer, and the start of the replica that started last. Before that, a spoke may
/// have written through a process that is gone.
pub(super) fn times(told: &[Told]) -> (f64, f64) {
    let latest =
        |time: fn(&Status) -> f64| told.iter().map(|it| time(&it.status)).fold(0.0, f64::max);
    (
        latest(|it| it.timestamp_seconds),
        latest(|it| it.start_timestamp_seconds),
    )
}

/// How many spokes write, in one sentence.
pub(super) fn summary(writing: usize, all: usize, replicas: usize) -> String {
    let spokes = match all {
        0 => return format!("No spoke is configured, at {replicas} replicas."),
        1 if writing == 1 => "The only spoke writes".to_owned(),
        1 => "The only spoke does not write".to_owned(),
        _ if writing == all => format!("All {all} spokes write"),
        _ => format!("{writing} of {all} spokes write"),
    };
    format!("{spokes}, through {replicas} replicas.")
}

/// What differs between replicas that should be alike.
pub(super) fn differences(told: &[Told], spokes: &[Spoke]) -> Vec<String> {
    let mut differences = Vec::new();
    let version = |it: &Told| format!("{} at {}", it.status.version, it.admin);
    if told
        .windows(2)
        .any(|it| it[0].status.version != it[1].status.version)
    {
        let versions: Vec<_> = told.iter().map(version).collect();
        differences.push(format!("The versions differ: {}.", versions.join(", ")));
    }
    for replica in told {
        let has = |spoke: &&Spoke| replica.spokes.iter().any(|it| it.name == spoke.name);
        let missing: Vec<_> = spokes.iter().filter(|it| !has(it)).collect();
        if let [first, others @ ..] = &missing[..] {
            let more = match others.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let (admin, name) = (&replica.admin, &first.name);
            differences.push(format!("{admin} does not know {name}{more}."));
        }
    }
    differences
}

/// What will break next, the most urgent first at each replica. What all that were asked say is said once,
/// and the rest with the replica that says it.
pub(super) fn ahead(told: &[Told], asked: usize) -> Vec<String> {
    let says = |it: &Told, sentence| it.status.ahead.contains(sentence);
    let mut lines = Vec::new();
    for replica in told {
        for sentence in &replica.status.ahead {
            let by_all = told.len() == asked && told.iter().all(|it| says(it, sentence));
            let line = match by_all {
                true => sentence.clone(),
                false => format!("{}: {sentence}", replica.admin),
            };
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines
}

/// Adds what another replica says of a spoke.
fn add(spoke: &mut Spoke, other: &Spoke) {
    spoke.conditions = conditions(spoke, other);
    spoke.rejected_ratio = rejected_ratio(spoke, other);
    spoke.samples_per_second += other.samples_per_second;
    spoke.bytes_in_flight += other.bytes_in_flight;
    // Who sent last is who sends.
    if other.last_write_timestamp_seconds > spoke.last_write_timestamp_seconds
        || spoke.protocol.is_none()
    {
        spoke.protocol.clone_from(&other.protocol);
        spoke.user_agent.clone_from(&other.user_agent);
        spoke.address_source.clone_from(&other.address_source);
        spoke.credential_expiry_timestamp_seconds = other.credential_expiry_timestamp_seconds;
        let older = mem::replace(&mut spoke.source_addresses, other.source_addresses.clone());
        add_addresses(&mut spoke.source_addresses, &older);
    } else {
        add_addresses(&mut spoke.source_addresses, &other.source_addresses);
    }
    spoke.last_write_timestamp_seconds = later(
        spoke.last_write_timestamp_seconds,
        other.last_write_timestamp_seconds,
    );
    spoke.newest_sample_timestamp_seconds = later(
        spoke.newest_sample_timestamp_seconds,
        other.newest_sample_timestamp_seconds,
    );
    // The newest sample of either is the newest of both.
    let lag = |it: &Spoke| it.lag_seconds.unwrap_or(f64::INFINITY);
    if lag(other) < lag(spoke) {
        spoke.lag_seconds = other.lag_seconds;
        spoke.lag_trend.clone_from(&other.lag_trend);
    }
    for refusal in &other.refusals {
        add_refusal(&mut spoke.refusals, refusal);
    }
    for limit in &other.limits {
        add_limit(&mut spoke.limits, limit);
    }
    for credential in &other.credentials {
        add_credential(&mut spoke.credentials, credential);
    }
    spoke.active_series = match (spoke.active_series.take(), &other.active_series) {
        (Some(one), Some(other)) => Some(together(one, other)),
        (one, other) => one.or_else(|| other.clone()),
    };
}

/// What is true of a spoke at two replicas together.
fn conditions(spoke: &Spoke, other: &Spoke) -> Vec<String> {
    // The newest sample of either is the newest of both.
    let late = |it: &Spoke| it.conditions.iter().any(|it| it == "late");
    let newest = |it: &Spoke| it.lag_seconds.unwrap_or(f64::INFINITY);
    let fresher = if newest(spoke) <= newest(other) {
        spoke
    } else {
        other
    };
    let mut all: Vec<_> = spoke.conditions.iter().chain(&other.conditions).collect();
    all.sort_by_key(|it| worst_first(it));
    all.dedup();
    all.retain(|it| *it != "late" || late(fresher));
    let away = |it: &String| [NEVER_CAME, SILENT].contains(&it.as_str());
    let heard = all.iter().any(|it| !away(it));
    all.retain(|it| !heard || !away(it));
    // It came to one of them, and is silent there.
    if all.iter().any(|it| *it == SILENT) {
        all.retain(|it| *it != NEVER_CAME);
    }
    let troubled = all.iter().any(|it| *it != "writing");
    all.retain(|it| !troubled || *it != "writing");
    if all.is_empty() {
        return vec!["writing".to_owned()];
    }
    all.into_iter().cloned().collect()
}

/// The part that was refused of what was written or refused. The rates of what was written say how much
/// each replica had; where nothing was written, the higher part stands.
fn rejected_ratio(spoke: &Spoke, other: &Spoke) -> f64 {
    let both = [spoke, other].map(|it| (it.rejected_ratio, it.samples_per_second));
    if both
        .iter()
        .any(|(ratio, written)| *ratio >= 1.0 || *written <= 0.0 && *ratio > 0.0)
    {
        return f64::max(spoke.rejected_ratio, other.rejected_ratio);
    }
    let written: f64 = both.iter().map(|(_, written)| written).sum();
    let rejected = both
        .iter()
        .map(|(ratio, written)| written * ratio / (1.0 - ratio));
    let rejected: f64 = rejected.sum();
    match rejected + written {
        0.0 => 0.0,
        all => rejected / all,
    }
}

fn later(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    }
}

/// The newest stand first, and `address_source` is that of the first.
fn add_addresses(addresses: &mut Vec<String>, older: &[String]) {
    for address in older {
        if !addresses.contains(address) {
            addresses.push(address.clone());
        }
    }
}

fn add_refusal(refusals: &mut Vec<Refusal>, other: &Refusal) {
    let Some(known) = refusals.iter_mut().find(|it| it.reason == other.reason) else {
        return refusals.push(other.clone());
    };
    known.count += other.count;
    if other.last_timestamp_seconds > known.last_timestamp_seconds {
        known.last_timestamp_seconds = other.last_timestamp_seconds;
        known.example.clone_from(&other.example);
    }
}

/// Each replica holds the spoke to the limit on its own, so the one that is closest to it counts.
fn add_limit(limits: &mut Vec<Limit>, other: &Limit) {
    let Some(known) = limits.iter_mut().find(|it| it.name == other.name) else {
        return limits.push(other.clone());
    };
    let exceeded = known.exceeded + other.exceeded;
    if other.share() > known.share() {
        known.clone_from(other);
    }
    known.exceeded = exceeded;
}

fn add_credential(credentials: &mut Vec<Credential>, other: &Credential) {
    let Some(known) = credentials.iter_mut().find(|it| it.name == other.name) else {
        return credentials.push(other.clone());
    };
    known.last_used_timestamp_seconds = later(
        known.last_used_timestamp_seconds,
        other.last_used_timestamp_seconds,
    );
}

/// The active series of two replicas. A series may be active at both, so the sum is no less than what is
/// active.
fn together(mut one: ActiveSeries, other: &ActiveSeries) -> ActiveSeries {
    one.active += other.active;
    one.exact = false;
    one.table_bytes += other.table_bytes;
    for Growing { metric, new } in &other.growing {
        match one.growing.iter_mut().find(|it| it.metric == *metric) {
            Some(known) => known.new += new,
            None => one.growing.push(Growing {
                metric: metric.clone(),
                new: *new,
            }),
        }
    }
    one.growing.sort_by_key(|it| Reverse(it.new));
    one.growing.truncate(GROWING_MAX);
    one
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn both(one: serde_json::Value, other: serde_json::Value) -> [Spoke; 2] {
        let merge = |one: &serde_json::Value, other: &serde_json::Value| {
            let mut merged = Spoke::with(one.clone());
            add(&mut merged, &Spoke::with(other.clone()));
            merged
        };
        [merge(&one, &other), merge(&other, &one)]
    }

    #[test]
    fn a_spoke_is_silent_only_if_no_replica_hears_of_it() {
        for (one, other, expected) in [
            (&["writing"][..], &["silent"][..], &["writing"][..]),
            (&["writing"], &["never_came"], &["writing"]),
            (&["silent"], &["never_came"], &["silent"]),
            (&["silent"], &["silent"], &["silent"]),
            (&["never_came"], &["never_came"], &["never_came"]),
            (&["refused"], &["never_came"], &["refused"]),
            (&["limited"], &["writing"], &["limited"]),
            (
                &["failing", "limited"],
                &["refused"],
                &["refused", "failing", "limited"],
            ),
        ] {
            for merged in both(json!({"conditions": one}), json!({"conditions": other})) {
                assert_eq!(merged.conditions, expected, "{one:?} {other:?}");
            }
        }
    }

    /// One replica wrote an old sample, the other one the newest.
    #[test]
    fn a_spoke_is_late_only_if_its_newest_sample_is() {
        let late = |lag: f64| {
            let trend = if lag > 800.0 { "rising" } else { "falling" };
            json!({"conditions": ["late"], "lag_seconds": lag, "lag_trend": trend})
        };
        let writing = json!({"conditions": ["writing"], "lag_seconds": 2.0});
        for merged in both(late(900.0), writing) {
            assert_eq!(merged.conditions, ["writing"]);
            assert_eq!(merged.lag_seconds, Some(2.0));
        }
        for merged in both(late(900.0), late(700.0)) {
            assert_eq!(merged.conditions, ["late"]);
            assert_eq!(merged.lag_seconds, Some(700.0));
            assert_eq!(merged.lag_trend.as_deref(), Some("falling"));
        }
    }

    #[test]
    fn counts_add_up_and_the_last_sight_stands() {
        let one = json!({
            "last_write_timestamp_seconds": 100.0, "samples_per_second": 30.0, "protocol": "v1",
            "user_agent": "old", "source_addresses": ["10.0.0.1"], "address_source": "socket", "rejected_ratio": 0.25,
            "refusals": [{"reason": "hub", "count": 2, "example": "a", "last_timestamp_seconds": 90.0}],
            "limits": [{"name": "samples_per_second", "mode": "enforce", "limit": 100.0, "used": 90.0,
                "exceeded": 1}],
            "active_series": {"active": 10, "exact": true, "table_bytes": 100,
                "growing": [{"metric": "a", "new": 5}, {"metric": "b", "new": 4}]},
        });
        let other = json!({
            "last_write_timestamp_seconds": 200.0, "samples_per_second": 10.0, "protocol": "v2",
            "user_agent": "new", "source_addresses": ["10.0.0.2", "10.0.0.1"],
            "address_source": "proxy_protocol", "credential_expiry_timestamp_seconds": 300.0,
            "refusals": [{"reason": "hub", "count": 3, "example": "b", "last_timestamp_seconds": 95.0}],
            "limits": [{"name": "samples_per_second", "mode": "enforce", "limit": 100.0, "used": 20.0,
                "exceeded": 2}],
            "active_series": {"active": 10, "exact": true, "table_bytes": 100,
                "growing": [{"metric": "b", "new": 3}]},
        });
        for merged in both(one, other) {
            assert_eq!(merged.samples_per_second, 40.0);
            assert_eq!(merged.last_write_timestamp_seconds, Some(200.0));
            assert_eq!(merged.user_agent, "new");
            assert_eq!(merged.protocol.as_deref(), Some("v2"));
            assert_eq!(merged.source_addresses, ["10.0.0.2", "10.0.0.1"]);
            assert_eq!(merged.address_source.as_deref(), Some("proxy_protocol"));
            assert_eq!(merged.credential_expiry_timestamp_seconds, Some(300.0));
            // 10 of 50 samples a second.
            assert_eq!(merged.rejected_ratio, 0.2);
            let refusal = &merged.refusals[0];
            assert_eq!((refusal.count, refusal.example.as_str()), (5, "b"));
            let limit = &merged.limits[0];
            assert_eq!((limit.used, limit.exceeded), (Some(90.0), 3));
            let active = merged.active_series.unwrap();
            assert_eq!((active.active, active.exact), (20, false));
            let growing: Vec<_> = active
                .growing
                .iter()
                .map(|it| (it.metric.as_str(), it.new))
                .collect();
            assert_eq!(growing, [("b", 7), ("a", 5)]);
        }
    }

    #[test]
    fn what_all_replicas_see_ahead_is_said_once() {
        let told = |admin: &str, ahead: &[&str]| {
            let status = json!({
                "summary": "", "version": "1", "timestamp_seconds": 0.0, "start_timestamp_seconds": 0.0,
                "configuration": {"errors": []}, "ahead": ahead, "door": [],
            });
            Told {
                admin: admin.to_owned(),
                status: serde_json::from_value(status).unwrap(),
                spokes: Vec::new(),
            }
        };
        let told = [told("a", &["ends", "full"]), told("b", &["ends", "late"])];
        assert_eq!(ahead(&told, 2), ["ends", "a: full", "b: late"]);
        assert_eq!(ahead(&told[..1], 1), ["ends", "full"]);
        // The other one cannot be asked.
        assert_eq!(ahead(&told[..1], 2), ["a: ends", "a: full"]);
    }

    #[test]
    fn a_replica_that_wrote_nothing_hides_no_refusals() {
        let refused = json!({"rejected_ratio": 1.0});
        let writing = json!({"samples_per_second": 100.0});
        for merged in both(refused, writing) {
            assert_eq!(merged.rejected_ratio, 1.0);
        }
    }
}
