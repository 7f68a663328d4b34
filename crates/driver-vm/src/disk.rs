//! Disks: blank ones, and copies that share blocks where the file system can.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{OFlags, SeekFrom, ioctl_ficlone, syncfs};
use rustix::io::Errno;
use skerry_sys::folder;

use crate::layout;

/// A formatting that does not write more than it must: what is not written reads as zeros.
const LAZY: &str = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0";

/// The pool is looked at several times in this.
const GROWTH: Duration = Duration::from_millis(500);

/// The command that formats a file of so many KiB as ext4.
pub(crate) fn mke2fs(disk: &Path, kib: &OsStr) -> Command {
    let mut command = Command::new("mke2fs");
    let mut size = kib.to_owned();
    size.push("k");
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .args(["-q", "-F", "-t", "ext4", "-m", "0", "-E", LAZY]);
    // What is named last is what to fill it from, if anything.
    command.arg(disk).arg(size);
    command
}

/// A formatted disk of this size at `path`, whole or not at all.
pub(crate) fn format(path: &Path, mib: u64) -> io::Result<()> {
    let new = path.with_extension("new");
    // One that a killed server began may still be written to.
    layout::remove_file(&new)?;
    File::create_new(&new)?;
    let kib = (mib * 1024).to_string();
    let output = mke2fs(&new, OsStr::new(&kib))
        .stderr(Stdio::piped())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ));
    }
    fs::set_permissions(&new, Permissions::from_mode(0o444))?;
    folder::publish(&new, path)
}

/// Lets what waits be written out, and the pool grow that was just filled: until then a file system may say that it is full.
pub(crate) fn settle(folder: &Path) -> io::Result<()> {
    syncfs(File::open(folder)?)?;
    std::thread::sleep(GROWTH);
    Ok(())
}

/// Opens a file of ours to read, never through a link.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.custom_flags(OFlags::NOFOLLOW.bits() as i32);
    options.read(true).open(path)
}

/// Copies a file to a new one of this mode: by sharing its blocks, or else those parts that were ever written.
pub(crate) fn copy(from: &Path, to: &Path, mode: u32) -> io::Result<File> {
    let source = open(from)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(mode);
    let copy = options.open(to)?;
    match ioctl_ficlone(&copy, &source) {
        Ok(()) => Ok(copy),
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY) => {
            copy_written(&source, &copy)?;
            Ok(copy)
        }
        Err(error) => Err(error.into()),
    }
}

fn copy_written(mut source: &File, mut copy: &File) -> io::Result<()> {
    let len = source.metadata()?.len();
    copy.set_len(len)?;
    let mut at = 0;
    while let Some((begin, end)) = written_after(source, at)? {
        source.seek(io::SeekFrom::Start(begin))?;
        copy.seek(io::SeekFrom::Start(begin))?;
        let copied = io::copy(&mut source.take(end - begin), &mut copy)?;
        if copied < end - begin {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        at = end;
    }
    copy.flush()
}

/// The next part that has blocks.
fn written_after(file: &File, at: u64) -> io::Result<Option<(u64, u64)>> {
    let begin = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Err(Errno::NXIO) => return Ok(None),
        found => found?,
    };
    Ok(Some((
        begin,
        rustix::fs::seek(file, SeekFrom::Hole(begin))?,
    )))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn a_copy_has_the_same_bytes_and_the_same_holes() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"middle", 32 << 20).unwrap();
        copy(&from, &to, 0o600).unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20);
        assert!(
            copy(&from, &to, 0o600).is_err(),
            "what is there is not overwritten"
        );
    }
}
