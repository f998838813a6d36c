//! Reads counters from the `/metrics` of a subject or a hub.

use std::net::SocketAddr;

use anyhow::Context;
use hubgate::load::scrape;

/// Adds up the series of a counter that have all `labels`; 0 if there are none.
pub(crate) async fn sum(
    address: SocketAddr,
    counter: &str,
    labels: &[&str],
) -> anyhow::Result<u64> {
    let page = scrape::get(address, "/metrics").await?.text();
    let sum = scrape::sum(&page, counter, labels).unwrap_or_default();
    // A float holds a count exactly, but no conversion says so.
    format!("{sum:.0}")
        .parse()
        .with_context(|| format!("{counter} is {sum}"))
}
