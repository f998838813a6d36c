//! Brings a request to all hubs, and waits for as many of them as `ack` asks for.
//!
//! With `ack: any` the spoke is answered as soon as one hub wrote everything, and what is still
//! under way to the others is finished. A hub that is slow or down then holds requests that no spoke
//! waits for, so its backlog is bounded: a request that does not fit into it is not sent to that hub.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::budget::Reservation;
use crate::config::{Ack, Config};
use crate::reasons::HubFailure;
use crate::rewrite::{Metadata, Outgoing, RewriteError, Rewriter, Target};
use crate::spoke::Spoke;
use crate::wire::{Counts, Protocol};

use super::delivery::Delivery;
use super::hub::Hub;
use super::outcome::{Failed, Outcome};

/// Memory that a request takes beside its message while it is under way to a hub, about. For very
/// small requests this is nearly all.
const DELIVERY_BYTES: usize = 16 * 1024;

/// What each hub is to get of a request, known before the request is inspected.
#[derive(Debug)]
pub(crate) struct Plan<'h> {
    hubs: &'h [Arc<Hub>],
    /// What the hubs want, each once.
    pub targets: Vec<Target>,
    /// For each hub, the index of its target.
    indexes: Vec<usize>,
}

/// A checked request, ready for the hubs.
#[derive(Debug)]
pub(crate) struct Sending {
    /// Who sent it.
    pub spoke: Arc<Spoke>,
    /// What the policy kept of the request.
    pub kept: Counts,
    /// One for each target of the plan.
    pub outgoing: Vec<Outgoing>,
    /// The sender's number of attempts.
    pub retry_attempt: Option<HeaderValue>,
    /// Since when the sender has waited.
    pub started: Instant,
    /// What the request holds of the budget.
    pub reservation: Arc<Reservation>,
}

/// When a request counts as written, and what it may take until then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// How many hubs must write a request.
    ack: Ack,
    /// With [`Ack::Any`], most bytes in the backlog of a hub.
    backlog_bytes_max: usize,
}

impl Terms {
    /// The terms of a configuration: the backlogs of all hubs together hold at most half of the
    /// budget.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            ack: config.ack,
            backlog_bytes_max: config.limits.bytes_in_flight_max / 2 / config.hubs.len(),
        }
    }
}

impl<'h> Plan<'h> {
    /// Asks each hub what it wants for a request that came as `from`.
    pub(crate) fn new(hubs: &'h [Arc<Hub>], from: Protocol) -> Self {
        let mut targets = Vec::with_capacity(1);
        let indexes = hubs.iter().map(|hub| {
            let protocol = hub.wants(from);
            let target = Target {
                protocol,
                // It concerns V1 metadata alone, so hubs that differ in nothing else share a target.
                metadata: match (from, protocol) {
                    (Protocol::V1, Protocol::V2) => hub.metadata(),
                    _ => Metadata::Forward,
                },
            };
            let known = targets.iter().position(|known| *known == target);
            known.unwrap_or_else(|| {
                targets.push(target);
                targets.len() - 1
            })
        });
        let indexes = indexes.collect();
        Self {
            hubs,
            targets,
            indexes,
        }
    }

    /// Sends a request to every hub and returns what to tell the spoke. What is not waited for is
    /// finished in `tasks`.
    pub(crate) async fn send(
        &self,
        sending: Sending,
        terms: Terms,
        rewriter: &Arc<Rewriter>,
        tasks: &TaskTracker,
    ) -> Outcome {
        let Sending {
            spoke,
            kept,
            mut outgoing,
            retry_attempt,
            started,
            reservation,
        } = sending;
        let delivery = |hub: &Arc<Hub>, outgoing| Delivery {
            hub: Arc::clone(hub),
            rewriter: Arc::clone(rewriter),
            spoke: Arc::clone(&spoke),
            outgoing,
            kept,
            retry_attempt: retry_attempt.clone(),
            started,
            reservation: Arc::clone(&reservation),
        };
        if let [hub] = self.hubs
            && let Some(outgoing) = outgoing.pop()
        {
            return delivery(hub, outgoing).run().await;
        }
        let (sender, mut received) = mpsc::channel(self.hubs.len());
        let mut outcomes = Vec::with_capacity(self.hubs.len());
        for (hub, index) in self.hubs.iter().zip(&self.indexes) {
            let backlog = match terms.ack {
                Ack::All => None,
                Ack::Any => {
                    let bytes = DELIVERY_BYTES + reservation.bytes();
                    let slot = hub.backlog().enter(bytes, terms.backlog_bytes_max);
                    if slot.is_none() {
                        let protocol = self.targets[*index].protocol;
                        let failure = hub.recorder().unsent(protocol, HubFailure::Skipped);
                        let failed = Failed::no_response(failure);
                        outcomes.push(Outcome::Failed(failed));
                        continue;
                    }
                    slot
                }
            };
            let delivery = delivery(hub, outgoing[*index].clone());
            let sender = sender.clone();
            tasks.spawn(async move {
                let _backlog = backlog;
                let hub = Arc::clone(&delivery.hub);
                let outcome = delivery.run().await;
                if let Outcome::Failed(_) = &outcome {
                    hub.recorder().failed(outcome.text());
                }
                // The spoke may have its answer already.
                let _ = sender.send(outcome).await;
            });
        }
        drop(sender);
        while let Some(outcome) = received.recv().await {
            if terms.ack == Ack::Any && outcome.is_success() {
                return outcome;
            }
            outcomes.push(outcome);
        }
        // A delivery that panicked sent no outcome.
        let missing = self.hubs.len() - outcomes.len();
        let internal = || Outcome::Failed(Failed::here(&RewriteError::Internal));
        outcomes.extend((0..missing).map(|_| internal()));
        Outcome::combine(terms.ack, outcomes)
    }
}
