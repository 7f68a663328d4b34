//! From the kernel's first instruction to a machine that can be asked: file systems of its own, modules, ports, and the base disk.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_move};
use rustix::system::finit_module;
use skerry_proto::guest::{AGENT_PORT, BASE_SLOT, CONTROL_PORT};
use skerry_sys::memfd;

use crate::devices::{self, Driver};
use crate::failure::Failure;
use crate::port::Port;

/// Where the base disk is.
pub(crate) const BASE: &str = "/base";

/// What a sandbox is made on.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) control: Port,
    pub(crate) agent_port: Port,
    /// The agent's program.
    pub(crate) agent: OwnedFd,
}

/// Lays it.
pub(crate) fn lay() -> Result<Ground, Failure> {
    let agent = fs::read("/agent").and_then(|program| memfd::sealed_program("agent", &program));
    let agent = agent.map_err(Failure::at("load the agent"))?;
    let modules = Modules::read().map_err(Failure::at("read the modules"))?;
    leave_initial_root().map_err(Failure::at("leave the initial root"))?;
    load(&modules.early)?;
    // What differs from machine to machine is looked at only when it is asked for: until then all machines of a kind are the same.
    devices::no_autoprobe().map_err(Failure::at("keep devices for later"))?;
    load(&modules.late)?;
    let base = devices::bind(BASE_SLOT, Driver::Disk).map_err(Failure::at("find the base disk"))?;
    let disk = Path::new("/dev").join(base);
    mount(&disk, BASE, c"ext4", MountFlags::RDONLY, None::<&CStr>)
        .map_err(Failure::at("mount the base disk"))?;
    Ok(Ground {
        control: Port::open(CONTROL_PORT).map_err(Failure::at("open the control port"))?,
        agent_port: Port::open(AGENT_PORT).map_err(Failure::at("open the agent's port"))?,
        agent,
    })
}

/// Moves into a root from which one can go on to another: with the first one that is not possible. What was in it is removed from memory.
fn leave_initial_root() -> io::Result<()> {
    let none = MountFlags::empty();
    fs::create_dir("/own")?;
    mount(c"own", "/own", c"tmpfs", none, c"mode=700")?;
    let systems = [
        (c"devtmpfs", "dev"),
        (c"proc", "proc"),
        (c"sysfs", "sys"),
        (c"cgroup2", "cgroup"),
    ];
    for (kind, name) in systems {
        let at = Path::new("/own").join(name);
        fs::create_dir(&at)?;
        mount(kind, &at, kind, none, None::<&CStr>)?;
    }
    for name in ["base", "disk"] {
        fs::create_dir(Path::new("/own").join(name))?;
    }
    fs::remove_dir_all("/modules")?;
    fs::remove_file("/agent")?;
    rustix::process::chdir("/own")?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    Ok(rustix::process::chdir("/")?)
}

/// Kernel modules, in the order of their loading.
struct Modules {
    /// For all that is the same in every machine.
    early: Vec<File>,
    /// For what is not.
    late: Vec<File>,
}

impl Modules {
    fn read() -> io::Result<Self> {
        Ok(Self {
            early: listed("/modules/early")?,
            late: listed("/modules/late")?,
        })
    }
}

fn listed(list: &str) -> io::Result<Vec<File>> {
    let names = fs::read_to_string(list)?;
    let files = names
        .lines()
        .map(|name| File::open(Path::new("/modules").join(name)));
    files.collect()
}

fn load(modules: &[File]) -> Result<(), Failure> {
    for module in modules {
        finit_module(module, c"", 0).map_err(Failure::at("load a kernel module"))?;
    }
    Ok(())
}
