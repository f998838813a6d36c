//! Measures a real Prometheus as hub of a real Prometheus, alone and behind the gate.
//!
//! The spoke scrapes targets shaped like those of a cluster and sends V1, so requests, their sizes and
//! the order of their series are what a sender makes of them. The scrape interval fixes the rate.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use crate::hub::{Prometheus, Server};
use crate::scrape;
use crate::spokes::Spoke;
use crate::subjects::{Running, start_hubgate};
use crate::targets::Targets;

const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

/// The garbage collection of Go comes in waves of some seconds.
const DURATION_MIN: Duration = Duration::from_secs(20);

/// Scrapes after which all series are known to the hub. A new series costs it much more than a new
/// sample, which must not be in the figures.
const SCRAPES_BEFORE: u64 = 5;

/// How long these may take.
const START_TIMEOUT: Duration = Duration::from_secs(90);

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The default of Prometheus 3.
const SAMPLES_PER_SEND: u32 = 2_000;

/// Samples that the spoke gave up, by name of the counter in all versions.
const LOST: [&str; 2] = [
    "prometheus_remote_storage_samples_dropped_total",
    "prometheus_remote_storage_samples_failed_total",
];

/// The figures of a set-up. Those of hub and gate are CPU seconds per million samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) hub: f64,
    pub(crate) gate: Option<f64>,
    pub(crate) samples: u64,
    pub(crate) samples_per_second: f64,
}

impl Cost {
    pub(crate) fn sum(&self) -> f64 {
        self.hub + self.gate.unwrap_or_default()
    }
}

/// Names a set-up.
pub(crate) fn name(has_gate: bool) -> &'static str {
    if has_gate {
        "gate and hub"
    } else {
        "hub alone"
    }
}

/// Measures a new hub with a spoke of the same version, with the gate between them or without it.
pub(crate) async fn measure(
    server: &Prometheus,
    has_gate: bool,
    duration: Duration,
) -> anyhow::Result<Cost> {
    let folder = tempfile::tempdir()?;
    let hub = server.start(&folder.path().join("hub"), "").await?;
    let gate = if has_gate {
        Some(start_hubgate(folder.path(), hub.address).await?)
    } else {
        None
    };
    let url = gate.as_ref().map_or_else(|| hub.url(), Running::url);
    let targets = Targets::serve().await?;
    let spoke_folder = folder.path().join("spoke");
    let spoke = server.start(&spoke_folder, &config(&targets, &url)).await?;
    wait_for(&hub, SCRAPES_BEFORE * targets.series() as u64).await?;

    let before = usage(&hub, gate.as_ref()).await?;
    sleep(duration.max(DURATION_MIN)).await;
    let after = usage(&hub, gate.as_ref()).await?;
    for counter in LOST {
        let lost = scrape::sum(spoke.address, counter, &[]).await?;
        ensure!(lost == 0, "{counter} of the spoke is {lost}");
    }
    spoke.process.end().await?;
    if let Some(gate) = gate {
        gate.process.end().await?;
    }
    hub.process.end().await?;

    let samples = after.samples - before.samples;
    ensure!(samples > 0, "the hub appended no sample");
    let cost = |before: f64, after: f64| (after - before) * 1e6 / samples as f64;
    let gate = before.gate.zip(after.gate);
    Ok(Cost {
        hub: cost(before.hub, after.hub),
        gate: gate.map(|(before, after)| cost(before, after)),
        samples,
        samples_per_second: samples as f64 / (after.time - before.time).as_secs_f64(),
    })
}

fn config(targets: &Targets, url: &str) -> String {
    let Spoke { name, token } = Spoke::first();
    let interval = SCRAPE_INTERVAL.as_secs();
    let targets = targets.static_configs();
    format!(
        "\
global: {{scrape_interval: {interval}s, scrape_timeout: {interval}s, external_labels: {{cluster: {name}}}}}
remote_write:
- url: \"{url}\"
  authorization: {{credentials: {token}}}
  queue_config: {{max_samples_per_send: {SAMPLES_PER_SEND}}}
scrape_configs:
- job_name: cluster
  honor_labels: true
  static_configs:
{targets}"
    )
}

async fn wait_for(hub: &Server, samples: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let appended = hub.appended().await?;
        if appended >= samples {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "the hub appended only {appended} of {samples} samples"
        );
        sleep(POLL_INTERVAL).await;
    }
}

/// CPU seconds and samples at a time.
struct Usage {
    hub: f64,
    gate: Option<f64>,
    samples: u64,
    time: Instant,
}

async fn usage(hub: &Server, gate: Option<&Running>) -> anyhow::Result<Usage> {
    let samples = hub.appended().await?;
    let gate = gate.map(|gate| gate.process.usage()).transpose()?;
    Ok(Usage {
        hub: hub.process.usage()?.cpu_seconds,
        gate: gate.map(|usage| usage.cpu_seconds),
        samples,
        time: Instant::now(),
    })
}
