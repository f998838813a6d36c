//! What happened to a request, in metrics, status and log at once.
//!
//! Each function is one event, so that no part of hubgate can count something that the others do
//! not show.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::header::USER_AGENT;
use http::{HeaderMap, StatusCode};

use crate::config::SpokeLimits;
use crate::identify::Identity;
use crate::listener::Peer;
use crate::listener::forwarded_for::ForwardedForFault;
use crate::metrics::Metrics;
use crate::policy::Verdict;
use crate::reasons::{AuthFailure, Limit, Reason, RequestReason};
use crate::series::Growing;
use crate::spoke::Spoke;
use crate::telemetry::SharedRepeats;
use crate::wire::Protocol;

use super::answer::Answer;
use super::aside::Aside;
use super::body::Unread;
use super::refusal::Refusal;

/// How far ahead of now a timestamp may be and still be believed, in milliseconds: as far as Prometheus
/// takes it (`storage/remote/write_handler.go`, `maxAheadTime`). One sample beyond must not hide for
/// ever that a spoke fell silent.
const AHEAD_MAX_MILLIS: i64 = 600_000;

/// What is known of a request while it is under way.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    /// The sender, as far as it is known: the other end of the connection, and then whoever is
    /// behind it.
    pub peer: Peer,
    /// Who sends, once that is known.
    pub spoke: Option<Arc<Spoke>>,
    /// The message that the headers name, once they are read.
    pub protocol: Option<Protocol>,
    /// What is kept of it, if its refusal is captured.
    pub aside: Option<Box<Aside>>,
}

impl Progress {
    /// A request that begins now.
    pub(super) fn new(peer: Peer) -> Self {
        Self {
            started: Instant::now(),
            peer,
            spoke: None,
            protocol: None,
            aside: None,
        }
    }

    /// When it began, but no longer ago than this.
    pub(super) fn started_within(&self, longest: Duration) -> Instant {
        let earliest = Instant::now().checked_sub(longest);
        earliest.map_or(self.started, |earliest| earliest.max(self.started))
    }

    /// The body is refused before all of it is taken.
    pub(super) fn unread(&mut self, Unread { refusal, arrived }: Unread) -> Refusal {
        if let Some(aside) = &mut self.aside {
            for part in arrived {
                aside.add(&part);
            }
        }
        refusal
    }

    /// The status of a refusal.
    pub(super) fn status(&self, refusal: &Refusal) -> StatusCode {
        let limits = self.spoke.as_ref().map(|spoke| spoke.limits.answer);
        refusal.status(limits.unwrap_or(SpokeLimits::DEFAULT.answer))
    }
}

/// Records how requests end, whoever sent them.
#[derive(Debug)]
pub(super) struct Recorder {
    metrics: Metrics,
    /// One for each reason why senders are not identified: they have no names and no bound.
    unidentified: [SharedRepeats; AuthFailure::ALL.len()],
    /// One for all senders whose password is not checked.
    busy: SharedRepeats,
    /// One for all senders whose JWT is not judged.
    keys_unavailable: SharedRepeats,
    /// One for all senders whose address is not known.
    unlocated: SharedRepeats,
}

impl Recorder {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            unidentified: Default::default(),
            busy: SharedRepeats::default(),
            keys_unavailable: SharedRepeats::default(),
            unlocated: SharedRepeats::default(),
        }
    }

    /// A body is decoded; sizes are in bytes.
    pub(super) fn decoded(&self, spoke: &Spoke, body_bytes: usize, decoded_bytes: usize) {
        spoke.metrics.count_received_bytes(body_bytes);
        self.metrics.record_sizes(body_bytes, decoded_bytes);
    }

    /// A decoded request is answered.
    pub(super) fn answered(&self, progress: &Progress, answer: &Answer) {
        self.ended(progress, answer.status);
    }

    /// A whole request is refused.
    pub(super) fn refused(&self, progress: &Progress, refusal: &Refusal) {
        let status = progress.status(refusal);
        let reason = refusal.reason().name();
        self.ended(progress, status);
        match &progress.spoke {
            Some(spoke) => {
                refuse(spoke, reason, 1, &refusal.to_string(), status);
                if matches!(refusal, Refusal::SourceRange { .. }) {
                    spoke.metrics.count_source_range_refusal();
                }
            }
            None => tracing::debug!(reason, "refused a request of an unidentified sender"),
        }
        match refusal {
            Refusal::AuthBusy => self.busy(&progress.peer, reason, status),
            Refusal::ForwardedFor(fault) => {
                let address = progress.peer.ip();
                self.metrics.count_at_the_door(refusal.reason(), address);
                self.unlocated(fault, status);
            }
            Refusal::ClockInDoubt if progress.spoke.is_some() => {}
            Refusal::ClockInDoubt
            | Refusal::MethodNotAllowed
            | Refusal::NotFound
            | Refusal::TokenNotYetValid => {
                let address = progress.peer.ip();
                self.metrics.count_at_the_door(refusal.reason(), address);
            }
            Refusal::KeysUnavailable => self.keys_unavailable(&progress.peer, reason, status),
            Refusal::Unauthenticated(failure) => {
                self.unidentified(&progress.peer, *failure, status);
            }
            _ => {}
        }
    }

    /// A sender is not identified. What it sent may be almost a credential, so it is not logged, but
    /// for the names in a certificate, which prove nothing without it.
    fn unidentified(&self, peer: &Peer, failure: AuthFailure, code: StatusCode) {
        self.metrics.count_auth_failure(failure, peer.ip());
        if let Some(count) = self.unidentified[failure as usize].add() {
            let (failure, code) = (failure.name(), code.as_u16());
            let address = peer.ip();
            let certificate = peer.certificate().map(ToString::to_string);
            tracing::warn!(
                %address,
                certificate,
                failure,
                code,
                count,
                "a sender is not identified"
            );
        }
    }

    /// The response to a wrong credential is held back.
    pub(super) fn delayed(&self) {
        self.metrics.count_auth_delayed();
    }

    /// Too many passwords wait, so the one of this sender is not checked.
    fn busy(&self, peer: &Peer, reason: &str, code: StatusCode) {
        self.metrics.count_auth_busy(peer.ip());
        if let Some(count) = self.busy.add() {
            let (address, code) = (peer.ip(), code.as_u16());
            tracing::warn!(%address, reason, code, count, "a password is not checked");
        }
    }

    /// The keys that judge a JWT are not known. The log says of each place of keys why.
    fn keys_unavailable(&self, peer: &Peer, reason: &str, code: StatusCode) {
        self.metrics.count_auth_keys_unavailable(peer.ip());
        if let Some(count) = self.keys_unavailable.add() {
            let (address, code) = (peer.ip(), code.as_u16());
            tracing::warn!(%address, reason, code, count, "a JWT is not judged");
        }
    }

    /// A trusted proxy does not say where a request comes from. All spokes behind it may be affected,
    /// and none of them is known.
    fn unlocated(&self, fault: &ForwardedForFault, code: StatusCode) {
        if let Some(count) = self.unlocated.add() {
            let code = code.as_u16();
            tracing::warn!(%fault, code, count, "the address of a sender is not known");
        }
    }

    fn ended(&self, progress: &Progress, status: StatusCode) {
        match &progress.spoke {
            Some(spoke) => {
                let duration = progress.started.elapsed();
                spoke
                    .metrics
                    .count_request(progress.protocol, status, duration);
            }
            None => self.metrics.count_unidentified_request(status),
        }
    }
}

/// A credential proved a spoke, from an address that the spoke may send from.
pub(super) fn identified(identity: &Identity) {
    let Identity { spoke, credential } = identity;
    spoke.metrics.record_credential_use(*credential);
}

/// The headers of a spoke's request name a message that hubgate takes.
pub(super) fn negotiated(progress: &Progress, headers: &HeaderMap, retry: bool) {
    let (Some(spoke), Some(protocol)) = (&progress.spoke, progress.protocol) else {
        return;
    };
    let user_agent = headers
        .get(USER_AGENT)
        .and_then(|agent| agent.to_str().ok());
    let user_agent = user_agent.unwrap_or_default();
    let (address, source) = (progress.peer.ip(), progress.peer.address_source().name());
    spoke
        .status
        .record_request(protocol, user_agent, address, source);
    if retry {
        spoke.metrics.count_retry();
    }
}

/// A request exceeds a limit, which may refuse it or not.
pub(super) fn exceeded(spoke: &Spoke, limit: Limit) {
    spoke.metrics.count_exceeded(limit, 1);
}

/// A decoded request has its answer; `hub_text` is what a hub said of it.
pub(super) fn processed(spoke: &Spoke, verdict: &Verdict, answer: &Answer, hub_text: &str) {
    let samples = &answer.samples;
    let now = now_millis();
    let plausible = |newest: &i64| *newest <= now.saturating_add(AHEAD_MAX_MILLIS);
    let newest = verdict.times.newest().filter(plausible);
    spoke.metrics.count_received(&verdict.received);
    for limit in Limit::ALL {
        let count = verdict.exceeded.of(limit);
        spoke.metrics.count_exceeded(limit, count);
    }
    used(spoke, verdict, answer, now);
    nears_active_series(spoke);
    spoke
        .metrics
        .count_label_mismatches(verdict.observed.series(Reason::MismatchedLabel));
    for rejection in &verdict.rejections {
        spoke
            .metrics
            .count_rejected(rejection.reason, &rejection.counts);
        let (reason, count) = (rejection.reason.name(), rejection.refused());
        refuse(spoke, reason, count, &rejection.example, answer.status);
    }
    spoke.metrics.count_written(&samples.written, newest);
    spoke
        .metrics
        .count_rejected(Reason::Hub, &samples.rejected_by_hub);
    let unsupported = Reason::HubProtocol;
    spoke
        .metrics
        .count_rejected(unsupported, &samples.unsupported);
    // Metadata that a hub cannot hold is no refusal.
    let count = samples.unsupported.samples();
    if count > 0 {
        let (reason, advice) = (unsupported.name(), unsupported.advice());
        refuse(spoke, reason, count, advice, answer.status);
    }
    spoke.metrics.count_failed(&samples.failed);
    if spoke.status.record_written(&samples.written, newest) {
        first_written(spoke);
    }
    if let Some((reason, count)) = hub_refusal(answer) {
        refuse(spoke, reason, count, hub_text, answer.status);
    }
}

/// Says once that a spoke comes near its limit of active series, and which metrics grow.
fn nears_active_series(spoke: &Spoke) {
    let Some(standing) = spoke.nears_active_series() else {
        return;
    };
    let growing: Vec<_> = standing.growing.iter().map(Growing::to_string).collect();
    let growing = growing.join(", ");
    tracing::warn!(
        spoke = spoke.name,
        active = standing.active,
        limit = spoke.limits.active_series_max,
        growing,
        "a spoke comes near limits.active_series_max"
    );
}

/// A hub wrote something of a spoke for the first time since the start. Whoever sets up a spoke waits
/// for this.
fn first_written(spoke: &Spoke) {
    let seen = spoke.status.snapshot();
    let address = seen.addresses.front().map(ToString::to_string);
    let protocol = seen.protocol.map(Protocol::name);
    let user_agent = seen.user_agent;
    tracing::info!(
        spoke = spoke.name,
        address,
        protocol,
        user_agent,
        "first write of a spoke"
    );
}

/// `count` series or samples, or one whole request, are refused or failed. Few of these events are log
/// lines, since a sender can repeat them without end.
fn refuse(spoke: &Spoke, reason: &'static str, count: u64, example: &str, code: StatusCode) {
    if let Some(count) = spoke.status.record_refusal(reason, count, example) {
        let code = code.as_u16();
        tracing::warn!(spoke = spoke.name, reason, code, count, example, "refused");
    }
}

/// The reason and the number of samples when the hubs did not write everything.
fn hub_refusal(answer: &Answer) -> Option<(&'static str, u64)> {
    let samples = &answer.samples;
    if !samples.rejected_by_hub.is_empty() {
        Some((Reason::Hub.name(), samples.rejected_by_hub.total()))
    } else if answer.status.is_server_error() {
        Some((RequestReason::HubFailed.name(), samples.failed.total()))
    } else {
        None
    }
}

/// How much of its limits a request used that has its answer.
fn used(spoke: &Spoke, verdict: &Verdict, answer: &Answer, now_millis: i64) {
    let samples = match answer.sent_again() {
        true => 0,
        false => verdict.received.samples(),
    };
    let millis = |millis: i64| Duration::from_millis(millis.try_into().unwrap_or_default());
    let (oldest, newest) = (verdict.times.oldest(), verdict.times.newest());
    let age = oldest.map_or(0, |oldest| now_millis.saturating_sub(oldest));
    let ahead = newest.map_or(0, |newest| newest.saturating_sub(now_millis));
    let admission = &spoke.admission;
    admission.record(samples, verdict.series, millis(age), millis(ahead));
}

/// The time, in milliseconds since the Unix epoch.
fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
