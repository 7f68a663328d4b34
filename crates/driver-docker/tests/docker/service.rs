//! Podman's service, started for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bollard::query_parameters::{ListContainersOptionsBuilder, ListImagesOptions};
use bollard::{API_DEFAULT_VERSION, Docker};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process_group};

const PATIENCE: Duration = Duration::from_secs(30);
/// A machine may not have the right to raise limits, need not have systemd, and may have both generations of control groups, which crun refuses.
const CONFIG: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"#;

/// An engine with a store of its own.
pub(crate) struct Service {
    folder: PathBuf,
    process: Child,
}

impl Service {
    /// Starts it in this folder. `None`: there is no Podman.
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("containers.conf"), CONFIG).unwrap();
        let mut command = podman(folder);
        command.args(["system", "service", "--time=0"]);
        command.arg(format!("unix://{}", folder.join("socket").display()));
        let log = fs::File::create(folder.join("log")).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let process = command.spawn().ok()?;
        let service = Self {
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

    /// What it has: containers and images by name.
    pub(crate) async fn things(&self) -> Vec<String> {
        let socket = self.socket();
        let api = Docker::connect_with_unix(socket.to_str().unwrap(), 60, API_DEFAULT_VERSION);
        let api = api.unwrap().negotiate_version().await.unwrap();
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let containers = api.list_containers(Some(options)).await.unwrap();
        let containers = containers
            .into_iter()
            .flat_map(|found| found.names.unwrap());
        let images = api.list_images(None::<ListImagesOptions>).await.unwrap();
        let images = images.into_iter().flat_map(|image| image.repo_tags);
        containers.chain(images).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        for all in [
            &["rm", "--all", "--force", "--time", "0"][..],
            &["rmi", "--all", "--force"],
        ] {
            drop(podman(&self.folder).args(all).output());
        }
        let group = Pid::from_child(&self.process);
        let _gone_already = kill_process_group(group, Signal::KILL);
        drop(self.process.wait());
        // Podman leaves mounts behind that keep the folder from being removed.
        for name in ["run", "root/overlay", "root"] {
            let place = self.folder.join(name);
            let _not_mounted = unmount(place, UnmountFlags::DETACH);
        }
    }
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
