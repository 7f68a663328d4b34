//! What the journals of all sandboxes may take of the disk together, and who has to do with less when it is scarce.
//!
//! Those of deleted sandboxes go first, the oldest before the others, but small ones not before large ones. Those of sandboxes that are still
//! there share half of it: once they take that, only who takes less than an equal share goes on. When they take all of it, nothing new is begun.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;
use rustix::fs::statvfs;
use skerry_journal::Meter;
use skerry_types::{Error, ErrorCode, SandboxId};
use tokio::sync::mpsc;

/// The share of the disk unless a budget is given, and its bounds.
const SHARE: u64 = 10;
const MIN_DEFAULT_BYTES: u64 = 1 << 30;
const MAX_DEFAULT_BYTES: u64 = 20 << 30;
/// Left on the disk for what the server itself must write: no output is recorded below it.
const FLOOR_BYTES: u64 = 64 << 20;

/// The budget that a disk gives to journals if nobody says otherwise, in bytes.
pub fn default_budget(data_dir: &Path) -> io::Result<u64> {
    let disk = statvfs(data_dir)?;
    let share = disk.f_blocks * disk.f_frsize / SHARE;
    Ok(share.clamp(MIN_DEFAULT_BYTES, MAX_DEFAULT_BYTES))
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Budget {
    root: PathBuf,
    limit: u64,
    /// Journals of sandboxes that are not deleted.
    pub(crate) live: Meter,
    ended: Mutex<Ended>,
    /// Says that something should be removed.
    exceeded: mpsc::Sender<()>,
}

/// Journals of deleted sandboxes, by the time of their last record.
#[derive(Debug, Default)]
struct Ended {
    oldest: BTreeSet<(SystemTime, SandboxId, u64)>,
    bytes: u64,
}

impl Ended {
    /// The oldest of those that take at least half of what they take on average: who wrote little does not make room for who wrote much.
    fn oldest_of_size(&self) -> Option<(SystemTime, SandboxId, u64)> {
        let average = self.bytes / self.oldest.len().max(1) as u64;
        let mut by_age = self.oldest.iter();
        by_age.find(|(_, _, bytes)| *bytes >= average / 2).copied()
    }
}

impl Budget {
    /// For the journals in `root`, with at most `limit` bytes. The other end hears when something should be removed.
    pub(crate) fn new(root: &Path, limit: u64) -> (Self, mpsc::Receiver<()>) {
        // One that waits stands for all.
        let (exceeded, hears) = mpsc::channel(1);
        let budget = Self {
            root: root.to_owned(),
            limit,
            live: Meter::default(),
            ended: Mutex::default(),
            exceeded,
        };
        (budget, hears)
    }

    /// Whether a sandbox whose journal takes so much may go on writing it. Cheap.
    pub(crate) fn check_share(&self, own: u64) -> Result<(), Error> {
        let half = self.limit / 2;
        let share = half / self.live.journals().max(1);
        if self.live.bytes() >= half && own >= share {
            return Err(full(format!(
                "the journal of this sandbox takes {} KiB, its share of what there is for journals on this node",
                own >> 10
            ))
            .with_hint("delete this sandbox or others, or give journals more with --journals-mb"));
        }
        self.check()
    }

    /// Whether something new may be begun. Cheap.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let live = self.live.bytes();
        if live >= self.limit {
            return Err(full(format!(
                "the journals of this node's sandboxes take all of the {} MiB they may",
                self.limit >> 20
            ))
            .with_hint("delete sandboxes, or give journals more with --journals-mb"));
        }
        self.wake_if_exceeded();
        let disk = statvfs(&self.root).map_err(Error::internal)?;
        if disk.f_bavail * disk.f_frsize < FLOOR_BYTES {
            return Err(full("the node's disk is full".to_owned())
                .with_hint("free space in the data folder, or delete sandboxes"));
        }
        Ok(())
    }

    /// The sandbox of this journal was deleted: its record is kept as long as there is room.
    pub(crate) fn end(&self, id: SandboxId, journal: &Path) {
        let Ok(file) = fs::metadata(journal) else {
            return;
        };
        let at = file.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let mut ended = self.ended.lock();
        if ended.oldest.insert((at, id, file.len())) {
            ended.bytes += file.len();
        }
        drop(ended);
        self.wake_if_exceeded();
    }

    fn wake_if_exceeded(&self) {
        if self.live.bytes() + self.ended.lock().bytes > self.limit {
            // One that waits already, or nobody who listens: both are fine.
            let _ = self.exceeded.try_send(());
        }
    }

    /// The next journal of a deleted sandbox to go, if there is too much of them or the oldest is older than `before`. It is not counted any more.
    pub(crate) fn next_to_remove(&self, before: SystemTime) -> Option<SandboxId> {
        let live = self.live.bytes();
        let mut ended = self.ended.lock();
        let oldest = *ended.oldest.first()?;
        if oldest.0 >= before && live + ended.bytes <= self.limit {
            return None;
        }
        let next = if oldest.0 < before {
            oldest
        } else {
            ended.oldest_of_size()?
        };
        ended.oldest.remove(&next);
        ended.bytes -= next.2;
        Some(next.1)
    }
}

fn full(message: String) -> Error {
    Error::new(ErrorCode::DiskFull, message)
}
