//! Folders in which names stand for something.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::str::FromStr;

/// What is named there, each with this ending. Other names are not ours and left alone.
pub fn names<T: FromStr>(folder: &Path, ending: &str) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(ending));
        found.extend(name.and_then(|name| name.parse().ok()));
    }
    Ok(found)
}

/// Gives a file, or a folder of files, the name under which others find it, once all of it is on the disk: what has that name is whole, even after
/// the machine lost its power.
pub fn publish(new: &Path, into: &Path) -> io::Result<()> {
    if new.is_dir() {
        for file in fs::read_dir(new)? {
            File::open(file?.path())?.sync_all()?;
        }
    }
    File::open(new)?.sync_all()?;
    fs::rename(new, into)
}
