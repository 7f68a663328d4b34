//! Closing a connection on a client that is still sending, so that it gets its answer and not a broken pipe.
//!
//! A request may be answered before all of its body has come: it is too large, or the disk is full. If the connection were closed with bytes
//! unread, the system would tell the client to stop at once, and the answer could be lost. So the answer says `Connection: close`, our side is
//! closed, and what still comes is thrown away for a while.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Request, Response, header};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Bytes that are thrown away at most.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// How long the client may take to notice.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the request that is being answered on a connection has a body that was not read to its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unread(Arc<AtomicBool>);

impl Unread {
    fn set(&self, unread: bool) {
        self.0.store(unread, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Keeps an eye on the request's body.
    pub(crate) fn watch(&self, request: Request<Incoming>) -> Request<Body> {
        let unread = !request.body().is_end_stream();
        self.set(unread);
        let eye = self.clone();
        request.map(|body| {
            if unread {
                Body::new(Watched { body, unread: eye })
            } else {
                Body::new(body)
            }
        })
    }

    /// Says that the connection ends, if it has to.
    pub(crate) fn say(&self, mut response: Response<Body>) -> Response<Body> {
        if self.get() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }
}

/// A body that says when it was read to its end.
struct Watched {
    body: Incoming,
    unread: Unread,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.unread.set(false);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that is closed as the module says.
#[derive(Debug)]
pub(crate) struct Lingering<I> {
    io: I,
    unread: Unread,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    /// Our side is closed; so many bytes more are thrown away, and so long.
    Draining(usize, Pin<Box<Sleep>>),
}

impl<I> Lingering<I> {
    pub(crate) fn new(io: I, unread: Unread) -> Self {
        Self {
            io,
            unread,
            state: State::Open,
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<I> {
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let State::Open = this.state {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            if !this.unread.get() {
                return Poll::Ready(Ok(()));
            }
            this.state = State::Draining(MOST_BYTES, Box::pin(tokio::time::sleep(PATIENCE)));
        }
        let State::Draining(left, patience) = &mut this.state else {
            return Poll::Ready(Ok(()));
        };
        let mut room = [0; 16 * 1024];
        while *left > 0 && patience.as_mut().poll(cx).is_pending() {
            let mut read = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                break;
            }
            *left = left.saturating_sub(read.filled().len());
        }
        Poll::Ready(Ok(()))
    }

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
}

impl<I: AsyncRead + Unpin> AsyncRead for Lingering<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, room)
    }
}
