//! Why there is no copy, or why nothing was restored.

use std::path::Path;

use bartizan_audit::AuditError;
use bartizan_store::StoreError;

/// A failed backup or restore. Unless it says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or folder cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Path.
        path: String,
        /// Reason.
        #[source]
        source: std::io::Error,
    },
    /// The file does not begin as a backup does.
    #[error("this is no backup of bartizan")]
    NotAnArchive,
    /// The archive needs another key.
    #[error("the archive is encrypted with another key: {0}")]
    WrongKey(String),
    /// The archive ends before its end.
    #[error("the archive ends too early: it is not whole")]
    Truncated,
    /// Bytes were changed, moved, added, or are of another archive.
    #[error("the archive is damaged: something in it was changed or moved")]
    Damaged,
    /// The archive opens, and holds what no backup of bartizan holds.
    #[error("the archive is refused: {0}")]
    Content(&'static str),
    /// Its record is not whole.
    #[error("the audit record in the archive is not whole: {0}")]
    Chain(String),
    /// The master key of the target does not open what is sealed in the archive.
    #[error("the installation's master key is another one than that of the archive, {0}: nothing sealed would open")]
    MasterKey(String),
    /// There is an installation already.
    #[error("{0} is not empty; nothing was changed")]
    NotEmpty(String),
    /// A process works there.
    #[error("a process of this installation is running: stop it first")]
    InUse,
    /// Processes elsewhere work with the database.
    #[error("other processes work with this database: {0}; stop them first (one that crashed counts for 15 seconds)")]
    Replicas(String),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The record cannot be read.
    #[error("{0}")]
    Audit(#[from] AuditError),
    /// No randomness, or a cipher that does not work.
    #[error("cannot be encrypted")]
    Seal,
}

impl BackupError {
    pub(crate) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.display().to_string(), source }
    }

    /// The stable code, with a page of its own.
    pub fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "backup_file",
            Self::NotAnArchive => "not_a_backup",
            Self::WrongKey(_) => "backup_key",
            Self::Truncated => "backup_truncated",
            Self::Damaged => "backup_damaged",
            Self::Content(_) => "backup_refused",
            Self::Chain(_) => "backup_chain",
            Self::MasterKey(_) => "backup_master_key",
            Self::NotEmpty(_) => "not_empty",
            Self::InUse | Self::Replicas(_) => "in_use",
            Self::Store(StoreError::NewerSchema { .. }) => "backup_newer",
            Self::Store(_) | Self::Audit(_) | Self::Seal => "backup_failed",
        }
    }
}
