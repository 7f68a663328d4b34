//! A driver over a fresh folder and engine, and what must not be left behind.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use skerry_driver::conformance;
use skerry_driver::{Bind, Driver, Rootfs};
use skerry_driver_docker::{DockerDriver, Engine, Options};
use skerry_types::SandboxId;

use crate::service::Service;

/// What a test stands on.
pub(crate) struct Bed {
    folder: PathBuf,
    service: Service,
}

/// Runs a test over a new folder. `None`: it is left out, and said so.
pub(crate) fn test<T, F: Future<Output = T>>(body: impl FnOnce(Arc<Bed>) -> F) -> Option<T> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: Podman's service is tried as root");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(service) = Service::start(&folder.path().join("podman")) else {
        println!("SKIPPED: there is no podman");
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

impl Bed {
    pub(crate) async fn driver(&self) -> DockerDriver {
        DockerDriver::new(Options {
            data_dir: self.folder.join("data"),
            agent: skerry_agent_bin::AGENT,
            engine: Engine::at(&self.service.socket()).await.unwrap(),
            scope: "test".to_owned(),
        })
        .unwrap()
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
        let engines = ["/etc/hosts", "/etc/hostname", "/run/.containerenv"];
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
