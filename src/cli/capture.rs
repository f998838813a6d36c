//! `hubgate capture`: stores the next refused requests of a spoke, as they are refused.
//!
//! Each request becomes a file of its own, which only its owner may read: what is in it belongs to the team
//! of the spoke. With `--out -` the requests go to stdout, for `hubgate inspect -`.

mod events;
mod store;
mod waiting;

use std::io::{self, Write};
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bytesize::ByteSize;
use http::{StatusCode, Uri};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep};

use crate::capture::bounds::{self, Bound};
use crate::printable::clean;
use crate::telemetry::words;

use super::access::Access;
use super::admin_port::{AdminPort, Refused, path_segment};
use events::{Event, Lines, UNKNOWN};
use store::Store;
use waiting::Watch;

/// The exit code when nothing could be captured, or not to the end.
const EXIT_TROUBLE: u8 = 2;

/// How long hubgate takes to notice that whoever captured has gone, and some more.
const NOTICED_WITHIN: Duration = Duration::from_secs(4);

/// The time between two attempts to begin.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

const NOTES: &str = "\
It needs one of admin.credentials with captures: allow, and is off where the configuration has none. hubgate keeps the bodies in \
memory until they are stored, 32 MiB of them at most, and one capture at a time. Ctrl-C ends it.

Exit codes: 0 if a request was captured, 1 if none was, 2 if hubgate could not be asked or fell silent, or a \
file could not be written.";

/// Flags of `hubgate capture`.
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub(super) struct CaptureArgs {
    /// The spoke whose refused requests are stored
    #[arg(long, value_name = "NAME")]
    spoke: String,
    /// Only requests of which something is refused for this reason, such as rate_limited, whatever their
    /// status; may be given more than once. Without it, all with a status 4xx, which the spoke does not send
    /// again
    #[arg(long, value_name = "REASON", value_parser = bounds::reason)]
    reason: Vec<&'static str>,
    /// End after so many requests, 1000 at most
    #[arg(
        long,
        value_name = "NUMBER",
        value_parser = requests,
        default_value_t = bounds::REQUESTS.default
    )]
    requests: usize,
    /// End after this time, an hour at most
    #[arg(
        long,
        value_parser = duration,
        default_value_t = Duration::from_secs(bounds::SECONDS.default as u64).into()
    )]
    duration: humantime::Duration,
    /// Cut each body to this size, 32MiB at most. What is cut cannot be inspected
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = |text: &str| size(text, &bounds::BODY_BYTES),
        default_value_t = ByteSize(bounds::BODY_BYTES.default as u64)
    )]
    body_bytes: ByteSize,
    /// End when the bodies have this size together, 1GiB at most
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = |text: &str| size(text, &bounds::BYTES),
        default_value_t = ByteSize(bounds::BYTES.default as u64)
    )]
    bytes: ByteSize,
    /// The folder for the files, or - to print the requests
    #[arg(long, value_name = "FOLDER|-", default_value = ".")]
    out: PathBuf,
    /// URL of the admin port
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9481")]
    admin: Uri,
    #[command(flatten)]
    access: Access,
}

fn requests(text: &str) -> Result<usize, String> {
    let bound = &bounds::REQUESTS;
    let number = text.parse().ok().filter(|it| bound.allows(*it));
    number.ok_or_else(|| format!("wanted a number from 1 to {}", bound.most))
}

/// hubgate counts in seconds.
fn duration(text: &str) -> Result<humantime::Duration, String> {
    let bound = &bounds::SECONDS;
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let whole = duration.subsec_nanos() == 0;
    let seconds = usize::try_from(duration.as_secs()).unwrap_or(usize::MAX);
    if whole && bound.allows(seconds) {
        return Ok(duration.into());
    }
    let most = humantime::Duration::from(Duration::from_secs(bound.most as u64));
    Err(format!("wanted whole seconds, from 1s to {most}"))
}

fn size(text: &str, bound: &Bound) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    let bytes = usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
    match bound.allows(bytes) {
        true => Ok(size),
        false => Err(format!("wanted 1 B to {}", ByteSize(bound.most as u64))),
    }
}

/// Runs `hubgate capture`.
pub(super) fn run(args: &CaptureArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let captured = runtime
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(capture(args)));
    match captured {
        Ok(1..) => ExitCode::SUCCESS,
        Ok(0) => ExitCode::FAILURE,
        Err(error) => {
            let error = clean(&format!("{error:#}"));
            let _ = writeln!(io::stderr(), "hubgate capture: {error}");
            EXIT_TROUBLE.into()
        }
    }
}

/// Captures until the end, and returns how many requests were stored.
async fn capture(args: &CaptureArgs) -> anyhow::Result<u64> {
    let mut store = Store::new(&args.out)?;
    let authorization = args.access.authorization()?;
    let connect = || AdminPort::new(&args.admin, &args.access, authorization.as_ref());
    let mut watch = Watch::begin(connect()?, &args.spoke).await?;
    let mut admin = connect()?;
    let body = open(&mut admin, &path(args)).await?;
    let end = store_all(args, &mut store, Lines::new(body)).await?;
    if let Some(end) = end {
        let requests = words::count(store.stored, "request");
        say(&format!("{end} after {requests}"));
        if let Some(missed) = watch.missed(&store.reasons).await {
            say(&missed);
        }
    }
    Ok(store.stored)
}

/// Begins, also if whoever captured before has just gone.
async fn open(admin: &mut AdminPort, path: &str) -> anyhow::Result<Incoming> {
    let taken = |error: &anyhow::Error| {
        let refused = error.downcast_ref::<Refused>();
        refused.is_some_and(|it| it.status == StatusCode::CONFLICT)
    };
    let patience = Instant::now() + NOTICED_WITHIN;
    loop {
        match admin.open(path).await {
            Err(error) if taken(&error) && Instant::now() < patience => sleep(AGAIN_AFTER).await,
            opened => return opened,
        }
    }
}

/// Stores all that comes, and returns why no more does. `None` if nobody wants more.
async fn store_all(
    args: &CaptureArgs,
    store: &mut Store<'_>,
    mut lines: Lines,
) -> anyhow::Result<Option<String>> {
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    loop {
        let line = tokio::select! {
            biased;
            // There may always be a line.
            interrupted = &mut interrupt => {
                interrupted.context("wait for Ctrl-C")?;
                return Ok(Some("interrupted".to_owned()));
            }
            line = lines.next() => line?,
        };
        let event: Event = serde_json::from_slice(&line).with_context(|| UNKNOWN)?;
        match event {
            Event::Begins(begins) => say(&waiting::text(&args.spoke, &args.reason, &begins)),
            Event::Request(request) => match store.add(&request, &line) {
                // Whoever reads the output, such as `head`, has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(None),
                added => added.context("store a request")?,
            },
            Event::Ended(ended) => return Ok(Some(ended.words())),
        }
    }
}

/// Says something to whoever waits.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn path(args: &CaptureArgs) -> String {
    let mut path = format!(
        "/api/v1/spokes/{}/capture?requests={}&seconds={}&body_bytes={}&bytes={}",
        path_segment(&args.spoke),
        args.requests,
        args.duration.as_secs(),
        args.body_bytes.as_u64(),
        args.bytes.as_u64()
    );
    for reason in &args.reason {
        path += "&reason=";
        path += &path_segment(reason);
    }
    path
}
