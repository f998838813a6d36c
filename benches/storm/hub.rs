//! A hub that takes only so many samples a second, and knows of each sample whether it has it.
//!
//! It is the program of the bench in another process. A request has a worker for as long as its samples
//! take at that pace; others wait for one, so the hub becomes slower with each further request. What it
//! has begun it finishes, also if the gate leaves, so a request that the gate gives up too early shows
//! as samples that came twice.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::StatusCode;
use hubgate::load::drive::unix_ms;
use hubgate::load::scrape;
use hubgate::remote_write::WRITE_PATH;
use hubgate::wire::snappy;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use crate::message;
use crate::plan::{Group, HubPlan, Sample};
use crate::process::Process;

/// The limit of Prometheus.
const BYTES_MAX: usize = 32 << 20;

const LISTENS: &str = "the hub listens";
const TOTALS_PATH: &str = "/totals";

/// A higher lateness counts as this one.
const LATENESS_MAX: Duration = Duration::from_secs(3600);

/// What a hub has taken.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Different samples of the spokes with a backlog, and of those without.
    pub(crate) storm: u64,
    pub(crate) quiet: u64,
    /// Samples that came again.
    pub(crate) repeated: u64,
    /// Samples that came after a newer one of their series.
    pub(crate) unordered: u64,
    /// Samples that nobody was to send.
    pub(crate) foreign: u64,
    /// The time from when a quiet sample was due until it was taken, of those due since the hub is
    /// there, in seconds.
    pub(crate) lateness: Lateness,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Lateness {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// A running hub.
pub(crate) struct Hub {
    process: Process,
    plan: HubPlan,
}

impl Hub {
    /// Starts a hub at an address that a gate may have tried before.
    pub(crate) async fn start(plan: HubPlan) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find the bench's own program")?;
        let mut command = Command::new(program);
        command.args(["--hub", &serde_json::to_string(&plan)?]);
        let process = Process::start("the hub", command)?;
        process.logged(LISTENS).await?;
        Ok(Self { process, plan })
    }

    pub(crate) async fn totals(&self) -> anyhow::Result<Totals> {
        let page = scrape::get(self.plan.address, TOTALS_PATH).await?;
        Ok(serde_json::from_slice(&page.body)?)
    }

    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.process.end().await
    }
}

/// Runs as a hub until stdin is closed.
pub(crate) async fn serve(plan: &str) -> anyhow::Result<ExitCode> {
    let plan: HubPlan = serde_json::from_str(plan)?;
    let listener = TcpListener::bind(plan.address).await?;
    let store = Store::new(plan)?;
    writeln!(io::stderr(), "{LISTENS}")?;
    let router = Router::new()
        .route(TOTALS_PATH, get(totals))
        .route(WRITE_PATH, post(write))
        .layer(DefaultBodyLimit::max(BYTES_MAX))
        .with_state(Arc::new(store));
    let mut stdin = tokio::io::stdin();
    tokio::select! {
        outcome = axum::serve(listener, router) => outcome?,
        // The end of the bench closes stdin.
        _ = stdin.read_u8() => {}
    }
    Ok(ExitCode::SUCCESS)
}

struct Store {
    workers: Semaphore,
    /// How long a worker takes for a sample.
    sample_time: Duration,
    began_ms: i64,
    books: Mutex<Books>,
}

/// What is known of the samples.
struct Books {
    storm: Book,
    quiet: Book,
    totals: Totals,
    lateness_ms: Histogram<u64>,
}

/// What is known of the samples of a group.
struct Book {
    group: Group,
    /// A bit for each sample.
    taken: Vec<u64>,
    /// For each series, the number after that of the newest scrape.
    next: Vec<usize>,
}

impl Store {
    fn new(plan: HubPlan) -> anyhow::Result<Self> {
        let most = u64::try_from(LATENESS_MAX.as_millis())?;
        Ok(Self {
            workers: Semaphore::new(plan.workers.try_into()?),
            sample_time: Duration::from_secs(plan.workers.into()) / plan.samples_per_second,
            began_ms: unix_ms(),
            books: Mutex::new(Books {
                storm: Book::new(plan.storm),
                quiet: Book::new(plan.quiet),
                totals: Totals::default(),
                lateness_ms: Histogram::new_with_bounds(1, most, 3)?,
            }),
        })
    }

    async fn take(&self, body: Bytes) -> anyhow::Result<()> {
        let _worker = self.workers.acquire().await?;
        let began = Instant::now();
        let mut buffer = Vec::new();
        let samples = message::samples(snappy::decompress(&body, BYTES_MAX, &mut buffer)?)?;
        let time = self.sample_time * u32::try_from(samples.len())?;
        sleep_until(began + time).await;
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = unix_ms();
        for sample in samples {
            books.enter(&sample, self.began_ms, now_ms);
        }
        Ok(())
    }
}

impl Books {
    fn enter(&mut self, sample: &Sample, began_ms: i64, now_ms: i64) {
        let Self {
            storm,
            quiet,
            totals,
            lateness_ms,
        } = self;
        let is_quiet = sample.spoke >= quiet.group.first;
        let (book, count) = if is_quiet {
            (quiet, &mut totals.quiet)
        } else {
            (storm, &mut totals.storm)
        };
        let Some((series, scrape)) = book.group.place(sample) else {
            totals.foreign += 1;
            return;
        };
        let at = series * book.group.scrapes + scrape;
        let (word, bit) = (&mut book.taken[at / 64], 1 << (at % 64));
        if *word & bit != 0 {
            totals.repeated += 1;
            return;
        }
        *word |= bit;
        *count += 1;
        totals.unordered += u64::from(scrape < book.next[series]);
        book.next[series] = book.next[series].max(scrape + 1);
        if is_quiet && sample.time_ms >= began_ms {
            let lateness = u64::try_from(now_ms - sample.time_ms).unwrap_or(0);
            lateness_ms.saturating_record(lateness);
        }
    }
}

impl Book {
    fn new(group: Group) -> Self {
        Self {
            group,
            taken: vec![0; group.samples().div_ceil(64)],
            next: vec![0; group.all_series()],
        }
    }
}

async fn totals(State(store): State<Arc<Store>>) -> Json<Totals> {
    let books = store.books.lock().unwrap_or_else(PoisonError::into_inner);
    let seconds = |quantile| books.lateness_ms.value_at_quantile(quantile) as f64 / 1e3;
    Json(Totals {
        lateness: Lateness {
            p50: seconds(0.5),
            p99: seconds(0.99),
            max: seconds(1.0),
        },
        ..books.totals.clone()
    })
}

async fn write(State(store): State<Arc<Store>>, body: Bytes) -> Response {
    // A task of its own goes on when the gate leaves.
    match tokio::spawn(async move { store.take(body).await }).await {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(error)) => (StatusCode::BAD_REQUEST, format!("{error:#}")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
