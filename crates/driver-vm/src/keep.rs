//! What a kept machine is: its shape beside its memory, devices and disk.
//!
//! Nobody waits until that is all on the host's disk. Until it is, a mark says in which start of the host it was written; should that end before,
//! nothing is kept: memory of which a part is old would look whole.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use serde::{Deserialize, Serialize};
use skerry_driver::{Extent, Spec};
use skerry_sys::boot;

use crate::layout::remove_file;
use crate::machine::Shape;

const KEPT: &str = "kept.json";
/// The mark.
const WRITTEN_IN: &str = "written-in";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) extent: Extent,
    pub(crate) shape: Shape,
    pub(crate) spec: Spec,
}

impl Kept {
    /// Written last: without it the folder holds nothing.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        fs::write(folder.join(WRITTEN_IN), boot::id())?;
        fs::write(folder.join(KEPT), serde_json::to_vec(self)?)
    }

    /// `NotFound` where nothing whole is kept.
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        let text = fs::read(folder.join(KEPT))?;
        if written_in(folder)?.is_some_and(|start| start != boot::id()) {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(serde_json::from_slice(&text)?)
    }
}

/// Has all of it on the disk, and takes the mark away. What is not whole stays so.
pub(crate) fn settle(folder: &Path) -> io::Result<()> {
    let is_of_now = written_in(folder)?.is_some_and(|start| start == boot::id());
    if !is_of_now || !folder.join(KEPT).exists() {
        return Ok(());
    }
    for file in fs::read_dir(folder)? {
        File::open(file?.path())?.sync_all()?;
    }
    File::open(folder)?.sync_all()?;
    remove_file(&folder.join(WRITTEN_IN))
}

/// What the mark says, where there is one.
fn written_in(folder: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(folder.join(WRITTEN_IN)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        start => start.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::nobody;

    #[test]
    fn what_was_not_on_the_disk_when_the_host_went_down_is_not_kept() {
        let shape = Shape {
            engine: "engine".to_owned(),
            base: "base".to_owned(),
            vcpus: 1,
            memory_mb: 256,
            network: false,
        };
        let kept = Kept {
            extent: Extent::Memory,
            spec: nobody(&shape),
            shape,
        };
        let folder = tempfile::tempdir().unwrap();
        let (folder, mark) = (folder.path(), folder.path().join(WRITTEN_IN));
        kept.write(folder).unwrap();
        assert_eq!(Kept::read(folder).unwrap(), kept);

        fs::write(&mark, "another start").unwrap();
        settle(folder).unwrap();
        let lost = Kept::read(folder).unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::NotFound);

        kept.write(folder).unwrap();
        settle(folder).unwrap();
        assert!(!mark.exists());
        assert_eq!(Kept::read(folder).unwrap(), kept);
    }
}
