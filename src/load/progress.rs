//! What a load shows of itself while it runs: counters that its threads add to, and a line on a
//! terminal that is rewritten from them.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// The counters of a running load, and the flag that stops it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Samples of requests whose response was 2xx.
    pub samples: AtomicU64,
    /// Requests with another response or none.
    pub failures: AtomicU64,
    /// Set to end the load early.
    pub stop: AtomicBool,
}

/// The progress line. It is written only if stderr is a terminal.
pub(super) struct ProgressLine {
    terminal: bool,
    last: Instant,
    last_samples: u64,
}

impl ProgressLine {
    pub(super) fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            last: Instant::now(),
            last_samples: 0,
        }
    }

    /// Rewrites the line; its rate is over the time since the last call.
    pub(super) fn show(&mut self, progress: &Progress) -> io::Result<()> {
        let seconds = self.last.elapsed().as_secs_f64();
        if !self.terminal || seconds < 0.1 {
            return Ok(());
        }
        let samples = progress.samples.load(Ordering::Relaxed);
        let rate = (samples - self.last_samples) as f64 / seconds;
        let failures = progress.failures.load(Ordering::Relaxed);
        self.last = Instant::now();
        self.last_samples = samples;
        write!(
            io::stderr(),
            "\r{samples} samples, {rate:.0}/s, {failures} requests failed   "
        )
    }

    /// Erases the line.
    pub(super) fn clear(&self) -> io::Result<()> {
        if self.terminal {
            write!(io::stderr(), "\r{:60}\r", "")?;
        }
        Ok(())
    }
}
