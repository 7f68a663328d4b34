//! What can go wrong with the store, and what its caller is told.

use std::path::PathBuf;

use skerry_types::{Error, ErrorCode, IllegalTransition, SandboxState};

/// Short for a result with [`StoreError`].
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address of the store is neither a path nor a PostgreSQL URL.
    #[error("the store's address cannot be read")]
    Address(#[source] sqlx::Error),
    /// The database file cannot be made, or not be kept private.
    #[error("the database file {} cannot be made private to its owner", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No connection.
    #[error("the database {location} cannot be opened")]
    Open {
        /// Where it should be, without a password.
        location: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The schema could not be brought up, or taken down.
    #[error(
        "the database's schema could not be changed; it is as it was before the step that failed"
    )]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A newer release has worked on this database.
    #[error("the database has schema {found}; this release knows schemas up to {known}")]
    NewerSchema {
        /// The newest step that was applied.
        found: i64,
        /// The newest step that this program has.
        known: i64,
    },
    /// An applied migration is not the one that this program has.
    #[error("schema step {0} in the database is not the one of this release")]
    AlteredSchema(i64),
    /// The file is not a database, or is damaged.
    #[error("the database is damaged")]
    Corrupt(#[source] sqlx::Error),
    /// Someone else holds the database, or every connection is busy.
    #[error("the database is busy")]
    Busy(#[source] sqlx::Error),
    /// No space for the database.
    #[error("no space is left for the database")]
    DiskFull(#[source] sqlx::Error),
    /// A text holds what the database cannot keep, such as a NUL character.
    #[error("a text holds a character that cannot be stored")]
    BadText(#[source] sqlx::Error),
    /// A stored value is not one that this program writes.
    #[error("column {column} holds what it should not")]
    BadValue {
        /// Which column.
        column: &'static str,
    },
    /// A statement failed for a reason of the database's own.
    #[error("a statement failed")]
    Statement(#[source] sqlx::Error),
    /// There is no such thing in this org.
    #[error("{0} was not found")]
    NotFound(String),
    /// There is one already.
    #[error("there is one with this id, name or key already")]
    Exists(#[source] sqlx::Error),
    /// A living sandbox of this org has this name.
    #[error("another sandbox is called {0}")]
    NameTaken(String),
    /// A snapshot of this org has this name.
    #[error("another snapshot is called {0}")]
    SnapshotNameTaken(String),
    /// The org has as many snapshots as it may have.
    #[error("the organisation has {limit} snapshots, which is all it may have")]
    SnapshotLimit {
        /// How many there may be.
        limit: u32,
    },
    /// The org's snapshots take as much of the disk as they may.
    #[error(
        "the organisation's snapshots may take {limit_mb} MiB together, and this one is too much"
    )]
    SnapshotSpace {
        /// What they may take.
        limit_mb: u32,
    },
    /// A volume of this org has this name.
    #[error("another volume is called {0}")]
    VolumeNameTaken(String),
    /// The org has as many volumes as it may have.
    #[error("the organisation has {limit} volumes, which is all it may have")]
    VolumeLimit {
        /// How many there may be.
        limit: u32,
    },
    /// The org's volumes hold as much as they may.
    #[error(
        "the organisation's volumes may hold {limit_mb} MiB together, and this one is too much"
    )]
    VolumeSpace {
        /// What they may hold.
        limit_mb: u32,
    },
    /// The org has as many templates as it may have.
    #[error("the organisation has {limit} templates, which is all it may have")]
    TemplateLimit {
        /// How many there may be.
        limit: u32,
    },
    /// The state does not allow it.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// The state kept changing under us.
    #[error("the sandbox is changing too fast")]
    Contended,
    /// The org has all the sandboxes it may have.
    #[error("the organisation has {limit} sandboxes, which is all it may have at once")]
    Quota {
        /// How many it may have.
        limit: u32,
    },
    /// Its node has no free slot.
    #[error("node has no free slot")]
    NoCapacity,
    /// It needs a sandbox that runs: a fork, or a new timeout.
    #[error("the sandbox is {0}, not running")]
    NotRunning(SandboxState),
    /// It ended before it ran for the first time, so there is nothing of it to start again.
    #[error("the sandbox never ran, so it cannot be started again")]
    NeverRan,
    /// The chain of forks is as long as it may be.
    #[error("a chain of forks has at most {limit} links")]
    ForkDepth {
        /// How many links there may be.
        limit: u32,
    },
    /// The parent has as many forks as it may have.
    #[error("a sandbox has at most {limit} forks")]
    ForkLimit {
        /// How many there may be.
        limit: u32,
    },
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return match error {
                sqlx::Error::PoolTimedOut => Self::Busy(error),
                _ => Self::Statement(error),
            };
        };
        let code = database.code().unwrap_or_default();
        match kind(&code) {
            Kind::Exists => Self::Exists(error),
            Kind::Busy => Self::Busy(error),
            Kind::DiskFull => Self::DiskFull(error),
            Kind::Corrupt => Self::Corrupt(error),
            Kind::BadText => Self::BadText(error),
            Kind::Other => Self::Statement(error),
        }
    }
}

impl StoreError {
    /// The same, or that `name` is taken if that is what it says.
    pub(crate) fn or_name_taken(self, name: Option<&str>) -> Self {
        match (self, name) {
            // One engine names the index and the other the columns; the primary key has no name in it.
            (Self::Exists(error), Some(name)) if error.to_string().contains("name") => {
                Self::NameTaken(name.to_owned())
            }
            (other, _) => other,
        }
    }
}

enum Kind {
    Exists,
    Busy,
    DiskFull,
    Corrupt,
    BadText,
    Other,
}

/// PostgreSQL's codes have five characters; `SQLite`'s are numbers whose low byte is the primary code.
fn kind(code: &str) -> Kind {
    match code {
        "23505" => return Kind::Exists,
        "55P03" | "57014" | "40001" | "40P01" | "53300" => return Kind::Busy,
        "53100" => return Kind::DiskFull,
        "XX001" | "XX002" => return Kind::Corrupt,
        "22021" | "22P05" => return Kind::BadText,
        _ if code.len() == 5 => return Kind::Other,
        _ => {}
    }
    match code.parse::<u32>() {
        Ok(1555 | 2067) => Kind::Exists,
        Ok(n) => match n & 0xff {
            5 | 6 => Kind::Busy,
            11 | 26 => Kind::Corrupt,
            13 => Kind::DiskFull,
            _ => Kind::Other,
        },
        Err(_) => Kind::Other,
    }
}

impl StoreError {
    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NameTaken(_) => "take another name, or stop or delete the sandbox that has it",
            Self::SnapshotNameTaken(_) => "take another name, or overwrite it",
            Self::VolumeNameTaken(_) => "take another name, or remove that one",
            Self::SnapshotLimit { .. }
            | Self::SnapshotSpace { .. }
            | Self::VolumeLimit { .. }
            | Self::VolumeSpace { .. }
            | Self::TemplateLimit { .. } => "remove some that nobody needs",
            Self::Quota { .. } => "stop or delete a sandbox, or ask for a larger quota",
            Self::NeverRan => "create another one",
            Self::NotRunning(_) => "create another one, or take one that runs",
            Self::DiskFull(_) => "free some space where the database lies",
            Self::Busy(_) => "close other programs that hold the database open, then try again",
            Self::Corrupt(_) => {
                "restore the database from a backup, or move it away to start with an empty one"
            }
            Self::NewerSchema { .. } | Self::AlteredSchema(_) => {
                "use the release that last worked on this database, or a newer one"
            }
            Self::Address(_) => "give a path, or postgres://user@host/database",
            Self::Open { location, .. } if location.starts_with("postgres:") => {
                "start PostgreSQL, and check host, port, user and password; with no database named, everything is kept in one file"
            }
            Self::File { .. } | Self::Open { .. } | Self::Migrate(_) => {
                "check that the database is there, and that this user may write to it"
            }
            _ => return None,
        })
    }

    const fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound(_) => ErrorCode::NotFound,
            Self::Exists(_)
            | Self::Contended
            | Self::NameTaken(_)
            | Self::SnapshotNameTaken(_)
            | Self::VolumeNameTaken(_)
            | Self::NeverRan => ErrorCode::Conflict,
            Self::Quota { .. }
            | Self::SnapshotLimit { .. }
            | Self::SnapshotSpace { .. }
            | Self::VolumeLimit { .. }
            | Self::VolumeSpace { .. }
            | Self::TemplateLimit { .. } => ErrorCode::QuotaExceeded,
            Self::NoCapacity => ErrorCode::NoCapacity,
            Self::NotRunning(_) => ErrorCode::SandboxNotRunning,
            Self::ForkDepth { .. } => ErrorCode::ForkDepthExceeded,
            Self::ForkLimit { .. } => ErrorCode::ForkLimitExceeded,
            Self::BadText(_) => ErrorCode::ValidationError,
            Self::DiskFull(_) => ErrorCode::DiskFull,
            Self::Busy(_) => ErrorCode::ServiceUnavailable,
            _ => ErrorCode::InternalError,
        }
    }

    const fn retry_after(&self) -> Option<u64> {
        match self {
            Self::NoCapacity => Some(5),
            Self::Busy(_) => Some(1),
            _ => None,
        }
    }
}

impl From<StoreError> for Error {
    /// No statement and no value of the database gets into the message; the log has the chain.
    fn from(error: StoreError) -> Self {
        if let StoreError::Illegal(illegal) = error {
            return illegal.into();
        }
        let mut told = Self::new(error.code(), error.to_string());
        told.hint = error.hint().map(str::to_owned);
        told.retry_after = error.retry_after();
        told
    }
}
