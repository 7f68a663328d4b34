//! Finding virtio devices by the slot that the driver put them in, and giving them to their kernel driver.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// A kernel driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    Disk,
    Network,
}

impl Driver {
    /// Its folder, and what it calls its devices' classes.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Disk => ("virtio_blk", "block"),
            Self::Network => ("virtio_net", "net"),
        }
    }
}

/// Devices are given to drivers by name only, from now on.
pub(crate) fn no_autoprobe() -> io::Result<()> {
    fs::write("/sys/bus/virtio/drivers_autoprobe", "0")
}

/// Gives the device in this slot to its driver: the name it has from then on.
pub(crate) fn bind(slot: &str, driver: Driver) -> io::Result<String> {
    let device = virtio(slot)?;
    let (folder, class) = driver.names();
    let name = device.file_name().ok_or(ErrorKind::NotFound)?;
    let bind = Path::new("/sys/bus/virtio/drivers")
        .join(folder)
        .join("bind");
    fs::write(bind, name.as_encoded_bytes())?;
    only_entry(&device.join(class))
}

/// Is there a device in this slot?
pub(crate) fn is_there(slot: &str) -> bool {
    virtio(slot).is_ok()
}

fn virtio(slot: &str) -> io::Result<PathBuf> {
    let device = Path::new("/sys/bus/pci/devices").join(slot);
    for entry in fs::read_dir(device)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b"virtio") {
            return Ok(entry.path());
        }
    }
    Err(ErrorKind::NotFound.into())
}

fn only_entry(folder: &Path) -> io::Result<String> {
    let entry = fs::read_dir(folder)?.next().ok_or(ErrorKind::NotFound)??;
    let name = entry.file_name().into_string();
    name.map_err(|_| ErrorKind::InvalidData.into())
}
