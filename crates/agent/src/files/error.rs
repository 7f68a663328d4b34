//! Why file work was not done.

use std::io;
use std::path::{Path, PathBuf};

use skerry_proto::agent::Failed;

use crate::hold::Restless;
use crate::users::UserError;

/// One variant per thing that can be in the way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    NoUser(UserError),
    #[error(transparent)]
    Restless(#[from] Restless),
    #[error("{} is not an absolute path", .0.display())]
    NotAbsolute(PathBuf),
    #[error("a path of {0} bytes is too long")]
    TooLong(usize),
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    #[error("there are too many directories beside {} to keep them in mind; take them one by one", .0.display())]
    TooWide(PathBuf),
    #[error("there are too few random bytes to make new ids of")]
    NoEntropy,
    #[error("the root directory cannot be removed")]
    Root,
    #[error("the transfer ended before its last byte")]
    Broken,
    #[error("the archive is damaged: {0}")]
    Archive(io::Error),
    #[error("the archive's entry {} leads outside of the target", .0.display())]
    Outside(PathBuf),
    #[error("the archive's entry {} is of a kind that is not unpacked", .0.display())]
    Kind(PathBuf),
    #[error("the archive's entry {} has a header of more than {max} bytes", .path.display())]
    LongHeader { path: PathBuf, max: u64 },
    #[error("{0} requests are open, the most there may be")]
    TooMany(usize),
    #[error("nothing of this command runs")]
    NoProcess,
    #[error("the work was given up")]
    GivenUp,
}

impl FileError {
    /// As the node gets it.
    pub(crate) fn failed(&self) -> Failed {
        let errno = match self {
            Self::Io { source, .. } | Self::Archive(source) => source.raw_os_error().unwrap_or(0),
            Self::NoUser(_) => libc::ENOENT,
            Self::NotAFile(_) | Self::NotAbsolute(_) => libc::EINVAL,
            Self::TooLong(_) => libc::ENAMETOOLONG,
            Self::NoProcess => libc::ESRCH,
            Self::Root | Self::Outside(_) | Self::Kind(_) => libc::EPERM,
            _ => 0,
        };
        Failed {
            errno,
            message: self.to_string(),
        }
    }
}

/// Says what was tried on which path when it fails.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|error| FileError::Io {
            doing,
            path: path.to_owned(),
            source: error.into(),
        })
    }
}
