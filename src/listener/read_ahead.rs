//! Reads more from a socket than it is asked for.
//!
//! rustls asks for 4 KiB at a time, so a body of 100 KiB would be 25 calls of the system. The buffer
//! is there only while it has bytes: an idle connection holds none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// The most bytes that are read ahead. A TLS record has up to 16 KiB.
const BYTES_MAX: usize = 64 * 1024;

/// A stream that is read in large pieces.
#[derive(Debug)]
pub(super) struct ReadAhead<S> {
    stream: S,
    unread: BytesMut,
}

impl<S> ReadAhead<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            unread: BytesMut::new(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, unread } = self.get_mut();
        if unread.is_empty() {
            if buffer.remaining() >= BYTES_MAX {
                return Pin::new(stream).poll_read(context, buffer);
            }
            unread.reserve(BYTES_MAX);
            let read = poll_read_buf(Pin::new(stream), context, unread);
            if unread.is_empty() {
                *unread = BytesMut::new();
            }
            ready!(read)?;
        }
        let length = unread.len().min(buffer.remaining());
        buffer.put_slice(&unread[..length]);
        unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn all_bytes_come_in_order_and_none_are_held_between_two_pieces() {
        let sent: Vec<u8> = (0..300_000_u32).map(|it| it.to_le_bytes()[1]).collect();
        let (mut near, far) = tokio::io::duplex(100_000);
        let mut far = ReadAhead::new(far);
        let mut received = Vec::new();
        for piece in sent.chunks(90_000) {
            near.write_all(piece).await.unwrap();
            let end = received.len() + piece.len();
            let mut buffer = [0; 4096];
            while received.len() < end {
                let length = far.read(&mut buffer).await.unwrap();
                received.extend_from_slice(&buffer[..length]);
            }
            assert!(received == sent[..end]);
            let pending = tokio::time::timeout(std::time::Duration::ZERO, far.read(&mut buffer));
            pending.await.unwrap_err();
            assert_eq!(far.unread.capacity(), 0);
        }
        drop(near);
        assert_eq!(far.read(&mut [0; 10]).await.unwrap(), 0);
        far.write_all(b"x").await.unwrap_err();
    }
}
