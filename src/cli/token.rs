//! `hubgate token`: makes a bearer token for a spoke and the digest that hubgate keeps of it.
//!
//! The token is printed once and stored nowhere. It is base64url, which does not look like a digest
//! in hex, so a token that is pasted into `token_sha256` by mistake is refused.
//!
//! With the name of the spoke, stdout has the spoke's file, so that it can be redirected into one. The
//! token is not for hubgate, so it is on stderr then.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::config;

/// 256 random bits cannot be guessed, so a plain SHA-256 protects them.
const TOKEN_BYTES: usize = 32;

/// The longest time until a token expires. Whoever wants more wants no end.
const EXPIRES_IN_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[derive(Debug, clap::Args)]
pub(super) struct TokenArgs {
    /// Print the file of a spoke of this name to stdout, and the token to stderr.
    #[arg(long, value_name = "NAME", value_parser = config::spoke_name)]
    spoke: Option<String>,
    /// The time until the token expires, such as 90d.
    #[arg(long, value_name = "DURATION", value_parser = expires_in)]
    expires_in: Option<Duration>,
}

/// A new token.
struct Token {
    token: String,
    /// The SHA-256 in hex.
    digest: String,
    not_after: Option<SystemTime>,
}

/// Prints a new token and its digest, and what to do with them.
pub(super) fn run(args: &TokenArgs) -> ExitCode {
    let mut random = [0; TOKEN_BYTES];
    if let Err(error) = getrandom::fill(&mut random) {
        return fail(&format!("no randomness from the operating system: {error}"));
    }
    let not_after = args.expires_in.map(|time| SystemTime::now() + time);
    let token = Token::new(&random, not_after);
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    // The explanation is useless without the values, which come first.
    let printed = match &args.spoke {
        Some(spoke) => token
            .print_spoke(&mut out, spoke)
            .and_then(|()| token.print_sender(&mut err)),
        None => token.print(&mut out).and_then(|()| explain(&mut err)),
    };
    drop(err);
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("the token was not printed: {error}")),
    }
}

fn expires_in(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time.is_zero() || time > EXPIRES_IN_MAX {
        return Err("allowed: 1s to 100 years".to_owned());
    }
    Ok(time)
}

impl Token {
    fn new(random: &[u8; TOKEN_BYTES], not_after: Option<SystemTime>) -> Self {
        let token = URL_SAFE_NO_PAD.encode(random);
        let digest = Sha256::digest(&token);
        Self {
            digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            token,
            not_after,
        }
    }

    /// Prints the token and what hubgate keeps of it.
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "token: {}", self.token)?;
        self.print_credential(out, "")
    }

    /// Prints the file of a spoke with this credential.
    fn print_spoke(&self, out: &mut impl Write, spoke: &str) -> io::Result<()> {
        // A text of JSON is one of YAML. Without quotes, a name such as `null` would not be a text.
        let name = serde_json::to_string(spoke)?;
        writeln!(out, "name: {name}\ncredentials:")?;
        self.print_credential(out, "  - ")
    }

    fn print_credential(&self, out: &mut impl Write, indent: &str) -> io::Result<()> {
        writeln!(out, "{indent}token_sha256: {}", self.digest)?;
        if let Some(not_after) = self.not_after {
            let time = humantime::format_rfc3339_seconds(not_after);
            let indent = " ".repeat(indent.len());
            writeln!(out, "{indent}not_after: {time}")?;
        }
        out.flush()
    }

    /// Prints the token and what the spoke's Prometheus needs.
    fn print_sender(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "\
# For hubgate: save what is on stdout as a file of spoke_files. If the spoke has one already, add the
# item of credentials to it.
#
# For the spoke: write the token into the file hubgate-token beside its prometheus.yml. It is not shown
# again.
# token: {}
#
# Put this into that prometheus.yml, with the address of hubgate, and https:// if it serves TLS.
remote_write:
  - url: http://hubgate.example.com:9480/api/v1/write
    authorization:
      credentials_file: hubgate-token",
            self.token
        )
    }
}

fn explain(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "token: give it to the spoke's Prometheus, in remote_write: authorization: credentials \
         (or credentials_file); it is not shown again"
    )?;
    writeln!(
        out,
        "token_sha256: put it into hubgate's configuration, in the spoke's credentials"
    )
}

fn fail(message: &str) -> ExitCode {
    // If stderr is closed as well, only the exit code reports the failure.
    let _ = writeln!(io::stderr().lock(), "{message}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn text(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).expect("a vector accepts all bytes");
        String::from_utf8(out).expect("text")
    }

    fn configured(spoke: &str) -> Result<config::Config, config::Errors> {
        let spoke = spoke.replace('\n', "\n  ");
        config::parse(&format!("hub: {{url: http://hub/}}\nspokes:\n- {spoke}\n"))
    }

    fn with_digest(digest: &str) -> String {
        format!("name: a\ncredentials: [{{token_sha256: {digest}}}]")
    }

    #[test]
    fn configuration_accepts_the_printed_digest() {
        let token = Token::new(&[7; TOKEN_BYTES], None);
        let printed = text(|out| token.print(out));
        let digest = printed.lines().nth(1).expect("two lines");
        let digest = digest.strip_prefix("token_sha256: ").expect("its key");
        let first = "token: BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
        assert_eq!(printed, format!("{first}\ntoken_sha256: {digest}\n"));
        let config = configured(&with_digest(digest)).expect("a valid configuration");
        let Secret::Token(stored) = config.spokes[0].credentials[0].secret else {
            panic!("a token becomes a token");
        };
        let hex: String = stored.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, digest);
    }

    #[test]
    fn configuration_refuses_a_token_as_its_digest() {
        let Token { token, .. } = Token::new(&[0xaa; TOKEN_BYTES], None);
        let errors = configured(&with_digest(&token)).expect_err("a token is no digest");
        let errors = errors.to_string();
        assert!(errors.contains("is not a SHA-256"), "{errors}");
        assert!(!errors.contains(&token), "{errors}");
    }

    #[test]
    fn configuration_accepts_the_printed_spoke_of_any_name() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(4_105_036_800);
        for name in [
            "production",
            "null",
            "123",
            "a: b #c",
            "\"'\\",
            "münchen 🥨",
            "- x",
        ] {
            for not_after in [None, Some(end)] {
                let token = Token::new(&[7; TOKEN_BYTES], not_after);
                let spoke = text(|out| token.print_spoke(out, name));
                assert!(!spoke.contains(&token.token), "{spoke}");
                let config = configured(&spoke).expect(name);
                assert_eq!(config.spokes[0].name, name);
                let [credential] = &config.spokes[0].credentials[..] else {
                    panic!("one credential: {spoke}");
                };
                assert_eq!(credential.not_after, not_after);
            }
        }
    }

    #[test]
    fn the_time_until_a_token_expires_is_bounded() {
        for (text, ok) in [
            ("90d", true),
            ("1s", true),
            ("99years", true),
            ("0s", false),
            ("101years", false),
            ("100000000000years", false),
            ("90", false),
        ] {
            assert_eq!(expires_in(text).is_ok(), ok, "{text}");
        }
    }
}
