//! What happens to an accepted connection before HTTP is spoken on it.
//!
//! [`establish`] runs in the accept loop, before the connection has a task. All that it decides is
//! known from the socket at once, so a refused connection costs no task, and a flood of them holds
//! one file descriptor at a time. The only wait is for a connection that gives way, whose task has
//! to run once.
//!
//! A step that needs bytes of the peer, such as a PROXY protocol header or a TLS handshake, would
//! stop the accept loop. It belongs at the start of the connection's task, where the bytes that
//! tell HTTP/1.1 from HTTP/2 are read today. Both places are under one deadline, because the
//! [`Activity`] of a connection starts here: the first head of a request has to arrive within
//! `Deadlines::head` of the accept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::config::SourceRanges;
use crate::metrics::Metrics;
use crate::reasons::ConnectionRefusal;

use super::activity::Activity;
use super::peer::Peer;
use super::places::{GivesWay, Place, Places};

/// Who may connect to a listener.
pub struct Access {
    /// The number of connections that may be open at once.
    pub connections_max: usize,
    /// Which connections give way to new ones beyond that.
    pub gives_way: GivesWay,
    /// The time for the head of a request.
    pub head_timeout: Duration,
    /// Returns the ranges that connections may come from at this moment; a reload changes them.
    pub source_ranges: Box<dyn Fn() -> SourceRanges + Send + Sync>,
    /// Where open and refused connections are counted, if anywhere.
    pub metrics: Option<Metrics>,
}

impl Access {
    /// Counts a connection that is refused, or closed because of its sender.
    pub(super) fn count_refusal(&self, reason: ConnectionRefusal) {
        if let Some(metrics) = &self.metrics {
            metrics.count_refused_connection(reason);
        }
    }
}

/// A connection on which HTTP can begin.
pub(super) struct Established<S> {
    pub(super) stream: S,
    pub(super) peer: Peer,
    pub(super) activity: Arc<Activity>,
    pub(super) place: Place,
}

/// Decides whether an accepted connection may stay, and gives it one of the `places`.
pub(super) async fn establish(
    stream: TcpStream,
    address: SocketAddr,
    access: &Access,
    places: &Arc<Places>,
) -> Result<Established<TcpStream>, ConnectionRefusal> {
    let peer = Peer::direct(address);
    if !(access.source_ranges)().contains(peer.ip()) {
        return Err(ConnectionRefusal::SourceRange);
    }
    let gauge = access.metrics.as_ref().map(Metrics::connections).cloned();
    let place = places.take(peer.ip(), gauge).await;
    let place = place.ok_or(ConnectionRefusal::ConnectionsMax)?;
    // The last bytes of a response must not wait for an acknowledgement. This fails when the peer
    // is gone, and then the first read fails as well.
    let _ = stream.set_nodelay(true);
    Ok(Established {
        stream,
        peer,
        activity: Activity::new(Arc::clone(place.turn())),
        place,
    })
}
