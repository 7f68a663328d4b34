//! What can go wrong with images: one variant per failing step.

use std::io;
use std::path::{Path, PathBuf};

use skerry_types::{Error, ErrorCode};

use crate::base::BaseError;
use crate::unpack::UnpackError;

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
    /// The image was removed before it could be held.
    #[error("the image `{reference}` has been removed")]
    Gone {
        /// The name it had.
        reference: String,
    },
    /// The image is needed by something that lives.
    #[error("the image `{reference}` is in use: {by}")]
    InUse {
        /// Its name.
        reference: String,
        /// Who needs it.
        by: String,
    },
    /// No connection to the registry, or one that broke too often.
    #[error("cannot reach the registry {registry}: {reason}")]
    Unreachable {
        /// Its host name and port.
        registry: String,
        /// The last of the causes.
        reason: String,
    },
    /// Nothing is fetched from there: a host that is private, or without TLS.
    #[error("{what} is not fetched from {host}: {reason}")]
    Closed {
        /// The image, or a part of it.
        what: String,
        /// The registry, or where it leads.
        host: String,
        /// Why not.
        reason: String,
    },
    /// The registry wants to know who asks.
    #[error("the registry {registry} does not give {what} without a login that it knows")]
    Login {
        /// Its host name and port.
        registry: String,
        /// The image, or a part of it.
        what: String,
    },
    /// The registry does not have it.
    #[error("the registry has no {what}")]
    Missing {
        /// The image, or a part of it.
        what: String,
    },
    /// The registry did not give what was asked for.
    #[error("cannot get {what} from the registry {registry}: {reason}")]
    Registry {
        /// Its host name and port.
        registry: String,
        /// The image, manifest or layer.
        what: String,
        /// What it answered.
        reason: String,
    },
    /// The registry took too long to answer.
    #[error("the registry did not send {what} in time")]
    RegistrySilent {
        /// The image, or a part of it.
        what: String,
    },
    /// Bytes are not those that were promised.
    #[error("{what} has the digest {actual} instead of {expected}")]
    Digest {
        /// The manifest, config or layer.
        what: String,
        /// What was promised.
        expected: String,
        /// What came.
        actual: String,
    },
    /// Fewer or more bytes than were promised.
    #[error("{what} is not {expected} bytes long, as promised, but {actual}")]
    Size {
        /// The config or layer.
        what: String,
        /// What was promised.
        expected: u64,
        /// What came, at least.
        actual: u64,
    },
    /// A manifest, index or config is not JSON of the right shape.
    #[error("cannot understand {what}")]
    Document {
        /// Which document.
        what: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The parts of an image do not fit together.
    #[error("{what} is not usable: {reason}")]
    Malformed {
        /// The image or document.
        what: String,
        /// Why.
        reason: String,
    },
    /// The image is made for other machines.
    #[error("{what} is made for {found}, not for {wanted}")]
    Platform {
        /// The image.
        what: String,
        /// This machine.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// A layer or archive was refused.
    #[error("cannot unpack {what}")]
    Unpack {
        /// The layer or archive.
        what: String,
        /// Why.
        source: UnpackError,
    },
    /// The Debian root file system could not be built.
    #[error("cannot build the base image")]
    Base(#[from] BaseError),
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
    /// Work on another thread broke off; a fault of ours.
    #[error("work on an image broke off")]
    Task(#[from] tokio::task::JoinError),
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

    pub(crate) fn unpack(what: impl Into<String>) -> impl FnOnce(UnpackError) -> Self {
        let what = what.into();
        move |source| Self::Unpack { what, source }
    }

    pub(crate) fn malformed(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Malformed {
            what: what.into(),
            reason: reason.into(),
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { reference, known } => Some(format!(
                "on this machine: {}; get another with `skerry image pull {reference}`",
                known.join(", ")
            )),
            Self::Login { registry, .. } => Some(format!(
                "send a `login` with the request; `skerry image pull` takes it from `docker login {registry}`, or --username and --password-stdin"
            )),
            Self::Closed { host, .. } => Some(format!(
                "if it is meant, let the operator start the server with `skerry up --private-registry {host}`"
            )),
            Self::Unreachable { .. } => Some(
                "the server takes a proxy from the variables HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
                    .to_owned(),
            ),
            Self::InUse { .. } => {
                Some("delete the sandboxes and snapshots that use it first".to_owned())
            }
            Self::Base(error) => error.hint(),
            _ => None,
        }
    }

    fn code(&self) -> ErrorCode {
        if self.is_disk_full() {
            return ErrorCode::DiskFull;
        }
        match self {
            Self::Unknown { .. }
            | Self::BadReference { .. }
            | Self::Digest { .. }
            | Self::Size { .. }
            | Self::Document { .. }
            | Self::Malformed { .. }
            | Self::Unpack { .. } => ErrorCode::ValidationError,
            Self::Missing { .. } => ErrorCode::NotFound,
            Self::InUse { .. } => ErrorCode::Conflict,
            Self::Gone { .. } => ErrorCode::Gone,
            Self::Platform { .. } | Self::Base(_) => ErrorCode::Unsupported,
            Self::Login { .. } | Self::Closed { .. } => ErrorCode::Forbidden,
            Self::Unreachable { .. } | Self::Registry { .. } | Self::RegistrySilent { .. } => {
                ErrorCode::ServiceUnavailable
            }
            Self::Io { .. } | Self::Record { .. } | Self::Task(_) => ErrorCode::InternalError,
        }
    }

    fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. }
            | Self::Unpack {
                source: UnpackError::Write { source, .. } | UnpackError::NoRoom(source),
                ..
            } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            _ => false,
        }
    }
}

impl From<ImageError> for Error {
    /// The message has the whole chain: the last cause is what tells a person most.
    fn from(error: ImageError) -> Self {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(next) = cause {
            // Some causes quote what they could not read.
            let words = next.to_string();
            message = format!("{message}: {}", words.lines().next().unwrap_or_default());
            cause = next.source();
        }
        Self {
            code: error.code(),
            message,
            hint: error.hint(),
            retry_after: None,
        }
    }
}
