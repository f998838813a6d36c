//! The files that a gateway may have open at once, and how many of them the system allows.

use rustix::process::{Resource, getrlimit};

use crate::config::Config;

/// Connections to one hub.
const HUB_CONNECTIONS_MAX: u64 = 256;

/// Connections to the admin listener.
const ADMIN_CONNECTIONS_MAX: u64 = 256;

/// Listeners, timers, the log, the resolver, and the files of the configuration.
const OTHER_FILES: u64 = 64;

/// What is wrong with the hard limit of open files of this process, which `serve` can reach but not
/// exceed. A process of `serve` may have another limit, but most often it has that of the shell.
pub(super) fn doubt(config: &Config) -> Option<String> {
    let allowed = getrlimit(Resource::Nofile).maximum?;
    let needed = needed(config);
    (allowed < needed).then(|| {
        format!(
            "the limit of open files is {allowed}, and up to {needed} are needed; raise it \
             (LimitNOFILE of systemd, ulimit -Hn) or lower listen.connections_max"
        )
    })
}

fn needed(config: &Config) -> u64 {
    let spokes = config.listen.connections_max as u64;
    let hubs = config.hubs.len() as u64 * HUB_CONNECTIONS_MAX;
    spokes + hubs + ADMIN_CONNECTIONS_MAX + OTHER_FILES
}
