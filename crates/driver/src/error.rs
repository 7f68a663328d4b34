//! Why a driver could not do it.

use std::error::Error as StdError;
use std::io;

use skerry_types::{Error, ErrorCode, SandboxId, SnapshotId};

/// Why a driver could not do it.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Not with this driver on this machine; the text says why and what would help.
    #[error("{0}")]
    Unsupported(String),
    /// Nothing of this sandbox is here.
    #[error("sandbox {0} is not on this node")]
    NotFound(SandboxId),
    /// Nothing of this snapshot is here.
    #[error("snapshot {0} is not on this node")]
    NoSnapshot(SnapshotId),
    /// A sandbox with this id is here already.
    #[error("sandbox {0} is on this node already")]
    Exists(SandboxId),
    /// The sandbox's processes are gone.
    #[error("sandbox {0} does not run")]
    NotRunning(SandboxId),
    /// The host's disk, or the pool, is full.
    #[error("no space left on the host while it did this: {0}")]
    DiskFull(String),
    /// Not now: something of the node must be well again first; the text says what.
    #[error("{0}")]
    Unavailable(String),
    /// It did not come to an end.
    #[error("it took longer than {0} s")]
    TooSlow(u64),
    /// A step failed.
    #[error("{step} failed: {source}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl DriverError {
    /// What a sandbox is made from has something else where a folder has to be; `why` says where.
    pub fn no_folder(why: impl std::fmt::Display) -> Self {
        Self::Unsupported(format!(
            "{why}: a link or a file is there or on the way; choose a folder, or a path that is not there yet"
        ))
    }

    /// Wraps the error of a step.
    pub fn step<E>(step: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Step {
            step,
            source: source.into(),
        }
    }

    /// The host's disk, or the pool, is full; whichever step found out.
    pub fn is_disk_full(&self) -> bool {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(self);
        while let Some(error) = cause {
            let kind = error.downcast_ref().map(io::Error::kind);
            if let Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) = kind {
                return true;
            }
            cause = error.source();
        }
        matches!(self, Self::DiskFull(_))
    }
}

impl From<DriverError> for Error {
    fn from(error: DriverError) -> Self {
        let code = match &error {
            full if full.is_disk_full() => ErrorCode::DiskFull,
            DriverError::Unsupported(_) => ErrorCode::Unsupported,
            DriverError::NotFound(_) | DriverError::NoSnapshot(_) => ErrorCode::NotFound,
            DriverError::Exists(_) => ErrorCode::Conflict,
            DriverError::NotRunning(_) => ErrorCode::SandboxNotRunning,
            DriverError::DiskFull(_) => ErrorCode::DiskFull,
            DriverError::Unavailable(_) => ErrorCode::ServiceUnavailable,
            DriverError::TooSlow(_) | DriverError::Step { .. } => ErrorCode::InternalError,
        };
        Self::new(code, error.to_string())
    }
}
