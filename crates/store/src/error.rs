//! What can go wrong, without SQL in it.

use sqlx::error::ErrorKind;
use sqlx::migrate::MigrateError;

/// A failed store operation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or did not answer in time. Worth a retry.
    #[error("the database cannot be reached: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// Another writer holds the SQLite file for longer than the busy timeout. Worth a retry.
    #[error("the database is busy")]
    Busy,
    /// A row with the same key is already there.
    #[error("already there")]
    Conflict,
    /// The database was migrated by a newer bartizan which says that this one must not use it (O7).
    #[error(
        "the database has schema {found}, this bartizan knows {known}, and the schema needs at least {needs}: \
         use the newer bartizan"
    )]
    NewerSchema {
        /// Newest migration in the database.
        found: i64,
        /// Newest migration of this binary.
        known: i64,
        /// Oldest schema version a binary must know to use this database.
        needs: i64,
    },
    /// A migration that was applied earlier has other content here.
    #[error("migration {0} was applied with other content")]
    ChangedMigration(i64),
    /// A migration could not be applied.
    #[error("migration failed: {0}")]
    Migration(#[source] MigrateError),
    /// The backup before a migration failed, so nothing was migrated.
    #[error("backup before the migration failed: {0}")]
    Backup(String),
    /// A stored value is not of the form this version writes.
    #[error("column {0} holds an unexpected value")]
    Data(&'static str),
    /// The file or its folder cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Path of the file.
        path: String,
        /// Reason.
        #[source]
        source: std::io::Error,
    },
    /// The database refused a statement; a defect here.
    #[error("the database refused: {0}")]
    Query(#[source] sqlx::Error),
}

impl StoreError {
    /// True when the same operation may succeed later without a change.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Busy)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => match (database.kind(), database.code().as_deref()) {
                (ErrorKind::UniqueViolation, _) => Self::Conflict,
                // SQLite: 5 busy, 6 locked, with extended codes in the higher byte.
                (_, Some("5" | "6" | "261" | "262" | "517")) => Self::Busy,
                // Postgres: class 08 connection, 53 resources, 57 operator intervention.
                (_, Some(code)) if code.len() == 5 && ["08", "53", "57"].iter().any(|c| code.starts_with(c)) => {
                    Self::Unavailable(error)
                }
                _ => Self::Query(error),
            },
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Data("?"),
            _ => Self::Query(error),
        }
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMismatch(version) => Self::ChangedMigration(version),
            MigrateError::Execute(error) => Self::from(error),
            other => Self::Migration(other),
        }
    }
}
