//! What happens to a connection in the accept loop.
//!
//! All that [`admit`] decides is known from the socket at once, so a refused connection costs no
//! task, and a flood of them holds one file descriptor at a time. The only wait is for a connection
//! that gives way, whose task has to run once. A step that needs bytes of the peer belongs into
//! `establish`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::{ConnectionRules, ProxyProtocol};
use crate::metrics::Metrics;
use crate::reasons::ConnectionRefusal;
use crate::telemetry::SharedRepeats;

use super::activity::Activity;
use super::handshake::Handshakes;
use super::peer::Peer;
use super::places::{GivesWay, Place, Places, Taker};

/// Who may connect to a listener.
pub struct Access {
    /// The number of connections that may be open at once.
    pub connections_max: usize,
    /// Which connections give way to new ones beyond that.
    pub gives_way: GivesWay,
    /// The time from the accept to the end of the first head, and for each later head.
    pub head_timeout: Duration,
    /// Returns the rules for a connection that begins at this moment; a reload changes them.
    pub rules: Box<dyn Fn() -> Arc<ConnectionRules> + Send + Sync>,
    /// Changes after each reload.
    pub reloads: watch::Receiver<()>,
    /// The handshakes of all listeners.
    pub handshakes: Arc<Handshakes>,
    /// Where open and refused connections are counted, if anywhere.
    pub metrics: Option<Metrics>,
    /// When peers that should be proxies were last logged.
    pub proxy_log: ProxyLog,
}

/// Logs now and then that what should be a proxy is none. Then no spoke may get through at all, and
/// only hubgate can say why.
#[derive(Debug, Default)]
pub struct ProxyLog(SharedRepeats);

impl ProxyLog {
    /// Adds a connection of this peer.
    pub(super) fn add(&self, peer: &Peer, fault: &str) {
        if let Some(count) = self.0.add() {
            tracing::warn!(address = %peer.ip(), fault, count, "no connection of a proxy");
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// Counts a connection that is refused, or closed because of its sender.
    pub(super) fn count_refusal(&self, reason: ConnectionRefusal) {
        self.count_refusal_of(None, reason);
    }

    /// The same of a peer at this address.
    pub(super) fn count_refusal_of(&self, address: Option<IpAddr>, reason: ConnectionRefusal) {
        if let Some(metrics) = &self.metrics {
            metrics.count_refused_connection(reason, address);
        }
    }
}

/// A connection that gets a task.
pub(super) struct Admitted<S> {
    pub(super) stream: S,
    /// What the socket says.
    pub(super) peer: Peer,
    /// The rules that were in force at the accept.
    pub(super) rules: Arc<ConnectionRules>,
    pub(super) accepted: Instant,
    pub(super) activity: Arc<Activity>,
    pub(super) place: Place,
}

/// Decides whether an accepted connection gets a task, and gives it one of the `places`.
pub(super) async fn admit(
    stream: TcpStream,
    address: SocketAddr,
    access: &Access,
    places: &Arc<Places>,
) -> Result<Admitted<TcpStream>, ConnectionRefusal> {
    let rules = (access.rules)();
    let peer = Peer::direct(address);
    let taker = match rules.proxy_protocol {
        ProxyProtocol::Off => judge(&peer, &rules)?,
        ProxyProtocol::Required if rules.is_proxy(peer.ip()) => Taker::Behind(peer.ip()),
        ProxyProtocol::Required => {
            let fault = "the address is not in listen.trusted_proxies";
            access.proxy_log.add(&peer, fault);
            return Err(ConnectionRefusal::UntrustedProxy);
        }
    };
    let gauge = access.metrics.as_ref().map(Metrics::connections).cloned();
    let place = places.take(taker, gauge).await?;
    // The last bytes of a response must not wait for an acknowledgement. This fails when the peer
    // is gone, and then the first read fails as well.
    let _ = stream.set_nodelay(true);
    Ok(Admitted {
        stream,
        peer,
        rules,
        accepted: Instant::now(),
        activity: Activity::new(Arc::clone(place.turn())),
        place,
    })
}

/// Judges a peer whose address is known as well as the connection can tell it. Those behind a proxy
/// that sends `X-Forwarded-For` are judged by each request.
pub(super) fn judge(peer: &Peer, rules: &ConnectionRules) -> Result<Taker, ConnectionRefusal> {
    let address = peer.ip();
    if !rules.forwards(address) && !rules.source_ranges.contains(address) {
        return Err(ConnectionRefusal::SourceRange);
    }
    if rules.is_proxy(address) {
        return Ok(Taker::Behind(address));
    }
    let limit = rules.connections_per_address_max;
    Ok(Taker::Address(address, limit))
}
