//! `hubgate status`: how the spokes of a running hubgate are, in a terminal or for a script.
//!
//! It shows what the status page shows, from the same API, of one hubgate or of several replicas together. The
//! exit code is 0 if something of each spoke was written in the last five minutes, or hubgate has not run for
//! as long; 1 otherwise, and 2 if a hubgate cannot be asked.

mod answers;
mod describe;
mod door;
mod fleet;
mod table;
mod wrap;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::ValueEnum;
use futures_util::future::join_all;
use http::Uri;
use rustix::termios::tcgetwinsize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::printable::{self, clean};

use super::access::Access;
use super::admin_port::{AdminPort, path_segment};
use answers::{Reasons, Spoke, Spokes};
use fleet::Told;

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
    /// URL of the admin port; of several replicas if given more than once, which are shown as one
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9481")]
    admin: Vec<Uri>,
    /// Ask again every 5 seconds
    #[arg(long, short)]
    watch: bool,
    /// What is printed: a table, one with more columns, or the JSON of the API
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

/// Whether all spokes write, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    AllWrite,
    SomeDoNot,
    /// Not every hubgate could be asked.
    Unknown,
}

impl From<Finding> for ExitCode {
    fn from(finding: Finding) -> Self {
        match finding {
            Finding::AllWrite => Self::SUCCESS,
            Finding::SomeDoNot => Self::FAILURE,
            Finding::Unknown => EXIT_UNKNOWN.into(),
        }
    }
}

/// Runs `hubgate status`.
pub(super) fn run(args: &StatusArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let shown = runtime
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(show(args)));
    shown.map_or_else(
        |error| {
            let error = clean(&format!("{error:#}"));
            let _ = writeln!(io::stderr(), "hubgate status: {error}");
            EXIT_UNKNOWN.into()
        },
        ExitCode::from,
    )
}

/// Prints the status, once or again and again.
async fn show(args: &StatusArgs) -> anyhow::Result<Finding> {
    // What a replica says counts once.
    let mut urls: Vec<&Uri> = Vec::new();
    for url in &args.admin {
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    let authorization = args.access.authorization()?;
    let admins = urls.iter();
    let admins = admins.map(|url| AdminPort::new(url, &args.access, authorization.as_ref()));
    let mut admins = admins.collect::<anyhow::Result<Vec<_>>>()?;
    let terminal = io::stdout().is_terminal();
    loop {
        let (text, finding) = match ask_all(&mut admins, args, terminal).await {
            // It may be back soon.
            Err(error) if args.watch => (clean(&format!("{error:#}")) + "\n", Finding::Unknown),
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
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(finding),
            printed => printed.context("print the status")?,
        }
        if !args.watch {
            return Ok(finding);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What one replica answered.
struct Answer {
    told: Told,
    /// The answer of the API about the spokes, as it came.
    json: Bytes,
    /// Only where one spoke is shown.
    reasons: Option<Reasons>,
}

/// Asks all replicas, and returns what is to be printed. Fails if none can be asked.
async fn ask_all(
    admins: &mut [AdminPort],
    args: &StatusArgs,
    terminal: bool,
) -> anyhow::Result<(String, Finding)> {
    let spoke = args.spoke.as_deref();
    let urls: Vec<_> = admins.iter().map(|it| it.url().to_string()).collect();
    let asked = join_all(admins.iter_mut().map(|admin| ask(admin, spoke))).await;
    let (mut answers, mut troubles) = (Vec::new(), Vec::new());
    let replicas = urls.len();
    for (admin, answer) in urls.into_iter().zip(asked) {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(error) if replicas == 1 => return Err(error),
            Err(error) => troubles.push(Trouble {
                admin,
                error: format!("{error:#}"),
            }),
        }
    }
    if answers.is_empty() {
        let errors: Vec<_> = troubles.iter().map(|it| it.error.as_str()).collect();
        bail!("{}", errors.join("; "));
    }
    let jsons: Vec<_> = answers.iter().map(|it| it.json.clone()).collect();
    let reasons = answers.iter_mut().find_map(|it| it.reasons.take());
    let told: Vec<_> = answers.into_iter().map(|it| it.told).collect();
    let spokes = fleet::spokes(&told);
    let (now, started) = fleet::times(&told);
    let writes = |it: &Spoke| writes(it.last_write_timestamp_seconds, now, started);
    let finding = match spokes.iter().all(writes) {
        _ if !troubles.is_empty() => Finding::Unknown,
        true => Finding::AllWrite,
        false => Finding::SomeDoNot,
    };
    if args.output == Output::Json {
        let json = match &jsons[..] {
            [only] if replicas == 1 => printable::safe_json(&String::from_utf8_lossy(only)),
            _ => {
                let json = printable::json(&Fleet::new(&told, &troubles, &spokes))?;
                String::from_utf8(json)? + "\n"
            }
        };
        return Ok((json, finding));
    }
    let shown = Shown {
        wide: args.output == Output::Wide,
        replicas,
        told: &told,
        troubles: &troubles,
        spokes: &spokes,
        look: Look::new(terminal, now, started),
    };
    let text = match (&spokes[..], &reasons) {
        ([spoke], Some(reasons)) => shown.spoke(spoke, reasons),
        _ => shown.spokes(),
    };
    Ok((text, finding))
}

/// Whether a spoke writes, or may not have come yet since hubgate started.
fn writes(last: Option<f64>, now: f64, started: f64) -> bool {
    now - last.map_or(started, |it| it.max(started)) <= SILENT_SECONDS
}

/// What is shown in a terminal.
struct Shown<'s> {
    wide: bool,
    /// Those that were asked.
    replicas: usize,
    told: &'s [Told],
    troubles: &'s [Trouble],
    /// Those of all replicas together.
    spokes: &'s [Spoke],
    look: Look,
}

/// How it is shown, and as of when.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// The time of the newest answer, in seconds since the Unix epoch.
    now: f64,
    /// When the replica that started last did.
    started: f64,
    colour: bool,
    /// The columns of the terminal, if there is one.
    columns: Option<usize>,
}

impl Look {
    fn new(terminal: bool, now: f64, started: f64) -> Self {
        let size = terminal.then(|| tcgetwinsize(io::stdout()).ok());
        let columns = size.flatten().map(|it| usize::from(it.ws_col));
        Self {
            now,
            started,
            colour: terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()),
            // Some have no size.
            columns: columns.filter(|it| *it > 0),
        }
    }
}

impl Shown<'_> {
    fn spokes(&self) -> String {
        let mut text = match self.told {
            [only] if self.replicas == 1 => clean(&only.status.summary),
            _ => {
                let written = |it: &Spoke| it.last_write_timestamp_seconds;
                let writes = |it: &&Spoke| {
                    written(it).is_some_and(|last| self.look.now - last <= SILENT_SECONDS)
                };
                let writing = self.spokes.iter().filter(writes).count();
                fleet::summary(writing, self.spokes.len(), self.told.len())
            }
        };
        text.push('\n');
        text += &self.of_replicas();
        if !self.spokes.is_empty() {
            text.push('\n');
            text += &table::spokes(self.spokes, self.wide, &self.look);
        }
        if let Some(door) = door::text(self.told, &self.look) {
            text.push('\n');
            text += &door;
        }
        text
    }

    fn spoke(&self, spoke: &Spoke, reasons: &Reasons) -> String {
        let mut text = match self.replicas {
            1 => String::new(),
            _ => self.of_replicas(),
        };
        if !text.is_empty() {
            text.push('\n');
        }
        text + &describe::spoke(spoke, reasons, &self.look)
    }

    /// What there is to say of hubgate itself.
    fn of_replicas(&self) -> String {
        let mut lines: Vec<_> = self.troubles.iter().map(|it| it.error.clone()).collect();
        for Told { admin, status, .. } in self.told {
            let place = match self.replicas {
                1 => String::new(),
                _ => format!("{admin}: "),
            };
            for error in &status.configuration.errors {
                lines.push(format!(
                    "{place}The new configuration is not valid: {error}"
                ));
            }
        }
        lines.extend(fleet::ahead(self.told, self.replicas));
        lines.extend(fleet::differences(self.told, self.spokes));
        lines.iter().map(|line| clean(line) + "\n").collect()
    }
}

/// Asks one replica about its spokes, or about one of them.
async fn ask(admin: &mut AdminPort, spoke: Option<&str>) -> anyhow::Result<Answer> {
    let (json, spokes) = match spoke {
        None => {
            let json = admin.ask("/api/v1/spokes").await?;
            let Spokes { spokes } = parse(&json)?;
            (json, spokes)
        }
        Some(name) => {
            let path = format!("/api/v1/spokes/{}", path_segment(name));
            let json = admin.ask(&path).await?;
            let spoke: Spoke = parse(&json)?;
            (json, vec![spoke])
        }
    };
    let status = parse(&admin.ask("/api/v1/status").await?)?;
    let reasons = match spoke {
        Some(_) => Some(parse(&admin.ask("/api/v1/reasons").await?)?),
        None => None,
    };
    let told = Told {
        admin: admin.url().to_string(),
        status,
        spokes,
    };
    Ok(Answer {
        told,
        json,
        reasons,
    })
}

/// A replica that cannot be asked.
#[derive(Debug)]
struct Trouble {
    admin: String,
    /// Names the URL as well.
    error: String,
}

/// Several replicas in JSON. The spokes have the fields of `/api/v1/spokes`.
#[derive(Serialize)]
struct Fleet<'f> {
    replicas: Vec<Replica<'f>>,
    spokes: &'f [Spoke],
}

#[derive(Serialize)]
struct Replica<'f> {
    admin: &'f str,
    version: Option<&'f str>,
    /// Why it cannot be asked.
    error: Option<&'f str>,
}

impl<'f> Fleet<'f> {
    fn new(told: &'f [Told], troubles: &'f [Trouble], spokes: &'f [Spoke]) -> Self {
        let asked = told.iter().map(|it| Replica {
            admin: &it.admin,
            version: Some(&it.status.version),
            error: None,
        });
        let not_asked = troubles.iter().map(|it| Replica {
            admin: &it.admin,
            version: None,
            error: Some(&it.error),
        });
        Self {
            replicas: asked.chain(not_asked).collect(),
            spokes,
        }
    }
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(json).context("the answer is not that of a hubgate of this version")
}

#[cfg(test)]
mod tests {
    use super::writes;

    #[test]
    fn a_spoke_has_time_to_come_after_a_start() {
        for (last, started, expected) in [
            (Some(900.0), 0.0, true),
            (Some(600.0), 0.0, false),
            (None, 0.0, false),
            (None, 900.0, true),
            // It wrote through another replica, long before this one started.
            (Some(600.0), 900.0, true),
        ] {
            assert_eq!(
                writes(last, 1000.0, started),
                expected,
                "{last:?} {started}"
            );
        }
    }
}
