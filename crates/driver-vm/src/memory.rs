//! A machine's memory, kept while it stands still: the file it was begun with, and the pages that it changed since.
//!
//! QEMU maps the file privately. The kernel knows which pages are still the file's, so only the others are read.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

const PAGE: u64 = 4096;
/// Bytes of the kernel's word for a page.
const WORD: usize = 8;
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// The page is a file's, or shared.
const OF_FILE: u64 = 1 << 61;
/// Pages read at once, at most.
const RUN: u64 = 256;

/// Where a process has the machine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    begin: u64,
    end: u64,
}

/// Writes the pages that process `pid` changed into `copy`, a copy of the file of `bytes` that it began with. Returns how many bytes that were.
pub(crate) fn save_changes(pid: u32, bytes: u64, copy: &File) -> io::Result<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let range = find(&maps, bytes).ok_or(ErrorKind::NotFound)?;
    let changed = changed_pages(Path::new(&format!("/proc/{pid}/pagemap")), range)?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut buffer = vec![0; (RUN * PAGE) as usize];
    let mut written = 0;
    for (first, count) in runs(&changed) {
        let part = &mut buffer[..(count * PAGE) as usize];
        memory.read_exact_at(part, range.begin + first * PAGE)?;
        copy.write_all_at(part, first * PAGE)?;
        written += count * PAGE;
    }
    Ok(written)
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

/// The numbers of pages that are not the file's any more.
fn changed_pages(pagemap: &Path, range: Range) -> io::Result<Vec<u64>> {
    let pages = (range.end - range.begin) / PAGE;
    let mut words = vec![0; pages as usize * WORD];
    let first = range.begin / PAGE * WORD as u64;
    File::open(pagemap)?.read_exact_at(&mut words, first)?;
    let words = words.chunks_exact(WORD).map(|word| {
        let mut bytes = [0; WORD];
        bytes.copy_from_slice(word);
        u64::from_le_bytes(bytes)
    });
    let changed = words
        .zip(0..)
        .filter(|(word, _)| word & (PRESENT | SWAPPED) != 0 && word & OF_FILE == 0);
    Ok(changed.map(|(_, page)| page).collect())
}

/// Runs of neighbours, as first and count.
fn runs(pages: &[u64]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &page in pages {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == page && *count < RUN => *count += 1,
            _ => runs.push((page, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_read_together() {
        assert_eq!(runs(&[1, 2, 3, 7, 9, 10]), [(1, 3), (7, 1), (9, 2)]);
        let many: Vec<u64> = (0..300).collect();
        assert_eq!(runs(&many), [(0, 256), (256, 44)]);
        assert_eq!(runs(&[]), []);
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
