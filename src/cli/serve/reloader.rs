//! Loads the configuration again on SIGHUP, on request, and when a file has changed.
//!
//! There is at most one reload a second: a script that asks in a loop must not keep hubgate reading
//! files. What is asked for meanwhile becomes one more reload.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use crate::admin::reload::LoadError;
use crate::config::{Errors, Fingerprint, Load};
use crate::gateway::Gateway;

/// The least time from the end of a reload to the next one.
const PAUSE: Duration = Duration::from_secs(1);

/// Reads the configuration.
type Loader = Arc<dyn Fn() -> Load + Send + Sync>;

/// A gateway whose configuration is loaded again.
pub(super) struct Reloader {
    gateway: Gateway,
    loader: Loader,
    /// Fingerprint of the last load, whether its configuration was valid or not; absent when it could
    /// not end.
    fingerprint: Option<Fingerprint>,
    /// When the next reload may begin.
    earliest: Instant,
}

/// Why the old configuration stays in force.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Invalid(Errors),
    #[error("reading it failed: {0}")]
    Load(tokio::task::JoinError),
    #[error("{0:#}")]
    Refused(anyhow::Error),
}

impl Failure {
    /// What is wrong, one by one.
    fn errors(&self) -> Vec<LoadError> {
        match self {
            Self::Invalid(errors) => errors.iter().map(LoadError::from).collect(),
            _ => vec![LoadError::of_no_file(self.to_string())],
        }
    }

    /// What the log says of it.
    fn message(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "the configuration is not valid; the old one stays in force",
            Self::Load(_) => "the configuration cannot be loaded; the old one stays in force",
            Self::Refused(_) => {
                "the configuration is valid, but cannot be put in force; the old one stays"
            }
        }
    }
}

impl Reloader {
    /// Reloads with `loader`, whose last load has this fingerprint.
    pub(super) fn new(
        gateway: Gateway,
        fingerprint: Fingerprint,
        loader: impl Fn() -> Load + Send + Sync + 'static,
    ) -> Self {
        Self {
            gateway,
            loader: Arc::new(loader),
            fingerprint: Some(fingerprint),
            earliest: Instant::now(),
        }
    }

    /// Returns the gateway; nothing is reloaded any more.
    pub(super) fn into_gateway(self) -> Gateway {
        self.gateway
    }

    /// Reloads on SIGHUP, on request, and when a file has changed, for which it looks at this
    /// interval, or never for 0.
    pub(super) async fn run(&mut self, hang_up: &mut Signal, interval: Duration) -> Infallible {
        let polling = !interval.is_zero();
        let interval = interval.max(Duration::from_millis(1));
        let mut poll = interval_at(Instant::now() + interval, interval);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut requests = 0;
        loop {
            let new = tokio::select! {
                // A reload answers everything that was asked for before it begins.
                biased;
                _ = hang_up.recv() => 1,
                new = self.gateway.reload_requested() => new,
                () = sleep_until(self.earliest), if requests > 0 => {
                    self.reload(std::mem::take(&mut requests)).await;
                    0
                }
                _ = poll.tick(), if polling => {
                    self.reload_if_changed().await;
                    0
                }
            };
            if requests == 0 && new > 0 && self.earliest > Instant::now() {
                tracing::info!("the next reload waits for a second after the last one");
            }
            requests += new;
        }
    }

    async fn reload(&mut self, requests: u64) {
        self.gateway.reload_begins();
        let result = match self.load().await {
            Ok(load) => self.apply(load),
            Err(failure) => Err(failure),
        };
        self.conclude(&result, requests);
        let result = result.map_err(|failure| failure.to_string());
        self.gateway.reload_ended(result);
    }

    /// Looks for changes. It answers no request: the file may have changed after it was read.
    async fn reload_if_changed(&mut self) {
        if self.earliest > Instant::now() || self.is_current().await {
            return;
        }
        let result = match self.load().await {
            Ok(load) if self.fingerprint.as_ref() == Some(&load.fingerprint) => return,
            Ok(load) => self.apply(load),
            Err(failure) => Err(failure),
        };
        self.conclude(&result, 0);
    }

    /// Whether all files are as the last load found them. To read them takes less than to load them.
    async fn is_current(&self) -> bool {
        let Some(fingerprint) = self.fingerprint.clone() else {
            return false;
        };
        let current = tokio::task::spawn_blocking(move || fingerprint.is_current());
        // A load will show why it could not be found out.
        current.await.unwrap_or(false)
    }

    /// Loads on a blocking thread, because that reads files.
    async fn load(&self) -> Result<Load, Failure> {
        let loader = Arc::clone(&self.loader);
        let load = tokio::task::spawn_blocking(move || loader());
        load.await.map_err(Failure::Load)
    }

    fn apply(&mut self, load: Load) -> Result<(), Failure> {
        self.fingerprint = Some(load.fingerprint);
        super::log_warnings(&load.warnings);
        let config = load.result.map_err(Failure::Invalid)?;
        self.gateway.reload(config).map_err(Failure::Refused)
    }

    /// Shows what came of a reload in the log and the metrics.
    fn conclude(&mut self, result: &Result<(), Failure>, requests: u64) {
        self.earliest = Instant::now() + PAUSE;
        match result {
            Ok(()) => tracing::info!(requests, "the configuration is reloaded"),
            Err(failure) => {
                if matches!(failure, Failure::Load(_)) {
                    // Otherwise the next one would look unchanged, and the metric would stay at 0.
                    self.fingerprint = None;
                }
                self.gateway.reload_failed(failure.errors());
                let errors = failure.to_string();
                tracing::error!(requests, errors, "{}", failure.message());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::signal::unix::{SignalKind, signal};

    use super::*;
    use crate::config;

    const CONFIG: &str = "
listen: {address: '127.0.0.1:0'}
admin: {address: '127.0.0.1:0'}
hub: {url: 'http://127.0.0.1:9/api/v1/write', protocol: v1}
spokes:
  - name: production
    credentials:
      - token_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
";

    fn load_config() -> Load {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hubgate.yaml");
        fs::write(&path, CONFIG).unwrap();
        config::load(&path)
    }

    /// Parsing 1,000 spokes takes memory and time, and nothing changes most of the time.
    #[tokio::test]
    async fn nothing_is_loaded_until_a_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hubgate.yaml");
        fs::write(&path, CONFIG).unwrap();
        let load = config::load(&path);
        let gateway = Gateway::start(load.result.unwrap()).await.unwrap();
        let loads = Arc::new(AtomicU64::new(0));
        let loader = {
            let (loads, path) = (Arc::clone(&loads), path.clone());
            move || {
                loads.fetch_add(1, Ordering::Relaxed);
                config::load(&path)
            }
        };
        let mut reloader = Reloader::new(gateway, load.fingerprint, loader);
        for (content, expected) in [
            (CONFIG.to_owned(), 0),
            (format!("{CONFIG}# changed\n"), 1),
            (format!("{CONFIG}# changed\n"), 1),
            ("{".to_owned(), 2),
            ("{".to_owned(), 2),
            (CONFIG.to_owned(), 3),
            (CONFIG.to_owned(), 3),
        ] {
            fs::write(&path, &content).unwrap();
            reloader.earliest = Instant::now();
            reloader.reload_if_changed().await;
            assert_eq!(loads.load(Ordering::Relaxed), expected, "{content}");
        }
    }

    async fn ask(gateway: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(gateway).await.unwrap();
        let head = format!("{request} HTTP/1.1\r\nHost: {gateway}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    /// What a bug in the checks of the configuration would do.
    #[tokio::test]
    async fn a_load_that_panics_is_told_and_shown_and_the_next_one_works() {
        let gateway = Gateway::start(load_config().result.unwrap()).await.unwrap();
        let admin = gateway.admin_address();
        let panics = Arc::new(AtomicBool::new(true));
        let panicking = Arc::clone(&panics);
        let loader = move || {
            assert!(!panicking.load(Ordering::Relaxed), "a bug in a check");
            load_config()
        };
        let mut reloader = Reloader::new(gateway, load_config().fingerprint, loader);
        let mut hang_up = signal(SignalKind::hangup()).unwrap();
        let asks = async {
            let failed = ask(admin, "POST /-/reload").await;
            assert!(failed.starts_with("HTTP/1.1 500"), "{failed}");
            assert!(failed.contains("reading it failed"), "{failed}");
            let metrics = ask(admin, "GET /metrics").await;
            assert!(metrics.contains("last_reload_successful 0"), "{metrics}");
            panics.store(false, Ordering::Relaxed);
            let reloaded = ask(admin, "POST /-/reload").await;
            assert!(reloaded.starts_with("HTTP/1.1 200"), "{reloaded}");
            let metrics = ask(admin, "GET /metrics").await;
            assert!(metrics.contains("last_reload_successful 1"), "{metrics}");
        };
        tokio::select! {
            () = asks => {}
            never = reloader.run(&mut hang_up, Duration::ZERO) => match never {},
        }
    }
}
