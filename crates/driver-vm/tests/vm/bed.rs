//! A driver over a fresh folder.

use std::ffi::OsString;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skerry_driver::{NetworkMode, Privilege, Rootfs, Spec};
use skerry_driver_vm::{Options, Programs, Tools, VmDriver};
use skerry_net::Network;
use skerry_storage::Storage;
use skerry_sys::cgroup::Cgroups;
use skerry_sys::mount;
use skerry_types::{Resources, SandboxId};

pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_skerry-vm-helper");

/// See the module.
pub(crate) struct Bed {
    pub(crate) storage: Arc<Storage>,
    pub(crate) folder: PathBuf,
    pub(crate) cgroup_parent: String,
    tools: Tools,
}

/// Runs a test over a new folder.
pub(crate) fn test<F: Future<Output = ()>>(body: impl FnOnce(Bed) -> F) {
    let folder = tempfile::tempdir().unwrap();
    test_in(folder.path(), body);
}

/// Runs a test on a thread that has a mount namespace of its own, so that a storage pool shows nowhere else.
pub(crate) fn test_in<F: Future<Output = ()>>(folder: &Path, body: impl FnOnce(Bed) -> F) {
    test_on(folder, &skerry_storage::Options::default(), body);
}

/// Runs a test on storage like this.
pub(crate) fn test_on<F: Future<Output = ()>>(
    folder: &Path,
    storage: &skerry_storage::Options,
    body: impl FnOnce(Bed) -> F,
) {
    let Some(tools) = tools() else {
        println!("left out: run scripts/tools.sh qemu kernel first");
        return;
    };
    if !rustix::process::geteuid().is_root() {
        println!("left out: driver vm needs root");
        return;
    }
    mount::own_namespace().unwrap();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(async { body(Bed::at(folder, storage, tools)).await });
}

/// A small restricted sandbox without network.
pub(crate) fn spec() -> Spec {
    Spec {
        id: SandboxId::new(),
        resources: Resources::FREE_FORM,
        rootfs: Bed::rootfs(),
        privilege: Privilege::Restricted,
        network: NetworkMode::None,
        hostname: "island".to_owned(),
        volumes: Vec::new(),
    }
}

/// Where `scripts/tools.sh` put them.
fn tools() -> Option<Tools> {
    let tools = Tools::find();
    let unpacked = |tree: &Path| tree != Path::new("/");
    (unpacked(&tools.qemu) && unpacked(&tools.kernel)).then_some(tools)
}

/// The files of an image.
pub(crate) fn root() -> PathBuf {
    skerry_testkit::root::small(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}

impl Bed {
    fn at(folder: &Path, storage: &skerry_storage::Options, tools: Tools) -> Self {
        let data = folder.join("data");
        fs::create_dir_all(&data).unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap();
        let storage = Storage::open(&data, storage).unwrap();
        Self {
            storage: Arc::new(storage),
            folder: folder.to_owned(),
            cgroup_parent: format!("skerry/test-vm-{name}"),
            tools,
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) async fn driver(&self, network: Option<Network>) -> VmDriver {
        let options = Options {
            data_dir: self.data(),
            programs: Programs {
                agent: skerry_agent_bin::AGENT,
                guest: skerry_agent_bin::GUEST,
            },
            launcher_command: vec![OsString::from(HELPER)],
            tools: self.tools.clone(),
            storage: Arc::clone(&self.storage),
            network,
            cgroup_parent: self.cgroup_parent.clone(),
            first_uid: Options::FIRST_UID,
        };
        VmDriver::new(options).await.unwrap()
    }

    /// Nothing of any sandbox is left: no record, files, control group or process.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        let own = self.storage.own_folder("vm").unwrap();
        for folder in [
            self.data().join("vm/run"),
            own.join("sandbox"),
            own.join("snapshot"),
        ] {
            let left = fs::read_dir(&folder).unwrap().count();
            assert_eq!(left, 0, "left in {}", folder.display());
        }
        let groups = Cgroups::open(&self.cgroup_parent).map_or(Vec::new(), |g| g.names().unwrap());
        assert_eq!(groups, Vec::<String>::new(), "a control group is left");
    }

    /// A gateway of this bed's own. To be stopped.
    pub(crate) async fn network(&self) -> Network {
        let options = skerry_net::Options {
            command: vec![HELPER.into(), "gateway".into()],
            dir: self.folder.join("network"),
            config: skerry_net::Config::default(),
        };
        Network::start(options).await.unwrap()
    }

    pub(crate) fn rootfs() -> Rootfs {
        Rootfs {
            layers: vec![root()],
            binds: Vec::new(),
        }
    }
}

/// A test that failed half-way leaves machines; the host must not keep them.
impl Drop for Bed {
    fn drop(&mut self) {
        let Ok(groups) = Cgroups::open(&self.cgroup_parent) else {
            return;
        };
        for group in groups.names().unwrap_or_default() {
            let group = groups.group(&group);
            while group
                .remove()
                .is_err_and(|e| e.kind() == std::io::ErrorKind::ResourceBusy)
            {
                drop(group.kill());
            }
        }
        drop(groups.close());
    }
}
