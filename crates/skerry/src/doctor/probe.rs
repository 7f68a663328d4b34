//! Looking at the machine.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{statfs, statvfs};
use skerry_agent_bin::{AGENT, GUEST};
use skerry_client::Client;
use skerry_driver_docker::Engine;
use skerry_driver_gvisor::Tool;
use skerry_driver_ns::memory::Tool as Criu;
use skerry_driver_vm::{Programs, Survey, Tools, survey};
use skerry_sys::cgroup::Cgroups;
use skerry_sys::userns;

use crate::data_dir::DataDir;
use crate::env;

/// What was seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) is_root: bool,
    pub(crate) user_namespaces: bool,
    /// Controllers that we could use: version and names.
    pub(crate) cgroup_v1: Vec<String>,
    pub(crate) cgroup_v2: Vec<String>,
    /// Why no groups can be made here; `None` if they can.
    pub(crate) no_cgroups: Option<String>,
    /// File systems that the kernel knows.
    pub(crate) file_systems: Vec<String>,
    pub(crate) data_dir: PathBuf,
    pub(crate) data_fs: String,
    pub(crate) free_bytes: u64,
    pub(crate) loop_devices: bool,
    /// Why an ordinary user has one id only; `None` if there is a range.
    pub(crate) one_id: Option<String>,
    /// What virtual machines run with.
    pub(crate) vm: Option<Survey>,
    /// Why they do not.
    pub(crate) no_vm: String,
    /// A container engine that answers.
    pub(crate) engine: Option<String>,
    /// Why there is none.
    pub(crate) no_engine: String,
    /// The version of a `runsc` that works.
    pub(crate) gvisor: Option<String>,
    /// Why there is none.
    pub(crate) no_gvisor: String,
    /// The version of a CRIU that works.
    pub(crate) criu: Option<String>,
    /// Why there is none.
    pub(crate) no_criu: String,
    /// Programs that are there, of those that matter.
    pub(crate) programs: Vec<&'static str>,
    /// Bytes that the records of sandboxes take of the disk, and may take.
    pub(crate) records: (u64, u64),
    /// The server that says that it runs for this data folder.
    pub(crate) server: Option<Server>,
}

/// A server, as far as it answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    pub(crate) url: String,
    /// What keeps it from taking work.
    pub(crate) troubles: Vec<String>,
}

/// Programs that matter.
const PROGRAMS: [&str; 6] = [
    "mke2fs",
    "mkfs.btrfs",
    "nft",
    "mmdebstrap",
    "fakechroot",
    "fakeroot",
];

pub(crate) fn look(data_dir: &DataDir) -> Machine {
    let there = existing(data_dir.path());
    let (data_fs, free_bytes) = disk(&there);
    let (gvisor, vm, engine) = (gvisor(), vm(), engine());
    let criu = criu();
    Machine {
        kernel: text(rustix::system::uname().release()),
        is_root: rustix::process::geteuid().is_root(),
        user_namespaces: can_unshare(),
        cgroup_v1: v1_controllers(),
        cgroup_v2: words("/sys/fs/cgroup/cgroup.controllers")
            .or_else(|| words("/sys/fs/cgroup/unified/cgroup.controllers"))
            .unwrap_or_default(),
        no_cgroups: Cgroups::look().err().map(|e| e.to_string()),
        file_systems: file_systems(),
        data_dir: data_dir.path().to_owned(),
        data_fs,
        free_bytes,
        loop_devices: Path::new("/dev/loop-control").exists(),
        one_id: userns::look().err().map(|e| e.to_string()),
        no_vm: vm
            .as_ref()
            .err()
            .map_or_else(String::new, |e| format!("{e:#}")),
        vm: vm.ok(),
        no_gvisor: gvisor
            .as_ref()
            .err()
            .map_or_else(String::new, |e| format!("{e:#}")),
        gvisor: gvisor.ok(),
        no_criu: criu
            .as_ref()
            .err()
            .map_or_else(String::new, |e| format!("{e:#}")),
        criu: criu.ok(),
        no_engine: engine
            .as_ref()
            .err()
            .map_or_else(String::new, |e| format!("{e:#}")),
        engine: engine.ok(),
        programs: PROGRAMS.into_iter().filter(|p| which(p)).collect(),
        records: (record_bytes(data_dir), record_limit(&there)),
        server: server(data_dir),
    }
}

/// Of the files that this user may see.
fn record_bytes(data_dir: &DataDir) -> u64 {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let folders = entries(&data_dir.sandboxes());
    let files = folders.flat_map(|folder| entries(&folder.path()).collect::<Vec<_>>());
    let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
    sizes.sum()
}

/// What a server with this environment gives them.
fn record_limit(there: &Path) -> u64 {
    let asked = std::env::var(env::JOURNALS_MB).ok();
    let asked = asked.and_then(|text| text.parse::<u64>().ok());
    asked.map_or_else(
        || skerry_node::default_budget(there).unwrap_or(0),
        |mib| mib << 20,
    )
}

fn server(data_dir: &DataDir) -> Option<Server> {
    let url = DataDir::read(&data_dir.url_file()).ok().flatten()?;
    let troubles = ask(&url).unwrap_or_else(|_| vec!["it does not answer".to_owned()]);
    Some(Server { url, troubles })
}

fn ask(url: &str) -> anyhow::Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // The question needs no key.
    let client = Client::new(url, "none")?;
    let ready = runtime.block_on(client.ready())?;
    let failed = ready.checks.into_iter().filter(|check| !check.ok);
    Ok(failed
        .map(|check| check.message.unwrap_or(check.name))
        .collect())
}

/// Runs it, since one that is installed need not work.
fn gvisor() -> anyhow::Result<String> {
    let scratch = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tool = runtime.block_on(Tool::find(None, scratch.path()))?;
    Ok(format!("{} on {}", tool.version(), tool.platform()))
}

/// Has it keep and wake up a process, since what it says of the kernel is not all that it needs.
fn criu() -> anyhow::Result<String> {
    let trials = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tool = runtime.block_on(Criu::find_proven(trials.path()))?;
    Ok(tool.version().to_owned())
}

fn engine() -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let engine = runtime.block_on(Engine::find())?;
    Ok(engine.name().to_owned())
}

/// Lets a guest boot where there is KVM, since the device alone says little.
fn vm() -> anyhow::Result<Survey> {
    let scratch = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let programs = Programs {
        agent: AGENT,
        guest: GUEST,
    };
    Ok(runtime.block_on(survey(&Tools::find(), programs, scratch.path()))?)
}

fn text(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}

fn words(path: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.split_whitespace().map(str::to_owned).collect())
}

/// The nearest folder that exists already.
fn existing(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|p| p.exists());
    found.unwrap_or(Path::new("/")).to_owned()
}

/// Magic numbers of `statfs(2)`.
fn disk(path: &Path) -> (String, u64) {
    let name = statfs(path).map_or("unknown", |s| match s.f_type {
        0x9123_683e => "btrfs",
        0x5846_5342 => "xfs",
        0xef53 => "ext4",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlay",
        0x2fc1_2fc1 => "zfs",
        _ => "another file system",
    });
    let free = statvfs(path).map_or(0, |s| s.f_bavail * s.f_frsize);
    (name.to_owned(), free)
}

/// Tried for real, in a child: settings that forbid it have many names.
fn can_unshare() -> bool {
    let Ok(program) = std::env::current_exe() else {
        return false;
    };
    Command::new(program)
        .args(["internal", "probe-user-namespace"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

fn v1_controllers() -> Vec<String> {
    let wanted = ["memory", "cpu", "pids", "freezer", "blkio"];
    let is_there = |c: &&str| Path::new("/sys/fs/cgroup").join(c).join("tasks").exists();
    wanted
        .into_iter()
        .filter(is_there)
        .map(str::to_owned)
        .collect()
}

fn file_systems() -> Vec<String> {
    let text = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_whitespace().last())
        .map(str::to_owned)
        .collect()
}

fn which(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .any(|folder| folder.join(program).is_file())
}

/// What the child of [`can_unshare`] does.
pub(crate) fn unshare_user() -> io::Result<()> {
    Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)?)
}
