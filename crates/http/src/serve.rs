//! Accepting connections, and ending without breaking what is in progress.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::{Listener, ListenerExt};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{App, connection};

/// Connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// What is in progress may take this long once the server began to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves on TCP until `shutdown`, then returns when what was in progress is done. `router` is [`crate::router`], or what stands before it.
pub async fn serve_tcp(
    listener: TcpListener,
    app: App,
    router: Router,
    shutdown: CancellationToken,
) {
    // Small answers must not wait for more to come.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
    });
    serve(listener, app, router, shutdown).await;
}

/// Serves on any listener, such as a Unix socket. See [`serve_tcp`].
pub async fn serve<L: Listener>(
    mut listener: L,
    app: App,
    router: Router,
    shutdown: CancellationToken,
) {
    let patience = app.settings.patience;
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tracker = TaskTracker::new();
    loop {
        let (slot, io) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            next = accept(&mut listener, &slots) => next,
        };
        let connection = connection::serve(io, router.clone(), patience, app.draining.clone());
        tracker.spawn(async move {
            connection.await;
            drop(slot);
        });
    }
    app.drain();
    tracker.close();
    // Probes and refusals are still answered, on connections of their own that nobody waits for.
    let never = CancellationToken::new();
    let mut late = JoinSet::new();
    let mut done = pin!(tokio::time::timeout(DRAIN_TIMEOUT, tracker.wait()));
    loop {
        tokio::select! {
            _ = &mut done => break,
            (io, _) = listener.accept(), if late.len() < MAX_CONNECTIONS => {
                late.spawn(connection::serve(io, router.clone(), patience, never.clone()));
            }
            Some(_) = late.join_next() => {}
        }
    }
}

/// The next connection, once there is room for it.
async fn accept<L: Listener>(
    listener: &mut L,
    slots: &Arc<Semaphore>,
) -> (Option<OwnedSemaphorePermit>, L::Io) {
    // Nobody closes the semaphore, so there is always a permit.
    let slot = slots.clone().acquire_owned().await.ok();
    let (io, _) = listener.accept().await;
    (slot, io)
}
