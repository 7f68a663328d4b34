//! What sandboxes share: base disks, blank disks, a machine of each shape that has booted and waits to be told what to be, and a sandbox of each kind
//! that nobody has used.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skerry_driver::{Driver, DriverError, NetworkMode, Privilege, Rootfs, Spec};
use skerry_proto::guest::{Call, Ping};
use skerry_sys::folder;
use skerry_types::{Resources, SandboxId};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::base::Base;
use crate::create::{Source, make_output};
use crate::disk;
use crate::driver::VmDriver;
use crate::engine::digest;
use crate::error::{at, blocking};
use crate::keep::Kept;
use crate::layout::{self, DEVICES, DEVICES_OUT, DISK, MEMORY};
use crate::machine::{Begin, Shape};
use crate::memory::{self, LITTLE_AHEAD};
use crate::qmp::Monitor;
use crate::record::Place;

/// Templates that are kept; sandboxes that began with one that is not go on with what they have of it.
const MAX_TEMPLATES: usize = 16;
/// Base disks that are kept beside those that are needed.
const MAX_BASES: usize = 8;
/// How long a create waits for a base disk; it must still have time to boot from it.
const BASE_PATIENCE: Duration = Duration::from_secs(18);
const STILL_MAKING: &str = "the disk that virtual machines of this image share is still being made, which is done once and takes seconds for each \
    100 MiB; ask again soon";
/// A machine that is translated beside busy others takes a while.
const BOOT_PATIENCE: Duration = Duration::from_mins(2);
/// The host name of whoever is a sandbox only to be copied.
const NOBODY: &str = "template";
/// The disk of a machine that has none to write.
const NO_DISK_BYTES: u64 = 1 << 20;

/// What is made once for many: each by one at a time.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    base: Arc<tokio::sync::Mutex<()>>,
    /// Of blank disks and booted machines.
    boot: tokio::sync::Mutex<()>,
    model: tokio::sync::Mutex<()>,
}

impl VmDriver {
    /// The base disk of an image, made if it is missing. One that is large is made on after nobody waits any more.
    pub(crate) async fn base(&self, rootfs: &Rootfs) -> Result<Base, DriverError> {
        let layers = rootfs.layers.clone();
        let base = blocking("look at the image", move || Base::of(&layers)).await?;
        let disk = self.layout.base(&base.key);
        let there = async {
            if disk.is_file() {
                return Ok(());
            }
            let turn = Arc::clone(&self.turns.base).lock_owned().await;
            if disk.is_file() {
                return Ok(());
            }
            self.forget_old_bases().await?;
            let (layout, launcher) = (self.layout.clone(), self.launcher.clone());
            let base = base.clone();
            let work = tokio::spawn(async move {
                let _one_at_a_time = turn;
                base.make(&layout, &launcher).await
            });
            let step = "make the base disk";
            work.await
                .map_err(DriverError::step(step))?
                .map_err(at(step))
        };
        match timeout(BASE_PATIENCE, there).await {
            Ok(there) => there.map(|()| base),
            Err(_) => Err(DriverError::Unavailable(STILL_MAKING.to_owned())),
        }
    }

    /// A formatted disk of this size.
    pub(crate) async fn blank(&self, mib: u32) -> Result<PathBuf, DriverError> {
        let path = self.layout.blank(mib);
        if path.is_file() {
            return Ok(path);
        }
        let _one_at_a_time = self.turns.boot.lock().await;
        blocking("format a disk", move || {
            if !path.is_file() {
                disk::format(&path, mib.into())?;
            }
            Ok(path)
        })
        .await
    }

    /// The folder of a machine of this shape, booted if there is none.
    pub(crate) async fn template(&self, shape: &Shape) -> Result<PathBuf, DriverError> {
        let text = serde_json::to_vec(shape).map_err(DriverError::step("name the template"))?;
        let folder = self.layout.template(&shape.base, &digest(&[&text]));
        if folder.is_dir() {
            return Ok(folder);
        }
        let _one_at_a_time = self.turns.boot.lock().await;
        if folder.is_dir() {
            return Ok(folder);
        }
        self.forget_old_templates().await?;
        let spec = nobody(shape);
        self.begin_record(spec.id)?;
        let booted = self.boot(&spec, shape, &folder).await;
        let removed = self.remove(spec.id).await;
        booted.and(removed).map(|()| folder)
    }

    /// Boots a machine that is no sandbox, and keeps it.
    async fn boot(&self, spec: &Spec, shape: &Shape, into: &Path) -> Result<(), DriverError> {
        let state = self.new_state(spec, shape.clone())?;
        self.records
            .write(spec.id, &state)
            .map_err(at("write the record"))?;
        let own = self.layout.sandbox(spec.id);
        layout::make_new(&own).map_err(at("make the template's folder"))?;
        let (folder, uid, bytes) = (own.clone(), state.uid, shape.memory_bytes());
        blocking("place the template", move || {
            File::create(folder.join(MEMORY))?.set_len(bytes)?;
            fs::set_permissions(folder.join(MEMORY), fs::Permissions::from_mode(0o444))?;
            let disk = folder.join(DISK);
            File::create(&disk)?.set_len(NO_DISK_BYTES)?;
            std::os::unix::fs::chown(disk, Some(uid), Some(uid))?;
            make_output(&folder, uid)
        })
        .await?;
        let netns = self.netns(spec).await?;
        let started = self.launch(&state, Begin::Boot, netns).await?;
        let pid = started.process.pid;
        let mut state = state;
        let ready = self.ask(spec.id, Call::Ping(Ping {}), BOOT_PATIENCE).await;
        ready.map_err(|error| {
            let said = std::io::Error::other(format!("{error}; QEMU says: {}", started.log.text()));
            DriverError::step("boot the machine")(said)
        })?;
        self.remember(&mut state, started.process, started.pidfd)?;
        let place = Place::of(&self.records, spec.id)?;
        let mut monitor = Monitor::connect(&place).await?;
        monitor.stop().await?;
        monitor.save_devices("/m/devices.out").await?;
        let into = into.to_owned();
        let keep = move || match publish(&own, &into, pid, bytes) {
            Err(error) if error.kind() == ErrorKind::StorageFull => {
                disk::settle(&own)?;
                publish(&own, &into, pid, bytes)
            }
            kept => kept,
        };
        blocking("keep the machine", keep).await
    }

    /// The folder of a sandbox like this one that nobody has used. A new one is a copy of it: so little is done in it where instructions are
    /// translated, which is slow the first time in each machine.
    pub(crate) async fn model(&self, spec: &Spec, shape: &Shape) -> Result<PathBuf, DriverError> {
        let kind = serde_json::to_vec(&(shape, spec.resources, spec.privilege));
        let kind = kind.map_err(DriverError::step("name the model"))?;
        let folder = self.layout.template(&shape.base, &digest(&[&kind]));
        if folder.is_dir() {
            return Ok(folder);
        }
        let _one_at_a_time = self.turns.model.lock().await;
        if folder.is_dir() {
            return Ok(folder);
        }
        self.forget_old_templates().await?;
        let nobody = Spec {
            id: SandboxId::new(),
            hostname: NOBODY.to_owned(),
            ..spec.clone()
        };
        Box::pin(self.begin(&nobody, Source::Bare)).await?;
        let kept = self.keep_model(nobody.id, &folder).await;
        let removed = self.remove(nobody.id).await;
        kept.and(removed).map(|()| folder)
    }

    async fn keep_model(&self, id: SandboxId, into: &Path) -> Result<(), DriverError> {
        // Once it has spoken, its agent waits and does nothing else.
        let mut link = self.connect(id).await?;
        let spoke = timeout(BOOT_PATIENCE, link.read_u8()).await;
        spoke
            .map_err(|_| DriverError::TooSlow(BOOT_PATIENCE.as_secs()))?
            .map_err(at("hear the agent"))?;
        let (new, into) = (into.with_extension("new"), into.to_owned());
        layout::remove(&new).map_err(at("remove half a model"))?;
        layout::make_new(&new).map_err(at("make the model's folder"))?;
        let mut taken = self.keep_all(id, &self.state(id)?, &new).await?;
        taken.write_out().await?;
        let publish = move || folder::publish(&new, &into);
        blocking("put the model in place", publish).await
    }

    async fn forget_old_templates(&self) -> Result<(), DriverError> {
        let folder = self.layout.templates();
        let remove = move || layout::keep_newest(&folder, MAX_TEMPLATES - 1, |_| false);
        blocking("remove old templates", remove).await
    }

    /// Those of images that nothing is made of any more.
    async fn forget_old_bases(&self) -> Result<(), DriverError> {
        let (layout, records) = (self.layout.clone(), self.records.clone());
        blocking("remove old base disks", move || {
            let mut needed = HashSet::new();
            for id in records.list()? {
                needed.extend(records.read(id)?.map(|state| state.shape.base));
            }
            for id in layout.snapshots()? {
                // Half-made ones need nothing.
                let kept = Kept::read(&layout.snapshot(id)).ok();
                needed.extend(kept.map(|kept| kept.shape.base));
            }
            layout::keep_newest(&layout.bases(), MAX_BASES - 1, |name| needed.contains(name))
        })
        .await
    }
}

/// Writes a machine that stands still to where it will be found.
fn publish(own: &Path, into: &Path, pid: u32, bytes: u64) -> std::io::Result<()> {
    let new = into.with_extension("new");
    layout::remove(&new)?;
    layout::make_new(&new)?;
    let memory = disk::copy(&own.join(MEMORY), &new.join(MEMORY), 0o444)?;
    memory::save_changes(pid, bytes, memory, LITTLE_AHEAD)?.end()?;
    disk::copy(&own.join(DEVICES_OUT), &new.join(DEVICES), 0o444)?;
    folder::publish(&new, into)
}

/// Who a machine is that has booted and was told nothing.
pub(crate) fn nobody(shape: &Shape) -> Spec {
    Spec {
        id: SandboxId::new(),
        resources: Resources {
            vcpus: shape.vcpus,
            memory_mb: shape.memory_mb,
            ..Resources::FREE_FORM
        },
        rootfs: Rootfs {
            layers: Vec::new(),
            binds: Vec::new(),
        },
        privilege: Privilege::Restricted,
        network: if shape.network {
            NetworkMode::Nat
        } else {
            NetworkMode::None
        },
        hostname: NOBODY.to_owned(),
        volumes: Vec::new(),
    }
}
