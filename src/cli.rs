//! The command line. Flags follow Prometheus; everything else is in the configuration file.

mod check_config;
mod demo;
mod load;
mod serve;
mod token;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A Prometheus remote-write receiving gateway for hub-and-spoke clusters.
#[derive(Debug, Parser)]
#[command(name = "hubgate", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a configuration file and say all that is wrong with it.
    CheckConfig {
        /// The configuration file.
        file: PathBuf,
    },
    /// Run a whole hub-and-spoke set-up on this machine and show what the gate does.
    Demo(demo::DemoArgs),
    /// Put load on a remote-write endpoint and measure its answers.
    Load(Box<load::LoadArgs>),
    /// Receive remote writes and forward them to the hub.
    Serve(serve::ServeArgs),
    /// Make a token for a spoke and print it once, with its hash.
    Token,
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::CheckConfig { file } => check_config::run(&file),
        Command::Demo(args) => demo::run(args),
        Command::Load(args) => load::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Token => token::run(),
    }
}

/// The exit code of a command that tells whether it succeeded; an error goes to stderr.
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
