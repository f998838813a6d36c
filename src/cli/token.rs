//! `hubgate token`: makes a bearer token for a spoke and the digest that hubgate keeps of it.
//!
//! The token is printed once and stored nowhere. It is base64url, which does not look like a digest
//! in hex, so a token that is pasted into `token_sha256` by mistake is refused.

use std::io::{self, Write};
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// 256 random bits cannot be guessed, so a plain SHA-256 protects them.
const TOKEN_BYTES: usize = 32;

/// Prints a new token and its digest to stdout, and what to do with them to stderr.
pub(crate) fn run() -> ExitCode {
    let mut random = [0; TOKEN_BYTES];
    if let Err(error) = getrandom::fill(&mut random) {
        return fail(&format!("no randomness from the operating system: {error}"));
    }
    // The values come first: the explanation is useless without them.
    match print(&mut io::stdout().lock(), &random).and_then(|()| explain(&mut io::stderr().lock()))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("the token was not printed: {error}")),
    }
}

fn print(out: &mut impl Write, random: &[u8; TOKEN_BYTES]) -> io::Result<()> {
    let token = URL_SAFE_NO_PAD.encode(random);
    writeln!(out, "token: {token}")?;
    write!(out, "token_sha256: ")?;
    for byte in Sha256::digest(&token) {
        write!(out, "{byte:02x}")?;
    }
    writeln!(out)?;
    out.flush()
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
    use super::{TOKEN_BYTES, print};
    use crate::config::{self, Secret};

    fn printed(random: [u8; TOKEN_BYTES]) -> (String, String) {
        let mut out = Vec::new();
        print(&mut out, &random).expect("a vector accepts all bytes");
        let out = String::from_utf8(out).expect("text");
        let mut lines = out.lines();
        let mut value = |key: &str| {
            let line = lines.next().expect("a line");
            line.strip_prefix(key).expect("its key").to_owned()
        };
        (value("token: "), value("token_sha256: "))
    }

    fn configured(digest: &str) -> Result<config::Config, config::Errors> {
        config::parse(&format!(
            "hub: {{url: http://hub/}}\nspokes: [{{name: a, credentials: [{{token_sha256: {digest}}}]}}]\n"
        ))
    }

    #[test]
    fn configuration_accepts_the_printed_digest() {
        let (token, digest) = printed([7; TOKEN_BYTES]);
        assert_eq!(token, "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc");
        let config = configured(&digest).expect("a valid configuration");
        let Secret::Token(stored) = config.spokes[0].credentials[0].secret else {
            panic!("a token becomes a token");
        };
        let hex: String = stored.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, digest);
    }

    #[test]
    fn configuration_refuses_a_token_as_its_digest() {
        let (token, _) = printed([0xaa; TOKEN_BYTES]);
        let errors = configured(&token)
            .expect_err("a token is no digest")
            .to_string();
        assert!(errors.contains("is not a SHA-256"), "{errors}");
        assert!(!errors.contains(&token), "{errors}");
    }
}
