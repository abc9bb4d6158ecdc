//! Opening, pools and health.

use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use bartizan_model::Clock;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use crate::error::StoreError;
use crate::exec::Statement;
use crate::migrate::{self, Plan};
use crate::repo;
use crate::url::StoreUrl;

/// How long a statement waits for another SQLite writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Reading connections to a SQLite file.
const SQLITE_READERS: u32 = 4;
/// Connections to Postgres.
const POSTGRES_CONNECTIONS: u32 = 16;

const PING: Statement = Statement::read("ping", "SELECT 1");

/// Which database is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// One file, one node.
    Sqlite,
    /// Shared by replicas.
    Postgres,
}

/// An open database with the schema of this version. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    pools: Pools,
    clock: Arc<dyn Clock>,
}

pub(crate) enum Pools {
    Sqlite(SqlitePools),
    Postgres(PgPool),
}

/// SQLite allows one writer at a time, so writers queue here, in order, instead of
/// meeting `SQLITE_BUSY`.
pub(crate) struct SqlitePools {
    pub(crate) read: SqlitePool,
    /// `synchronous=FULL`: durable at commit.
    pub(crate) write: SqlitePool,
    /// `synchronous=NORMAL`: for what can be built again.
    pub(crate) bulk: SqlitePool,
}

impl Store {
    /// Opens the database, creates it when absent and applies pending migrations
    /// (O7: after a backup of an existing SQLite file).
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`] when a newer bartizan migrated it beyond what this
    /// one may use; otherwise why it cannot be opened.
    pub async fn open(url: &StoreUrl, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        migrate::apply(url).await?;
        Ok(Self { inner: Arc::new(Inner { pools: connect(url).await?, clock }) })
    }

    /// What [`Store::open`] would do to the schema; changes nothing and creates no file.
    ///
    /// # Errors
    /// When the database is there but cannot be read.
    pub async fn plan(url: &StoreUrl) -> Result<Plan, StoreError> {
        migrate::plan(url).await
    }

    /// Which engine is behind.
    pub fn engine(&self) -> Engine {
        match self.inner.pools {
            Pools::Sqlite(_) => Engine::Sqlite,
            Pools::Postgres(_) => Engine::Postgres,
        }
    }

    /// One round trip.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.fetch_optional(&PING, &[]).await.map(drop)
    }

    /// Ends all connections; running statements finish first.
    pub async fn close(&self) {
        match &self.inner.pools {
            Pools::Sqlite(pools) => {
                pools.read.close().await;
                pools.bulk.close().await;
                pools.write.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }

    /// Prepares every statement of this crate on this engine (rule 10 of the design);
    /// returns the names of those it refuses. For tests and `doctor`.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn refused_statements(&self) -> Result<Vec<String>, StoreError> {
        let mut refused = Vec::new();
        for statement in repo::statements(self.engine()) {
            match self.prepare(&statement).await {
                Ok(()) => {}
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => refused.push(format!("{}: {error}", statement.name)),
            }
        }
        Ok(refused)
    }

    /// The canonical description of the schema, one line per column and index, equal on
    /// both engines.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn schema_dump(&self) -> Result<Vec<String>, StoreError> {
        crate::schema::dump(&self.inner.pools).await
    }

    /// Milliseconds since the epoch by the clock given to [`Store::open`].
    pub(crate) fn now_ms(&self) -> i64 {
        self.inner.clock.now_ms()
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.inner.pools
    }
}

fn sqlite_options(path: &Path, synchronous: SqliteSynchronous) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

async fn connect(url: &StoreUrl) -> Result<Pools, StoreError> {
    match url {
        StoreUrl::Sqlite(path) => {
            let pool = |connections, options| {
                SqlitePoolOptions::new()
                    .max_connections(connections)
                    .acquire_timeout(ACQUIRE_TIMEOUT)
                    .test_before_acquire(false)
                    .connect_with(options)
            };
            Ok(Pools::Sqlite(SqlitePools {
                write: pool(1, sqlite_options(path, SqliteSynchronous::Full)).await?,
                bulk: pool(1, sqlite_options(path, SqliteSynchronous::Normal)).await?,
                read: pool(SQLITE_READERS, sqlite_options(path, SqliteSynchronous::Full).pragma("query_only", "on"))
                    .await?,
            }))
        }
        StoreUrl::Memory => {
            // Memory lives in its one connection, which must therefore never be closed.
            let pool = SqlitePoolOptions::new()
                .max_connections(1)
                .min_connections(1)
                .idle_timeout(None)
                .max_lifetime(None)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .connect_with(SqliteConnectOptions::new().in_memory(true).foreign_keys(true))
                .await?;
            migrate::apply_to_memory(&pool).await?;
            Ok(Pools::Sqlite(SqlitePools { read: pool.clone(), write: pool.clone(), bulk: pool }))
        }
        StoreUrl::Postgres(url) => {
            let options = postgres_options(url.expose())?;
            let pool = PgPoolOptions::new()
                .max_connections(POSTGRES_CONNECTIONS)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .connect_with(options)
                .await?;
            Ok(Pools::Postgres(pool))
        }
    }
}

/// Connection options with our name in `pg_stat_activity` and bounded waits.
pub(crate) fn postgres_options(url: &str) -> Result<PgConnectOptions, StoreError> {
    Ok(PgConnectOptions::from_str(url)?
        .application_name("bartizan")
        .options([("statement_timeout", "15s"), ("lock_timeout", "5s")]))
}

/// One SQLite connection outside the pools, for migrations and backups.
pub(crate) fn sqlite_single(path: &Path) -> SqliteConnectOptions {
    sqlite_options(path, SqliteSynchronous::Full)
}
