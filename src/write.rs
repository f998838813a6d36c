//! `POST /api/v1/write`: a request from its headers to the response, stage by stage.
//!
//! The order of the stages is security: who sends and from where is known before a byte of the
//! body is read, memory is reserved before it is held, and what is in the body is checked before
//! it travels on. Only this file knows the order.

pub mod answer;
mod aside;
mod body;
mod finishing;
mod negotiate;
mod record;
pub mod refusal;
mod respond;

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use tokio::time::sleep;

use crate::admission::Admitted;
use crate::budget::{Budget, Reservation};
use crate::capture::{Captured, Captures};
use crate::config::ConnectionRules;
use crate::forward::outcome::Outcome;
use crate::forward::{self, Clocks, Plan, Sending, Terms};
use crate::identify::{Guesses, NotIdentified};
use crate::listener::forwarded_for::{self, ForwardedForFault};
use crate::listener::{Drain, Handler, Peer, ResponseBody, Turn};
use crate::metrics::Metrics;
use crate::remote_write;
use crate::rewrite::{self, Rewriter, Rewritten, Seat};
use crate::spoke::Spoke;
use crate::state::State;
use crate::wire::{Protocol, snappy};

use answer::Answer;
use aside::Aside;
use finishing::Finishing;
use record::{Progress, Recorder};
use refusal::Refusal;

/// The time in which a request must have arrived once hubgate drains.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long requests in flight may take once hubgate drains: until they have arrived, until their hubs have
/// responded, and one second for the rest.
pub const DRAIN_TIMEOUT: Duration = ARRIVAL_TIMEOUT
    .saturating_add(forward::REQUEST_TIME)
    .saturating_add(Duration::from_secs(1));

/// What a body takes beyond this time counts as the network's, not as a wait here.
const ARRIVAL_COUNTED: Duration = Duration::from_secs(10);

/// Takes remote writes under the configuration that is in force when they arrive.
#[derive(Debug)]
pub struct Endpoint {
    state: Arc<ArcSwap<State>>,
    budget: Arc<Budget>,
    rewriter: Arc<Rewriter>,
    recorder: Recorder,
    guesses: Arc<Guesses>,
    captures: Arc<Captures>,
    /// Has a task for each request whose body was read and whose sender went away.
    drain: Drain,
}

/// Tells who sends a request, where a header says so, and whether somebody may from there. The
/// listener has judged all other addresses.
fn locate(peer: Peer, head: &Parts, rules: &ConnectionRules) -> Result<Peer, Refusal> {
    if !rules.forwards(peer.ip()) {
        return Ok(peer);
    }
    let sender = forwarded_for::sender(&peer, &head.headers, rules)?;
    let source = sender.address_source().name();
    tracing::debug!(%peer, %sender, source, "a request through a proxy");
    let address = sender.ip();
    if !rules.source_ranges.contains(address) {
        let refusal = Refusal::ListenSourceRange { address };
        return Err(outside(rules, address, refusal));
    }
    Ok(sender)
}

/// The refusal of an address outside source ranges, unless it is that of a proxy which should have told
/// the true one. Then the sender may be where it should be, and must keep its data.
fn outside(rules: &ConnectionRules, address: IpAddr, refusal: Refusal) -> Refusal {
    if rules.forwards(address) {
        return ForwardedForFault::Nobody { proxy: address }.into();
    }
    refusal
}

/// What is captured of a request that is refused whole, if something is.
fn refused(aside: Option<Box<Aside>>, progress: &Progress, refusal: &Refusal) -> Option<Captured> {
    // What had come of a body when the drain began is lost.
    if matches!(refusal, Refusal::Draining) {
        return None;
    }
    aside?.refused(progress.protocol, progress.status(refusal), refusal)
}

/// Stores what is captured of a request, when no more of it comes.
fn store(captured: Option<Captured>) {
    if let Some(captured) = captured {
        captured.store();
    }
}

/// A request whose sender is identified and whose body is in memory.
struct Job {
    spoke: Arc<Spoke>,
    protocol: Protocol,
    body: Bytes,
    admitted: Admitted,
    reservation: Arc<Reservation>,
    seat: Seat,
    retry_attempt: Option<HeaderValue>,
    /// Since when the sender has waited.
    started: Instant,
}

impl Endpoint {
    /// Takes bytes from `budget` until `drain` begins, and runs what must be finished in its tasks. The
    /// runtime has `threads`. Who guesses credentials is remembered in `guesses`, and `captures` get what
    /// is refused.
    pub fn new(
        state: Arc<ArcSwap<State>>,
        budget: Arc<Budget>,
        metrics: Metrics,
        guesses: Arc<Guesses>,
        captures: Arc<Captures>,
        drain: Drain,
        threads: usize,
    ) -> Self {
        Self {
            state,
            rewriter: Arc::new(Rewriter::new(&budget, threads)),
            budget,
            recorder: Recorder::new(metrics),
            guesses,
            captures,
            drain,
        }
    }

    /// Gives back memory that is kept for large requests and unused for long. Does not return.
    pub async fn expire_buffers(&self) -> Infallible {
        self.rewriter.expire_buffers().await
    }
}

impl Handler for Endpoint {
    async fn handle(
        self: Arc<Self>,
        peer: Peer,
        turn: Arc<Turn>,
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let state = self.state.load_full();
        let (head, mut body) = request.into_parts();
        let mut progress = Progress::new(peer);
        let received = tokio::select! {
            biased;
            received = self.receive(&state, &head, &mut body, &turn, &mut progress) => received,
            () = self.drained() => Err(Refusal::Draining),
        };
        let aside = progress.aside.take();
        let progress = Arc::new(progress);
        let ended = match received {
            Ok(job) => self.finish(state, job, &progress, aside).await,
            Err(refusal) => {
                let captured = refused(aside, &progress, &refusal);
                // Of what a stranger sends, the listener reads a little when it closes. What is broken
                // has no rest.
                let has_rest = !matches!(
                    refusal,
                    Refusal::SourceRange { .. } | Refusal::BodyTruncated | Refusal::BodyFraming
                );
                if progress.spoke.is_some() && has_rest {
                    body::discard_in_background(&head, body, &state.config.limits, captured);
                } else {
                    // It must not fill buffers while the response is held back.
                    drop(body);
                    store(captured);
                }
                self.recorder.refused(&progress, &refusal);
                Err(refusal)
            }
        };
        match ended {
            Ok(answer) => respond::with_answer(&answer),
            Err(refusal) => {
                self.hold_back(&progress, &refusal).await;
                respond::with_refusal(&progress, &refusal)
            }
        }
    }
}

impl Endpoint {
    /// From the headers to a body in memory.
    async fn receive(
        &self,
        state: &State,
        head: &Parts,
        body: &mut Incoming,
        turn: &Turn,
        progress: &mut Progress,
    ) -> Result<Job, Refusal> {
        let rules = &state.config.listen.rules;
        progress.peer = locate(progress.peer.clone(), head, rules)?;
        negotiate::route(head)?;
        let address = progress.peer.ip();
        let certificate = progress.peer.certificate();
        let authenticator = &state.authenticator;
        let identity = authenticator.identify(&head.headers, certificate, address);
        let started = progress.started_within(ARRIVAL_COUNTED);
        let identity = match identity.await {
            Err(NotIdentified::Expired) if Clocks::are_doubtful(&state.hubs, started).await => {
                return Err(Refusal::ClockInDoubt);
            }
            identity => identity?,
        };
        let spoke = Arc::clone(&identity.spoke);
        progress.spoke = Some(Arc::clone(&spoke));
        progress.aside = Aside::begin(&self.captures, &spoke.name, &progress.peer, &head.headers);
        if !spoke.source_ranges.contains(address) {
            return Err(outside(rules, address, Refusal::SourceRange { address }));
        }
        turn.stay(&spoke.name);
        record::identified(&identity);
        let protocol = negotiate::negotiate(&head.headers)?;
        progress.protocol = Some(protocol);
        let retry_attempt = remote_write::retry_attempt(&head.headers);
        record::negotiated(progress, &head.headers, retry_attempt.is_some());
        let exceeded = |limit| record::exceeded(&spoke, limit);
        let admitted = spoke.admission.admit(&spoke.limits, exceeded)?;
        let limits = &state.config.limits;
        let announced = body::announced(body, limits)?;
        let reservation = Arc::new(self.budget.begin(&spoke.account, spoke.share));
        let mut seat = self.rewriter.seat(spoke.share);
        let body = body::read(body, announced, limits, &reservation, &mut seat).await;
        let body = body.map_err(|unread| progress.unread(unread))?;
        if let Some(aside) = &mut progress.aside {
            aside.add(&body);
            aside.end();
        }
        Ok(Job {
            spoke,
            protocol,
            body,
            admitted,
            reservation,
            seat,
            retry_attempt,
            started: progress.started_within(ARRIVAL_COUNTED),
        })
    }

    /// Waits before the response to a wrong credential when many of them came from an address, and before
    /// that to a spoke that does not wait as the responses before asked. A connection of a stranger gives
    /// way to others meanwhile. Nothing is held back while hubgate drains.
    async fn hold_back(&self, progress: &Progress, refusal: &Refusal) {
        let passes = async {
            match (refusal, &progress.spoke) {
                (Refusal::Unauthenticated(failure), _) => {
                    if let Some(delay) = self.guesses.add(progress.peer.ip(), *failure) {
                        self.recorder.delayed();
                        delay.passes().await;
                    }
                }
                (_, Some(spoke)) if refusal.is_of_load() => {
                    if let Some(delay) = spoke.admission.delay_refusal() {
                        spoke.metrics.count_delayed_refusal();
                        sleep(delay).await;
                    }
                }
                _ => {}
            }
        };
        tokio::select! {
            biased;
            () = passes => {}
            () = self.drain.begins() => {}
        }
    }

    /// Waits until hubgate drains and what was arriving has had enough time.
    async fn drained(&self) {
        self.drain.begins().await;
        sleep(ARRIVAL_TIMEOUT).await;
    }

    /// Processes a request that was read. The sender may go away meanwhile; what it sent is finished
    /// and counted all the same.
    async fn finish(
        self: &Arc<Self>,
        state: Arc<State>,
        job: Job,
        progress: &Arc<Progress>,
        aside: Option<Box<Aside>>,
    ) -> Result<Answer, Refusal> {
        let (endpoint, shared) = (Arc::clone(self), Arc::clone(progress));
        let work = async move {
            let processed = AssertUnwindSafe(endpoint.process(&state, job)).catch_unwind();
            let ended = processed.await.unwrap_or_else(|_| {
                tracing::error!("a request panicked");
                Err(Refusal::Internal)
            });
            match &ended {
                Ok(answer) => {
                    endpoint.recorder.answered(&shared, answer);
                    if let Some(aside) = aside {
                        aside.answered(shared.protocol, answer);
                    }
                }
                Err(refusal) => {
                    endpoint.recorder.refused(&shared, refusal);
                    store(refused(aside, &shared, refusal));
                }
            }
            ended
        };
        Finishing::new(work, &self.drain).await
    }

    /// From a body in memory to the answer for the spoke.
    async fn process(&self, state: &State, job: Job) -> Result<Answer, Refusal> {
        let Job {
            spoke,
            protocol,
            body,
            admitted,
            reservation,
            seat,
            retry_attempt,
            started,
        } = job;
        let limits = &state.config.limits;
        let body_bytes = body.len();
        let declared_bytes = snappy::checked_len(&body, limits.decoded_bytes_max).unwrap_or(0);
        let plan = Plan::new(&state.hubs, protocol);
        let clocks = Clocks::read(&state.hubs);
        let request = rewrite::Request {
            spoke: Arc::clone(&spoke),
            protocol,
            body,
            reservation: Arc::clone(&reservation),
            targets: plan.targets.clone(),
            decoded_bytes_max: limits.decoded_bytes_max,
            moment: clocks.moment,
            watched: OnceLock::new(),
        };
        let rewritten = self.rewriter.rewrite(request, seat).await;
        let rewritten = rewritten.inspect_err(|error| {
            if error.is_of_the_body() {
                admitted.charge_unreadable(declared_bytes);
            }
        });
        let Rewritten {
            verdict,
            outgoing,
            decoded_bytes,
        } = rewritten?;
        if verdict.refuses_for_time()
            && !clocks.witnessed
            && Clocks::are_doubtful(&state.hubs, started).await
        {
            return Err(Refusal::ClockInDoubt);
        }
        self.recorder.decoded(&spoke, body_bytes, decoded_bytes);
        let charge = admitted.charge(verdict.received.samples());
        let outcome = if verdict.keeps() {
            let sending = Sending {
                spoke: Arc::clone(&spoke),
                kept: verdict.kept(),
                outgoing,
                retry_attempt,
                started,
                reservation,
            };
            let terms = Terms::new(&state.config);
            let tasks = self.drain.tasks();
            plan.send(sending, terms, &self.rewriter, tasks).await
        } else {
            Outcome::default()
        };
        let answer = answer::answer(&spoke.name, protocol, &verdict, &outcome);
        if answer.sent_again() && !outcome.reached_a_hub() {
            admitted.give_back(charge);
        }
        record::processed(&spoke, &verdict, &answer, outcome.text());
        Ok(answer)
    }
}
