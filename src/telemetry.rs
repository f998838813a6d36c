//! Logs: to standard error, as logfmt or JSON, one event a line, and few lines for what a sender
//! can repeat.

use std::str::FromStr;
use std::time::{Duration, Instant};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Between two lines about the same.
const REPEAT_INTERVAL: Duration = Duration::from_secs(10);

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// `key=value` pairs, as Prometheus writes.
    Logfmt,
}

/// Starts logging; once a process.
pub fn start(format: Format, level: Level) {
    // Other crates log what a sender can provoke; what matters of it is in our own events.
    let only_ours = Targets::new().with_target("hubgate", level.0);
    let registry = tracing_subscriber::registry().with(only_ours);
    match format {
        Format::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_target(false)
                    .with_writer(std::io::stderr),
            )
            .init(),
        Format::Logfmt => registry
            .with(
                tracing_logfmt::builder()
                    .with_target(false)
                    .layer()
                    .with_writer(std::io::stderr),
            )
            .init(),
    }
}

/// The least important level that is logged.
#[derive(Debug, Clone, Copy)]
pub struct Level(LevelFilter);

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "debug" => Ok(Self(LevelFilter::DEBUG)),
            "info" => Ok(Self(LevelFilter::INFO)),
            "warn" => Ok(Self(LevelFilter::WARN)),
            "error" => Ok(Self(LevelFilter::ERROR)),
            _ => Err("allowed: debug, info, warn, error".to_owned()),
        }
    }
}

/// Keeps what happens often from being a line each time.
#[derive(Debug, Clone, Default)]
pub struct Repeats {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Repeats {
    /// Adds what happened `now`. Returns how much was not logged since the last line, this
    /// included, when it is time for a line again.
    pub fn add(&mut self, count: u64, now: Instant) -> Option<u64> {
        self.unlogged += count;
        let elapsed = self.logged.map(|logged| now.duration_since(logged));
        if elapsed.is_some_and(|elapsed| elapsed < REPEAT_INTERVAL) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_one_line_an_interval() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        let lines = [0, 1, 9_999, 10_000, 10_001, 19_999, 30_000].map(|milliseconds| {
            let now = start + Duration::from_millis(milliseconds);
            repeats.add(2, now)
        });
        let wanted = [Some(2), None, None, Some(6), None, None, Some(6)];
        assert_eq!(lines, wanted);
    }
}
