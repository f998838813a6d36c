//! `hubgate hash-password`: makes the hash that hubgate keeps of a spoke's password.
//!
//! The password is never an argument, which everyone on the machine could see.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Longer than any password.
const PASSWORD_BYTES_MAX: usize = 1 << 10;

/// As long as OWASP and the argon2 specification (RFC 9106) recommend.
const SALT_BYTES: usize = 16;

/// Reads a password from the terminal or from stdin, and prints its hash.
pub(super) fn run() -> ExitCode {
    super::exit_code("hash-password", read_and_print().map(|()| true))
}

fn read_and_print() -> anyhow::Result<()> {
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        ask(&mut stdin.lock())?
    } else {
        read_file(&mut stdin.lock())?
    };
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).context("no randomness from the operating system")?;
    let hash = hash(&password, &salt)?;
    // The value comes first: the explanation is useless without it.
    writeln!(io::stdout(), "password_hash: \"{hash}\"").context("the hash was not printed")?;
    writeln!(
        io::stderr(),
        "put it into hubgate's configuration, beside username in basic of the spoke's credentials"
    )?;
    Ok(())
}

/// Hashes a password with the parameters that OWASP recommends, which are the defaults: 19 MiB of
/// memory, and two passes.
fn hash(password: &str, salt: &[u8; SALT_BYTES]) -> anyhow::Result<PasswordHash> {
    let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), salt);
    hash.context("cannot hash the password")
}

/// Reads a password that is the only line of a file.
fn read_file(input: &mut impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    let limit = PASSWORD_BYTES_MAX as u64 + 3;
    input
        .take(limit)
        .read_to_string(&mut text)
        .context("cannot read the password from stdin")?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    checked(line.strip_suffix('\r').unwrap_or(line))
}

/// Asks twice for a password, because nobody sees what is typed.
fn ask(input: &mut impl BufRead) -> anyhow::Result<String> {
    let _silence = Silence::new().context("cannot turn off the echo of the terminal")?;
    let password = checked(&ask_once("Password: ", input)?)?;
    let again = ask_once("Again: ", input)?;
    ensure!(again == password, "the passwords differ");
    Ok(password)
}

fn ask_once(prompt: &str, input: &mut impl BufRead) -> anyhow::Result<String> {
    // stdout is for the hash alone.
    write!(io::stderr(), "{prompt}")?;
    let mut line = String::new();
    let limit = PASSWORD_BYTES_MAX as u64 + 2;
    let read = input.take(limit).read_line(&mut line);
    writeln!(io::stderr())?;
    read.context("cannot read the password from the terminal")?;
    Ok(line.strip_suffix('\n').unwrap_or(&line).to_owned())
}

/// Checks what a spoke can send. The messages do not quote the password.
fn checked(password: &str) -> anyhow::Result<String> {
    if password.is_empty() {
        bail!("the password is empty");
    }
    ensure!(
        password.len() <= PASSWORD_BYTES_MAX,
        "the password is longer than {PASSWORD_BYTES_MAX} bytes"
    );
    ensure!(
        !password.contains(['\n', '\r']),
        "there is more than one line; give the password alone"
    );
    ensure!(
        !password.chars().any(char::is_control),
        "the password contains a control character"
    );
    // Prometheus cuts them off what it reads from a password_file.
    ensure!(
        password.trim() == password,
        "the password begins or ends with a space"
    );
    Ok(password.to_owned())
}

/// Keeps the terminal from showing what is typed, until it is dropped.
struct Silence(Termios);

impl Silence {
    fn new() -> rustix::io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{PASSWORD_BYTES_MAX, hash, read_file};
    use crate::config;

    #[test]
    fn configuration_accepts_the_hash() {
        let hash = hash("a password", &[7; 16]).expect("a hash").to_string();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        let text = format!(
            "hub: {{url: http://hub/}}\nspokes: [{{name: a, credentials: [basic: {{username: a, \
             password_hash: \"{hash}\"}}]}}]\n"
        );
        config::parse(&text).expect("a valid configuration");
    }

    #[test]
    fn a_password_is_one_line_without_its_end() {
        for text in ["a b", "a b\n", "a b\r\n"] {
            let password = read_file(&mut text.as_bytes()).expect("a password");
            assert_eq!(password, "a b", "{text:?}");
        }
        let longest = "a".repeat(PASSWORD_BYTES_MAX);
        let read = read_file(&mut format!("{longest}\r\n").as_bytes());
        assert_eq!(read.expect("a password"), longest);
    }

    #[test]
    fn what_no_prometheus_can_send_is_refused() {
        let long = "a".repeat(PASSWORD_BYTES_MAX + 1);
        let cases = [
            ("", "is empty"),
            ("\n", "is empty"),
            ("a\nb\n", "more than one line"),
            ("a\n\n", "more than one line"),
            ("a\tb", "control character"),
            (" a", "begins or ends with a space"),
            ("a ", "begins or ends with a space"),
            (&long, "longer than 1024 bytes"),
        ];
        for (text, message) in cases {
            let error = read_file(&mut text.as_bytes()).expect_err(text).to_string();
            assert!(error.contains(message), "{text:?}: {error}");
        }
        let error = read_file(&mut &b"\xff"[..]).expect_err("no UTF-8");
        assert_eq!(error.to_string(), "cannot read the password from stdin");
    }
}
