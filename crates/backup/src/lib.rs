//! Copies of an installation (feature row O6): one encrypted file with the rows of the store and the segments of the
//! audit record, taken while the process serves, and the way back, which replaces everything or nothing.
//!
//! The master key is never in it, only its name. Must never: touch what is there before the whole archive was read
//! and the chain of its record verified.
//!
//! ```text
//! "bartizan-backup 1\n" | header, one line of JSON | chunk … | last chunk
//! chunk: kind (1) | length (4) | sealed under a key of its own, bound to header, place and kind
//! ```

mod error;
mod header;
mod open;
mod place;
mod put;
mod record;
mod seal;
mod take;

pub use error::BackupError;
pub use header::{Header, shown};
pub use place::UNFINISHED;
pub use put::{Restored, Target, check, restore};
pub use record::Manifest;
pub use take::{Source, take};

use serde::{Deserialize, Serialize};

/// How much there is in an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Tables.
    pub tables: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Files of the audit record.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

#[cfg(test)]
mod tests;
