//! Accepts connections, has HTTP spoken on them, and drains them.
//!
//! The accept loop is not a library's, because connections are refused by their source and their
//! number before any HTTP is parsed, and hubgate waits for each of them when it drains. A connection
//! meets these files in this order: `admit` decides by its socket whether it gets a task, `establish`
//! does there what comes before HTTP, such as the header that `proxy_header` reads and the `handshake`
//! of TLS, `connection` speaks HTTP on it under the deadlines of `activity`, and a [`Handler`] responds
//! to its requests. [`forwarded_for`] tells it who sends them. `places` keeps the number of connections;
//! `stream`, with `head` and `frames`, follows what they receive. `standing` tells whether a reload ends
//! an open connection.

mod activity;
mod admit;
mod connection;
mod establish;
pub mod forwarded_for;
mod frames;
mod handshake;
mod head;
mod pace;
mod peer;
mod places;
mod prefixed;
pub mod proxy_header;
mod read_ahead;
mod standing;
mod stream;
#[cfg(test)]
mod tests;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::telemetry::Repeats;

use activity::Deadlines;
use admit::{Admitted, admit};
use connection::connection;
use establish::{Unestablished, establish};
use places::Places;

pub use activity::HEAD_TIMEOUT;
pub use admit::{Access, ProxyLog};
pub use handshake::{Handshakes, PeerTls};
pub use peer::{AddressSource, Peer};
pub use places::{GivesWay, Turn};

/// The pause after an accept that failed because file descriptors or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The body of any response.
pub type ResponseBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Responds to the requests of one listener.
pub trait Handler: Send + Sync + 'static {
    /// Responds to one request of `peer`. Its connection may give way to others until the handler
    /// has it [`stay`](Turn::stay).
    fn handle(
        self: Arc<Self>,
        peer: Peer,
        turn: Arc<Turn>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<ResponseBody>> + Send;
}

/// Stops a listener and waits for its tasks.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    /// Each response looks at it, so it has no lock.
    announced: Arc<AtomicBool>,
    begun: CancellationToken,
    tasks: TaskTracker,
}

impl Drain {
    /// The tasks that draining waits for.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Has every response ask for the end of its connection from now on, so that senders and balancers
    /// go elsewhere. Connections are still accepted.
    pub fn announce(&self) {
        self.announced.store(true, Ordering::Relaxed);
    }

    /// True once draining is announced or has begun.
    pub fn announced(&self) -> bool {
        self.announced.load(Ordering::Relaxed) || self.begun()
    }

    /// Waits until draining begins.
    pub async fn begins(&self) {
        self.begun.cancelled().await;
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

/// Accepts connections until draining begins. A loop that ends in any other way, such as a panic,
/// begins draining itself, because hubgate is not ready without it.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    access: Access,
    handler: Arc<H>,
    drain: Drain,
) {
    let _ended = drain.begun.clone().drop_guard();
    let access = Arc::new(access);
    let places = Places::new(access.connections_max, access.gives_way);
    let deadlines = Deadlines {
        head: access.head_timeout,
        ..Deadlines::default()
    };
    // While there are no file descriptors, an accept fails ten times a second.
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
        let admitted = match admit(stream, address, &access, &places).await {
            Ok(admitted) => admitted,
            Err(refusal) => {
                access.count_refusal_of(Some(address.ip()), refusal);
                continue;
            }
        };
        let (access, handler) = (Arc::clone(&access), Arc::clone(&handler));
        let task = run(admitted, access, handler, drain.clone(), deadlines);
        drain.tasks.spawn(task);
    }
}

/// Runs one connection until its end.
async fn run<S, H>(
    admitted: Admitted<S>,
    access: Arc<Access>,
    handler: Arc<H>,
    drain: Drain,
    deadlines: Deadlines,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    H: Handler,
{
    let established = match establish(admitted, &access, &drain, &deadlines).await {
        Ok(established) => established,
        Err(Unestablished::Refused(reason)) => return access.count_refusal(reason),
        Err(Unestablished::Gone) => return,
    };
    let peer = established.peer.clone();
    let source = peer.address_source().name();
    tracing::debug!(%peer, source, "a connection begins");
    let connection = connection(established, access, handler, drain, deadlines);
    if let Err(error) = connection.await {
        tracing::debug!(%peer, error, "a connection ended");
    }
}
