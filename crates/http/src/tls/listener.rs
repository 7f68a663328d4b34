//! Connections that begin with a handshake, each in its own task, so that none waits for another's.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use super::Tls;

/// The first byte of a client that speaks TLS.
const HANDSHAKE: u8 = 0x16;
/// What any other is told.
const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 41\r\nConnection: close\r\n\r\n\
this port speaks TLS: begin with https://";

/// Accepts connections that are encrypted.
pub(crate) struct TlsListener<L> {
    listener: L,
    acceptor: TlsAcceptor,
}

impl<L> TlsListener<L> {
    pub(crate) fn new(listener: L, tls: &Tls) -> Self {
        Self {
            listener,
            acceptor: tls.acceptor(),
        }
    }
}

impl<L: Listener<Io = TcpStream>> Listener for TlsListener<L> {
    type Io = TlsIo;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (TlsIo, L::Addr) {
        let (stream, address) = self.listener.accept().await;
        let io = TlsIo::Handshake {
            accept: Box::new(self.acceptor.accept(stream)),
            is_tls: false,
        };
        (io, address)
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}

/// An encrypted connection. Whoever reads first does the handshake.
pub(crate) enum TlsIo {
    Handshake {
        accept: Box<Accept<TcpStream>>,
        /// Its first byte was looked at.
        is_tls: bool,
    },
    Open(Box<TlsStream<TcpStream>>),
}

impl TlsIo {
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut TlsStream<TcpStream>>> {
        if let Self::Handshake { accept, is_tls } = self {
            if !*is_tls && let Some(stream) = accept.get_ref() {
                ready!(poll_first(stream, cx))?;
                *is_tls = true;
            }
            let stream = ready!(Pin::new(accept.as_mut()).poll(cx))?;
            *self = Self::Open(Box::new(stream));
        }
        match self {
            Self::Open(stream) => Poll::Ready(Ok(stream)),
            Self::Handshake { .. } => Poll::Pending,
        }
    }
}

/// Looks at the first byte. A client that does not speak TLS gets an answer that it can read.
fn poll_first(stream: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut first = [0];
    let mut first = ReadBuf::new(&mut first);
    ready!(stream.poll_peek(cx, &mut first))?;
    if first.filled().iter().all(|byte| *byte == HANDSHAKE) {
        return Poll::Ready(Ok(()));
    }
    // As much as one look and one go allow: closing with bytes unread could take the answer back.
    let _asked = stream.try_read(&mut [0; 4096]);
    let _told = stream.try_write(REFUSAL);
    Poll::Ready(Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "the client does not speak TLS",
    )))
}

impl AsyncRead for TlsIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = ready!(self.get_mut().poll_open(cx))?;
        Pin::new(stream).poll_read(cx, room)
    }
}

impl AsyncWrite for TlsIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = ready!(self.get_mut().poll_open(cx))?;
        Pin::new(stream).poll_write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = ready!(self.get_mut().poll_open(cx))?;
        Pin::new(stream).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = ready!(self.get_mut().poll_open(cx))?;
        Pin::new(stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = ready!(self.get_mut().poll_open(cx))?;
        Pin::new(stream).poll_shutdown(cx)
    }
}
