//! Why an archive was refused: one variant per trick, and those of honest failure.

use std::io;

/// Why an archive could not be unpacked. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A name starts at the root of the host.
    #[error("`{0}` is an absolute path")]
    AbsolutePath(String),
    /// A name climbs with `..`.
    #[error("`{0}` leads out of the image")]
    ParentPath(String),
    /// An entry that needs a name has none.
    #[error("an entry has no name")]
    EmptyPath,
    /// A name holds a NUL byte.
    #[error("`{0}` holds a NUL byte")]
    NulInPath(String),
    /// A path or a name in it is longer than Linux takes.
    #[error("`{0}…` is too long a path")]
    PathTooLong(String),
    /// Folders are nested too deep.
    #[error("`{path}…` is more than {limit} folders deep")]
    TooDeep {
        /// The start of the path.
        path: String,
        /// The most that is allowed.
        limit: usize,
    },
    /// The entry would be written through a symbolic link or a file.
    #[error("`{0}` lies behind something that is not a folder")]
    NotAFolder(String),
    /// An entry that is no folder would replace one.
    #[error("`{0}` replaces a folder")]
    ReplacesFolder(String),
    /// A device node.
    #[error("`{0}` is a device node")]
    Device(String),
    /// A symbolic or hard link without a usable target.
    #[error("`{0}` is a link to nothing that could be")]
    LinkTarget(String),
    /// A hard link to something that the same layer has not unpacked before.
    #[error("`{path}` is a hard link to `{target}`, which is not in the layer")]
    HardlinkTarget {
        /// The link.
        path: String,
        /// What it should be a link to.
        target: String,
    },
    /// A whiteout of nothing, of `.` or of `..`.
    #[error("`{0}` is no whiteout that could be")]
    Whiteout(String),
    /// A kind of entry that images do not have.
    #[error("`{path}` is an entry of the unknown kind {kind}")]
    Unsupported {
        /// The entry.
        path: String,
        /// The type byte of its header.
        kind: u8,
    },
    /// A sparse file in a notation that image tools do not write.
    #[error("`{0}` is a sparse file in an unknown notation")]
    Sparse(String),
    /// An owner that no Linux system knows.
    #[error("`{0}` belongs to an impossible user or group")]
    Owner(String),
    /// The unpacked image is larger than allowed.
    #[error("the image unpacks to more than {limit} bytes")]
    TooManyBytes {
        /// The most that is allowed.
        limit: u64,
    },
    /// The image has more entries than allowed.
    #[error("the image has more than {limit} entries")]
    TooManyEntries {
        /// The most that is allowed.
        limit: u64,
    },
    /// All names together are larger than allowed.
    #[error("the names in the image take more than {limit} bytes")]
    TooManyNames {
        /// The most that is allowed.
        limit: u64,
    },
    /// So little data unpacks to so much that it can only be meant to harm.
    #[error("the archive unpacks to more than {limit} times its size")]
    Ratio {
        /// The most that is allowed.
        limit: u64,
    },
    /// The headers of one entry are larger than allowed.
    #[error("an entry has headers of more than {limit} bytes")]
    HeaderTooLarge {
        /// The most that is allowed.
        limit: u64,
    },
    /// Not even the beginning is that of a tar archive.
    #[error("it is no tar archive, plain or compressed with gzip or zstd")]
    NotAnArchive,
    /// The tar archive is damaged or cut off.
    #[error("the archive is damaged")]
    Damaged(#[source] io::Error),
    /// The folder to copy from could not be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The disk has not the room.
    #[error("there is no room for the image")]
    NoRoom(#[source] io::Error),
    /// The disk did not take it.
    #[error("cannot write `{path}` of the image")]
    Write {
        /// The entry.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Whoever wanted the image does not want it any more.
    #[error("unpacking was cancelled")]
    Cancelled,
}

impl From<io::Error> for UnpackError {
    /// Errors of our own readers come back through the archive reader wrapped.
    fn from(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(Self::Damaged)
    }
}

impl From<UnpackError> for io::Error {
    fn from(error: UnpackError) -> Self {
        Self::other(error)
    }
}
