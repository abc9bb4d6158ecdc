//! Ends of audit chains, and signed checkpoints over all of them (feature row L2).

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement};

const HEAD: Statement = Statement::write(
    "audit_head.put",
    "INSERT INTO audit_head (writer, seq, hash, at_ms) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (writer) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, at_ms = excluded.at_ms \
     WHERE excluded.seq > audit_head.seq",
);
const HEADS: Statement =
    Statement::read("audit_head.all", "SELECT writer, seq, hash FROM audit_head ORDER BY writer LIMIT 10000");
const INSERT: Statement = Statement::write(
    "audit_checkpoint.insert",
    "INSERT INTO audit_checkpoint (number, at_ms, body) VALUES ($1, $2, $3) ON CONFLICT (number) DO NOTHING",
);
const LAST: Statement = Statement::read(
    "audit_checkpoint.last",
    "SELECT number, at_ms, body FROM audit_checkpoint ORDER BY number DESC LIMIT 1",
);
const AFTER: Statement = Statement::read(
    "audit_checkpoint.after",
    "SELECT number, at_ms, body FROM audit_checkpoint WHERE number > $1 ORDER BY number LIMIT $2",
);
const PRUNE: Statement = Statement::write(
    "audit_checkpoint.prune",
    "DELETE FROM audit_checkpoint WHERE at_ms < $1 AND number < (SELECT max(number) FROM audit_checkpoint)",
);

pub(crate) fn statements() -> Vec<Statement> {
    super::list![HEAD, HEADS, INSERT, LAST, AFTER, PRUNE].into()
}

/// The end of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Writer.
    pub writer: String,
    /// Last durable record.
    pub seq: i64,
    /// Its hash, lower-case hex.
    pub hash: String,
}

/// A stored checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// From 1, without gaps.
    pub number: i64,
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
    /// The signed document, JSON.
    pub body: String,
}

fn stored(row: &Row) -> Result<StoredCheckpoint, StoreError> {
    Ok(StoredCheckpoint {
        number: row.int(0, "audit_checkpoint.number")?,
        at_ms: row.int(1, "audit_checkpoint.at_ms")?,
        body: row.text(2, "audit_checkpoint.body")?,
    })
}

/// Says where a chain ends; never goes back.
///
/// # Errors
/// When the database does not answer.
pub async fn put_head(store: &Store, head: &Head, at_ms: i64) -> Result<(), StoreError> {
    let args = [Arg::Text(&head.writer), Arg::Int(head.seq), Arg::Text(&head.hash), Arg::Int(at_ms)];
    store.execute(&HEAD, &args).await.map(drop)
}

/// The ends of all chains, in order of writer.
///
/// # Errors
/// When the database does not answer.
pub async fn heads(store: &Store) -> Result<Vec<Head>, StoreError> {
    let head = |row: &Row| {
        Ok(Head {
            writer: row.text(0, "audit_head.writer")?,
            seq: row.int(1, "audit_head.seq")?,
            hash: row.text(2, "audit_head.hash")?,
        })
    };
    store.fetch_all(&HEADS, &[]).await?.iter().map(head).collect()
}

/// Keeps a checkpoint; false when its number is taken.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(store: &Store, new: &StoredCheckpoint) -> Result<bool, StoreError> {
    let args = [Arg::Int(new.number), Arg::Int(new.at_ms), Arg::Text(&new.body)];
    Ok(store.execute(&INSERT, &args).await? == 1)
}

/// The newest checkpoint.
///
/// # Errors
/// When the database does not answer.
pub async fn last(store: &Store) -> Result<Option<StoredCheckpoint>, StoreError> {
    store.fetch_optional(&LAST, &[]).await?.as_ref().map(stored).transpose()
}

/// Checkpoints after a number, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn after(store: &Store, number: i64, limit: u32) -> Result<Vec<StoredCheckpoint>, StoreError> {
    store.fetch_all(&AFTER, &[Arg::Int(number), Arg::Int(i64::from(limit))]).await?.iter().map(stored).collect()
}

/// Removes checkpoints from before a time, but never the last. Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(store: &Store, before_ms: i64) -> Result<u64, StoreError> {
    store.execute(&PRUNE, &[Arg::Int(before_ms)]).await
}
