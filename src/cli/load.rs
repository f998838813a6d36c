//! The flags of `hubgate load`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use http::Uri;

use crate::load::client::Server;
use crate::load::shape::{Extra, LABELS_MIN, Mix, Shape};
use crate::load::{self, BODIES_PER_CONNECTION, Plan};
use crate::wire::Protocol;

use super::access::Access;

/// Labels of a uniform series unless told otherwise.
const LABELS: usize = 14;

/// Flags of `hubgate load`.
#[derive(Debug, clap::Args)]
pub(super) struct LoadArgs {
    /// Remote-write endpoint, such as http://127.0.0.1:9480/api/v1/write
    #[arg(long)]
    url: Uri,
    #[command(flatten)]
    access: Access,
    /// Remote-write message: v1 is prometheus.WriteRequest, v2 is io.prometheus.write.v2.Request
    #[arg(long, value_name = "v1|v2", default_value = "v1", value_parser = protocol)]
    protocol: Protocol,
    /// Series of a request, each with one sample
    #[arg(long, default_value_t = 2_000, value_parser = in_range::<1, 100_000>)]
    series_per_request: usize,
    /// Series: uniform ones have equally many short labels; cluster ones are like those of all targets
    /// of a cluster, with long labels among them
    #[arg(long, value_name = "uniform|cluster", default_value = "uniform", value_parser = mix)]
    mix: Mix,
    /// Labels of a uniform series, with metric name and cluster [default: 14]
    #[arg(long, value_parser = in_range::<LABELS_MIN, 64>)]
    labels: Option<usize>,
    /// Bytes of the value of one more label; without it, the series have no such label
    #[arg(long, value_name = "BYTES", value_parser = in_range::<1, 65_536>)]
    long_label_bytes: Option<usize>,
    /// Connections, each with one request in flight
    #[arg(long, default_value_t = 8, value_parser = in_range::<1, 1_024>)]
    connections: usize,
    /// Distinct bodies of a connection, sent in turn, each with series of its own
    #[arg(long, default_value_t = BODIES_PER_CONNECTION, value_parser = in_range::<1, 1_024>)]
    bodies_per_connection: usize,
    /// How long to send
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Samples per second of all connections; without it, each connection sends its next request
    /// after each response
    #[arg(long, value_name = "SAMPLES_PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Value of the cluster label; without it, the series have no such label
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
}

/// Runs `hubgate load`; fails unless requests were sent and every response was 2xx.
pub(super) fn run(args: &LoadArgs) -> ExitCode {
    super::exit_code("load", plan(args).and_then(load::run))
}

fn plan(args: &LoadArgs) -> anyhow::Result<Plan> {
    let mix = match (args.mix, args.labels) {
        (Mix::Uniform { .. }, Some(labels)) => Mix::Uniform { labels },
        (mix, None) => mix,
        (Mix::Cluster, Some(_)) => bail!("--labels is only for --mix uniform"),
    };
    Ok(Plan {
        server: Server::new(&args.url, args.access.tls(&args.url)?)?,
        path: args
            .url
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned(),
        authorization: args.access.authorization()?,
        shape: Shape {
            protocol: args.protocol,
            series_per_request: args.series_per_request,
            mix,
            extra: args.long_label_bytes.map(Extra::LongLabel),
            cluster: args.cluster.clone(),
        },
        connections: args.connections,
        bodies_per_connection: args.bodies_per_connection,
        duration: args.duration,
        samples_per_second: args.rate,
    })
}

fn protocol(text: &str) -> Result<Protocol, String> {
    [Protocol::V1, Protocol::V2]
        .into_iter()
        .find(|protocol| protocol.name() == text)
        .ok_or_else(|| "must be v1 or v2".to_owned())
}

fn mix(text: &str) -> Result<Mix, String> {
    match text {
        "uniform" => Ok(Mix::Uniform { labels: LABELS }),
        "cluster" => Ok(Mix::Cluster),
        _ => Err("must be uniform or cluster".to_owned()),
    }
}

fn in_range<const MIN: usize, const MAX: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (MIN..=MAX).contains(&number) => Ok(number),
        _ => Err(format!("must be a number from {MIN} to {MAX}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (1.0..=1e9).contains(&rate) => Ok(rate),
        _ => Err("must be a number from 1 to 1e9".to_owned()),
    }
}
