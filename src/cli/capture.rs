//! `hubgate capture`: stores the next refused requests of a spoke, as they are refused.
//!
//! Each request becomes a file of its own, which only its owner may read: what is in it belongs to the team
//! of the spoke. With `--out -` the requests go to stdout, for `hubgate inspect -`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use bytesize::ByteSize;
use http::Uri;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::time::timeout;

use crate::capture::bounds::{self, Bound};
use crate::printable::clean;

use super::access::Access;
use super::admin_port::{AdminPort, path_segment};

/// hubgate sends something each second while a capture goes on.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest line, in bytes: the largest body in base64, and what is said of it.
const LINE_BYTES_MAX: usize = 48 << 20;

/// The last second of the year 9999, since the Unix epoch; there RFC 3339 ends.
const RFC_3339_END_SECONDS: u64 = 253_402_300_799;

/// The exit code when nothing could be captured, or not to the end.
const EXIT_TROUBLE: u8 = 2;

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
    /// Only requests of which something is refused for this reason, whatever their status; may be given
    /// more than once. Without it, all with a status 4xx
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
    let mut admin = AdminPort::new(&args.admin, &args.access)?;
    let body = admin.open(&path(args)).await?;
    let mut lines = Lines::new(body);
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    loop {
        let line = tokio::select! {
            biased;
            // There may always be a line.
            interrupted = &mut interrupt => {
                interrupted.context("wait for Ctrl-C")?;
                store.say(&format!("interrupted after {} requests", store.stored));
                return Ok(store.stored);
            }
            line = lines.next() => line?,
        };
        let event: Event = serde_json::from_slice(&line).with_context(|| UNKNOWN)?;
        match event {
            Event::Begins(begins) => store.say(&begins.text(&args.spoke)),
            Event::Request(request) => match store.add(&request, &line) {
                // Whoever reads the output, such as `head`, has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(store.stored),
                added => added.context("store a request")?,
            },
            Event::Ended(ended) => {
                store.say(&format!(
                    "{} after {} requests",
                    ended.words(),
                    ended.requests
                ));
                return Ok(store.stored);
            }
        }
    }
}

const UNKNOWN: &str = "the answer is not that of a hubgate of this version";

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

/// A line of the answer. What a newer hubgate adds is passed over.
#[derive(Debug, Deserialize)]
#[serde(tag = "capture", rename_all = "lowercase")]
enum Event {
    Begins(Begins),
    Request(Request),
    Ended(Ended),
}

#[derive(Debug, Deserialize)]
struct Begins {
    requests: u64,
    end_timestamp_seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Request {
    timestamp_seconds: f64,
    spoke: String,
    status: u16,
    reasons: Vec<String>,
    protocol: Option<String>,
    source_address: String,
    user_agent: Option<String>,
    body_bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Ended {
    why: String,
    requests: u64,
}

impl Begins {
    fn text(&self, spoke: &str) -> String {
        let Self {
            requests,
            end_timestamp_seconds: end,
        } = self;
        let end = humantime::format_rfc3339_seconds(time(*end));
        format!(
            "waiting for refused requests of {}: {requests} at most, until {end}; Ctrl-C ends it",
            clean(spoke)
        )
    }
}

impl Ended {
    fn words(&self) -> String {
        match self.why.as_str() {
            "requests" => "all are there",
            "bytes" => "the bodies reached the size",
            "time" => "the time is over",
            "revoked" => "the credential is no longer valid, or the spoke is gone",
            "shutdown" => "hubgate shuts down",
            why => return format!("ended ({})", clean(why)),
        }
        .to_owned()
    }
}

/// Where requests go.
struct Store<'s> {
    /// `None` for stdout.
    folder: Option<&'s Path>,
    stored: u64,
}

impl<'s> Store<'s> {
    fn new(out: &'s Path) -> anyhow::Result<Self> {
        let folder = (out != Path::new("-")).then_some(out);
        if let Some(folder) = folder {
            ensure!(folder.is_dir(), "{} is no folder", folder.display());
        }
        Ok(Self { folder, stored: 0 })
    }

    /// Stores a request, and says where.
    fn add(&mut self, request: &Request, line: &[u8]) -> io::Result<()> {
        let place = match self.folder {
            None => {
                let mut out = io::stdout().lock();
                out.write_all(line)?;
                out.write_all(b"\n")?;
                out.flush()?;
                None
            }
            Some(folder) => Some(write_file(folder, request, line)?),
        };
        self.stored += 1;
        if let Some(place) = place {
            let none = "-".to_owned();
            let or_none = |text: &Option<String>| text.as_deref().map_or(none.clone(), clean);
            let mut out = io::stdout().lock();
            writeln!(
                out,
                "{}  {} {}  {}, {}  {}  {}",
                place.display(),
                request.status,
                clean(&request.reasons.join(",")),
                or_none(&request.protocol),
                ByteSize(request.body_bytes),
                clean(&request.source_address),
                or_none(&request.user_agent),
            )?;
            out.flush()?;
        }
        Ok(())
    }

    /// Says something to whoever waits.
    fn say(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// Writes a line to a new file, which only its owner may read.
fn write_file(folder: &Path, request: &Request, line: &[u8]) -> io::Result<PathBuf> {
    let safe = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let spoke = request.spoke.replace(|letter| !safe(letter), "_");
    let time = humantime::format_rfc3339_millis(time(request.timestamp_seconds)).to_string();
    let time = time.replace([':', '-'], "");
    for number in 0..=u16::MAX {
        let number = match number {
            0 => String::new(),
            more => format!("-{more}"),
        };
        let path = folder.join(format!("hubgate-{spoke}-{time}{number}.json"));
        let mut options = OpenOptions::new();
        // A file, or a link, of this name may be somebody else's.
        options.write(true).create_new(true).mode(0o600);
        match options.open(&path) {
            Ok(mut file) => {
                let written = file.write_all(line).and_then(|()| file.write_all(b"\n"));
                if let Err(error) = written {
                    // A part of a request would be taken for one that is malformed.
                    let _ = fs::remove_file(&path);
                    return Err(of_file(&path, &error));
                }
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(of_file(&path, &error)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn of_file(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A time that a server names, as far as it can be printed.
fn time(seconds: f64) -> SystemTime {
    let since = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    UNIX_EPOCH + since.min(Duration::from_secs(RFC_3339_END_SECONDS))
}

/// The lines of a body that goes on.
struct Lines {
    body: Incoming,
    /// What came after the last line.
    rest: Vec<u8>,
    /// How much of it has no end of a line.
    searched: usize,
}

impl Lines {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            rest: Vec::new(),
            searched: 0,
        }
    }

    /// The next line that is not empty. May be dropped in between.
    async fn next(&mut self) -> anyhow::Result<Vec<u8>> {
        loop {
            let unseen = &self.rest[self.searched..];
            if let Some(end) = memchr::memchr(b'\n', unseen) {
                let after = self.rest.split_off(self.searched + end + 1);
                let mut line = std::mem::replace(&mut self.rest, after);
                self.searched = 0;
                line.pop();
                if line.is_empty() {
                    continue;
                }
                return Ok(line);
            }
            self.searched = self.rest.len();
            if self.searched > LINE_BYTES_MAX {
                bail!(UNKNOWN);
            }
            let frame = timeout(SILENCE_TIMEOUT, self.body.frame()).await;
            let frame = frame.context("hubgate does not answer any more")?;
            let frame = frame
                .context("hubgate broke off")?
                .context("hubgate broke off")?;
            if let Ok(data) = frame.into_data() {
                self.rest.extend_from_slice(&data);
            }
        }
    }
}
