//! A byte stream to the agent over a port that knows no connections: it begins at a mark that only this link has, and ends where the guest says so.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use skerry_proto::guest::MARK_BYTES;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;

const LENGTH: usize = 4;
/// What is read at once.
const READ_BYTES: usize = 64 * 1024;
/// The longest chunk a guest may announce.
const MAX_CHUNK: usize = 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    port: UnixStream,
    input: BytesMut,
    /// Where it is read to first.
    room: Box<[u8]>,
    /// What is to come of the chunk that was begun.
    chunk: usize,
    ended: bool,
}

impl Link {
    /// Sends the mark, and drops what comes before the guest's.
    pub(crate) async fn begin(mut port: UnixStream, mark: [u8; MARK_BYTES]) -> io::Result<Self> {
        port.write_all(&mark).await?;
        let mut input = BytesMut::new();
        loop {
            if port.read_buf(&mut input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(at) = input.windows(MARK_BYTES).position(|window| window == mark) {
                input.advance(at + MARK_BYTES);
                return Ok(Self {
                    port,
                    input,
                    room: vec![0; READ_BYTES].into_boxed_slice(),
                    chunk: 0,
                    ended: false,
                });
            }
            let needless = input.len().saturating_sub(MARK_BYTES - 1);
            input.advance(needless);
        }
    }

    /// Hands over what is there. `None`: more must be read.
    fn take(&mut self, out: &mut ReadBuf<'_>) -> io::Result<Option<()>> {
        if self.chunk == 0 {
            let Some(length) = self.input.first_chunk::<LENGTH>() else {
                return Ok(None);
            };
            self.chunk = u32::from_le_bytes(*length) as usize;
            self.input.advance(LENGTH);
            self.ended = self.chunk == 0;
            if self.chunk > MAX_CHUNK {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        let len = self.chunk.min(self.input.len()).min(out.remaining());
        if len == 0 && !self.ended {
            return Ok(None);
        }
        out.put_slice(&self.input.split_to(len));
        self.chunk -= len;
        Ok(Some(()))
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.ended || out.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if this.take(out)?.is_some() {
                return Poll::Ready(Ok(()));
            }
            let mut read = ReadBuf::new(&mut this.room);
            ready!(Pin::new(&mut this.port).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                this.ended = true;
            }
            this.input.extend_from_slice(read.filled());
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.port).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.port).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.port).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_came_before_the_mark_is_dropped_and_a_zero_is_the_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mark = [9; MARK_BYTES];
        let mut stale = vec![1, 2, 3];
        stale.extend_from_slice(&mark);
        stale.extend_from_slice(&[2, 0, 0, 0, b'h', b'i', 3, 0, 0, 0, b'y']);
        theirs.write_all(&stale).await.unwrap();
        let mut link = Link::begin(ours, mark).await.unwrap();
        theirs.write_all(&[b'o', b'u', 0, 0, 0, 0]).await.unwrap();
        let mut heard = String::new();
        link.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "hiyou");
        drop(theirs);
    }
}
