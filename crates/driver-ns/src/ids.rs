//! Ranges of the host's ids: one for each sandbox, and none that another server on this machine gives out too.
//!
//! A server takes a block of ranges as long as it runs, by a name that only one process may have. Sandboxes outlive their server, so a block in
//! which somebody else's processes run is left alone as well.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use parking_lot::Mutex;
use skerry_sys::idmap::RANGE;

/// Ranges in a block.
const RANGES: u32 = 256;
const BLOCK: u32 = RANGES * RANGE;

/// The ranges of this server.
#[derive(Debug)]
pub(crate) struct Ranges {
    first_id: u32,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Ranges in use, by their first id, wherever they are.
    taken: BTreeSet<u32>,
    blocks: Vec<Block>,
}

/// A block that is ours.
#[derive(Debug)]
struct Block {
    first: u32,
    /// Its name, free again when this process ends.
    _name: UnixListener,
}

impl Ranges {
    /// Ranges from `first_id` on; `taken` are those of the server's own sandboxes.
    pub(crate) fn new(first_id: u32, taken: BTreeSet<u32>) -> Self {
        let blocks = Vec::new();
        Self {
            first_id,
            inner: Mutex::new(Inner { taken, blocks }),
        }
    }

    /// A range that no other sandbox has, by its first id.
    pub(crate) fn take(&self) -> io::Result<u32> {
        let mut inner = self.inner.lock();
        let free = match inner.free() {
            Some(free) => free,
            None => inner.claim(self.first_id)?,
        };
        inner.taken.insert(free);
        Ok(free)
    }

    /// Gives a range back.
    pub(crate) fn give_back(&self, first: u32) {
        self.inner.lock().taken.remove(&first);
    }
}

impl Inner {
    fn free(&self) -> Option<u32> {
        let blocks = self.blocks.iter();
        let mut ranges = blocks.flat_map(|block| ranges(block.first));
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
        for first in (first_id..=u32::MAX - BLOCK).step_by(BLOCK as usize) {
            let is_free = |range: &u32| !self.taken.contains(range);
            let Some(free) = ranges(first).find(is_free) else {
                continue;
            };
            if foreign.range(first..first + BLOCK).next().is_some() {
                continue;
            }
            match UnixListener::bind_addr(&SocketAddr::from_abstract_name(name(first))?) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
                Ok(name) => {
                    self.blocks.push(Block { first, _name: name });
                    return Ok(free);
                }
            }
        }
        let text = "no id range is left: this server and others on the machine have all of them";
        Err(io::Error::other(text))
    }
}

fn ranges(block: u32) -> impl Iterator<Item = u32> {
    (block..block + BLOCK).step_by(RANGE as usize)
}

fn name(first: u32) -> String {
    format!("skerry-ids-{first}")
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
    use super::*;

    #[test]
    fn two_servers_have_different_ranges_and_one_gets_its_own_back() {
        const FIRST: u32 = 3_000_000_000;
        let one = Ranges::new(FIRST, BTreeSet::new());
        let two = Ranges::new(FIRST, BTreeSet::new());
        assert_eq!(one.take().unwrap(), FIRST);
        assert_eq!(two.take().unwrap(), FIRST + BLOCK);
        assert_eq!(one.take().unwrap(), FIRST + RANGE);
        one.give_back(FIRST);
        assert_eq!(one.take().unwrap(), FIRST);
        drop(one);
        // It starts again, and a sandbox of it still runs.
        let again = Ranges::new(FIRST, BTreeSet::from([FIRST]));
        for range in 1..RANGES {
            assert_eq!(again.take().unwrap(), FIRST + range * RANGE);
        }
        // Its block is full, and the next one is the other's.
        assert_eq!(again.take().unwrap(), FIRST + 2 * BLOCK);
    }
}
