//! `/dev/shm`: the files of a sandbox that are in memory only. They are packed and unpacked by its own root, in its own mounts.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};

use skerry_sys::clone::{Forked, Namespaces, SingleThreaded};
use skerry_sys::{exec, pidfd};

use super::PATIENCE;

const SHM: &str = "/dev/shm";

/// Packs those of the sandbox that this is the agent of, if that takes no more than so many bytes: a file is packed once for each of its names.
pub(super) fn pack(
    single: &SingleThreaded,
    agent: &OwnedFd,
    into: File,
    max_bytes: u64,
) -> io::Result<()> {
    let work = || {
        exec::bound_files(max_bytes)?;
        Namespaces::USER.join(agent.as_fd())?;
        Namespaces::MOUNT.join(agent.as_fd())?;
        let mut tar = tar::Builder::new(BufWriter::new(into));
        tar.follow_symlinks(false);
        tar.append_dir_all(".", SHM)?;
        tar.into_inner()?.flush()
    };
    in_child(single, work)
}

/// Unpacks them. The caller is in the sandbox.
pub(super) fn unpack(from: File) -> io::Result<()> {
    let mut tar = tar::Archive::new(BufReader::new(from));
    tar.set_preserve_permissions(true);
    tar.set_preserve_ownerships(true);
    tar.set_unpack_xattrs(false);
    tar.unpack(SHM)
}

/// Does something in a process of its own, and waits for it.
pub(super) fn in_child(
    single: &SingleThreaded,
    work: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let (ours, theirs) = skerry_sys::fdpass::pair()?;
    match single.fork(Namespaces::NONE, None)? {
        Forked::Child => {
            let said = work().err().map_or(String::from("done"), |e| e.to_string());
            let _unheard = skerry_sys::fdpass::send(&theirs, said.as_bytes(), &[]);
            #[expect(clippy::exit, reason = "a forked child has nothing to return to")]
            std::process::exit(0)
        }
        Forked::Parent { pidfd, .. } => {
            drop(theirs);
            if !pidfd::wait(&pidfd, PATIENCE)? {
                pidfd::kill(&pidfd)?;
                return Err(io::ErrorKind::TimedOut.into());
            }
            // In the namespace of a copy its number may be somebody's.
            pidfd::reap(&pidfd)?;
            let mut said = [0; 4096];
            let (len, _) = skerry_sys::fdpass::receive(&ours, &mut said)?;
            match &said[..len] {
                b"done" => Ok(()),
                b"" => Err(io::Error::other("it died over it")),
                said => Err(io::Error::other(String::from_utf8_lossy(said).into_owned())),
            }
        }
    }
}
