//! Idle connections, and which of them is used next.
//!
//! Pure, but for closing what is dropped: a connection is any value, and the time is an argument.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Below the 5 minutes after which Prometheus closes an idle connection (`--web.read-timeout`).
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The part of the greatest age by which connections differ, so that those that were opened together
/// do not end together.
const AGE_JITTER: f64 = 0.2;

/// Idle connections, the one that was used last at the end.
#[derive(Debug)]
pub(super) struct Pool<C> {
    idle: Vec<Pooled<C>>,
    /// Connections from before this are not kept.
    renewed: Option<Instant>,
}

/// A connection that is idle or in use.
#[derive(Debug)]
pub(super) struct Pooled<C> {
    /// The connection itself.
    pub connection: C,
    /// Where it leads.
    pub address: SocketAddr,
    opened: Instant,
    expires: Instant,
    /// When it was last put into the pool.
    used: Option<Instant>,
}

impl<C> Pooled<C> {
    /// A connection that was just opened, and that is to be used until it has about this age.
    pub(super) fn new(
        connection: C,
        address: SocketAddr,
        age_max: Duration,
        opened: Instant,
    ) -> Self {
        let age_max = age_max.mul_f64(1.0 - AGE_JITTER * fastrand::f64());
        Self {
            connection,
            address,
            opened,
            expires: opened + age_max,
            used: None,
        }
    }

    /// When it was opened.
    pub(super) fn opened(&self) -> Instant {
        self.opened
    }

    /// True when it had a request before.
    pub(super) fn is_reused(&self) -> bool {
        self.used.is_some()
    }

    /// True when it may have another request.
    fn is_fresh(&self, now: Instant) -> bool {
        let idle = self.used.is_some_and(|it| now - it >= IDLE_TIMEOUT);
        now < self.expires && !idle
    }
}

impl<C> Pool<C> {
    /// Takes the connection that was used last.
    pub(super) fn take(&mut self, now: Instant) -> Option<Pooled<C>> {
        while let Some(pooled) = self.idle.pop() {
            if pooled.is_fresh(now) {
                return Some(pooled);
            }
        }
        None
    }

    /// Keeps a connection after its use, unless its time is over.
    pub(super) fn put(&mut self, mut pooled: Pooled<C>, now: Instant) {
        pooled.used = Some(now);
        if pooled.is_fresh(now) && self.renewed.is_none_or(|it| pooled.opened > it) {
            self.idle.push(pooled);
        }
    }

    /// Drops the idle connections to an address.
    pub(super) fn leave(&mut self, address: SocketAddr) {
        self.idle.retain(|it| it.address != address);
    }

    /// Drops all idle connections, and those in use when they come back.
    pub(super) fn renew(&mut self, now: Instant) {
        self.renewed = Some(now);
        self.idle.clear();
    }

    /// Drops idle connections whose time is over or that are not open any more.
    pub(super) fn sweep(&mut self, now: Instant, is_open: impl Fn(&mut C) -> bool) {
        self.idle
            .retain_mut(|it| it.is_fresh(now) && is_open(&mut it.connection));
    }
}

impl<C> Default for Pool<C> {
    fn default() -> Self {
        Self {
            idle: Vec::new(),
            renewed: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE_MAX: Duration = Duration::from_secs(300);

    fn address(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 9090).into()
    }

    fn opened(connection: u8, now: Instant) -> Pooled<u8> {
        Pooled::new(connection, address(connection), AGE_MAX, now)
    }

    fn take(pool: &mut Pool<u8>, now: Instant) -> Option<u8> {
        pool.take(now).map(|it| it.connection)
    }

    #[test]
    fn the_connection_that_was_used_last_is_used_next() {
        let (mut pool, now) = (Pool::default(), Instant::now());
        assert!(!opened(0, now).is_reused());
        pool.put(opened(1, now), now);
        pool.put(opened(2, now), now);
        let second = pool.take(now).unwrap();
        assert!(second.is_reused());
        assert_eq!(second.connection, 2);
        pool.put(second, now);
        assert_eq!(take(&mut pool, now), Some(2));
        assert_eq!(take(&mut pool, now), Some(1));
        assert_eq!(take(&mut pool, now), None);
    }

    #[test]
    fn an_idle_connection_is_dropped_after_a_minute() {
        let (mut pool, now) = (Pool::default(), Instant::now());
        pool.put(opened(1, now), now);
        pool.put(opened(2, now), now + IDLE_TIMEOUT / 2);
        pool.sweep(now + IDLE_TIMEOUT, |_| true);
        assert_eq!(pool.idle.len(), 1);
        let first = take(&mut pool, now + IDLE_TIMEOUT * 3 / 2);
        assert_eq!(first, None);
    }

    #[test]
    fn a_connection_is_not_used_beyond_its_age_even_if_it_is_in_use() {
        let start = Instant::now();
        let expires: Vec<_> = (0..100).map(|_| opened(1, start).expires - start).collect();
        assert!(
            expires
                .iter()
                .all(|it| *it <= AGE_MAX && *it >= AGE_MAX * 4 / 5)
        );
        assert!(expires.iter().any(|it| *it != expires[0]));
        let mut pool = Pool::default();
        pool.put(opened(1, start), start);
        let mut now = start;
        while let Some(pooled) = pool.take(now) {
            pool.put(pooled, now);
            now += Duration::from_secs(10);
        }
        let age = now - start;
        assert!(
            age >= AGE_MAX * 4 / 5 && age <= AGE_MAX + Duration::from_secs(10),
            "{age:?}"
        );
        pool.put(opened(1, start), start + AGE_MAX);
        assert!(pool.idle.is_empty());
    }

    #[test]
    fn leaving_an_address_drops_its_idle_connections_only() {
        let (mut pool, now) = (Pool::default(), Instant::now());
        for connection in [1, 2, 1, 3] {
            pool.put(opened(connection, now), now);
        }
        let in_use = opened(1, now);
        pool.leave(address(1));
        let left: Vec<u8> = pool.idle.iter().map(|it| it.connection).collect();
        assert_eq!(left, [2, 3]);
        pool.put(in_use, now);
        assert_eq!(take(&mut pool, now), Some(1));
    }

    #[test]
    fn renewal_drops_idle_connections_and_those_in_use_when_they_come_back() {
        let (mut pool, now) = (Pool::default(), Instant::now());
        let in_use = opened(1, now);
        pool.put(opened(2, now), now);
        let renewed = now + Duration::from_secs(1);
        pool.renew(renewed);
        pool.put(in_use, renewed);
        assert_eq!(take(&mut pool, renewed), None);
        let after = renewed + Duration::from_secs(1);
        pool.put(opened(3, after), after);
        assert_eq!(take(&mut pool, after), Some(3));
    }

    #[test]
    fn a_sweep_drops_connections_that_ended() {
        let (mut pool, now) = (Pool::default(), Instant::now());
        for connection in 1..=4 {
            pool.put(opened(connection, now), now);
        }
        pool.sweep(now, |connection| *connection % 2 == 0);
        let left: Vec<u8> = pool.idle.iter().map(|it| it.connection).collect();
        assert_eq!(left, [2, 4]);
    }
}
