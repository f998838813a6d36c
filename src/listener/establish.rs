//! What happens in the task of a connection before HTTP is spoken on it.
//!
//! A step that needs bytes of the peer, such as a PROXY protocol header or a TLS handshake, belongs
//! into [`establish`], in the order in which the bytes come. All steps and the first head share one
//! deadline, which runs from the accept. A step that misses it says so with a reason of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};

use crate::config::ConnectionRules;
use crate::reasons::ConnectionRefusal;

use super::Drain;
use super::activity::{Activity, Deadlines};
use super::admit::{Access, Admitted};
use super::peer::Peer;
use super::places::Place;
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
}

/// Why a connection ends before HTTP is spoken on it.
pub(super) enum Unestablished {
    /// The peer has ended it, or hubgate drains.
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
) -> Result<Established<Transport<S>>, Unestablished>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Admitted {
        stream,
        peer,
        rules,
        deadline,
        activity,
        place,
    } = admitted;
    let (stream, peer) = tokio::select! {
        done = steps(stream, peer, &rules, deadline, access, &place) => done?,
        () = place.evicted() => return Err(ConnectionRefusal::Evicted.into()),
        () = drained(drain, deadlines.drain) => return Err(Unestablished::Gone),
    };
    let by = rules.tls.clone();
    let standing = Standing::new(Arc::clone(access), peer.tls().cloned(), by);
    Ok(Established {
        stream,
        peer,
        standing: Arc::new(standing),
        activity,
        place,
    })
}

/// Takes the steps that need bytes of the peer, each until the `deadline`.
async fn steps<S>(
    stream: S,
    mut peer: Peer,
    rules: &ConnectionRules,
    deadline: Instant,
    access: &Access,
    place: &Place,
) -> Result<(Transport<S>, Peer), Unestablished>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(tls) = &rules.tls else {
        return Ok((Transport::Plain(stream), peer));
    };
    let handshakes = &access.handshakes;
    let stream = ReadAhead::new(stream);
    let accepted = handshakes.accept(stream, tls, deadline, &peer, place);
    let (stream, facts) = accepted.await?;
    peer.set_tls(facts);
    Ok((Transport::Tls(Box::new(stream)), peer))
}

/// Waits until hubgate has been draining for this time.
async fn drained(drain: &Drain, time: Duration) {
    drain.begins().await;
    sleep(time).await;
}
