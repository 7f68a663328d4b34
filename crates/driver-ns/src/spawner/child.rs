//! The child's half of a start: from a fork of the spawner to the agent, first process of its sandbox.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use skerry_driver::Privilege;
use skerry_sys::cgroup::Door;
use skerry_sys::{clone, exec, fdpass, loopback};

use super::filesystem;
use super::laps::Laps;
use super::message::{Failure, Request};
use super::spawn::Report;
use super::trees::Trees;
use super::{Fds, Spawner, complain, confine};

/// Becomes the agent, or says why not and ends.
pub(super) fn run(spawner: &Spawner, request: &Request, fds: &Fds, parent: &OwnedFd) -> ! {
    let Err(failure) = become_agent(spawner, request, fds, parent);
    let told = serde_json::to_vec(&Report::Failed(failure))
        .map_err(io::Error::from)
        .and_then(|text| fdpass::send(parent, &text, &[]));
    if let Err(error) = told {
        complain(&error);
    }
    #[expect(clippy::exit, reason = "a forked child has nothing to return to")]
    std::process::exit(1)
}

fn become_agent(
    spawner: &Spawner,
    request: &Request,
    fds: &Fds,
    parent: &OwnedFd,
) -> Result<Infallible, Failure> {
    let mut laps = Laps::start();
    enter_group(fds).map_err(Failure::at("enter the control group"))?;
    laps.lap("enter cgroup");
    let trees = wait_for_go(request, parent)?;
    laps.lap("wait for ids and layers");
    exec::keep_children();
    become_root(request).map_err(Failure::at("become root of the sandbox"))?;
    leave_host(request)?;
    laps.lap("own session, names");
    let trees = match trees {
        Some(trees) => trees,
        None => Trees::collect(request, None)?,
    };
    filesystem::build(request, &trees, None, &mut laps)?;
    confine::limit(request).map_err(Failure::at("set resource limits"))?;
    hand_over(spawner, fds, trees.home.as_ref())
        .map_err(Failure::at("hand over the agent's socket"))?;
    drop(trees);
    confine::confine(request, &spawner.filter)?;
    laps.lap("limits, capabilities, seccomp");
    let report = serde_json::to_vec(&Report::Ready(laps.into_laps()))
        .map_err(io::Error::from)
        .map_err(Failure::at("report"))?;
    fdpass::send(parent, &report, &[]).map_err(Failure::at("report"))?;
    start_agent(request, fds).map_err(Failure::at("start the agent"))
}

/// The agent's standard streams, its socket and, if it has one, its home.
fn hand_over(spawner: &Spawner, fds: &Fds, home: Option<&OwnedFd>) -> io::Result<()> {
    let open = |home| rustix::fs::openat(home, ".", OFlags::DIRECTORY, Mode::empty());
    let home = home.map(open).transpose()?;
    let streams = [&spawner.null; 3].into_iter();
    let own = streams.chain(&fds.listener).chain(&home);
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

/// Until then the child has no ids, limits or mounts. If the spawner dies first, so does the child.
fn wait_for_go(request: &Request, parent: &OwnedFd) -> Result<Option<Trees>, Failure> {
    let at = || Failure::at("wait for the spawner");
    let (len, fds) = fdpass::receive(parent, &mut [0; 8]).map_err(at())?;
    if len == 0 {
        return Err(at()(io::Error::from(io::ErrorKind::UnexpectedEof)));
    }
    if request.first_id.is_none() {
        return Ok(None);
    }
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let trees = Trees::sort(request, fds).ok_or_else(invalid);
    trees.map(Some).map_err(at())
}

pub(crate) fn become_root(request: &Request) -> io::Result<()> {
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    // With a single id the namespace can never set groups, and the host's stay, which are nobody inside.
    if request.first_id.is_some() {
        set_thread_groups(&[])?;
    }
    Ok(set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?)
}

pub(crate) fn leave_host(request: &Request) -> Result<(), Failure> {
    rustix::process::setsid().map_err(Failure::at("make a session"))?;
    exec::new_session_keyring().map_err(Failure::at("leave the host's keyring"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Only now is the process in its control group, which becomes the root of what it sees.
    clone::own_cgroup_namespace().map_err(Failure::at("make a control group namespace"))?;
    rustix::system::sethostname(request.hostname.as_bytes())
        .map_err(Failure::at("set the host name"))?;
    if !request.has_netns {
        loopback::up().map_err(Failure::at("switch on the loopback interface"))?;
    }
    Ok(())
}

fn start_agent(request: &Request, fds: &Fds) -> io::Result<Infallible> {
    let level = match request.privilege {
        Privilege::Restricted => c"restricted",
        Privilege::Root => c"root",
    };
    // The name tells people on the host, and the driver's sweep, whose it is.
    let name = CString::new(crate::processes::agent_name(&request.label))?;
    let mut args = vec![name.as_c_str(), c"--level", level];
    args.extend(request.home.as_ref().map(|_| c"--home"));
    exec::exec(fds.agent.as_fd(), &args, &[])
}
