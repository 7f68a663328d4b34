//! Starting a QEMU in its cage.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use skerry_driver::Accelerator;
use skerry_net::Netns;
use skerry_sys::cgroup::{Door, Group, Limits};
use skerry_sys::pidfd::Identity;
use skerry_sys::{fdpass, poll};
use skerry_types::SandboxId;

use crate::engine::Engine;
use crate::launcher::{DoorKind, Failure, Fds, File as Shown, MAX_BYTES, Reply, Request};
use crate::layout::{DEVICES, DEVICES_OUT, DISK, MEMORY};
use crate::machine::{Begin, Shape, arguments};

/// What QEMU itself needs: translated code, its own data, and the machine's tables of pages.
const OWN_BYTES: u64 = 320 << 20;
/// Its threads beside one for each processor: 64 that write to disks, and its own. It ends where it cannot have one.
const THREADS: u64 = 128;
/// The most it may say.
const LOG_BYTES: u64 = 16 * 1024;
/// A launcher that has not answered by then is stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a QEMU is started with.
#[derive(Debug)]
pub(crate) struct Start {
    /// Its sandbox.
    pub(crate) label: String,
    pub(crate) uid: u32,
    pub(crate) shape: Shape,
    pub(crate) begin: Begin,
    /// The folder with its files.
    pub(crate) folder: PathBuf,
    pub(crate) base: PathBuf,
    pub(crate) sockets: [OwnedFd; 3],
    pub(crate) group: Option<Group>,
    pub(crate) netns: Option<Netns>,
    pub(crate) launcher: Vec<OsString>,
    pub(crate) engine: Engine,
    pub(crate) accelerator: Accelerator,
    pub(crate) disk_bytes: u64,
}

/// Sandboxes whose QEMU is being started: a start that nobody waits for any more comes to its end all the same, and only then can it be ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Starting(Arc<Mutex<HashSet<SandboxId>>>);

/// A start under way, until this is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay(Starting, SandboxId);

impl Starting {
    pub(crate) fn begin(&self, id: SandboxId) -> UnderWay {
        self.0.lock().insert(id);
        UnderWay(self.clone(), id)
    }

    pub(crate) fn has(&self, id: SandboxId) -> bool {
        self.0.lock().contains(&id)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.lock().remove(&self.1);
    }
}

/// One that was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) process: Identity,
    pub(crate) pidfd: OwnedFd,
    /// What it says.
    pub(crate) log: Log,
}

/// What a QEMU is called on the host.
pub(crate) fn name(label: &str) -> String {
    format!("skerry-vm:{label}")
}

/// Starts it. Blocks for some milliseconds.
pub(crate) fn start(start: Start) -> io::Result<Started> {
    let door = start.group.as_ref().map(|group| {
        group.create(limits(&start.shape))?;
        group.door()
    });
    let door = door.transpose()?;
    let log = Log::new()?;
    let request = Request {
        name: name(&start.label),
        uid: start.uid,
        qemu: start.engine.qemu.clone(),
        files: files(&start),
        args: arguments(&start.shape, start.accelerator, start.begin),
        kvm: start.accelerator == Accelerator::Kvm,
        max_file_bytes: start.disk_bytes.max(start.shape.memory_bytes()),
        address: start.netns.as_ref().and_then(|netns| netns.address),
        has_netns: start.netns.is_some(),
        door: door.as_ref().map(|door| match door {
            Door::Tasks(_) => DoorKind::Tasks,
            Door::Folder(_) => DoorKind::Folder,
        }),
    };
    let fds = Fds {
        log: log.0.try_clone()?.into(),
        sockets: start.sockets,
        netns: start.netns.map(|netns| netns.fd),
        door,
    };
    let (pid, pidfd) = launch(&start.launcher, &request, &fds)?;
    let process = Identity::of(pid)?;
    Ok(Started {
        process,
        pidfd,
        log,
    })
}

/// The guest has its own limits; these hold even who has left it.
fn limits(shape: &Shape) -> Limits {
    Limits {
        memory_bytes: shape.memory_bytes() + OWN_BYTES,
        cpu_milli: u64::from(shape.vcpus) * 1000,
        pids: THREADS + u64::from(shape.vcpus),
    }
}

fn files(start: &Start) -> Vec<Shown> {
    let shown = |name: &str, source: PathBuf, writable| Shown {
        name: name.to_owned(),
        source,
        writable,
    };
    let own = |name: &str, writable| shown(name, start.folder.join(name), writable);
    let mut files = vec![
        shown("base", start.base.clone(), false),
        own(DISK, true),
        own(MEMORY, false),
        own(DEVICES_OUT, true),
    ];
    match start.begin {
        Begin::Boot => files.extend([
            shown("kernel", start.engine.kernel.clone(), false),
            shown("initial-files", start.engine.initial_files.clone(), false),
        ]),
        Begin::Restore => files.push(own(DEVICES, false)),
    }
    files
}

fn launch(command: &[OsString], request: &Request, fds: &Fds) -> io::Result<(u32, OwnedFd)> {
    let (program, args) = command.split_first().ok_or(ErrorKind::InvalidInput)?;
    let (ours, theirs) = fdpass::pair()?;
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()?;
    let answer =
        fdpass::send(&ours, &serde_json::to_vec(request)?, &fds.all()).and_then(|()| hear(&ours));
    if answer.is_err() {
        // It hangs, or is gone already.
        let _gone = child.kill();
    }
    child.wait()?;
    answer
}

fn hear(socket: &OwnedFd) -> io::Result<(u32, OwnedFd)> {
    if poll::readable([socket.as_fd()], Some(PATIENCE))? == [false] {
        return Err(ErrorKind::TimedOut.into());
    }
    let mut buffer = vec![0; MAX_BYTES];
    let (len, fds) = fdpass::receive(socket.as_fd(), &mut buffer)?;
    if len == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    match (
        serde_json::from_slice(&buffer[..len])?,
        fds.into_iter().next(),
    ) {
        (Reply::Started { pid }, Some(pidfd)) => Ok((pid, pidfd)),
        (Reply::Failed(failure), _) => Err(other(failure)),
        (Reply::Started { .. }, None) => Err(ErrorKind::InvalidData.into()),
    }
}

fn other(failure: Failure) -> io::Error {
    io::Error::other(failure)
}

/// What a QEMU says: in memory, and never more than there is room for.
#[derive(Debug)]
pub(crate) struct Log(File);

impl Log {
    fn new() -> io::Result<Self> {
        let fd = memfd_create(
            "skerry-vm-log",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        let mut file = File::from(fd);
        file.set_len(LOG_BYTES)?;
        fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        file.rewind()?;
        file.flush()?;
        Ok(Self(file))
    }

    /// All of it so far.
    pub(crate) fn text(&self) -> String {
        let mut bytes = vec![0; LOG_BYTES as usize];
        let len = self.0.read_at(&mut bytes, 0).unwrap_or(0);
        bytes.truncate(len);
        let said = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(said).trim().to_owned()
    }
}
