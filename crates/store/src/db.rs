//! The two engines behind one face: a statement goes in, rows come out.

use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, SqliteConnection, SqlitePool};

use crate::error::Result;
use crate::sql::{Row, Sql, bind_all, sql};
use crate::writer::{Turn, Writer};

/// An open database.
#[derive(Debug, Clone)]
pub(crate) enum Db {
    Sqlite { writer: Writer, readers: SqlitePool },
    Pg(PgPool),
}

/// A transaction that may write. Dropped without `commit`, it never was.
#[derive(Debug)]
pub(crate) enum Tx {
    Sqlite(Turn),
    Pg(sqlx::Transaction<'static, Postgres>),
}

/// A pool or a connection of either engine.
enum Target<S, P> {
    Sqlite(S),
    Pg(P),
}

/// Does the same with a statement on whichever engine it is.
macro_rules! on {
    ($target:expr, $sql:expr, |$db:ident, $query:ident, $row:ident| $call:expr) => {
        match $target {
            Target::Sqlite($db) => {
                let $row = Row::Sqlite;
                let $query = bind_all!($sql, AssertSqlSafe($sql.text));
                $call
            }
            Target::Pg($db) => {
                let $row = Row::Pg;
                let sql = $sql.with_lock();
                let $query = bind_all!(sql, AssertSqlSafe(sql.text));
                $call
            }
        }
    };
}

/// The row that a writing statement returns. Every row is fetched: if only one were, an error of the commit behind it would be lost.
macro_rules! write {
    ($target:expr, $sql:expr) => {
        on!($target, $sql, |db, query, row| {
            let rows = query.fetch_all(db).await?;
            Ok(rows.into_iter().next().map(row))
        })
    };
}

impl Target<Turn, &PgPool> {
    fn by_ref(&mut self) -> Target<&mut SqliteConnection, &PgPool> {
        match self {
            Self::Sqlite(turn) => Target::Sqlite(turn),
            Self::Pg(pool) => Target::Pg(pool),
        }
    }
}

impl Db {
    fn reader(&self) -> Target<&SqlitePool, &PgPool> {
        match self {
            Self::Sqlite { readers, .. } => Target::Sqlite(readers),
            Self::Pg(pool) => Target::Pg(pool),
        }
    }

    async fn writer(&self) -> Result<Target<Turn, &PgPool>> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Target::Sqlite(writer.turn().await?),
            Self::Pg(pool) => Target::Pg(pool),
        })
    }

    /// Starts a transaction that may write.
    pub(crate) async fn begin(&self) -> Result<Tx> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Tx::Sqlite(writer.begin().await?),
            Self::Pg(pool) => Tx::Pg(pool.begin().await?),
        })
    }

    /// Reads every row.
    pub(crate) async fn rows(&self, sql: Sql) -> Result<Vec<Row>> {
        on!(self.reader(), sql, |db, query, row| {
            let rows = query.fetch_all(db).await?;
            Ok(rows.into_iter().map(row).collect())
        })
    }

    /// Reads one row, if there is one.
    pub(crate) async fn row(&self, sql: Sql) -> Result<Option<Row>> {
        on!(self.reader(), sql, |db, query, row| Ok(query
            .fetch_optional(db)
            .await?
            .map(row)))
    }

    /// Writes, and returns the row that `RETURNING` gives.
    pub(crate) async fn change(&self, sql: Sql) -> Result<Option<Row>> {
        write!(self.writer().await?.by_ref(), sql)
    }

    /// The same, while nobody else changes the rows that `locks` read. One writer is alone anyway, so on `SQLite` nothing is locked.
    pub(crate) async fn change_alone(&self, locks: Vec<Sql>, sql: Sql) -> Result<Option<Row>> {
        let Self::Pg(_) = self else {
            return self.change(sql).await;
        };
        let mut tx = self.begin().await?;
        for lock in locks {
            tx.row(lock.for_update()).await?;
        }
        let row = tx.row(sql).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Writes, and returns how many rows it met.
    pub(crate) async fn run(&self, sql: Sql) -> Result<u64> {
        on!(self.writer().await?.by_ref(), sql, |db, query, _row| Ok(
            query.execute(db).await?.rows_affected()
        ))
    }

    /// Makes what was written outlive a power cut. PostgreSQL does so by itself.
    pub(crate) async fn harden(&self) -> Result<()> {
        if let Self::Sqlite { .. } = self {
            self.change(sql("PRAGMA wal_checkpoint(PASSIVE)")).await?;
        }
        Ok(())
    }

    /// The function that makes rows `key`, `value` of a flat document: the one word in which the engines differ.
    pub(crate) const fn each_entry(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "json_each",
            Self::Pg(_) => "jsonb_each_text",
        }
    }
}

impl Tx {
    fn connection(&mut self) -> Target<&mut SqliteConnection, &mut PgConnection> {
        match self {
            Self::Sqlite(turn) => Target::Sqlite(turn),
            Self::Pg(tx) => Target::Pg(tx),
        }
    }

    /// Reads or writes, and returns the row, if there is one.
    pub(crate) async fn row(&mut self, sql: Sql) -> Result<Option<Row>> {
        write!(self.connection(), sql)
    }

    /// Writes, and returns how many rows it met.
    pub(crate) async fn run(&mut self, sql: Sql) -> Result<u64> {
        on!(self.connection(), sql, |db, query, _row| Ok(query
            .execute(db)
            .await?
            .rows_affected()))
    }

    /// Makes it so.
    pub(crate) async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(turn) => turn.commit().await?,
            Self::Pg(tx) => tx.commit().await?,
        }
        Ok(())
    }
}
