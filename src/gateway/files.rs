//! The open files that the process may have, and how they are shared out.
//!
//! Each connection is an open file. When none is left, hubgate cannot reach a hub, serve a scrape or
//! read its configuration. Senders therefore get only what is left after the rest.

use std::fmt;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// Files beside connections: the log, the runtime, and the configuration while it is read.
const OWN: usize = 64;

/// The most connections to one hub. Each request in flight has one.
const FOR_HUB: usize = 256;

/// The most connections to the admin listener: of scrapers and people.
const FOR_ADMIN: usize = 256;

/// How many connections the listeners take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) connections_max: usize,
    pub(super) admin_connections_max: usize,
}

/// The limit of open files is too low for a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// The most files that may be open.
    pub limit: usize,
    /// The files that the configuration may need.
    pub needed: usize,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, needed } = self;
        write!(
            f,
            "the limit of open files is {limit}, and up to {needed} are needed; raise it \
             (LimitNOFILE of systemd, ulimit -Hn) or lower listen.connections_max"
        )
    }
}

/// Tells whether the hard limit of open files is too low for a configuration.
pub fn shortage(config: &Config) -> Option<Shortage> {
    let limit = getrlimit(Resource::Nofile).maximum.map(to_usize)?;
    Shortage::of(limit, config)
}

/// Raises the soft limit of open files to the hard one, and shares the files out.
pub(super) fn share(config: &Config) -> Shares {
    let mut limits = getrlimit(Resource::Nofile);
    if limits.current != limits.maximum {
        let soft = limits.current;
        limits.current = limits.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limits) {
            tracing::warn!(%error, "cannot raise the soft limit of open files");
            limits.current = soft;
        }
    }
    let limit = limits.current.map_or(usize::MAX, to_usize);
    let shares = Shares::of(limit, config.listen.connections_max, config.hubs.len());
    if let Some(shortage) = Shortage::of(limit, config) {
        let connections_max = shares.connections_max;
        tracing::warn!(%shortage, connections_max, "fewer connections are accepted");
    }
    shares
}

impl Shortage {
    fn of(limit: usize, config: &Config) -> Option<Self> {
        let beside = reserve(config.hubs.len(), FOR_ADMIN);
        let needed = config.listen.connections_max.saturating_add(beside);
        (limit < needed).then_some(Self { limit, needed })
    }
}

impl Shares {
    /// Shares out `limit` files. When they are few, each part gets a fraction.
    fn of(limit: usize, connections_max: usize, hubs: usize) -> Self {
        let admin_connections_max = (limit / 8).clamp(1, FOR_ADMIN);
        let left = limit.saturating_sub(reserve(hubs, admin_connections_max));
        Self {
            connections_max: left.max(limit / 4).clamp(1, connections_max),
            admin_connections_max,
        }
    }
}

/// The files that are not for senders.
fn reserve(hubs: usize, for_admin: usize) -> usize {
    OWN + for_admin + hubs * FOR_HUB
}

fn to_usize(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_get_what_the_rest_leaves() {
        for (limit, hubs, connections, admin) in [
            (usize::MAX, 1, 4096, 256),
            (4096 + 576, 1, 4096, 256),
            (4096 + 575, 1, 4095, 256),
            (1024, 1, 576, 128),
            (1024, 4, 256, 128),
            (64, 1, 16, 8),
            (0, 1, 1, 1),
        ] {
            let expected = Shares {
                connections_max: connections,
                admin_connections_max: admin,
            };
            assert_eq!(Shares::of(limit, 4096, hubs), expected, "{limit}, {hubs}");
        }
    }
}
