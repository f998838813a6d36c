//! `hubgate status`: how the spokes of a running hubgate are, in a terminal or for a script.
//!
//! It shows what the status page shows, from the same API. The exit code is 0 if something of each spoke was
//! written in the last five minutes, or hubgate has not run for as long; 1 otherwise, and 2 if hubgate cannot
//! be asked.

mod answers;
mod table;

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use http::Uri;
use serde::de::DeserializeOwned;

use super::access::Access;
use super::admin_port::{AdminPort, path_segment};
use super::printable::clean;
use answers::{Spoke, Spokes, Status};

/// The time between two answers of `--watch`.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long a spoke may write nothing, in seconds, as for its condition.
const SILENT_SECONDS: f64 = 300.0;

/// The exit code when hubgate cannot be asked.
const EXIT_UNKNOWN: u8 = 2;

/// Clears the screen and puts the cursor to its beginning (ECMA-48).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Flags of `hubgate status`.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Show this spoke alone, with what was refused and why
    spoke: Option<String>,
    /// URL of the admin port
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9481")]
    admin: Uri,
    /// Ask again every 5 seconds
    #[arg(long, short)]
    watch: bool,
    /// What is printed: a table, one with the senders, or the JSON of the API
    #[arg(
        long,
        short,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    output: Output,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Wide,
    Json,
}

/// Runs `hubgate status`.
pub(super) fn run(args: &StatusArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let shown = runtime
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(show(args)));
    match shown {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hubgate status: {error:#}");
            EXIT_UNKNOWN.into()
        }
    }
}

/// Prints the status, once or again and again. Returns whether all spokes write.
async fn show(args: &StatusArgs) -> anyhow::Result<bool> {
    let mut api = AdminPort::new(&args.admin, &args.access)?;
    let terminal = io::stdout().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    loop {
        let shown = match &args.spoke {
            Some(name) => one(&mut api, name, args.output, colour).await,
            None => all(&mut api, args.output, colour).await,
        };
        let (text, fine) = match shown {
            // It may be back soon.
            Err(error) if args.watch => (format!("{error:#}\n"), false),
            shown => shown?,
        };
        let text = if args.watch && terminal {
            CLEAR.to_owned() + &text
        } else {
            text
        };
        let mut out = io::stdout().lock();
        let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        drop(out);
        match printed {
            // Whoever reads the output, such as `head`, has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(fine),
            printed => printed.context("print the status")?,
        }
        if !args.watch {
            return Ok(fine);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn all(api: &mut AdminPort, output: Output, colour: bool) -> anyhow::Result<(String, bool)> {
    let json = api.ask("/api/v1/spokes").await?;
    let spokes: Spokes = parse(&json)?;
    let status: Status = parse(&api.ask("/api/v1/status").await?)?;
    let fine = spokes.spokes.iter().all(|spoke| writes(spoke, &status));
    if output == Output::Json {
        return Ok((String::from_utf8_lossy(&json).into_owned(), fine));
    }
    let mut text = clean(&status.summary) + "\n";
    for error in &status.configuration.errors {
        writeln!(
            text,
            "The new configuration is not valid: {}",
            clean(&error.to_string())
        )?;
    }
    if !spokes.spokes.is_empty() {
        text.push('\n');
        text += &table::spokes(
            &spokes.spokes,
            status.timestamp_seconds,
            output == Output::Wide,
            colour,
        );
    }
    Ok((text, fine))
}

async fn one(
    api: &mut AdminPort,
    name: &str,
    output: Output,
    colour: bool,
) -> anyhow::Result<(String, bool)> {
    let json = api
        .ask(&format!("/api/v1/spokes/{}", path_segment(name)))
        .await?;
    let spoke: Spoke = parse(&json)?;
    let status: Status = parse(&api.ask("/api/v1/status").await?)?;
    let fine = writes(&spoke, &status);
    if output == Output::Json {
        return Ok((String::from_utf8_lossy(&json).into_owned(), fine));
    }
    let reasons: answers::Reasons = parse(&api.ask("/api/v1/reasons").await?)?;
    let text = table::spoke(&spoke, &reasons, status.timestamp_seconds, colour);
    Ok((text, fine))
}

/// Whether something of a spoke was written lately, as far as hubgate can know.
fn writes(spoke: &Spoke, status: &Status) -> bool {
    let now = status.timestamp_seconds;
    let last = spoke.last_write_timestamp_seconds;
    now - last.unwrap_or(status.start_timestamp_seconds) <= SILENT_SECONDS
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(json).context("the answer is not that of a hubgate of this version")
}
