//! Hubs below HTTP: a network before a hub that can go silent.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::DEADLINE;

/// A network before a hub.
pub(crate) struct Network {
    address: SocketAddr,
    /// Counts how many times it went silent.
    silences: watch::Sender<usize>,
    connections: watch::Sender<usize>,
}

impl Network {
    /// Starts a network that leads to `hub`.
    pub(crate) async fn start(hub: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let silences = watch::Sender::new(0);
        let connections = watch::Sender::new(0);
        let (silencer, counter) = (silences.clone(), connections.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.send_modify(|count| *count += 1);
                tokio::spawn(forward(stream, hub, silencer.subscribe()));
            }
        });
        Self {
            address,
            silences,
            connections,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// All connections carry nothing any more, and stay open. Those that are opened later work.
    pub(crate) fn silence(&self) {
        self.silences.send_modify(|count| *count += 1);
    }

    /// The number of connections since the start.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.borrow()
    }
}

async fn forward(mut stream: TcpStream, hub: SocketAddr, mut silenced: watch::Receiver<usize>) {
    let mut onward = TcpStream::connect(hub).await.unwrap();
    tokio::select! {
        _ = copy_bidirectional(&mut stream, &mut onward) => {}
        _ = silenced.changed() => std::future::pending().await,
    }
}

/// A port of loopback that is free at each of these addresses.
pub(crate) async fn shared_port(addresses: &[&str]) -> u16 {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let first = TcpListener::bind((addresses[0], 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let others = addresses[1..].iter();
        let free = |address: &&str| std::net::TcpListener::bind((*address, port)).is_ok();
        if others.clone().all(free) {
            return port;
        }
        assert!(tokio::time::Instant::now() < deadline, "no free port");
    }
}
