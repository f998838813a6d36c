//! Two replicas behind a real HAProxy are restarted one after the other, while spokes write.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::docs;
use crate::support::arrivals::{expect_same_samples, now, wait_for_spokes, wait_until};
use crate::support::body::{Protocol, bare, now as now_ms};
use crate::support::config::{config, spoke};
use crate::support::gate::Gate;
use crate::support::haproxy::Haproxy;
use crate::support::prometheus::{Binary, ONE_AT_A_TIME, Prometheus, Spoke};
use crate::support::sender::{Connection, Request};
use crate::support::{DEADLINE, eventually};

/// Much longer than HAProxy needs to notice, also on a busy machine.
const DELAY: &str = "4s";

/// The servers of the example, in its order.
const SERVERS: [&str; 2] = ["a", "b"];

/// The backend of the documentation, with faster checks and these replicas.
fn backend(gates: &[Gate; 2]) -> String {
    let mut backend = docs::haproxy_backend();
    let mut replace = |from: &str, to: &str| {
        assert!(backend.contains(from), "{from} in {backend}");
        backend = backend.replace(from, to);
    };
    replace("inter 1s", "inter 200ms");
    for (number, gate) in (1..).zip(gates) {
        let (write, admin) = (gate.write_address(), gate.admin_address().port());
        let server = format!("{write} port {admin}");
        replace(&format!("192.0.2.{number}:9480"), &server);
    }
    backend
}

/// A sender that writes one series through HAProxy, and repeats what fails as a Prometheus does.
struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Written>,
}

/// What a sender was told.
#[derive(Debug)]
struct Written {
    acknowledged: usize,
    /// What came instead of a 2xx.
    failures: Vec<String>,
}

impl Load {
    fn start(to: SocketAddr, sender: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut written = Written {
                acknowledged: 0,
                failures: Vec::new(),
            };
            let mut connection = None;
            while !stopped.load(Ordering::Relaxed) {
                let labels = format!("__name__=load,sender={sender}");
                let sample = bare(&labels).sample(written.acknowledged as f64, now_ms());
                let request = Request::series(Protocol::V1, &[sample]).spoke("load");
                while let Err(failure) = write(&mut connection, to, request.clone()).await {
                    written.failures.push(failure);
                    connection = None;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                written.acknowledged += 1;
                // A timestamp in milliseconds stands once in a series.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            written
        });
        Self { stop, task }
    }

    async fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Writes once. An answer that a Prometheus does not repeat fails the test.
async fn write(
    connection: &mut Option<Connection>,
    to: SocketAddr,
    request: Request,
) -> Result<(), String> {
    let broken = |failure| format!("{failure:?}");
    if connection.is_none() {
        let opened = Connection::open(to, None, false).await;
        *connection = Some(opened.map_err(broken)?);
    }
    let open = connection.as_mut().expect("it was just opened");
    let response = open.send(request).await.map_err(broken)?;
    match response.status {
        204 => Ok(()),
        500.. => Err(format!("{response:?}")),
        _ => panic!("this loses samples: {response:?}"),
    }
}

/// Waits until a gate has taken some writes.
async fn wait_for_writes(gate: &Gate) {
    eventually("writes arrive", DEADLINE, async || {
        match gate.sum("hubgate_requests_total", &[]).await {
            10.0.. => Ok(()),
            few => Err(few),
        }
    })
    .await;
}

#[tokio::test]
async fn a_rolling_restart_behind_haproxy_fails_no_write() {
    const SENDERS: usize = 8;
    let _turn = ONE_AT_A_TIME.lock().await;
    for binary in Binary::all() {
        let hub = Prometheus::start_hub(&binary).await;
        let yaml = config(&hub.url(), &[spoke("production", ""), spoke("load", "")]);
        let mut gates = [
            Gate::start_with_delay(&yaml, DELAY).await,
            Gate::start_with_delay(&yaml, DELAY).await,
        ];
        let haproxy = Haproxy::start(&backend(&gates)).await;
        for server in SERVERS {
            haproxy.wait_for_status(server, "UP").await;
        }
        let production = Spoke {
            url: format!("http://{}/api/v1/write", haproxy.address()),
            ..Spoke::new(&gates[0], "production", Protocol::V1)
        };
        let production = Prometheus::start_spoke(&binary, &production).await;
        wait_for_spokes(&hub, &["production"]).await;
        let from = now(&production).await;

        let load: Vec<_> = (0..SENDERS)
            .map(|sender| Load::start(haproxy.address(), sender))
            .collect();

        for (server, gate) in SERVERS.into_iter().zip(&mut gates) {
            wait_for_writes(gate).await;
            gate.start_draining("TERM").await;
            haproxy.wait_for_status(server, "DOWN").await;
            assert!(gate.wait_for_exit().await.success(), "{server}");
            gate.restart(&yaml).await;
            haproxy.wait_for_status(server, "UP").await;
        }
        for gate in &gates {
            wait_for_writes(gate).await;
        }

        for (sender, load) in load.into_iter().enumerate() {
            let written = load.stop().await;
            assert_eq!(written.failures, Vec::<String>::new(), "sender {sender}");
            let selector = format!("load{{sender=\"{sender}\"}}");
            let (to, seconds) = (now(&hub).await + 1, 120);
            let there = hub.samples(&selector, seconds, to).await;
            let stored: usize = there.values().map(Vec::len).sum();
            assert_eq!(stored, written.acknowledged, "sender {sender}");
        }
        let to = now(&production).await;
        wait_until(&production, to + 1).await;
        expect_same_samples(&hub, &production, "production", to - from, to).await;
        let metrics = production.metrics().await;
        let failed = metrics.sum("prometheus_remote_storage_samples_failed_total", &[]);
        assert_eq!(failed, 0.0);
    }
}
