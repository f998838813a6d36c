//! The command line. Flags follow Prometheus; everything else is in the configuration file.

mod access;
mod admin_port;
mod capture;
mod check_config;
mod completions;
mod config_schema;
mod demo;
mod hash_password;
mod inspect;
mod load;
mod man;
mod serve;
mod status;
mod token;
mod version;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// A Prometheus remote-write receiving gateway for hub-and-spoke clusters.
#[derive(Debug, Parser)]
#[command(
    name = "hubgate",
    // Only --version shows this name, with the comma of Prometheus after it.
    display_name = "hubgate,",
    version = version::long(),
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Store the next refused requests of a spoke in files, which `hubgate inspect` shows.
    Capture(Box<capture::CaptureArgs>),
    /// Check a configuration file, and list all errors and warnings.
    CheckConfig(check_config::CheckConfigArgs),
    /// Print the script with which a shell completes commands and flags.
    Completions(completions::CompletionsArgs),
    /// Print the JSON Schema of the configuration, with which editors complete and check it.
    ConfigSchema(config_schema::ConfigSchemaArgs),
    /// Run a hub, the gate and two spokes on this machine, and check what the gate does.
    Demo(demo::DemoArgs),
    /// Read a password without showing it, or from stdin, and print its argon2id hash.
    HashPassword,
    /// Show what the body of a request holds, and what hubgate would do with it.
    Inspect(inspect::InspectArgs),
    /// Send load to a remote-write endpoint and measure its responses.
    Load(Box<load::LoadArgs>),
    /// Print the manual page.
    #[command(hide = true)]
    Man(man::ManArgs),
    /// Receive remote writes and forward them to the hubs.
    Serve(serve::ServeArgs),
    /// Show how the spokes of a running hubgate are; exit with 1 if one does not write.
    Status(Box<status::StatusArgs>),
    /// Make a token for a spoke, and print it once with its digest.
    Token(token::TokenArgs),
}

/// The configuration file, as a flag or as an argument.
#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file, or a folder: its files *.yaml and *.yml are the configuration together.
    #[arg(
        long = "config.file",
        value_name = "FILE",
        default_value = "hubgate.yaml",
        conflicts_with = "file"
    )]
    flag: PathBuf,
    /// The same as --config.file.
    file: Option<PathBuf>,
}

impl ConfigFile {
    fn path(&self) -> &Path {
        self.file.as_deref().unwrap_or(&self.flag)
    }
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Capture(args) => capture::run(&args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::ConfigSchema(args) => config_schema::run(&args),
        Command::Demo(args) => demo::run(args),
        Command::HashPassword => hash_password::run(),
        Command::Inspect(args) => inspect::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Token(args) => token::run(&args),
    }
}

/// The command line as shells and manual pages know it.
fn command() -> clap::Command {
    Cli::command()
        .display_name("hubgate")
        .version(version::VERSION)
}

/// The outcome of a command that only prints. `head` may have seen enough.
fn written(printed: io::Result<()>) -> anyhow::Result<bool> {
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(true),
    }
}

/// Turns the outcome of a command into an exit code; an error goes to stderr.
fn exit_code(command: &str, outcome: anyhow::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hubgate {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
