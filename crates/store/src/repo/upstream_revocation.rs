//! Accounts that ended here and not yet at their authorization server (RFC 7009; feature row
//! P57). This crate sees only ciphertext.

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement, Tx};

const INSERT: Statement = Statement::write(
    "upstream_revocation.insert",
    "INSERT INTO upstream_revocation (name, version, sealed, tries, due_ms, removed_ms) \
     VALUES ($1, $2, $3, 0, $4, $4) ON CONFLICT (name, version) DO NOTHING",
);
// By the end of the name, as the accounts themselves are removed.
const QUEUE: Statement = Statement::write(
    "upstream_revocation.queue",
    "INSERT INTO upstream_revocation (name, version, sealed, tries, due_ms, removed_ms) \
     SELECT id, version, sealed, 0, $2, $2 FROM sealed WHERE tenant = '' AND kind = 'upstream_token' \
     AND substr(id, length(id) - length(CAST($1 AS TEXT))) = '/' || CAST($1 AS TEXT) \
     ON CONFLICT (name, version) DO NOTHING",
);
// The time is looked at twice, for processes that take at the same moment.
const TAKE: Statement = Statement::write(
    "upstream_revocation.take",
    "UPDATE upstream_revocation SET tries = tries + 1, due_ms = $2 WHERE due_ms <= $1 AND (name, version) IN \
       (SELECT name, version FROM upstream_revocation WHERE due_ms <= $1 ORDER BY due_ms LIMIT 16) \
     RETURNING name, version, sealed, tries, removed_ms",
);
const LATER: Statement = Statement::write(
    "upstream_revocation.later",
    "UPDATE upstream_revocation SET due_ms = $3 WHERE name = $1 AND version = $2",
);
const DELETE: Statement =
    Statement::write("upstream_revocation.delete", "DELETE FROM upstream_revocation WHERE name = $1 AND version = $2");

pub(crate) fn statements() -> Vec<Statement> {
    super::list![INSERT, QUEUE, TAKE, LATER, DELETE].into()
}

/// Sealed tokens that are to be revoked.
#[derive(Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Name of the sealed record that they were.
    pub name: String,
    /// Its version.
    pub version: i64,
    /// Ciphertext.
    pub sealed: Vec<u8>,
    /// Attempts, this one among them.
    pub tries: i64,
    /// When the account ended here, milliseconds since the epoch.
    pub removed_ms: i64,
}

fn revocation(row: &Row) -> Result<Revocation, StoreError> {
    Ok(Revocation {
        name: row.text(0, "upstream_revocation.name")?,
        version: row.int(1, "upstream_revocation.version")?,
        sealed: row.blob(2, "upstream_revocation.sealed")?,
        tries: row.int(3, "upstream_revocation.tries")?,
        removed_ms: row.int(4, "upstream_revocation.removed_ms")?,
    })
}

/// Notes tokens that could not be revoked at once; they are due at this time, milliseconds
/// since the epoch.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(store: &Store, name: &str, version: i64, sealed: &[u8], due_ms: i64) -> Result<(), StoreError> {
    let args = [Arg::Text(name), Arg::Int(version), Arg::Blob(sealed), Arg::Int(due_ms)];
    store.execute(&INSERT, &args).await.map(drop)
}

/// Keeps the tokens of an owner's accounts for revocation, before they are removed.
pub(super) async fn queue_in(tx: &mut Tx, owner: &str, now: i64) -> Result<(), StoreError> {
    tx.execute(&QUEUE, &[Arg::Text(owner), Arg::Int(now)]).await.map(drop)
}

/// Takes some that are due; until `until_ms` nobody else gets them.
///
/// # Errors
/// When the database does not answer.
pub async fn take(store: &Store, now_ms: i64, until_ms: i64) -> Result<Vec<Revocation>, StoreError> {
    store.fetch_all(&TAKE, &[Arg::Int(now_ms), Arg::Int(until_ms)]).await?.iter().map(revocation).collect()
}

/// The next attempt is at this time, milliseconds since the epoch.
///
/// # Errors
/// When the database does not answer.
pub async fn later(store: &Store, of: &Revocation, due_ms: i64) -> Result<(), StoreError> {
    store.execute(&LATER, &[Arg::Text(&of.name), Arg::Int(of.version), Arg::Int(due_ms)]).await.map(drop)
}

/// It is done, or given up.
///
/// # Errors
/// When the database does not answer.
pub async fn delete(store: &Store, of: &Revocation) -> Result<(), StoreError> {
    store.execute(&DELETE, &[Arg::Text(&of.name), Arg::Int(of.version)]).await.map(drop)
}
