//! The configuration in force, made ready for requests, and what a reload keeps, adds and removes.
//!
//! A configuration becomes one [`State`] that is swapped whole: a request sees the old one or the
//! new one, never a mixture. What is known of a spoke, of an unchanged hub or of an
//! unchanged place of keys is kept over reloads.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::config::{Config, JwtKeys, KeysPlace, Secret};
use crate::forward::Hub;
use crate::identify::{Authenticator, Identity, Operator, Passwords};
use crate::jwks::Source;
use crate::metrics::{HubMetrics, JwksMetrics, ListenerMetrics, Live, SpokeMetrics};
use crate::spoke::{Spoke, hour};

/// One configuration, made ready.
#[derive(Debug)]
pub struct State {
    /// The configuration itself.
    pub config: Config,
    /// Its spokes, in the order of the configuration.
    pub spokes: Vec<Arc<Spoke>>,
    /// Its hubs, in the order of the configuration; at least one.
    pub hubs: Vec<Arc<Hub>>,
    /// The places that keys of issuers are fetched from, each once.
    pub jwks: Vec<Arc<Source>>,
    /// The credentials of all its spokes.
    pub authenticator: Authenticator<Identity>,
    /// The credentials for the admin listener; `None` lets everybody in.
    pub operators: Option<Authenticator<Operator>>,
    /// Which one it is since the start: each that is put in force has a number of its own.
    pub generation: u64,
    passwords: Arc<Passwords>,
    /// The metrics of its listeners with TLS.
    listeners: Vec<ListenerMetrics>,
}

impl State {
    /// Makes a configuration ready, and keeps what the state `before` it knows of the same spokes and
    /// hubs. Fails when the system has no random bytes.
    pub fn new(config: Config, before: Option<&Self>) -> anyhow::Result<Self> {
        let no_random = "cannot draw random bytes from the system";
        let spokes = config.spokes.iter().map(|spoke| {
            let known = before.and_then(|before| before.spoke(&spoke.name));
            Spoke::new(spoke, &config.cluster_label, known).map(Arc::new)
        });
        let spokes: Result<Vec<_>, _> = spokes.collect();
        let spokes = spokes.context(no_random)?;
        let passwords = match before {
            Some(before) => Arc::clone(&before.passwords),
            None => Passwords::new().context(no_random)?,
        };
        let jwks = jwks(&config, before);
        let credentials = config.spokes.iter().zip(&spokes);
        let credentials = credentials.flat_map(|(config, spoke)| Identity::each(config, spoke));
        let authenticator = Authenticator::new(credentials, &jwks, &passwords);
        let authenticator = authenticator.context(no_random)?;
        let operators = &config.admin.credentials;
        let operators = (!operators.is_empty()).then(|| {
            let credentials = operators.iter().map(|credential| {
                let operator = Operator(Arc::new(credential.clone()));
                (operator, credential)
            });
            Authenticator::new(credentials, &[], &passwords)
        });
        let operators = operators.transpose().context(no_random)?;
        let hubs = config.hubs.iter().map(|hub| {
            let known = before.and_then(|before| before.unchanged_hub(hub));
            known.unwrap_or_else(|| {
                let same_name = before.and_then(|before| before.hub(&hub.name));
                Hub::new(hub, same_name)
            })
        });
        let listeners = [
            ("admin", &config.admin.rules),
            ("write", &config.listen.rules),
        ];
        let listeners = listeners.into_iter().filter_map(|(name, rules)| {
            let tls = rules.tls.as_ref()?;
            Some(ListenerMetrics::new(name, tls.validity().not_after))
        });
        Ok(Self {
            listeners: listeners.collect(),
            spokes,
            hubs: hubs.collect(),
            jwks,
            authenticator,
            operators,
            generation: before.map_or(0, |before| before.generation + 1),
            passwords,
            config,
        })
    }

    /// Puts the limits of its spokes in force. Until then, the requests of the state before are held to
    /// theirs, and after a failed reload they stay so.
    pub fn put_limits_in_force(&self) {
        for spoke in &self.spokes {
            spoke.put_limits_in_force();
        }
    }

    /// The spoke of this name.
    pub fn spoke(&self, name: &str) -> Option<&Spoke> {
        let spoke = self.spokes.iter().find(|spoke| spoke.name == name);
        spoke.map(Arc::as_ref)
    }

    fn hub(&self, name: &str) -> Option<&Hub> {
        let hub = self.hubs.iter().find(|hub| hub.name() == name);
        hub.map(Arc::as_ref)
    }

    fn unchanged_hub(&self, config: &crate::config::Hub) -> Option<Arc<Hub>> {
        let place = self.config.hubs.iter().position(|hub| hub == config)?;
        Some(Arc::clone(&self.hubs[place]))
    }

    /// Warns of the keys that changed and that only a restart can apply. All other changes still
    /// apply; otherwise a revoked token would stay valid because an address changed too.
    pub fn warn_of_restart(&self, new: &Config) {
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
}

/// Ends the steps in the histories of the hubs and spokes that are configured at the time. Does not return.
pub async fn record_history(state: &ArcSwap<State>) -> Infallible {
    let started = Instant::now();
    let mut steps = interval(hour::STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        steps.tick().await;
        let number = started.elapsed().as_secs() / hour::STEP.as_secs();
        let state = state.load_full();
        for hub in &state.hubs {
            hub.record_history(number);
        }
        for spoke in &state.spokes {
            spoke.record_history(number);
            // There may be thousands of them, and requests wait for this thread.
            yield_now().await;
        }
    }
}

/// The places that the credentials of a configuration need keys from. The keys of a place that the
/// state `before` knows are kept.
fn jwks(config: &Config, before: Option<&State>) -> Vec<Arc<Source>> {
    let credentials = config.spokes.iter().flat_map(|spoke| &spoke.credentials);
    let mut sources: Vec<Arc<Source>> = Vec::new();
    for credential in credentials {
        let Secret::Jwt(jwt) = &credential.secret else {
            continue;
        };
        if let JwtKeys::Remote(place) = &jwt.keys
            && find(&sources, place).is_none()
        {
            let known = before.and_then(|before| find(&before.jwks, place));
            sources.push(known.unwrap_or_else(|| Source::new(place)));
        }
    }
    sources
}

fn find(sources: &[Arc<Source>], place: &KeysPlace) -> Option<Arc<Source>> {
    let found = sources.iter().find(|source| source.place() == place);
    found.map(Arc::clone)
}

impl Live for State {
    fn spokes(&self) -> impl Iterator<Item = &SpokeMetrics> + Clone {
        self.spokes.iter().map(|spoke| &spoke.metrics)
    }

    fn hubs(&self) -> impl Iterator<Item = &HubMetrics> + Clone {
        self.hubs.iter().map(|hub| hub.metrics())
    }

    fn jwks(&self) -> impl Iterator<Item = &JwksMetrics> + Clone {
        self.jwks.iter().map(|source| source.metrics())
    }

    fn listeners(&self) -> impl Iterator<Item = &ListenerMetrics> + Clone {
        self.listeners.iter()
    }
}
