//! The process of a gate: how it is started, its log, and its end.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use tempfile::TempDir;
use tokio::sync::watch;

use crate::support::{DEADLINE, clock, signal};

/// How a gate is started, beside its configuration.
#[derive(Clone, Copy)]
pub(super) struct Flags {
    /// `--config.file`, in the folder of the gate.
    pub(super) config: &'static str,
    /// `--config.auto-reload-interval`
    pub(super) reload_interval: &'static str,
    /// `--shutdown.delay`
    pub(super) shutdown_delay: &'static str,
    /// Arguments of `ulimit`.
    pub(super) ulimit: &'static str,
    /// `--threads`
    pub(super) threads: Option<u16>,
}

impl Flags {
    /// The gate reloads only when it is asked to, and drains at once.
    pub(super) const USUAL: Self = Self {
        config: "hubgate.yaml",
        reload_interval: "0s",
        shutdown_delay: "0s",
        // This changes nothing.
        ulimit: "-n",
        threads: None,
    };
}

/// The file of a gate's folder that leads to another program than the one built with the tests, if it exists.
pub(super) const PROGRAM_FILE: &str = "hubgate";

/// The file of a gate's folder that is its `/etc/hosts`, if it exists.
pub(super) const HOSTS_FILE: &str = "hosts";

/// A running gate, and its log so far.
pub(super) struct Process {
    pub(super) child: Child,
    pub(super) log: watch::Receiver<Vec<String>>,
    reader: Option<JoinHandle<()>>,
    pub(super) write: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl Process {
    pub(super) async fn start(dir: &TempDir, flags: Flags) -> Self {
        let Flags {
            config,
            reload_interval,
            shutdown_delay,
            ulimit,
            threads,
        } = flags;
        let config = dir.path().join(config);
        let hosts = dir.path().join(HOSTS_FILE);
        let limited = format!("ulimit {ulimit} >/dev/null && exec \"$@\"");
        let mut command = if hosts.exists() {
            let mut command = Command::new("unshare");
            let script = format!("mount --bind \"$0\" /etc/hosts && {limited}");
            command.args(["-rm", "sh", "-c", &script]).arg(hosts);
            command
        } else {
            let mut command = Command::new("sh");
            command.args(["-c", &limited, "sh"]);
            command
        };
        let clock = dir.path().join(clock::FILE);
        if clock.exists() {
            clock::apply(&mut command, &clock);
        }
        let other = dir.path().join(PROGRAM_FILE);
        let program = match other.exists() {
            true => other,
            false => env!("CARGO_BIN_EXE_hubgate").into(),
        };
        let mut child = command
            .arg(program)
            .arg("serve")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--config.auto-reload-interval={reload_interval}"))
            .arg(format!("--shutdown.delay={shutdown_delay}"))
            .arg("--log.format=json")
            .args(threads.map(|threads| format!("--threads={threads}")))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, log) = watch::channel(Vec::new());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                sender.send_modify(|lines: &mut Vec<String>| lines.push(line));
            }
        });
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Self {
            child,
            log,
            reader: Some(reader),
            write: unknown,
            admin: unknown,
        };
        process.write = process.logged_address("receiving remote writes").await;
        process.admin = process.logged_address("serving admin").await;
        process
    }

    /// The `address` in the log line with this message.
    async fn logged_address(&self, message: &str) -> SocketAddr {
        let line = self.wait_for_log(&[message]).await;
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        line["address"].as_str().unwrap().parse().unwrap()
    }

    pub(super) async fn wait_for_log(&self, texts: &[&str]) -> String {
        let has_all = |line: &&String| texts.iter().all(|text| line.contains(text));
        let mut log = self.log.clone();
        let seen = log.wait_for(|lines| lines.iter().any(|line| has_all(&line)));
        match tokio::time::timeout(DEADLINE, seen).await {
            Ok(Ok(lines)) => lines.iter().find(has_all).unwrap().clone(),
            _ => {
                let lines = self.log.borrow().join("\n");
                panic!("not logged in time, or the gate ended: {texts:?}\n{lines}")
            }
        }
    }

    pub(super) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Kills the process if it still runs, and reads the log to its end.
    pub(super) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        clock::forget(self.child.id());
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
