//! An engine, started for one test with a store of its own: Podman's service, or Docker's daemon.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptions, RemoveContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const PATIENCE: Duration = Duration::from_secs(30);
/// A machine may not have the right to raise limits, need not have systemd, and may have both generations of control groups, which crun refuses.
const PODMAN_CONFIG: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"#;
/// Whose mounts, interfaces and packet filters are nobody else's.
const PRIVATE: [&str; 6] = ["--mount", "--net", "--propagation", "private", "sh", "-c"];
/// It makes no bridge and no rule.
const DOCKERD: &str = "exec dockerd --data-root \"$0/root\" --exec-root \"$0/run\" --pidfile \"$0/pid\" --host \"unix://$0/socket\" \
    --iptables=false --ip6tables=false --bridge=none --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent=\"$1\"";
const GROUP: &str = "skerry-test-docker";

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Podman,
    Docker,
}

/// See the module.
pub(crate) struct Service {
    kind: Kind,
    folder: PathBuf,
    process: Child,
}

impl Service {
    /// Starts it in this new folder. `None`: there is no such engine.
    pub(crate) fn start(kind: Kind, folder: &Path) -> Option<Self> {
        fs::create_dir(folder).unwrap();
        let mut command = match kind {
            Kind::Podman => podman_service(folder),
            Kind::Docker => dockerd(folder)?,
        };
        let log = fs::File::create(folder.join("log")).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let process = command.spawn().ok()?;
        let service = Self {
            kind,
            folder: folder.to_owned(),
            process,
        };
        let began = Instant::now();
        while std::os::unix::net::UnixStream::connect(service.socket()).is_err() {
            assert!(began.elapsed() < PATIENCE, "{}", service.log());
            std::thread::yield_now();
        }
        Some(service)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    async fn api(&self) -> Docker {
        let socket = self.socket();
        let api = Docker::connect_with_unix(socket.to_str().unwrap(), 60, API_DEFAULT_VERSION);
        api.unwrap().negotiate_version().await.unwrap()
    }

    /// Containers by name.
    async fn containers(&self) -> Vec<String> {
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let containers = self.api().await.list_containers(Some(options)).await;
        let containers = containers.unwrap().into_iter();
        containers.flat_map(|found| found.names.unwrap()).collect()
    }

    pub(crate) async fn remove_all_containers(&self) {
        for name in self.containers().await {
            let force = RemoveContainerOptionsBuilder::new().force(true).build();
            let name = name.trim_start_matches('/');
            let removed = self.api().await.remove_container(name, Some(force)).await;
            removed.unwrap();
        }
    }

    /// What it has: containers and images by name.
    pub(crate) async fn things(&self) -> Vec<String> {
        let containers = self.containers().await.into_iter();
        let api = self.api().await;
        let images = api.list_images(None::<ListImagesOptions>).await.unwrap();
        let images = images.into_iter().flat_map(|image| image.repo_tags);
        containers.chain(images).collect()
    }

    /// Takes its containers away, also those of a test that failed half-way.
    fn clear(&self) {
        match self.kind {
            Kind::Podman => {
                for all in [
                    &["rm", "--all", "--force", "--time", "0"][..],
                    &["rmi", "--all", "--force"],
                ] {
                    drop(podman(&self.folder).args(all).output());
                }
            }
            Kind::Docker => {
                // A daemon that is asked to end ends its containers first.
                let pid = fs::read_to_string(self.folder.join("pid")).unwrap_or_default();
                let pid = pid.trim().parse().ok().and_then(Pid::from_raw);
                let began = Instant::now();
                while let Some(pid) = pid
                    && kill_process(pid, Signal::TERM).is_ok()
                    && began.elapsed() < PATIENCE
                {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.clear();
        let group = Pid::from_child(&self.process);
        let _gone_already = kill_process_group(group, Signal::KILL);
        drop(self.process.wait());
        // Podman leaves mounts behind that keep the folder from being removed.
        for name in ["run", "root/overlay", "root"] {
            let place = self.folder.join(name);
            let _not_mounted = unmount(place, UnmountFlags::DETACH);
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            let _not_there = fs::remove_dir(hierarchy.path().join(GROUP));
        }
    }
}

fn podman_service(folder: &Path) -> Command {
    fs::write(folder.join("containers.conf"), PODMAN_CONFIG).unwrap();
    let mut command = podman(folder);
    command.args(["system", "service", "--time=0"]);
    command.arg(format!("unix://{}", folder.join("socket").display()));
    command
}

fn podman(folder: &Path) -> Command {
    let mut command = Command::new("podman");
    command.env("CONTAINERS_CONF", folder.join("containers.conf"));
    for (option, place) in [
        ("--root", "root"),
        ("--runroot", "run"),
        ("--tmpdir", "tmp"),
    ] {
        command.arg(option).arg(folder.join(place));
    }
    command
}

/// Docker's daemon as `scripts/tools.sh docker` unpacked it, or as it is installed.
fn dockerd(folder: &Path) -> Option<Command> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let tree = cache.or_else(home)?.join("skerry/tools/docker");
    let path = std::env::var_os("PATH")?;
    let own = ["usr/sbin", "usr/bin"].map(|name| tree.join(name));
    let folders = own.into_iter().chain(std::env::split_paths(&path));
    let folders: Vec<PathBuf> = folders.chain([PathBuf::from("/usr/sbin")]).collect();
    if !folders
        .iter()
        .any(|folder| folder.join("dockerd").is_file())
    {
        return None;
    }
    let path: OsString = std::env::join_paths(folders).ok()?;
    let mut command = Command::new("unshare");
    command.args(PRIVATE).arg(DOCKERD).arg(folder).arg(GROUP);
    command.env("PATH", path);
    Some(command)
}
