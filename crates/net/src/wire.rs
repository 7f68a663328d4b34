//! The control protocol: one JSON line each way, and at most one file descriptor with an answer.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipnet::IpNet;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skerry_types::{Egress, SandboxId};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The one number of this protocol; raised when an older peer could misread a message.
pub(crate) const GENERATION: u32 = 1;
/// Longest line: a list of all sandboxes of a full subnet fits.
const MAX_LINE: usize = 16 * 1024 * 1024;
const CHUNK: usize = 16 * 1024;

/// How much network a sandbox has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkKind {
    /// Only its own loopback.
    None,
    /// TCP and name lookups to the outside, as far as the policy allows.
    Nat,
}

/// A network namespace that a sandbox has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Held {
    /// The sandbox.
    pub sandbox: SandboxId,
    /// The kind it asked for.
    pub kind: NetworkKind,
    /// Its address on `eth0`, if it has one.
    pub address: Option<Ipv4Addr>,
}

/// What this machine's network can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The gateway's process.
    pub pid: u32,
    /// The gateway works in a user namespace of its own.
    pub rootless: bool,
    /// Why sandboxes can have no way out; `None` if they can.
    pub nat_unavailable: Option<String>,
    /// The gateway's address inside sandboxes.
    pub gateway: Ipv4Addr,
    /// Connections relayed now.
    pub connections: usize,
}

/// A connection or lookup that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Who tried.
    pub sandbox: SandboxId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Where to: an address, or the name that was looked up.
    pub destination: String,
    /// The TCP port there; a lookup has none.
    pub port: Option<u16>,
    /// Why not, in words for the owner of the sandbox.
    pub reason: String,
}

impl Refusal {
    /// Where to, with the port where there is one.
    pub fn to(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.destination),
            None => self.destination.clone(),
        }
    }
}

/// What the daemon asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// The first of every connection; brings the settings that may change.
    Hello {
        egress_allow: Vec<IpNet>,
        /// The host's; not given by daemons before those that follow them.
        #[serde(default)]
        name_servers: Option<Vec<SocketAddr>>,
    },
    /// The namespace of a sandbox, the same one each time.
    Acquire {
        sandbox: SandboxId,
        kind: NetworkKind,
    },
    /// Where a sandbox that has a namespace may connect, from now on.
    Rule { sandbox: SandboxId, egress: Egress },
    /// The sandbox is gone.
    Release { sandbox: SandboxId },
    /// What sandboxes have.
    List,
    /// What the machine can do.
    Facts,
    /// The user namespace that owns the network namespaces.
    Userns,
    /// Waits until something was refused.
    Watch,
    /// Ends the gateway and every network it holds.
    Stop,
}

/// What the gateway answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Hello {
        generation: u32,
    },
    /// With the namespace as file descriptor.
    Netns {
        held: Held,
        gateway: Ipv4Addr,
    },
    Done,
    List {
        held: Vec<Held>,
    },
    Facts {
        facts: Facts,
    },
    /// With the user namespace of the gateway as file descriptor; `own`: it made that itself.
    Userns {
        own: bool,
    },
    Refused {
        events: Vec<Refusal>,
        lost: u64,
    },
    Failed {
        failure: Failure,
    },
}

/// Why a request failed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failure {
    NatUnavailable { reason: String },
    NoAddress,
    Make { message: String },
    OtherKind,
    NoSandbox,
}

/// One end of a control connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: UnixStream,
    read: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Wire {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            read: Vec::new(),
            fds: VecDeque::new(),
        }
    }

    /// Sends one message, and with its first byte the descriptor.
    pub(crate) async fn send<T: Serialize>(
        &self,
        message: &T,
        fd: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut fd = fd;
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            let sent = self
                .stream
                .async_io(Interest::WRITABLE, || send_some(&self.stream, rest, fd))
                .await?;
            fd = None;
            rest = &rest[sent..];
        }
        Ok(())
    }

    /// The next message and the descriptor that came with it; `None` at the end of the stream.
    pub(crate) async fn receive<T: DeserializeOwned>(
        &mut self,
    ) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.read[searched..].iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.read.drain(..=searched + end).collect();
                let message = serde_json::from_slice(&line)?;
                return Ok(Some((message, self.fds.pop_front())));
            }
            searched = self.read.len();
            if searched > MAX_LINE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "endless line"));
            }
            if self.fill().await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        let (read, fds) = (&mut self.read, &mut self.fds);
        self.stream
            .async_io(Interest::READABLE, || receive_some(&self.stream, read, fds))
            .await
    }
}

fn send_some(stream: impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let iov = [IoSlice::new(bytes)];
    Ok(rustix::net::sendmsg(
        stream,
        &iov,
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}

fn receive_some(
    stream: impl AsFd,
    read: &mut Vec<u8>,
    fds: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    let mut chunk = [0; CHUNK];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [IoSliceMut::new(&mut chunk)];
    let received =
        rustix::net::recvmsg(stream, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(got) = message {
            fds.extend(got);
        }
    }
    read.extend_from_slice(&chunk[..received]);
    Ok(received)
}
