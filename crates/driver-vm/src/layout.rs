//! Where the driver's files are.
//!
//! All of them lie on the file system that the storage chose, so that copies share blocks: in its folder `vm`, for root alone.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use skerry_types::{SandboxId, SnapshotId};

/// A disk with what a sandbox has written.
pub(crate) const DISK: &str = "disk";
/// A machine's memory as it was at one instant. Written once.
pub(crate) const MEMORY: &str = "memory";
/// All else that the machine was at that instant.
pub(crate) const DEVICES: &str = "devices";
/// Where a running machine's devices are written to when it is kept.
pub(crate) const DEVICES_OUT: &str = "devices.out";

/// The folders.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes what is missing.
    pub(crate) fn open(root: PathBuf) -> io::Result<Self> {
        for name in ["base", "blank", "boot", "template", "snapshot", "sandbox"] {
            make(&root.join(name))?;
        }
        Ok(Self { root })
    }

    /// The base disk of an image.
    pub(crate) fn base(&self, key: &str) -> PathBuf {
        self.root.join("base").join(key)
    }

    /// Every base disk.
    pub(crate) fn bases(&self) -> PathBuf {
        self.root.join("base")
    }

    /// A formatted disk of this size, never written.
    pub(crate) fn blank(&self, mib: u32) -> PathBuf {
        self.root.join("blank").join(mib.to_string())
    }

    /// What machines boot with.
    pub(crate) fn boot(&self) -> PathBuf {
        self.root.join("boot")
    }

    /// What came of trying KVM.
    pub(crate) fn trial(&self) -> PathBuf {
        self.root.join("kvm.json")
    }

    /// A machine that has booted with this base disk, or a model made of it.
    pub(crate) fn template(&self, base: &str, key: &str) -> PathBuf {
        self.templates().join(format!("{base}-{key}"))
    }

    /// Removes those with this base disk, which is to be made anew: they know the one before.
    pub(crate) fn remove_templates(&self, base: &str) -> io::Result<()> {
        for entry in fs::read_dir(self.templates())? {
            let entry = entry?;
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(base.as_bytes())
            {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Every template.
    pub(crate) fn templates(&self) -> PathBuf {
        self.root.join("template")
    }

    /// What was kept of a sandbox.
    pub(crate) fn snapshot(&self, id: SnapshotId) -> PathBuf {
        self.root.join("snapshot").join(id.label())
    }

    /// What a sandbox has.
    pub(crate) fn sandbox(&self, id: SandboxId) -> PathBuf {
        self.root.join("sandbox").join(id.label())
    }

    /// Every snapshot, half-made ones too.
    pub(crate) fn snapshots(&self) -> io::Result<Vec<SnapshotId>> {
        ids(&self.root.join("snapshot"))
    }

    /// Every sandbox that has files.
    pub(crate) fn sandboxes(&self) -> io::Result<Vec<SandboxId>> {
        ids(&self.root.join("sandbox"))
    }
}

fn ids<T: std::str::FromStr>(folder: &Path) -> io::Result<Vec<T>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        ids.extend(name.to_str().and_then(|name| name.parse::<T>().ok()));
    }
    Ok(ids)
}

/// Makes a folder for root alone; one that is there is fine.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    match make_new(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Makes a folder for root alone.
pub(crate) fn make_new(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Removes a folder with all in it; nothing there is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes what was made first until at most so many are left, except what is still needed.
pub(crate) fn keep_newest(
    folder: &Path,
    most: usize,
    needed: impl Fn(&str) -> bool,
) -> io::Result<()> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !needed(&entry.file_name().to_string_lossy()) {
            all.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    all.sort_unstable();
    let too_many = all.len().saturating_sub(most);
    for (_, path) in all.into_iter().take(too_many) {
        if path.is_dir() {
            remove(&path)?;
        } else {
            remove_file(&path)?;
        }
    }
    Ok(())
}

/// Removes a file; nothing there is fine.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::FileTimes;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn what_is_needed_stays_however_old_it_is() {
        let folder = tempfile::tempdir().unwrap();
        for (age, name) in ["newest", "newer", "older", "oldest"].iter().enumerate() {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            let then = SystemTime::now() - Duration::from_hours(age as u64);
            file.set_times(FileTimes::new().set_modified(then)).unwrap();
        }
        keep_newest(folder.path(), 2, |name| name == "oldest").unwrap();
        let left = fs::read_dir(folder.path()).unwrap().flatten();
        let mut left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        left.sort_unstable();
        assert_eq!(left, ["newer", "newest", "oldest"]);
    }
}
