//! One connection: HTTP/1.1, or HTTP/2 for a client that begins with it. Whoever only holds it open loses it.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::linger::{Lingering, Unread};
use crate::stall::Stalling;

/// The head of a request may be this large.
const HEAD_BYTES: u32 = 64 * 1024;
const MAX_HEADERS: usize = 64;
/// Requests of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 64;
/// What is kept of each of their answers until the client takes it.
const UNSENT_BYTES: usize = 64 * 1024;
/// What an HTTP/2 client begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// For the first read; what comes with it is most often a whole head.
const FIRST_BYTES: usize = 4 * 1024;

/// Both kinds of connections have the same bytes under them.
trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for I {}

/// Serves one connection. Once `ending` is cancelled it ends after the requests in progress.
pub(crate) async fn serve<I>(io: I, router: Router, patience: Duration, ending: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut io = Stalling::new(io, ending.clone());
    let opening = tokio::select! {
        opening = tokio::time::timeout(patience, open(&mut io)) => opening,
        // Nothing was asked for yet.
        () = ending.cancelled() => return,
    };
    let ended = match opening {
        Ok(Ok((Protocol::Http1, first))) => {
            let io = Opened { first, io };
            http1(io, router, patience, ending).await
        }
        Ok(Ok((Protocol::Http2, first))) => {
            let io = Opened { first, io };
            http2(io, router, patience, ending).await
        }
        Ok(Err(error)) => {
            return tracing::debug!(%error, "a connection broke before its first request");
        }
        Err(_) => return tracing::debug!("a connection asked for nothing"),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn http1(
    io: impl Io,
    router: Router,
    patience: Duration,
    ending: CancellationToken,
) -> hyper::Result<()> {
    let unread = Unread::default();
    let (seen, told) = (unread.clone(), unread.clone());
    let service = router
        .map_request(move |request| seen.watch(request))
        .map_response(move |response| told.say(response));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience)
            .max_buf_size(HEAD_BYTES as usize)
            .max_headers(MAX_HEADERS)
            .serve_connection(
                TokioIo::new(Lingering::new(io, unread)),
                TowerToHyperService::new(service)
            )
            .with_upgrades()
    );
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = ending.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

async fn http2(
    io: impl Io,
    router: Router,
    patience: Duration,
    ending: CancellationToken,
) -> hyper::Result<()> {
    let requests = TaskTracker::new();
    let open = requests.clone();
    let answer = service_fn(move |request: Request<Incoming>| {
        let (router, token) = (router.clone(), open.token());
        async move {
            let response: Response<Body> = router.oneshot(request.map(Body::new)).await?;
            // The request is in progress until the last of its answer is on its way.
            let counted = |body: Body| {
                Body::new(body.map_frame(move |frame| {
                    let _counted = &token;
                    frame
                }))
            };
            Ok::<_, Infallible>(response.map(counted))
        }
    });
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(HEAD_BYTES)
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buf_size(UNSENT_BYTES)
            .keep_alive_interval(patience)
            .keep_alive_timeout(patience)
            .serve_connection(TokioIo::new(io), answer)
    );
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = ending.cancelled() => {
            connection.as_mut().graceful_shutdown();
            return connection.await;
        }
        () = unused(&requests, patience) => connection.as_mut().graceful_shutdown(),
    }
    // What comes at this moment is still answered, but nobody waits for a client that does not take leave.
    tokio::time::timeout(patience, connection)
        .await
        .unwrap_or(Ok(()))
}

/// Returns when nothing is in progress at a look every so often. A client that is still there connects again when it needs to.
async fn unused(requests: &TaskTracker, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        if requests.is_empty() {
            return;
        }
    }
}

enum Protocol {
    Http1,
    Http2,
}

/// Reads until it is known what the client speaks.
async fn open(io: &mut (impl AsyncRead + Unpin)) -> io::Result<(Protocol, BytesMut)> {
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
struct Opened<I> {
    first: BytesMut,
    io: I,
}

impl<I: AsyncRead + Unpin> AsyncRead for Opened<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, room);
        }
        let taken = self.first.len().min(room.remaining());
        room.put_slice(&self.first[..taken]);
        self.first.advance(taken);
        Poll::Ready(Ok(()))
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
