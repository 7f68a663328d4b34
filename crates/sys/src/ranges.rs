//! Ranges of the host's ids: one for each sandbox, and none that another server on this machine gives out too.
//!
//! A server takes blocks of ranges as long as it runs, by a lock on those numbers in a file that only root may open. Sandboxes outlive their
//! server, so a block in which somebody else's processes run is left alone as well.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use parking_lot::Mutex;

use crate::idmap::RANGE;

/// Ranges in a block.
const RANGES: u32 = 256;
const BLOCK: u32 = RANGES * RANGE;
/// Where the file is that all servers of this machine lock.
const FOLDER: &str = "/run/skerry";
const CLAIMS: &str = "ids";

/// The ranges of one driver of this server.
#[derive(Debug)]
pub struct Ranges {
    first_id: u32,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Ranges in use, by their first id, wherever they are.
    taken: BTreeSet<u32>,
    /// The first ids of blocks that are ours.
    blocks: Vec<u32>,
    /// Holds the locks on them; they end with this process.
    claims: Option<File>,
}

impl Ranges {
    /// Ranges from `first_id` on; `taken` are those of the driver's own sandboxes.
    pub fn new(first_id: u32, taken: BTreeSet<u32>) -> Self {
        Self {
            first_id,
            inner: Mutex::new(Inner {
                taken,
                blocks: Vec::new(),
                claims: None,
            }),
        }
    }

    /// A range that no other sandbox has, by its first id.
    pub fn take(&self) -> io::Result<u32> {
        let mut inner = self.inner.lock();
        let free = match inner.free() {
            Some(free) => free,
            None => inner.claim(self.first_id)?,
        };
        inner.taken.insert(free);
        Ok(free)
    }

    /// Gives a range back.
    pub fn give_back(&self, first: u32) {
        self.inner.lock().taken.remove(&first);
    }
}

impl Inner {
    fn free(&self) -> Option<u32> {
        let mut ranges = self.blocks.iter().flat_map(|&block| ranges(block));
        ranges.find(|first| !self.taken.contains(first))
    }

    /// Takes the first block that nobody else has; a free range of it.
    fn claim(&mut self, first_id: u32) -> io::Result<u32> {
        let mut foreign = running_ids()?;
        foreign.retain(|id| {
            self.taken
                .range(..=*id)
                .next_back()
                .is_none_or(|first| id - first >= RANGE)
        });
        let claims = match self.claims.take() {
            Some(claims) => claims,
            None => open(Path::new(FOLDER))?,
        };
        let claims = self.claims.insert(claims);
        for first in (first_id..=u32::MAX - BLOCK).step_by(BLOCK as usize) {
            let is_free = |range: &u32| !self.taken.contains(range);
            let Some(free) = ranges(first).find(is_free) else {
                continue;
            };
            let is_foreign = foreign.range(first..first + BLOCK).next().is_some();
            if !is_foreign && lock(claims, first)? {
                self.blocks.push(first);
                return Ok(free);
            }
        }
        let text = "no id range is left: this server and others on the machine have all of them";
        Err(io::Error::other(text))
    }
}

fn ranges(block: u32) -> impl Iterator<Item = u32> {
    (block..block + BLOCK).step_by(RANGE as usize)
}

/// The file, which stays empty: what is locked are numbers.
fn open(folder: &Path) -> io::Result<File> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join(CLAIMS))
}

/// Locks the ids of a block. `false`: somebody else has one of them.
fn lock(claims: &File, first: u32) -> io::Result<bool> {
    let ids = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: first.into(),
        l_len: BLOCK.into(),
        l_pid: 0,
    };
    match fcntl(claims, FcntlArg::F_OFD_SETLK(&ids)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The users as whom processes run on this machine.
fn running_ids() -> io::Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
        let name = entry?.file_name();
        let Some(pid) = name.to_str().filter(|name| is_process(name)) else {
            continue;
        };
        // One that ended meanwhile has no ids.
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        let uids = line.unwrap_or_default().split_whitespace();
        ids.extend(uids.filter_map(|uid| uid.parse::<u32>().ok()));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn two_servers_have_different_ranges_and_one_gets_its_own_back() {
        const FIRST: u32 = 3_000_000_000;
        if !rustix::process::geteuid().is_root() {
            return eprintln!("SKIPPED: only root gives out ids");
        }
        let one = Ranges::new(FIRST, BTreeSet::new());
        // Of another driver perhaps, whose blocks begin elsewhere.
        let two = Ranges::new(FIRST - RANGE, BTreeSet::from([FIRST - RANGE]));
        assert_eq!(one.take().unwrap(), FIRST);
        assert_eq!(two.take().unwrap(), FIRST - RANGE + 2 * BLOCK);
        assert_eq!(one.take().unwrap(), FIRST + RANGE);
        one.give_back(FIRST);
        assert_eq!(one.take().unwrap(), FIRST);
        drop((one, two));
        let two = Ranges::new(FIRST + BLOCK, BTreeSet::new());
        assert_eq!(two.take().unwrap(), FIRST + BLOCK);
        // The first starts again, and a sandbox of it still runs.
        let again = Ranges::new(FIRST, BTreeSet::from([FIRST]));
        for range in 1..RANGES {
            assert_eq!(again.take().unwrap(), FIRST + range * RANGE);
        }
        // Its block is full, and the next one is the other's.
        assert_eq!(again.take().unwrap(), FIRST + 2 * BLOCK);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(Path::new(FOLDER)), 0o700);
        assert_eq!(mode(&Path::new(FOLDER).join(CLAIMS)), 0o600);
    }
}
