//! The first bytes of a connection say what it speaks; after that they are read like the others.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use crate::activity::Activity;

/// What an HTTP/2 client begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// For the first read; what comes with it is most often a whole head.
const FIRST_BYTES: usize = 4 * 1024;

pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Reads until it is known what the client speaks.
pub(crate) async fn open(io: &mut (impl AsyncRead + Unpin)) -> io::Result<(Protocol, BytesMut)> {
    let mut first = BytesMut::with_capacity(FIRST_BYTES);
    loop {
        let is_over = io.read_buf(&mut first).await? == 0;
        let seen = first.len().min(PREFACE.len());
        if is_over || first[..seen] != PREFACE[..seen] {
            return Ok((Protocol::Http1, first));
        }
        if seen == PREFACE.len() {
            return Ok((Protocol::Http2, first));
        }
    }
}

/// A connection of which some was read already.
#[derive(Debug)]
pub(crate) struct Opened<I> {
    pub(crate) first: BytesMut,
    pub(crate) io: I,
    /// Whom to tell when more comes.
    pub(crate) heard: Option<Activity>,
    /// Its place among all connections, also when it speaks something else by now.
    pub(crate) _place: Option<OwnedSemaphorePermit>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Opened<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let taken = self.first.len().min(room.remaining());
            room.put_slice(&self.first[..taken]);
            self.first.advance(taken);
            return Poll::Ready(Ok(()));
        }
        let before = room.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, room);
        if room.filled().len() > before
            && let Some(activity) = &self.heard
        {
            activity.hear();
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Opened<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
