//! The schema: up, down and up again is the same; every step may run twice; both engines have the same logical one.

use std::collections::BTreeSet;
use std::path::Path;

use skerry_store::{Location, Quotas, Store};
use skerry_types::OrgId;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};

use crate::bed::{Bed, LOCAL, SYSTEM, at, on_both_engines};

on_both_engines! {
    up_down_up_is_the_same,
    each_step_down_and_up_is_the_same,
    every_step_may_run_twice,
    initial_rows_are_added_once,
    ids_are_stored_as_uuids,
}

/// The newest step.
pub(crate) const LAST: i64 = 16;

/// A connection beside the store's own.
pub(crate) enum Raw {
    Sqlite(SqliteConnection),
    Pg(PgConnection),
}

impl Raw {
    pub(crate) async fn connect(location: &Location) -> Self {
        use sqlx::ConnectOptions;
        match location {
            Location::Sqlite(path) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                Self::Sqlite(options.connect().await.unwrap())
            }
            Location::Postgres(options) => Self::Pg(options.connect().await.unwrap()),
        }
    }

    pub(crate) async fn run(&mut self, script: String) -> Result<(), sqlx::Error> {
        let script = sqlx::raw_sql(AssertSqlSafe(script));
        match self {
            Self::Sqlite(db) => script.execute(db).await.map(drop),
            Self::Pg(db) => script.execute(db).await.map(drop),
        }
    }

    pub(crate) async fn close(self) {
        match self {
            Self::Sqlite(db) => db.close().await.unwrap(),
            Self::Pg(db) => db.close().await.unwrap(),
        }
    }

    /// `table.column kind null|not null` and `index name (columns)`.
    async fn schema(&mut self) -> BTreeSet<String> {
        let lines: Vec<String> = match self {
            Self::Sqlite(db) => {
                let rows = sqlx::query(
                    "SELECT m.name || '.' || c.name || ' ' || c.type || CASE c.\"notnull\" \
                     WHEN 1 THEN ' not null' ELSE ' null' END FROM sqlite_master AS m, \
                     pragma_table_info(m.name) AS c WHERE m.type = 'table' UNION ALL \
                     SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
                )
                .fetch_all(db)
                .await
                .unwrap();
                rows.iter().map(|row| logical(row.get(0))).collect()
            }
            Self::Pg(db) => {
                let rows = sqlx::query(
                    "SELECT table_name || '.' || column_name || ' ' || data_type || CASE is_nullable \
                     WHEN 'NO' THEN ' not null' ELSE ' null' END FROM information_schema.columns \
                     WHERE table_schema = 'public' UNION ALL SELECT indexdef FROM pg_indexes \
                     WHERE schemaname = 'public' AND indexname NOT LIKE '%key'",
                )
                .fetch_all(db)
                .await
                .unwrap();
                rows.iter().map(|row| logical(row.get(0))).collect()
            }
        };
        lines
            .into_iter()
            .filter(|line| !line.starts_with("_sqlx"))
            .collect()
    }
}

/// PostgreSQL's words for a type and an index in `SQLite`'s.
fn logical(line: &str) -> String {
    line.to_lowercase()
        .replace("if not exists ", "")
        .replace("on public.", "on ")
        .replace("::text", "")
        .replace("using btree ", "")
        .replace(" uuid", " blob")
        .replace(" bytea", " blob")
        .replace(" jsonb", " text")
}

async fn up_down_up_is_the_same(bed: &Bed) {
    let mut raw = Raw::connect(&bed.location).await;
    let schema = raw.schema().await;
    assert!(
        schema.contains("sandboxes.org_id blob not null"),
        "{schema:?}"
    );
    bed.store.migrate().await.unwrap();
    assert_eq!(raw.schema().await, schema, "up twice");
    bed.store.migrate_down(0).await.unwrap();
    assert_eq!(raw.schema().await, BTreeSet::new(), "down leaves nothing");
    bed.store.migrate_down(0).await.unwrap();
    bed.store.migrate().await.unwrap();
    assert_eq!(raw.schema().await, schema);
    bed.store.seed().await.unwrap();
    bed.queued(&LOCAL, 0).await;
    raw.close().await;
}

async fn each_step_down_and_up_is_the_same(bed: &Bed) {
    let mut raw = Raw::connect(&bed.location).await;
    let schema = raw.schema().await;
    for step in (0..LAST).rev() {
        bed.store.migrate_down(step).await.unwrap();
        assert_ne!(raw.schema().await, schema, "step {}", step + 1);
        bed.store.migrate().await.unwrap();
        assert_eq!(raw.schema().await, schema, "step {}", step + 1);
    }
    raw.close().await;
}

async fn every_step_may_run_twice(bed: &Bed) {
    let folder = match bed.location {
        Location::Sqlite(_) => "migrations/sqlite",
        Location::Postgres(_) => "migrations/postgres",
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let (downs, ups): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|file| file.to_string_lossy().ends_with(".down.sql"));
    assert_eq!((ups.len() as i64, downs.len()), (LAST, ups.len()));
    let mut raw = Raw::connect(&bed.location).await;
    let schema = raw.schema().await;
    for file in downs.iter().rev().chain(&ups) {
        let script = std::fs::read_to_string(file).unwrap();
        raw.run(script.clone()).await.unwrap();
        let once = raw.schema().await;
        if let Err(error) = raw.run(script).await {
            // `SQLite` cannot add a column where there is none yet; but each step is one transaction there, and is never half done.
            let text = error.to_string();
            let is_there = text.contains("duplicate column") || text.contains("no such column");
            assert!(is_there && matches!(raw, Raw::Sqlite(_)), "{text}");
        }
        assert_eq!(raw.schema().await, once, "{}", file.display());
    }
    assert_eq!(raw.schema().await, schema);
    raw.close().await;
}

async fn initial_rows_are_added_once(bed: &Bed) {
    let store = &bed.store;
    store
        .set_quotas(&SYSTEM, OrgId::LOCAL, Quotas::DEFAULT)
        .await
        .unwrap();
    bed.node(3).await;
    let local = store.org(&LOCAL).await.unwrap();
    let nodes = store.nodes(&SYSTEM).await.unwrap();
    store.seed().await.unwrap();
    assert_eq!(store.org(&LOCAL).await.unwrap(), local);
    assert_eq!(store.nodes(&SYSTEM).await.unwrap(), nodes);
    assert_eq!(nodes.len(), 1);
    let changed = store.quotas(&LOCAL).await.unwrap();
    assert_eq!(changed, Quotas::DEFAULT, "a change by hand stays");
    let platform = skerry_store::Tenant::of(OrgId::PLATFORM);
    assert!(store.org(&platform).await.unwrap().id.uuid().is_nil());
}

async fn ids_are_stored_as_uuids(bed: &Bed) {
    bed.node(1).await;
    bed.running(&LOCAL, 0).await;
    bed.store
        .create_key(&LOCAL, crate::keys::new_key(1), at(0))
        .await
        .unwrap();
    let mut raw = Raw::connect(&bed.location).await;
    let columns = raw.schema().await;
    // The one row of the server's secret has a number.
    let odd = |line: &str| line.starts_with("create") || line.starts_with("server_secret.");
    for line in columns.iter().filter(|line| !odd(line)) {
        let column = line.split([' ', '.']).nth(1).unwrap();
        if column == "id" || column.ends_with("_id") || column.starts_with("fork_root") {
            assert!(line.contains(" blob "), "{line}");
        }
    }
    if let Raw::Sqlite(db) = &mut raw {
        let row = sqlx::query("SELECT typeof(id), length(id), length(fork_root) FROM sandboxes")
            .fetch_one(db)
            .await
            .unwrap();
        assert_eq!(row.get::<String, _>(0), "blob");
        assert_eq!((row.get::<i64, _>(1), row.get::<i64, _>(2)), (16, 16));
    }
    raw.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_engines_have_the_same_logical_schema() {
    let Some(postgres) = Bed::postgres().await else {
        return;
    };
    let sqlite = Bed::sqlite().await;
    let mut a = Raw::connect(&sqlite.location).await;
    let mut b = Raw::connect(&postgres.location).await;
    let (of_sqlite, of_postgres) = (a.schema().await, b.schema().await);
    let differ: Vec<_> = of_sqlite.symmetric_difference(&of_postgres).collect();
    assert!(differ.is_empty(), "{differ:#?}");
    a.close().await;
    b.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_may_open_an_empty_database_at_once() {
    let Some(url) = skerry_testkit::postgres::fresh_database().unwrap() else {
        return;
    };
    let location: Location = url.parse().unwrap();
    let mut opens = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let location = location.clone();
        opens.spawn(async move { Store::open(&location).await.unwrap() });
    }
    for store in opens.join_all().await {
        assert_eq!(store.nodes(&SYSTEM).await.unwrap().len(), 1);
    }
}
