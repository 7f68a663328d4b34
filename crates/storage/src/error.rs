//! What can go wrong with storage: one variant per step that fails.

use std::io;
use std::path::PathBuf;

use skerry_sys::btrfs::DeviceErrors;
use skerry_types::{SandboxId, VolumeId};

/// Why storage could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// A folder of the store could not be made or opened.
    #[error("cannot prepare the folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        #[source]
        /// The cause.
        source: io::Error,
    },
    /// Another process has this data folder open.
    #[error("{path} is in use by another process; stop it, or choose another data folder")]
    InUse {
        /// The lock that the other one holds.
        path: PathBuf,
    },
    /// The pool's file could not be made, or has holes that the disk has no blocks for.
    #[error("cannot make the pool file {path}, or take its blocks from the disk")]
    PoolFile {
        /// The file.
        path: PathBuf,
        #[source]
        /// The cause.
        source: io::Error,
    },
    /// The new pool could not be formatted.
    #[error("mkfs.btrfs failed on {path}: {output}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What the tool said, or why it did not run.
        output: String,
    },
    /// No loop device for the pool.
    #[error("cannot attach {path} to a loop device")]
    Attach {
        /// The pool file.
        path: PathBuf,
        #[source]
        /// The cause.
        source: io::Error,
    },
    /// The pool is there but cannot be mounted. Nothing was changed.
    #[error(
        "the pool {path} cannot be mounted; nothing in it was changed. Look at the kernel's log, try `btrfs check` on a copy, \
         or move the file away to begin with an empty pool"
    )]
    PoolBroken {
        /// The pool file.
        path: PathBuf,
        #[source]
        /// The kernel's answer.
        source: io::Error,
    },
    /// The pool lost or changed data. Nothing was changed.
    #[error(
        "the pool {path} has damaged blocks ({errors:?}); nothing in it was changed. Run `btrfs scrub` and, when it is clean, \
         `btrfs device stats -z`, or move the file away to begin with an empty pool"
    )]
    PoolDamaged {
        /// The pool file.
        path: PathBuf,
        /// What its device has counted.
        errors: DeviceErrors,
    },
    /// The state of the pool could not be read.
    #[error("cannot inspect the pool {path}")]
    Inspect {
        /// The pool file, or its mount.
        path: PathBuf,
        #[source]
        /// The cause.
        source: io::Error,
    },
    /// The kernel closed the pool for writing, as it does when a write of its own fails.
    #[error(
        "the pool {path} takes no writes since the disk below it failed; files in it can still be read. It is opened again once no sandbox \
         runs: copy what you need and stop them"
    )]
    PoolClosed {
        /// The pool file.
        path: PathBuf,
    },
    /// The pool could not be given another size; it works on as it is.
    #[error("cannot change the size of the pool {path} from {from} to {to} bytes")]
    Resize {
        /// The pool file.
        path: PathBuf,
        /// Its size, in bytes.
        from: u64,
        /// The size it should have, in bytes.
        to: u64,
        #[source]
        /// The cause.
        source: io::Error,
    },
    /// The disk, or the pool on it, has too little space left to promise more.
    #[error("the disk is full: {free_bytes} bytes are free, and {needed_bytes} must be")]
    DiskFull {
        /// What is left.
        free_bytes: u64,
        /// What must be: what is kept back for running sandboxes, and what was asked for.
        needed_bytes: u64,
    },
    /// A volume of this name is there already.
    #[error("{0} has a volume already")]
    Exists(SandboxId),
    /// No such volume.
    #[error("{0} has no volume")]
    Missing(SandboxId),
    /// A volume could not be made.
    #[error("cannot make the volume of {id}")]
    Create {
        /// Whose.
        id: SandboxId,
        #[source]
        /// The cause.
        source: io::Error,
    },
    /// A volume's limit could not be set.
    #[error("cannot limit the volume of {id}")]
    Limit {
        /// Whose.
        id: SandboxId,
        #[source]
        /// The cause.
        source: io::Error,
    },
    /// A volume could not be forked.
    #[error("cannot fork the volume of {parent}")]
    Fork {
        /// Whose.
        parent: SandboxId,
        #[source]
        /// The cause.
        source: io::Error,
    },
    /// What a volume holds unwritten could not be written out.
    #[error("cannot write out the volume of {id}")]
    Settle {
        /// Whose.
        id: SandboxId,
        #[source]
        /// The cause.
        source: io::Error,
    },
    /// A volume could not be taken away.
    #[error("cannot destroy the volume of {id}")]
    Destroy {
        /// Whose.
        id: SandboxId,
        #[source]
        /// The cause.
        source: io::Error,
    },
    /// Nothing is shared under this id.
    #[error("{0} is not here")]
    NoShared(VolumeId),
    /// A shared folder could not be made.
    #[error("cannot make the folder of {id}")]
    MakeShared {
        /// Which.
        id: VolumeId,
        #[source]
        /// The cause.
        source: io::Error,
    },
    /// A shared folder could not be taken away.
    #[error("cannot remove the folder of {id}")]
    RemoveShared {
        /// Which.
        id: VolumeId,
        #[source]
        /// The cause.
        source: io::Error,
    },
    /// The volumes could not be listed.
    #[error("cannot list the volumes")]
    List(#[source] io::Error),
    /// Used or free space could not be read.
    #[error("cannot read how much space is used")]
    Usage(#[source] io::Error),
}
