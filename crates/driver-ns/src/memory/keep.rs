//! The helper's half of keeping memory: CRIU looks into the sandbox from its own network, names and clocks, but with the host's users and processes,
//! and with a root of its own.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use skerry_sys::clone::Namespaces;
use skerry_sys::{exec, mount, pidfd};

use super::images;
use super::jail::{self, Criu, IMAGES, Jail};
use super::kernel;
use super::order::{Clocks, Keep, Kept};
use super::rpc::{self, Options, Outcome};
use super::{GHOST_BYTES, PATIENCE, SHM, shm};
use crate::spawner::{Failure, Laps, Reply, Spawner};

/// Where programs watch files, if they do.
const WATCHED_BELOW: [&str; 11] = [
    "/workspace",
    "/app",
    "/data",
    "/tmp",
    "/home",
    "/root",
    "/srv",
    "/opt",
    "/etc",
    "/var",
    "/usr",
];

/// Keeps it. This process is of no use to anybody afterwards: it is elsewhere.
pub(crate) fn keep(spawner: &Spawner, order: &Keep, agent: &OwnedFd) -> Result<Reply, Failure> {
    let mut laps = Laps::start();
    let program = key(&proc(order.agent).join("exe"));
    let program = program.map_err(Failure::at("look at the agent's program"))?;
    let home = home(order).map_err(Failure::at("look at the agent's home"))?;
    let mut external = external_mounts(order.agent).map_err(Failure::at("look at its mounts"))?;
    external.extend([program.clone(), home.clone()]);
    let shm = File::create_new(order.folder.join(SHM));
    shm.and_then(|shm| shm::pack(&spawner.single, agent, shm, order.max_bytes))
        .map_err(Failure::at("keep /dev/shm"))?;
    laps.lap("shm");
    mount::own_namespace().map_err(Failure::at("make a mount namespace"))?;
    let jail = Jail::collect(&order.tool, &order.folder, None)?;
    let clocks = go_near(agent).map_err(Failure::at("enter its namespaces"))?;
    jail.enter().map_err(Failure::at("enter the jail"))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(Failure::at("adopt what CRIU starts"))?;
    exec::keep_children();
    let found = kernel::tell(&spawner.single, order.kernel.as_ref(), true);
    let found = found.map_err(Failure::at("have CRIU know the kernel"))?;
    laps.lap("jail");
    let criu = Criu::start(&spawner.single, &[], Some(order.max_bytes));
    let criu = criu.map_err(Failure::at("start CRIU"))?;
    let outcome = rpc::dump(&criu, options(order, external));
    let was_killed = criu.end(outcome.is_ok());
    let ended = end_orphans();
    laps.lap("criu");
    if outcome.is_err() && was_killed.as_ref().copied().unwrap_or(true) {
        // It may have left them half changed, and nobody can tell.
        pidfd::kill(agent).map_err(Failure::at("end what CRIU may have changed"))?;
    }
    match outcome.map_err(Failure::at("hear from CRIU"))? {
        Outcome::Refused => return Ok(Reply::Refused(jail::reason())),
        Outcome::Done(_) => was_killed.and(ended).map_err(Failure::at("end CRIU"))?,
    }
    let images = Path::new(IMAGES);
    images::wake_where_restored(images)
        .and_then(|()| images::open_sockets_where_restored(images, order.address))
        .map_err(Failure::at("finish the images"))?;
    Ok(Reply::Kept {
        kept: Kept {
            program,
            home,
            clocks,
        },
        found,
        steps: laps.into_laps(),
    })
}

/// Ends what a CRIU that was killed has left: it stands somewhere and holds the images, and is this process's child now.
fn end_orphans() -> io::Result<()> {
    loop {
        let children = fs::read_to_string("/proc/thread-self/children")?;
        let Some(first) = children.split_whitespace().next() else {
            return Ok(());
        };
        let first = first.parse().map_err(io::Error::other)?;
        if let Some(orphan) = pidfd::open(first)? {
            pidfd::kill(&orphan)?;
            if !pidfd::wait(&orphan, PATIENCE)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // One that asked to be traced is traced by this process now, and then it does not go by itself.
            pidfd::reap(&orphan)?;
        }
    }
}

fn options(order: &Keep, external: Vec<String>) -> Options {
    Options {
        images_fd: -1,
        images: Some(IMAGES.to_owned()),
        pid: i32::try_from(order.agent).ok(),
        leave_running: Some(true),
        file_locks: Some(true),
        log_level: Some(rpc::ERRORS_ONLY),
        log_to_stderr: Some(true),
        cgroups: Some(rpc::IGNORE_CGROUPS),
        ghost_bytes: Some(GHOST_BYTES),
        external,
        find_watched: Some(true),
        watched_below: WATCHED_BELOW.map(str::to_owned).into(),
        skip_untaken: Some(true),
        close_tcp: Some(true),
        network_lock: Some(rpc::LOCK_NOTHING),
        ..Options::default()
    }
}

/// What CRIU shares with the sandbox it does not keep, and a copy gets it from the spawner.
fn go_near(agent: &OwnedFd) -> io::Result<Clocks> {
    let same = [
        Namespaces::NET,
        Namespaces::UTS,
        Namespaces::IPC,
        Namespaces::CGROUP,
        Namespaces::TIME,
    ];
    for namespace in same {
        namespace.join(agent.as_fd())?;
    }
    Ok(Clocks::now())
}

fn proc(pid: u32) -> std::path::PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// All that is mounted below its root is made anew in a copy.
fn external_mounts(pid: u32) -> io::Result<Vec<String>> {
    let mounts = fs::read_to_string(proc(pid).join("mountinfo"))?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let below = points.filter(|&point| point != "/");
    Ok(below.map(|point| format!("mnt[{point}]:{point}")).collect())
}

/// What CRIU calls a file that it does not keep, but is given.
fn key(path: &Path) -> io::Result<String> {
    let seen = statx(
        CWD,
        path,
        AtFlags::empty(),
        StatxFlags::MNT_ID | StatxFlags::INO,
    )?;
    Ok(format!("file[{:x}:{:x}]", seen.stx_mnt_id, seen.stx_ino))
}

fn home(order: &Keep) -> io::Result<String> {
    let home = fs::metadata(&order.home)?;
    for entry in fs::read_dir(proc(order.agent).join("fd"))? {
        let path = entry?.path();
        // One that it closes meanwhile is not it.
        let is_home = |seen: fs::Metadata| (seen.dev(), seen.ino()) == (home.dev(), home.ino());
        if fs::metadata(&path).is_ok_and(is_home) {
            return key(&path);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}
