//! The gateway process: owns the namespaces, relays connections, outlives the daemon.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use parking_lot::RwLock;
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::confine;
use crate::control::{self, Gateway};
use crate::factory::{self, MakeError, Site, Sockets};
use crate::options::Config;
use crate::policy::Policy;
use crate::refusals::Refusals;
use crate::registry::Registry;
use crate::share::Shared;
use crate::{dns, relay, upstream};

/// Name lookups answered at once, for all sandboxes.
const LOOKUPS: usize = 1024;
/// Lookups of one sandbox that the kernel remembers beside its connections.
const TRACKED_LOOKUPS: usize = 2048;
/// A connection takes two; the rest is for namespaces, lookups and daemons.
const FILES_PER_CONNECTION: usize = 4;

/// What the daemon tells the gateway at its start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) config: Config,
    /// The control socket, which the gateway inherits as its standard input.
    pub(crate) socket: PathBuf,
    /// The user namespace of an earlier gateway, to be joined.
    pub(crate) userns: Option<PathBuf>,
}

/// Why the gateway cannot start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The last argument is missing or not what [`crate::Network`] gives.
    #[error("the last argument is not the gateway's configuration")]
    Arguments(#[source] Option<serde_json::Error>),
    /// The process could not be set apart from the one that started it.
    #[error("cannot leave the session of the daemon")]
    Detach(#[source] io::Error),
    /// The standard input is not the control socket.
    #[error("the standard input is not a listening socket")]
    Listener(#[source] io::Error),
    /// The user has no right to make namespaces.
    #[error("cannot enter a user namespace: {step}")]
    Userns {
        /// What failed.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No network namespace could be made.
    #[error("cannot make network namespaces: {0}")]
    Factory(String),
    /// What it needs not could not be put out of its reach.
    #[error("cannot confine the gateway")]
    Confine(#[source] io::Error),
    /// The asynchronous runtime could not be started.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    /// The control socket failed.
    #[error("the control socket failed")]
    Control(#[source] io::Error),
}

/// Runs the gateway until it is told to stop or is of no use any more.
///
/// Must be called while the process has a single thread: an ordinary user's gateway moves into a
/// user namespace first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Result<(), GatewayError> {
    let mut launch = parse(args)?;
    let files = detach().map_err(GatewayError::Detach)?;
    launch.config.connections = launch.config.connections.min(files / FILES_PER_CONNECTION);
    let listener = inherited_listener().map_err(GatewayError::Listener)?;
    let rootless = !may_make_namespaces();
    if rootless {
        enter_userns(launch.userns.as_deref())?;
    }
    let address = launch.config.subnet.hosts().next();
    let site = Site {
        gateway: address.unwrap_or(Ipv4Addr::UNSPECIFIED),
        tracked_per_sandbox: launch.config.connections_per_sandbox + TRACKED_LOOKUPS,
    };
    let folder = launch.socket.parent().unwrap_or(Path::new("/")).to_owned();
    // Once confined it reads no such file; changes are told by the daemon.
    let name_servers = upstream::read(&launch.config.resolv_conf);
    let confine = move || confine::confine(&folder).map_err(io::Error::other);
    let (factory, sockets) = factory::start(site, confine.clone())
        .map_err(|error: MakeError| GatewayError::Factory(error.to_string()))?;
    confine().map_err(GatewayError::Confine)?;
    drop_capabilities().map_err(GatewayError::Detach)?;
    let (sockets, nat_unavailable) = match sockets {
        Ok(sockets) => (Some(sockets), None),
        Err(reason) => (None, Some(reason)),
    };
    let gateway = Gateway {
        address: site.gateway,
        rootless,
        registry: Registry::new(factory, nat_unavailable, &launch.config),
        policy: RwLock::new(Arc::new(Policy::new(
            launch.config.egress_allow.clone(),
            launch.config.subnet,
        ))),
        name_servers: RwLock::new(name_servers.unwrap_or_default().into()),
        refusals: Refusals::default(),
        connections: Shared::new(launch.config.connections),
        lookups: Shared::new(LOOKUPS),
        socket: launch.socket,
        daemons: AtomicUsize::new(0),
        changed: Notify::new(),
        stop: CancellationToken::new(),
        config: launch.config,
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(GatewayError::Runtime)?
        .block_on(run(Arc::new(gateway), listener, sockets))
        .map_err(GatewayError::Control)
}

async fn run(
    gateway: Arc<Gateway>,
    listener: std::os::unix::net::UnixListener,
    sockets: Option<Sockets>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    if let Some(sockets) = sockets {
        relay::start(&gateway, sockets.relay)?;
        dns::start(&gateway, sockets.dns_udp, sockets.dns_tcp)?;
    }
    let filler = Arc::clone(&gateway);
    tokio::spawn(async move { filler.registry.keep_ready().await });
    control::serve(gateway, listener).await
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Launch, GatewayError> {
    let last = args.into_iter().last().and_then(|a| a.into_string().ok());
    let text = last.ok_or(GatewayError::Arguments(None))?;
    serde_json::from_str(&text).map_err(|error| GatewayError::Arguments(Some(error)))
}

/// A session and folder of its own, and as many open files as the machine grants: how many.
fn detach() -> io::Result<usize> {
    // Fails only for the leader of a process group, who may be one already.
    let _leader = rustix::process::setsid();
    std::env::set_current_dir("/")?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(usize::try_from(hard).unwrap_or(usize::MAX))
}

fn inherited_listener() -> io::Result<std::os::unix::net::UnixListener> {
    let fd = io::stdin().as_fd().try_clone_to_owned()?;
    if !rustix::net::sockopt::socket_acceptconn(&fd)? {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(fd.into())
}

/// Of this thread, which is the one that strangers talk to; the factory's keeps them.
fn drop_capabilities() -> io::Result<()> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none)?;
    Ok(())
}

fn may_make_namespaces() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Joins the user namespace at `path`, or makes one in which the user is its own root.
fn enter_userns(path: Option<&Path>) -> Result<(), GatewayError> {
    let failed = |step| move |source: io::Error| GatewayError::Userns { step, source };
    if let Some(path) = path {
        let userns = File::open(path).map_err(failed("open the earlier one"))?;
        return setns(userns, CloneFlags::CLONE_NEWUSER)
            .map_err(io::Error::from)
            .map_err(failed("join the earlier one"));
    }
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    unshare(CloneFlags::CLONE_NEWUSER)
        .map_err(io::Error::from)
        .map_err(failed("unshare"))?;
    for (file, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {user} 1")),
        ("/proc/self/gid_map", format!("0 {group} 1")),
    ] {
        std::fs::write(file, text).map_err(failed(file))?;
    }
    Ok(())
}
