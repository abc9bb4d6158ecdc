//! Why an event is not on record.

use std::io;
use std::path::{Path, PathBuf};

use bartizan_store::StoreError;

/// A failed audit operation.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The queue is full. The event is not on record.
    #[error("the audit queue is full")]
    Full,
    /// The segment cannot be written or synced. The event is not durable; unless it is an
    /// intent, it is kept in memory and written when the disk recovers. Do not append it again.
    #[error("the audit record cannot be written")]
    Unavailable,
    /// [`crate::Audit::close`] was called.
    #[error("the audit record is closed")]
    Closed,
    /// A file or folder of the record cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Reason.
        #[source]
        source: io::Error,
    },
    /// The index cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no Tokio runtime to build the index on.
    #[error("an audit index needs a Tokio runtime")]
    NoRuntime,
    /// A sealed record of the audit (key of checkpoints, bodies) cannot be opened or kept.
    #[error(transparent)]
    Sealed(#[from] bartizan_vault::RecordsError),
    /// The key of checkpoints cannot be read.
    #[error("the key of audit checkpoints cannot be read")]
    Key,
    /// The machine has no randomness.
    #[error("no randomness")]
    Random,
}

impl AuditError {
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}
