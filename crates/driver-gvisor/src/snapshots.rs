//! Snapshots: a volume that no sandbox has, and where there is memory, the image that `runsc` wrote of it.
//!
//! The folder `gvisor-snapshots/<label>` is made before anything else of a snapshot and removed after everything else; `whole` in it is written
//! last. The image is at `gvisor-memory/<label>`, beside the pool if there is one.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skerry_driver::{DriverError, Extent, NetworkMode, Privilege, Snapshot, Spec, blocking};
use skerry_storage::Storage;
use skerry_sys::cgroup::Group;
use skerry_sys::folder;
use skerry_types::{SandboxId, SnapshotId};
use tokio::sync::OwnedMutexGuard;

use crate::driver::GvisorDriver;
use crate::laps::Laps;
use crate::live::{Now, Running};
use crate::record::remove_folder;
use crate::start::{Memory, Source, storage_error};

const WHOLE: &str = "whole";
/// No program writes to a snapshot, so nothing needs to bound it.
const NO_LIMIT: u64 = 1 << 50;

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    extent: Extent,
    privilege: Privilege,
    network: NetworkMode,
    /// The name of the agent's program that ran.
    agent: String,
    /// The release of `runsc` that wrote the memory.
    runsc: String,
}

/// The folders of all snapshots.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    root: PathBuf,
    memories: PathBuf,
}

impl Snapshots {
    /// Removes the memory of those that are not known: a machine that lost power may have it on one disk, and nothing on the other.
    pub(crate) fn open(storage: &Storage) -> Result<Self, DriverError> {
        let failed = || DriverError::step("open the snapshots");
        let snapshots = Self {
            root: storage.own_folder("gvisor-snapshots").map_err(failed())?,
            memories: storage.folder_beside("gvisor-memory").map_err(failed())?,
        };
        let forgotten = snapshots.forget_lost();
        forgotten.map_err(DriverError::step("remove memory that nobody knows"))?;
        Ok(snapshots)
    }

    fn forget_lost(&self) -> io::Result<()> {
        let known = self.list()?;
        let kept: Vec<SnapshotId> = folder::names(&self.memories, "")?;
        let mut lost = kept.into_iter().filter(|id| !known.contains(id));
        lost.try_for_each(|id| remove_folder(&self.image(id)))
    }

    fn folder(&self, id: SnapshotId) -> PathBuf {
        self.root.join(id.label())
    }

    /// Where its memory is.
    pub(crate) fn image(&self, id: SnapshotId) -> PathBuf {
        self.memories.join(id.label())
    }

    fn begin(&self, id: SnapshotId) -> io::Result<()> {
        let mut folder = DirBuilder::new();
        folder.mode(0o700).create(self.folder(id))?;
        folder.create(self.image(id))
    }

    fn finish(&self, id: SnapshotId, origin: &Origin) -> io::Result<()> {
        fs::write(self.folder(id).join(WHOLE), serde_json::to_vec(origin)?)
    }

    /// `None`: it is not there, or was never finished.
    fn origin(&self, id: SnapshotId) -> io::Result<Option<Origin>> {
        match fs::read(self.folder(id).join(WHOLE)) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn image_bytes(&self, id: SnapshotId) -> io::Result<u64> {
        bytes_in(&self.image(id))
    }

    fn remove(&self, id: SnapshotId) -> io::Result<()> {
        remove_folder(&self.image(id))?;
        remove_folder(&self.folder(id))
    }

    pub(crate) fn list(&self) -> io::Result<Vec<SnapshotId>> {
        folder::names(&self.root, "")
    }
}

fn bytes_in(folder: &Path) -> io::Result<u64> {
    let files = fs::read_dir(folder)?;
    files.map(|file| Ok(file?.metadata()?.len())).sum()
}

/// The volume of a snapshot.
pub(crate) fn volume_of(id: SnapshotId) -> SandboxId {
    SandboxId::from_uuid(id.uuid())
}

impl GvisorDriver {
    /// Keeps a snapshot; nothing of it is left if that fails.
    pub(crate) async fn keep(
        &self,
        id: SandboxId,
        snapshot: SnapshotId,
        extent: Extent,
    ) -> Result<Snapshot, DriverError> {
        let state = self.state(id)?;
        let origin = Origin {
            extent,
            privilege: state.spec.privilege,
            network: state.spec.network,
            agent: state.agent.clone(),
            runsc: self.tool.version().to_owned(),
        };
        let snapshots = self.snapshots.clone();
        blocking("begin the snapshot", move || snapshots.begin(snapshot)).await?;
        let mut laps = Laps::start();
        let kept = self.keep_extent(id, snapshot, extent, &mut laps).await;
        laps.lap("files");
        let held = laps.total();
        match kept {
            Ok(()) => self.finish(snapshot, origin, held, laps).await,
            Err(error) => self.forget(snapshot).await.and(Err(error)),
        }
    }

    async fn keep_extent(
        &self,
        id: SandboxId,
        snapshot: SnapshotId,
        extent: Extent,
        laps: &mut Laps,
    ) -> Result<(), DriverError> {
        let Some(live) = self.live(id) else {
            return match extent {
                Extent::Files => self.keep_files(id, snapshot, None).await,
                Extent::Memory => Err(DriverError::NotRunning(id)),
            };
        };
        let turn = live.turn().await;
        match (live.now(), extent) {
            (Now::Runs(_), Extent::Files) => {
                let running = Some((self.group(id), turn));
                self.keep_files(id, snapshot, running).await
            }
            (Now::Runs(running), Extent::Memory) => {
                self.keep_memory(id, snapshot, (&running, turn), laps).await
            }
            (Now::OnDisk, Extent::Memory) => {
                self.copy_memory(id, snapshot).await?;
                laps.lap("memory");
                self.keep_files(id, snapshot, None).await
            }
            (Now::Gone, Extent::Memory) => Err(DriverError::NotRunning(id)),
            (Now::OnDisk | Now::Gone, Extent::Files) => self.keep_files(id, snapshot, None).await,
        }
    }

    async fn keep_files(
        &self,
        id: SandboxId,
        snapshot: SnapshotId,
        running: Option<(Group, OwnedMutexGuard<()>)>,
    ) -> Result<(), DriverError> {
        let volume = volume_of(snapshot);
        let copied = self.copy_volume(id, running, volume, NO_LIMIT);
        copied.await.map(drop)
    }

    /// Between memory and files nothing runs but the agent, which holds the others and hears nobody: so both are of one instant.
    async fn keep_memory(
        &self,
        id: SandboxId,
        snapshot: SnapshotId,
        (running, turn): (&Running, OwnedMutexGuard<()>),
        laps: &mut Laps,
    ) -> Result<(), DriverError> {
        let closed = running.exchange.close().await;
        let closed = closed.map_err(DriverError::step("let the agent hang up"))?;
        laps.lap("link");
        let written = self.checkpoint(id, self.snapshots.image(snapshot)).await;
        laps.lap("memory");
        let kept = match written {
            Ok(()) => {
                self.keep_files(id, snapshot, Some((self.group(id), turn)))
                    .await
            }
            Err(error) => Err(error),
        };
        let reopened = closed.reopen();
        kept.and(reopened.map_err(DriverError::step("listen for the agent")))
    }

    /// That of a sandbox that is paused.
    async fn copy_memory(&self, id: SandboxId, snapshot: SnapshotId) -> Result<(), DriverError> {
        let from = self.folder(id).memory();
        let to = self.snapshots.image(snapshot);
        let bytes = bytes_in(&from).map_err(DriverError::step("measure its memory"))?;
        let room = self.storage.room(bytes);
        let _room = room.map_err(storage_error("keep room for its memory"))?;
        blocking("copy its memory", move || {
            for file in fs::read_dir(from)? {
                let file = file?;
                fs::copy(file.path(), to.join(file.file_name()))?;
            }
            Ok(())
        })
        .await
    }

    async fn finish(
        &self,
        snapshot: SnapshotId,
        origin: Origin,
        held: Duration,
        laps: Laps,
    ) -> Result<Snapshot, DriverError> {
        let (snapshots, storage) = (self.snapshots.clone(), Arc::clone(&self.storage));
        let bytes = blocking("finish the snapshot", move || {
            snapshots.finish(snapshot, &origin)?;
            let files = storage
                .usage(volume_of(snapshot))
                .map_err(io::Error::other)?;
            Ok(files + snapshots.image_bytes(snapshot)?)
        });
        Ok(Snapshot {
            held,
            bytes: bytes.await?,
            steps: laps.end(),
        })
    }

    /// Removes the volume, then the folder.
    pub(crate) async fn forget(&self, snapshot: SnapshotId) -> Result<(), DriverError> {
        let (storage, snapshots) = (Arc::clone(&self.storage), self.snapshots.clone());
        let removed = tokio::task::spawn_blocking(move || {
            storage
                .destroy(volume_of(snapshot))
                .map_err(storage_error("remove the snapshot"))?;
            snapshots
                .remove(snapshot)
                .map_err(DriverError::step("remove the snapshot's folder"))
        });
        let removed = removed.await;
        removed.map_err(DriverError::step("remove the snapshot"))?
    }

    /// What a sandbox from this snapshot starts from.
    pub(crate) fn source_of(&self, from: SnapshotId, spec: &Spec) -> Result<Source, DriverError> {
        let origin = self.snapshots.origin(from);
        let origin = origin.map_err(DriverError::step("read the snapshot"))?;
        let origin = origin.ok_or(DriverError::NoSnapshot(from))?;
        if origin.extent == Extent::Files {
            let parent = volume_of(from);
            return Ok(Source::Fork { parent });
        }
        if (origin.privilege, origin.network) != (spec.privilege, spec.network) {
            let text = "a snapshot with memory is restored with the level and the network that it was made with";
            return Err(DriverError::Unsupported(text.to_owned()));
        }
        let runsc = self.tool.version();
        if origin.runsc != runsc {
            let text = format!(
                "its memory was kept by runsc {}, and this is {runsc}",
                origin.runsc
            );
            return Err(DriverError::Unsupported(text));
        }
        let image = self.snapshots.image(from);
        let agent = origin.agent;
        Ok(Source::Memory {
            snapshot: from,
            memory: Memory { image, agent },
        })
    }
}
