//! Databases that are not as they should be: each gives its own error, which says what to do and shows no statement.

use std::os::unix::fs::PermissionsExt;

use skerry_store::{Location, Store, StoreError};
use skerry_types::ErrorCode;

use crate::bed::{Bed, LOCAL, at, new_sandbox, on_both_engines};
use crate::schema::{LAST, Raw};

on_both_engines! {
    a_newer_schema_is_refused,
    an_altered_schema_is_refused,
    a_step_that_fails_leaves_a_usable_database,
    faults_show_no_statement,
}

async fn a_newer_schema_is_refused(bed: &Bed) {
    let mut raw = Raw::connect(&bed.location).await;
    let applied = "INSERT INTO _sqlx_migrations (version, description, installed_on, success, \
         checksum, execution_time) SELECT 9999, 'future', installed_on, success, checksum, 1 \
         FROM _sqlx_migrations WHERE version = 1";
    raw.run(applied.into()).await.unwrap();
    raw.close().await;
    let error = Store::open(&bed.location).await.unwrap_err();
    let (found, known) = (9999, LAST);
    assert!(
        matches!(error, StoreError::NewerSchema { found: f, known: k } if (f, k) == (found, known))
    );
    let error = skerry_types::Error::from(error);
    assert!(error.hint.unwrap().contains("release"));
}

async fn an_altered_schema_is_refused(bed: &Bed) {
    let mut raw = Raw::connect(&bed.location).await;
    let alter = "UPDATE _sqlx_migrations SET checksum = (SELECT checksum FROM _sqlx_migrations \
         WHERE version = 1) WHERE version = 2";
    raw.run(alter.into()).await.unwrap();
    raw.close().await;
    let error = Store::open(&bed.location).await.unwrap_err();
    assert!(matches!(error, StoreError::AlteredSchema(2)), "{error:?}");
}

async fn a_step_that_fails_leaves_a_usable_database(bed: &Bed) {
    bed.store.migrate_down(1).await.unwrap();
    let mut raw = Raw::connect(&bed.location).await;
    raw.run("CREATE VIEW sandboxes AS SELECT 1 AS id".into())
        .await
        .unwrap();
    let error = bed.store.migrate().await.unwrap_err();
    assert!(matches!(error, StoreError::Migrate(_)), "{error:?}");
    assert!(bed.store.org(&LOCAL).await.is_ok());
    raw.run("DROP VIEW sandboxes".into()).await.unwrap();
    raw.close().await;
    bed.store.migrate().await.unwrap();
    bed.queued(&LOCAL, 0).await;
}

async fn faults_show_no_statement(bed: &Bed) {
    bed.store.migrate_down(0).await.unwrap();
    let error = bed
        .store
        .create_sandbox(&LOCAL, new_sandbox(), None, at(0))
        .await
        .unwrap_err();
    let error = skerry_types::Error::from(error);
    assert_eq!(error.code, ErrorCode::InternalError);
    let shown = serde_json::to_string(&error).unwrap().to_lowercase();
    for word in ["select", "insert", "org_quotas", "sandboxes", "table"] {
        assert!(!shown.contains(word), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("skerry.db");
    let bytes = b"this is not a database, and long enough to have a header of its own".repeat(99);
    std::fs::write(&path, &bytes).unwrap();
    let error = Store::open(&Location::Sqlite(path.clone()))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    assert!(
        skerry_types::Error::from(error)
            .hint
            .unwrap()
            .contains("backup")
    );
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "left as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_someone_else_holds() {
    let bed = Bed::sqlite().await;
    bed.store.close().await;
    let mut raw = Raw::connect(&bed.location).await;
    raw.run("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; DELETE FROM nodes".into())
        .await
        .unwrap();
    let error = Store::open(&bed.location).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy(_)), "{error:?}");
    let error = skerry_types::Error::from(error);
    assert_eq!(error.code, ErrorCode::ServiceUnavailable);
    raw.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent/skerry.db");
    let error = Store::open(&Location::Sqlite(path)).await.unwrap_err();
    assert!(matches!(error, StoreError::File { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_its_owners_alone() {
    let bed = Bed::sqlite().await;
    bed.queued(&LOCAL, 0).await;
    let Location::Sqlite(path) = &bed.location else {
        unreachable!()
    };
    for file in path.parent().unwrap().read_dir().unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.path().display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_not_there() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let url = format!("postgres://me:s3cret@{address}/skerry");
    let error = Store::open(&url.parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("refused"), "{cause}");
    let told = skerry_types::Error::from(error);
    assert!(told.message.contains("127.0.0.1") && !told.message.contains("s3cret"));
    assert!(told.hint.unwrap().contains("start PostgreSQL"));
}

#[test]
fn an_address_shows_no_password() {
    let location: Location = "postgres://me:s3cret@db.internal:5433/skerry"
        .parse()
        .unwrap();
    assert_eq!(
        format!("{location:?}"),
        "postgres://db.internal:5433/skerry"
    );
    assert!("postgres://:::".parse::<Location>().is_err());
}
