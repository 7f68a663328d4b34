//! The parent's half of a start: the child's ids, groups and mounts, which only the parent may give it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use skerry_sys::cgroup::Door;
use skerry_sys::clone::{self, Forked, Namespaces};
use skerry_sys::idmap::{self, IdRange, RANGE};
use skerry_sys::{fdpass, pidfd};

use super::laps::Laps;
use super::message::{Failure, Lap, Request};
use super::trees::Trees;
use super::{Fds, Spawner, child};

/// A child that has not become the agent by then is stuck, on a dead network file system perhaps.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const MAX_REPORT_BYTES: usize = 16 * 1024;

/// What the child says before it becomes the agent; the end of the stream after `Ready` is the proof that it did.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    Ready(Vec<Lap>),
    Failed(Failure),
}

/// Starts one sandbox: its first process, a handle on it, and where the time went.
pub(super) fn spawn(
    spawner: &mut Spawner,
    request: &Request,
    fds: &Fds,
) -> Result<(u32, OwnedFd, Vec<Lap>), Failure> {
    let mut laps = Laps::start();
    let (ours, childs) = fdpass::pair().map_err(Failure::at("make a socket pair"))?;
    join_net_owner(spawner, fds)?;
    let namespaces = Namespaces::USER
        | Namespaces::PID
        | Namespaces::MOUNT
        | Namespaces::UTS
        | Namespaces::IPC
        | Namespaces::TIME;
    let forked = fork(spawner, fds, namespaces)?;
    let Forked::Parent { pid, pidfd } = forked else {
        drop(ours);
        child::run(spawner, request, fds, &childs);
    };
    drop(childs);
    laps.lap("clone3");
    let started = bring_up(request, pid, &ours, &mut laps);
    match started {
        Ok(inside) => {
            let mut steps = laps.into_laps();
            steps.extend(inside);
            Ok((pid, pidfd, steps))
        }
        Err(failure) => {
            // Its report, or silence, already told; whatever it is doing, nobody wants it any more.
            let _gone = pidfd::kill(&pidfd);
            Err(failure)
        }
    }
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

fn bring_up(
    request: &Request,
    pid: u32,
    child: &OwnedFd,
    laps: &mut Laps,
) -> Result<Vec<Lap>, Failure> {
    map_ids(request, pid).map_err(Failure::at("map the users of the sandbox"))?;
    laps.lap("id maps");
    let trees = match request.first_id {
        Some(_) => {
            let users = request.shows_ids.then(|| users_of(pid)).transpose()?;
            Trees::collect(request, users.as_ref().map(AsFd::as_fd))?.into_fds()
        }
        // Without privilege only the child, in its own mount namespace, may copy mounts.
        None => Vec::new(),
    };
    laps.lap("layers");
    let trees: Vec<_> = trees.iter().map(AsFd::as_fd).collect();
    fdpass::send(child, b"go", &trees).map_err(Failure::at("let the child go on"))?;
    let inside = hear(child)?;
    laps.lap("child");
    Ok(inside)
}

/// The user namespace of a process.
pub(crate) fn users_of(pid: u32) -> Result<OwnedFd, Failure> {
    let opened = std::fs::File::open(format!("/proc/{pid}/ns/user"));
    let users = opened.map_err(Failure::at("open the user namespace"))?;
    Ok(users.into())
}

pub(crate) fn map_ids(request: &Request, pid: u32) -> io::Result<()> {
    let range = |inside, outside, count| IdRange {
        inside,
        outside,
        count,
    };
    if let Some(first) = request.first_id {
        let all = range(0, first, RANGE);
        return idmap::write(pid, all, all, true);
    }
    let user = range(0, rustix::process::geteuid().as_raw(), 1);
    let group = range(0, rustix::process::getegid().as_raw(), 1);
    idmap::write(pid, user, group, false)
}

/// The child's report, and then its becoming the agent.
fn hear(child: &OwnedFd) -> Result<Vec<Lap>, Failure> {
    let at = || Failure::at("hear from the child");
    let mut buffer = vec![0; MAX_REPORT_BYTES];
    let mut laps = None;
    loop {
        wait_readable(child).map_err(at())?;
        let (len, _) = fdpass::receive(child, &mut buffer).map_err(at())?;
        if len == 0 {
            let died = || io::Error::other("it died before it became the agent");
            return laps.ok_or_else(died).map_err(at());
        }
        match serde_json::from_slice(&buffer[..len]) {
            Ok(Report::Ready(steps)) => laps = Some(steps),
            Ok(Report::Failed(failure)) => return Err(failure),
            Err(error) => return Err(at()(io::Error::from(error))),
        }
    }
}

fn wait_readable(fd: &OwnedFd) -> io::Result<()> {
    let timeout = Timespec {
        tv_sec: START_TIMEOUT.as_secs() as i64,
        tv_nsec: 0,
    };
    match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}
