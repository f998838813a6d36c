//! Hubs below HTTP: one that does with each connection what a test says, and a network before a hub
//! that can go silent.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;

use super::DEADLINE;
use super::tls_server::ServerTls;

/// The response to a V1 write.
const STORED: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// What is done with a request on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// It is read and taken.
    Take,
    /// The connection is closed when it begins to arrive, and nothing of it is read.
    CloseUnread,
    /// It is read, and the connection is closed without a response.
    CloseRead,
    /// It is read, and the connection is closed within the head of the response.
    CloseInHead,
    /// It is read and taken, and the connection is closed after the response, as TLS asks for it.
    TakeAndEnd,
    /// It is read and taken, and TCP is closed after the response, which TLS takes for an attack.
    TakeAndCut,
}

/// A hub of V1 that acts as told.
pub(crate) struct RawHub {
    scheme: &'static str,
    address: SocketAddr,
    requests: watch::Sender<usize>,
    ended: watch::Sender<Vec<bool>>,
}

impl RawHub {
    /// Starts a hub. The first element of `acts` is for the first connection, and so on, and has what
    /// to do with its requests in turn; the last act and the last connection stand for all later ones.
    pub(crate) async fn start(acts: &'static [&'static [Act]]) -> Self {
        Self::start_with(acts, None).await
    }

    /// As [`Self::start`], over TLS if it is given.
    pub(crate) async fn start_with(
        acts: &'static [&'static [Act]],
        tls: Option<&ServerTls>,
    ) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let acceptor = tls.map(ServerTls::acceptor);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = watch::Sender::new(0);
        let counter = requests.clone();
        let ended = watch::Sender::default();
        let adder = ended.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let acts = acts[connection.min(acts.len() - 1)];
                let (acceptor, counter, adder) = (acceptor.clone(), counter.clone(), adder.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, acts, counter, adder).await,
                        Some(acceptor) => {
                            let stream = acceptor.accept(stream).await.unwrap();
                            serve(stream, acts, counter, adder).await;
                        }
                    }
                });
            }
        });
        Self {
            scheme,
            address,
            requests,
            ended,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}/api/v1/write", self.scheme, self.address)
    }

    /// Waits until the peer ends a connection, and returns whether each end so far was as the protocol
    /// asks for it.
    pub(crate) async fn wait_for_end(&self) -> Vec<bool> {
        let mut ended = self.ended.subscribe();
        let some = ended.wait_for(|all| !all.is_empty());
        let some = tokio::time::timeout(DEADLINE, some).await;
        some.expect("an end in time").unwrap().clone()
    }

    /// The number of requests that began to arrive.
    pub(crate) fn requests(&self) -> usize {
        *self.requests.borrow()
    }
}

/// A connection with TLS or without.
trait Connection: AsyncRead + AsyncWrite + Unpin {
    /// Waits until a request begins to arrive, and reads nothing of it. False when the peer ends the
    /// connection instead.
    async fn begins(&self) -> bool;
}

impl Connection for TcpStream {
    async fn begins(&self) -> bool {
        self.peek(&mut [0]).await.unwrap_or(0) > 0
    }
}

impl Connection for TlsStream<TcpStream> {
    async fn begins(&self) -> bool {
        let (tcp, session) = self.get_ref();
        if !session.wants_read() {
            // It came with the end of the handshake.
            return true;
        }
        // The alert at the end of a connection is shorter than any request.
        let mut header = [0; 5];
        let peeked = tcp.peek(&mut header).await.unwrap_or(0);
        peeked == header.len() && u16::from_be_bytes([header[3], header[4]]) > 64
    }
}

async fn serve(
    mut stream: impl Connection,
    acts: &[Act],
    requests: watch::Sender<usize>,
    ended: watch::Sender<Vec<bool>>,
) {
    for request in 0.. {
        if !stream.begins().await {
            // Without the goodbye of TLS, this is an error.
            let goodbye = stream.read(&mut [0]).await.is_ok_and(|read| read == 0);
            ended.send_modify(|all| all.push(goodbye));
            return;
        }
        requests.send_modify(|count| *count += 1);
        let act = acts[request.min(acts.len() - 1)];
        if act == Act::CloseUnread {
            return;
        }
        read_request(&mut stream).await;
        match act {
            Act::Take => {
                stream.write_all(STORED).await.unwrap();
                stream.flush().await.unwrap();
            }
            Act::CloseInHead => {
                stream.write_all(&STORED[..10]).await.unwrap();
                return stream.flush().await.unwrap();
            }
            Act::TakeAndEnd | Act::TakeAndCut => {
                stream.write_all(STORED).await.unwrap();
                stream.flush().await.unwrap();
                if act == Act::TakeAndEnd {
                    stream.shutdown().await.unwrap();
                }
                return;
            }
            Act::CloseRead | Act::CloseUnread => return,
        }
    }
}

/// Reads a request with a Content-Length to its end.
async fn read_request(stream: &mut impl Connection) {
    let mut read = Vec::new();
    let head = loop {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0);
        let end = read.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        if let Some(end) = end {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&read[..head]).to_lowercase();
    let (_, length) = text.split_once("content-length: ").unwrap();
    let length: usize = length.lines().next().unwrap().parse().unwrap();
    while read.len() < head + length {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0);
    }
}

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
