//! The parent's half of a start: the child's ids, group and network, which only the parent may give it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use skerry_sys::cgroup::Door;
use skerry_sys::clone::{self, Forked, Namespaces};
use skerry_sys::idmap::{self, IdRange, RANGE};
use skerry_sys::{fdpass, pidfd};

use super::child::{self, GO};
use super::laps::Laps;
use super::message::{Bounds, Failure, Lap};
use super::{Fds, Spawner};

/// A child that has its ids, and waits to be told which sandbox it is.
pub(super) struct Waiting {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    /// It ends when this closes.
    pub(super) socket: OwnedFd,
    pub(super) steps: Vec<Lap>,
}

/// Starts the first process of a sandbox that is nobody's yet.
pub(super) fn spawn(spawner: &mut Spawner, bounds: Bounds, fds: &Fds) -> Result<Waiting, Failure> {
    let mut laps = Laps::start();
    let (socket, childs) = fdpass::pair().map_err(Failure::at("make a socket pair"))?;
    join_net_owner(spawner, fds)?;
    let namespaces = Namespaces::USER
        | Namespaces::PID
        | Namespaces::MOUNT
        | Namespaces::UTS
        | Namespaces::IPC
        | Namespaces::TIME;
    let forked = fork(spawner, fds, namespaces)?;
    let Forked::Parent { pid, pidfd } = forked else {
        drop(socket);
        child::run(spawner, bounds, fds, &childs);
    };
    drop(childs);
    laps.lap("clone3");
    if let Err(error) = map_ids(bounds.first_id, pid) {
        // The socket that it waits for closes, too; whatever it is doing, nobody wants it any more.
        let _gone = pidfd::kill(&pidfd);
        return Err(Failure::at("map the users of the sandbox")(error));
    }
    fdpass::send(&socket, GO, &[]).map_err(Failure::at("let the child go on"))?;
    laps.lap("id maps");
    Ok(Waiting {
        pid,
        pidfd,
        socket,
        steps: laps.into_laps(),
    })
}

/// Forks a child into these namespaces, its control group and its network.
pub(crate) fn fork(
    spawner: &Spawner,
    fds: &Fds,
    namespaces: Namespaces,
) -> Result<Forked, Failure> {
    let at_fork = || Failure::at("make the namespaces");
    let group = match &fds.door {
        Some(Door::Folder(folder)) => Some(folder.as_fd()),
        _ => None,
    };
    let Some(netns) = &fds.netns else {
        let forked = spawner.single.fork(namespaces | Namespaces::NET, group);
        return forked.map_err(at_fork());
    };
    // The network belongs to the host's user namespace, so it is entered before the child has one of its own.
    enter_net(netns.as_fd())?;
    let forked = spawner.single.fork(namespaces, group).map_err(at_fork());
    if !matches!(forked, Ok(Forked::Child)) {
        enter_net(spawner.home_net.as_fd())?;
    }
    forked
}

fn join_net_owner(spawner: &mut Spawner, fds: &Fds) -> Result<(), Failure> {
    let joined = fds.net_owner.as_ref().map(|owner| join(spawner, owner));
    let joined = joined.transpose().map(drop);
    joined.map_err(Failure::at("join the network's user namespace"))
}

/// Once joined it is this process's own for good, which a spawner without privilege can well be part of: the same user, more rights.
fn join(spawner: &mut Spawner, owner: &OwnedFd) -> io::Result<()> {
    let theirs = rustix::fs::fstat(owner)?;
    let own = rustix::fs::stat("/proc/self/ns/user")?;
    if (theirs.st_dev, theirs.st_ino) == (own.st_dev, own.st_ino) {
        return Ok(());
    }
    move_into_link_name_space(owner.as_fd(), Some(LinkNameSpaceType::User))?;
    // From in there the host's network cannot be come back to, so an empty one is the home now.
    clone::own_network_namespace()?;
    spawner.home_net = super::own_network()?;
    Ok(())
}

fn enter_net(netns: BorrowedFd<'_>) -> Result<(), Failure> {
    move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
        .map_err(Failure::at("enter the network namespace"))
}

/// The user namespace of a process.
pub(crate) fn users_of(pid: u32) -> Result<OwnedFd, Failure> {
    let opened = std::fs::File::open(format!("/proc/{pid}/ns/user"));
    let users = opened.map_err(Failure::at("open the user namespace"))?;
    Ok(users.into())
}

pub(crate) fn map_ids(first_id: Option<u32>, pid: u32) -> io::Result<()> {
    let range = |inside, outside, count| IdRange {
        inside,
        outside,
        count,
    };
    if let Some(first) = first_id {
        let all = range(0, first, RANGE);
        return idmap::write(pid, all, all, true);
    }
    let user = range(0, rustix::process::geteuid().as_raw(), 1);
    let group = range(0, rustix::process::getegid().as_raw(), 1);
    idmap::write(pid, user, group, false)
}
