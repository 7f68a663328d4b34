//! The helper's half of waking up a copy.
//!
//! The spawner makes the sandbox as it makes any, but for its processes. CRIU runs as that sandbox's own root, in its namespaces and its control
//! group: however it takes what the images say, it can do no more than any program in there. Three processes take part, besides: this one; the
//! *waker*, root of the new sandbox, which has CRIU restore; the *builder*, which makes the file system and, once there is a first process,
//! shows it its own `/proc`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::process::DumpableBehavior;
use serde::{Deserialize, Serialize};
use skerry_sys::clone::{self, Forked, Namespaces};
use skerry_sys::{exec, fdpass, pidfd};

use super::jail::{self, Criu, IMAGES, Jail};
use super::kernel::{self, Findings};
use super::order::{Clocks, Wake};
use super::rpc::{self, Inherit, Join, Options, Outcome};
use super::{SHM, shm};
use crate::spawner::{Failure, Fds, Lap, Laps, Reply, Spawner, Trees};
use crate::spawner::{child, confine, filesystem, spawn};

const MAX_BYTES: usize = 16 * 1024;
/// The first process has its namespaces, and nothing else yet.
const NAMESPACES_MADE: &str = "setup-namespaces";

/// What the waker and the builder say.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    /// About the kernel. Comes first: once CRIU has read what a sandbox wrote, nothing that this process says is believed of other sandboxes.
    Found(Option<Findings>),
    /// The copy runs, and this is its first process.
    Awake {
        pid: u32,
        steps: Vec<Lap>,
    },
    /// The step that was asked for is done.
    Done,
    Refused(String),
    Failed(Failure),
}

/// Wakes one up.
pub(crate) fn wake(
    spawner: &Spawner,
    order: &Wake,
    agent: &OwnedFd,
    fds: &Fds,
) -> Result<(Reply, Option<OwnedFd>), Failure> {
    let (ours, theirs) = fdpass::pair().map_err(Failure::at("make a socket pair"))?;
    let own = Namespaces::USER | Namespaces::MOUNT | Namespaces::UTS | Namespaces::IPC;
    let (pid, waker) = match spawn::fork(spawner, fds, own)? {
        Forked::Parent { pid, pidfd } => (pid, pidfd),
        Forked::Child => {
            drop(ours);
            finish(&theirs, |parent| {
                // The helper's own socket, by which the server believes what it hears.
                rustix::stdio::dup2_stdin(&spawner.null)
                    .map_err(Failure::at("leave the helper"))?;
                wake_up(spawner, order, agent, fds, parent)
            })
        }
    };
    drop(theirs);
    let done = bring_up(order, pid, &ours);
    if done.is_err() {
        // What it started is in the sandbox's control group, and goes with that.
        let _gone = pidfd::kill(&waker);
    }
    done
}

fn bring_up(order: &Wake, pid: u32, waker: &OwnedFd) -> Result<(Reply, Option<OwnedFd>), Failure> {
    spawn::map_ids(order.bounds.first_id, pid)
        .map_err(Failure::at("map the users of the sandbox"))?;
    let users = spawn::users_of(pid)?;
    let trees = Trees::collect(&order.request, Some(users.as_fd()))?;
    let jail = Jail::collect(&order.tool, &order.folder, Some(&users))?;
    let own = [jail::host("/proc")?].into_iter().chain(jail.into_fds());
    let all: Vec<OwnedFd> = trees.into_fds().into_iter().chain(own).collect();
    let all: Vec<_> = all.iter().map(AsFd::as_fd).collect();
    fdpass::send(waker, b"go", &all).map_err(Failure::at("let the waker go on"))?;
    let found = match hear(waker)? {
        Report::Found(found) => found,
        Report::Failed(failure) => return Err(failure),
        _ => return Err(unexpected()),
    };
    match hear(waker)? {
        Report::Awake { pid, steps } => {
            let agent = first_of(&users, pid).map_err(Failure::at("find the agent"))?;
            Ok((Reply::Awake { pid, found, steps }, Some(agent)))
        }
        Report::Refused(why) => Ok((Reply::Refused(why), None)),
        Report::Failed(failure) => Err(failure),
        _ => Err(unexpected()),
    }
}

/// A handle on a process of the sandbox with these users. CRIU may have been taken over, and name another's.
fn first_of(users: &OwnedFd, pid: u32) -> io::Result<OwnedFd> {
    let process = pidfd::open(pid)?.ok_or(io::ErrorKind::NotFound)?;
    let (own, its) = (
        rustix::fs::fstat(users)?,
        rustix::fs::stat(format!("/proc/{pid}/ns/user"))?,
    );
    // While it lives its number is nobody else's.
    if (own.st_dev, own.st_ino) != (its.st_dev, its.st_ino)
        || pidfd::wait(&process, Duration::ZERO)?
    {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(process)
}

fn unexpected() -> Failure {
    Failure::at("understand the waker")(io::Error::from(io::ErrorKind::InvalidData))
}

/// The rest of a child's life: what it has to say, and its end.
fn finish(parent: &OwnedFd, work: impl FnOnce(&OwnedFd) -> Result<Report, Failure>) -> ! {
    let report = work(parent).unwrap_or_else(Report::Failed);
    // Whoever does not hear it sees the socket close.
    let _unheard = tell(parent, &report);
    #[expect(clippy::exit, reason = "a forked child has nothing to return to")]
    std::process::exit(0)
}

fn tell(to: &OwnedFd, report: &Report) -> io::Result<()> {
    fdpass::send(to, &serde_json::to_vec(report)?, &[])
}

fn hear(from: &OwnedFd) -> Result<Report, Failure> {
    let heard = || -> io::Result<_> {
        let mut buffer = vec![0; MAX_BYTES];
        let (len, _) = fdpass::receive(from, &mut buffer)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&buffer[..len])?)
    };
    heard().map_err(Failure::at("hear from a process of its own"))
}

/// The waker: becomes root of the new sandbox, and has CRIU restore in there.
fn wake_up(
    spawner: &Spawner,
    order: &Wake,
    program: &OwnedFd,
    fds: &Fds,
    parent: &OwnedFd,
) -> Result<Report, Failure> {
    let mut laps = Laps::start();
    let request = &order.request;
    child::enter_group(fds).map_err(Failure::at("enter the control group"))?;
    let given = wait_for_go(order, parent).map_err(Failure::at("wait for the helper"))?;
    exec::keep_children();
    let has_ids = order.bounds.first_id.is_some();
    child::become_root(has_ids).map_err(Failure::at("become root of the sandbox"))?;
    child::leave_host(order.bounds)?;
    child::call_itself(request)?;
    // A change of users leaves a process with its `/proc/self` the host's; nobody who could look into this one sees it.
    let readable = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
    readable.map_err(Failure::at("own its own /proc"))?;
    let (monotonic, boottime) = Clocks::now().until(order.kept.clocks);
    clone::shift_clocks_of_children(monotonic, boottime).map_err(Failure::at("set its clocks"))?;
    laps.lap("namespaces");
    let builder = Builder::start(spawner, order, &given)?;
    laps.lap("file system");
    confine::limit(request).map_err(Failure::at("set resource limits"))?;
    given.jail.enter().map_err(Failure::at("enter the jail"))?;
    let found = kernel::tell(&spawner.single, order.kernel.as_ref(), false);
    let found = found.map_err(Failure::at("have CRIU know the kernel"))?;
    let told = tell(parent, &Report::Found(found));
    told.map_err(Failure::at("report"))?;
    laps.lap("jail");
    let program = File::open(format!("/proc/self/fd/{}", program.as_raw_fd()));
    let program = OwnedFd::from(program.map_err(Failure::at("open the agent"))?);
    let home = given.trees.home.as_ref().ok_or_else(unexpected)?;
    let criu = Criu::start(&spawner.single, &[&program, home], None);
    let criu = criu.map_err(Failure::at("start CRIU"))?;
    let mut notice = |what: &str, pid: u32| match what {
        NAMESPACES_MADE => builder.show_proc(pid),
        _ => Ok(()),
    };
    let options = options(order, builder.pid);
    let outcome = rpc::restore(&criu, options, &mut notice);
    let ended = criu.end(outcome.is_ok());
    laps.lap("criu");
    let Outcome::Done(pid) = outcome.map_err(Failure::at("hear from CRIU"))? else {
        return Ok(Report::Refused(jail::reason()));
    };
    ended.map_err(Failure::at("end CRIU"))?;
    let steps = laps.into_laps();
    Ok(Report::Awake { pid, steps })
}

/// The mounts that the waker is given.
struct Given {
    trees: Trees,
    /// The host's, for the builder.
    proc: OwnedFd,
    jail: Jail,
}

fn wait_for_go(order: &Wake, parent: &OwnedFd) -> io::Result<Given> {
    let (len, mut fds) = fdpass::receive(parent, &mut [0; 8])?;
    let trees = fds.len().checked_sub(1 + Jail::MOUNTS).filter(|_| len > 0);
    let mut jail = fds.split_off(trees.ok_or(io::ErrorKind::UnexpectedEof)?);
    let proc = jail.remove(0);
    let both = Trees::sort(&order.request, fds).zip(Jail::sort(jail));
    let (trees, jail) = both.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(Given { trees, proc, jail })
}

fn options(order: &Wake, builder: u32) -> Options {
    let given = [&order.kept.program, &order.kept.home];
    Options {
        images_fd: -1,
        images: Some(IMAGES.to_owned()),
        file_locks: Some(true),
        log_level: Some(rpc::ERRORS_ONLY),
        log_to_stderr: Some(true),
        notify: Some(true),
        inherit: (given.into_iter().zip(Criu::FIRST_FD..))
            .map(|(key, fd)| Inherit {
                key: key.clone(),
                fd,
            })
            .collect(),
        cgroups: Some(rpc::IGNORE_CGROUPS),
        join: vec![Join {
            kind: "mnt".to_owned(),
            of: builder.to_string(),
        }],
        close_tcp: Some(true),
        // It is root of the sandbox only.
        unprivileged: Some(true),
        ..Options::default()
    }
}

/// The process whose mounts become the sandbox's. It ends when the waker does.
struct Builder {
    pid: u32,
    socket: OwnedFd,
}

impl Builder {
    fn start(spawner: &Spawner, order: &Wake, given: &Given) -> Result<Self, Failure> {
        let (ours, theirs) = fdpass::pair().map_err(Failure::at("make a socket pair"))?;
        let forked = spawner.single.fork(Namespaces::MOUNT, None);
        let pid = match forked.map_err(Failure::at("make a mount namespace"))? {
            Forked::Parent { pid, .. } => pid,
            Forked::Child => {
                drop(ours);
                finish(&theirs, |waker| build(spawner, order, given, waker))
            }
        };
        drop(theirs);
        let builder = Self { pid, socket: ours };
        builder.done()?;
        Ok(builder)
    }

    fn done(&self) -> Result<(), Failure> {
        match hear(&self.socket)? {
            Report::Done => Ok(()),
            Report::Failed(failure) => Err(failure),
            _ => Err(unexpected()),
        }
    }

    fn show_proc(&self, first: u32) -> io::Result<()> {
        let first = pidfd::open(first)?.ok_or(io::ErrorKind::NotFound)?;
        fdpass::send(&self.socket, b"proc", &[first.as_fd()])?;
        self.done().map_err(io::Error::other)
    }
}

/// The builder's life.
fn build(
    spawner: &Spawner,
    order: &Wake,
    given: &Given,
    waker: &OwnedFd,
) -> Result<Report, Failure> {
    let shm = given
        .jail
        .open_image(SHM)
        .map_err(Failure::at("open what was in /dev/shm"))?;
    let (has_ids, mut laps) = (order.bounds.first_id.is_some(), Laps::start());
    filesystem::lay_out(has_ids, Some(&given.proc), &mut laps)?;
    filesystem::build(&order.request, &given.trees, &mut laps)?;
    shm::unpack(shm).map_err(Failure::at("fill /dev/shm"))?;
    let told = tell(waker, &Report::Done);
    told.map_err(Failure::at("report"))?;
    let heard = fdpass::receive(waker, &mut [0; 8]);
    let (_, fds) = heard.map_err(Failure::at("hear from the waker"))?;
    let Some(first) = fds.into_iter().next() else {
        return Err(unexpected());
    };
    Namespaces::PID
        .join(first.as_fd())
        .map_err(Failure::at("enter its process numbers"))?;
    let shown = shm::in_child(&spawner.single, filesystem::renew_proc);
    shown.map_err(Failure::at("show /proc"))?;
    tell(waker, &Report::Done).map_err(Failure::at("report"))?;
    // Its mounts are needed until CRIU has joined them.
    let _end = fdpass::receive(waker, &mut [0; 8]);
    Ok(Report::Done)
}
