//! The launcher: a process that makes ready what `runsc` needs for one sandbox, and becomes `runsc`.
//!
//! It is in the sandbox's control group from its first step, in a mount namespace of its own, and in the sandbox's network. All that it mounts
//! goes away with the processes of the sandbox, whatever else dies.

mod failure;
mod overlay;
pub(crate) mod stage;

use std::convert::Infallible;
use std::ffi::CString;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use skerry_driver::{Bind, Privilege, VolumeMount};
use skerry_sys::cgroup::{Cgroups, Door};
use skerry_sys::clone::SingleThreaded;
use skerry_sys::exec;
use skerry_sys::netlink::{Netlink, Route};

use failure::Failure;

/// What the sandbox's interface is called in its network.
const INTERFACE: &str = "eth0";

/// Layers, binds and volumes of a sandbox together, at most.
pub(crate) const MAX_TREES: usize = 128;
/// How the launcher ends if the sandbox's files have no room for what is to be mounted there.
pub(crate) const NO_FOLDER: u8 = 3;

/// Call `runsc` about a sandbox; written by the driver as the launcher's argument.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The driver's control group, and the sandbox's in there.
    pub(crate) group: (String, String),
    pub(crate) runsc: PathBuf,
    pub(crate) args: Vec<String>,
    /// What a sandbox that is to be started needs.
    pub(crate) needs: Option<Needs>,
}

/// What a sandbox starts with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Needs {
    /// What the sandbox sees as all the memory there is.
    pub(crate) memory_bytes: u64,
    /// What uid 0 inside is on the host; 65 536 ids belong to the sandbox.
    pub(crate) first_id: u32,
    pub(crate) privilege: Privilege,
    /// Lowest first.
    pub(crate) layers: Vec<PathBuf>,
    /// Holds `upper` and `work`.
    pub(crate) volume: PathBuf,
    pub(crate) binds: Vec<Bind>,
    /// Folders that outlive the sandbox.
    pub(crate) shared: Vec<VolumeMount>,
    /// Shown inside to the agent.
    pub(crate) inside: PathBuf,
    pub(crate) network: Option<Way>,
}

/// The network that the sandbox is to have.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Way {
    /// Shows the namespace, for as long as the driver waits.
    pub(crate) netns: PathBuf,
    pub(crate) address: Ipv4Addr,
    pub(crate) gateway: Ipv4Addr,
}

/// The launcher's whole life, if all goes well until it is another program.
pub fn main(args: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let Err(failure) = launch(args);
    // The driver reads it; if it is gone, nobody wants to know.
    let _unread = writeln!(io::stderr(), "{failure}");
    if failure.is_no_folder() {
        return ExitCode::from(NO_FOLDER);
    }
    ExitCode::FAILURE
}

fn launch(args: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Infallible, Failure> {
    let text = args.into_iter().next().unwrap_or_default();
    let request: Request = serde_json::from_slice(text.as_encoded_bytes())
        .map_err(io::Error::from)
        .map_err(Failure::at("understand the request"))?;
    let single = SingleThreaded::check().map_err(Failure::at("be alone"))?;
    enter_group(&request).map_err(Failure::at("enter the control group"))?;
    // Of its own session, so that an interrupt typed for the daemon does not reach the sandbox.
    let _leads_already = rustix::process::setsid();
    if let Some(needs) = &request.needs {
        if let Some(way) = &needs.network {
            enter_network(way).map_err(Failure::at("enter the network"))?;
        }
        let root = overlay::make(&single, needs)?;
        stage::check(needs, &root)?;
        stage::set(needs, &root)?;
    }
    become_runsc(&request).map_err(Failure::at("start runsc"))
}

fn enter_group(request: &Request) -> io::Result<()> {
    let (parent, name) = &request.group;
    match Cgroups::open(parent)?.group(name).door()? {
        Door::Tasks(tasks) => {
            for file in tasks {
                rustix::io::write(file, b"0")?;
            }
        }
        Door::Folder(folder) => {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(folder, "cgroup.procs", flags, Mode::empty())?;
            rustix::io::write(file, b"0")?;
        }
    }
    Ok(())
}

/// `runsc` takes over the interface and leaves it without its address: the next one finds it as the first did.
fn enter_network(way: &Way) -> io::Result<()> {
    let netns = std::fs::File::open(&way.netns)?;
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
    let mut netlink = Netlink::open()?;
    let interface = netlink.index_of(INTERFACE)?;
    fine_if_there(netlink.add_address(interface, way.address, 32))?;
    netlink.set_up(interface)?;
    let route = Route {
        to: (Ipv4Addr::UNSPECIFIED, 0),
        via: Some(way.gateway),
        interface,
    };
    fine_if_there(netlink.add_route(route))
}

fn fine_if_there(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

fn become_runsc(request: &Request) -> io::Result<Infallible> {
    let open = |path: &Path, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    let null = open(Path::new("/dev/null"), OFlags::RDWR)?;
    let program = open(&request.runsc, OFlags::PATH)?;
    let args = std::iter::once("runsc").chain(request.args.iter().map(String::as_str));
    let args: Vec<CString> = args.map(CString::new).collect::<Result<_, _>>()?;
    let args: Vec<_> = args.iter().map(CString::as_c_str).collect();
    let null = null.as_fd();
    exec::hand_over(&[null, null, null])?;
    exec::exec(program.as_fd(), &args, &[])
}
