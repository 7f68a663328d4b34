//! A driver over a fresh folder and engine, and what must not be left behind.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use skerry_driver::conformance;
use skerry_driver::{Bind, Driver, NetworkMode, Privilege, Rootfs, Spec};
use skerry_driver_docker::{DockerDriver, Engine, Options};
use skerry_types::{Resources, SandboxId};

use crate::service::{Kind, Service};

/// The engine's folder, in a bed's.
const ENGINE: &str = "engine";

/// What a test stands on.
pub(crate) struct Bed {
    folder: PathBuf,
    service: Service,
}

/// Runs a test over a new folder and this engine. `None`: it is left out, and said so.
pub(crate) fn test<T, F: Future<Output = T>>(
    engine: Kind,
    body: impl FnOnce(Arc<Bed>) -> F,
) -> Option<T> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: engines are tried as root");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(service) = Service::start(engine, &folder.path().join(ENGINE)) else {
        println!("SKIPPED: there is no {engine:?}; `scripts/tools.sh docker` fetches Docker");
        return None;
    };
    make_image(&folder.path().join("image"));
    fs::create_dir(folder.path().join("data")).unwrap();
    let bed = Arc::new(Bed {
        folder: folder.path().to_owned(),
        service,
    });
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    Some(runtime.block_on(body(bed)))
}

/// A driver for the engine of a bed with this folder.
pub(crate) async fn driver_at(folder: &Path) -> DockerDriver {
    let socket = folder.join(ENGINE).join("socket");
    DockerDriver::new(Options {
        data_dir: folder.join("data"),
        agent: skerry_agent_bin::AGENT,
        engine: Engine::at(&socket).await.unwrap(),
        scope: "test".to_owned(),
    })
    .unwrap()
}

/// A small sandbox without network.
pub(crate) fn spec_at(folder: &Path) -> Spec {
    Spec {
        id: SandboxId::new(),
        resources: Resources::FREE_FORM,
        rootfs: rootfs_at(folder),
        privilege: Privilege::Restricted,
        network: NetworkMode::None,
        hostname: "island".to_owned(),
        volumes: Vec::new(),
    }
}

fn rootfs_at(folder: &Path) -> Rootfs {
    Rootfs {
        layers: vec![folder.join("image")],
        binds: vec![Bind {
            source: "/usr".into(),
            target: "/usr".into(),
        }],
    }
}

impl Bed {
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Behind the driver's back.
    pub(crate) async fn remove_all_containers(&self) {
        self.service.remove_all_containers().await;
    }
}

#[async_trait]
impl conformance::Bed for Bed {
    async fn driver(&self) -> Arc<dyn Driver> {
        Arc::new(driver_at(&self.folder).await)
    }

    fn rootfs(&self) -> Rootfs {
        rootfs_at(&self.folder)
    }

    async fn snapshot(&self, _made: &[SandboxId]) -> BTreeSet<String> {
        let records = fs::read_dir(self.folder.join("data/docker")).unwrap();
        let records = records.map(|entry| format!("record {}", entry.unwrap().path().display()));
        // The engine's copy of the image is for the next sandbox.
        let things = self.service.things().await;
        let things = things.into_iter().filter(|name| !name.contains("/image:"));
        records.chain(things).collect()
    }

    /// Where on the host a mount comes from is no secret to a container of any engine.
    fn secrets(&self) -> Vec<PathBuf> {
        vec![self.folder.join("image")]
    }

    fn shown(&self) -> Vec<PathBuf> {
        let engines = [
            "/etc/hosts",
            "/etc/hostname",
            "/etc/resolv.conf",
            "/run/.containerenv",
        ];
        let all = engines.into_iter().chain(["/.skerry"]);
        all.map(PathBuf::from).collect()
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
    fs::set_permissions(
        image.join("tmp"),
        std::os::unix::fs::PermissionsExt::from_mode(0o1777),
    )
    .unwrap();
    for name in ["bin", "lib", "lib64", "sbin"] {
        symlink(format!("usr/{name}"), image.join(name)).unwrap();
    }
    let users = "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
    fs::write(image.join("etc/passwd"), users).unwrap();
    fs::write(image.join("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
}
