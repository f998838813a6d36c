//! The processes under measurement. Each runs in a process group of its own, which ends when it is
//! dropped.
//!
//! A server may fork workers. The group counts their CPU time and ends them too. If the bench is
//! killed by SIGKILL, the processes stay.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// A server without data is ready within a second or two.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a connection is tried, because most servers do not log that they listen.
const CONNECT_INTERVAL: Duration = Duration::from_millis(10);

/// How many log lines are kept, to find an address and to show why a process ended.
const LOG_LINES: usize = 40;

/// A running process and its children.
pub(crate) struct Process {
    name: String,
    child: Child,
    group: Pid,
    log: watch::Receiver<VecDeque<String>>,
}

/// The CPU time and memory of a process and its children.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// User and system time of all threads since their start.
    pub(crate) cpu_seconds: f64,
    /// The sum of the highest resident memory of each process. Shared pages count in each.
    pub(crate) peak_bytes: u64,
    /// Open files.
    #[allow(dead_code, reason = "one of the benches reads it")]
    pub(crate) open_files: usize,
}

impl Process {
    /// Starts a program that logs to stderr.
    pub(crate) fn start(name: &str, mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            // The pipe closes when the bench ends, which ends the sink.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let group = group.with_context(|| format!("{name} has no process id"))?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let (sender, log) = watch::channel(VecDeque::new());
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|kept| {
                    kept.truncate(LOG_LINES - 1);
                    kept.push_front(line);
                });
            }
        });
        Ok(Self {
            name: name.to_owned(),
            child,
            group,
            log,
        })
    }

    /// Waits for a log line that contains `text`, and returns it.
    pub(crate) async fn logged(&self, text: &str) -> anyhow::Result<String> {
        let mut log = self.log.clone();
        let found = |lines: &VecDeque<String>| lines.iter().any(|line| line.contains(text));
        match timeout(START_TIMEOUT, log.wait_for(found)).await {
            Ok(Ok(lines)) => lines.iter().find(|line| line.contains(text)).cloned(),
            _ => None,
        }
        .with_context(|| format!("{} did not log {text:?}: {}", self.name, self.log_end()))
    }

    /// Waits until it accepts connections.
    pub(crate) async fn listens(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(address).await.is_err() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                bail!(
                    "{} does not listen on {address}: {}",
                    self.name,
                    self.log_end()
                );
            }
            sleep(CONNECT_INTERVAL).await;
        }
        Ok(())
    }

    /// Reads the CPU time and memory of the process and its children.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let group = self.group.as_raw_nonzero().get();
        let mut ticks = 0;
        let mut peak_kibibytes = 0;
        let mut open_files = 0;
        for process in procfs::process::all_processes()? {
            // A process may end before it is read.
            let Ok(process) = process else { continue };
            let (Ok(stat), Ok(status)) = (process.stat(), process.status()) else {
                continue;
            };
            if stat.pgrp != group {
                continue;
            }
            let ended_children = stat.cutime + stat.cstime;
            ticks += stat.utime + stat.stime + u64::try_from(ended_children).unwrap_or(0);
            peak_kibibytes += status.vmhwm.unwrap_or(0);
            open_files += process.fd_count().unwrap_or(0);
        }
        if peak_kibibytes == 0 {
            bail!("{} ended: {}", self.name, self.log_end());
        }
        Ok(Usage {
            cpu_seconds: ticks as f64 / procfs::ticks_per_second() as f64,
            peak_bytes: peak_kibibytes * 1024,
            open_files,
        })
    }

    /// Ends the process and waits for its end, so that it takes no CPU time from the next one.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        self.kill();
        self.child.wait().await?;
        Ok(())
    }

    fn kill(&self) {
        // After its end was awaited, its number may belong to another process.
        if self.child.id().is_some() {
            // This fails if it has ended by itself.
            let _ = kill_process_group(self.group, Signal::KILL);
        }
    }

    /// The last lines of its log, the newest first.
    fn log_end(&self) -> String {
        let log = self.log.borrow();
        let lines: Vec<&str> = log.iter().take(5).map(String::as_str).collect();
        lines.join("\n    ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An address with a port that was free a moment ago, for programs that do not tell which port they
/// chose.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind a port")?;
    Ok(listener.local_addr()?)
}
