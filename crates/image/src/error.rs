//! What can go wrong with images: one variant per failing step.

use std::io;
use std::path::{Path, PathBuf};

use skerry_types::{Error, ErrorCode};

/// Short for a result with [`ImageError`].
pub type Result<T, E = ImageError> = std::result::Result<T, E>;

/// Why an image could not be had, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image of that name is on this machine.
    #[error("there is no image `{reference}`")]
    Unknown {
        /// What was asked for.
        reference: String,
        /// What is there.
        known: Vec<String>,
    },
    /// The text cannot name an image.
    #[error("`{reference}` cannot name an image: {reason}")]
    BadReference {
        /// What was asked for, shortened.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or folder of the host could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Our own record of an image cannot be understood.
    #[error("the record {} is damaged", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

impl ImageError {
    /// For `map_err`: the step that failed.
    pub(crate) fn io(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { reference, known } => Some(format!(
                "on this machine: {}; get another with `skerry image pull {reference}`",
                known.join(", ")
            )),
            _ => None,
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown { .. } | Self::BadReference { .. } => ErrorCode::ValidationError,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorCode::DiskFull
            }
            Self::Io { .. } | Self::Record { .. } => ErrorCode::InternalError,
        }
    }
}

impl From<ImageError> for Error {
    fn from(error: ImageError) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
            hint: error.hint(),
            retry_after: None,
        }
    }
}
