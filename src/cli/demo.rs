//! The flags of `hubgate demo`.

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::demo::{self, Options, PrometheusPath};

/// Flags of `hubgate demo`.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Stay up after the checks, until Ctrl-C
    #[arg(long)]
    stay: bool,
    /// Use real Prometheus servers as hub and spokes: the path of the program, or auto to search PATH
    #[arg(long, value_name = "PATH|auto", value_parser = prometheus_path)]
    prometheus: Option<PrometheusPath>,
}

/// Runs `hubgate demo`; fails unless every check held.
pub(super) fn run(args: DemoArgs) -> ExitCode {
    let options = Options {
        stay: args.stay,
        prometheus: args.prometheus,
    };
    super::exit_code("demo", demo::run(&options))
}

fn prometheus_path(text: &str) -> Result<PrometheusPath, Infallible> {
    Ok(match text {
        "auto" => PrometheusPath::Search,
        path => PrometheusPath::At(PathBuf::from(path)),
    })
}
