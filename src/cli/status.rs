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

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::ValueEnum;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Full;
use serde::de::DeserializeOwned;

use crate::load::client::{Client, Server};

use super::access::Access;
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
    let mut api = Api::new(args)?;
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

async fn all(api: &mut Api, output: Output, colour: bool) -> anyhow::Result<(String, bool)> {
    let json = api.ask("/api/v1/spokes").await?;
    let spokes: Spokes = parse(&json)?;
    let status: Status = parse(&api.ask("/api/v1/status").await?)?;
    let fine = spokes.spokes.iter().all(|spoke| writes(spoke, &status));
    if output == Output::Json {
        return Ok((String::from_utf8_lossy(&json).into_owned(), fine));
    }
    let mut text = table::clean(&status.summary) + "\n";
    for error in &status.configuration.errors {
        writeln!(
            text,
            "The new configuration is not valid: {}",
            table::clean(&error.to_string())
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
    api: &mut Api,
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

/// A name as a segment of a path (RFC 3986, section 3.3).
fn path_segment(name: &str) -> String {
    let mut segment = String::new();
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                segment.push(byte.into());
            }
            _ => segment += &format!("%{byte:02X}"),
        }
    }
    segment
}

/// The API of a hubgate.
struct Api {
    client: Client,
    admin: Uri,
    authorization: Option<HeaderValue>,
}

impl Api {
    fn new(args: &StatusArgs) -> anyhow::Result<Self> {
        let server = Server::new(&args.admin, args.access.tls(&args.admin)?)?;
        Ok(Self {
            client: Client::new(server),
            admin: args.admin.clone(),
            authorization: args.access.authorization()?,
        })
    }

    async fn ask(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let path = format!("{}{path}", self.admin.path().trim_end_matches('/'));
        let mut request = Request::get(path)
            .body(Full::default())
            .context("build the request")?;
        if let Some(authorization) = &self.authorization {
            request
                .headers_mut()
                .insert(AUTHORIZATION, authorization.clone());
        }
        let response = self.client.send(request).await;
        let response = response.with_context(|| format!("{} cannot be asked", self.admin))?;
        match response.status {
            StatusCode::OK => Ok(response.body),
            StatusCode::UNAUTHORIZED => bail!(
                "{}: {}; set --token-file, or --username and --password-file",
                self.admin,
                table::clean(&response.text())
            ),
            status => bail!(
                "{}: {status}: {}",
                self.admin,
                table::clean(&response.text())
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::path_segment;

    #[test]
    fn a_name_is_one_segment_of_a_path() {
        assert_eq!(path_segment("eu-1.prod_a~b"), "eu-1.prod_a~b");
        assert_eq!(path_segment("a/b c?#%é"), "a%2Fb%20c%3F%23%25%C3%A9");
    }
}
