//! Small records on disk: put in place whole, for their owner's eyes only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Puts it in place whole.
pub(crate) fn save(record: &impl Serialize, path: &Path) -> io::Result<()> {
    let (next, _) = write(record, path)?;
    fs::rename(&next, path)
}

/// The same, and it is there after the machine lost its power.
pub(crate) fn save_on_disk(record: &impl Serialize, path: &Path) -> io::Result<()> {
    let (next, file) = write(record, path)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    File::open(folder)?.sync_all()
}

/// Writes it beside its place.
fn write(record: &impl Serialize, path: &Path) -> io::Result<(PathBuf, File)> {
    let next = path.with_extension("next");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&next)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    Ok((next, file))
}

pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// It was read, and is not whole.
pub(crate) fn is_broken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof
    )
}
