//! The few files that differ from sandbox to sandbox, written into its volume while nothing runs on it.
//!
//! The volume's owner may have put anything there, so no link is followed: what is not a folder where one is wanted is left as it is.

use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, mkdirat, open, openat, unlinkat};
use rustix::io::Errno;
use skerry_driver::Spec;
use skerry_net::Netns;
use skerry_storage::Volume;

/// As long as this is in `/tmp`, `runsc` does not hide that folder below one in memory. The agent takes it away.
pub(crate) const KEEP_TMP: &str = ".skerry";

/// Writes them.
pub(crate) fn write(volume: &Volume, spec: &Spec, netns: Option<&Netns>) -> io::Result<()> {
    let upper = open(
        volume.upper(),
        OFlags::PATH | OFlags::DIRECTORY,
        Mode::empty(),
    )?;
    if let Some(etc) = folder(&upper, "etc", 0o755)? {
        for (name, content) in skerry_net::etc(spec.id, &spec.hostname, netns) {
            file(&etc, name, &content)?;
        }
    }
    if let Some(tmp) = folder(&upper, "tmp", 0o1777)? {
        file(&tmp, KEEP_TMP, "")?;
    }
    Ok(())
}

/// A folder of the volume, made if nothing has its name; `None` if something else has.
fn folder(upper: &OwnedFd, name: &str, mode: u32) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match mkdirat(upper, name, Mode::from_raw_mode(mode)) {
        Ok(()) => {
            let made = openat(upper, name, flags, Mode::empty())?;
            fchmod(&made, Mode::from_raw_mode(mode))?;
            Ok(Some(made))
        }
        Err(Errno::EXIST) => match openat(upper, name, flags, Mode::empty()) {
            Ok(there) => Ok(Some(there)),
            Err(Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// A new file in the place of whatever has its name, unless that is a folder.
fn file(folder: &OwnedFd, name: &str, content: &str) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(Errno::ISDIR) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(folder, name, flags, Mode::from_raw_mode(0o644))?;
    fchmod(&made, Mode::from_raw_mode(0o644))?;
    std::fs::File::from(made).write_all(content.as_bytes())
}
