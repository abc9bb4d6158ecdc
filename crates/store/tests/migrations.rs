//! O7: schema versions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::Arc;

use bartizan_model::Secret;
use bartizan_store::repo::meta;
use bartizan_store::{SCHEMA_VERSION, Store, StoreError, StoreUrl};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

async fn sqlite_sql(path: &Path, sql: &str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn postgres_sql(url: &str, sql: &str) {
    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// What a later version leaves in the database.
fn later(version: i64, compatible_from: i64) -> String {
    format!(
        "INSERT INTO schema_migration (version, description, success, checksum, execution_time) \
         VALUES ({version}, 'later', true, '', 0); \
         ALTER TABLE meta ADD COLUMN added_later TEXT; \
         UPDATE meta SET value = '{compatible_from}' WHERE name = 'schema.compatible_from';"
    )
}

#[tokio::test]
async fn o7_both_folders_make_the_same_schema() {
    let (_dir, sqlite) = common::sqlite(common::manual()).await;
    let dump = sqlite.schema_dump().await.unwrap();
    assert!(dump.len() > 40, "{dump:#?}");
    assert!(dump.contains(&"service_token.hash blob not null key 0".to_owned()), "{dump:#?}");
    assert!(dump.contains(&"index service_token_name service_token(name) unique".to_owned()), "{dump:#?}");
    assert!(!dump.iter().any(|line| line.contains(" other ")), "a type outside of the subset: {dump:#?}");
    let Some(postgres) = common::Postgres::start().await else { return };
    let store = postgres.store(common::manual()).await;
    assert_eq!(store.schema_dump().await.unwrap(), dump);
    store.close().await;
}

#[tokio::test]
async fn o7_a_plan_changes_nothing() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("deep/er/store.db");
    let url = StoreUrl::Sqlite(path.clone());
    let plan = Store::plan(&url).await.unwrap();
    assert_eq!((plan.current, plan.pending.len(), plan.backup), (None, usize::try_from(SCHEMA_VERSION).unwrap(), None));
    assert!(!path.exists() && !dir.path().join("deep").exists());
    Store::open(&url, common::manual()).await.unwrap().close().await;
    let plan = Store::plan(&url).await.unwrap();
    assert_eq!((plan.current, plan.pending, plan.compatible_from), (Some(SCHEMA_VERSION), vec![], 1));
}

#[tokio::test]
async fn o7_opening_twice_changes_nothing() {
    let dir = tempfile::TempDir::new().unwrap();
    let url = StoreUrl::Sqlite(dir.path().join("store.db"));
    let store = Store::open(&url, common::manual()).await.unwrap();
    meta::set(&store, "kept", "yes").await.unwrap();
    store.close().await;
    let store = Store::open(&url, common::manual()).await.unwrap();
    assert_eq!(meta::get(&store, "kept").await.unwrap().as_deref(), Some("yes"));
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert!(!files.iter().any(|name| name.to_string_lossy().contains(".bak")), "{files:?}");
}

#[tokio::test]
async fn o7_a_newer_schema_is_refused() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("store.db");
    let url = StoreUrl::Sqlite(path.clone());
    Store::open(&url, common::manual()).await.unwrap().close().await;
    sqlite_sql(&path, &later(SCHEMA_VERSION + 1, SCHEMA_VERSION + 1)).await;
    let error = Store::open(&url, common::manual()).await.err().unwrap();
    match error {
        StoreError::NewerSchema { found, known, needs } => {
            assert_eq!((found, known, needs), (SCHEMA_VERSION + 1, SCHEMA_VERSION, SCHEMA_VERSION + 1));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn o7_an_expanded_schema_of_the_next_version_is_usable() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("store.db");
    let url = StoreUrl::Sqlite(path.clone());
    let running = Store::open(&url, common::manual()).await.unwrap();
    sqlite_sql(&path, &later(SCHEMA_VERSION + 1, 1)).await;
    // N that runs while N+1 migrates, and N that starts after it.
    meta::set(&running, "a", "1").await.unwrap();
    let started = Store::open(&url, common::manual()).await.unwrap();
    meta::set(&started, "a", "2").await.unwrap();
    assert_eq!(meta::get(&running, "a").await.unwrap().as_deref(), Some("2"));
    assert_eq!(started.refused_statements().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn o7_a_newer_schema_that_says_nothing_is_refused() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("store.db");
    let url = StoreUrl::Sqlite(path.clone());
    Store::open(&url, common::manual()).await.unwrap().close().await;
    sqlite_sql(&path, &later(SCHEMA_VERSION + 1, 1)).await;
    sqlite_sql(&path, "DELETE FROM meta").await;
    let error = Store::open(&url, common::manual()).await.err().unwrap();
    assert!(matches!(error, StoreError::NewerSchema { .. }), "{error:?}");
}

#[tokio::test]
async fn o7_a_changed_migration_is_refused() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("store.db");
    let url = StoreUrl::Sqlite(path.clone());
    Store::open(&url, common::manual()).await.unwrap().close().await;
    sqlite_sql(&path, "UPDATE schema_migration SET checksum = x'00'").await;
    let error = Store::open(&url, common::manual()).await.err().unwrap();
    assert!(matches!(error, StoreError::ChangedMigration(1)), "{error:?}");
}

#[tokio::test]
async fn o7_the_file_is_copied_before_it_is_migrated() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("store.db");
    // An earlier version: its own table of migrations, with none of ours.
    sqlite_sql(
        &path,
        "CREATE TABLE schema_migration (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
           installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, \
           checksum BLOB NOT NULL, execution_time BIGINT NOT NULL); \
         INSERT INTO schema_migration (version, description, success, checksum, execution_time) \
           VALUES (0, 'earlier', true, x'', 0); \
         CREATE TABLE old_data (x TEXT); INSERT INTO old_data VALUES ('precious');",
    )
    .await;
    let url = StoreUrl::Sqlite(path.clone());
    let plan = Store::plan(&url).await.unwrap();
    let backup = plan.backup.expect("a backup is planned");
    assert_eq!((plan.current, plan.pending.len()), (Some(0), usize::try_from(SCHEMA_VERSION).unwrap()));
    assert!(!backup.exists());
    let store = Store::open(&url, common::manual()).await.unwrap();
    store.ping().await.unwrap();
    let mut copy = sqlx::sqlite::SqliteConnectOptions::new().filename(&backup).connect().await.unwrap();
    let (x,): (String,) = sqlx::query_as("SELECT x FROM old_data").fetch_one(&mut copy).await.unwrap();
    assert_eq!(x, "precious");
    let tables: Vec<(String,)> =
        sqlx::query_as("SELECT name FROM sqlite_master WHERE name = 'meta'").fetch_all(&mut copy).await.unwrap();
    assert!(tables.is_empty(), "the copy is from before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o7_many_that_open_at_once_migrate_once() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = Arc::new(dir.path().join("store.db"));
    let opens: Vec<_> = (0..6)
        .map(|_| {
            let path = Arc::clone(&path);
            tokio::spawn(async move { Store::open(&StoreUrl::Sqlite((*path).clone()), common::manual()).await })
        })
        .collect();
    for open in opens {
        open.await.unwrap().unwrap().ping().await.unwrap();
    }
}

#[tokio::test]
async fn o1_sqlite_runs_in_wal_and_survives_reopening() {
    let (dir, store) = common::sqlite(common::manual()).await;
    meta::set(&store, "a", "1").await.unwrap();
    assert!(dir.path().join("store.db-wal").exists());
    drop(store);
    let url = StoreUrl::Sqlite(dir.path().join("store.db"));
    let again = Store::open(&url, common::manual()).await.unwrap();
    assert_eq!(meta::get(&again, "a").await.unwrap().as_deref(), Some("1"));
}

#[tokio::test]
async fn o1_what_cannot_be_opened_says_so() {
    let dir = tempfile::TempDir::new().unwrap();
    let not_a_database = dir.path().join("x.db");
    std::fs::write(&not_a_database, vec![b'x'; 8192]).unwrap();
    assert!(Store::open(&StoreUrl::Sqlite(not_a_database), common::manual()).await.is_err());
    let blocked = dir.path().join("x.db").join("store.db");
    let error = Store::open(&StoreUrl::Sqlite(blocked), common::manual()).await.err().unwrap();
    assert!(matches!(error, StoreError::File { .. }), "{error:?}");
    let nobody = "postgres://u:hunter2@127.0.0.1:1/db".to_owned();
    let error = Store::open(&StoreUrl::Postgres(Secret::new(nobody)), common::manual()).await.err().unwrap();
    assert!(error.is_transient(), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let malformed = "postgres://u:hunter2@[bad/db".to_owned();
    let error = Store::open(&StoreUrl::Postgres(Secret::new(malformed)), common::manual()).await.err().unwrap();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o7_versions_on_postgres() {
    let Some(postgres) = common::Postgres::start().await else { return };
    // Replicas that start at once.
    let url = postgres.empty_url().await;
    let opens: Vec<_> = (0..4)
        .map(|_| {
            let url = StoreUrl::Postgres(Secret::new(url.clone()));
            tokio::spawn(async move { Store::open(&url, common::manual()).await })
        })
        .collect();
    let mut stores = Vec::new();
    for open in opens {
        stores.push(open.await.unwrap().unwrap());
    }
    let plan = Store::plan(&StoreUrl::Postgres(Secret::new(url.clone()))).await.unwrap();
    assert_eq!((plan.current, plan.pending, plan.backup), (Some(SCHEMA_VERSION), vec![], None));
    // Expanded: N goes on and starts.
    postgres_sql(&url, &later(SCHEMA_VERSION + 1, 1)).await;
    meta::set(&stores[0], "a", "1").await.unwrap();
    let started = Store::open(&StoreUrl::Postgres(Secret::new(url.clone())), common::manual()).await.unwrap();
    assert_eq!(meta::get(&started, "a").await.unwrap().as_deref(), Some("1"));
    // Contracted: N refuses.
    postgres_sql(&url, "UPDATE meta SET value = '99' WHERE name = 'schema.compatible_from'").await;
    let error = Store::open(&StoreUrl::Postgres(Secret::new(url)), common::manual()).await.err().unwrap();
    assert!(matches!(error, StoreError::NewerSchema { needs: 99, .. }), "{error:?}");
    for store in stores.into_iter().chain([started]) {
        store.close().await;
    }
}
