//! The thin executor: one statement text, two drivers.

use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _, SqlSafeStr as _, SqlStr, Transaction};

use crate::engine::{Pools, Store};
use crate::error::StoreError;

/// One SQL text and whether it changes anything. SQLite has one writing connection.
#[derive(Debug)]
pub(crate) struct Statement {
    /// Name in tests and diagnostics.
    pub(crate) name: &'static str,
    pub(crate) sql: Sql,
    pub(crate) writes: bool,
}

/// A fixed text, or one put together from fixed parts at start.
#[derive(Debug)]
pub(crate) enum Sql {
    Fixed(&'static str),
    Built(std::sync::Arc<str>),
}

impl Statement {
    pub(crate) const fn read(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql: Sql::Fixed(sql), writes: false }
    }

    pub(crate) const fn write(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql: Sql::Fixed(sql), writes: true }
    }

    /// A text assembled from constants of this crate, never from data.
    pub(crate) fn built(name: &'static str, sql: String, writes: bool) -> Self {
        Self { name, sql: Sql::Built(sql.into()), writes }
    }

    pub(crate) fn text(&self) -> SqlStr {
        match &self.sql {
            Sql::Fixed(sql) => (*sql).into_sql_str(),
            Sql::Built(sql) => AssertSqlSafe(std::sync::Arc::clone(sql)).into_sql_str(),
        }
    }
}

/// A bound value. `Opt…` may be null.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg<'a> {
    Int(i64),
    OptInt(Option<i64>),
    Text(&'a str),
    OptText(Option<&'a str>),
    Blob(&'a [u8]),
}

macro_rules! bind_all {
    ($query:expr, $args:expr) => {{
        let mut query = $query;
        for arg in $args {
            query = match *arg {
                Arg::Int(v) => query.bind(v),
                Arg::OptInt(v) => query.bind(v),
                Arg::Text(v) => query.bind(v),
                Arg::OptText(v) => query.bind(v),
                Arg::Blob(v) => query.bind(v),
            };
        }
        query
    }};
}

fn sqlite<'q>(statement: &Statement, args: &[Arg<'_>]) -> Query<'q, Sqlite, SqliteArguments> {
    bind_all!(sqlx::query(statement.text()), args)
}

fn postgres<'q>(statement: &Statement, args: &[Arg<'_>]) -> Query<'q, Postgres, PgArguments> {
    bind_all!(sqlx::query(statement.text()), args)
}

/// A row of either engine; columns by position.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! getter {
    ($name:ident, $type:ty) => {
        pub(crate) fn $name(&self, index: usize, column: &'static str) -> Result<$type, StoreError> {
            match self {
                Self::Sqlite(row) => row.try_get::<$type, _>(index),
                Self::Postgres(row) => row.try_get::<$type, _>(index),
            }
            .map_err(|_| StoreError::Data(column))
        }
    };
}

impl Row {
    getter!(int, i64);
    getter!(opt_int, Option<i64>);
    getter!(text, String);
    getter!(opt_text, Option<String>);
    getter!(blob, Vec<u8>);
    getter!(opt_blob, Option<Vec<u8>>);
}

impl Store {
    /// Runs a statement and returns the number of changed rows.
    pub(crate) async fn execute(&self, statement: &Statement, args: &[Arg<'_>]) -> Result<u64, StoreError> {
        match self.pools() {
            Pools::Sqlite(pools) => {
                let pool = if statement.writes { &pools.write } else { &pools.read };
                Ok(sqlite(statement, args).execute(pool).await?.rows_affected())
            }
            Pools::Postgres(pool) => Ok(postgres(statement, args).execute(pool).await?.rows_affected()),
        }
    }

    /// The first row, if any.
    pub(crate) async fn fetch_optional(
        &self,
        statement: &Statement,
        args: &[Arg<'_>],
    ) -> Result<Option<Row>, StoreError> {
        match self.pools() {
            Pools::Sqlite(pools) => {
                let pool = if statement.writes { &pools.write } else { &pools.read };
                Ok(sqlite(statement, args).fetch_optional(pool).await?.map(Row::Sqlite))
            }
            Pools::Postgres(pool) => Ok(postgres(statement, args).fetch_optional(pool).await?.map(Row::Postgres)),
        }
    }

    /// All rows; every such statement has a `LIMIT` or a naturally small result.
    pub(crate) async fn fetch_all(&self, statement: &Statement, args: &[Arg<'_>]) -> Result<Vec<Row>, StoreError> {
        match self.pools() {
            Pools::Sqlite(pools) => {
                let pool = if statement.writes { &pools.write } else { &pools.read };
                Ok(sqlite(statement, args).fetch_all(pool).await?.into_iter().map(Row::Sqlite).collect())
            }
            Pools::Postgres(pool) => {
                Ok(postgres(statement, args).fetch_all(pool).await?.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Begins a writing transaction for control-plane data (durable at commit).
    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        match self.pools() {
            Pools::Sqlite(pools) => Ok(Tx::Sqlite(pools.write.begin_with("BEGIN IMMEDIATE").await?)),
            Pools::Postgres(pool) => Ok(Tx::Postgres(pool.begin().await?)),
        }
    }

    /// Begins a writing transaction for data that can be built again, such as the audit
    /// index: SQLite need not sync it at commit, Postgres need not wait for the WAL.
    pub(crate) async fn begin_bulk(&self) -> Result<Tx, StoreError> {
        match self.pools() {
            Pools::Sqlite(pools) => Ok(Tx::Sqlite(pools.bulk.begin_with("BEGIN IMMEDIATE").await?)),
            Pools::Postgres(pool) => {
                let mut tx = pool.begin().await?;
                sqlx::query("SET LOCAL synchronous_commit = off").execute(&mut *tx).await?;
                Ok(Tx::Postgres(tx))
            }
        }
    }

    /// Prepares one statement on this engine without running it.
    pub(crate) async fn prepare(&self, statement: &Statement) -> Result<(), StoreError> {
        use sqlx::Executor as _;
        match self.pools() {
            Pools::Sqlite(pools) => drop(pools.write.acquire().await?.prepare(statement.text()).await?),
            Pools::Postgres(pool) => drop(pool.acquire().await?.prepare(statement.text()).await?),
        }
        Ok(())
    }
}

/// A writing transaction; rolled back when dropped without [`Tx::commit`].
pub(crate) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Tx {
    pub(crate) async fn execute(&mut self, statement: &Statement, args: &[Arg<'_>]) -> Result<u64, StoreError> {
        Ok(match self {
            Self::Sqlite(tx) => sqlite(statement, args).execute(&mut **tx).await?.rows_affected(),
            Self::Postgres(tx) => postgres(statement, args).execute(&mut **tx).await?.rows_affected(),
        })
    }

    pub(crate) async fn fetch_optional(
        &mut self,
        statement: &Statement,
        args: &[Arg<'_>],
    ) -> Result<Option<Row>, StoreError> {
        Ok(match self {
            Self::Sqlite(tx) => sqlite(statement, args).fetch_optional(&mut **tx).await?.map(Row::Sqlite),
            Self::Postgres(tx) => postgres(statement, args).fetch_optional(&mut **tx).await?.map(Row::Postgres),
        })
    }

    pub(crate) async fn fetch_all(&mut self, statement: &Statement, args: &[Arg<'_>]) -> Result<Vec<Row>, StoreError> {
        Ok(match self {
            Self::Sqlite(tx) => {
                sqlite(statement, args).fetch_all(&mut **tx).await?.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(tx) => {
                postgres(statement, args).fetch_all(&mut **tx).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}
