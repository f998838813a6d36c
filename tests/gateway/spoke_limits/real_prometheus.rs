//! Real Prometheus servers that are held back: they wait as they are told, and lose nothing.

use crate::support::arrivals::{ARRIVAL_DEADLINE, expect_same_samples, now, wait_for_spokes};
use crate::support::body::Protocol;
use crate::support::config::{config, spoke};
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::prometheus::{Binary, ONE_AT_A_TIME, Prometheus, Spoke};

#[tokio::test]
async fn a_spoke_that_is_held_back_by_its_rate_loses_nothing() {
    held_back("", "").await;
}

#[tokio::test]
async fn a_spoke_that_retries_429_loses_nothing() {
    held_back(", answer: 429", ", retry_on_http_429: true").await;
}

async fn held_back(limits: &str, queue_config: &str) {
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        let hub = Prometheus::start_hub(&binary).await;
        let limited = |rate: u32| {
            let limits = format!("limits: {{samples_per_second: {rate}{limits}}}");
            config(&hub.url(), &[spoke("production", &limits)])
        };
        let gate = Gate::start(&limited(0)).await;
        let production = Spoke {
            queue_config,
            ..Spoke::new(&gate, "production", Protocol::V1)
        };
        let production = Prometheus::start_spoke(&binary, &production).await;
        wait_for_spokes(&hub, &["production"]).await;
        let from = now(&production).await;
        // A scrape a second has several times as many samples.
        gate.reload_with(&limited(100)).await;
        eventually("the spoke is held back", ARRIVAL_DEADLINE, async || {
            let metrics = gate.metrics().await;
            let labels = [("limit", "samples_per_second")];
            match metrics.sum("hubgate_limit_exceeded_total", &labels) {
                3.0.. => Ok(()),
                few => Err(few),
            }
        })
        .await;
        gate.reload_with(&limited(0)).await;
        let to = now(&production).await;
        expect_same_samples(&hub, &production, "production", to - from, to).await;
        let metrics = production.metrics().await;
        let failed = metrics.sum("prometheus_remote_storage_samples_failed_total", &[]);
        assert_eq!(failed, 0.0);
        let retried = metrics.sum("prometheus_remote_storage_samples_retried_total", &[]);
        assert!(retried > 0.0, "the spoke repeated no write");
        gate.expect_balanced_counts("production").await;
    }
}
