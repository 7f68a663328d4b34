//! Reading and writing the small files that control groups consist of.

use std::path::Path;
use std::{fs, io};

use rustix::fs::Access;

use super::Usage;

/// Makes a group's folder; one that is there is fine.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(named(error, folder)),
        _ => Ok(()),
    }
}

/// Makes the folder in which a node makes its groups. One that another user left there is an error: nothing could be made in it.
pub(super) fn make_own(folder: &Path) -> io::Result<()> {
    let made = fs::create_dir_all(folder);
    made.and_then(|()| Ok(rustix::fs::access(folder, Access::WRITE_OK)?))
        .map_err(|error| {
            let text = format!(
                "cannot make the control group {}: {error}",
                folder.display()
            );
            io::Error::new(error.kind(), text)
        })
}

/// Removes a group's folder; one that is not there is fine.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(error, folder)),
        _ => Ok(()),
    }
}

/// Writes a setting.
pub(super) fn write(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = folder.join(file);
    fs::write(&path, value).map_err(|error| named(error, &path))
}

/// Writes a setting that not every kernel has.
pub(super) fn write_if_there(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    match write(folder, file, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The text of a file; nothing if it, or its group, is not there.
pub(super) fn read_if_there(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        // A v1 group answers ENODEV while it is being removed.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(libc::ENODEV) =>
        {
            Ok(String::new())
        }
        Err(error) => Err(named(error, path)),
    }
}

/// The number that is all of a file.
pub(super) fn number(folder: &Path, file: &str) -> io::Result<u64> {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).map_err(|error| named(error, &path))?;
    text.trim()
        .parse()
        .map_err(|_| named(io::ErrorKind::InvalidData.into(), &path))
}

/// The number after `key` in a file with a key on each line; 0 if there is none.
pub(super) fn keyed(folder: &Path, file: &str, key: &str) -> io::Result<u64> {
    Ok(value_of(&read_if_there(&folder.join(file))?, key))
}

fn value_of(text: &str, key: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let value = lines.find(|(name, _)| *name == key);
    value.map_or(0, |(_, value)| value.trim().parse().unwrap_or(0))
}

impl Usage {
    /// Does not count what the kernel would drop at once.
    pub(super) fn without_cache(mut self, cache: u64) -> Self {
        self.memory_bytes = self.memory_bytes.saturating_sub(cache);
        self
    }
}

fn named(error: io::Error, path: &Path) -> io::Error {
    // Callers tell errors of the kernel apart by number, so it has to stay.
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ResourceBusy => error,
        kind => io::Error::new(kind, format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_whole_word() {
        let text = "oom 7\noom_kill 3\noom_group_kill 1\n";
        assert_eq!(value_of(text, "oom_kill"), 3);
        assert_eq!(value_of(text, "oom_killer"), 0);
    }
}
