//! One connection: HTTP/1.1, or HTTP/2 for a client that begins with it. Whoever only holds it open loses it.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::activity::{Activity, Limits, Over};
use crate::linger::{Lingering, Unread};
use crate::opened::{Opened, Protocol, open};
use crate::ports::Peer;
use crate::stall::Stalling;

/// The head of a request may be this large.
const HEAD_BYTES: u32 = 64 * 1024;
const MAX_HEADERS: usize = 64;
/// Requests of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 128;
/// What is kept of each of their answers until the client takes it.
const UNSENT_BYTES: usize = 64 * 1024;

/// What holds for every connection of a server.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    /// A permit is for who waits longest for one: others need its place.
    pub(crate) wishes: Arc<Semaphore>,
    /// Once it is cancelled connections end after the requests in progress.
    pub(crate) ending: CancellationToken,
}

/// Both kinds of connections have the same bytes under them.
trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for I {}

/// Serves one connection, which keeps its place as long as it is open.
pub(crate) async fn serve<I>(
    io: I,
    peer: Option<Peer>,
    place: Option<OwnedSemaphorePermit>,
    terms: Terms,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut io = Stalling::new(io, terms.ending.clone());
    let activity = Activity::new();
    let opening = tokio::select! {
        opening = open(&mut io) => opening,
        // Nothing was asked for yet.
        () = terms.ending.cancelled() => return,
        _ = activity.over(terms.limits, &terms.wishes) => {
            return tracing::debug!("a connection asked for nothing");
        }
    };
    let opened = |first, heard| Opened {
        first,
        io,
        heard,
        _place: place,
    };
    let ended = match opening {
        Ok((Protocol::Http1, first)) => {
            http1(
                opened(first, Some(activity.clone())),
                peer,
                &activity,
                terms,
            )
            .await
        }
        Ok((Protocol::Http2, first)) => http2(opened(first, None), peer, &activity, terms).await,
        Err(error) => {
            return tracing::debug!(%error, "a connection broke before its first request");
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn http1(
    io: impl Io,
    peer: Option<Peer>,
    activity: &Activity,
    terms: Terms,
) -> hyper::Result<()> {
    let unread = Unread::default();
    let (seen, asked, router) = (unread.clone(), activity.clone(), terms.router.clone());
    let answer = service_fn(move |mut request: Request<Incoming>| {
        peer.map(|peer| request.extensions_mut().insert(peer));
        let (request, mut progress) = (seen.watch(request), asked.request());
        let (router, told) = (router.clone(), seen.clone());
        async move {
            progress.take_up();
            let response = told.say(router.oneshot(request).await?);
            Ok::<_, Infallible>(progress.until_sent(response))
        }
    });
    let connection = http1::Builder::new()
        // It would let go of clients that rest, too.
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES as usize)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(Lingering::new(io, unread)), answer)
        .with_upgrades();
    let leave = http1::UpgradeableConnection::graceful_shutdown;
    lead(connection, leave, activity, &terms).await
}

async fn http2(
    io: impl Io,
    peer: Option<Peer>,
    activity: &Activity,
    terms: Terms,
) -> hyper::Result<()> {
    let (asked, router) = (activity.clone(), terms.router.clone());
    let answer = service_fn(move |mut request: Request<Incoming>| {
        peer.map(|peer| request.extensions_mut().insert(peer));
        let (router, mut progress) = (router.clone(), asked.request());
        async move {
            progress.take_up();
            let response = router.oneshot(request.map(Body::new)).await?;
            Ok::<_, Infallible>(progress.until_sent(response))
        }
    });
    let patience = terms.limits.patience;
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(UNSENT_BYTES)
        .keep_alive_interval(patience)
        .keep_alive_timeout(patience)
        .serve_connection(TokioIo::new(io), answer);
    let leave = http2::Connection::graceful_shutdown;
    lead(connection, leave, activity, &terms).await
}

/// Until the client leaves, is let go, or the server ends.
async fn lead<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    take_leave: impl FnOnce(Pin<&mut C>),
    activity: &Activity,
    terms: &Terms,
) -> hyper::Result<()> {
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = terms.ending.cancelled() => {}
        over = activity.over(terms.limits, &terms.wishes) => if over != Over::Rested {
            return Ok(());
        }
    }
    take_leave(connection.as_mut());
    // What is in progress, or comes at this moment, is still answered, but nobody waits for a client that does not take its leave.
    let limits = Limits {
        rest: terms.limits.patience,
        ..terms.limits
    };
    tokio::select! {
        ended = connection => ended,
        _ = activity.over(limits, &terms.wishes) => Ok(()),
    }
}
