//! Reads counters from the `/metrics` of a subject or a hub.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use http::{StatusCode, Uri};
use hubgate::load::client::{Client, Server, get_request};

/// The sum of the series of a counter that have `label`, as the exposition writes it; all, if it is
/// empty.
pub(crate) async fn sum(address: SocketAddr, counter: &str, label: &str) -> anyhow::Result<u64> {
    let url = Uri::try_from(format!("http://{address}"))?;
    let mut client = Client::new(Server::new(&url)?);
    let answer = client.send(get_request("/metrics")?).await?;
    ensure!(
        answer.status == StatusCode::OK,
        "/metrics: {}",
        answer.status
    );
    let text = answer.text();
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(counter)?;
        (rest.starts_with(['{', ' ']) && rest.contains(label)).then(|| rest.rsplit(' ').next())?
    });
    let mut sum = 0.0;
    for value in values {
        sum += value.parse::<f64>().with_context(|| counter.to_owned())?;
    }
    // A count; an exposition may write large ones as 1e+06.
    format!("{sum:.0}")
        .parse()
        .with_context(|| counter.to_owned())
}
