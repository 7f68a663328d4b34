//! Starting the agent: first process of namespaces of its own, in the sandbox's control group, with nothing else of the machine in sight.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rustix::pipe::{PipeFlags, pipe_with};
use skerry_proto::guest::Start;
use skerry_sys::clone::{Forked, Namespaces, SingleThreaded};
use skerry_sys::exec;

use crate::confine;
use crate::failure::Failure;
use crate::filesystem;

/// Where the agent listens, out of the sandbox's sight.
pub(crate) const SOCKET: &str = "/agent.sock";

/// Above all numbers that a program is given.
const FREE_FD: i32 = 64;

/// The agent, running.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
}

/// Starts it in the control group `group`, a folder.
pub(crate) fn start(program: &OwnedFd, start: &Start, group: &OwnedFd) -> Result<Agent, Failure> {
    let listener = UnixListener::bind(SOCKET).map_err(Failure::at("listen for the agent"))?;
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(Failure::at("make a pipe"))?;
    let single = SingleThreaded::check().map_err(Failure::at("be the only thread"))?;
    let namespaces = Namespaces::PID | Namespaces::MOUNT | Namespaces::IPC;
    let forked = single
        .fork(namespaces, Some(group.as_fd()))
        .map_err(Failure::at("make the namespaces"))?;
    let Forked::Parent { pid, pidfd } = forked else {
        become_it(program, start, &listener, &tell);
    };
    drop(tell);
    let mut complaint = String::new();
    let heard = File::from(told).read_to_string(&mut complaint);
    heard.map_err(Failure::at("hear from the agent"))?;
    if complaint.is_empty() {
        return Ok(Agent { pid, pidfd });
    }
    Err(Failure::at("start the agent")(io::Error::other(complaint)))
}

/// The child's half. What it says before it ends is why there is no agent.
fn become_it(program: &OwnedFd, start: &Start, listener: &UnixListener, tell: &OwnedFd) -> ! {
    let Err(failure) = exec_it(program, start, listener);
    if let Ok(tell) = tell.try_clone() {
        let _unheard = write!(File::from(tell), "{failure}");
    }
    #[expect(clippy::exit, reason = "a forked child has nothing to return to")]
    std::process::exit(1)
}

fn exec_it(
    program: &OwnedFd,
    start: &Start,
    listener: &UnixListener,
) -> Result<Infallible, Failure> {
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(Failure::at("open /dev/null"))?;
    rustix::process::setsid().map_err(Failure::at("make a session"))?;
    exec::new_session_keyring().map_err(Failure::at("leave the machine's keyring"))?;
    filesystem::enter(start)?;
    // Out of the way of the numbers that are handed over.
    let program = rustix::io::fcntl_dupfd_cloexec(program, FREE_FD)
        .map_err(Failure::at("keep the program"))?;
    let null = null.as_fd();
    exec::hand_over(&[null, null, null, listener.as_fd()])
        .map_err(Failure::at("hand over the agent's socket"))?;
    confine::confine(start.level_root).map_err(Failure::at("give up what it may not have"))?;
    let level = if start.level_root {
        c"root"
    } else {
        c"restricted"
    };
    exec::exec(program.as_fd(), &[c"skerry-agent", c"--level", level], &[])
        .map_err(Failure::at("run it"))
}
