//! Requests to load the configuration again, from the admin listener to whoever reads the file.
//!
//! One load answers everyone who asked before it began. A load that was already under way may have
//! read the file before it changed, so it answers nobody who asks meanwhile.

use std::time::SystemTime;

use serde::Serialize;
use tokio::sync::watch;

use crate::config::Finding;

/// How the last load of a configuration ended, and the last one that succeeded.
#[derive(Debug, Clone)]
pub struct LastLoad {
    /// When it ended.
    pub ended: SystemTime,
    /// When the configuration in force was loaded.
    pub succeeded: SystemTime,
    /// What is wrong with the configuration; empty after a success.
    pub errors: Vec<LoadError>,
}

/// Something that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadError {
    /// The file; absent when the fault is in none.
    file: Option<String>,
    /// The line, counted from 1.
    line: Option<usize>,
    /// The column, counted from 1.
    column: Option<usize>,
    /// The key as a path; empty for a whole file.
    key: String,
    /// What is wrong, and what to write instead.
    message: String,
}

impl LastLoad {
    /// A configuration is loaded.
    pub fn success() -> Self {
        let now = SystemTime::now();
        Self {
            ended: now,
            succeeded: now,
            errors: Vec::new(),
        }
    }

    /// A configuration could not be loaded, and the one before stays in force.
    pub fn failure(&self, errors: Vec<LoadError>) -> Self {
        Self {
            ended: SystemTime::now(),
            succeeded: self.succeeded,
            errors,
        }
    }
}

impl LoadError {
    /// A fault that is in no file.
    pub fn of_no_file(message: String) -> Self {
        Self {
            file: None,
            line: None,
            column: None,
            key: String::new(),
            message,
        }
    }
}

impl From<&Finding> for LoadError {
    fn from(finding: &Finding) -> Self {
        let position = finding.position;
        Self {
            file: Some(finding.file.display().to_string()),
            line: position.map(|it| it.line),
            column: position.map(|it| it.column),
            key: finding.key.clone(),
            message: finding.message.clone(),
        }
    }
}

/// Returns the side that asks and the side that loads.
pub fn channel() -> (Reloads, Loads) {
    let (asking, asked) = watch::channel(0);
    let (progress, results) = watch::channel(Progress::default());
    let reloads = Reloads { asking, results };
    let loads = Loads {
        asked,
        answered: 0,
        progress,
    };
    (reloads, loads)
}

/// The asking side.
#[derive(Debug, Clone)]
pub struct Reloads {
    /// The number of requests so far.
    asking: watch::Sender<u64>,
    results: watch::Receiver<Progress>,
}

/// The loading side. Once it is dropped, everyone who asks is refused.
#[derive(Debug)]
pub struct Loads {
    asked: watch::Receiver<u64>,
    /// The number of requests that [`Loads::requested`] has returned.
    answered: u64,
    progress: watch::Sender<Progress>,
}

/// The loads so far, numbered from 1.
#[derive(Debug, Default)]
struct Progress {
    begun: u64,
    ended: u64,
    /// What came of the last load that ended, or the errors.
    result: Option<Result<(), String>>,
}

impl Reloads {
    /// Asks for the configuration to be loaded again and waits for what comes of it.
    pub(super) async fn request(&self) -> Result<(), String> {
        let mut results = self.results.clone();
        let begun = results.borrow().begun;
        self.asking.send_modify(|requests| *requests += 1);
        let ended = results.wait_for(|progress| progress.ended > begun).await;
        let result = ended.ok().and_then(|progress| progress.result.clone());
        result.unwrap_or_else(|| Err("hubgate is shutting down".to_owned()))
    }
}

impl Loads {
    /// Waits until someone asks, and returns the number of requests since the last call.
    pub async fn requested(&mut self) -> u64 {
        // Nobody asks once the admin listener has ended.
        let Ok(requests) = self
            .asked
            .wait_for(|requests| *requests > self.answered)
            .await
        else {
            return std::future::pending().await;
        };
        let new = *requests - self.answered;
        self.answered = *requests;
        new
    }

    /// A load begins; it will answer everyone who asked so far.
    pub fn begin(&self) {
        self.progress.send_modify(|progress| progress.begun += 1);
    }

    /// The load that began last has ended.
    pub fn end(&self, result: Result<(), String>) {
        self.progress.send_modify(|progress| {
            progress.ended = progress.begun;
            progress.result = Some(result);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks in a task of its own, and lets that task run until it waits.
    async fn ask(reloads: &Reloads) -> tokio::task::JoinHandle<Result<(), String>> {
        let reloads = reloads.clone();
        let asked = tokio::spawn(async move { reloads.request().await });
        tokio::task::yield_now().await;
        asked
    }

    #[tokio::test]
    async fn one_load_answers_everyone_who_asked_before_it_began() {
        let (reloads, mut loads) = channel();
        let first = ask(&reloads).await;
        let second = ask(&reloads).await;
        assert_eq!(loads.requested().await, 2);
        loads.begin();
        let during = ask(&reloads).await;
        loads.end(Ok(()));
        assert_eq!(first.await.unwrap(), Ok(()));
        assert_eq!(second.await.unwrap(), Ok(()));
        tokio::task::yield_now().await;
        assert!(!during.is_finished(), "the file may have changed since");

        assert_eq!(loads.requested().await, 1);
        loads.begin();
        loads.end(Err("broken".to_owned()));
        assert_eq!(during.await.unwrap(), Err("broken".to_owned()));
    }

    #[tokio::test]
    async fn whoever_waits_is_refused_when_nobody_loads_any_more() {
        let (reloads, loads) = channel();
        let waits = ask(&reloads).await;
        drop(loads);
        for refused in [waits.await.unwrap(), reloads.request().await] {
            assert_eq!(refused, Err("hubgate is shutting down".to_owned()));
        }
    }
}
