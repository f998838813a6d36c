//! What a real Prometheus sees of a counter that had no series before: alerts ask for a rise.

use crate::support::body::{Protocol, bare, now};
use crate::support::config::{config_with_hub_keys, spoke};
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::hub::ScriptedHub;
use crate::support::prometheus::{Binary, ONE_AT_A_TIME, Prometheus, START_DEADLINE};

#[tokio::test]
async fn the_first_lost_samples_of_a_spoke_are_a_rise() {
    let _one = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        let hub = ScriptedHub::start().await;
        let spokes = [spoke("production", "")];
        let config = config_with_hub_keys(&hub.url(), "protocol: v1", &spokes);
        let gate = Gate::start(&config).await;
        let jobs = [("gate", gate.admin_address())];
        let prometheus = Prometheus::scraper(&binary, &jobs).await;
        let wait_for = async |query: &str| {
            eventually(query, START_DEADLINE, async || {
                let found = prometheus.query(query).await;
                if found.is_empty() { Err(found) } else { Ok(()) }
            })
            .await;
        };
        wait_for("up == 1").await;
        let batch = [bare("__name__=up,cluster=staging").sample(1.0, now())];
        gate.write(Protocol::V1, &batch).await.expect(400);
        let reason = "hubgate_samples_rejected_total{reason=\"mismatched_label\"}";
        wait_for(&format!("{reason} == 1")).await;
        for series in [
            "hubgate_requests_total{spoke=\"production\", code=\"400\"}",
            "hubgate_label_mismatches_total{spoke=\"production\", policy=\"reject\"}",
        ] {
            wait_for(&format!("increase({series}[1m]) > 0")).await;
        }
    }
}
