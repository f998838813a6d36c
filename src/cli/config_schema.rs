//! `hubgate config-schema`: the JSON Schema of the configuration, for editors.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::config::schema;

/// Flags of `hubgate config-schema`.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigSchemaArgs {
    /// Print the schema of a file of spoke_files, which has one spoke
    #[arg(long)]
    spoke_file: bool,
}

/// Runs `hubgate config-schema`.
pub(super) fn run(args: &ConfigSchemaArgs) -> ExitCode {
    let printed = if args.spoke_file {
        let schema = schema::of_spoke_file();
        io::stdout().lock().write_all(schema.as_bytes())
    } else {
        io::stdout().lock().write_all(schema::TEXT.as_bytes())
    };
    super::exit_code("config-schema", super::written(printed))
}
