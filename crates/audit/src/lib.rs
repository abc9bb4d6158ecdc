//! The record of who did what (feature rows L1 and L9): an append-only chain of
//! canonical events in segment files, and a searchable index of it built behind.
//!
//! An event that was acknowledged is never lost and never reordered. The files are the
//! truth; the index can be thrown away. Identities are kept beside the chain, which
//! holds only salted commitments to them, so that a person can be erased and the chain
//! still verifies.
//!
//! ```text
//! DIR/<writer>/lock             held by the process that writes here
//! DIR/<writer>/00000001.log     one canonical JSON object per line
//! DIR/<writer>/00000001.who     salt and identity per commitment
//! DIR/<writer>/00000001.torn-…  bytes of a line that a crash cut off
//! ```

mod analytics;
mod audit;
mod bodies;
mod bundle;
mod canonical;
mod checkpoint;
mod digest;
mod disk;
mod error;
mod feed;
mod folder;
mod index;
mod lines;
mod portal_log;
mod queue;
mod record;
mod search;
mod verify;
mod who;
mod writer;

pub use analytics::{Ask, AskError, Figures, Granularity, Step, figures};
pub use audit::{Audit, Options, Receipt, Stats, Watch};
pub use bartizan_store::repo::alert::Hit;
pub use bartizan_store::repo::audit_index::IndexRow;
pub use bodies::{Bodies, Body, BodyError, BodyReader, NewBody};
pub use bundle::{BundleReport, export_bundle, verify_bundle};
pub use checkpoint::{CheckpointError, CheckpointKey, Checkpointer, DOMAIN, PublicKey, Signed, Statement};
pub use error::AuditError;
pub use feed::Feed;
pub use index::rebuild_index;
pub use portal_log::portal_log;
pub use search::{Cursor, Page, Query, Row, event_of, search};
pub use verify::{
    Checkpoint, Evidence, Finding, FindingKind, Report, TornTail, WriterReport, verify, verify_against, verify_evidence,
};

#[cfg(test)]
mod tests;
