//! A spoke that does nothing wrong, beside those that do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::gate::Gate;
use super::sender::Request;

/// A spoke that writes all the time, each time on a new connection.
pub(crate) struct HonestSpoke {
    stop: Arc<AtomicBool>,
    task: JoinHandle<usize>,
}

impl HonestSpoke {
    pub(crate) fn start(gate: &Gate) -> Self {
        let (to, stop) = (gate.write_address(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut written = 0;
            while !stopped.load(Ordering::Relaxed) {
                let response = Request::up().spoke("production").send(to).await;
                response.expect("a response").expect(204);
                written += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            written
        });
        Self { stop, task }
    }

    /// Fails if a write failed.
    pub(crate) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert!(self.task.await.expect("no failed write") > 0);
    }
}
