//! Starts the parts of a gateway, swaps its configuration, and takes everything down in order.
//!
//! Only this file starts long-lived tasks.

pub mod files;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::admin::reload::{self, LastLoad, LoadError, Loads};
use crate::admin::{self, Admin};
use crate::budget::Budget;
use crate::capture::Captures;
use crate::config::Config;
use crate::forward::Hub;
use crate::identify::Guesses;
use crate::jwks::Source;
use crate::listener::{self, Access, Drain, GivesWay, Handshakes, ProxyLog};
use crate::metrics::Metrics;
use crate::state::{self, State};
use crate::write::Endpoint;

pub use crate::write::DRAIN_TIMEOUT;

/// The time for the head of a request to the admin listener. Whoever asks there is near.
const ADMIN_HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections that may wait to be accepted. Beyond that, the system drops the first packet of a
/// new one, which then takes a second or more. The system lowers it to `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    state: Arc<ArcSwap<State>>,
    metrics: Metrics,
    budget: Arc<Budget>,
    writes: Drain,
    admin: Drain,
    write_address: SocketAddr,
    admin_address: SocketAddr,
    loads: Loads,
    last_load: Arc<ArcSwap<LastLoad>>,
    /// Tells open connections of a reload.
    reloaded: watch::Sender<()>,
    probes: Vec<Probe>,
    fetchers: Vec<Fetcher>,
    _upkeep: [AbortOnDropHandle<Infallible>; 3],
}

/// A hub with the task that asks it what it speaks.
#[derive(Debug)]
struct Probe {
    hub: Arc<Hub>,
    _task: AbortOnDropHandle<Infallible>,
}

/// A place of keys with the task that fetches them.
#[derive(Debug)]
struct Fetcher {
    source: Arc<Source>,
    _task: AbortOnDropHandle<Infallible>,
}

impl Gateway {
    /// Binds both listeners and serves in the background. Fails when an address cannot be bound.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let threads = Handle::current().metrics().num_workers();
        let metrics = Metrics::new();
        let bytes_in_flight_max = config.limits.bytes_in_flight_max;
        let files::Shares {
            connections_max,
            admin_connections_max,
        } = files::share(&config);
        metrics.record_limits(bytes_in_flight_max, connections_max);
        let budget = Budget::new(bytes_in_flight_max, metrics.bytes_in_flight().clone());
        let write_listener = bind("listen.address", config.listen.address)?;
        let admin_listener = bind("admin.address", config.admin.address)?;
        let write_address = write_listener.local_addr()?;
        let admin_address = admin_listener.local_addr()?;
        let state = State::new(config, None)?;
        state.put_limits_in_force();
        let probes = state.hubs.iter().map(Probe::start).collect();
        let fetchers = state.jwks.iter().map(Fetcher::start).collect();
        let state = Arc::new(ArcSwap::from_pointee(state));
        metrics.record_config_load(true);
        let (writes, admin) = (Drain::default(), Drain::default());
        let (reloads, loads) = reload::channel();
        let guesses = Arc::new(Guesses::new());
        let captures = Arc::new(Captures::default());
        let endpoint = Endpoint::new(
            Arc::clone(&state),
            Arc::clone(&budget),
            metrics.clone(),
            Arc::clone(&guesses),
            Arc::clone(&captures),
            writes.clone(),
            threads,
        );
        let endpoint = Arc::new(endpoint);
        let buffers = {
            let endpoint = Arc::clone(&endpoint);
            tokio::spawn(async move { endpoint.expire_buffers().await })
        };
        let history = {
            let state = Arc::clone(&state);
            tokio::spawn(async move { state::record_history(&state).await })
        };
        let expiry = {
            let captures = Arc::clone(&captures);
            tokio::spawn(async move { captures.expire().await })
        };
        let (reloaded, reloads_seen) = watch::channel(());
        let handshakes = Arc::new(Handshakes::new(threads));
        let write_access = Access {
            connections_max,
            gives_way: GivesWay::Unknown,
            head_timeout: listener::HEAD_TIMEOUT,
            rules: {
                let state = Arc::clone(&state);
                Box::new(move || Arc::clone(&state.load().config.listen.rules))
            },
            reloads: reloads_seen.clone(),
            handshakes: Arc::clone(&handshakes),
            metrics: Some(metrics.clone()),
            proxy_log: ProxyLog::default(),
        };
        tokio::spawn(listener::serve(
            write_listener,
            write_access,
            endpoint,
            writes.clone(),
        ));
        let last_load = Arc::new(ArcSwap::from_pointee(LastLoad::success()));
        let sources = admin::Sources {
            state: Arc::clone(&state),
            metrics: metrics.clone(),
            guesses,
            captures,
            writes: writes.clone(),
            reloads,
            last_load: Arc::clone(&last_load),
            started: SystemTime::now(),
            begun: Instant::now(),
        };
        let pages = Admin::new(sources, admin_address);
        let admin_access = Access {
            connections_max: admin_connections_max,
            gives_way: GivesWay::Idle,
            head_timeout: ADMIN_HEAD_TIMEOUT,
            rules: {
                let state = Arc::clone(&state);
                Box::new(move || Arc::clone(&state.load().config.admin.rules))
            },
            reloads: reloads_seen,
            handshakes,
            metrics: None,
            proxy_log: ProxyLog::default(),
        };
        tokio::spawn(listener::serve(
            admin_listener,
            admin_access,
            Arc::new(pages),
            admin.clone(),
        ));
        tracing::info!(address = %write_address, "receiving remote writes");
        let credentials = state.load().config.admin.credentials.len();
        tracing::info!(address = %admin_address, credentials, "serving admin");
        Ok(Self {
            state,
            metrics,
            budget,
            writes,
            admin,
            write_address,
            admin_address,
            loads,
            last_load,
            reloaded,
            probes,
            fetchers,
            _upkeep: [buffers, history, expiry].map(AbortOnDropHandle::new),
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

    /// Waits until someone asks the admin listener for a reload, and returns the number of requests
    /// since the last call.
    pub async fn reload_requested(&mut self) -> u64 {
        self.loads.requested().await
    }

    /// A load of the configuration begins, which answers everyone who asked for one so far.
    pub fn reload_begins(&self) {
        self.loads.begin();
    }

    /// The load has ended; everyone whom it answers is told its result, or the errors.
    pub fn reload_ended(&self, result: Result<(), String>) {
        self.loads.end(result);
    }

    /// Puts a new configuration in force for all requests from now on. On an error the old one
    /// stays.
    pub fn reload(&mut self, config: Config) -> anyhow::Result<()> {
        let before = self.state.load_full();
        before.warn_of_restart(&config);
        let state = State::new(config, Some(&before))?;
        let mut probes = std::mem::take(&mut self.probes);
        self.probes = state
            .hubs
            .iter()
            .map(|hub| {
                let place = probes.iter().position(|it| Arc::ptr_eq(&it.hub, hub));
                place.map_or_else(|| Probe::start(hub), |place| probes.swap_remove(place))
            })
            .collect();
        let mut fetchers = std::mem::take(&mut self.fetchers);
        self.fetchers = state
            .jwks
            .iter()
            .map(|source| {
                let place = fetchers
                    .iter()
                    .position(|it| Arc::ptr_eq(&it.source, source));
                place.map_or_else(
                    || Fetcher::start(source),
                    |place| fetchers.swap_remove(place),
                )
            })
            .collect();
        // The name of an unchanged hub may lead elsewhere.
        for hub in &state.hubs {
            hub.renew_connections();
        }
        let state = Arc::new(state);
        self.state.store(Arc::clone(&state));
        state.put_limits_in_force();
        self.reloaded.send_replace(());
        let bytes_in_flight_max = state.config.limits.bytes_in_flight_max;
        self.budget.set_limit(bytes_in_flight_max);
        self.metrics
            .record_bytes_in_flight_limit(bytes_in_flight_max);
        self.metrics.record_config_load(true);
        self.last_load.store(Arc::new(LastLoad::success()));
        Ok(())
    }

    /// Shows that the configuration could not be loaded, and why.
    pub fn reload_failed(&self, errors: Vec<LoadError>) {
        self.metrics.record_config_load(false);
        let failure = self.last_load.load().failure(errors);
        self.last_load.store(Arc::new(failure));
    }

    /// Is not ready, but accepts connections, for as long as `delay`. Then stops accepting, finishes what
    /// is in flight, and closes the admin listener last. Returns false when `deadline`, counted from
    /// the end of the delay, passed first.
    pub async fn shutdown(self, delay: Duration, deadline: Duration) -> bool {
        // Whoever asks for a reload from now on is refused at once.
        drop(self.loads);
        self.writes.announce();
        tokio::time::sleep(delay).await;
        tracing::info!("finishing the requests in flight");
        let drained = self.writes.drain(deadline).await;
        self.admin.drain(Duration::from_secs(1)).await;
        drained
    }
}

impl Probe {
    fn start(hub: &Arc<Hub>) -> Self {
        let probed = Arc::clone(hub);
        let task = async move { probed.run().await };
        Self {
            hub: Arc::clone(hub),
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        }
    }
}

impl Fetcher {
    fn start(source: &Arc<Source>) -> Self {
        let fetched = Arc::clone(source);
        let task = async move { fetched.run().await };
        Self {
            source: Arc::clone(source),
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        }
    }
}

/// Binds a listener. The address of all interfaces is that of IPv4 alone on a system without IPv6.
fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let mut listener = listen(address);
    if address.ip() == Ipv6Addr::UNSPECIFIED && listener.as_ref().is_err_and(lacks_ipv6) {
        listener = listen((Ipv4Addr::UNSPECIFIED, address.port()).into());
    }
    listener.with_context(|| format!("cannot listen on {key} {address}"))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Otherwise a restart would fail while connections of the last process time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Whether a listener failed because the system has no IPv6, or no address of it.
fn lacks_ipv6(error: &io::Error) -> bool {
    let unsupported = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(unsupported)
}
