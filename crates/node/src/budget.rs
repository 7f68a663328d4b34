//! What the journals of all sandboxes may take of the disk together. Those of deleted sandboxes go first, the oldest before the others; when only
//! those of sandboxes that are still there would be left, nothing new is begun.

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

    /// Whether something new may be begun and output be recorded. Cheap.
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

    /// The oldest journal of a deleted sandbox, if there are too many or it is older than `before`. It is not counted any more.
    pub(crate) fn next_to_remove(&self, before: SystemTime) -> Option<SandboxId> {
        let live = self.live.bytes();
        let mut ended = self.ended.lock();
        let oldest = *ended.oldest.first()?;
        if oldest.0 >= before && live + ended.bytes <= self.limit {
            return None;
        }
        ended.oldest.remove(&oldest);
        ended.bytes -= oldest.2;
        Some(oldest.1)
    }
}

fn full(message: String) -> Error {
    Error::new(ErrorCode::DiskFull, message)
}
