//! One HTTP/1.1 connection to a hub, driven by the request that is sent over it.
//!
//! hyper gives a handle that takes requests, and a future that reads and writes. Here the sender of a
//! request polls both, so a request needs no second task, and to drop a connection is to close it.
//! While it is idle nobody reads from it, so it is looked at before it is used again.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::forward::response::HubResponse;

/// What carries the bytes. A TLS stream over it would take its place.
type Stream = TcpStream;

/// A connection that takes one request at a time.
#[derive(Debug)]
pub(super) struct Connection {
    handle: SendRequest<Full<Bytes>>,
    driver: http1::Connection<TokioIo<Stream>, Full<Bytes>>,
    /// The driver has ended, and must not be polled again.
    ended: bool,
}

impl Connection {
    /// Makes HTTP/1.1 of a stream.
    pub(super) async fn new(stream: Stream) -> hyper::Result<Self> {
        let (handle, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            handle,
            driver,
            ended: false,
        })
    }

    /// False when the hub closed the connection, sent what it was not asked for, or has not read all
    /// of the last request.
    pub(super) fn is_open(&mut self) -> bool {
        // It is only looked at; whoever waits polls it again.
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.ended && self.handle.is_ready()
    }

    /// Sends a request and reads the response to its end. The error is what broke the connection, if it
    /// is known.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<HubResponse, Option<hyper::Error>> {
        let response = self.handle.try_send_request(request);
        let mut exchange = pin!(async {
            let response = response.await.map_err(|error| error.into_error())?;
            HubResponse::read(response).await
        });
        poll_fn(|context| {
            self.drive(context);
            match exchange.as_mut().poll(context) {
                Poll::Ready(result) => Poll::Ready(result.map_err(Some)),
                Poll::Pending if self.ended => Poll::Ready(Err(None)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Reads and writes as far as possible.
    fn drive(&mut self, context: &mut Context<'_>) {
        if !self.ended {
            // Its error reaches the request, if there is one.
            self.ended = Pin::new(&mut self.driver).poll(context).is_ready();
        }
    }
}
