//! Schema versions (feature row O7).
//!
//! Migrations only expand; what they leave behind is contracted by a later version.
//! A contracting migration raises `schema.compatible_from` in table `meta`: a binary
//! that knows at least that version may use the database, an older one refuses. So
//! versions N and N+1 run together, and a binary never works on a schema that has
//! lost something it needs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use sqlx::migrate::{Migrate, Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePool};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqlSafeStr as _};

use crate::engine::{postgres_options, sqlite_single};
use crate::error::StoreError;
use crate::url::StoreUrl;

struct Step {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

const STEPS: &[Step] = &[
    Step {
        version: 1,
        name: "base",
        sqlite: include_str!("../migrations/sqlite/0001_base.sql"),
        postgres: include_str!("../migrations/postgres/0001_base.sql"),
    },
    Step {
        version: 2,
        name: "replay markers",
        sqlite: include_str!("../migrations/sqlite/0002_replay.sql"),
        postgres: include_str!("../migrations/postgres/0002_replay.sql"),
    },
    Step {
        version: 3,
        name: "identity",
        sqlite: include_str!("../migrations/sqlite/0003_identity.sql"),
        postgres: include_str!("../migrations/postgres/0003_identity.sql"),
    },
    Step {
        version: 4,
        name: "sign in",
        sqlite: include_str!("../migrations/sqlite/0004_sign_in.sql"),
        postgres: include_str!("../migrations/postgres/0004_sign_in.sql"),
    },
    Step {
        version: 5,
        name: "upstream accounts",
        sqlite: include_str!("../migrations/sqlite/0005_upstream_account.sql"),
        postgres: include_str!("../migrations/postgres/0005_upstream_account.sql"),
    },
    Step {
        version: 6,
        name: "alerts",
        sqlite: include_str!("../migrations/sqlite/0006_alert.sql"),
        postgres: include_str!("../migrations/postgres/0006_alert.sql"),
    },
    Step {
        version: 7,
        name: "portal state",
        sqlite: include_str!("../migrations/sqlite/0007_portal_state.sql"),
        postgres: include_str!("../migrations/postgres/0007_portal_state.sql"),
    },
    Step {
        version: 8,
        name: "scim",
        sqlite: include_str!("../migrations/sqlite/0008_scim.sql"),
        postgres: include_str!("../migrations/postgres/0008_scim.sql"),
    },
    Step {
        version: 9,
        name: "replicas",
        sqlite: include_str!("../migrations/sqlite/0009_replica.sql"),
        postgres: include_str!("../migrations/postgres/0009_replica.sql"),
    },
    Step {
        version: 10,
        name: "audit",
        sqlite: include_str!("../migrations/sqlite/0010_audit.sql"),
        postgres: include_str!("../migrations/postgres/0010_audit.sql"),
    },
    Step {
        version: 11,
        name: "resources",
        sqlite: include_str!("../migrations/sqlite/0011_resource.sql"),
        postgres: include_str!("../migrations/postgres/0011_resource.sql"),
    },
    Step {
        version: 12,
        name: "approvals",
        sqlite: include_str!("../migrations/sqlite/0012_approval.sql"),
        postgres: include_str!("../migrations/postgres/0012_approval.sql"),
    },
    Step {
        version: 13,
        name: "definitions",
        sqlite: include_str!("../migrations/sqlite/0013_definition.sql"),
        postgres: include_str!("../migrations/postgres/0013_definition.sql"),
    },
    Step {
        version: 14,
        name: "kill switches",
        sqlite: include_str!("../migrations/sqlite/0014_kill_switch.sql"),
        postgres: include_str!("../migrations/postgres/0014_kill_switch.sql"),
    },
    Step {
        version: 15,
        name: "kept results",
        sqlite: include_str!("../migrations/sqlite/0015_kept_result.sql"),
        postgres: include_str!("../migrations/postgres/0015_kept_result.sql"),
    },
];

/// The newest schema version this binary knows.
pub const SCHEMA_VERSION: i64 = match STEPS.last() {
    Some(step) => step.version,
    None => 0,
};

/// Table of applied migrations, under our own name.
const TABLE: &str = "schema_migration";

static SQLITE: LazyLock<Migrator> = LazyLock::new(|| migrator(|step| step.sqlite));
static POSTGRES: LazyLock<Migrator> = LazyLock::new(|| migrator(|step| step.postgres));

fn migrator(sql: impl Fn(&Step) -> &'static str) -> Migrator {
    migrator_of(sql, |_| true)
}

fn migrator_of(sql: impl Fn(&Step) -> &'static str, wanted: impl Fn(i64) -> bool) -> Migrator {
    let migrations = STEPS
        .iter()
        .filter(|step| wanted(step.version))
        .map(|step| {
            Migration::new(step.version, step.name.into(), MigrationType::Simple, sql(step).into_sql_str(), false)
        })
        .collect();
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.dangerous_set_table_name(TABLE);
    // A newer version is judged by `compatible_from` before the migrator runs.
    migrator.set_ignore_missing(true);
    migrator
}

/// One schema change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationStep {
    /// Schema version it leads to.
    pub version: i64,
    /// Short name.
    pub name: String,
}

/// What opening would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Newest version in the database; `None` for an empty or absent one.
    pub current: Option<i64>,
    /// Steps to apply, in order.
    pub pending: Vec<MigrationStep>,
    /// Where the SQLite file is copied to before the first step.
    pub backup: Option<PathBuf>,
    /// Oldest version that a binary must know to use the database.
    pub compatible_from: i64,
}

/// What a database says about itself.
struct Found {
    /// Versions with their checksums.
    applied: Vec<(i64, Vec<u8>)>,
    compatible_from: i64,
}

impl Found {
    fn empty() -> Self {
        Self { applied: Vec::new(), compatible_from: 1 }
    }

    fn current(&self) -> Option<i64> {
        self.applied.iter().map(|(version, _)| *version).max()
    }

    /// Whether this binary may use the database.
    fn check(&self, migrator: &Migrator) -> Result<(), StoreError> {
        for (version, checksum) in &self.applied {
            if migrator.iter().any(|step| step.version == *version && *step.checksum != **checksum) {
                return Err(StoreError::ChangedMigration(*version));
            }
        }
        match self.current() {
            Some(found) if found > SCHEMA_VERSION && self.compatible_from > SCHEMA_VERSION => {
                Err(StoreError::NewerSchema { found, known: SCHEMA_VERSION, needs: self.compatible_from })
            }
            _ => Ok(()),
        }
    }

    fn plan(&self, path: Option<&Path>) -> Plan {
        let pending: Vec<MigrationStep> = STEPS
            .iter()
            .filter(|step| !self.applied.iter().any(|(version, _)| *version == step.version))
            .map(|step| MigrationStep { version: step.version, name: step.name.to_owned() })
            .collect();
        let backup = match (self.current(), path) {
            (Some(current), Some(path)) if !pending.is_empty() => Some(backup_path(path, current)),
            _ => None,
        };
        Plan { current: self.current(), pending, backup, compatible_from: self.compatible_from }
    }
}

fn backup_path(path: &Path, current: i64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".schema-{current}.bak"));
    PathBuf::from(name)
}

const APPLIED: &str = "SELECT version, checksum FROM schema_migration WHERE success ORDER BY version";
const COMPATIBLE: &str = "SELECT value FROM meta WHERE name = 'schema.compatible_from'";

macro_rules! look {
    ($connection:expr, $exists:literal) => {{
        let tables: Vec<(String,)> = sqlx::query_as($exists).fetch_all(&mut *$connection).await?;
        let has = |name: &str| tables.iter().any(|(table,)| table == name);
        if has(TABLE) {
            let applied: Vec<(i64, Vec<u8>)> = sqlx::query_as(APPLIED).fetch_all(&mut *$connection).await?;
            let compatible: Option<(String,)> =
                if has("meta") { sqlx::query_as(COMPATIBLE).fetch_optional(&mut *$connection).await? } else { None };
            let newest = applied.iter().map(|(version, _)| *version).max().unwrap_or(1);
            // Without the word of the newer version nothing is known to be compatible.
            let compatible_from = compatible.and_then(|(text,)| text.parse().ok()).unwrap_or(newest);
            Ok::<Found, StoreError>(Found { applied, compatible_from })
        } else {
            Ok(Found::empty())
        }
    }};
}

async fn look_sqlite(connection: &mut SqliteConnection) -> Result<Found, StoreError> {
    look!(connection, "SELECT name FROM sqlite_master WHERE type = 'table'")
}

async fn look_postgres(connection: &mut PgConnection) -> Result<Found, StoreError> {
    look!(connection, "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()")
}

/// See [`crate::Store::plan`].
pub(crate) async fn plan(url: &StoreUrl) -> Result<Plan, StoreError> {
    match url {
        StoreUrl::Memory => Ok(Found::empty().plan(None)),
        StoreUrl::Sqlite(path) if !path.exists() => Ok(Found::empty().plan(None)),
        StoreUrl::Sqlite(path) => {
            let options: SqliteConnectOptions = SqliteConnectOptions::new().filename(path).create_if_missing(false);
            let mut connection = options.connect().await?;
            let found = look_sqlite(&mut connection).await;
            connection.close().await?;
            Ok(found?.plan(Some(path)))
        }
        StoreUrl::Postgres(url) => {
            let mut connection = postgres_options(url.expose())?.connect().await?;
            let found = look_postgres(&mut connection).await;
            connection.close().await?;
            Ok(found?.plan(None))
        }
    }
}

/// Brings the schema to this version. A connection of its own: whatever lock an error
/// leaves behind ends with it.
pub(crate) async fn apply(url: &StoreUrl) -> Result<(), StoreError> {
    match url {
        // The memory database is migrated on its one connection when that is made.
        StoreUrl::Memory => Ok(()),
        StoreUrl::Sqlite(path) => apply_sqlite(path).await,
        StoreUrl::Postgres(url) => {
            // Steps may take long on a big table; only the wait for others is bounded.
            let options =
                postgres_options(url.expose())?.options([("statement_timeout", "0"), ("lock_timeout", "60s")]);
            let mut connection = options.connect().await?;
            let result = apply_postgres(&mut connection).await;
            connection.close().await?;
            result
        }
    }
}

async fn apply_postgres(connection: &mut PgConnection) -> Result<(), StoreError> {
    let found = look_postgres(connection).await?;
    found.check(&POSTGRES)?;
    if found.plan(None).pending.is_empty() {
        return Ok(());
    }
    // The migrator holds an advisory lock: of several replicas that start at once, one migrates.
    run(&POSTGRES, connection).await
}

async fn apply_sqlite(path: &Path) -> Result<(), StoreError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|source| file_error(folder, source))?;
    }
    let _lock = lock_beside(path).await?;
    let mut connection = sqlite_single(path).connect().await?;
    let result = async {
        let found = look_sqlite(&mut connection).await?;
        found.check(&SQLITE)?;
        let plan = found.plan(Some(path));
        if plan.pending.is_empty() {
            return Ok(());
        }
        if let Some(backup) = &plan.backup {
            back_up(&mut connection, backup).await?;
        }
        run(&SQLITE, &mut connection).await
    }
    .await;
    connection.close().await?;
    result
}

pub(crate) async fn apply_to_memory(pool: &SqlitePool) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await?;
    run(&SQLITE, &mut *connection).await
}

async fn run<C: Migrate>(migrator: &Migrator, connection: &mut C) -> Result<(), StoreError> {
    Ok(migrator.run_direct(None, connection, false).await?)
}

/// Whether this binary knows all these steps.
pub(crate) fn known(versions: &[i64]) -> Result<(), StoreError> {
    match versions.iter().find(|version| !STEPS.iter().any(|step| step.version == **version)) {
        Some(found) => Err(StoreError::NewerSchema { found: *found, known: SCHEMA_VERSION, needs: *found }),
        None => Ok(()),
    }
}

/// Steps that were applied to a database, in order; none for an empty one.
pub(crate) async fn postgres_versions(connection: &mut PgConnection) -> Result<Vec<i64>, StoreError> {
    Ok(look_postgres(connection).await?.applied.into_iter().map(|(version, _)| version).collect())
}

/// Brings an empty database to the schema of an archive, whose rows are of that schema (O6).
pub(crate) async fn apply_some_postgres(connection: &mut PgConnection, versions: &[i64]) -> Result<(), StoreError> {
    run(&migrator_of(|step| step.postgres, |version| versions.contains(&version)), connection).await
}

/// The same for a new file.
pub(crate) async fn apply_some_sqlite(connection: &mut SqliteConnection, versions: &[i64]) -> Result<(), StoreError> {
    run(&migrator_of(|step| step.sqlite, |version| versions.contains(&version)), connection).await
}

/// Several processes on one machine may open the same file at once (server and command
/// line); only one of them migrates.
async fn lock_beside(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let locked = tokio::task::spawn_blocking(move || {
        let lock = |name: &Path| {
            let file = fs::OpenOptions::new().create(true).append(true).open(name)?;
            file.lock()?;
            Ok(file)
        };
        lock(&name).map_err(|source| file_error(&name, source))
    })
    .await;
    locked.unwrap_or_else(|join| Err(file_error(path, std::io::Error::other(join))))
}

/// A consistent copy of the file as it is, made by SQLite itself. An older copy of the
/// same version stays: it is from before whatever went wrong.
async fn back_up(connection: &mut SqliteConnection, backup: &Path) -> Result<(), StoreError> {
    if backup.exists() {
        return Ok(());
    }
    let target = backup.to_str().ok_or_else(|| StoreError::Backup("the path is not UTF-8".to_owned()))?;
    sqlx::query(AssertSqlSafe("VACUUM INTO $1".to_owned()))
        .bind(target)
        .execute(connection)
        .await
        .map_err(|error| StoreError::Backup(error.to_string()))?;
    tracing::info!(backup = %backup.display(), "copied the database before migrating it");
    Ok(())
}

fn file_error(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::File { path: path.display().to_string(), source }
}
