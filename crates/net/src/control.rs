//! The gateway's answers on its control socket.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use parking_lot::RwLock;
use skerry_types::SandboxId;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::options::Config;
use crate::policy::Policy;
use crate::refusals::Refusals;
use crate::registry::Registry;
use crate::share::Shared;
use crate::wire::{Facts, GENERATION, NetworkKind, Reply, Request, Wire};

/// How often the gateway looks whether its folder is still there.
const LOOK: Duration = Duration::from_secs(2);

/// Everything that the tasks of a gateway share.
pub(crate) struct Gateway {
    pub(crate) config: Config,
    pub(crate) address: Ipv4Addr,
    pub(crate) rootless: bool,
    pub(crate) registry: Registry,
    pub(crate) policy: RwLock<Arc<Policy>>,
    /// The host's, as far as known.
    pub(crate) name_servers: RwLock<Arc<[SocketAddr]>>,
    pub(crate) refusals: Refusals,
    /// Connections that can still be relayed.
    pub(crate) connections: Shared,
    /// Name lookups that can still be answered at once.
    pub(crate) lookups: Shared,
    /// The control socket's path, removed before the gateway leaves.
    pub(crate) socket: PathBuf,
    /// Daemons connected now.
    pub(crate) daemons: AtomicUsize,
    /// A daemon came or went, or a sandbox did.
    pub(crate) changed: Notify,
    /// Cancelled when the gateway shall end.
    pub(crate) stop: CancellationToken,
}

/// Answers until the gateway is told to stop or is of no use any more.
pub(crate) async fn serve(gateway: Arc<Gateway>, listener: UnixListener) -> io::Result<()> {
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                gateway.daemons.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(Arc::clone(&gateway).converse(Wire::new(stream)));
            }
            () = gateway.useless() => {
                gateway.unlisten();
                return Ok(());
            }
            () = gateway.stop.cancelled() => return Ok(()),
        }
    }
}

impl Gateway {
    /// Resolves when there was neither a daemon nor a sandbox for the whole lingering time, or when
    /// the folder is gone, so that no daemon can come any more.
    async fn useless(&self) {
        let linger = Duration::from_secs(self.config.linger_seconds);
        loop {
            let idle = self.daemons.load(Ordering::Relaxed) == 0 && self.registry.is_empty();
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(linger), if idle => return,
                () = tokio::time::sleep(LOOK) => if !self.socket.exists() {
                    return;
                },
            }
        }
    }

    async fn converse(self: Arc<Self>, mut wire: Wire) {
        if let Err(error) = self.answer_all(&mut wire).await {
            tracing::debug!(%error, "a control connection broke");
        }
        self.daemons.fetch_sub(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    async fn answer_all(&self, wire: &mut Wire) -> io::Result<()> {
        while let Some((request, _)) = wire.receive::<Request>().await? {
            self.answer(wire, request).await?;
        }
        Ok(())
    }

    async fn answer(&self, wire: &mut Wire, request: Request) -> io::Result<()> {
        match request {
            Request::Hello {
                egress_allow,
                name_servers,
            } => {
                self.allow(egress_allow);
                if let Some(servers) = name_servers {
                    *self.name_servers.write() = servers.into();
                }
                let generation = GENERATION;
                wire.send(&Reply::Hello { generation }, None).await
            }
            Request::Acquire { sandbox, kind } => self.acquire(wire, sandbox, kind).await,
            Request::Rule { sandbox, egress } => {
                let reply = match self.registry.rule(sandbox, egress) {
                    Ok(()) => Reply::Done,
                    Err(failure) => Reply::Failed { failure },
                };
                wire.send(&reply, None).await
            }
            Request::Release { sandbox } => {
                self.registry.release(sandbox);
                self.changed.notify_one();
                wire.send(&Reply::Done, None).await
            }
            Request::List => {
                let held = self.registry.list();
                wire.send(&Reply::List { held }, None).await
            }
            Request::Facts => {
                let facts = self.facts();
                wire.send(&Reply::Facts { facts }, None).await
            }
            Request::Userns => self.userns(wire).await,
            Request::Watch => self.watch(wire).await,
            Request::Stop => {
                self.unlisten();
                let sent = wire.send(&Reply::Done, None).await;
                self.stop.cancel();
                sent
            }
        }
    }

    fn allow(&self, egress_allow: Vec<IpNet>) {
        let policy = Policy::new(egress_allow, self.config.subnet);
        *self.policy.write() = Arc::new(policy);
    }

    async fn acquire(&self, wire: &Wire, sandbox: SandboxId, kind: NetworkKind) -> io::Result<()> {
        let acquired = self.registry.acquire(sandbox, kind).await;
        self.changed.notify_one();
        match acquired {
            Ok(member) => {
                let reply = Reply::Netns {
                    held: member.held.clone(),
                    gateway: self.address,
                };
                wire.send(&reply, Some(member.netns.as_fd())).await
            }
            Err(failure) => wire.send(&Reply::Failed { failure }, None).await,
        }
    }

    async fn userns(&self, wire: &Wire) -> io::Result<()> {
        let userns = File::open("/proc/self/ns/user")?;
        let own = self.rootless;
        wire.send(&Reply::Userns { own }, Some(userns.as_fd()))
            .await
    }

    /// Waits for refusals, unless the daemon goes away meanwhile.
    async fn watch(&self, wire: &mut Wire) -> io::Result<()> {
        let (events, lost) = tokio::select! {
            batch = self.refusals.next() => batch,
            early = wire.receive::<Request>() => return early.map(drop),
        };
        wire.send(&Reply::Refused { events, lost }, None).await
    }

    fn facts(&self) -> Facts {
        Facts {
            pid: std::process::id(),
            rootless: self.rootless,
            nat_unavailable: self.registry.nat_unavailable().map(str::to_owned),
            gateway: self.address,
            connections: self.connections.taken(),
        }
    }

    /// Comes before leaving, so that whoever connects from now on starts the next gateway.
    fn unlisten(&self) {
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::warn!(%error, "cannot remove the control socket");
        }
    }
}
