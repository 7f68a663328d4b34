//! A machine's memory, kept while it stands still: the file it was begun with, and the pages that it changed since.
//!
//! QEMU maps the file privately. The kernel knows which pages are still the file's, so only the others are read. The machine stands while they are
//! read and not while they are written, which takes several times as long.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use rustix::fs::Advice;

const PAGE: u64 = 4096;
/// Bytes of the kernel's word for a page.
const WORD: usize = 8;
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// The page is a file's, or shared.
const OF_FILE: u64 = 1 << 61;
/// Pages read at once, at most.
const RUN: u64 = 256;
/// Pages that are so near are read with what lies between them.
const NEAR: u64 = 8;
/// Pieces of at most [`RUN`] pages that are read before the first is written: 64 MiB. Who changed more stands for some of the writing.
pub(crate) const FAR_AHEAD: usize = 64;
/// The same for a machine that does not go on before all is written.
pub(crate) const LITTLE_AHEAD: usize = 2;

/// Where a process has the machine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    begin: u64,
    end: u64,
}

/// Pages that were read, as runs of first and count, one after another.
#[derive(Debug)]
struct Piece {
    runs: Vec<(u64, u64)>,
    bytes: Vec<u8>,
}

/// The writing of what was read.
#[derive(Debug)]
pub(crate) struct Writing(JoinHandle<io::Result<File>>);

impl Writing {
    /// Waits until all is in the copy, and returns that.
    pub(crate) fn end(self) -> io::Result<File> {
        let written = self.0.join();
        written.map_err(|_| io::Error::other("the thread that wrote it panicked"))?
    }
}

/// Reads the pages that process `pid` changed, which are written into `copy`, a copy of the file of `bytes` that it began with. So many pieces wait for
/// that in memory.
pub(crate) fn save_changes(pid: u32, bytes: u64, copy: File, ahead: usize) -> io::Result<Writing> {
    let range = of_process(pid, bytes)?;
    let changed = runs(&pages(pid, range, is_changed)?, 1);
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    save(&memory, range.begin, changed, copy, ahead)
}

fn save(
    memory: &File,
    begin: u64,
    changed: Vec<(u64, u64)>,
    copy: File,
    ahead: usize,
) -> io::Result<Writing> {
    let (to, from) = sync_channel(ahead);
    let writer = Builder::new().name("write-memory".to_owned());
    let writing = Writing(writer.spawn(move || write_all(&from, copy))?);
    let read = read_all(memory, begin, changed, &to);
    drop(to);
    match read {
        // Whoever takes nothing more knows why.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            Err(writing.end().err().unwrap_or(error))
        }
        read => read.map(|()| writing),
    }
}

fn read_all(
    memory: &File,
    begin: u64,
    changed: Vec<(u64, u64)>,
    to: &SyncSender<Piece>,
) -> io::Result<()> {
    for runs in pieces(changed) {
        let pages: u64 = runs.iter().map(|(_, count)| count).sum();
        let mut bytes = vec![0; (pages * PAGE) as usize];
        let mut rest = &mut *bytes;
        for (first, count) in &runs {
            let (part, behind) = rest.split_at_mut((count * PAGE) as usize);
            memory.read_exact_at(part, begin + first * PAGE)?;
            rest = behind;
        }
        let sent = to.send(Piece { runs, bytes });
        sent.map_err(|_| ErrorKind::BrokenPipe)?;
    }
    Ok(())
}

fn write_all(from: &Receiver<Piece>, copy: File) -> io::Result<File> {
    for Piece { runs, bytes } in from {
        let mut rest = &*bytes;
        for (first, count) in runs {
            let (part, behind) = rest.split_at((count * PAGE) as usize);
            copy.write_all_at(part, first * PAGE)?;
            rest = behind;
        }
    }
    Ok(copy)
}

/// No fewer bytes than [`save_changes`] would save of it: what the process has that is no file's, its own memory included.
pub(crate) fn changed_at_most(pid: u32) -> io::Result<u64> {
    anonymous(&fs::read_to_string(format!("/proc/{pid}/status"))?)
        .ok_or(ErrorKind::InvalidData.into())
}

fn anonymous(status: &str) -> Option<u64> {
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes = line.strip_suffix(" kB")?.trim();
        Some(kibibytes.parse::<u64>().ok()? << 10)
    };
    Some(of("RssAnon:")? + of("VmSwap:")?)
}

/// Has the kernel read those parts of `copy` that the process has used of the file that it began with, and not changed: whoever is restored from the
/// copy uses them too, and would wait for the disk again and again. What is not read by then is read when it is used.
pub(crate) fn read_ahead(pid: u32, bytes: u64, copy: &File) -> io::Result<()> {
    let range = of_process(pid, bytes)?;
    for (first, count) in runs(&pages(pid, range, is_used)?, NEAR) {
        let len = NonZeroU64::new(count * PAGE);
        rustix::fs::fadvise(copy, first * PAGE, len, Advice::WillNeed)?;
    }
    Ok(())
}

fn of_process(pid: u32, bytes: u64) -> io::Result<Range> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    find(&maps, bytes).ok_or(ErrorKind::NotFound.into())
}

/// The one private mapping of a file that has exactly this size.
fn find(maps: &str, bytes: u64) -> Option<Range> {
    let mut found = maps.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (begin, end) = words.next()?.split_once('-')?;
        let (mode, _offset, _device, inode) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        let range = Range {
            begin: u64::from_str_radix(begin, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
        };
        let fits = range.end.checked_sub(range.begin)? == bytes;
        (fits && mode == "rw-p" && inode != "0").then_some(range)
    });
    let only = found.next();
    only.filter(|_| found.next().is_none())
}

/// The numbers of pages whose word is such a one.
fn pages(pid: u32, range: Range, is_such: fn(u64) -> bool) -> io::Result<Vec<u64>> {
    let count = (range.end - range.begin) / PAGE;
    let mut words = vec![0; count as usize * WORD];
    let first = range.begin / PAGE * WORD as u64;
    File::open(format!("/proc/{pid}/pagemap"))?.read_exact_at(&mut words, first)?;
    let words = words.chunks_exact(WORD).map(|word| {
        let mut bytes = [0; WORD];
        bytes.copy_from_slice(word);
        u64::from_le_bytes(bytes)
    });
    let such = words.zip(0..).filter(|&(word, _)| is_such(word));
    Ok(such.map(|(_, page)| page).collect())
}

/// It is not the file's any more.
fn is_changed(word: u64) -> bool {
    word & (PRESENT | SWAPPED) != 0 && word & OF_FILE == 0
}

/// It is the file's, and was read.
fn is_used(word: u64) -> bool {
    word & PRESENT != 0 && word & OF_FILE != 0
}

/// Runs of pages that are at most so far apart, as first and count.
fn runs(pages: &[u64], apart: u64) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &page in pages {
        match runs.last_mut() {
            Some((first, count))
                if page - *first < RUN && page - (*first + *count - 1) <= apart =>
            {
                *count = page - *first + 1;
            }
            _ => runs.push((page, 1)),
        }
    }
    runs
}

/// Runs together, as many as have no more than [`RUN`] pages.
fn pieces(runs: Vec<(u64, u64)>) -> Vec<Vec<(u64, u64)>> {
    let mut pieces: Vec<Vec<(u64, u64)>> = Vec::new();
    let mut room = 0;
    for run in runs {
        match pieces.last_mut() {
            Some(piece) if run.1 <= room => {
                piece.push(run);
                room -= run.1;
            }
            _ => {
                room = RUN - run.1;
                pieces.push(vec![run]);
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_where_it_was() {
        let memory = tempfile::tempfile().unwrap();
        for page in 0..1000 {
            let text = [page as u8; PAGE as usize];
            memory.write_all_at(&text, (7 + page) * PAGE).unwrap();
        }
        let changed: Vec<u64> = (0..1000)
            .filter(|page| page % 7 < 4 || *page > 500)
            .collect();
        let copy = tempfile::tempfile().unwrap();
        copy.set_len(1000 * PAGE).unwrap();
        let writing = save(&memory, 7 * PAGE, runs(&changed, 1), copy, LITTLE_AHEAD).unwrap();
        let copy = writing.end().unwrap();
        for page in 0..1000 {
            let mut bytes = [0xff; PAGE as usize];
            copy.read_exact_at(&mut bytes, page * PAGE).unwrap();
            let expected = if changed.contains(&page) {
                page as u8
            } else {
                0
            };
            assert_eq!(bytes, [expected; PAGE as usize], "page {page}");
        }
    }

    #[test]
    fn where_it_cannot_be_written_reading_ends_and_says_why() {
        let memory = tempfile::tempfile().unwrap();
        let pages = (2 * FAR_AHEAD as u64) * RUN;
        memory.set_len(pages * PAGE).unwrap();
        let all: Vec<u64> = (0..pages).collect();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = save(&memory, 0, runs(&all, 1), full, FAR_AHEAD).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn neighbours_are_read_together() {
        let some = [1, 2, 3, 7, 9, 10];
        assert_eq!(runs(&some, 1), [(1, 3), (7, 1), (9, 2)]);
        assert_eq!(runs(&some, 2), [(1, 3), (7, 4)]);
        let many: Vec<u64> = (0..300).collect();
        assert_eq!(runs(&many, 1), [(0, 256), (256, 44)]);
        assert_eq!(runs(&[], 1), []);
        assert_eq!(pieces(runs(&many, 1)), [[(0, 256)], [(256, 44)]]);
        assert_eq!(pieces(runs(&some, 1)), [[(1, 3), (7, 1), (9, 2)]]);
    }

    #[test]
    fn what_is_no_files_is_counted_wherever_it_is() {
        let status =
            "Name:\tqemu\nRssAnon:\t   40960 kB\nRssFile:\t     512 kB\nVmSwap:\t       4 kB\n";
        assert_eq!(anonymous(status), Some((40960 + 4) << 10));
        assert_eq!(anonymous("Name:\tzombie\n"), None);
    }

    #[test]
    fn two_mappings_that_fit_are_one_too_many() {
        let line = "10000000-20000000 rw-p 00000000 fe:00 7 /memory\n";
        let range = Range {
            begin: 0x1000_0000,
            end: 0x2000_0000,
        };
        assert_eq!(find(line, 0x1000_0000), Some(range));
        assert_eq!(find(&line.repeat(2), 0x1000_0000), None);
        assert_eq!(find(&line.replace("rw-p", "rw-s"), 0x1000_0000), None);
        assert_eq!(find(&line.replace(" 7 ", " 0 "), 0x1000_0000), None);
        assert_eq!(find(line, 0x1000), None);
    }
}
