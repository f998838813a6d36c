//! A new connection to a hub: the addresses of its name, and the first of them that answers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::{Host, HubUrl};

/// A hub that does not take a connection within this time, TLS included, is down.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// After this time without an answer, the next address is tried as well (RFC 8305).
const NEXT_ADDRESS_DELAY: Duration = Duration::from_millis(250);

/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 16;

/// For this long the addresses of a name are used while it cannot be resolved, so that connections
/// can reach their age while a name server is down.
const OUTAGE_TIME: Duration = Duration::from_secs(600);

/// When to ask whether the other side of an idle connection is still there, how often, and how many
/// times before it is not.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(5))
    .with_retries(3);

/// Sent bytes that the network does not confirm within this time end the connection. Longer than any
/// pause of a network that works, and below the usual `timeout`, so that there is time for a second
/// connection.
const UNCONFIRMED_TIME: Duration = Duration::from_secs(15);

/// Knows where a hub is.
#[derive(Debug)]
pub(super) struct Dialer {
    host: Host,
    port: u16,
    /// What the name was resolved to last.
    resolved: Mutex<Option<Resolved>>,
    /// Counts the connections; each begins with another address.
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Resolved {
    /// When the last answer came.
    at: Instant,
    /// When `result` was an answer.
    found: Instant,
    result: Result<Vec<SocketAddr>, Arc<io::Error>>,
}

/// What came of an attempt to connect to one of several addresses.
#[derive(Debug)]
pub(super) struct Race {
    /// The connection, or the first error.
    pub won: io::Result<(SocketAddr, TcpStream)>,
    /// The addresses that were tried and gave no connection, or not in time.
    pub lost: Vec<SocketAddr>,
}

impl Dialer {
    /// Will connect to the host and port of this URL.
    pub(super) fn new(url: &HubUrl) -> Self {
        Self {
            host: url.host().clone(),
            port: url.port(),
            resolved: Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The addresses of the hub, at least one, each call beginning with another one. A name is
    /// resolved for each call, but those who call meanwhile share the answer.
    pub(super) async fn resolve(&self) -> Result<Vec<SocketAddr>, Arc<io::Error>> {
        let name = match &self.host {
            Host::Address(address) => return Ok(vec![(*address, self.port).into()]),
            Host::Name(name) => name,
        };
        let called = Instant::now();
        let mut resolved = self.resolved.lock().await;
        let addresses = match &*resolved {
            Some(recent) if recent.at >= called => recent.result.clone(),
            _ => {
                let answer = lookup(name, self.port).await;
                let before = resolved.take();
                let result = &resolved.insert(Resolved::new(answer, before)).result;
                result.clone()
            }
        };
        let mut addresses = addresses?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len();
        addresses.rotate_left(turn);
        Ok(addresses)
    }
}

impl Resolved {
    /// What is held after an answer: its addresses, or those of `before` if it has none.
    fn new(answer: io::Result<Vec<SocketAddr>>, before: Option<Self>) -> Self {
        let now = Instant::now();
        let before = before.filter(|it| it.result.is_ok() && it.found.elapsed() < OUTAGE_TIME);
        match (answer, before) {
            (Err(error), Some(before)) => {
                tracing::debug!(%error, "the name of a hub is not resolved, so it is what it was");
                Self { at: now, ..before }
            }
            (answer, _) => Self {
                at: now,
                found: now,
                result: answer.map_err(Arc::new),
            },
        }
    }
}

async fn lookup(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for address in lookup_host((name, port)).await? {
        if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no address"));
    }
    Ok(addresses)
}

/// Tries the addresses in order, the next one when one fails or does not answer soon.
pub(super) async fn race(addresses: &[SocketAddr], deadline: Instant) -> Race {
    let mut waiting = addresses.iter();
    let mut attempts = JoinSet::new();
    let mut tried = Vec::with_capacity(1);
    let mut first_error = None;
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(attempt(*address, deadline));
            tried.push(*address);
        }
        let is_last = waiting.len() == 0;
        tokio::select! {
            attempt = attempts.join_next() => match attempt {
                Some(Ok((address, Ok(stream)))) => {
                    tried.retain(|it| *it != address);
                    let won = Ok((address, stream));
                    return Race { won, lost: tried };
                }
                Some(Ok((_, Err(error)))) => {
                    first_error.get_or_insert(error);
                }
                Some(Err(error)) => {
                    first_error.get_or_insert(error.into());
                }
                None => {
                    let no_address = || io::Error::from(io::ErrorKind::NotFound);
                    let won = Err(first_error.unwrap_or_else(no_address));
                    return Race { won, lost: tried };
                }
            },
            () = sleep(NEXT_ADDRESS_DELAY), if !is_last => {}
        }
    }
}

async fn attempt(address: SocketAddr, deadline: Instant) -> (SocketAddr, io::Result<TcpStream>) {
    let connected = timeout_at(deadline, connect(address)).await;
    (address, connected.unwrap_or_else(|late| Err(late.into())))
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_nodelay(true)?;
    let options = SockRef::from(&socket);
    options.set_tcp_keepalive(&KEEPALIVE)?;
    options.set_tcp_user_timeout(Some(UNCONFIRMED_TIME))?;
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn in_time() -> Instant {
        Instant::now() + CONNECT_TIMEOUT
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An address that refuses connections.
    async fn refusing() -> SocketAddr {
        listener().await.1
    }

    /// An address that leaves connections without an answer, since its queue is full. The sockets
    /// keep it so.
    async fn silent() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        let patience = Duration::from_millis(200);
        while let Ok(stream) = tokio::time::timeout(patience, connect(address)).await {
            queued.push(stream.unwrap());
        }
        (address, queued, listener)
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_skipped() {
        let ((_listener, good), bad) = (listener().await, refusing().await);
        let race = race(&[bad, good], in_time()).await;
        assert_eq!(race.won.unwrap().0, good);
        assert_eq!(race.lost, [bad]);
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_is_skipped_soon() {
        let ((_listener, good), (bad, _queued, _full)) = (listener().await, silent().await);
        let started = Instant::now();
        let race = race(&[bad, good], in_time()).await;
        assert_eq!(race.won.unwrap().0, good);
        assert_eq!(race.lost, [bad]);
        let took = started.elapsed();
        assert!(
            took >= NEXT_ADDRESS_DELAY && took < CONNECT_TIMEOUT,
            "{took:?}"
        );
    }

    #[tokio::test]
    async fn the_first_error_is_shown_when_no_address_answers() {
        let addresses = [refusing().await, refusing().await];
        let race = race(&addresses, in_time()).await;
        assert_eq!(
            race.won.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        assert_eq!(race.lost, addresses);
        let nowhere = super::race(&[], in_time()).await;
        assert_eq!(nowhere.won.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_connection_notices_a_silent_network() {
        let (_listener, address) = listener().await;
        let stream = connect(address).await.unwrap();
        let options = SockRef::from(&stream);
        assert!(options.keepalive().unwrap());
        assert_eq!(
            options.tcp_keepalive_time().unwrap(),
            Duration::from_secs(15)
        );
        assert_eq!(options.tcp_user_timeout().unwrap(), Some(UNCONFIRMED_TIME));
        assert!(stream.nodelay().unwrap());
    }

    /// A dialer that resolved a name at some time.
    fn dialer(name: &str, at: Instant, addresses: &[SocketAddr]) -> Dialer {
        let resolved = Resolved {
            at,
            found: at,
            result: Ok(addresses.to_vec()),
        };
        Dialer {
            host: Host::Name(name.to_owned()),
            port: 1,
            resolved: Mutex::new(Some(resolved)),
            turn: AtomicUsize::new(0),
        }
    }

    #[tokio::test]
    async fn calls_that_wait_for_an_answer_share_it_and_begin_with_its_addresses_in_turn() {
        let addresses: Vec<SocketAddr> = (1..=3).map(|it| ([192, 0, 2, it], 1).into()).collect();
        let answered = Instant::now() + Duration::from_secs(10);
        let dialer = dialer("hub.invalid", answered, &addresses);
        for turn in 0..4 {
            let first = dialer.resolve().await.unwrap()[0];
            assert_eq!(first, addresses[turn % 3]);
        }
    }

    #[tokio::test]
    async fn a_name_is_resolved_again_for_a_later_call() {
        let old = ([192, 0, 2, 1], 1).into();
        let dialer = dialer("localhost", Instant::now(), &[old]);
        let addresses = dialer.resolve().await.unwrap();
        let loopback = addresses.iter().all(|it| it.ip().is_loopback());
        assert!(loopback, "{addresses:?}");
    }

    #[tokio::test]
    async fn a_name_that_is_not_resolved_keeps_its_addresses_for_some_minutes() {
        let address = ([192, 0, 2, 1], 1).into();
        let now = Instant::now();
        // Nothing is asked for an empty name.
        let recent = dialer("", now - OUTAGE_TIME / 2, &[address]);
        for _ in 0..2 {
            assert_eq!(recent.resolve().await.unwrap(), [address]);
        }
        let old = dialer("", now - OUTAGE_TIME, &[address]);
        old.resolve().await.unwrap_err();
    }
}
