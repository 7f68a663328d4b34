//! The spawner: a tiny process with one thread that makes namespaces for the driver and keeps nothing.
//!
//! It is started first because forking a large process is slow and forking a threaded one is unsound. One request makes one *blank* process, the
//! first of a sandbox that is nobody's yet; all that came with it is closed again before the next. From there on the driver alone has to do
//! with that process: it tells it which sandbox it is, and it ends when the driver does. So does the spawner; the sandboxes do not notice.

mod blank;
pub(crate) mod child;
mod client;
pub(crate) mod confine;
pub(crate) mod filesystem;
mod laps;
mod message;
pub(crate) mod spawn;
mod trees;

use std::fmt::Display;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags};
use skerry_sys::cgroup::Door;
use skerry_sys::clone::{self, SingleThreaded};
use skerry_sys::idmap::Ids;
use skerry_sys::{exec, fdpass};

pub(crate) use blank::{Blank, Started};
pub(crate) use client::{Client, Running, SpawnError};
pub(crate) use laps::Laps;
pub(crate) use message::{Bounds, DoorKind, Failure, Lap, MAX_TREES, Order, Reply, Request};
pub(crate) use spawn::users_of;
pub(crate) use trees::{Trees, tree};

use crate::memory;
use crate::seccomp::Filter;
use message::MAX_BYTES;

/// The descriptors that come with [`Bounds`], in this order.
#[derive(Debug)]
pub(crate) struct Fds {
    /// The sandbox's network, if the bounds say so.
    pub(crate) netns: Option<OwnedFd>,
    /// The user namespace that owns that network, if the bounds say so.
    pub(crate) net_owner: Option<OwnedFd>,
    /// The way into the sandbox's control group, if there is one.
    pub(crate) door: Option<Door>,
}

impl Fds {
    /// As they are sent.
    pub(crate) fn all(&self) -> Vec<BorrowedFd<'_>> {
        let door: &[OwnedFd] = match &self.door {
            Some(Door::Tasks(tasks)) => tasks,
            Some(Door::Folder(folder)) => std::slice::from_ref(folder),
            None => &[],
        };
        let net = self.netns.iter().chain(&self.net_owner);
        net.chain(door).map(AsFd::as_fd).collect()
    }

    /// The other end of [`Fds::all`].
    fn sort(mut fds: impl Iterator<Item = OwnedFd>, bounds: Bounds) -> Option<Self> {
        Some(Self {
            netns: if bounds.has_netns {
                Some(fds.next()?)
            } else {
                None
            },
            net_owner: if bounds.has_net_owner {
                Some(fds.next()?)
            } else {
                None
            },
            door: match bounds.door {
                Some(DoorKind::Tasks) => Some(Door::Tasks(fds.collect())),
                Some(DoorKind::Folder) => Some(Door::Folder(fds.next()?)),
                None => None,
            },
        })
    }
}

/// What stays the same from request to request.
#[derive(Debug)]
pub(crate) struct Spawner {
    pub(crate) single: SingleThreaded,
    filter: Filter,
    /// Opened in advance: also the standard streams of every agent.
    pub(crate) null: OwnedFd,
    /// This process's own network, to come back to.
    home_net: OwnedFd,
}

/// The spawner's whole life. The control socket is its standard input.
pub fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    // Of its own session, so that an interrupt typed for the daemon does not reach it.
    let _session = rustix::process::setsid();
    exec::forget_children();
    let mut spawner = Spawner::new()?;
    let mut buffer = vec![0; MAX_BYTES];
    loop {
        let (len, fds) = fdpass::receive(io::stdin(), &mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        let (reply, fds) = spawner.answer(&buffer[..len], fds);
        let text = serde_json::to_vec(&reply)?;
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        fdpass::send(io::stdin(), &text, &fds)?;
    }
}

impl Spawner {
    fn new() -> io::Result<Self> {
        if let Ids::Range { .. } = Ids::own()? {
            // Root of a user namespace that the host's network does not belong to: who leaves it cannot come back.
            clone::own_network_namespace()?;
        }
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        // Number 3 is taken from here on, by `null` at the latest: no request's descriptor stands where the agent wants its link.
        Ok(Self {
            single: SingleThreaded::check()?,
            filter: Filter::compile(),
            null,
            home_net: own_network()?,
        })
    }

    fn answer(&mut self, message: &[u8], fds: Vec<OwnedFd>) -> (Reply, Vec<OwnedFd>) {
        let done = self.carry_out(message, fds);
        done.unwrap_or_else(|failure| (Reply::Failed(failure), Vec::new()))
    }

    fn carry_out(
        &mut self,
        message: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<(Reply, Vec<OwnedFd>), Failure> {
        let order: Order = serde_json::from_slice(message)
            .map_err(io::Error::from)
            .map_err(Failure::at("understand the request"))?;
        let missing = || Failure::at("find the request's descriptors")(io::ErrorKind::InvalidInput);
        let mut fds = fds.into_iter();
        match order {
            Order::Blank(bounds) => {
                let fds = Fds::sort(fds, bounds).ok_or_else(missing)?;
                let waiting = spawn::spawn(self, bounds, &fds)?;
                let (pid, steps) = (waiting.pid, waiting.steps);
                let fds = vec![waiting.pidfd, waiting.socket];
                Ok((Reply::Blank { pid, steps }, fds))
            }
            Order::Keep(order) => {
                let agent = fds.next().ok_or_else(missing)?;
                Ok((memory::keep(self, &order, &agent)?, Vec::new()))
            }
            Order::Wake(order) => {
                let agent = fds.next().ok_or_else(missing)?;
                let fds = Fds::sort(fds, order.bounds).ok_or_else(missing)?;
                let (reply, pidfd) = memory::wake(self, &order, &agent, &fds)?;
                Ok((reply, pidfd.into_iter().collect()))
            }
        }
    }
}

/// The network namespace that this process is in.
fn own_network() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/proc/self/ns/net", flags, Mode::empty())?)
}

/// The one thing it ever says, and only when it cannot go on.
fn complain(error: &dyn Display) {
    let _unheard = writeln!(io::stderr(), "skerry spawner: {error}");
}
