//! Puts the parts together, swaps the configuration, and takes everything down in order.
//!
//! Only this file starts long-lived tasks. A configuration becomes one [`Snapshot`] that is
//! swapped whole: a request sees the old one or the new one, never a mixture.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::admin::Admin;
use crate::budget::Budget;
use crate::config::{Config, SourceRanges};
use crate::forward::{Hub, HubAnswer};
use crate::listener::{self, AnswerBody, Drain, Handler};
use crate::metrics::Metrics;
use crate::spoke::{Seen, Spoke};
use crate::wire::Protocol;
use crate::write::identify::Authenticator;
use crate::write::{Snapshot, Writes};

/// Connections to the admin listener: scrapers and people.
const ADMIN_CONNECTIONS_MAX: usize = 256;

/// Least time between two probes of a hub. It is doubled, up to the longest, before each further
/// probe of one that does not say what it speaks.
const PROBE_INTERVAL_MIN: Duration = Duration::from_millis(500);

/// Between two probes of a hub that was not found to speak V2: it may be upgraded.
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// Requests to reload that may wait; they come from people and config reloaders.
const RELOADS_WAITING_MAX: usize = 8;

/// A request to load the configuration again, answered with what came of it.
pub type Reload = oneshot::Sender<Result<(), String>>;

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    writes_drain: Drain,
    admin_drain: Drain,
    write_address: SocketAddr,
    admin_address: SocketAddr,
    reloads: mpsc::Receiver<Reload>,
    probes: Vec<Probe>,
}

/// A hub with the task that asks it what it speaks.
#[derive(Debug)]
struct Probe {
    hub: Arc<Hub>,
    _task: AbortOnDropHandle<()>,
}

/// What all parts of a running gateway share.
#[derive(Debug)]
pub struct Shared {
    state: ArcSwap<State>,
    metrics: Metrics,
    budget: Arc<Budget>,
    writes: Arc<Writes>,
    draining: Drain,
    /// Of the start; a reload cannot change it.
    connections_max: usize,
    reloads: mpsc::Sender<Reload>,
    /// What was seen of each spoke; goes on over reloads.
    seen: Mutex<HashMap<String, Arc<Seen>>>,
}

/// One configuration, made ready.
#[derive(Debug)]
pub struct State {
    config: Config,
    /// The spokes in the order of the configuration.
    pub spokes: Vec<Arc<Spoke>>,
    snapshot: Arc<Snapshot>,
}

impl Gateway {
    /// Binds both listeners and serves in the background. Fails when an address cannot be bound.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let metrics = Metrics::new();
        let writes_drain = Drain::default();
        let budget = Budget::new(
            config.limits.bytes_in_flight_max,
            metrics.bytes_in_flight().clone(),
        );
        let tasks = writes_drain.tasks().clone();
        let writes = Arc::new(Writes::new(Arc::clone(&budget), metrics.clone(), tasks));
        let write_listener = bind("listen.address", config.listen.address).await?;
        let admin_listener = bind("admin.address", config.admin.address).await?;
        let write_address = write_listener.local_addr()?;
        let admin_address = admin_listener.local_addr()?;
        let (reloads_sender, reloads) = mpsc::channel(RELOADS_WAITING_MAX);
        let connections_max = config.listen.connections_max;
        let seen = Mutex::default();
        let state = State::new(config, None, &metrics, &mut lock(&seen))?;
        let probes = state.hubs().iter().map(Probe::start).collect();
        let shared = Arc::new(Shared {
            state: ArcSwap::from_pointee(state),
            metrics,
            budget,
            writes,
            draining: writes_drain.clone(),
            connections_max,
            reloads: reloads_sender,
            seen,
        });
        shared.loaded();
        let admin_drain = Drain::default();
        let writes = Arc::clone(&shared);
        tokio::spawn(listener::serve(
            write_listener,
            connections_max,
            writes,
            writes_drain.clone(),
        ));
        let admin = Arc::new(Admin::new(Arc::clone(&shared)));
        tokio::spawn(listener::serve(
            admin_listener,
            ADMIN_CONNECTIONS_MAX,
            admin,
            admin_drain.clone(),
        ));
        tracing::info!(address = %write_address, "receiving remote writes");
        tracing::info!(address = %admin_address, "serving admin");
        Ok(Self {
            shared,
            writes_drain,
            admin_drain,
            write_address,
            admin_address,
            reloads,
            probes,
        })
    }

    /// Where spokes write to.
    pub fn write_address(&self) -> SocketAddr {
        self.write_address
    }

    /// Where operators look.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The next request of the admin listener to reload.
    pub async fn reload_requested(&mut self) -> Reload {
        match self.reloads.recv().await {
            Some(reload) => reload,
            // The sending half lives in `shared`.
            None => std::future::pending().await,
        }
    }

    /// Takes over a new configuration for all requests from now on. On an error the old one stays.
    pub fn reload(&mut self, config: Config) -> anyhow::Result<()> {
        let before = self.shared.state.load_full();
        before.warn_of_restart(&config);
        let shared = &self.shared;
        let state = State::new(
            config,
            Some(&before),
            &shared.metrics,
            &mut lock(&shared.seen),
        )?;
        let mut probes = std::mem::take(&mut self.probes);
        self.probes = state
            .hubs()
            .iter()
            .map(|hub| {
                let place = probes.iter().position(|it| Arc::ptr_eq(&it.hub, hub));
                place.map_or_else(|| Probe::start(hub), |place| probes.swap_remove(place))
            })
            .collect();
        shared.state.store(Arc::new(state));
        before.forget(
            &shared.state.load(),
            &shared.metrics,
            &mut lock(&shared.seen),
        );
        shared.loaded();
        Ok(())
    }

    /// Shows that the configuration could not be loaded.
    pub fn reload_failed(&self) {
        self.shared.metrics.config_loaded(false);
    }

    /// Stops accepting, finishes what is in flight, and closes the admin listener last. Returns
    /// false when `deadline` passed first.
    pub async fn shutdown(self, deadline: Duration) -> bool {
        // Whoever asks for a reload from now on is told at once.
        drop(self.reloads);
        let drained = self.writes_drain.drain(deadline).await;
        self.admin_drain.drain(Duration::from_secs(1)).await;
        drained
    }
}

impl Shared {
    /// The configuration in force.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// The metrics of the process.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// True until draining begins.
    pub fn ready(&self) -> bool {
        !self.draining.begun()
    }

    /// Asks for the configuration to be loaded again.
    pub async fn request_reload(&self) -> Result<(), String> {
        let (sender, receiver) = oneshot::channel();
        let busy = |_| "too many reloads wait, or hubgate is shutting down".to_owned();
        self.reloads.try_send(sender).map_err(busy)?;
        receiver.await.unwrap_or_else(|_| {
            Err("nobody reloads: there is no file, or hubgate is shutting down".to_owned())
        })
    }

    fn loaded(&self) {
        let state = self.state.load();
        let bytes_in_flight_max = state.config.limits.bytes_in_flight_max;
        self.budget.set_limit(bytes_in_flight_max);
        self.metrics
            .limits(bytes_in_flight_max, self.connections_max);
        self.metrics.config_loaded(true);
    }
}

impl Handler for Shared {
    async fn handle(
        self: Arc<Self>,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Response<AnswerBody> {
        let snapshot = Arc::clone(&self.state.load().snapshot);
        let response = Arc::clone(&self.writes)
            .handle(snapshot, peer, request)
            .await;
        response.map(|body: Full<Bytes>| body.map_err(|never| match never {}).boxed_unsync())
    }

    fn source_ranges(&self) -> SourceRanges {
        self.state.load().config.listen.source_ranges.clone()
    }

    fn metrics(&self) -> Option<&Metrics> {
        Some(&self.metrics)
    }
}

impl State {
    fn new(
        config: Config,
        before: Option<&Self>,
        metrics: &Metrics,
        seen: &mut HashMap<String, Arc<Seen>>,
    ) -> anyhow::Result<Self> {
        let spokes: Vec<_> = config
            .spokes
            .iter()
            .map(|spoke| {
                let credentials = spoke.credentials.iter().map(|it| it.name.as_str());
                let handles = metrics.spoke(&spoke.name, credentials);
                let seen = Arc::clone(seen.entry(spoke.name.clone()).or_default());
                Arc::new(Spoke::new(spoke, &config.cluster_label, handles, seen))
            })
            .collect();
        let secrets = config
            .spokes
            .iter()
            .zip(&spokes)
            .flat_map(|(config, spoke)| {
                let secrets = config.credentials.iter().enumerate();
                secrets.map(move |(place, credential)| (spoke, &credential.secret, place))
            });
        let authenticator =
            Authenticator::new(secrets, before.map(|it| &it.snapshot.authenticator))
                .context("cannot draw random bytes from the system")?;
        // A hub whose configuration did not change goes on as it is.
        let hubs = config.hubs.iter().map(|hub| {
            let place =
                before.and_then(|before| before.config.hubs.iter().position(|known| known == hub));
            match (before, place) {
                (Some(before), Some(place)) => Arc::clone(&before.hubs()[place]),
                _ => Hub::new(hub, metrics),
            }
        });
        let snapshot = Snapshot {
            authenticator,
            hubs: hubs.collect(),
            ack: config.ack,
            limits: config.limits.clone(),
        };
        Ok(Self {
            config,
            spokes,
            snapshot: Arc::new(snapshot),
        })
    }

    /// The hubs in force, in the order of the configuration.
    pub fn hubs(&self) -> &[Arc<Hub>] {
        &self.snapshot.hubs
    }

    /// Says which keys changed that only a restart can apply; the others apply all the same, or
    /// a revoked token would stay good for the sake of an address.
    fn warn_of_restart(&self, new: &Config) {
        let (old, listen) = (&self.config, &new.listen);
        let fixed = [
            ("listen.address", old.listen.address == listen.address),
            (
                "listen.connections_max",
                old.listen.connections_max == listen.connections_max,
            ),
            ("admin.address", old.admin.address == new.admin.address),
        ];
        for (key, _) in fixed.into_iter().filter(|(_, same)| !same) {
            tracing::warn!(key, "a change takes effect after a restart");
        }
    }

    /// Takes what is not in `new` out of metrics and status.
    fn forget(&self, new: &Self, metrics: &Metrics, seen: &mut HashMap<String, Arc<Seen>>) {
        for old in &self.config.spokes {
            let Some(kept) = new
                .config
                .spokes
                .iter()
                .find(|spoke| spoke.name == old.name)
            else {
                metrics.remove_spoke(&old.name);
                seen.remove(&old.name);
                for credential in &old.credentials {
                    metrics.remove_credential(&old.name, &credential.name);
                }
                continue;
            };
            for credential in &old.credentials {
                if !kept.credentials.iter().any(|it| it.name == credential.name) {
                    metrics.remove_credential(&old.name, &credential.name);
                }
            }
        }
        for hub in self.hubs() {
            if !new.hubs().iter().any(|kept| kept.name() == hub.name()) {
                hub.remove_from(metrics);
            }
        }
    }
}

impl Probe {
    fn start(hub: &Arc<Hub>) -> Self {
        Self {
            hub: Arc::clone(hub),
            _task: AbortOnDropHandle::new(tokio::spawn(probe(Arc::clone(hub)))),
        }
    }
}

/// Finds out what a hub speaks, and again whenever an answer makes it doubtful. While it is not
/// found to speak V2 it is asked now and then: it may be upgraded.
async fn probe(hub: Arc<Hub>) {
    if !hub.negotiates() {
        return;
    }
    let mut interval = PROBE_INTERVAL_MIN;
    let mut doubted = false;
    loop {
        if doubted || hub.speaks() != Some(Protocol::V2) {
            let answer = hub.probe(hub.deadline()).await;
            let hub_name = hub.name();
            match answer {
                Err(failure) => tracing::warn!(hub = hub_name, %failure, "cannot probe the hub"),
                Ok(HubAnswer { status, text, .. }) if hub.speaks().is_none() => tracing::warn!(
                    hub = hub_name,
                    code = status.as_u16(),
                    text,
                    "a hub does not say what it speaks; does it take remote writes?"
                ),
                Ok(_) => {}
            }
        }
        let probed = tokio::time::Instant::now();
        interval = match hub.speaks() {
            None => PROBE_INTERVAL_MAX.min(interval * 2),
            Some(_) => PROBE_INTERVAL_MAX,
        };
        doubted = tokio::select! {
            () = tokio::time::sleep(interval) => false,
            () = hub.doubted() => true,
        };
        if doubted {
            interval = PROBE_INTERVAL_MIN;
            tokio::time::sleep_until(probed + PROBE_INTERVAL_MIN).await;
        }
    }
}

async fn bind(key: &str, address: SocketAddr) -> anyhow::Result<tokio::net::TcpListener> {
    let listener = tokio::net::TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {key} {address}"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing under the lock can leave it half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
