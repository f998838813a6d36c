//! Brings a request to all hubs, and waits for as many of them as `ack` says.
//!
//! Under `any` the spoke is answered as soon as one hub took everything; what is still under way
//! to the others is finished. A hub that is slow or down then holds requests that nobody waits
//! for, so what it may hold is bounded: beyond that it is not sent any more until it caught up.

use std::sync::Arc;

use http::HeaderValue;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::config::Ack;
use crate::reasons::HubFailure;
use crate::spoke::Spoke;
use crate::wire::writer::Metadata;
use crate::wire::{Counts, Protocol};

use crate::budget::Reservation;
use crate::rewrite::{Outgoing, RewriteError, Rewriter, Target};

use super::delivery::Delivery;
use super::hub::Hub;
use super::outcome::{Failed, Outcome};

/// Memory that a request takes beside its message while it is under way to a hub, about. Of very
/// small requests this is nearly all.
const DELIVERY_BYTES: usize = 16 * 1024;

/// What each hub is to get of a request, known before the request is inspected.
#[derive(Debug)]
pub(crate) struct Plan {
    hubs: Vec<Arc<Hub>>,
    /// What the hubs want, each once.
    pub targets: Vec<Target>,
    /// The place among the targets of what each hub wants.
    places: Vec<usize>,
}

/// An inspected request, ready for the hubs.
#[derive(Debug)]
pub(crate) struct Sending<'s> {
    /// Who sent it.
    pub spoke: &'s Arc<Spoke>,
    /// What the policy kept of the request.
    pub kept: Counts,
    /// One for each target of the plan.
    pub outgoing: Vec<Outgoing>,
    /// The sender's count of attempts.
    pub retry_attempt: Option<HeaderValue>,
    /// What it holds of the budget.
    pub reservation: Reservation,
}

impl Plan {
    /// Asks each hub what it wants for a request that came as `from`.
    pub(crate) fn new(hubs: &[Arc<Hub>], from: Protocol) -> Self {
        let mut targets = Vec::with_capacity(1);
        let places = hubs.iter().map(|hub| {
            let protocol = hub.wants(from);
            let target = Target {
                protocol,
                metadata: match protocol {
                    Protocol::V1 => Metadata::Forward,
                    Protocol::V2 => hub.metadata(),
                },
            };
            let known = targets.iter().position(|known| *known == target);
            known.unwrap_or_else(|| {
                targets.push(target);
                targets.len() - 1
            })
        });
        let places = places.collect();
        Self {
            hubs: hubs.to_vec(),
            targets,
            places,
        }
    }

    /// Sends it to every hub and returns what to tell the spoke. `hub_bytes_max` is what a hub
    /// may hold of requests that their spokes may no longer wait for.
    pub(crate) async fn send(
        &self,
        sending: Sending<'_>,
        ack: Ack,
        hub_bytes_max: usize,
        rewriter: &Arc<Rewriter>,
        tasks: &TaskTracker,
    ) -> Outcome {
        let Sending {
            spoke,
            kept,
            mut outgoing,
            retry_attempt,
            reservation,
        } = sending;
        let reservation = Arc::new(reservation);
        let delivery = |hub: &Arc<Hub>, outgoing| Delivery {
            hub: Arc::clone(hub),
            rewriter: Arc::clone(rewriter),
            spoke: Arc::clone(spoke),
            outgoing,
            kept,
            retry_attempt: retry_attempt.clone(),
            reservation: Arc::clone(&reservation),
        };
        if let [hub] = self.hubs.as_slice()
            && let Some(outgoing) = outgoing.pop()
        {
            return delivery(hub, outgoing).run().await;
        }
        let (sender, mut outcomes) = mpsc::channel(self.hubs.len());
        for (hub, place) in self.hubs.iter().zip(&self.places) {
            let Some(outgoing) = outgoing.get(*place) else {
                continue;
            };
            let held = match ack {
                Ack::All => None,
                Ack::Any => match hub.hold(DELIVERY_BYTES + reservation.bytes(), hub_bytes_max) {
                    None => {
                        hub.skipped(self.targets[*place].protocol);
                        hub.failed("skipped, as too many requests wait for it");
                        // Fails when nobody listens any more, which cannot be before they are sent.
                        let _ = sender
                            .try_send(Outcome::Failed(Failed::no_answer(HubFailure::Skipped)));
                        continue;
                    }
                    held => held,
                },
            };
            let delivery = delivery(hub, outgoing.clone());
            let sender = sender.clone();
            tasks.spawn(async move {
                let _held = held;
                let hub = Arc::clone(&delivery.hub);
                let outcome = delivery.run().await;
                if let Outcome::Failed(_) = &outcome {
                    hub.failed(outcome.text());
                }
                // The spoke may have its answer already.
                let _ = sender.send(outcome).await;
            });
        }
        drop(sender);
        let mut told = Vec::with_capacity(self.hubs.len());
        while let Some(outcome) = outcomes.recv().await {
            if ack == Ack::Any && outcome.is_success() {
                return outcome;
            }
            told.push(outcome);
        }
        // A delivery that panicked says nothing.
        let silent = self.hubs.len() - told.len();
        told.extend((0..silent).map(|_| Outcome::Failed(Failed::here(&RewriteError::Internal))));
        Outcome::combine(ack, told)
    }
}
