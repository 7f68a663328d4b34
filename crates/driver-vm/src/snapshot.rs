//! Keeping a sandbox as it is at one instant: its disk, and with it its memory and devices.
//!
//! The disk is held still first, from inside, so that all that was written is on it: what is kept can be restored with its memory or without.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use skerry_driver::{DriverError, Extent, Rest, Snapshot};
use skerry_proto::guest::{Call, Freeze, Thaw};
use skerry_sys::pidfd::Identity;
use skerry_types::{SandboxId, SnapshotId};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::control;
use crate::create::{Laps, make_output};
use crate::driver::VmDriver;
use crate::error::{at, blocking};
use crate::keep::{self, Kept};
use crate::layout::{self, DEVICES, DEVICES_OUT, DISK, MEMORY};
use crate::live::{Live, Now};
use crate::memory::{FAR_AHEAD, LITTLE_AHEAD, Writing};
use crate::qmp::Monitor;
use crate::record::{Place, State};
use crate::still::Still;
use crate::{disk, memory};

/// Writing out takes as long as there is something to write.
const PATIENCE: Duration = Duration::from_mins(1);
/// To let its disk go on, for a machine that can run.
const LET_GO_PATIENCE: Duration = Duration::from_secs(5);
/// For a machine that stands until somebody makes room.
const NOBODY_WAITS: Duration = Duration::from_hours(1);
/// Who is gone by then, as what was only kept for a fork, need not be on the disk.
const SETTLE_AFTER: Duration = Duration::from_secs(5);
/// More than the devices of any machine of ours take. A QEMU that was taken over could write what it likes.
const MAX_DEVICES_BYTES: u64 = 16 << 20;
/// What a machine may change before it stands, and its devices.
const MARGIN_BYTES: u64 = 64 << 20;
const SAVE_MEMORY: &str = "save the memory";

/// What was taken of a sandbox, which runs on.
pub(crate) struct Taken {
    held: Duration,
    laps: Laps,
    /// Of its memory, as long as it goes on; and the room for much of it.
    writing: Option<(Writing, Option<OwnedSemaphorePermit>)>,
}

impl Taken {
    /// Waits until all of it is written.
    pub(crate) async fn write_out(&mut self) -> Result<(), DriverError> {
        if let Some((writing, _room)) = self.writing.take() {
            blocking(SAVE_MEMORY, move || writing.end()).await?;
            self.laps.lap("write the memory");
        }
        Ok(())
    }
}

/// The folder of a snapshot that is not whole yet: removed when dropped.
struct Half(Option<PathBuf>);

impl Half {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if let Some(folder) = &self.0
            && let Err(error) = layout::remove(folder)
        {
            let folder = folder.display();
            tracing::warn!(%folder, %error, "a snapshot that could not be made left something; it is listed");
        }
    }
}

impl VmDriver {
    /// Does something while nobody writes to the sandbox's disk. One that does not run needs no holding.
    pub(crate) async fn held_still<T>(
        &self,
        id: SandboxId,
        work: impl Future<Output = Result<T, DriverError>>,
    ) -> Result<T, DriverError> {
        let Some(live) = self.live(id) else {
            return work.await;
        };
        let turn = live.turn().await;
        if !matches!(live.now(), Now::Runs(_)) {
            return work.await;
        }
        let mut still = Still::begin(&self.records, id, turn)?;
        let place = Place::of(&self.records, id)?;
        self.hold_disk(id, &mut Monitor::connect(&place).await?)
            .await?;
        let done = work.await;
        let _at_once = self.let_go(id).await;
        still.over();
        done
    }

    /// Holds its disk still. Where the host's has no room for what is to be written first, the machine itself stands until there is.
    async fn hold_disk(&self, id: SandboxId, monitor: &mut Monitor) -> Result<(), DriverError> {
        let no_room = || DriverError::DiskFull("write out the sandbox's disk".to_owned());
        if monitor.stands_for_room().await? {
            return Err(no_room());
        }
        let held = tokio::select! {
            held = self.ask(id, Call::Freeze(Freeze {}), PATIENCE) => held.map(drop),
            stands = monitor.until_it_stands() => stands.and_then(|()| Err(no_room())),
        };
        if held.is_err() {
            // The guest comes to it later, when nobody waits any more.
            drop(self.letting_go(id)?);
        }
        held
    }

    /// Lets its disk go on. What could be done is done, so whoever asked for it waits no longer than a machine takes that can run: `false`.
    async fn let_go(&self, id: SandboxId) -> bool {
        let letting_go = match self.letting_go(id) {
            Ok(letting_go) => timeout(LET_GO_PATIENCE, letting_go).await,
            Err(error) => {
                tracing::error!(%id, %error, "its disk may be held for ever");
                return false;
            }
        };
        if letting_go.is_err() {
            tracing::warn!(%id, "its disk goes on later: the machine stands, or is slow");
        }
        letting_go.is_ok()
    }

    /// The same for one that stood, and its clock with it.
    async fn run_on(&self, id: SandboxId) {
        let set = async {
            let place = Place::of(&self.records, id)?;
            clock::set_right(&place).await
        };
        if self.let_go(id).await
            && let Err(error) = set.await
        {
            tracing::warn!(%id, %error, "its clock is behind");
        }
    }

    /// Has its disk go on as soon as the machine comes to that: it may stand until there is room on the host.
    fn letting_go(&self, id: SandboxId) -> Result<JoinHandle<()>, DriverError> {
        let place = Place::of(&self.records, id)?;
        Ok(tokio::spawn(async move {
            let let_go = control::ask(&place, Call::Thaw(Thaw {}), NOBODY_WAITS).await;
            if let Err(error) = let_go {
                tracing::warn!(%id, %error, "a sandbox's disk was not let go on");
            }
        }))
    }

    /// Keeps a snapshot, which is there when what this returns is done. Nothing of it is left if that fails.
    pub(crate) async fn keep(
        &self,
        id: SandboxId,
        snapshot: SnapshotId,
        extent: Extent,
    ) -> Result<Rest, DriverError> {
        let state = self.state(id)?;
        let folder = self.layout.snapshot(snapshot);
        layout::make_new(&folder).map_err(at("make the snapshot's folder"))?;
        let half = Half(Some(folder.clone()));
        let taken = match extent {
            Extent::Files => self.keep_files(id, &folder).await?,
            Extent::Memory => self.keep_all(id, &state, &folder).await?,
        };
        Ok(Box::pin(async move {
            let snapshot = finish(&folder, extent, state, taken).await?;
            half.keep();
            Ok(snapshot)
        }))
    }

    async fn keep_files(&self, id: SandboxId, folder: &Path) -> Result<Taken, DriverError> {
        let mut laps = Laps::start();
        let (from, to) = (self.layout.sandbox(id).join(DISK), folder.join(DISK));
        let began = Instant::now();
        let copy = blocking("copy the disk", move || disk::copy(&from, &to, 0o400));
        self.held_still(id, copy).await?;
        laps.lap("disk");
        Ok(Taken {
            held: began.elapsed(),
            laps,
            writing: None,
        })
    }

    pub(crate) async fn keep_all(
        &self,
        id: SandboxId,
        state: &State,
        folder: &Path,
    ) -> Result<Taken, DriverError> {
        let live = self.live(id).ok_or(DriverError::NotRunning(id))?;
        let turn = live.turn().await;
        let own = self.layout.sandbox(id);
        match live.now() {
            Now::Gone => Err(DriverError::NotRunning(id)),
            Now::OnDisk => copy_kept(own, folder.to_owned()).await,
            Now::Runs(_) => self.keep_running(id, state, folder, turn).await,
        }
    }

    /// Keeps a machine that runs, and lets it run on.
    async fn keep_running(
        &self,
        id: SandboxId,
        state: &State,
        folder: &Path,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Taken, DriverError> {
        let mut laps = Laps::start();
        let process = state.process.ok_or(DriverError::NotRunning(id))?;
        self.must_have_room(process).await?;
        let own = self.layout.sandbox(id);
        // What the machine began with is on disk already, and most of what it has.
        let (from, to) = (own.join(MEMORY), folder.join(MEMORY));
        let memory = blocking("copy the memory", move || disk::copy(&from, &to, 0o444)).await?;
        let mut still = Still::begin(&self.records, id, turn)?;
        let place = Place::of(&self.records, id)?;
        let mut monitor = Monitor::connect(&place).await?;
        laps.lap("memory it began with");
        let began = Instant::now();
        self.hold_disk(id, &mut monitor).await?;
        laps.lap("hold the disk");
        let read = self
            .stand_still(&mut monitor, process, state, folder, memory, &mut laps)
            .await;
        // Whatever happened: it goes on.
        let going = monitor.go_on().await;
        let held = began.elapsed();
        self.run_on(id).await;
        still.over();
        laps.lap("go on");
        let writing = going.and(read)?;
        Ok(Taken {
            held,
            laps,
            writing: Some(writing),
        })
    }

    /// Refuses what would not fit before the machine stands for it, which may be long where a disk fills up.
    async fn must_have_room(&self, process: Identity) -> Result<(), DriverError> {
        let storage = Arc::clone(&self.storage);
        let room = blocking("look for room", move || {
            let facts = storage.facts().map_err(io::Error::other)?;
            Ok((facts.free_bytes, memory::changed_at_most(process.pid)?))
        });
        let (free, changed) = room.await?;
        if free < changed + MARGIN_BYTES {
            let text = format!("keep up to {changed} bytes of its memory: {free} are free");
            return Err(DriverError::DiskFull(text));
        }
        Ok(())
    }

    /// The part for which the processors stand. What was read of the memory may still be written after it.
    async fn stand_still(
        &self,
        monitor: &mut Monitor,
        process: Identity,
        state: &State,
        folder: &Path,
        memory: File,
        laps: &mut Laps,
    ) -> Result<(Writing, Option<OwnedSemaphorePermit>), DriverError> {
        monitor.stop().await?;
        monitor.save_devices("/m/devices.out").await?;
        laps.lap("devices");
        let bytes = state.shape.memory_bytes();
        let room = Arc::clone(&self.far_ahead).try_acquire_owned().ok();
        let ahead = room.as_ref().map_or(LITTLE_AHEAD, |_| FAR_AHEAD);
        let read = move || memory::save_changes(process.pid, bytes, memory, ahead);
        let writing = blocking(SAVE_MEMORY, read).await?;
        laps.lap("read the memory");
        let own = self.layout.sandbox(state.spec.id);
        let (folder, uid) = (folder.to_owned(), state.uid);
        blocking("copy disk and devices", move || {
            disk::copy(&own.join(DISK), &folder.join(DISK), 0o400)?;
            keep_devices(&own, &folder, uid).map(drop)
        })
        .await?;
        laps.lap("disk");
        Ok((writing, room))
    }

    /// Pauses: keeps the machine in its own folder, and ends it.
    pub(crate) async fn to_disk(&self, id: SandboxId) -> Result<(), DriverError> {
        let state = self.state(id)?;
        let live = self.live(id).ok_or(DriverError::NotRunning(id))?;
        let turn = live.turn().await;
        match live.now() {
            Now::OnDisk => return Ok(()),
            Now::Gone => return Err(DriverError::NotRunning(id)),
            Now::Runs(_) => {}
        }
        let mut still = Still::begin(&self.records, id, turn)?;
        let paused = paused_folder(&self.layout.sandbox(id));
        let folder = paused.clone();
        blocking("make a folder", move || {
            layout::remove(&folder)?;
            layout::make_new(&folder)
        })
        .await?;
        let done = self.pause_into(id, &live, state, &paused, &mut still).await;
        still.over();
        if done.is_err() && !matches!(live.now(), Now::OnDisk) {
            let step = "remove what was written of its memory";
            blocking(step, move || layout::remove(&paused)).await?;
        }
        done
    }

    async fn pause_into(
        &self,
        id: SandboxId,
        live: &Live,
        mut state: State,
        paused: &Path,
        still: &mut Still,
    ) -> Result<(), DriverError> {
        let process = state.process.ok_or(DriverError::NotRunning(id))?;
        self.must_have_room(process).await?;
        let own = self.layout.sandbox(id);
        let (from, to) = (own.join(MEMORY), paused.join(MEMORY));
        let memory = blocking("copy the memory", move || disk::copy(&from, &to, 0o444)).await?;
        let place = Place::of(&self.records, id)?;
        let mut monitor = Monitor::connect(&place).await?;
        self.hold_disk(id, &mut monitor).await?;
        let (folder, uid, bytes) = (paused.to_owned(), state.uid, state.shape.memory_bytes());
        let stand = async {
            monitor.stop().await?;
            monitor.save_devices("/m/devices.out").await?;
            blocking(SAVE_MEMORY, move || {
                memory::save_changes(process.pid, bytes, memory, LITTLE_AHEAD)?
                    .end()?
                    .sync_all()?;
                File::open(own.join(DISK))?.sync_all()?;
                keep_devices(&own, &folder, uid)?.sync_all()
            })
            .await?;
            state.on_disk = true;
            let written = self.records.write(id, &state);
            written.map_err(at("write the record"))
        };
        if let Err(error) = stand.await {
            let _runs_on = monitor.go_on().await;
            self.run_on(id).await;
            return Err(error);
        }
        still.over();
        live.becomes(Now::OnDisk);
        live.cut();
        self.end_machine(id, Some(process)).await?;
        self.settle_paused(id, &mut state).await
    }

    /// Resumes: as after a restore, on the same disk.
    pub(crate) async fn wake_up(&self, id: SandboxId) -> Result<(), DriverError> {
        let mut state = self.state(id)?;
        let live = self.live(id).ok_or(DriverError::NotRunning(id))?;
        let _turn = live.turn().await;
        match live.now() {
            Now::Runs(_) => return Ok(()),
            Now::Gone => return Err(DriverError::NotRunning(id)),
            Now::OnDisk => {}
        }
        if let Err(error) = self.wake(id, &mut state).await {
            // It is as whole on disk as it was.
            self.end_machine(id, None).await?;
            return Err(error);
        }
        Ok(())
    }

    async fn wake(&self, id: SandboxId, state: &mut State) -> Result<(), DriverError> {
        // Where a pause was given up at its end.
        self.end_machine(id, state.process).await?;
        self.settle_paused(id, state).await?;
        self.check_engine(&state.shape).await?;
        let (folder, uid) = (self.layout.sandbox(id), state.uid);
        blocking("make room for devices", move || make_output(&folder, uid)).await?;
        let netns = self.netns(&state.spec).await?;
        state.facts.address = netns.as_ref().and_then(|netns| netns.address);
        let who = crate::create::identity(&state.spec, netns.as_ref());
        let begin = crate::machine::Begin::Restore;
        let started = self.launch(state, begin, netns).await?;
        self.first_words(id, Call::Renew(who), &started).await?;
        self.remember(state, started.process, started.pidfd)
    }

    /// Puts memory and devices of a paused machine, which has ended, in place of those it began with. Again: fine.
    pub(crate) async fn settle_paused(
        &self,
        id: SandboxId,
        state: &mut State,
    ) -> Result<(), DriverError> {
        let own = self.layout.sandbox(id);
        let paused = paused_folder(&own);
        blocking("put the machine in place", move || {
            if !paused.is_dir() {
                return Ok(());
            }
            for name in [MEMORY, DEVICES] {
                match fs::rename(paused.join(name), own.join(name)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            fs::remove_dir(paused)
        })
        .await?;
        state.process = None;
        self.records
            .write(id, state)
            .map_err(at("write the record"))
    }
}

/// Where a machine is while it is paused and has not ended yet.
fn paused_folder(own: &Path) -> PathBuf {
    own.join("paused")
}

/// Copies what is whole on disk already.
async fn copy_kept(own: PathBuf, folder: PathBuf) -> Result<Taken, DriverError> {
    let mut laps = Laps::start();
    blocking("copy the machine", move || {
        for name in [DISK, MEMORY, DEVICES] {
            disk::copy(&own.join(name), &folder.join(name), 0o444)?;
        }
        Ok(())
    })
    .await?;
    laps.lap("copy");
    Ok(Taken {
        held: Duration::ZERO,
        laps,
        writing: None,
    })
}

/// Begins to read what copies will use of the memory, beside everything else.
fn read_ahead(pid: u32, bytes: u64, memory: PathBuf) {
    tokio::task::spawn_blocking(move || {
        let read = File::open(&memory).and_then(|file| memory::read_ahead(pid, bytes, &file));
        if let Err(error) = read {
            tracing::debug!(%error, "memory that is not read ahead");
        }
    });
}

/// Has those snapshots on the disk that are still there then.
pub(crate) async fn settle_later(folders: Vec<PathBuf>) {
    sleep(SETTLE_AFTER).await;
    for folder in folders {
        let at = folder.clone();
        let settled = blocking("write out a snapshot", move || keep::settle(&at)).await;
        if let Err(error) = settled
            && folder.exists()
        {
            let folder = folder.display();
            tracing::warn!(%folder, %error, "a snapshot that a power cut would lose");
        }
    }
}

/// Takes what QEMU wrote, and leaves an empty file for the next time.
fn keep_devices(own: &Path, folder: &Path, uid: u32) -> io::Result<File> {
    let output = own.join(DEVICES_OUT);
    if fs::symlink_metadata(&output)?.len() > MAX_DEVICES_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let devices = disk::copy(&output, &folder.join(DEVICES), 0o444)?;
    make_output(own, uid)?;
    Ok(devices)
}

/// Writes down that it is whole, once it is.
async fn finish(
    folder: &Path,
    extent: Extent,
    state: State,
    mut taken: Taken,
) -> Result<Snapshot, DriverError> {
    taken.write_out().await?;
    if let Some(process) = state.process {
        read_ahead(process.pid, state.shape.memory_bytes(), folder.join(MEMORY));
    }
    let kept = Kept {
        extent,
        shape: state.shape,
        spec: state.spec,
    };
    let step = || at("write down the snapshot");
    kept.write(folder).map_err(step())?;
    tokio::spawn(settle_later(vec![folder.to_owned()]));
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(step())? {
        let meta = entry.and_then(|entry| entry.metadata()).map_err(step())?;
        bytes += meta.blocks() * 512;
    }
    Ok(Snapshot {
        held: taken.held,
        bytes,
        steps: taken.laps.steps(),
    })
}
