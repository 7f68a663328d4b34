//! Opening a store: where it lies, its connections, its schema.

use std::fmt;
use std::fs::{OpenOptions, Permissions};
use std::ops::Deref;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Acquire, ConnectOptions, Connection, Executor, PgConnection, PgPool, SqliteConnection};
use tokio::time::timeout;

use crate::Store;
use crate::db::Db;
use crate::error::{Result, StoreError};
use crate::writer::Writer;

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// Connections that read a `SQLite` file.
const READERS: u32 = 4;
/// Connections to PostgreSQL.
const CONNECTIONS: u32 = 10;
/// How long a statement waits for its turn.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long a statement may take on PostgreSQL.
const STATEMENT_TIMEOUT: &str = "30s";
/// Pages that are written before `SQLite` takes them from its log into the file: 16 MiB of log, and few enough waits for the disk.
const CHECKPOINT_PAGES: &str = "4000";
/// Bytes of the log that are kept when it begins anew. A frame is no whole page, so one that is written over another, which is no longer in
/// memory, waits until that is read from the disk.
const LOG_KEPT: &str = "0";

/// Where a store lies.
#[derive(Clone)]
pub enum Location {
    /// A `SQLite` file; made if it is not there, in a folder that is.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(Box<PgConnectOptions>),
}

impl FromStr for Location {
    type Err = StoreError;

    /// `postgres://user:password@host/database`, or the path of a file.
    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let options = text.parse().map_err(StoreError::Address)?;
            return Ok(Self::Postgres(Box::new(options)));
        }
        Ok(Self::Sqlite(PathBuf::from(text)))
    }
}

impl fmt::Debug for Location {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(options) => write!(
                f,
                "postgres://{}:{}/{}",
                options.get_host(),
                options.get_port(),
                options.get_database().unwrap_or_default()
            ),
        }
    }
}

impl Store {
    /// Opens the store, brings its schema up to this release and adds the initial rows.
    pub async fn open(location: &Location) -> Result<Self> {
        let store = Self::connect(location).await?;
        store.migrate().await?;
        store.seed().await?;
        Ok(store)
    }

    /// Opens the store as it is.
    pub async fn connect(location: &Location) -> Result<Self> {
        let db = match location {
            Location::Sqlite(path) => open_sqlite(path).await,
            Location::Postgres(options) => open_postgres(options).await.map(Db::Pg),
        };
        let db = db.map_err(|error| open_error(error, location))?;
        Ok(Self { db })
    }

    /// Brings the schema up to this release. Of many who do it at once on PostgreSQL, one does and the others wait.
    pub async fn migrate(&self) -> Result<()> {
        self.change_schema(None).await
    }

    /// Takes the schema down to step `version`; 0 leaves nothing. What the removed steps held is lost.
    pub async fn migrate_down(&self, version: i64) -> Result<()> {
        self.change_schema(Some(version)).await
    }

    async fn change_schema(&self, down_to: Option<i64>) -> Result<()> {
        let done = match &self.db {
            Db::Sqlite { writer, .. } => {
                let mut turn = writer.turn().await?;
                let db: &mut SqliteConnection = &mut turn;
                steps(&SQLITE, down_to, db).await
            }
            Db::Pg(pool) => {
                let mut alone = connection_alone(pool).await?;
                let done = steps(&POSTGRES, down_to, &mut alone).await;
                alone.close().await?;
                done
            }
        };
        done.map_err(migrate_error)
    }

    /// Waits for what runs and closes every connection.
    pub async fn close(&self) {
        match &self.db {
            Db::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Db::Pg(pool) => pool.close().await,
        }
    }
}

/// A commit outlives the death of this process. After a power cut the last ones may be missing, though never half of one: what was on
/// record then is gone with the machine's sandboxes, and what must not be lost is hardened by itself (see [`Db::harden`]).
async fn open_sqlite(path: &Path) -> Result<Db> {
    keep_private(path).map_err(|source| StoreError::File {
        path: path.to_owned(),
        source,
    })?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", LOG_KEPT)
        .busy_timeout(PATIENCE)
        .foreign_keys(true)
        .disable_statement_logging();
    let writer = Writer::connect(&options).await?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(PATIENCE)
        .test_before_acquire(false)
        .connect_lazy_with(options.pragma("query_only", "on"));
    Ok(Db::Sqlite { writer, readers })
}

/// The file is its owner's alone from its first byte; `SQLite` gives its log the same mode.
fn keep_private(path: &Path) -> std::io::Result<()> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?
        .set_permissions(Permissions::from_mode(0o600))
}

async fn open_postgres(options: &PgConnectOptions) -> Result<PgPool> {
    let options = options
        .clone()
        .application_name("skerry")
        .options([("statement_timeout", STATEMENT_TIMEOUT)])
        .disable_statement_logging();
    // The pool would try again and again, and in the end not say why.
    timeout(PATIENCE, options.connect())
        .await
        .map_err(|_| sqlx::Error::PoolTimedOut)??
        .close()
        .await?;
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(PATIENCE)
        .connect_with(options)
        .await?;
    Ok(pool)
}

/// Runs the missing steps up, or those above `down_to` down. In a box, whose type says what the compiler cannot work out by itself:
/// that it may move between threads.
fn steps<'a, A>(
    migrator: &'static Migrator,
    down_to: Option<i64>,
    db: A,
) -> Pin<Box<dyn Future<Output = Result<(), MigrateError>> + Send + 'a>>
where
    A: Acquire<'a> + Send + 'a,
    A::Connection: Deref<Target: Migrate + Send> + Send,
{
    match down_to {
        None => Box::pin(migrator.run(db)),
        Some(version) => Box::pin(migrator.undo(db, version)),
    }
}

/// A connection that does not go back to the pool: after a failed step it still holds the migrations' lock, which ends with it.
/// Steps may take as long as they need.
async fn connection_alone(pool: &PgPool) -> Result<PgConnection> {
    let mut connection = pool.acquire().await?.detach();
    connection.execute("SET statement_timeout = 0").await?;
    Ok(connection)
}

/// A known reason keeps its own variant; the rest is a database that cannot be reached.
fn open_error(error: StoreError, location: &Location) -> StoreError {
    let source = match error {
        // Nobody answered in time, or at all; that it is busy is for a database that was reached.
        StoreError::Statement(error) | StoreError::Busy(error @ sqlx::Error::PoolTimedOut) => error,
        known => return known,
    };
    StoreError::Open {
        location: format!("{location:?}"),
        source,
    }
}

fn migrate_error(error: MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMissing(found) => StoreError::NewerSchema {
            found,
            known: SQLITE.iter().map(|step| step.version).max().unwrap_or(0),
        },
        MigrateError::VersionMismatch(step) => StoreError::AlteredSchema(step),
        MigrateError::Execute(error) => match StoreError::from(error) {
            StoreError::Statement(error) => StoreError::Migrate(MigrateError::Execute(error)),
            known => known,
        },
        other => StoreError::Migrate(other),
    }
}
