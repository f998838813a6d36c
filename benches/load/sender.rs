//! The process that sends a load: the program of the bench, with `--send`.
//!
//! The first line of stdin is the load. When its bodies are made, it prints a line. Each further line
//! is a number of milliseconds for which it sends, and then it prints the outcome.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use http::Uri;
use hubgate::load::client::{self, Server};
use hubgate::load::drive::Load as Ready;
use hubgate::load::shape::{self, Shape};
use hubgate::load::tally::Tally;
use hubgate::load::{Plan, Progress};
use hubgate::tls::{Authorities, ClientTls};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::captured;
use crate::driver::{Load, Outcome};
use crate::traffic::Mix;

/// Labels of a uniform series.
const LABELS: usize = 14;

/// Sends until stdin is closed. Blocks.
pub(crate) fn serve() -> anyhow::Result<ExitCode> {
    raise_open_files()?;
    let mut lines = io::stdin().lines();
    let load: Load = serde_json::from_str(&lines.next().context("no load")??)?;
    let plans = plans(&load)?;
    let progress = Progress::default();
    let ready = plans.iter().map(|plan| make_bodies(&load, plan, &progress));
    let mut ready = ready.collect::<anyhow::Result<Vec<_>>>()?;
    answer("ready")?;
    for line in lines {
        let duration = Duration::from_millis(line?.parse()?);
        let (tally, duration) = send(&mut ready, duration)?;
        let outcome = Outcome {
            summary: tally.summary(duration),
            is_clean: tally.is_clean(),
            first_failure: tally.first_failure,
        };
        answer(&serde_json::to_string(&outcome)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Each connection needs a few files beside its socket.
fn raise_open_files() -> anyhow::Result<()> {
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.maximum;
    setrlimit(Resource::Nofile, limits).context("raise the limit of open files")
}

fn answer(line: &str) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{line}")?;
    Ok(io::stdout().flush()?)
}

/// A plan for each spoke, with its share of the connections.
fn plans(load: &Load) -> anyhow::Result<Vec<Plan>> {
    let spokes = load.spokes.iter().enumerate();
    let plans = spokes.map(|(number, spoke)| {
        let connections = (load.connections + number) / load.spokes.len();
        Ok(Plan {
            server: server(load)?,
            path: hubgate::remote_write::WRITE_PATH.to_owned(),
            authorization: Some(client::bearer(&spoke.token)?),
            shape: Shape {
                protocol: load.protocol,
                series_per_request: load.body.series.try_into()?,
                mix: match load.body.mix {
                    Mix::Uniform => shape::Mix::Uniform { labels: LABELS },
                    Mix::Cluster | Mix::Captured => shape::Mix::Cluster,
                },
                extra: load.body.extra,
                cluster: load.cluster.then(|| spoke.name.clone()),
            },
            connections,
            bodies_per_connection: load.bodies_per_connection,
            duration: Duration::ZERO,
            samples_per_second: load.rate.map(|rate| rate / load.spokes.len() as f64),
        })
    });
    plans.collect()
}

fn server(load: &Load) -> anyhow::Result<Server> {
    let url: Uri = load.url.parse()?;
    let tls = match &load.ca_file {
        None => None,
        Some(file) => {
            let authorities = Authorities::from_pem(&std::fs::read(file)?)?;
            Some(ClientTls::new(&authorities, None)?)
        }
    };
    Server::new(&url, tls)
}

fn make_bodies<'p>(
    load: &Load,
    plan: &'p Plan,
    progress: &'p Progress,
) -> anyhow::Result<Ready<'p>> {
    match load.body.mix {
        Mix::Uniform | Mix::Cluster => Ready::new(plan, progress),
        Mix::Captured => Ready::with_bodies(plan, progress, |number| {
            captured::body(plan.shape.protocol, number)
        }),
    }
}

/// Sends the loads of all spokes at the same time.
fn send(loads: &mut [Ready<'_>], duration: Duration) -> anyhow::Result<(Tally, Duration)> {
    thread::scope(|scope| {
        let threads = loads.iter_mut();
        let threads = threads.map(|load| scope.spawn(move || load.drive_for(duration)));
        let threads: Vec<_> = threads.collect();
        let (mut sum, mut longest) = (Tally::default(), Duration::ZERO);
        for thread in threads {
            let outcome = thread.join().map_err(|_| anyhow!("a load panicked"))?;
            let (tally, duration) = outcome?;
            sum.add(&tally);
            longest = longest.max(duration);
        }
        Ok((sum, longest))
    })
}
