//! Whether what real spokes have arrives at a real hub.

use std::time::Duration;

use super::eventually;
use super::prometheus::Prometheus;

/// Longest wait for the samples of a spoke to reach the hub.
pub(crate) const ARRIVAL_DEADLINE: Duration = Duration::from_secs(30);

/// Longest wait for a spoke to repeat the writes that failed.
const RETRY_DEADLINE: Duration = Duration::from_secs(90);

/// The time of a server in seconds since the Unix epoch.
pub(crate) async fn now(server: &Prometheus) -> u64 {
    server.value("vector(time())").await as u64
}

/// Waits until the hub has exactly the samples that the spoke itself has for the `seconds` before
/// `to`.
pub(crate) async fn expect_same_samples(
    hub: &Prometheus,
    spoke: &Prometheus,
    cluster: &str,
    seconds: u64,
    to: u64,
) {
    let own = spoke.samples("{job=\"prometheus\"}", seconds, to).await;
    assert!(own.len() > 100, "the spoke has {} series only", own.len());
    let selector = format!("{{job=\"prometheus\",cluster=\"{cluster}\"}}");
    eventually(
        "the hub has what the spoke has",
        RETRY_DEADLINE,
        async || {
            let there = hub.samples(&selector, seconds, to).await;
            let differing = own
                .iter()
                .find(|(series, samples)| there.get(*series) != Some(samples));
            let foreign = there.keys().find(|series| !own.contains_key(*series));
            match (differing, foreign) {
                (None, None) => Ok(()),
                (Some((series, samples)), _) => Err(format!(
                    "{series}: {samples:?} at the spoke, {:?} at the hub",
                    there.get(series)
                )),
                (None, Some(foreign)) => Err(format!("{foreign} at the hub only")),
            }
        },
    )
    .await;
}

/// Waits until the hub has the `up` series of each spoke.
pub(crate) async fn wait_for_spokes(hub: &Prometheus, clusters: &[&str]) {
    let query = format!(
        "up{{job=\"prometheus\",cluster=~\"{}\"}}",
        clusters.join("|")
    );
    eventually(
        "up of every spoke at the hub",
        ARRIVAL_DEADLINE,
        async || {
            let up = hub.query(&query).await;
            if up.len() == clusters.len() {
                Ok(())
            } else {
                Err(up)
            }
        },
    )
    .await;
}

/// Waits until a server's clock has passed a time.
pub(crate) async fn wait_until(server: &Prometheus, time: u64) {
    eventually("time passes", RETRY_DEADLINE, async || {
        let now = now(server).await;
        if now > time { Ok(()) } else { Err(now) }
    })
    .await;
}
