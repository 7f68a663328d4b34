//! What the driver says to the spawner and to its children, and what they answer.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skerry_driver::{Bind, Privilege, VolumeMount};

use crate::memory::{Findings, Keep, Kept, Wake};

/// Bytes of a message, at most.
pub(crate) const MAX_BYTES: usize = 128 * 1024;
/// Layers, binds and volumes of a sandbox together, at most: each is a descriptor in one message.
pub(crate) const MAX_TREES: usize = 128;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Comes with the descriptors of [`Fds`](super::Fds).
    Blank(Bounds),
    /// Comes with a handle on the agent.
    Keep(Keep),
    /// Comes with the agent's program and the descriptors of [`Fds`](super::Fds).
    Wake(Box<Wake>),
}

/// What a process is born into, before it is known which sandbox it will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bounds {
    /// What uid 0 inside is to the spawner; 65 536 ids belong to the sandbox. `None`: uid 0 is the caller, and there is no other.
    pub(crate) first_id: Option<u32>,
    /// A network namespace comes with it. Otherwise it gets a new one.
    pub(crate) has_netns: bool,
    /// The user namespace that owns that network comes with it, to be joined first. Only where the host's own does not.
    pub(crate) has_net_owner: bool,
    /// The way into a control group comes with it.
    pub(crate) door: Option<DoorKind>,
}

/// Which sandbox it is. To a blank one it comes with the agent's program, the socket that the agent listens on, and its
/// [`Trees`](super::Trees) unless it has one id only and copies them itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Part of the agent's name among processes.
    pub(crate) label: String,
    pub(crate) hostname: String,
    pub(crate) privilege: Privilege,
    /// Files belong to the ids inside and are shown with the sandbox's; otherwise they belong to the sandbox's already.
    pub(crate) shows_ids: bool,
    /// Lowest first.
    pub(crate) layers: Vec<PathBuf>,
    /// Holds `upper` and `work`.
    pub(crate) volume: PathBuf,
    pub(crate) binds: Vec<Bind>,
    /// Folders that outlive the sandbox.
    pub(crate) shared: Vec<VolumeMount>,
    /// A folder that the agent alone is given, by descriptor.
    pub(crate) home: Option<PathBuf>,
    /// Written into the sandbox before anything runs: path and content.
    pub(crate) files: Vec<(String, String)>,
    pub(crate) shm_bytes: u64,
    /// Bound the number of processes by an rlimit, where there is no control group to do it.
    pub(crate) max_processes: Option<u64>,
}

/// See [`skerry_sys::cgroup::Door`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DoorKind {
    Tasks,
    Folder,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Comes with a pidfd, and the socket on which it waits.
    Blank {
        pid: u32,
        steps: Vec<Lap>,
    },
    /// Comes with a pidfd.
    Awake {
        pid: u32,
        found: Option<Findings>,
        steps: Vec<Lap>,
    },
    Kept {
        kept: Kept,
        found: Option<Findings>,
        steps: Vec<Lap>,
    },
    /// What it is asked to keep or to wake up cannot be kept or woken up.
    Refused(String),
    Failed(Failure),
}

/// What a child says that was told which sandbox it is; the end of the stream after `Ready` is the proof that it became the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    Ready(Vec<Lap>),
    Failed(Failure),
}

/// A step and what it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lap {
    pub(crate) name: String,
    pub(crate) took: Duration,
}

/// The step that failed and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("cannot {step}: {reason}")]
pub(crate) struct Failure {
    pub(crate) step: String,
    pub(crate) reason: String,
    pub(crate) errno: Option<i32>,
}

impl Failure {
    /// Wraps the error of a step, named as what one cannot do.
    pub(crate) fn at<E: Into<std::io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |error| {
            let error = error.into();
            Self {
                step: step.into(),
                reason: error.to_string(),
                errno: error.raw_os_error(),
            }
        }
    }

    /// Is it that what the sandbox is made from has a link or a file where a folder has to be?
    pub(crate) fn is_no_folder(&self) -> bool {
        matches!(self.errno, Some(libc::ENOTDIR | libc::ELOOP))
    }

    /// Is it that the host's disk, or a limit on it, is full?
    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(self.errno, Some(libc::ENOSPC | libc::EDQUOT))
    }
}
