//! `hubgate completions`: the script with which a shell completes commands and flags.

use std::io::{self, Write};
use std::process::ExitCode;

use clap_complete::Shell;

/// Flags of `hubgate completions`.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell that reads the script
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs `hubgate completions`.
pub(super) fn run(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "hubgate", &mut script);
    let printed = io::stdout().lock().write_all(&script);
    super::exit_code("completions", super::written(printed))
}
