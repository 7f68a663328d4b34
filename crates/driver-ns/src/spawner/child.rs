//! The child's half of a start: from a fork of the spawner to a blank one, and from there to the agent, first process of its sandbox.
//!
//! A blank one has ids, namespaces and a control group that no other has or had, and a `/dev`, `/proc` and `/sys`; nothing of any sandbox. It
//! waits for one request on a socket whose other end only the driver has, and ends when that is closed.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use skerry_driver::Privilege;
use skerry_sys::cgroup::Door;
use skerry_sys::{clone, exec, fdpass, loopback};

use super::filesystem;
use super::laps::Laps;
use super::message::{Bounds, Failure, MAX_BYTES, Report, Request};
use super::trees::Trees;
use super::{Fds, Spawner, complain, confine};

/// Says that the child has its ids.
pub(super) const GO: &[u8] = b"go";

/// Of what is watched in one sandbox.
const MOST_WATCHED: [(&str, &str); 2] = [
    ("max_inotify_instances", "64"),
    ("max_inotify_watches", "65536"),
];

/// Becomes the agent of whichever sandbox it is wanted for; ends if it is not wanted, or says why it cannot.
pub(super) fn run(spawner: &Spawner, bounds: Bounds, fds: &Fds, socket: &OwnedFd) -> ! {
    let wanted = get_ready(spawner, bounds, fds, socket).and_then(|()| hear(socket));
    let failure = match wanted {
        Ok(None) => leave(0),
        Ok(Some(wanted)) => {
            let Err(failure) = become_agent(spawner, bounds, wanted, socket);
            failure
        }
        Err(failure) => failure,
    };
    let told = serde_json::to_vec(&Report::Failed(failure))
        .map_err(io::Error::from)
        .and_then(|text| fdpass::send(socket, &text, &[]));
    if let Err(error) = told {
        complain(&error);
    }
    leave(1)
}

fn leave(code: i32) -> ! {
    #[expect(clippy::exit, reason = "a forked child has nothing to return to")]
    std::process::exit(code)
}

/// All that is the same whichever sandbox it becomes.
fn get_ready(
    spawner: &Spawner,
    bounds: Bounds,
    fds: &Fds,
    socket: &OwnedFd,
) -> Result<(), Failure> {
    // The spawner's own socket: held here, it would not close when the spawner dies.
    rustix::stdio::dup2_stdin(&spawner.null).map_err(Failure::at("leave the spawner"))?;
    enter_group(fds).map_err(Failure::at("enter the control group"))?;
    wait_for_ids(socket).map_err(Failure::at("wait for the spawner"))?;
    exec::keep_children();
    let has_ids = bounds.first_id.is_some();
    become_root(has_ids).map_err(Failure::at("become root of the sandbox"))?;
    leave_host(bounds)?;
    filesystem::lay_out(has_ids, None, &mut Laps::start())
}

/// What comes with a request.
struct Wanted {
    request: Request,
    agent: OwnedFd,
    listener: OwnedFd,
    /// None if they are to be copied here.
    trees: Vec<OwnedFd>,
}

/// Waits to be wanted. `None`: nobody will.
fn hear(socket: &OwnedFd) -> Result<Option<Wanted>, Failure> {
    let at = || Failure::at("understand what it is wanted for");
    let mut buffer = vec![0; MAX_BYTES];
    let (len, fds) = fdpass::receive(socket, &mut buffer).map_err(at())?;
    if len == 0 {
        return Ok(None);
    }
    let request = serde_json::from_slice(&buffer[..len]).map_err(io::Error::from);
    let mut fds = fds.into_iter();
    let (Some(agent), Some(listener)) = (fds.next(), fds.next()) else {
        return Err(at()(io::ErrorKind::InvalidInput.into()));
    };
    Ok(Some(Wanted {
        request: request.map_err(at())?,
        agent,
        listener,
        trees: fds.collect(),
    }))
}

fn become_agent(
    spawner: &Spawner,
    bounds: Bounds,
    wanted: Wanted,
    socket: &OwnedFd,
) -> Result<Infallible, Failure> {
    let mut laps = Laps::start();
    let (request, has_ids) = (&wanted.request, bounds.first_id.is_some());
    call_itself(request)?;
    let trees = if has_ids {
        let invalid = || Failure::at("find its mounts")(io::ErrorKind::InvalidInput);
        Trees::sort(request, wanted.trees).ok_or_else(invalid)?
    } else {
        Trees::collect(request, None)?
    };
    filesystem::build(request, &trees, &mut laps)?;
    confine::limit(request).map_err(Failure::at("set resource limits"))?;
    hand_over(spawner, &wanted.listener, trees.home.as_ref())
        .map_err(Failure::at("hand over the agent's socket"))?;
    drop(trees);
    confine::confine(request.privilege, has_ids, &spawner.filter)?;
    laps.lap("limits, capabilities, seccomp");
    let report = serde_json::to_vec(&Report::Ready(laps.into_laps()))
        .map_err(io::Error::from)
        .map_err(Failure::at("report"))?;
    fdpass::send(socket, &report, &[]).map_err(Failure::at("report"))?;
    start_agent(request, &wanted.agent).map_err(Failure::at("start the agent"))
}

/// The agent's standard streams, its socket and, if it has one, its home.
fn hand_over(spawner: &Spawner, listener: &OwnedFd, home: Option<&OwnedFd>) -> io::Result<()> {
    let open = |home| rustix::fs::openat(home, ".", OFlags::DIRECTORY, Mode::empty());
    let home = home.map(open).transpose()?;
    let streams = [&spawner.null; 3].into_iter();
    let own = streams.chain([listener]).chain(&home);
    exec::hand_over(&own.map(AsFd::as_fd).collect::<Vec<_>>())
}

/// Before all else, so that whatever it does is within the limits.
pub(crate) fn enter_group(fds: &Fds) -> io::Result<()> {
    if let Some(Door::Tasks(tasks)) = &fds.door {
        for file in tasks {
            rustix::io::write(file, b"0")?;
        }
    }
    Ok(())
}

/// Until then the child has no ids. If the spawner dies first, so does the child.
fn wait_for_ids(socket: &OwnedFd) -> io::Result<()> {
    match fdpass::receive(socket, &mut [0; GO.len()])? {
        (0, _) => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

pub(crate) fn become_root(has_ids: bool) -> io::Result<()> {
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    // With a single id the namespace can never set groups, and the host's stay, which are nobody inside.
    if has_ids {
        set_thread_groups(&[])?;
    }
    Ok(set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?)
}

pub(crate) fn leave_host(bounds: Bounds) -> Result<(), Failure> {
    rustix::process::setsid().map_err(Failure::at("make a session"))?;
    exec::new_session_keyring().map_err(Failure::at("leave the host's keyring"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Only now is the process in its control group, which becomes the root of what it sees.
    clone::own_cgroup_namespace().map_err(Failure::at("make a control group namespace"))?;
    // What the kernel counts for the whole host. Where it cannot be bounded, the host's own limits hold.
    for (what, most) in MOST_WATCHED {
        let _bounded = std::fs::write(Path::new("/proc/sys/user").join(what), most);
    }
    if !bounds.has_netns {
        loopback::up().map_err(Failure::at("switch on the loopback interface"))?;
    }
    Ok(())
}

pub(crate) fn call_itself(request: &Request) -> Result<(), Failure> {
    rustix::system::sethostname(request.hostname.as_bytes())
        .map_err(Failure::at("set the host name"))
}

fn start_agent(request: &Request, agent: &OwnedFd) -> io::Result<Infallible> {
    let level = match request.privilege {
        Privilege::Restricted => c"restricted",
        Privilege::Root => c"root",
    };
    // The name tells people on the host, and the driver's sweep, whose it is.
    let name = CString::new(crate::processes::agent_name(&request.label))?;
    let mut args = vec![name.as_c_str(), c"--level", level];
    args.extend(request.home.as_ref().map(|_| c"--home"));
    exec::exec(agent.as_fd(), &args, &[])
}
