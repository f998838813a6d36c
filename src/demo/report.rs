//! What the demo prints: plain lines, the same in a pipe and on a terminal.
//!
//! Every numbered line is the result of a check; the report counts them and so decides the exit
//! code. It knows nothing of what was checked.

use std::io::{self, Write};
use std::time::Instant;

/// What a check found: lines to show, or why it does not hold.
pub(super) type Check = anyhow::Result<Vec<String>>;

/// Prints as things happen.
pub(super) struct Report<W> {
    out: W,
    started: Instant,
    checks: usize,
    failed: usize,
}

impl<W: Write> Report<W> {
    /// Starts the clock.
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            started: Instant::now(),
            checks: 0,
            failed: 0,
        }
    }

    /// Prints lines that claim nothing.
    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Prints the next number, whether the check held, and what it found.
    pub(super) fn check(&mut self, title: &str, check: Check) -> io::Result<()> {
        self.checks += 1;
        let (verdict, lines) = match check {
            Ok(lines) => ("ok", lines),
            Err(error) => {
                self.failed += 1;
                ("FAILED", vec![format!("{error:#}")])
            }
        };
        writeln!(self.out, "{:2}. {verdict:<6}  {title}", self.checks)?;
        for line in lines {
            writeln!(self.out, "            {line}")?;
        }
        self.out.flush()
    }

    /// Prints how many checks held; tells whether all did.
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
    fn numbers_the_checks_and_remembers_a_failure() {
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
