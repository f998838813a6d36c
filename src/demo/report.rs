//! What the demo prints: plain lines, the same in a pipe and on a terminal.
//!
//! The report numbers the checks and counts those that failed. It does not know what they check.

use std::io::{self, Write};
use std::time::Instant;

/// The result of a check: lines to print, or the reason why it does not hold.
pub(super) type Check = anyhow::Result<Vec<String>>;

/// A report, printed check by check.
pub(super) struct Report<W> {
    out: W,
    started: Instant,
    checks: usize,
    failed: usize,
}

impl<W: Write> Report<W> {
    /// Starts a report; its duration counts from now.
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            started: Instant::now(),
            checks: 0,
            failed: 0,
        }
    }

    /// Prints text that is no check.
    pub(super) fn print(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Prints the result of the next check, with its number and title.
    pub(super) fn check(&mut self, title: &str, result: Check) -> io::Result<()> {
        self.checks += 1;
        let (word, lines) = match result {
            Ok(lines) => ("ok", lines),
            Err(error) => {
                self.failed += 1;
                ("FAILED", vec![format!("{error:#}")])
            }
        };
        writeln!(self.out, "{:2}. {word:<6}  {title}", self.checks)?;
        for line in lines {
            writeln!(self.out, "            {line}")?;
        }
        self.out.flush()
    }

    /// Prints how many checks held; tells whether all of them did.
    pub(super) fn summary(&mut self) -> io::Result<bool> {
        let held = self.checks - self.failed;
        let seconds = self.started.elapsed().as_secs_f64();
        writeln!(
            self.out,
            "\n{held} of {} checks held, in {seconds:.1} s",
            self.checks
        )?;
        self.out.flush()?;
        Ok(self.failed == 0 && self.checks > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_numbered_and_one_failure_fails_the_report() {
        let mut text = Vec::new();
        let mut report = Report::new(&mut text);
        report
            .check("writes arrive", Ok(vec!["up 1".to_owned()]))
            .unwrap();
        report
            .check("forgery is refused", Err(anyhow::anyhow!("answered 204")))
            .unwrap();
        assert!(!report.summary().unwrap());
        let text = String::from_utf8(text).unwrap();
        let expected = " 1. ok      writes arrive\n            up 1\n \
                        2. FAILED  forgery is refused\n            answered 204\n\n\
                        1 of 2 checks held, in 0.0 s\n";
        assert_eq!(text, expected);
    }
}
