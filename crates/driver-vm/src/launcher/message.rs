//! What the driver and the launcher say to each other: one message each way.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use skerry_sys::cgroup::Door;

/// Bytes of a message, at most.
pub(crate) const MAX_BYTES: usize = 64 * 1024;

/// Start a QEMU. Comes with the descriptors of [`Fds`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The program's name among processes.
    pub(crate) name: String,
    /// Who runs it.
    pub(crate) uid: u32,
    /// The tree that QEMU and its firmware are in.
    pub(crate) qemu: PathBuf,
    /// The files it sees below `/m`.
    pub(crate) files: Vec<File>,
    pub(crate) args: Vec<String>,
    /// It needs `/dev/kvm`.
    pub(crate) kvm: bool,
    /// The largest that any file of it may get, in bytes.
    pub(crate) max_file_bytes: u64,
    /// A network namespace comes with it, in which this is the sandbox's address.
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) has_netns: bool,
    /// The way into a control group comes with it.
    pub(crate) door: Option<DoorKind>,
}

/// A file of the host shown to QEMU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct File {
    /// Its name below `/m`.
    pub(crate) name: String,
    pub(crate) source: PathBuf,
    pub(crate) writable: bool,
}

/// See [`skerry_sys::cgroup::Door`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DoorKind {
    Tasks,
    Folder,
}

/// What came of it. `Started` comes with a pidfd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Started { pid: u32 },
    Failed(Failure),
}

/// The step that failed and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("cannot {step}: {reason}")]
pub(crate) struct Failure {
    pub(crate) step: String,
    pub(crate) reason: String,
}

impl Failure {
    /// Wraps the error of a step, named as what one cannot do.
    pub(crate) fn at<E: Into<std::io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |error| Self {
            step: step.into(),
            reason: error.into().to_string(),
        }
    }
}

/// The descriptors that come with a request, in this order.
#[derive(Debug)]
pub(crate) struct Fds {
    /// Where QEMU complains: a few bytes of memory.
    pub(crate) log: OwnedFd,
    /// Listening sockets: control, agent, monitor.
    pub(crate) sockets: [OwnedFd; 3],
    pub(crate) netns: Option<OwnedFd>,
    pub(crate) door: Option<Door>,
}

impl Fds {
    /// As they are sent.
    pub(crate) fn all(&self) -> Vec<BorrowedFd<'_>> {
        let door: &[OwnedFd] = match &self.door {
            Some(Door::Tasks(tasks)) => tasks,
            Some(Door::Folder(folder)) => std::slice::from_ref(folder),
            None => &[],
        };
        let first = [&self.log].into_iter().chain(&self.sockets);
        let all = first.chain(&self.netns).chain(door);
        all.map(AsFd::as_fd).collect()
    }

    pub(super) fn sort(fds: Vec<OwnedFd>, request: &Request) -> Option<Self> {
        let mut fds = fds.into_iter();
        Some(Self {
            log: fds.next()?,
            sockets: [fds.next()?, fds.next()?, fds.next()?],
            netns: if request.has_netns {
                Some(fds.next()?)
            } else {
                None
            },
            door: match request.door {
                Some(DoorKind::Tasks) => Some(Door::Tasks(fds.collect())),
                Some(DoorKind::Folder) => Some(Door::Folder(fds.next()?)),
                None => None,
            },
        })
    }
}
