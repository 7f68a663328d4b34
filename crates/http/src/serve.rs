//! Accepting connections, and ending without breaking what is in progress.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::{Listener, ListenerExt};
use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::activity::Limits;
use crate::connection::{self, Terms};
use crate::ports::{Peer, Secure};
use crate::tls::{Tls, TlsListener};
use crate::{App, Settings};

/// Connections at once while the server ends.
const MAX_LATE: usize = 1024;
/// A connection on which nothing was heard for so long is asked whether its client still lives, and ends after as long again.
const SILENCE: Duration = Duration::from_mins(1);
const PROBES: u32 = 4;
/// What is in progress may take this long once the server began to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves on TCP until `shutdown`, then returns when what was in progress is done. `router` is [`crate::router`], or what stands before it.
pub async fn serve_tcp(
    listener: TcpListener,
    app: App,
    router: Router,
    shutdown: CancellationToken,
) {
    serve(listener.tap_io(tune), app, router, shutdown).await;
}

/// The same over TLS.
pub async fn serve_tls(
    listener: TcpListener,
    tls: &Tls,
    app: App,
    router: Router,
    shutdown: CancellationToken,
) {
    let listener = TlsListener::new(listener.tap_io(tune), tls);
    let router = router.layer(axum::Extension(Secure));
    serve(listener, app, router, shutdown).await;
}

/// Small answers must not wait for more to come, and a client that vanished without a word must not keep its place.
fn tune(stream: &mut TcpStream) {
    let tuned = stream.set_nodelay(true).and_then(|()| {
        set_socket_keepalive(&stream, true)?;
        set_tcp_keepidle(&stream, SILENCE)?;
        set_tcp_keepintvl(&stream, SILENCE / PROBES)?;
        Ok(set_tcp_keepcnt(&stream, PROBES)?)
    });
    if let Err(error) = tuned {
        tracing::debug!(%error, "a connection stays as it was made");
    }
}

/// Serves on any listener, such as a Unix socket. See [`serve_tcp`]. All listeners of an app share its connections.
pub async fn serve<L>(mut listener: L, app: App, router: Router, shutdown: CancellationToken)
where
    L: Listener,
    L::Addr: 'static,
{
    let terms = app
        .places
        .terms(&app.settings, router, app.draining.clone());
    let tracker = TaskTracker::new();
    loop {
        let (place, (io, address)) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            next = app.places.accept(&mut listener) => next,
        };
        let peer = Peer::of(&address);
        tracker.spawn(connection::serve(io, peer, place, terms.clone()));
    }
    app.drain();
    tracker.close();
    // Probes and refusals are still answered, on connections of their own that nobody waits for.
    let terms = Terms {
        ending: CancellationToken::new(),
        ..terms
    };
    let mut late = JoinSet::new();
    let mut done = pin!(tokio::time::timeout(DRAIN_TIMEOUT, tracker.wait()));
    loop {
        tokio::select! {
            _ = &mut done => break,
            (io, address) = listener.accept(), if late.len() < MAX_LATE => {
                let peer = Peer::of(&address);
                late.spawn(connection::serve(io, peer, None, terms.clone()));
            }
            Some(_) = late.join_next() => {}
        }
    }
}

/// The places of all connections.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    /// A permit is a wish that somebody leaves. Who waits longest for one takes it, and leaves.
    wishes: Arc<Semaphore>,
    /// Only who has it may wish, so that a wish that was not needed can be taken back.
    turn: Arc<Mutex<()>>,
}

impl Places {
    pub(crate) fn new(connections: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(connections)),
            wishes: Arc::new(Semaphore::new(0)),
            turn: Arc::default(),
        }
    }

    fn terms(&self, settings: &Settings, router: Router, ending: CancellationToken) -> Terms {
        Terms {
            router,
            limits: Limits {
                patience: settings.patience,
                rest: settings.rest,
            },
            wishes: self.wishes.clone(),
            ending,
        }
    }

    /// The next connection, once there is room for it; more wait in the kernel's queue.
    async fn accept<L: Listener>(
        &self,
        listener: &mut L,
    ) -> (Option<OwnedSemaphorePermit>, (L::Io, L::Addr)) {
        let connected = listener.accept().await;
        let place = match self.free.clone().try_acquire_owned() {
            Err(_) => self.make_room().await,
            place => place.ok(),
        };
        (place, connected)
    }

    async fn make_room(&self) -> Option<OwnedSemaphorePermit> {
        let _turn = self.turn.lock().await;
        self.wishes.add_permits(1);
        // Nobody closes the semaphore, so there is a place in the end.
        let place = self.free.clone().acquire_owned().await.ok();
        if let Ok(needless) = self.wishes.try_acquire() {
            needless.forget();
        }
        place
    }
}
