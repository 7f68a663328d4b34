//! The daemon's side: starts or adopts the gateway and asks it for networks.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use skerry_sys::userns;
use skerry_types::{Egress, SandboxId};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, mpsc};

use crate::error::{Error, Result};
use crate::launch;
use crate::options::Options;
use crate::upstream;
use crate::wire::{Facts, Failure, GENERATION, Held, NetworkKind, Refusal, Reply, Request, Wire};

/// The gateway answers in microseconds; at its start and under load in milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Rest before looking again for a gateway that can report refusals.
const WATCH_REST: Duration = Duration::from_secs(1);
/// How often the host's name servers are looked at.
const NAME_SERVERS_LOOK: Duration = Duration::from_secs(2);
/// Refusals waiting for the one who reads them.
const REFUSALS: usize = 256;

/// The network of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    /// `None` while a request is under way and after one broke.
    wire: Mutex<Option<Wire>>,
    /// Outlives a gateway, so that the next one makes namespaces that fit the same processes.
    userns: std::sync::OnceLock<OwnedFd>,
    /// What was ruled for sandboxes, also for those that have no network now: each gets its namespace with it.
    egress: parking_lot::Mutex<HashMap<SandboxId, Egress>>,
}

/// A network namespace for one sandbox. It stays until [`Network::release`], even without this.
#[derive(Debug)]
pub struct Netns {
    /// The namespace.
    pub fd: OwnedFd,
    /// The sandbox's address on `eth0`; `None` if it has only a loopback.
    pub address: Option<Ipv4Addr>,
    /// The address of the gateway, which is the name server too.
    pub gateway: Ipv4Addr,
}

impl Netns {
    /// What belongs into the sandbox's `/etc/resolv.conf`: empty without a network.
    pub fn resolv_conf(&self) -> String {
        match self.address {
            Some(_) => format!("nameserver {}\n", self.gateway),
            None => String::new(),
        }
    }
}

impl Network {
    /// Adopts the gateway that runs for this folder, or starts one.
    pub async fn start(options: Options) -> Result<Self> {
        let network = Self {
            inner: Arc::new(Inner {
                options,
                wire: Mutex::new(None),
                userns: std::sync::OnceLock::new(),
                egress: parking_lot::Mutex::default(),
            }),
        };
        if !network.learn_userns().await? {
            // It is of an earlier server in another user namespace, and of no use to processes in this one.
            network.stop().await?;
            network.learn_userns().await?;
        }
        tokio::spawn(follow_name_servers(Arc::downgrade(&network.inner)));
        Ok(network)
    }

    /// Asks whose user namespace owns the networks. `false`: one that no process of ours can join.
    async fn learn_userns(&self) -> Result<bool> {
        let (Reply::Userns { own }, Some(fd)) = self.call(&Request::Userns).await? else {
            return Err(Error::Unexpected);
        };
        if own && !rustix::process::geteuid().is_root() {
            let _told_before = self.inner.userns.set(fd);
            return Ok(true);
        }
        userns::is_own(&fd).map_err(Error::Userns)
    }

    /// The user namespace that owns all network namespaces, when the gateway runs without
    /// privileges: a process must join it before it can join one of them.
    pub fn userns(&self) -> Option<&OwnedFd> {
        self.inner.userns.get()
    }

    /// The namespace of a sandbox; the same one however often it is asked for. Only if the gateway
    /// itself died meanwhile it is a new one, and the old one has lost its way out.
    pub async fn acquire(&self, kind: NetworkKind, sandbox: SandboxId) -> Result<Netns> {
        match self.call(&Request::Acquire { sandbox, kind }).await? {
            (Reply::Netns { held, gateway }, Some(fd)) => {
                self.rule_before_use(sandbox).await?;
                Ok(Netns {
                    fd,
                    address: held.address,
                    gateway,
                })
            }
            _ => Err(Error::Unexpected),
        }
    }

    /// Nothing runs in a namespace before whoever asked for it has it.
    async fn rule_before_use(&self, sandbox: SandboxId) -> Result<()> {
        let egress = self.inner.egress.lock().get(&sandbox).cloned();
        let Some(egress) = egress else { return Ok(()) };
        let ruled = self.call(&Request::Rule { sandbox, egress }).await;
        if ruled.is_err() {
            self.release(sandbox).await?;
        }
        ruled.map(drop)
    }

    /// From now on a sandbox connects only where these rules let it, whichever namespace it gets or has. What they forbid of its open connections
    /// ends.
    pub async fn rule(&self, sandbox: SandboxId, egress: Egress) -> Result<()> {
        let known = egress.clone();
        self.inner.egress.lock().insert(sandbox, known);
        match self.call(&Request::Rule { sandbox, egress }).await {
            Ok(_) | Err(Error::NoSandbox) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A sandbox that will never have a network again needs no rules.
    pub fn forget_rules(&self, sandbox: SandboxId) {
        self.inner.egress.lock().remove(&sandbox);
    }

    /// Ends the sandbox's connections and frees its address. No error if it has none.
    pub async fn release(&self, sandbox: SandboxId) -> Result<()> {
        match self.call(&Request::Release { sandbox }).await? {
            (Reply::Done, _) => Ok(()),
            _ => Err(Error::Unexpected),
        }
    }

    /// Whether sandboxes can have network `nat`; if that cannot be had here, a note says why.
    pub async fn has_nat(network: Option<&Self>, notes: &mut Vec<String>) -> Result<bool> {
        let Some(network) = network else {
            return Ok(false);
        };
        let missing = network.facts().await?.nat_unavailable;
        let available = missing.is_none();
        notes.extend(missing.map(|why| format!("no network `nat`: {why}")));
        Ok(available)
    }

    /// Every sandbox that has a namespace.
    pub async fn list(&self) -> Result<Vec<Held>> {
        match self.call(&Request::List).await? {
            (Reply::List { held }, _) => Ok(held),
            _ => Err(Error::Unexpected),
        }
    }

    /// What this machine's network can do.
    pub async fn facts(&self) -> Result<Facts> {
        match self.call(&Request::Facts).await? {
            (Reply::Facts { facts }, _) => Ok(facts),
            _ => Err(Error::Unexpected),
        }
    }

    /// Ends the gateway and with it the network of every sandbox.
    pub async fn stop(&self) -> Result<()> {
        match self.call(&Request::Stop).await? {
            (Reply::Done, _) => Ok(()),
            _ => Err(Error::Unexpected),
        }
    }

    /// Connections refused from now on, and those that the gateway kept while nobody listened.
    /// Each is reported once; while the receiver is slow the gateway keeps some of each sandbox and counts the rest.
    pub fn refusals(&self) -> mpsc::Receiver<Refusal> {
        let (sender, receiver) = mpsc::channel(REFUSALS);
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                () = inner.watch(&sender) => {}
            }
        });
        receiver
    }

    /// Every request may be sent twice; so one that met a dead gateway goes to the next.
    async fn call(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>)> {
        let mut slot = self.inner.wire.lock().await;
        // Taken out: a call that is dropped half-way must not leave its answer to the next.
        if let Some(mut wire) = slot.take()
            && let Ok(answer) = ask(&mut wire, request).await
        {
            *slot = Some(wire);
            return accept(answer);
        }
        let mut wire = self.inner.connect().await?;
        let answer = self.inner.ask(&mut wire, request).await?;
        *slot = Some(wire);
        accept(answer)
    }
}

impl Inner {
    async fn connect(&self) -> Result<Wire> {
        let stream = launch::connect(&self.options, self.userns.get()).await?;
        self.greet(stream).await
    }

    async fn greet(&self, stream: UnixStream) -> Result<Wire> {
        let mut wire = Wire::new(stream);
        let hello = Request::Hello {
            egress_allow: self.options.config.egress_allow.clone(),
            name_servers: upstream::read(&self.options.config.resolv_conf),
        };
        match self.ask(&mut wire, &hello).await? {
            (Reply::Hello { generation }, _) if generation == GENERATION => Ok(wire),
            (Reply::Hello { generation }, _) => Err(Error::Generation {
                theirs: generation,
                ours: GENERATION,
            }),
            _ => Err(Error::Unexpected),
        }
    }

    /// A greeting brings them. Without a gateway there is nobody to tell: one that starts later reads them itself.
    async fn tell_name_servers(&self) -> bool {
        let Ok(stream) = launch::adopt(&self.options).await else {
            return true;
        };
        let told = self.greet(stream).await;
        if let Err(error) = &told {
            tracing::warn!(%error, "the gateway does not know of the host's new name servers yet");
        }
        told.is_ok()
    }

    async fn ask(&self, wire: &mut Wire, request: &Request) -> Result<(Reply, Option<OwnedFd>)> {
        ask(wire, request)
            .await
            .map_err(|source| launch::connection(&self.options.dir, source))
    }

    /// Fetches refusals for ever: from the gateway that runs now and from those after it.
    async fn watch(&self, sender: &mpsc::Sender<Refusal>) {
        while let Err(error) = self.forward(sender).await {
            tracing::debug!(%error, "waiting for a gateway to report refused connections");
            tokio::time::sleep(WATCH_REST).await;
        }
    }

    async fn forward(&self, sender: &mpsc::Sender<Refusal>) -> Result<()> {
        let broken = |source| launch::connection(&self.options.dir, source);
        let stream = launch::adopt(&self.options).await.map_err(broken)?;
        let mut wire = self.greet(stream).await?;
        loop {
            wire.send(&Request::Watch, None).await.map_err(broken)?;
            let Some((Reply::Refused { events, lost }, _)) =
                wire.receive().await.map_err(broken)?
            else {
                return Err(Error::Unexpected);
            };
            if lost > 0 {
                tracing::warn!(lost, "refused connections were not reported");
            }
            for event in events {
                if sender.send(event).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// Tells the gateway when the host has other name servers: they change when a laptop moves. The file is looked at rather than watched, since it
/// is often a link through folders that come and go.
async fn follow_name_servers(network: Weak<Inner>) {
    let mut told = None;
    while let Some(inner) = network.upgrade() {
        let now = upstream::read(&inner.options.config.resolv_conf);
        if now.is_some() && now != told && inner.tell_name_servers().await {
            told = now;
        }
        drop(inner);
        tokio::time::sleep(NAME_SERVERS_LOOK).await;
    }
}

async fn ask(wire: &mut Wire, request: &Request) -> io::Result<(Reply, Option<OwnedFd>)> {
    let exchange = async {
        wire.send(request, None).await?;
        wire.receive()
            .await?
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    };
    tokio::time::timeout(ANSWER_TIMEOUT, exchange).await?
}

fn accept((reply, fd): (Reply, Option<OwnedFd>)) -> Result<(Reply, Option<OwnedFd>)> {
    match reply {
        Reply::Failed { failure } => Err(match failure {
            Failure::NatUnavailable { reason } => Error::NatUnavailable { reason },
            Failure::NoAddress => Error::NoAddress,
            Failure::Make { message } => Error::Make { message },
            Failure::OtherKind => Error::OtherKind,
            Failure::NoSandbox => Error::NoSandbox,
        }),
        reply => Ok((reply, fd)),
    }
}
