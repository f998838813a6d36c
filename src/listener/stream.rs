//! The socket of a connection as hyper sees it: what it receives is followed on the way.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::reasons::ConnectionRefusal;

use super::activity::Activity;
use super::connection::READ_BUFFER_BYTES;
use super::establish::Access;
use super::frames::Frames;
use super::head::{Heads, Requests, Step};

/// A stream whose received bytes are followed.
pub(super) struct Followed<S> {
    stream: S,
    input: Input,
    activity: Arc<Activity>,
    heads: Arc<Heads>,
    access: Arc<Access>,
}

enum Input {
    Http1(Requests),
    Http2(Frames),
}

impl<S> Followed<S> {
    /// Follows a stream.
    pub(super) fn new(
        stream: S,
        activity: Arc<Activity>,
        heads: Arc<Heads>,
        access: Arc<Access>,
    ) -> Self {
        Self {
            stream,
            input: Input::Http1(Requests::default()),
            activity,
            heads,
            access,
        }
    }

    /// Follows what was received. Fails when the peer sends frames for nothing.
    fn follow(&mut self, received: &[u8]) -> io::Result<()> {
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
            self.access.count_refusal(ConnectionRefusal::Http2Flood);
            io::Error::other(flood)
        })
    }
}

impl<S: Unpin> Followed<S> {
    fn stream(&mut self) -> Pin<&mut S> {
        Pin::new(&mut self.stream)
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
        self.stream.is_write_vectored()
    }
}
