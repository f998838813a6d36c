//! Accepts connections and has HTTP spoken on them: connection cap, source ranges, drain.
//!
//! The loop is our own so that all of this stands in one place and in this order, before any
//! HTTP is parsed. What a request means is the handler's.

mod activity;
mod connection;
mod peer;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use prometheus::IntGauge;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::SourceRanges;
use crate::metrics::Metrics;
use crate::reasons::ConnectionRefusal;
use crate::telemetry::Repeats;

use activity::Deadlines;
use connection::connection;

pub use peer::{AddressSource, Peer};

/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The body of any response.
pub type ResponseBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Responds to the requests of one listener.
pub trait Handler: Send + Sync + 'static {
    /// Responds to one request of `peer`.
    fn handle(
        self: Arc<Self>,
        peer: Peer,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send;
}

/// Who may connect to a listener.
pub struct Access {
    /// The number of connections that may be open at once.
    pub connections_max: usize,
    /// Returns the ranges that connections may come from at this moment; a reload changes them.
    pub source_ranges: Box<dyn Fn() -> SourceRanges + Send + Sync>,
    /// Where open and refused connections are counted, if anywhere.
    pub metrics: Option<Metrics>,
}

impl Access {
    /// Counts a connection that is closed before a request.
    fn count_refusal(&self, reason: ConnectionRefusal) {
        if let Some(metrics) = &self.metrics {
            metrics.connection_refused(reason);
        }
    }
}

/// Stops the listeners and waits for what they began.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    begun: CancellationToken,
    tasks: TaskTracker,
}

impl Drain {
    /// The tasks that are waited for.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// True once draining has begun.
    pub fn begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Stops accepting, lets every connection finish the requests it began, and waits until all
    /// have. Returns false when `deadline` passed first.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.begun.cancel();
        self.tasks.close();
        timeout(deadline, self.tasks.wait()).await.is_ok()
    }
}

/// Accepts connections until draining begins. Should it end in another way, draining begins, too:
/// a gate without this loop must not seem ready.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    access: Access,
    handler: Arc<H>,
    drain: Drain,
) {
    let _ended = drain.begun.clone().drop_guard();
    let access = Arc::new(access);
    let permits = Arc::new(Semaphore::new(access.connections_max));
    // Without file descriptors an accept fails ten times a second.
    let mut failures = Repeats::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.begun.cancelled() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(count) = failures.add(1, Instant::now()) {
                    tracing::warn!(%error, count, "cannot accept connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer = Peer::direct(address);
        if !(access.source_ranges)().contains(peer.ip()) {
            access.count_refusal(ConnectionRefusal::SourceRange);
            continue;
        }
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            access.count_refusal(ConnectionRefusal::ConnectionsMax);
            continue;
        };
        let open = Open::new(
            permit,
            access
                .metrics
                .as_ref()
                .map(|metrics| metrics.connections().clone()),
        );
        // A write waits for its answer and must not wait for more bytes. Fails when the peer is
        // gone, which the connection finds out.
        let _ = stream.set_nodelay(true);
        let connection = connection(
            stream,
            peer.clone(),
            Arc::clone(&access),
            Arc::clone(&handler),
            drain.clone(),
            Deadlines::default(),
        );
        drain.tasks.spawn(async move {
            let _open = open;
            if let Err(error) = connection.await {
                tracing::debug!(%peer, error, "a connection ended");
            }
        });
    }
}

/// A place among the open connections, shown in the gauge as long as it lives.
struct Open {
    gauge: Option<IntGauge>,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    fn new(permit: OwnedSemaphorePermit, gauge: Option<IntGauge>) -> Self {
        if let Some(gauge) = &gauge {
            gauge.inc();
        }
        Self {
            gauge,
            _permit: permit,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(gauge) = &self.gauge {
            gauge.dec();
        }
    }
}
