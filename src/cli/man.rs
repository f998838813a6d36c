//! `hubgate man`: the manual pages, made of the help of the commands. Packages install them.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap_mangen::Man;

/// Flags of `hubgate man`.
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Write the pages of all commands into this folder, instead of printing that of hubgate
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Runs `hubgate man`.
pub(super) fn run(args: &ManArgs) -> ExitCode {
    super::exit_code("man", make(args))
}

fn make(args: &ManArgs) -> anyhow::Result<bool> {
    // The page of each command says more than `hubgate help` does.
    let command = super::command().disable_help_subcommand(true);
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        return super::written(io::stdout().lock().write_all(&page));
    };
    let made = clap_mangen::generate_to(command, folder);
    made.with_context(|| format!("cannot write into {}", folder.display()))?;
    Ok(true)
}
