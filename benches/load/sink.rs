//! A hub that only counts samples. It is the program of the bench in another process, so that its
//! CPU time is in no figure.
//!
//! It decompresses a message and walks just far enough to count what the series carry. That finds
//! samples that a subject lost or damaged, and leaves most of a small machine to the subject.

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use hubgate::load::scrape;
use hubgate::remote_write::{self, WRITE_PATH};
use hubgate::wire::protobuf::Reader;
use hubgate::wire::{Counts, Kind, Malformed, Protocol, snappy};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::process::Process;

/// The limit of Prometheus.
const BYTES_MAX: usize = 32 << 20;

const LISTENS: &str = "the sink listens on ";
const TOTALS_PATH: &str = "/totals";

/// What a sink has received.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Requests with a response of 2xx, empty ones and those of an unknown version included.
    pub(crate) requests: u64,
    /// Float samples and native histograms.
    pub(crate) samples: u64,
}

/// How a sink differs from one that counts what it gets and responds at once.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Manner {
    /// What the sink takes for each request at least
    #[arg(long, hide = true, default_value = "0s", value_parser = humantime::parse_duration)]
    pub(crate) sink_time: Duration,
    /// The sink does not count what is in longer messages, in bytes
    #[arg(long, hide = true, default_value_t = BYTES_MAX)]
    pub(crate) sink_counts_up_to: usize,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            sink_time: Duration::ZERO,
            sink_counts_up_to: BYTES_MAX,
        }
    }
}

/// A running sink.
pub(crate) struct Sink {
    process: Process,
    address: SocketAddr,
}

impl Sink {
    /// Starts a sink whose newest version is `protocol`.
    pub(crate) async fn start(protocol: Protocol, manner: Manner) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find the bench's own program")?;
        let mut command = Command::new(program);
        let time = humantime::format_duration(manner.sink_time);
        command
            .args(["--sink", protocol.name()])
            .args(["--sink-time", &time.to_string()])
            .args(["--sink-counts-up-to", &manner.sink_counts_up_to.to_string()]);
        let process = Process::start("the sink", command)?;
        let line = process.logged(LISTENS).await?;
        let address = line.trim_start_matches(LISTENS).parse()?;
        Ok(Self { process, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for remote writes.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{WRITE_PATH}", self.address)
    }

    /// Waits until the sink has at least so many samples, and returns its totals.
    pub(crate) async fn totals(&self, at_least: u64) -> anyhow::Result<Totals> {
        let page = scrape::get(self.address, &format!("{TOTALS_PATH}/{at_least}")).await?;
        Ok(serde_json::from_slice(&page.body)?)
    }

    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.process.end().await
    }
}

/// Runs as a sink until stdin is closed.
pub(crate) async fn serve(protocol: Protocol, manner: Manner) -> anyhow::Result<ExitCode> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    writeln!(io::stderr(), "{LISTENS}{}", listener.local_addr()?)?;
    let counter = Arc::new(Counter {
        speaks_v2: protocol == Protocol::V2,
        manner,
        totals: watch::Sender::default(),
    });
    let router = Router::new()
        .route(&format!("{TOTALS_PATH}/{{at_least}}"), get(totals))
        .fallback(write)
        .layer(DefaultBodyLimit::max(BYTES_MAX))
        .with_state(counter);
    let mut stdin = tokio::io::stdin();
    tokio::select! {
        outcome = axum::serve(listener, router) => outcome?,
        // The end of the bench closes stdin.
        _ = stdin.read_u8() => {}
    }
    Ok(ExitCode::SUCCESS)
}

struct Counter {
    speaks_v2: bool,
    manner: Manner,
    totals: watch::Sender<Totals>,
}

/// Responds once there are at least so many samples.
async fn totals(State(counter): State<Arc<Counter>>, Path(at_least): Path<u64>) -> Json<Totals> {
    let mut totals = counter.totals.subscribe();
    let enough = totals.wait_for(|totals| totals.samples >= at_least);
    Json(enough.await.map_or_else(|_| Totals::default(), |now| *now))
}

async fn write(State(counter): State<Arc<Counter>>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name| headers.get(name).map(http::HeaderValue::as_bytes);
    // vmagent tries zstd first and then snappy.
    if header(CONTENT_ENCODING) != Some(b"snappy") {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let v2 = header(CONTENT_TYPE) == Some(remote_write::content_type(Protocol::V2).as_bytes());
    let protocol = if v2 { Protocol::V2 } else { Protocol::V1 };
    // A hub that knows only V1 skips all fields of a V2 message and responds as if it were stored.
    let understood = !v2 || counter.speaks_v2;
    let Manner {
        sink_time,
        sink_counts_up_to,
    } = counter.manner;
    let counted = match body.len() <= sink_counts_up_to {
        true => count(protocol, &body),
        false => Ok(Counts::default()),
    };
    let written = match counted {
        Ok(written) if understood => written,
        Ok(_) => Counts::default(),
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error:#}")).into_response(),
    };
    if !sink_time.is_zero() {
        sleep(sink_time).await;
    }
    counter.totals.send_modify(|totals| {
        totals.requests += 1;
        totals.samples += written.samples();
    });
    if !(v2 && understood) {
        return StatusCode::NO_CONTENT.into_response();
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    remote_write::insert_written(response.headers_mut(), &written);
    response
}

fn count(protocol: Protocol, body: &[u8]) -> anyhow::Result<Counts> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    BUFFER.with_borrow_mut(|buffer| {
        let message = snappy::decompress(body, BYTES_MAX, buffer)?;
        Ok(carried(protocol, message)?)
    })
}

/// Counts what all series carry.
fn carried(protocol: Protocol, message: &[u8]) -> Result<Counts, Malformed> {
    const SAMPLES: u32 = 2;
    let (timeseries, histograms, exemplars) = match protocol {
        Protocol::V1 => (1, 4, 3),
        Protocol::V2 => (5, 3, 4),
    };
    let mut counts = Counts::default();
    let mut message = Reader::new(message);
    while let Some((field, wire_type)) = message.key()? {
        if field != timeseries {
            message.skip(wire_type)?;
            continue;
        }
        let mut series = Reader::new(message.bytes()?);
        while let Some((field, wire_type)) = series.key()? {
            let kind = match field {
                SAMPLES => Some(Kind::Float),
                field if field == histograms => Some(Kind::Histogram),
                field if field == exemplars => Some(Kind::Exemplar),
                _ => None,
            };
            if let Some(kind) = kind {
                counts.add(kind, 1);
            }
            series.skip(wire_type)?;
        }
    }
    Ok(counts)
}
