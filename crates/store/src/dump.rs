//! The whole database as rows, for backups (feature row O6): read in one transaction, written in one transaction.
//!
//! Fork: what the tables are is asked of the engine; texts are put together from the names it tells, never from
//! those of an archive.

use std::path::Path;

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, TypeInfo as _, ValueRef as _};

use crate::engine::{postgres_options, sqlite_single};
use crate::error::StoreError;
use crate::migrate;
use crate::url::StoreUrl;

/// Tables that belong to processes and not to the installation: those processes are gone where a copy is opened.
const OF_PROCESSES: [&str; 3] = ["schema_migration", "lease", "replica"];
/// Tables that have rows in an installation nobody used yet.
const SEEDED: [&str; 3] = ["meta", "change_head", "definition_head"];

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A 64-bit number.
    Int(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Int,
    Text,
    Blob,
}

/// A table and its columns, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Name.
    pub name: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    kinds: Vec<Kind>,
}

/// Kill switches that are set and not lifted: what a restore does not undo.
#[derive(Clone, Debug, Default)]
pub struct Switches {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

impl Switches {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

const SWITCHES: &str = "kill_switch";

enum Link {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// One moment of a database that others go on using.
pub struct Snapshot {
    link: Link,
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

macro_rules! on {
    ($link:expr, $c:ident => $body:expr) => {
        match $link {
            Link::Sqlite($c) => $body,
            Link::Postgres($c) => $body,
        }
    };
}

impl Link {
    async fn run(&mut self, sql: &str) -> Result<(), StoreError> {
        let sql = AssertSqlSafe(sql.to_owned());
        on!(self, c => sqlx::raw_sql(sql).execute(c).await.map(drop))?;
        Ok(())
    }

    async fn close(self) -> Result<(), StoreError> {
        on!(self, c => c.close().await)?;
        Ok(())
    }

    async fn tables(&mut self) -> Result<Vec<Table>, StoreError> {
        let rows: Vec<(String, String, String)> = match self {
            Self::Sqlite(c) => {
                sqlx::query_as(
                    "SELECT m.name, c.name, c.type FROM sqlite_master m JOIN pragma_table_info(m.name) c \
                     WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY m.name, c.cid",
                )
                .fetch_all(c)
                .await?
            }
            Self::Postgres(c) => {
                sqlx::query_as(
                    "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod) \
                     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema() \
                     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
                     WHERE c.relkind = 'r' ORDER BY c.relname, a.attnum",
                )
                .fetch_all(c)
                .await?
            }
        };
        let mut tables: Vec<Table> = Vec::new();
        for (name, column, kind) in rows {
            if OF_PROCESSES.contains(&name.as_str()) {
                continue;
            }
            let kind = match kind.to_ascii_lowercase().as_str() {
                "bigint" | "integer" => Kind::Int,
                "text" => Kind::Text,
                "blob" | "bytea" => Kind::Blob,
                _ => return Err(StoreError::Data("a column of an unknown type")),
            };
            if tables.last().is_none_or(|last| last.name != name) {
                tables.push(Table { name, columns: Vec::new(), kinds: Vec::new() });
            }
            if let Some(table) = tables.last_mut() {
                table.columns.push(column);
                table.kinds.push(kind);
            }
        }
        Ok(tables)
    }

    async fn switches(&mut self, tables: &[Table]) -> Result<Switches, StoreError> {
        let Some(table) = tables.iter().find(|table| table.name == SWITCHES) else { return Ok(Switches::default()) };
        let columns: Vec<String> = table.columns.iter().map(|column| quoted(column)).collect();
        let sql = format!("SELECT {} FROM {SWITCHES} WHERE lifted_ms IS NULL", columns.join(", "));
        let sql = AssertSqlSafe(sql);
        let rows: Result<Vec<Vec<Value>>, StoreError> = match self {
            Self::Sqlite(c) => sqlx::query(sql).fetch_all(c).await?.iter().map(from_sqlite).collect(),
            Self::Postgres(c) => {
                let rows = sqlx::query(sql).fetch_all(c).await?;
                rows.iter().map(|row| from_postgres(row, &table.kinds)).collect()
            }
        };
        Ok(Switches { columns: table.columns.clone(), rows: rows? })
    }
}

impl Snapshot {
    /// The kill switches that are set.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn switches(&mut self) -> Result<Switches, StoreError> {
        let tables = self.link.tables().await?;
        self.link.switches(&tables).await
    }

    /// Takes the moment. The database is not migrated and not changed; writers are not held up.
    ///
    /// # Errors
    /// When the database is not there or does not answer.
    pub async fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        let mut link = match url {
            StoreUrl::Memory => return Err(StoreError::Data("a database in memory")),
            StoreUrl::Sqlite(path) => {
                Link::Sqlite(sqlite_single(path).create_if_missing(false).pragma("query_only", "on").connect().await?)
            }
            StoreUrl::Postgres(url) => {
                Link::Postgres(postgres_options(url.expose())?.options([("statement_timeout", "0")]).connect().await?)
            }
        };
        match &link {
            // The moment is that of the first read.
            Link::Sqlite(_) => link.run("BEGIN; SELECT count(*) FROM sqlite_master").await?,
            Link::Postgres(_) => link.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1").await?,
        }
        Ok(Self { link })
    }

    /// Versions of the schema that were applied, in order.
    ///
    /// # Errors
    /// When the database does not answer, or was never opened by bartizan.
    pub async fn versions(&mut self) -> Result<Vec<i64>, StoreError> {
        let sql = "SELECT version FROM schema_migration WHERE success ORDER BY version";
        let rows: Vec<(i64,)> = on!(&mut self.link, c => sqlx::query_as(sql).fetch_all(c).await)?;
        Ok(rows.into_iter().map(|(version,)| version).collect())
    }

    /// The tables that belong to the installation, by name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tables(&mut self) -> Result<Vec<Table>, StoreError> {
        self.link.tables().await
    }

    /// Hands over every row of a table, one at a time; an error of `each` ends it.
    ///
    /// # Errors
    /// Those of the database and of `each`.
    pub async fn rows<E: From<StoreError>>(
        &mut self,
        table: &Table,
        mut each: impl FnMut(Vec<Value>) -> Result<(), E>,
    ) -> Result<(), E> {
        let columns: Vec<String> = table.columns.iter().map(|column| quoted(column)).collect();
        let sql = AssertSqlSafe(format!("SELECT {} FROM {}", columns.join(", "), quoted(&table.name)));
        match &mut self.link {
            Link::Sqlite(c) => {
                let mut rows = sqlx::query(sql).fetch(c);
                while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
                    each(from_sqlite(&row)?)?;
                }
            }
            Link::Postgres(c) => {
                let mut rows = sqlx::query(sql).fetch(c);
                while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
                    each(from_postgres(&row, &table.kinds)?)?;
                }
            }
        }
        Ok(())
    }

    /// Lets go of the moment.
    ///
    /// # Errors
    /// When the connection cannot be ended in order.
    pub async fn close(self) -> Result<(), StoreError> {
        self.link.close().await
    }
}

fn from_sqlite(row: &SqliteRow) -> Result<Vec<Value>, StoreError> {
    (0..row.len())
        .map(|index| {
            let raw = row.try_get_raw(index)?;
            if raw.is_null() {
                return Ok(Value::Null);
            }
            // SQLite knows the type of the value, whatever the column says.
            let kind = raw.type_info().name().to_owned();
            Ok(match kind.as_str() {
                "INTEGER" | "BOOLEAN" => Value::Int(row.try_get_unchecked(index)?),
                "TEXT" => Value::Text(row.try_get_unchecked(index)?),
                "BLOB" => Value::Blob(row.try_get_unchecked(index)?),
                _ => return Err(StoreError::Data("a value of an unknown type")),
            })
        })
        .collect()
}

fn from_postgres(row: &PgRow, kinds: &[Kind]) -> Result<Vec<Value>, StoreError> {
    let value = |(index, kind): (usize, &Kind)| -> Result<Value, StoreError> {
        Ok(match kind {
            Kind::Int => row.try_get::<Option<i64>, _>(index)?.map_or(Value::Null, Value::Int),
            Kind::Text => row.try_get::<Option<String>, _>(index)?.map_or(Value::Null, Value::Text),
            Kind::Blob => row.try_get::<Option<Vec<u8>>, _>(index)?.map_or(Value::Null, Value::Blob),
        })
    };
    kinds.iter().enumerate().map(value).collect()
}

/// A database being filled; nothing of it is there until [`Filling::commit`].
pub struct Filling {
    link: Link,
    tables: Vec<Table>,
    insert: String,
    kinds: Vec<Kind>,
    replaced: Switches,
}

impl Filling {
    /// Begins with the schema of these versions. A SQLite file must not be there yet; a PostgreSQL database must
    /// have no schema, or exactly that one, and no rows, unless they may be replaced.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`] for versions this bartizan does not know, [`StoreError::Conflict`] for a database
    /// that is not empty, [`StoreError::Data`] for one with another schema.
    pub async fn begin(url: &StoreUrl, versions: &[i64], replace: bool) -> Result<Self, StoreError> {
        migrate::known(versions)?;
        let link = match url {
            StoreUrl::Memory => return Err(StoreError::Data("a database in memory")),
            StoreUrl::Sqlite(path) => Link::Sqlite(new_file(path, versions).await?),
            StoreUrl::Postgres(url) => {
                let options =
                    postgres_options(url.expose())?.options([("statement_timeout", "0"), ("lock_timeout", "10s")]);
                let mut connection = options.connect().await?;
                let found = migrate::postgres_versions(&mut connection).await?;
                if found.is_empty() {
                    migrate::apply_some_postgres(&mut connection, versions).await?;
                } else if found != versions {
                    return Err(StoreError::Data("the schema: it is of another version than the archive"));
                }
                Link::Postgres(connection)
            }
        };
        let mut filling =
            Self { link, tables: Vec::new(), insert: String::new(), kinds: Vec::new(), replaced: Switches::default() };
        filling.link.run("BEGIN").await?;
        filling.tables = filling.link.tables().await?;
        filling.lock().await?;
        if !replace && filling.used().await? {
            return Err(StoreError::Conflict);
        }
        filling.replaced = filling.link.switches(&filling.tables).await?;
        for table in filling.tables.clone() {
            filling.link.run(&format!("DELETE FROM {}", quoted(&table.name))).await?;
        }
        Ok(filling)
    }

    /// Nobody reads or writes the tables until the end: a row that another process adds in the meantime would be of
    /// neither installation.
    async fn lock(&mut self) -> Result<(), StoreError> {
        if matches!(self.link, Link::Sqlite(_)) || self.tables.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = self.tables.iter().map(|table| quoted(&table.name)).collect();
        let locked = self.link.run(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", names.join(", "))).await;
        locked.map_err(|_| StoreError::Data("the database: its tables cannot be locked, something is using them"))
    }

    /// Names of the processes that said since a time (milliseconds since the epoch) that they work with this
    /// database. Those that say so between two calls are seen by the second.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn replicas(&mut self, since_ms: i64) -> Result<Vec<String>, StoreError> {
        let Link::Postgres(c) = &mut self.link else { return Ok(Vec::new()) };
        // A schema that is older than the register has none.
        let (known,): (bool,) = sqlx::query_as("SELECT to_regclass('replica') IS NOT NULL").fetch_one(&mut *c).await?;
        if !known {
            return Ok(Vec::new());
        }
        let sql = "SELECT node FROM replica WHERE seen_ms >= $1 ORDER BY node LIMIT 100";
        let rows: Vec<(String,)> = sqlx::query_as(sql).bind(since_ms).fetch_all(c).await?;
        Ok(rows.into_iter().map(|(node,)| node).collect())
    }

    /// The kill switches that were set in the rows that this replaces.
    pub fn replaced_switches(&self) -> Switches {
        self.replaced.clone()
    }

    /// Sets kill switches that are not among the rows. Returns how many of `switches` are there now; fewer than all
    /// if the schema is older than they are.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn carry(&mut self, switches: &Switches) -> Result<usize, StoreError> {
        let table = self.tables.iter().find(|table| table.name == SWITCHES);
        if !table.is_some_and(|table| switches.columns.iter().all(|column| table.columns.contains(column))) {
            return Ok(0);
        }
        self.table(SWITCHES, &switches.columns)?;
        // One that is there, lifted or not, is a later state of the same.
        self.insert.push_str(" ON CONFLICT DO NOTHING");
        for row in &switches.rows {
            self.row(row).await?;
        }
        Ok(switches.len())
    }

    async fn used(&mut self) -> Result<bool, StoreError> {
        for table in self.tables.iter().filter(|table| !SEEDED.contains(&table.name.as_str())) {
            let sql = AssertSqlSafe(format!("SELECT 1 FROM {} LIMIT 1", quoted(&table.name)));
            // Kept open only for as long as there is a look at it; a fresh file has rows nowhere.
            if on!(&mut self.link, c => sqlx::query(sql).fetch_all(c).await.map(|rows| !rows.is_empty()))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rows that follow are of this table.
    ///
    /// # Errors
    /// [`StoreError::Data`] when there is no such table or column.
    pub fn table(&mut self, name: &str, columns: &[String]) -> Result<(), StoreError> {
        let table = self.tables.iter().find(|table| table.name == name).ok_or(StoreError::Data("an unknown table"))?;
        let mut names = Vec::new();
        self.kinds.clear();
        for (index, column) in columns.iter().enumerate() {
            let known = table.columns.iter().position(|known| known == column);
            let known = known.ok_or(StoreError::Data("an unknown column"))?;
            if columns.iter().take(index).any(|earlier| earlier == column) {
                return Err(StoreError::Data("a column twice"));
            }
            names.push(quoted(column));
            self.kinds.extend(table.kinds.get(known).copied());
        }
        let places: Vec<String> = (1..=names.len()).map(|place| format!("${place}")).collect();
        self.insert =
            format!("INSERT INTO {} ({}) VALUES ({})", quoted(&table.name), names.join(", "), places.join(", "));
        Ok(())
    }

    /// Adds a row of the present table.
    ///
    /// # Errors
    /// [`StoreError::Data`] when it has other columns than were named, or values of another kind.
    pub async fn row(&mut self, values: &[Value]) -> Result<(), StoreError> {
        if self.insert.is_empty() || values.len() != self.kinds.len() {
            return Err(StoreError::Data("a row of another length than its table"));
        }
        let sql = AssertSqlSafe(self.insert.clone());
        macro_rules! bound {
            () => {{
                let mut query = sqlx::query(sql);
                for (value, kind) in values.iter().zip(&self.kinds) {
                    query = match (value, kind) {
                        (Value::Int(value), Kind::Int) => query.bind(*value),
                        (Value::Text(value), Kind::Text) => query.bind(value.as_str()),
                        (Value::Blob(value), Kind::Blob) => query.bind(value.as_slice()),
                        (Value::Null, Kind::Int) => query.bind(None::<i64>),
                        (Value::Null, Kind::Text) => query.bind(None::<String>),
                        (Value::Null, Kind::Blob) => query.bind(None::<Vec<u8>>),
                        _ => return Err(StoreError::Data("a value of another kind than its column")),
                    };
                }
                query
            }};
        }
        match &mut self.link {
            Link::Sqlite(c) => bound!().execute(c).await.map(|_| ())?,
            Link::Postgres(c) => bound!().execute(c).await.map(|_| ())?,
        }
        Ok(())
    }

    /// Makes it all so.
    ///
    /// # Errors
    /// When the database refuses; then nothing is there.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        self.link.run("COMMIT").await?;
        self.link.close().await
    }
}

async fn new_file(path: &Path, versions: &[i64]) -> Result<SqliteConnection, StoreError> {
    // No WAL: the file is moved as soon as it is whole.
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.journal_mode(SqliteJournalMode::Delete).foreign_keys(true).connect().await?;
    migrate::apply_some_sqlite(&mut connection, versions).await?;
    Ok(connection)
}
