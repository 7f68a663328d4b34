//! A driver over a fresh folder, and what must not be left behind.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use skerry_driver::conformance::{self, VOLUME_BYTES};
use skerry_driver::{Bind, Driver, NetworkMode, Privilege, Rootfs, Spec};
use skerry_driver_gvisor::{GvisorDriver, Options, Tool, ToolError};
use skerry_net::Network;
use skerry_storage::Storage;
use skerry_sys::cgroup::Cgroups;
use skerry_sys::idmap::Ids;
use skerry_sys::{mount, pidfd};
use skerry_types::{Resources, SandboxId, VolumeId};

const HELPER: &str = env!("CARGO_BIN_EXE_skerry-gvisor-helper");

/// What a test stands on.
pub(crate) struct Bed {
    folder: PathBuf,
    storage: Arc<Storage>,
    pub(crate) network: Network,
    cgroup_parent: String,
    tool: Tool,
}

/// Runs a test over a new folder. `None`: it is left out, and said so.
pub(crate) fn test<T, F: Future<Output = T>>(body: impl FnOnce(Arc<Bed>) -> F) -> Option<T> {
    let folder = tempfile::tempdir().unwrap();
    test_in(folder.path(), body)
}

/// Runs a test on a thread that has a mount namespace of its own, so that a storage pool shows nowhere else.
pub(crate) fn test_in<T, F: Future<Output = T>>(
    folder: &Path,
    body: impl FnOnce(Arc<Bed>) -> F,
) -> Option<T> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: gVisor needs root here, to map users and enter networks");
        return None;
    }
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap()
    };
    let scratch = folder.join("probe");
    fs::create_dir_all(&scratch).unwrap();
    let tool = match runtime().block_on(Tool::find(None, &scratch)) {
        Err(ToolError::Missing) => {
            println!("SKIPPED: there is no runsc; `scripts/tools.sh runsc` fetches it");
            return None;
        }
        found => found.unwrap(),
    };
    // Before the runtime has any thread: a thread stays in the namespace that it began in.
    mount::own_namespace().unwrap();
    runtime().block_on(async {
        let bed = Arc::new(Bed::new(folder, tool).await);
        let done = body(Arc::clone(&bed)).await;
        bed.network.stop().await.unwrap();
        Some(done)
    })
}

impl Bed {
    async fn new(folder: &Path, tool: Tool) -> Self {
        let data = folder.join("data");
        if !data.exists() {
            make_image(&folder.join("image"));
            fs::create_dir(&data).unwrap();
        }
        let storage = Storage::open(&data, &skerry_storage::Options::default()).unwrap();
        let network = Network::start(skerry_net::Options {
            command: vec![HELPER.into(), "gateway".into()],
            dir: folder.join("network"),
            config: skerry_net::Config::default(),
        });
        let name = folder.file_name().unwrap().to_str().unwrap();
        Self {
            folder: folder.to_owned(),
            storage: Arc::new(storage),
            network: network.await.unwrap(),
            cgroup_parent: format!("skerry/test-{name}"),
            tool,
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) async fn driver(&self) -> GvisorDriver {
        let options = Options {
            data_dir: self.data(),
            agent: skerry_agent_bin::AGENT,
            tool: self.tool.clone(),
            launcher_command: vec![HELPER.into()],
            storage: Arc::clone(&self.storage),
            network: Some(self.network.clone()),
            cgroup_parent: self.cgroup_parent.clone(),
            first_id: Options::FIRST_ID,
        };
        GvisorDriver::new(options).await.unwrap()
    }

    /// A small sandbox without network.
    pub(crate) fn spec(&self) -> Spec {
        Spec {
            id: SandboxId::new(),
            resources: Resources::FREE_FORM,
            rootfs: conformance::Bed::rootfs(self),
            privilege: Privilege::Restricted,
            network: NetworkMode::None,
            hostname: "island".to_owned(),
            volumes: Vec::new(),
        }
    }

    /// Nothing but what lies there for the next sandbox.
    pub(crate) async fn assert_clean(&self) {
        let mut left = conformance::Bed::snapshot(self, &[]).await;
        left.retain(|line| !line.starts_with("mount ") && !line.contains("/gvisor/agent-"));
        assert!(left.is_empty(), "{left:#?}");
    }

    /// Kills all of these processes.
    pub(crate) fn kill(&self, name: &str) {
        for (pid, _) in self
            .processes()
            .iter()
            .filter(|(_, line)| line.starts_with(name))
        {
            let process = pidfd::open(*pid).unwrap().unwrap();
            pidfd::kill(&process).unwrap();
        }
    }

    /// Processes of the host that have this bed's folder among their arguments.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        let data = self.data().display().to_string();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let lines = pids.filter_map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
        });
        lines.filter(|(_, line)| line.contains(&data)).collect()
    }

    fn groups(&self) -> Vec<String> {
        let groups = Cgroups::open(&self.cgroup_parent).and_then(|groups| groups.names());
        groups.unwrap_or_default()
    }
}

#[async_trait]
impl conformance::Bed for Bed {
    async fn driver(&self) -> Arc<dyn Driver> {
        Arc::new(self.driver().await)
    }

    fn rootfs(&self) -> Rootfs {
        Rootfs {
            layers: vec![self.folder.join("image")],
            binds: vec![Bind {
                source: "/usr".into(),
                target: "/usr".into(),
            }],
        }
    }

    async fn snapshot(&self, _made: &[SandboxId]) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        all.extend(mounts.lines().map(|line| format!("mount {line}")));
        let records = fs::read_dir(self.data().join("gvisor")).unwrap();
        all.extend(records.map(|entry| format!("record {}", entry.unwrap().path().display())));
        let volumes = self.storage.list().unwrap();
        all.extend(volumes.iter().map(|id| format!("volume {id}")));
        all.extend(self.groups().iter().map(|name| format!("group {name}")));
        let networks = self.network.list().await.unwrap();
        all.extend(
            networks
                .iter()
                .map(|held| format!("network {}", held.sandbox)),
        );
        all.extend(
            self.processes()
                .iter()
                .map(|(_, line)| format!("process {line}")),
        );
        all
    }

    fn volume(&self) -> Option<PathBuf> {
        let id = VolumeId::new();
        let owner = Ids::own().unwrap().on_disk(0).unwrap();
        let made = self.storage.create_shared(id, VOLUME_BYTES, (owner, owner));
        made.unwrap();
        Some(self.storage.shared(id).unwrap())
    }

    fn secrets(&self) -> Vec<PathBuf> {
        vec![self.data(), self.folder.join("image")]
    }
}

/// A test that failed half-way leaves sandboxes; the machine must not keep them.
impl Drop for Bed {
    fn drop(&mut self) {
        for name in self.groups() {
            let Ok(groups) = Cgroups::open(&self.cgroup_parent) else {
                return;
            };
            let group = groups.group(&name);
            while group
                .remove()
                .is_err_and(|error| error.kind() == std::io::ErrorKind::ResourceBusy)
            {
                drop(group.kill());
            }
        }
        drop(Cgroups::open(&self.cgroup_parent).and_then(Cgroups::close));
    }
}

/// The machine's `/usr` goes below it.
fn make_image(image: &Path) {
    for name in [
        "usr",
        "tmp",
        "etc",
        "proc",
        "sys",
        "dev",
        "root",
        "home/user",
    ] {
        fs::create_dir_all(image.join(name)).unwrap();
    }
    for name in ["bin", "lib", "lib64", "sbin"] {
        symlink(format!("usr/{name}"), image.join(name)).unwrap();
    }
    fs::write(
        image.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
    )
    .unwrap();
    fs::write(image.join("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
    symlink("/etc/passwd", image.join("etc/hostname")).unwrap();
}
