//! The one sandbox of this machine.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use parking_lot::Mutex;
use rustix::mount::{MountFlags, mount};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use skerry_proto::guest::{DISK_SLOT, Identity, Link, NETWORK_SLOT, Network, Start, Usage};
use skerry_sys::cgroup::{Cgroups, Door, Group, Limits};
use skerry_sys::{fsfreeze, loopback};

use crate::agent::{self, Agent};
use crate::devices::{self, Driver};
use crate::failure::Failure;
use crate::filesystem::DISK;
use crate::ground::Ground;
use crate::identity::Inside;
use crate::links::Links;
use crate::{end, identity};

/// See the module.
#[derive(Debug)]
pub(crate) struct Sandbox {
    disk: File,
    group: Group,
    /// Among the files that the sandbox sees.
    inside: Inside,
    links: Links,
    network: Mutex<Option<Network>>,
}

impl Sandbox {
    /// Makes it, with its agent running.
    pub(crate) fn start(ground: &Ground, start: &Start) -> Result<Self, Failure> {
        let who = start.identity.clone().unwrap_or_default();
        identity::take(&who)?;
        mount_disk().map_err(Failure::at("mount the sandbox's disk"))?;
        loopback::up().map_err(Failure::at("switch on the loopback interface"))?;
        if devices::is_there(NETWORK_SLOT) {
            devices::bind(NETWORK_SLOT, Driver::Network)
                .map_err(Failure::at("take the network card"))?;
        }
        if let Some(network) = who.network {
            identity::take_network(network, None)?;
        }
        let (group, door) = make_group(start).map_err(Failure::at("make a control group"))?;
        let agent = agent::start(&ground.agent, start, &door)?;
        never_kill_this().map_err(Failure::at("stay when memory is short"))?;
        let mounts = File::open(format!("/proc/{}/ns/mnt", agent.pid))
            .map_err(Failure::at("open the sandbox's mounts"))?;
        let inside = Inside::start(mounts).map_err(Failure::at("enter the sandbox's mounts"))?;
        inside.write(&who)?;
        end_with(agent).map_err(Failure::at("watch the agent"))?;
        let port = ground.agent_port.share();
        let port = port.map_err(Failure::at("share the agent's port"))?;
        Ok(Self {
            disk: File::open(DISK).map_err(Failure::at("open the sandbox's disk"))?,
            group,
            inside,
            links: Links::new(port).map_err(Failure::at("carry links"))?,
            network: Mutex::new(who.network),
        })
    }

    /// Begins a link to the agent.
    pub(crate) fn link(&self, link: &Link) -> Result<(), Failure> {
        let at = || Failure::at("begin a link");
        let mark = link.mark[..].try_into();
        let mark = mark.map_err(|_| at()(io::Error::from(io::ErrorKind::InvalidInput)))?;
        let agent = UnixStream::connect(agent::SOCKET).map_err(at())?;
        self.links.begin(mark, agent);
        Ok(())
    }

    /// What its processes use.
    pub(crate) fn usage(&self) -> Result<Usage, Failure> {
        let used = self
            .group
            .usage()
            .map_err(Failure::at("read what it uses"))?;
        Ok(Usage {
            cpu_us: used.cpu_us,
            memory_bytes: used.memory_bytes,
            memory_peak_bytes: used.memory_peak_bytes,
            pids: used.pids,
            oom_kills: used.oom_kills,
        })
    }

    /// Holds its disk still, with all on it that was written.
    pub(crate) fn freeze(&self) -> Result<(), Failure> {
        fsfreeze::freeze(self.disk.as_fd()).map_err(Failure::at("hold the disk still"))
    }

    /// Lets its disk be written.
    pub(crate) fn thaw(&self) -> Result<(), Failure> {
        fsfreeze::thaw(self.disk.as_fd()).map_err(Failure::at("let the disk go on"))
    }

    /// Makes it another than the one it was copied from.
    pub(crate) fn renew(&self, who: &Identity) -> Result<(), Failure> {
        identity::take(who)?;
        let mut network = self.network.lock();
        if let Some(new) = who.network {
            identity::take_network(new, *network)?;
        }
        *network = who.network;
        self.inside.write(who)
    }
}

fn mount_disk() -> io::Result<()> {
    let name = devices::bind(DISK_SLOT, Driver::Disk)?;
    let disk = Path::new("/dev").join(name);
    // What is deleted inside is given back outside.
    let options: Option<&CStr> = Some(c"discard");
    Ok(mount(&disk, DISK, c"ext4", MountFlags::NOATIME, options)?)
}

fn make_group(start: &Start) -> io::Result<(Group, OwnedFd)> {
    let group = Cgroups::open("skerry")?.group("sandbox");
    group.create(Limits {
        memory_bytes: start.memory_bytes,
        cpu_milli: start.cpu_milli,
        pids: start.pids,
    })?;
    match group.door()? {
        Door::Folder(folder) => Ok((group, folder)),
        Door::Tasks(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// The sandbox's processes have a limit of their own; should the machine run out all the same, it is not this process's fault.
fn never_kill_this() -> io::Result<()> {
    fs::write("/proc/self/oom_score_adj", "-1000")
}

/// The machine ends when its agent does.
fn end_with(agent: Agent) -> io::Result<()> {
    let wait = move || {
        let _gone = waitid(WaitId::PidFd(agent.pidfd.as_fd()), WaitIdOptions::EXITED);
        end();
    };
    thread::Builder::new()
        .name("agent".to_owned())
        .spawn(wait)
        .map(drop)
}
