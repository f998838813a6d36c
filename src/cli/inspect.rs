//! The flags of `hubgate inspect`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, ensure};
use clap::ValueEnum;

use crate::config::{self, Config, Limits};
use crate::inspect::{
    Asked, Captured, Encoding, Finding, Format, InspectError, LINE_START, Question, inspect,
    read_line,
};
use crate::wire::Protocol;

/// The usual name of a configuration.
const CONFIG: &str = "hubgate.yaml";

/// The exit code when the body was not looked at, or not to its end.
const EXIT_TROUBLE: u8 = 2;

/// About the longest output, in bytes. A large body of a Prometheus is shown in a third of it.
const OUTPUT_BYTES_MAX: u64 = 256 << 20;

/// The longest line of a capture, in bytes: the largest body in base64, and what is said of it.
const LINE_BYTES_MAX: u64 = 48 << 20;

/// Names of spokes that an error lists.
const NAMES_MAX: usize = 20;

const EXIT_CODES: &str = "\
Exit codes: 0 if the body is well-formed and nothing of it would be refused, 1 if something would be \
or the body is malformed, 2 if it could not be inspected. Where no spoke is known, no policy refuses anything.";

/// Flags of `hubgate inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct InspectArgs {
    /// The file with the body of a request, or one of `hubgate capture`, or - for stdin
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Say what hubgate does with each series if this spoke sends the body, and why [default: whoever sent it,
    /// for a request of `hubgate capture`]
    #[arg(long, value_name = "NAME")]
    spoke: Option<String>,
    /// The configuration file, or a folder of them, that has the spoke [default: hubgate.yaml]
    #[arg(long = "config.file", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    /// How the body is compressed, if that cannot be told
    #[arg(long, value_enum)]
    encoding: Option<Compression>,
    /// Which message the body holds, if that cannot be told: remote write 1.0 or 2.0
    #[arg(long, value_enum)]
    protocol: Option<Version>,
    /// When the body came, such as 2027-01-31T00:00:00Z, for limits of the age of samples [default: now,
    /// or when it was captured]
    #[arg(long, value_name = "TIME", value_parser = time)]
    time: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Compression {
    Snappy,
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Version {
    V1,
    V2,
}

/// Runs `hubgate inspect`.
pub(super) fn run(args: &InspectArgs) -> ExitCode {
    match inspect_file(args) {
        Ok(Finding::Sound) => ExitCode::SUCCESS,
        Ok(Finding::Refused) => ExitCode::FAILURE,
        Ok(Finding::Cut) => ExitCode::from(EXIT_TROUBLE),
        Err(error) => {
            // `head` has seen enough.
            if !is_closed_pipe(&error) {
                let _ = writeln!(io::stderr(), "hubgate inspect: {error:#}");
            }
            ExitCode::from(EXIT_TROUBLE)
        }
    }
}

fn inspect_file(args: &InspectArgs) -> anyhow::Result<Finding> {
    let mut judge = Judge::new(args)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let (name, mut input) = open(&args.file)?;
    let unreadable = || format!("cannot read {name}");
    let start = LINE_START.len() as u64;
    let mut body = Vec::new();
    let read = input.by_ref().take(start).read_to_end(&mut body);
    read.with_context(unreadable)?;
    ensure!(
        !body.is_empty(),
        "{name} is empty, so there is no body to inspect; hubgate responds to an empty one with 400"
    );
    if body != LINE_START {
        ensure!(
            args.spoke.is_some() || args.config.is_none(),
            "--config.file needs a spoke as well, whose policy is asked: --spoke <NAME>"
        );
        let limits = judge.limits();
        // A little more than the limits allow.
        let most = limits.body_bytes_max.max(limits.decoded_bytes_max) as u64 + 1;
        let read = input.take(most - start).read_to_end(&mut body);
        read.with_context(unreadable)?;
        let finding = inspect(&body, &judge.question(args, None), &mut out)?;
        out.flush().map_err(InspectError::from)?;
        return Ok(finding);
    }
    let mut finding = Finding::Sound;
    let mut line = body;
    loop {
        let read = input
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        if read.with_context(unreadable)? == 0 && line.is_empty() {
            return Ok(finding);
        }
        if line != b"\n"
            && let Some((captured, body)) = read_line(&line)?
        {
            judge.follow(args, &captured)?;
            let question = judge.question(args, Some(&captured));
            finding = finding.max(inspect(&body, &question, &mut out)?);
            // The next request may come much later.
            out.flush().map_err(InspectError::from)?;
        }
        line.clear();
    }
}

/// Knows whose policy is asked, if one is.
#[derive(Default)]
struct Judge {
    config: Option<Config>,
    /// The configuration of the usual name was looked for.
    is_looked_for: bool,
    /// The spoke that was asked last.
    asked: Option<Asked>,
}

impl Judge {
    /// Knows what the flags name.
    fn new(args: &InspectArgs) -> anyhow::Result<Self> {
        let mut judge = Self::default();
        if args.spoke.is_some() || args.config.is_some() {
            let path = args.config.as_deref().unwrap_or(Path::new(CONFIG));
            judge.config = Some(load(path)?);
        }
        if let Some(spoke) = &args.spoke {
            judge.ask(spoke)?;
        }
        Ok(judge)
    }

    /// Makes the sender of a captured request the one that is asked, unless the flags name another. Where
    /// they name no configuration either, there need not be one.
    fn follow(&mut self, args: &InspectArgs, captured: &Captured) -> anyhow::Result<()> {
        if args.spoke.is_some() {
            return Ok(());
        }
        if args.config.is_some() {
            return self.ask(captured.spoke());
        }
        if !mem::replace(&mut self.is_looked_for, true) {
            let path = Path::new(CONFIG);
            let config = match path.exists() {
                true => load(path),
                false => Err(anyhow!("there is no {CONFIG} here")),
            };
            match config {
                Ok(config) => self.config = Some(config),
                Err(error) => say_not_asked(&error),
            }
        }
        if self.config.is_some()
            && let Err(error) = self.ask(captured.spoke())
        {
            say_not_asked(&error);
            *self = Self {
                is_looked_for: true,
                ..Self::default()
            };
        }
        Ok(())
    }

    /// Makes a spoke the one that is asked.
    fn ask(&mut self, spoke: &str) -> anyhow::Result<()> {
        let is_asked = self.asked.as_ref().is_some_and(|it| it.name() == spoke);
        if let (Some(config), false) = (&self.config, is_asked) {
            let asked = Asked::of(config, spoke);
            let unknown = || format!("no spoke is named {spoke:?}; {}", known(config));
            self.asked = Some(asked.with_context(unknown)?);
        }
        Ok(())
    }

    fn limits(&self) -> &Limits {
        self.config
            .as_ref()
            .map_or(&Limits::DEFAULT, |it| &it.limits)
    }

    /// What is asked about a body. What a capture knows of it holds unless the flags say otherwise.
    fn question<'q>(&'q self, args: &InspectArgs, captured: Option<&'q Captured>) -> Question<'q> {
        let protocol = args.protocol.map(|version| match version {
            Version::V1 => Protocol::V1,
            Version::V2 => Protocol::V2,
        });
        let time = args.time.map(millis);
        let time = time.or(captured.map(Captured::millis));
        Question {
            limits: self.limits(),
            encoding: args.encoding.map(|encoding| match encoding {
                Compression::Snappy => Encoding::Snappy,
                Compression::None => Encoding::Uncompressed,
            }),
            protocol: protocol.or(captured.and_then(Captured::protocol)),
            spoke: self.asked.as_ref(),
            captured,
            now_millis: time.unwrap_or_else(|| millis(SystemTime::now())),
            format: match args.output {
                Output::Text => Format::Text,
                Output::Json => Format::Json,
            },
            output_bytes_max: OUTPUT_BYTES_MAX,
        }
    }
}

fn load(path: &Path) -> anyhow::Result<Config> {
    let config = config::load(path).result;
    config.map_err(|errors| anyhow!("the configuration is not valid:\n{errors}"))
}

/// Says why only the body is judged.
fn say_not_asked(error: &anyhow::Error) {
    let text = "not compared with the rules of the spoke, which --config.file names";
    let _ = writeln!(io::stderr(), "hubgate inspect: {text}: {error:#}");
}

fn known(config: &Config) -> String {
    let spokes = config.spokes.iter().take(NAMES_MAX);
    let names: Vec<_> = spokes.map(|spoke| spoke.name.as_str()).collect();
    let more = config.spokes.len() - names.len();
    let names = names.join(", ");
    match more {
        0 => format!("the configuration has {names}"),
        _ => format!("the configuration has {names}, and {more} more"),
    }
}

/// The name of the input, and the input.
fn open(path: &Path) -> anyhow::Result<(String, Box<dyn BufRead>)> {
    if path == Path::new("-") {
        return Ok(("stdin".to_owned(), Box::new(io::stdin().lock())));
    }
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
    Ok((name, Box::new(BufReader::new(file))))
}

fn time(text: &str) -> Result<SystemTime, String> {
    humantime::parse_rfc3339(text)
        .map_err(|_| "is not a time in UTC; write it as 2027-01-31T00:00:00Z".to_owned())
}

/// Milliseconds since the Unix epoch.
fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<InspectError>();
    matches!(error, Some(InspectError::Output(error)) if error.kind() == ErrorKind::BrokenPipe)
}
