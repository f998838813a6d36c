//! `hubgate check-config FILE`: checks a configuration as `serve` does, without serving.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, Config, Errors};

/// Checks a configuration: a summary on stdout and exit code 0, or all errors on stderr and 1.
pub(crate) fn run(file: &Path) -> ExitCode {
    let printed = match config::load(file).result {
        Ok(config) => print_summary(&mut io::stdout().lock(), &config).map(|()| ExitCode::SUCCESS),
        Err(errors) => print_errors(&mut io::stderr().lock(), &errors).map(|()| ExitCode::FAILURE),
    };
    printed.unwrap_or(ExitCode::FAILURE)
}

fn print_errors(out: &mut impl Write, errors: &Errors) -> io::Result<()> {
    writeln!(out, "{errors}")
}

fn print_summary(out: &mut impl Write, config: &Config) -> io::Result<()> {
    for hub in &config.hubs {
        // The query is left out, because it may contain a secret.
        let host = hub.url.authority().map_or("", |it| it.as_str());
        writeln!(out, "hub: http://{host}{}", hub.url.path())?;
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
    if config.spokes.is_empty() {
        writeln!(
            out,
            "no file matches spoke_files; every write would be answered 401"
        )?;
    }
    writeln!(out, "the configuration is valid")
}

#[cfg(test)]
mod tests {
    use super::{print_errors, print_summary};
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
    fn each_error_is_a_line() {
        let errors = config::parse("hub: {}\nspokes: 1\n").expect_err("no configuration");
        let mut out = Vec::new();
        print_errors(&mut out, &errors).expect("a vector accepts all bytes");
        assert_eq!(String::from_utf8_lossy(&out).lines().count(), 2);
    }
}
