//! A driver over a fresh folder, and the proof that it leaves nothing behind.

use std::ffi::OsString;
use std::fs;
use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use skerry_driver::{Bind, Driver, Instance, NetworkMode, Privilege, Rootfs, Spec};
use skerry_driver_ns::memory::Tool;
use skerry_driver_ns::{NsDriver, Options};
use skerry_net::Network;
use skerry_storage::Storage;
use skerry_sys::cgroup::Cgroups;
use skerry_sys::idmap::Ids;
use skerry_sys::mount;
use skerry_types::{Resources, SandboxId};

use crate::agent::Agent;

pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_skerry-ns-helper");

pub(crate) struct Bed {
    pub(crate) storage: Arc<Storage>,
    folder: PathBuf,
    pub(crate) cgroup_parent: String,
    made: Mutex<Vec<SandboxId>>,
}

/// Runs a test over a new folder.
pub(crate) fn test<F: Future<Output = ()>>(body: impl FnOnce(Bed) -> F) {
    let folder = tempfile::tempdir().unwrap();
    test_in(folder.path(), body);
}

/// Runs a test on a thread that has a mount namespace of its own, so that a storage pool shows nowhere else.
pub(crate) fn test_in<F: Future<Output = ()>>(folder: &Path, body: impl FnOnce(Bed) -> F) {
    if is_root() {
        mount::own_namespace().unwrap();
    }
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(async { body(Bed::at(folder)).await });
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Bed {
    fn at(folder: &Path) -> Self {
        let data = folder.join("data");
        if !data.exists() {
            make_image(&folder.join("image"));
            fs::create_dir(&data).unwrap();
        }
        // In a control group of its own, since the tests of one run share a process.
        let name = folder.file_name().unwrap().to_str().unwrap();
        let storage = Storage::open(&data, &skerry_storage::Options::default()).unwrap();
        Self {
            storage: Arc::new(storage),
            folder: folder.to_owned(),
            cgroup_parent: format!("skerry/test-{name}"),
            made: Mutex::default(),
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where the driver keeps its records.
    pub(crate) fn records(&self) -> PathBuf {
        self.storage.facts().unwrap().path.join("run")
    }

    pub(crate) async fn driver(&self) -> NsDriver {
        self.driver_with(HELPER.as_ref(), None).await
    }

    pub(crate) async fn driver_with(&self, spawner: &Path, network: Option<Network>) -> NsDriver {
        let options = Options {
            data_dir: self.data(),
            agent: skerry_agent_bin::AGENT,
            // The folder means nothing to the spawner; it tells whose it is.
            spawner_command: vec![OsString::from(spawner), self.data().into()],
            criu: Tool::find().await.ok(),
            storage: Arc::clone(&self.storage),
            network,
            cgroup_parent: self.cgroup_parent.clone(),
            first_id: Options::FIRST_ID,
            why_one_id: None,
        };
        NsDriver::new(options).await.unwrap()
    }

    /// A gateway of this bed's own. To be stopped.
    pub(crate) async fn network(&self) -> Network {
        let options = skerry_net::Options {
            command: vec![HELPER.into(), "gateway".into()],
            dir: self.path("network"),
            config: skerry_net::Config::default(),
        };
        Network::start(options).await.unwrap()
    }

    pub(crate) fn spec(&self) -> Spec {
        let id = SandboxId::new();
        self.made.lock().push(id);
        Spec {
            id,
            resources: Resources::FREE_FORM,
            rootfs: Rootfs {
                layers: vec![self.path("image")],
                binds: vec![Bind {
                    source: "/usr".into(),
                    target: "/usr".into(),
                }],
            },
            privilege: Privilege::Restricted,
            network: NetworkMode::None,
            hostname: "island".to_owned(),
            volumes: Vec::new(),
        }
    }

    pub(crate) fn spec_root(&self) -> Spec {
        Spec {
            privilege: Privilege::Root,
            ..self.spec()
        }
    }

    /// Nothing of any sandbox is left: no record, volume, control group or process.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        let records = fs::read_dir(self.records()).unwrap();
        assert_eq!(records.count(), 0, "a record is left");
        assert_eq!(self.storage.list().unwrap(), [], "a volume is left");
        assert_eq!(
            self.groups(),
            Vec::<String>::new(),
            "a control group is left"
        );
        assert_eq!(self.agents(), Vec::<u32>::new(), "an agent is left");
    }

    fn groups(&self) -> Vec<String> {
        Cgroups::open(&self.cgroup_parent).map_or(Vec::new(), |groups| groups.names().unwrap())
    }

    /// Agents of sandboxes that this bed made; the machine may run others.
    fn agents(&self) -> Vec<u32> {
        let label = |id: &SandboxId| format!("skerry-agent:{}", id.label());
        let ours: Vec<String> = self.made.lock().iter().map(label).collect();
        let is_ours = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.split('\0')
                .next()
                .is_some_and(|name| ours.iter().any(|our| our == name))
        };
        let names = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name());
        let pids = names.filter_map(|name| name.to_str()?.parse().ok());
        pids.filter(is_ours).collect()
    }
}

pub(crate) async fn create(driver: &NsDriver, spec: &Spec) -> (Instance, Agent) {
    let made = driver.create(spec).await.unwrap();
    let link = driver.connect(spec.id).await.unwrap();
    (made, Agent::new(link).await)
}

/// A test that failed half-way leaves sandboxes; the machine must not keep them.
impl Drop for Bed {
    fn drop(&mut self) {
        for pid in self.agents() {
            kill(pid);
        }
        let Ok(groups) = Cgroups::open(&self.cgroup_parent) else {
            return;
        };
        for group in groups.names().unwrap_or_default() {
            let group = groups.group(&group);
            while group
                .remove()
                .is_err_and(|e| e.kind() == ErrorKind::ResourceBusy)
            {
                drop(group.kill());
            }
        }
        drop(groups.close());
    }
}

/// Kills a process of this test; one that is gone already is as good.
pub(crate) fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(pid as i32);
    let _: Result<(), _> = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
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
    let ids = Ids::own().unwrap();
    give(image, ids.on_disk(0));
    give(&image.join("home/user"), ids.on_disk(1000));
}

/// Gives a folder and what is in it to an id, if there is more than one.
fn give(path: &Path, owner: Option<u32>) {
    let Some(owner) = owner else { return };
    lchown(path, Some(owner), Some(owner)).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), Some(owner));
        }
    }
}
