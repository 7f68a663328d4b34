//! Ends the TCP connections of sandboxes and makes the allowed ones again from the host's side.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::control::Gateway;
use crate::policy::{HostAddresses, Verdict};
use crate::registry::Member;
use crate::wire::Egress;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
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
        let full = |_| {
            let reason = "too many connections at once".to_owned();
            self.refuse(member, destination, reason)
        };
        let _own = member.slots.try_acquire().map_err(full)?;
        let _shared = self.connections.try_acquire().map_err(full)?;
        let host = HostAddresses::read()?;
        let policy = Arc::clone(&self.policy.read());
        if let Verdict::Deny(reason) = policy.verdict(IpAddr::V4(*destination.ip()), &host) {
            return Err(self.refuse(member, destination, reason.to_string()));
        }
        let connecting = TcpStream::connect(SocketAddr::V4(destination));
        let mut outer = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await??;
        inner.set_nodelay(true)?;
        outer.set_nodelay(true)?;
        let idle = Duration::from_secs(self.config.idle_seconds);
        copy_both(inner, &mut outer, idle)
            .await
            .inspect_err(|_| reset(&outer))
    }

    fn refuse(&self, member: &Member, destination: SocketAddrV4, reason: String) -> io::Error {
        if let Some(address) = member.held.address {
            self.refusals.push(Egress {
                sandbox: member.held.sandbox,
                address,
                destination: IpAddr::V4(*destination.ip()),
                port: destination.port(),
                reason: reason.clone(),
            });
        }
        io::Error::new(io::ErrorKind::PermissionDenied, reason)
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
