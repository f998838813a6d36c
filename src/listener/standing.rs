//! Whether an open connection could begin now as it did.
//!
//! A reload may take away the authority that issued the certificate of a client, revoke the certificate,
//! ask for one, or turn TLS on or off. A certificate may also expire. The connection then ends, so that
//! the next handshake decides: it may find a certificate that the client renewed long ago. It also ends
//! when the PROXY protocol is turned on or off: a connection from before has the address of the load
//! balancer, which the source ranges of the spokes no longer mean. A request that arrives in between is
//! answered 503: for a 401 or 403, a Prometheus would drop samples that it may well write over its next
//! connection.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use crate::config::{ConnectionRules, ProxyProtocol};
use crate::reasons::ConnectionRefusal;
use crate::tls::ClientCertificate;

use super::admit::Access;
use super::handshake::PeerTls;

/// The clock of the system may be set, so the end of a certificate is looked at this often.
const CLOCK_CHECKED_EVERY: Duration = Duration::from_secs(3600);

/// The standing of one connection.
#[derive(Debug)]
pub(super) struct Standing {
    access: Arc<Access>,
    /// Whether it began with a header of the PROXY protocol.
    began_with: ProxyProtocol,
    peer: Option<Arc<PeerTls>>,
    judged: Mutex<Judged>,
    counted: AtomicBool,
}

/// The last judgement. It takes as much time as a part of a handshake, so it is made once for each
/// change.
#[derive(Debug)]
struct Judged {
    by: Arc<ConnectionRules>,
    accepted: bool,
}

impl Judged {
    /// Whether other rules judge alike.
    fn stays(&self, rules: &Arc<ConnectionRules>) -> bool {
        let by = &self.by;
        let is_same = by.proxy_protocol == rules.proxy_protocol && by.tls == rules.tls;
        Arc::ptr_eq(by, rules) || is_same
    }
}

impl Standing {
    /// The standing of a connection that began under these rules.
    pub(super) fn new(
        access: Arc<Access>,
        peer: Option<Arc<PeerTls>>,
        by: Arc<ConnectionRules>,
    ) -> Self {
        Self {
            access,
            began_with: by.proxy_protocol,
            peer,
            judged: Mutex::new(Judged { by, accepted: true }),
            counted: AtomicBool::new(false),
        }
    }

    /// Whether the connection could begin now as it did.
    pub(super) fn holds(&self) -> bool {
        let rules = (self.access.rules)();
        let now = SystemTime::now();
        let certificate = self.certificate();
        if certificate.is_some_and(|it| now > it.not_after()) {
            return false;
        }
        let mut judged = self.judged();
        if !judged.stays(&rules) {
            let tls_fits = match (&self.peer, &rules.tls) {
                (None, None) => true,
                (Some(peer), Some(tls)) => peer.fits(tls, now),
                (None, Some(_)) | (Some(_), None) => false,
            };
            judged.accepted = tls_fits && self.began_with == rules.proxy_protocol;
        }
        // The rules of before, with their revocation lists, are given back.
        judged.by = rules;
        judged.accepted
    }

    fn is_judged(&self) -> bool {
        self.judged().stays(&(self.access.rules)())
    }

    fn judged(&self) -> MutexGuard<'_, Judged> {
        // Nothing under the lock can leave it half done.
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the connection could not begin as it did.
    pub(super) async fn lost(&self) {
        let mut reloads = self.access.reloads.clone();
        loop {
            reloads.borrow_and_update();
            // What is judged again is computed in turn.
            let turn = if self.is_judged() {
                None
            } else {
                self.access.handshakes.turn().await
            };
            if !self.holds() {
                return;
            }
            drop(turn);
            tokio::select! {
                changed = reloads.changed() => {
                    if changed.is_err() {
                        // Nothing is reloaded any more.
                        pending::<()>().await;
                    }
                }
                () = self.expires() => {}
            }
        }
    }

    /// Counts the connection as one that ends for this.
    pub(super) fn count_loss(&self) {
        if !self.counted.swap(true, Ordering::Relaxed) {
            self.access.count_refusal(ConnectionRefusal::Outdated);
        }
    }

    /// Waits until the certificate of the client may have expired.
    async fn expires(&self) {
        let Some(certificate) = self.certificate() else {
            return pending().await;
        };
        let left = certificate.not_after().duration_since(SystemTime::now());
        // It is valid in its last second.
        let left = left.unwrap_or_default() + Duration::from_secs(1);
        sleep(left.min(CLOCK_CHECKED_EVERY)).await;
    }

    fn certificate(&self) -> Option<&ClientCertificate> {
        self.peer.as_ref()?.certificate()
    }
}
