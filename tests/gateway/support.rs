//! The machinery of the black-box tests: the gate as a process, hubs, spokes, and what they send.
//!
//! It knows the public contracts of hubgate (flags, configuration, HTTP, metric names) and the
//! generated remote-write messages, and nothing else of the crate.

use std::fmt::Debug;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) mod arrivals;
mod axe;
pub(crate) mod body;
pub(crate) mod browser;
mod clock;
pub(crate) mod config;
pub(crate) mod flow;
pub(crate) mod gate;
pub(crate) mod haproxy;
pub(crate) mod honest_spoke;
pub(crate) mod hub;
pub(crate) mod jwt;
pub(crate) mod metrics;
pub(crate) mod nginx;
pub(crate) mod pki;
pub(crate) mod prometheus;
pub(crate) mod raw_hub;
pub(crate) mod reply;
pub(crate) mod scrape_target;
pub(crate) mod sender;
pub(crate) mod sick_hub;
pub(crate) mod tls;
pub(crate) mod tls_server;
pub(crate) mod victoria_metrics;

/// Longest wait for something that takes well under a second on an idle machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Polls until `observe` returns `Ok`, and fails after `deadline`.
///
/// `observe` returns what it saw instead as `Err`; the last one is part of the failure.
pub(crate) async fn eventually<T, E: Debug>(
    what: &str,
    deadline: Duration,
    mut observe: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let started = tokio::time::Instant::now();
    loop {
        match observe().await {
            Ok(seen) => return seen,
            Err(instead) if started.elapsed() > deadline => {
                panic!("{what}: not within {deadline:?}; last seen: {instead:?}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Polls until `observe` returns `expected`, and fails after `deadline`.
pub(crate) async fn eventually_equal<T: Debug + PartialEq>(
    what: &str,
    deadline: Duration,
    expected: T,
    mut observe: impl AsyncFnMut() -> T,
) {
    eventually(what, deadline, async || {
        let seen = observe().await;
        if seen == expected { Ok(()) } else { Err(seen) }
    })
    .await;
}

/// Sends a signal to a process that a test started. `kill` is built into every `sh`.
pub(crate) fn signal(pid: u32, name: &str) {
    let command = format!("kill -{name} {pid}");
    let status = std::process::Command::new("sh")
        .args(["-c", &command])
        .status();
    assert!(status.unwrap().success(), "{command}");
}

/// A GET without a runtime, for destructors. Returns the response, or the error as text.
fn get_blocking(from: SocketAddr, path: &str) -> String {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&from, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    exchange().unwrap_or_else(|error| error.to_string())
}
