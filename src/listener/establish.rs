//! What happens in the task of a connection before HTTP is spoken on it.
//!
//! [`establish`] takes the steps that need bytes of the peer, in the order in which the bytes come:
//! the PROXY protocol header, what the true address decides, and the TLS handshake. All steps and the first head share one deadline, which runs from the accept. A step that misses it
//! says so with a reason of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::{ConnectionRules, ProxyProtocol};
use crate::reasons::ConnectionRefusal;

use super::Drain;
use super::activity::{Activity, Deadlines};
use super::admit::{Access, Admitted, judge};
use super::peer::Peer;
use super::places::Place;
use super::prefixed::Prefixed;
use super::proxy_header::{self, HeaderFault};
use super::read_ahead::ReadAhead;
use super::standing::Standing;
use super::transport::Transport;

/// A connection on which HTTP can begin.
pub(super) struct Established<S> {
    pub(super) stream: S,
    pub(super) peer: Peer,
    pub(super) standing: Arc<Standing>,
    pub(super) activity: Arc<Activity>,
    pub(super) place: Place,
    /// When the connection is so old that its next response ends it.
    pub(super) old_at: Option<Instant>,
}

/// Why a connection ends before HTTP is spoken on it.
#[derive(Debug)]
pub(super) enum Unestablished {
    /// The peer has left, or hubgate drains.
    Gone,
    /// It is refused.
    Refused(ConnectionRefusal),
}

impl From<ConnectionRefusal> for Unestablished {
    fn from(reason: ConnectionRefusal) -> Self {
        Self::Refused(reason)
    }
}

/// Takes a connection through all steps before HTTP.
pub(super) async fn establish<S>(
    admitted: Admitted<S>,
    access: &Arc<Access>,
    drain: &Drain,
    deadlines: &Deadlines,
) -> Result<Established<Transport<Prefixed<S>>>, Unestablished>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Admitted {
        stream,
        peer,
        rules,
        accepted,
        activity,
        place,
    } = admitted;
    let steps = Steps {
        access,
        rules: &rules,
        place: &place,
        deadline: accepted + deadlines.head,
    };
    let (stream, peer) = tokio::select! {
        done = steps.take(stream, peer) => done?,
        () = place.evicted() => return Err(ConnectionRefusal::Evicted.into()),
        () = drained(drain, deadlines.drain) => return Err(Unestablished::Gone),
    };
    let old_at = rules.connection_age_max.map(|age| accepted + jittered(age));
    let standing = Standing::new(Arc::clone(access), peer.tls().cloned(), rules);
    Ok(Established {
        stream,
        peer,
        standing: Arc::new(standing),
        activity,
        place,
        old_at,
    })
}

/// What the steps need to know.
struct Steps<'c> {
    access: &'c Access,
    rules: &'c ConnectionRules,
    place: &'c Place,
    /// For all of them together.
    deadline: Instant,
}

impl Steps<'_> {
    /// Takes all steps. The stream that comes out begins behind what they have read.
    async fn take<S>(
        &self,
        stream: S,
        peer: Peer,
    ) -> Result<(Transport<Prefixed<S>>, Peer), Unestablished>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (stream, mut peer) = match self.rules.proxy_protocol {
            ProxyProtocol::Off => (Prefixed::new(Bytes::new(), stream), peer),
            ProxyProtocol::Required => self.read_proxy_header(stream, peer).await?,
        };
        let Some(tls) = &self.rules.tls else {
            return Ok((Transport::Plain(stream), peer));
        };
        let (stream, handshakes) = (ReadAhead::new(stream), &self.access.handshakes);
        let accepted = handshakes.accept(stream, tls, self.deadline, &peer, self.place);
        // It takes more memory than all else of a connection, whose task would keep it.
        let (stream, facts) = Box::pin(accepted).await?;
        peer.set_tls(facts);
        Ok((Transport::Tls(Box::new(stream)), peer))
    }

    /// Reads where the peer of a proxy is, and judges it.
    async fn read_proxy_header<S>(
        &self,
        mut stream: S,
        peer: Peer,
    ) -> Result<(Prefixed<S>, Peer), Unestablished>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let header = proxy_header::read(&mut stream);
        let header = timeout_at(self.deadline, header).await;
        let header = header.unwrap_or(Err(HeaderFault::Late)).map_err(|fault| {
            self.access.proxy_log.add(&peer, &fault.to_string());
            ConnectionRefusal::ProxyHeader
        });
        let (source, rest) = header?.ok_or(Unestablished::Gone)?;
        let peer = source.map_or(peer, Peer::proxied);
        self.place.pass_to(judge(&peer, self.rules)?)?;
        Ok((Prefixed::new(rest, stream), peer))
    }
}

/// Spreads the ends of connections that began together, within the last quarter of their age.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(1.0 - fastrand::f64() / 4.0)
}

/// Waits until hubgate has been draining for this time.
async fn drained(drain: &Drain, time: Duration) {
    drain.begins().await;
    sleep(time).await;
}
