//! A hub that falls ill in one way, until a test cures it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::body::{Protocol, Series, decode, unsnappy};

/// Connections that the system keeps for a hub that accepts none. Further ones do not open.
const CONNECTIONS_UNACCEPTED: u32 = 16;

/// The time between two bytes of a slow response.
const BYTE_INTERVAL: Duration = Duration::from_secs(1);

/// How a response begins whose head does not end.
const HEAD: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nX-More: ";

/// Before a body of unknown length.
const HEAD_OF_CHUNKS: &[u8] =
    b"HTTP/1.1 500 Internal Server Error\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Before a body of 1 GiB.
const HEAD_OF_GIBIBYTE: &[u8] =
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 1073741824\r\n\r\n";

/// What is wrong with a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Illness {
    /// It accepts no connection, and reads nothing from those that are open.
    Stopped,
    /// It reads requests, and responds to none.
    Silent,
    /// It responds with a head of one byte a second.
    SlowHead,
    /// It responds with 500 and a body of one byte a second.
    SlowBody,
    /// It responds with 500 and a head that does not end.
    EndlessHead,
    /// It responds with 500 and a body that does not end.
    EndlessBody,
    /// It responds with 500 and a body of 1 GiB.
    GibibyteBody,
}

/// A hub of V1. It is well at first.
pub(crate) struct SickHub {
    address: SocketAddr,
    patient: Arc<Patient>,
}

struct Patient {
    illness: watch::Sender<Option<Illness>>,
    stored: Mutex<Vec<Series>>,
}

impl SickHub {
    pub(crate) async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(CONNECTIONS_UNACCEPTED).unwrap();
        let address = listener.local_addr().unwrap();
        let patient = Arc::new(Patient {
            illness: watch::Sender::new(None),
            stored: Mutex::default(),
        });
        tokio::spawn(accept(listener, Arc::clone(&patient)));
        Self { address, patient }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// Treats all requests in this way from now on.
    pub(crate) fn fall_ill(&self, illness: Illness) {
        self.patient.illness.send_replace(Some(illness));
    }

    /// Stores requests that come from now on. Those before stay as they are.
    pub(crate) fn cure(&self) {
        self.patient.illness.send_replace(None);
    }

    /// What was stored since the last call.
    pub(crate) fn take_stored(&self) -> Vec<Series> {
        std::mem::take(&mut self.patient.stored.lock().unwrap())
    }
}

async fn accept(listener: TcpListener, patient: Arc<Patient>) {
    let mut illness = patient.illness.subscribe();
    loop {
        let _ = illness.wait_for(|it| *it != Some(Illness::Stopped)).await;
        tokio::select! {
            biased;
            _ = illness.changed() => {}
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                let patient = Arc::clone(&patient);
                tokio::spawn(async move {
                    // The gate may leave whenever it wants to.
                    let _ = patient.serve(stream).await;
                });
            }
        }
    }
}

impl Patient {
    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            stream.readable().await?;
            if self.illness() == Some(Illness::Stopped) {
                std::future::pending::<()>().await;
            }
            let body = read_request(&mut stream).await?;
            match self.illness() {
                None => {
                    let message = unsnappy(&body).unwrap();
                    let series = decode(Protocol::V1, &message).unwrap();
                    self.stored.lock().unwrap().extend(series);
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
                }
                Some(illness) => return illness.respond(&mut stream).await,
            }
        }
    }

    fn illness(&self) -> Option<Illness> {
        *self.illness.borrow()
    }
}

impl Illness {
    /// Responds until the gate leaves.
    async fn respond(self, stream: &mut TcpStream) -> io::Result<()> {
        match self {
            Self::Stopped | Self::Silent => std::future::pending().await,
            Self::SlowHead => {
                for byte in HEAD.iter().cycle() {
                    stream.write_all(&[*byte]).await?;
                    tokio::time::sleep(BYTE_INTERVAL).await;
                }
                Ok(())
            }
            Self::SlowBody => {
                stream.write_all(HEAD_OF_CHUNKS).await?;
                loop {
                    stream.write_all(b"1\r\nx\r\n").await?;
                    tokio::time::sleep(BYTE_INTERVAL).await;
                }
            }
            Self::EndlessHead => {
                stream.write_all(HEAD).await?;
                loop {
                    stream.write_all(&[b'x'; 65_536]).await?;
                }
            }
            Self::EndlessBody => {
                stream.write_all(HEAD_OF_CHUNKS).await?;
                let chunk = [&b"10000\r\n"[..], &[b'x'; 65_536], b"\r\n"].concat();
                loop {
                    stream.write_all(&chunk).await?;
                }
            }
            Self::GibibyteBody => {
                stream.write_all(HEAD_OF_GIBIBYTE).await?;
                for _ in 0..16_384 {
                    stream.write_all(&[b'x'; 65_536]).await?;
                }
                Ok(())
            }
        }
    }
}

/// Reads a request with a Content-Length to its end, and returns its body.
async fn read_request(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    let head = loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let text = String::from_utf8_lossy(&read[..head]).to_lowercase();
    let (_, length) = text.split_once("content-length: ").unwrap();
    let length: usize = length.lines().next().unwrap().parse().unwrap();
    let mut body = read.split_off(head);
    let arrived = body.len();
    body.resize(length, 0);
    stream.read_exact(&mut body[arrived..]).await?;
    Ok(body)
}
