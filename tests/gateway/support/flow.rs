//! Writes that go on while something changes.

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::DEADLINE;
use super::body::{Protocol, up};
use super::gate::Gate;
use super::sender::Request;

/// Writers that write until they are told to end. Each write must succeed.
pub(crate) struct Flow {
    ends: watch::Sender<bool>,
    writers: Vec<Writer>,
}

struct Writer {
    written: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Flow {
    pub(crate) fn start(gate: &Gate) -> Self {
        let ends = watch::Sender::new(false);
        let address = gate.write_address();
        let writer = |protocol| {
            let (counter, written) = watch::channel(0);
            let ended = ends.subscribe();
            let task = tokio::spawn(async move {
                while !*ended.borrow() {
                    let request = Request::series(protocol, &up()).spoke("production");
                    request.send(address).await.unwrap().expect(204);
                    counter.send_modify(|count| *count += 1);
                }
            });
            Writer { written, task }
        };
        let protocols = Protocol::BOTH.into_iter().cycle().take(4);
        let writers = protocols.map(writer).collect();
        Self { ends, writers }
    }

    /// Waits until each writer has begun and ended a write, so that those that are under way now have
    /// ended.
    pub(crate) async fn pass(&mut self) {
        for Writer { written, .. } in &mut self.writers {
            let before = *written.borrow();
            let passed = written.wait_for(|count| *count >= before + 2);
            let passed = tokio::time::timeout(DEADLINE, passed).await;
            passed.expect("writes in time").expect("a write succeeds");
        }
    }

    /// Ends the writers.
    pub(crate) async fn end(self) {
        self.ends.send_replace(true);
        for writer in self.writers {
            writer.task.await.unwrap();
        }
    }
}
