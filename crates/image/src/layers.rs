//! The folders of the store, and the life of a layer: made aside, moved in, swept out.

use std::collections::HashSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{ImageError, Result};

/// Where things are, all under `<data>/images`.
#[derive(Debug)]
pub(crate) struct Folders {
    /// Complete layers, named by their content.
    pub(crate) layers: PathBuf,
    /// One record for each image.
    pub(crate) index: PathBuf,
    /// Work that is under way; emptied at start.
    pub(crate) work: PathBuf,
}

impl Folders {
    /// Makes the folders and clears away what a crash left.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let folders = Self {
            layers: root.join("layers"),
            index: root.join("index"),
            work: root.join("work"),
        };
        if folders.work.exists() {
            fs::remove_dir_all(&folders.work).map_err(ImageError::io("clear", &folders.work))?;
        }
        for folder in [&folders.layers, &folders.index, &folders.work] {
            fs::create_dir_all(folder).map_err(ImageError::io("make", folder))?;
        }
        fs::set_permissions(root, Permissions::from_mode(0o700))
            .map_err(ImageError::io("protect", root))?;
        Ok(folders)
    }

    pub(crate) fn layer(&self, name: &str) -> PathBuf {
        self.layers.join(name)
    }

    /// An empty folder for work, removed with its handle.
    pub(crate) fn work_folder(&self) -> Result<tempfile::TempDir> {
        tempfile::tempdir_in(&self.work).map_err(ImageError::io("make a folder in", &self.work))
    }

    /// Makes a finished tree the layer of that name; a layer that is there already stays.
    pub(crate) fn keep(&self, tree: tempfile::TempDir, name: &str) -> Result<()> {
        let path = self.layer(name);
        match fs::rename(tree.path(), &path) {
            Err(_) if path.is_dir() => Ok(()),
            Err(e) => Err(ImageError::io("move a layer to", &path)(e)),
            Ok(()) => {
                // Nothing is left to remove at the old place.
                let _gone = tree.keep();
                Ok(())
            }
        }
    }

    /// Waits until all layers are on the disk, so that no record can name one that a power cut took.
    pub(crate) fn sync(&self) -> Result<()> {
        let sync = || rustix::fs::syncfs(File::open(&self.layers)?).map_err(io::Error::from);
        sync().map_err(ImageError::io("write out", &self.layers))
    }

    /// Takes every layer but these out of the store, quickly; dropping the result removes them for good.
    pub(crate) fn sweep(&self, used: &HashSet<PathBuf>) -> Result<Swept> {
        let bin = self.work_folder()?;
        let mut count = 0;
        let entries = fs::read_dir(&self.layers).map_err(ImageError::io("list", &self.layers))?;
        for entry in entries {
            let entry = entry.map_err(ImageError::io("list", &self.layers))?;
            if !used.contains(&entry.path()) {
                fs::rename(entry.path(), bin.path().join(entry.file_name()))
                    .map_err(ImageError::io("take out", entry.path()))?;
                count += 1;
            }
        }
        Ok(Swept { bin, count })
    }
}

/// Layers that nothing needs any more, on their way out.
#[derive(Debug)]
pub(crate) struct Swept {
    bin: tempfile::TempDir,
    count: usize,
}

impl Swept {
    /// Removes the layers; gives how many there were.
    pub(crate) fn remove(self) -> Result<usize> {
        let path = self.bin.path().to_owned();
        self.bin.close().map_err(ImageError::io("remove", path))?;
        Ok(self.count)
    }
}

/// Bytes of the files in a folder; names are not followed.
pub(crate) fn tree_bytes(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                sum += entry.metadata()?.len();
            }
        }
    }
    Ok(sum)
}
