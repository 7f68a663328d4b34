//! Ends the TCP connections of sandboxes and makes the allowed ones again from the host's side.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use skerry_types::Egress;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::control::Gateway;
use crate::greeting::{self, Greeting};
use crate::policy::{HostAddresses, Verdict};
use crate::registry::Member;
use crate::rules::{Attempt, Ruling, rule};
use crate::wire::Refusal;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection may take to say which name it wants.
const GREETING_TIMEOUT: Duration = Duration::from_secs(30);
/// Within so many bytes.
const MAX_GREETING: usize = 16 * 1024;
/// Rest after a failed accept, which means that some resource of the host ran out.
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// Bytes under way in each direction of a connection.
const BUFFER: usize = 32 * 1024;

/// Relays what arrives at the listener as long as the runtime lives.
pub(crate) fn start(gateway: &Arc<Gateway>, listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let gateway = Arc::clone(gateway);
    tokio::spawn(async move {
        loop {
            let (stream, peer) = accept(&listener).await;
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move { gateway.relay(stream, peer.ip()).await });
        }
    });
    Ok(())
}

/// The next connection, however often accepting fails.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

impl Gateway {
    async fn relay(&self, mut inner: TcpStream, peer: IpAddr) {
        let Some(member) = self.member(peer) else {
            return reset(&inner);
        };
        tokio::select! {
            relayed = self.relay_for(&member, &mut inner) => {
                if let Err(error) = relayed {
                    tracing::debug!(%error, sandbox = %member.held.sandbox, "connection ended");
                    reset(&inner);
                }
            }
            () = member.gone.cancelled() => reset(&inner),
        }
    }

    /// The sandbox behind an address on the gateway's network.
    pub(crate) fn member(&self, peer: IpAddr) -> Option<Arc<Member>> {
        match peer.to_canonical() {
            IpAddr::V4(address) => self.registry.by_address(address),
            IpAddr::V6(_) => None,
        }
    }

    async fn relay_for(&self, member: &Member, inner: &mut TcpStream) -> io::Result<()> {
        let destination = original_destination(inner)?;
        let refused = |reason: String| {
            let port = Some(destination.port());
            self.refuse(member, destination.ip().to_string(), port, reason.clone());
            io::Error::new(io::ErrorKind::PermissionDenied, reason)
        };
        let place = self.connections.take(&member.slots, self.registry.count());
        let _place = place.ok_or_else(|| refused("too many connections at once".to_owned()))?;
        let host = HostAddresses::read()?;
        let policy = Arc::clone(&self.policy.read());
        if let Verdict::Deny(reason) = policy.verdict(IpAddr::V4(*destination.ip()), &host) {
            return Err(refused(reason.to_string()));
        }
        let mut rules = member.egress.subscribe();
        let attempt = member.attempt(destination);
        let admitted = admit(&mut rules, attempt, inner).await?;
        let (attempt, greeting) = admitted.map_err(refused)?;
        let connecting = TcpStream::connect(SocketAddr::V4(destination));
        let mut outer = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await??;
        inner.set_nodelay(true)?;
        outer.set_nodelay(true)?;
        outer.write_all(&greeting).await?;
        let idle = Duration::from_secs(self.config.idle_seconds);
        let relayed = tokio::select! {
            copied = copy_both(inner, &mut outer, idle) => copied,
            reason = closed(&mut rules, &attempt) => Err(refused(reason)),
        };
        relayed.inspect_err(|_| reset(&outer))
    }

    /// Tells the daemon of what a sandbox was kept from.
    pub(crate) fn refuse(
        &self,
        member: &Member,
        destination: String,
        port: Option<u16>,
        reason: String,
    ) {
        if let Some(address) = member.held.address {
            self.refusals.push(Refusal {
                sandbox: member.held.sandbox,
                address,
                destination,
                port,
                reason,
            });
        }
    }
}

impl Member {
    fn attempt(&self, destination: SocketAddrV4) -> Attempt {
        let address = *destination.ip();
        Attempt {
            address,
            port: destination.port(),
            names: self.names.lock().of(address, Instant::now()),
            said: None,
        }
    }
}

/// Judges a connection by the rules of now, and by its first bytes if they matter: those are still to be passed on. Or why it is refused.
async fn admit(
    rules: &mut watch::Receiver<Arc<Egress>>,
    mut attempt: Attempt,
    inner: &mut TcpStream,
) -> io::Result<Result<(Attempt, Vec<u8>), String>> {
    let mut greeting = Vec::new();
    loop {
        let egress = Arc::clone(&rules.borrow_and_update());
        match rule(&egress, &attempt) {
            Ruling::Open => return Ok(Ok((attempt, greeting))),
            Ruling::Closed(reason) => return Ok(Err(reason)),
            Ruling::AskName => {}
        }
        let hearing = tokio::time::timeout(GREETING_TIMEOUT, hear_name(inner, &mut greeting));
        attempt.said = match hearing.await? {
            Ok(Some(name)) => Some(name),
            Ok(None) => return Ok(Err(nameless(attempt.port))),
            Err(error) => return Err(error),
        };
    }
}

fn nameless(port: u16) -> String {
    format!(
        "the sandbox's egress rules allow this address by name, so on port {port} a connection must say one: as server_name in TLS or Host in HTTP"
    )
}

/// Reads until it is clear which name a connection asks for; `None`: it says none.
async fn hear_name(inner: &mut TcpStream, heard: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        match greeting::read(heard) {
            Greeting::Name(name) => return Ok(Some(name)),
            Greeting::Nameless => return Ok(None),
            Greeting::Unfinished if heard.len() >= MAX_GREETING => return Ok(None),
            Greeting::Unfinished => {}
        }
        if inner.read_buf(heard).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Resolves with the reason once the sandbox has rules that close this connection.
async fn closed(rules: &mut watch::Receiver<Arc<Egress>>, attempt: &Attempt) -> String {
    loop {
        if rules.changed().await.is_err() {
            return std::future::pending().await;
        }
        let egress = Arc::clone(&rules.borrow_and_update());
        match rule(&egress, attempt) {
            Ruling::Open => {}
            Ruling::Closed(reason) => return reason,
            Ruling::AskName => return nameless(attempt.port),
        }
    }
}

/// Where the sandbox wanted to go, before the packet rules bent the connection to the relay.
fn original_destination(stream: &TcpStream) -> io::Result<SocketAddrV4> {
    let address = getsockopt(stream, sockopt::OriginalDst)?;
    let ip = u32::from_be(address.sin_addr.s_addr).into();
    Ok(SocketAddrV4::new(ip, u16::from_be(address.sin_port)))
}

/// Closing then sends a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    // Fails only on a socket that is closed already.
    let _closed = stream.set_zero_linger();
}

/// Copies until both sides have ended, each direction for itself.
async fn copy_both(inner: &mut TcpStream, outer: &mut TcpStream, idle: Duration) -> io::Result<()> {
    let moved = AtomicU64::new(0);
    let (from_inner, to_inner) = inner.split();
    let (from_outer, to_outer) = outer.split();
    tokio::select! {
        done = async {
            tokio::try_join!(copy(from_inner, to_outer, &moved), copy(from_outer, to_inner, &moved))
        } => done.map(drop),
        () = stalled(&moved, idle) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn copy(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, moved: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let got = from.read(&mut buffer).await?;
        if got == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..got]).await?;
        moved.fetch_add(1, Ordering::Relaxed);
    }
}

/// Resolves when nothing moved for at least `idle` and at most twice that.
async fn stalled(moved: &AtomicU64, idle: Duration) {
    let mut seen = None;
    loop {
        let now = moved.load(Ordering::Relaxed);
        if seen == Some(now) {
            return;
        }
        seen = Some(now);
        tokio::time::sleep(idle).await;
    }
}
