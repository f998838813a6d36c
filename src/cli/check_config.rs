//! `hubgate check-config`: checks a configuration as `serve` does, without serving.
//!
//! Errors and warnings go to stderr, one a line and marked as such; the summary goes to stdout.

use std::io::{self, Write};
use std::process::ExitCode;

use super::ConfigFile;
use crate::config::{self, Config, Load};
use crate::gateway::files;

#[derive(Debug, clap::Args)]
pub(super) struct CheckConfigArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// Make each warning an error.
    #[arg(long)]
    strict: bool,
}

/// Checks a configuration. The exit code is 1 if there is an error.
pub(super) fn run(args: &CheckConfigArgs) -> ExitCode {
    let load = config::load(args.config.path());
    let report = Report::new(&load, args.strict);
    let printed = report
        .print(&mut io::stderr().lock())
        .and_then(|()| match &load.result {
            Ok(config) if report.errors.is_empty() => {
                print_summary(&mut io::stdout().lock(), config)
            }
            _ => Ok(()),
        });
    if printed.is_ok() && report.errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What is wrong or doubtful, as texts.
struct Report {
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Report {
    fn new(load: &Load, strict: bool) -> Self {
        let mut warnings: Vec<_> = load.warnings.iter().map(ToString::to_string).collect();
        let mut errors = Vec::new();
        match &load.result {
            Ok(config) => warnings.extend(files::shortage(config).map(|it| it.to_string())),
            Err(found) => errors.extend(found.iter().map(ToString::to_string)),
        }
        if strict {
            errors.append(&mut warnings);
        }
        Self { errors, warnings }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        for error in &self.errors {
            writeln!(out, "error: {error}")?;
        }
        Ok(())
    }
}

fn print_summary(out: &mut impl Write, config: &Config) -> io::Result<()> {
    for hub in &config.hubs {
        writeln!(out, "hub: {}", hub.shown_url())?;
    }
    writeln!(out, "spokes: {}", config.spokes.len())?;
    for spoke in &config.spokes {
        let credentials: Vec<_> = spoke
            .credentials
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        writeln!(out, "  {}: {}", spoke.name, credentials.join(", "))?;
    }
    writeln!(out, "the configuration is valid")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Report, print_summary};
    use crate::config;

    #[test]
    fn summary_has_the_hub_the_spokes_and_their_credentials() {
        let config = config::parse(
            "hub: {url: 'http://hub:9090/api/v1/write?key=hidden'}
spokes:
  - name: production
    credentials:
      - token_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
      - basic: {username: prod, password_hash: $2b$12$EXRkfkdmXn2gzds2SSitu.MW9.gAVqa9eLS1//RYtYCmB1eLHg.9q}
",
        )
        .expect("a valid configuration");
        let mut out = Vec::new();
        print_summary(&mut out, &config).expect("a vector accepts all bytes");
        assert_eq!(
            String::from_utf8_lossy(&out),
            "hub: http://hub:9090/api/v1/write
spokes: 1
  production: token_sha256:9f86d081, basic:prod
the configuration is valid
"
        );
    }

    #[test]
    fn each_finding_is_a_line_that_says_what_it_is() {
        let load = config::load(Path::new("no/such/file"));
        let report = Report {
            warnings: vec!["a".to_owned(), "b".to_owned()],
            ..Report::new(&load, false)
        };
        let mut out = Vec::new();
        report.print(&mut out).expect("a vector accepts all bytes");
        assert_eq!(
            String::from_utf8_lossy(&out),
            "warning: a
warning: b
error: no/such/file: cannot be read: No such file or directory (os error 2)
"
        );
    }
}
