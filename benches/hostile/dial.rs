//! How attackers reach the gate. An attack sees a stream of bytes, so that it is the same over TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

/// Opens connections to the gate.
pub(crate) trait Dial: Clone + Send + Sync + 'static {
    /// A connection on which HTTP can begin.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Opens a connection.
    fn dial(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Plain TCP from many addresses. One address would soon have no port left, since each stays in use
/// for a minute after its connection.
#[derive(Debug, Clone)]
pub(crate) struct Plain {
    to: SocketAddr,
    last: Arc<AtomicU8>,
}

impl Plain {
    pub(crate) fn to(to: SocketAddr) -> Self {
        Self {
            to,
            last: Arc::default(),
        }
    }
}

impl Dial for Plain {
    type Stream = TcpStream;

    async fn dial(&self) -> io::Result<TcpStream> {
        let last = self.last.fetch_add(1, Ordering::Relaxed);
        let socket = TcpSocket::new_v4()?;
        socket.bind((IpAddr::from([127, 0, 9, last]), 0).into())?;
        socket.connect(self.to).await
    }
}
