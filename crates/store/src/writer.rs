//! `SQLite`'s one connection that writes: writers queue for it here and not at the file's lock.
//!
//! It is no pool, because a pool looks after a connection each time that it comes back, and whoever is next waits for that.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Executor, SqliteConnection};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};
use tokio::time::timeout;

use crate::error::{Result, StoreError};
use crate::open::PATIENCE;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Writer(Arc<Seat>);

#[derive(Debug)]
struct Seat {
    /// None once the store is closed.
    db: Arc<Mutex<Option<SqliteConnection>>>,
    /// A transaction was begun and not ended. Read and written only by whoever has the turn.
    open: AtomicBool,
}

/// The right to write, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    db: OwnedMappedMutexGuard<Option<SqliteConnection>, SqliteConnection>,
    writer: Writer,
}

impl Writer {
    /// Opens the connection.
    pub(crate) async fn connect(options: &SqliteConnectOptions) -> Result<Self, sqlx::Error> {
        let db = SqliteConnection::connect_with(options).await?;
        Ok(Self(Arc::new(Seat {
            db: Arc::new(Mutex::new(Some(db))),
            open: AtomicBool::new(false),
        })))
    }

    /// Waits for the turn, with nothing left open by the one before.
    pub(crate) async fn turn(&self) -> Result<Turn> {
        let seat = timeout(PATIENCE, self.0.db.clone().lock_owned())
            .await
            .map_err(|_| StoreError::Busy(sqlx::Error::PoolTimedOut))?;
        let db = OwnedMutexGuard::try_map(seat, Option::as_mut)
            .map_err(|_closed| StoreError::Statement(sqlx::Error::PoolClosed))?;
        let mut turn = Turn {
            db,
            writer: self.clone(),
        };
        if turn.is_open() {
            // It fails if the transaction was never begun, or has ended by itself.
            let _nothing_open = turn.db.execute("ROLLBACK").await;
            turn.set_open(false);
        }
        Ok(turn)
    }

    /// Waits for the turn and begins a transaction.
    pub(crate) async fn begin(&self) -> Result<Turn> {
        let mut turn = self.turn().await?;
        // Before it is: whoever waits for it may go away.
        turn.set_open(true);
        turn.db.execute("BEGIN IMMEDIATE").await?;
        Ok(turn)
    }

    /// Waits for what runs and closes the connection.
    pub(crate) async fn close(&self) {
        if let Some(db) = self.0.db.lock().await.take() {
            // There is nothing left to lose: what was committed is in the file.
            let _closed = db.close().await;
        }
    }
}

impl Turn {
    /// Ends the transaction: makes it so.
    pub(crate) async fn commit(mut self) -> Result<()> {
        self.db.execute("COMMIT").await?;
        self.set_open(false);
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.writer.0.open.load(Ordering::Relaxed)
    }

    fn set_open(&self, open: bool) {
        self.writer.0.open.store(open, Ordering::Relaxed);
    }
}

impl Drop for Turn {
    /// What was begun and not committed is rolled back by the next turn, which is taken at once for that.
    fn drop(&mut self) {
        if self.is_open()
            && let Ok(runtime) = Handle::try_current()
        {
            let writer = self.writer.clone();
            runtime.spawn(async move { writer.turn().await.map(drop) });
        }
    }
}

impl Deref for Turn {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.db
    }
}

impl DerefMut for Turn {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.db
    }
}
