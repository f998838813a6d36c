//! Logs go to standard error as logfmt or JSON, one event on each line. Events that a sender can
//! repeat are logged only now and then, with their number.

pub mod words;

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Minimum time between two lines about the same kind of event.
const REPEAT_INTERVAL: Duration = Duration::from_secs(10);

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object on each line.
    Json,
    /// `key=value` pairs, as in the logs of Prometheus.
    Logfmt,
}

/// Starts logging.
///
/// # Panics
///
/// If logging was already started in this process.
pub fn start(format: Format, level: Level) {
    // Other crates log events that a sender can provoke. hubgate has its own events for those that
    // matter.
    let only_hubgate = Targets::new().with_target("hubgate", level.0);
    let registry = tracing_subscriber::registry().with(only_hubgate);
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

/// Counts the repeats of one kind of event, and tells when the next one is logged.
#[derive(Debug, Clone, Default)]
pub struct Repeats {
    last_logged: Option<Instant>,
    unlogged: u64,
}

impl Repeats {
    /// Adds `count` events that happen `now`. If it is time for the next line, returns how many
    /// events that line stands for: these and those that were not logged since the last line.
    pub fn add(&mut self, count: u64, now: Instant) -> Option<u64> {
        self.unlogged += count;
        let elapsed = self.last_logged.map(|last| now.duration_since(last));
        if elapsed.is_some_and(|elapsed| elapsed < REPEAT_INTERVAL) {
            return None;
        }
        self.last_logged = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

/// [`Repeats`] that several tasks count.
#[derive(Debug, Default)]
pub struct SharedRepeats(Mutex<Repeats>);

impl SharedRepeats {
    /// Adds an event. If it is time for the next line, returns how many events that line stands for.
    pub fn add(&self) -> Option<u64> {
        // Nothing under the lock can leave it half done.
        let mut repeats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        repeats.add(1, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_events_are_logged_once_an_interval() {
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
