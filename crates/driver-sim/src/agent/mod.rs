//! The simulated agent: speaks agent.v1 as the real one documents it, over built-in programs and files in memory.

mod exec;
mod files;
mod log;
mod outbox;
mod serve;
mod session;
mod stdin;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use skerry_proto::agent::from_agent::Body as From;
use skerry_proto::agent::to_agent::Body as To;
use skerry_proto::agent::{AgentHello, GENERATION};
use tokio::io::DuplexStream;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::tree::Tree;
use exec::Execs;
use files::Files;
use outbox::Outbox;
use session::Sessions;

pub(crate) use exec::Exec;

/// Links that may wait to be served.
const LINKS: usize = 8;
/// How long a node may take to read the last words.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// 16 bytes.
type Id = bytes::Bytes;

/// The first process of a simulated sandbox, and all that runs in it.
pub(crate) struct Agent {
    tree: Arc<Tree>,
    runtime: Handle,
    /// Cancelled when it is dead; everything of it ends with that.
    life: CancellationToken,
    paused: watch::Sender<bool>,
    /// Asked to hold its processes. Remembered, and nothing more.
    held: AtomicBool,
    links: mpsc::Sender<DuplexStream>,
    outbox: Outbox,
    execs: Execs,
    sessions: Sessions,
    files: Files,
    /// Cancelled when the link that stands breaks.
    link: Mutex<CancellationToken>,
    stop: Notify,
    grace: Mutex<Duration>,
}

impl Agent {
    /// Starts one that dies by itself after `lives`, if that is given.
    pub(crate) fn start(runtime: &Handle, tree: Arc<Tree>, lives: Option<Duration>) -> Arc<Self> {
        let (links, waiting) = mpsc::channel(LINKS);
        let agent = Arc::new(Self {
            tree,
            runtime: runtime.clone(),
            life: CancellationToken::new(),
            paused: watch::Sender::new(false),
            held: AtomicBool::new(false),
            links,
            outbox: Outbox::default(),
            execs: Execs::default(),
            sessions: Sessions::default(),
            files: Files::default(),
            link: Mutex::default(),
            stop: Notify::new(),
            grace: Mutex::default(),
        });
        agent.spawn(Arc::clone(&agent).run(waiting));
        if let Some(lives) = lives {
            let dying = Arc::clone(&agent);
            agent.spawn(async move {
                sleep(lives).await;
                dying.die();
            });
        }
        agent
    }

    async fn run(self: Arc<Self>, waiting: mpsc::Receiver<DuplexStream>) {
        tokio::select! {
            () = self.serve(waiting) => {}
            () = self.shutdown() => {}
        }
        self.die();
    }

    /// Ends everything when told to: TERM, KILL after the grace, and the last words sent.
    async fn shutdown(&self) {
        self.stop.notified().await;
        let grace = *self.grace.lock();
        self.execs.signal_all(15);
        if timeout(grace, self.execs.all_ended()).await.is_err() {
            self.execs.signal_all(9);
            self.execs.all_ended().await;
        }
        // A node that does not read hears nothing.
        drop(timeout(LAST_WORDS, self.outbox.flushed()).await);
    }

    /// A task that ends with the agent.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let work = self.life.clone().run_until_cancelled_owned(work);
        self.runtime.spawn(work).abort_handle()
    }

    pub(crate) fn die(&self) {
        self.life.cancel();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.life.is_cancelled()
    }

    pub(crate) async fn dead(&self) {
        self.life.cancelled().await;
    }

    pub(crate) fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// Processes that run, the agent included.
    pub(crate) fn processes(&self) -> u64 {
        1 + self.execs.running().len() as u64
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    pub(crate) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }

    pub(crate) fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// Returns when nobody pauses it.
    pub(crate) async fn awake(&self) {
        // Its sender lives as long as we do.
        drop(self.paused.subscribe().wait_for(|paused| !paused).await);
    }

    /// Hands over a new link, which takes the place of the one before.
    pub(crate) async fn link(&self, stream: DuplexStream) -> io::Result<()> {
        let gone = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
        self.links.send(stream).await.map_err(gone)
    }

    /// Ends the link that stands.
    pub(crate) fn unlink(&self) {
        self.link.lock().cancel();
    }

    fn hello(&self) -> From {
        From::Hello(AgentHello {
            generation: GENERATION,
            version: "simulated".to_owned(),
            sessions: self.sessions.open_ids(),
        })
    }

    /// Does what one message says.
    fn handle(self: &Arc<Self>, message: To) {
        match message {
            To::ExecStart(start) => self.execs.start(self, start),
            To::ExecAttach(attach) => self.execs.attach(self, attach),
            To::ExecAck(ack) => self.execs.acknowledge(&ack),
            To::ExecStdin(input) => self.execs.stdin(input),
            To::ExecResize(resize) => self.execs.resize(&resize),
            // Nothing depends on a generation yet.
            To::Hello(_) => {}
            To::SessionOpen(open) => self.sessions.open(self, open),
            To::SessionClose(close) => self.sessions.close(self, &close.session_id),
            To::Request(request) => self.files.request(self, request),
            To::Data(data) => self.files.data(data),
            To::Credit(credit) => self.files.credit(credit),
            To::Cancel(cancel) => self.files.cancel(cancel.id),
            To::Shutdown(shutdown) => {
                *self.grace.lock() = Duration::from_millis(shutdown.kill_grace_ms);
                self.stop.notify_one();
            }
        }
    }
}
