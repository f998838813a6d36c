//! The connections to one hub: opened, kept for the next request, and left when they are not to be
//! trusted any more.
//!
//! A kept connection holds on to the address that the name of the hub had when it was opened, and to
//! the instance that a load balancer chose. So it is left when it is too old, when a reload asks for
//! it, and when the hub fails several times in a row. One that stays silent says that the others to
//! the same address may be silent as well. What follows from each response is in `addresses`, which
//! connection is used next in `pool`, and how a new one is made in `dial`.
//!
//! There is no task for a connection: whoever sends a request drives it. The lock is held for moments
//! only, never over a wait.

mod addresses;
mod connection;
mod dial;
mod pool;
mod stream;

use std::convert::Infallible;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::time::{sleep, timeout_at};

use crate::config::{self, HubTls};
use crate::reasons::HubFailure;
use crate::telemetry::Repeats;
use crate::wire::Protocol;

use super::hub::HubRequest;
use super::response::HubResponse;

use addresses::Addresses;
use connection::Connection;
use dial::Dialer;
use pool::{Pool, Pooled};
use stream::{Stream, tls_fault};

/// How often idle connections are looked through for those that ended or were idle for too long.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// A connection that one request has for itself.
#[derive(Debug)]
pub(super) struct Held(Pooled<Box<Connection>>);

/// The connections to one hub.
#[derive(Debug)]
pub(super) struct Connections {
    hub: String,
    age_max: Duration,
    tls: Option<HubTls>,
    dialer: Arc<Dialer>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    pool: Pool<Box<Connection>>,
    addresses: Addresses,
    /// Connections that could not be opened.
    unopened: Repeats,
}

/// Why a request got no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// The hub closed a kept connection before it said anything, as servers do with idle ones. It did
    /// not read the request, or it does no harm to send it again.
    Unread,
    /// Anything else.
    Failed(HubFailure),
}

impl Connections {
    /// No connections yet. The addresses of the hub stay known from those `before` them at its URL: a
    /// name server may be down.
    pub(super) fn new(hub: &config::Hub, before: Option<&Self>) -> Self {
        Self {
            hub: hub.name.clone(),
            age_max: hub.connection_age_max,
            tls: hub.tls.clone(),
            dialer: before.map_or_else(
                || Arc::new(Dialer::new(&hub.url)),
                |it| Arc::clone(&it.dialer),
            ),
            known: Mutex::default(),
        }
    }

    /// Takes the kept connection that was used last, so that the others grow old. `None` when there
    /// is none.
    pub(super) fn take(&self) -> Option<Held> {
        loop {
            let mut held = self.known().pool.take(Instant::now())?;
            if held.connection.is_open() {
                return Some(Held(held));
            }
        }
    }

    /// Opens a connection. The name of the hub is resolved for it.
    pub(super) async fn open(&self, deadline: Instant) -> Result<Held, HubFailure> {
        match timeout_at(deadline.into(), self.dial()).await {
            Ok(opened) => opened,
            Err(_) => Err(HubFailure::Timeout),
        }
    }

    async fn dial(&self) -> Result<Held, HubFailure> {
        let (hub, opened) = (&self.hub, Instant::now());
        let resolved = self.dialer.resolve().await;
        let mut addresses = resolved.map_err(|error| self.unopened(&error))?;
        self.known().addresses.order(&mut addresses, Instant::now());
        let (address, stream) = self.establish(addresses).await?;
        tracing::debug!(hub, %address, "connected to the hub");
        let connection = Connection::new(stream).await;
        let connection = connection.map_err(|error| self.unopened(&error))?;
        let connection = Box::new(connection);
        // The address is as old as the question for it.
        let pooled = Pooled::new(connection, address, self.age_max, opened);
        Ok(Held(pooled))
    }

    /// Connects to the first address that answers, in TLS as well if the hub has it.
    async fn establish(
        &self,
        mut addresses: Vec<SocketAddr>,
    ) -> Result<(SocketAddr, Stream), HubFailure> {
        let deadline = Instant::now() + dial::CONNECT_TIMEOUT;
        loop {
            let race = dial::race(&addresses, deadline.into()).await;
            for address in &race.lost {
                self.known().addresses.avoid(*address, Instant::now());
            }
            let (address, tcp) = race.won.map_err(|error| self.unopened(&error))?;
            let Some(tls) = &self.tls else {
                return Ok((address, Stream::Plain(tcp)));
            };
            let handshake = timeout_at(deadline.into(), Stream::handshake(tcp, tls)).await;
            let fault = match handshake {
                Ok(Ok(stream)) => return Ok((address, stream)),
                Ok(Err(error)) => tls_fault(&error, tls)
                    .unwrap_or_else(|| format!("the hub ended the handshake: {error}")),
                Err(_) => "the hub did not answer in the handshake".to_owned(),
            };
            let failure = self.untrusted(&fault);
            self.known().addresses.avoid(address, Instant::now());
            addresses.retain(|it| *it != address && !race.lost.contains(it));
            if addresses.is_empty() || Instant::now() >= deadline {
                return Err(failure);
            }
        }
    }

    /// Logs now and then why no connection can be opened. Whoever set a wrong URL sees it there.
    fn unopened(&self, error: &dyn Display) -> HubFailure {
        let count = self.known().unopened.add(1, Instant::now());
        if let Some(count) = count {
            tracing::warn!(hub = self.hub, count, %error, "cannot connect to the hub");
        }
        HubFailure::Connect
    }

    /// Logs now and then why a connection is not secure.
    fn untrusted(&self, error: &dyn Display) -> HubFailure {
        let count = self.known().unopened.add(1, Instant::now());
        if let Some(count) = count {
            tracing::warn!(hub = self.hub, count, %error, "cannot speak TLS with the hub");
        }
        HubFailure::Tls
    }

    /// Sends a request, made of `sent`, over a connection, waits for the whole response, and keeps the
    /// connection unless something speaks against it.
    pub(super) async fn send(
        &self,
        Held(mut held): Held,
        request: Request<Full<Bytes>>,
        sent: &HubRequest<'_>,
    ) -> Result<HubResponse, Lost> {
        let address = held.address;
        let exchange = held.connection.exchange(request);
        match timeout_at(sent.deadline.into(), exchange).await {
            Ok(Ok(response)) => {
                self.keep(held, sent, &response);
                Ok(response)
            }
            Ok(Err(broken)) => {
                let (hub, error) = (&self.hub, broken.error);
                tracing::debug!(hub, %address, ?error, "no response from the hub");
                if held.is_reused() && !broken.heard {
                    // What closed this one may have closed the others, or lost them.
                    self.known().pool.leave(address);
                    return Err(Lost::Unread);
                }
                let tls = error.as_ref().zip(self.tls.as_ref());
                let fault = tls.and_then(|(error, tls)| tls_fault(error, tls));
                let untrusted = fault.map(|fault| self.untrusted(&fault));
                Err(Lost::Failed(untrusted.unwrap_or(HubFailure::Reset)))
            }
            Err(_) => {
                let mut known = self.known();
                known.pool.leave(address);
                known.addresses.avoid(address, Instant::now());
                Err(Lost::Failed(HubFailure::Timeout))
            }
        }
    }

    /// Keeps a connection whose response was read, unless it ended or its address fails again and
    /// again.
    fn keep(
        &self,
        mut held: Pooled<Box<Connection>>,
        sent: &HubRequest<'_>,
        response: &HubResponse,
    ) {
        let is_open = held.connection.is_open();
        let (address, now) = (held.address, Instant::now());
        let mut known = self.known();
        if is_failure(sent, response) {
            if known.addresses.fail(address, now) {
                known.pool.leave(address);
            }
        } else if sent.spoke.is_some() {
            // The response to a probe does not show that the hub takes writes.
            known.addresses.succeed(address);
        }
        if is_open && known.addresses.keeps(address, held.opened()) {
            known.pool.put(held, now);
        }
    }

    /// Closes the idle connections, and each other one after its request.
    pub(super) fn renew(&self) {
        self.known().pool.renew(Instant::now());
    }

    /// Closes connections that ended or were idle for too long, again and again. Does not return.
    pub(super) async fn sweep(&self) -> Infallible {
        loop {
            sleep(SWEEP_INTERVAL).await;
            let mut known = self.known();
            known.pool.sweep(Instant::now(), |it| it.is_open());
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing under the lock can leave it half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lost {
    /// What it is when the request is not sent again.
    pub(super) fn failure(self) -> HubFailure {
        match self {
            Self::Unread => HubFailure::Reset,
            Self::Failed(failure) => failure,
        }
    }
}

/// True for a response that says something about the hub, or about whatever has its address today,
/// rather than about the message.
fn is_failure(sent: &HubRequest<'_>, response: &HubResponse) -> bool {
    match response.status.as_u16() {
        // A write that is sent as V2 to a V1 hub is followed by the same as V1, which succeeds.
        200..=299 => {
            sent.protocol == Protocol::V2 && sent.spoke.is_some() && response.written.is_none()
        }
        400 | 409 | 413 | 415 | 422 | 429 => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use crate::shares::Share;
    use crate::wire::Counts;

    use super::super::hub::Writer;
    use super::*;

    #[test]
    fn a_failure_says_something_about_the_hub() {
        use Protocol::{V1, V2};
        let rows = [
            (V1, true, 204, false, false),
            (V2, true, 204, true, false),
            (V2, true, 200, false, true),
            (V2, false, 204, false, false),
            (V2, false, 503, false, true),
            (V1, true, 301, false, true),
            (V2, true, 400, false, false),
            (V1, true, 401, false, true),
            (V1, true, 404, false, true),
            (V1, true, 409, false, false),
            (V1, true, 413, false, false),
            (V2, true, 415, false, false),
            (V1, true, 422, false, false),
            (V1, true, 429, false, false),
            (V2, true, 500, true, true),
            (V1, true, 503, false, true),
        ];
        for (protocol, is_write, status, written, expected) in rows {
            let sent = HubRequest {
                protocol,
                body: Bytes::new(),
                spoke: is_write.then(|| Writer {
                    name: "production",
                    share: Share::default(),
                }),
                retry_attempt: None,
                deadline: Instant::now(),
            };
            let response = HubResponse {
                status: StatusCode::from_u16(status).unwrap(),
                written: written.then(Counts::default),
                retry_after: None,
                text: String::new(),
                date: None,
            };
            let case = format!("{status} to {protocol:?}, a write: {is_write}");
            assert_eq!(is_failure(&sent, &response), expected, "{case}");
        }
    }
}
