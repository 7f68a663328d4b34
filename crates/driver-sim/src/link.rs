//! A byte stream that breaks when it was told to.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// The node's end of a link.
pub(crate) struct Breaking {
    /// `None`: broken.
    stream: Option<DuplexStream>,
    /// Bytes it still carries; `None`: any number.
    left: Option<u64>,
}

impl Breaking {
    pub(crate) fn new(stream: DuplexStream, left: Option<u64>) -> Self {
        let stream = (left != Some(0)).then_some(stream);
        Self { stream, left }
    }

    fn room(&self, wanted: usize) -> usize {
        self.left.map_or(wanted, |left| {
            usize::try_from(left).unwrap_or(usize::MAX).min(wanted)
        })
    }

    fn carried(&mut self, bytes: usize) {
        if let Some(left) = &mut self.left {
            *left -= bytes as u64;
            if *left == 0 {
                self.stream = None;
            }
        }
    }
}

impl AsyncRead for Breaking {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = self.room(out.remaining());
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let mut part = ReadBuf::new(out.initialize_unfilled_to(room));
        let read = Pin::new(stream).poll_read(cx, &mut part);
        let bytes = part.filled().len();
        if let Poll::Ready(Ok(())) = read {
            out.advance(bytes);
            self.carried(bytes);
        }
        read
    }
}

impl AsyncWrite for Breaking {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = self.room(data.len());
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let written = Pin::new(stream).poll_write(cx, &data[..room]);
        if let Poll::Ready(Ok(bytes)) = written {
            self.carried(bytes);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
