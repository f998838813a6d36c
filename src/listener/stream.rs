//! The socket of a connection as hyper sees it: what it receives is followed on the way.
//!
//! hyper drops the stream at its end. Then it comes back from here if the peer may still be sending,
//! and [`linger`] closes it. A socket that is closed with bytes unread resets the connection, the
//! response may be lost with it, and senders retry a reset for ever.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::reasons::ConnectionRefusal;

use super::activity::Activity;
use super::admit::Access;
use super::connection::READ_BUFFER_BYTES;
use super::frames::Frames;
use super::head::{Heads, Requests, Step};

/// How long the rest of what a peer sends is read after the last response. It is a short time, since
/// anybody can cause it.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// The most bytes that are read after the last response. What the buffers of the system take comes on
/// top. Bodies of a Prometheus are much smaller.
const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A stream whose received bytes are followed.
pub(super) struct Followed<S> {
    /// Present until the drop.
    stream: Option<S>,
    input: Input,
    /// The peer has ended, or is not listened to any more.
    ended: bool,
    activity: Arc<Activity>,
    heads: Arc<Heads>,
    access: Arc<Access>,
    unread: Option<oneshot::Sender<S>>,
}

enum Input {
    Http1(Requests),
    Http2(Frames),
}

impl<S> Followed<S> {
    /// Follows a stream. At its end the stream itself comes through the receiver, if the peer may
    /// still be sending.
    pub(super) fn new(
        stream: S,
        activity: Arc<Activity>,
        heads: Arc<Heads>,
        access: Arc<Access>,
    ) -> (Self, oneshot::Receiver<S>) {
        let (unread, receiver) = oneshot::channel();
        let followed = Self {
            stream: Some(stream),
            input: Input::Http1(Requests::default()),
            ended: false,
            activity,
            heads,
            access,
            unread: Some(unread),
        };
        (followed, receiver)
    }

    /// Follows what was received. Fails when the peer sends frames for nothing.
    fn follow(&mut self, received: &[u8]) -> io::Result<()> {
        self.ended = received.is_empty();
        let mut rest = received;
        if let Input::Http1(requests) = &mut self.input {
            match requests.read(rest, READ_BUFFER_BYTES, &self.heads) {
                Step::Read => {
                    if requests.within_head() {
                        self.activity.head_began();
                    }
                    return Ok(());
                }
                Step::Http2(read) => rest = &rest[read..],
            }
            self.input = Input::Http2(Frames::new());
        }
        let Input::Http2(frames) = &mut self.input else {
            return Ok(());
        };
        frames.read(rest, &self.heads).map_err(|flood| {
            self.ended = true;
            self.access.count_refusal(ConnectionRefusal::Http2Flood);
            io::Error::other(flood)
        })
    }

    /// Tells whether the peer may be in the middle of a request.
    fn is_unread(&self) -> bool {
        let within = match &self.input {
            Input::Http1(requests) => !requests.is_between(),
            Input::Http2(frames) => frames.within_request(),
        };
        within && !self.ended
    }
}

impl<S> Drop for Followed<S> {
    fn drop(&mut self) {
        let unread = self.is_unread();
        if let (true, Some(stream), Some(to)) = (unread, self.stream.take(), self.unread.take()) {
            // The connection may have been given up.
            let _ = to.send(stream);
        }
    }
}

/// Closes a connection whose peer may still be sending: first for writing, and for reading when the
/// peer has closed it or time is up.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let closing = async {
        stream.shutdown().await?;
        let mut buffer = vec![0; 64 * 1024];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                length => left = left.saturating_sub(length),
            }
        }
        // The peer may have written all that it has. To close at once would reset what it reads.
        std::future::pending::<io::Result<()>>().await
    };
    // The connection ends here in any case.
    let _ = timeout(LINGER_TIMEOUT, closing).await;
}

impl<S: Unpin> Followed<S> {
    fn stream(&mut self) -> Pin<&mut S> {
        Pin::new(self.stream.as_mut().expect("it is there until the drop"))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Followed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.stream().poll_read(context, buffer))?;
        Poll::Ready(self.follow(&buffer.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Followed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        let stream = self.stream.as_ref();
        stream.is_some_and(AsyncWrite::is_write_vectored)
    }
}
