//! Service tokens (feature row A11). Only hashes are stored.

use super::change;
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement};

/// Topic of these rows in the change feed.
pub const TOPIC: &str = "service_token";

const INSERT: Statement = Statement::write(
    "service_token.insert",
    "INSERT INTO service_token (id, name, hash, created_ms, expires_ms) VALUES ($1, $2, $3, $4, $5)",
);
const BY_ID: Statement = Statement::read(
    "service_token.by_id",
    "SELECT id, name, hash, previous_hash, previous_until_ms, created_ms, expires_ms, suspended_ms, last_used_ms \
     FROM service_token WHERE id = $1",
);
const BY_NAME: Statement = Statement::read(
    "service_token.by_name",
    "SELECT id, name, hash, previous_hash, previous_until_ms, created_ms, expires_ms, suspended_ms, last_used_ms \
     FROM service_token WHERE name = $1",
);
const LIST: Statement = Statement::read(
    "service_token.list",
    "SELECT id, name, hash, previous_hash, previous_until_ms, created_ms, expires_ms, suspended_ms, last_used_ms \
     FROM service_token WHERE name > $1 ORDER BY name LIMIT $2",
);
const ROTATE: Statement = Statement::write(
    "service_token.rotate",
    "UPDATE service_token SET previous_hash = hash, previous_until_ms = $3, hash = $2 WHERE id = $1",
);
const SUSPEND: Statement = Statement::write(
    "service_token.suspend",
    "UPDATE service_token SET suspended_ms = $2 WHERE id = $1 AND suspended_ms IS NULL",
);
const RESUME: Statement = Statement::write(
    "service_token.resume",
    "UPDATE service_token SET suspended_ms = NULL WHERE id = $1 AND suspended_ms IS NOT NULL",
);
const DELETE: Statement = Statement::write("service_token.delete", "DELETE FROM service_token WHERE id = $1");
const USED: Statement = Statement::write(
    "service_token.used",
    "UPDATE service_token SET last_used_ms = $2 WHERE id = $1 AND (last_used_ms IS NULL OR last_used_ms <= $3)",
);
const INACTIVE: Statement = Statement::read(
    "service_token.inactive",
    "SELECT id, name, hash, previous_hash, previous_until_ms, created_ms, expires_ms, suspended_ms, last_used_ms \
     FROM service_token WHERE coalesce(last_used_ms, created_ms) < $1 ORDER BY name LIMIT $2",
);
// The condition again: it may have been used since it was listed.
const DELETE_INACTIVE: Statement = Statement::write(
    "service_token.delete_inactive",
    "DELETE FROM service_token WHERE id = $1 AND coalesce(last_used_ms, created_ms) < $2",
);

pub(crate) fn statements() -> Vec<Statement> {
    super::list![INSERT, BY_ID, BY_NAME, LIST, ROTATE, SUSPEND, RESUME, DELETE, USED, INACTIVE, DELETE_INACTIVE].into()
}

/// One stored token. Times are milliseconds since the epoch.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceToken {
    /// Public part of the credential.
    pub id: String,
    /// The administrator's name; unique; what policies call `service:NAME`.
    pub name: String,
    /// SHA-256 of the secret.
    pub hash: Vec<u8>,
    /// SHA-256 of the secret before the last rotation.
    pub previous_hash: Option<Vec<u8>>,
    /// End of the grace time of the previous secret.
    pub previous_until_ms: Option<i64>,
    /// When it was made.
    pub created_ms: i64,
    /// When it ends; `None` never.
    pub expires_ms: Option<i64>,
    /// Since when it is suspended.
    pub suspended_ms: Option<i64>,
    /// Last use, exact to five minutes.
    pub last_used_ms: Option<i64>,
}

fn token(row: &Row) -> Result<ServiceToken, StoreError> {
    Ok(ServiceToken {
        id: row.text(0, "service_token.id")?,
        name: row.text(1, "service_token.name")?,
        hash: row.blob(2, "service_token.hash")?,
        previous_hash: row.opt_blob(3, "service_token.previous_hash")?,
        previous_until_ms: row.opt_int(4, "service_token.previous_until_ms")?,
        created_ms: row.int(5, "service_token.created_ms")?,
        expires_ms: row.opt_int(6, "service_token.expires_ms")?,
        suspended_ms: row.opt_int(7, "service_token.suspended_ms")?,
        last_used_ms: row.opt_int(8, "service_token.last_used_ms")?,
    })
}

/// Stores a new token.
///
/// # Errors
/// [`StoreError::Conflict`] when the name or id is taken.
pub async fn insert(
    store: &Store,
    id: &str,
    name: &str,
    hash: &[u8],
    expires_ms: Option<i64>,
) -> Result<(), StoreError> {
    let now = Arg::Int(store.now_ms());
    changing(store, &INSERT, id, &[Arg::Text(id), Arg::Text(name), Arg::Blob(hash), now, Arg::OptInt(expires_ms)])
        .await
        .map(drop)
}

/// The token with this id.
///
/// # Errors
/// When the database does not answer.
pub async fn by_id(store: &Store, id: &str) -> Result<Option<ServiceToken>, StoreError> {
    store.fetch_optional(&BY_ID, &[Arg::Text(id)]).await?.as_ref().map(token).transpose()
}

/// The token with this name.
///
/// # Errors
/// When the database does not answer.
pub async fn by_name(store: &Store, name: &str) -> Result<Option<ServiceToken>, StoreError> {
    store.fetch_optional(&BY_NAME, &[Arg::Text(name)]).await?.as_ref().map(token).transpose()
}

/// Tokens in order of name, after a name (empty: from the start), at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn list(store: &Store, after: &str, limit: u32) -> Result<Vec<ServiceToken>, StoreError> {
    store.fetch_all(&LIST, &[Arg::Text(after), Arg::Int(i64::from(limit))]).await?.iter().map(token).collect()
}

/// Puts a new secret hash in place; the present one stays good until `previous_until_ms`.
/// Returns false when there is no such token.
///
/// # Errors
/// When the database does not answer.
pub async fn rotate(store: &Store, id: &str, hash: &[u8], previous_until_ms: i64) -> Result<bool, StoreError> {
    changing(store, &ROTATE, id, &[Arg::Text(id), Arg::Blob(hash), Arg::Int(previous_until_ms)]).await
}

/// Suspends. Returns false when there is no such token or it is suspended already.
///
/// # Errors
/// When the database does not answer.
pub async fn suspend(store: &Store, id: &str) -> Result<bool, StoreError> {
    changing(store, &SUSPEND, id, &[Arg::Text(id), Arg::Int(store.now_ms())]).await
}

/// Ends a suspension. Returns false when there is no such token or it is not suspended.
///
/// # Errors
/// When the database does not answer.
pub async fn resume(store: &Store, id: &str) -> Result<bool, StoreError> {
    changing(store, &RESUME, id, &[Arg::Text(id)]).await
}

/// Removes. Returns false when there is no such token.
///
/// # Errors
/// When the database does not answer.
pub async fn delete(store: &Store, id: &str) -> Result<bool, StoreError> {
    changing(store, &DELETE, id, &[Arg::Text(id)]).await
}

/// Notes a use, unless one of the last `every_ms` milliseconds is noted. Not a change
/// in the feed: nothing depends on it.
///
/// # Errors
/// When the database does not answer.
pub async fn used(store: &Store, id: &str, at_ms: i64, every_ms: i64) -> Result<bool, StoreError> {
    let args = [Arg::Text(id), Arg::Int(at_ms), Arg::Int(at_ms.saturating_sub(every_ms))];
    Ok(store.execute(&USED, &args).await? == 1)
}

/// Tokens neither used nor made since a time, at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn inactive(store: &Store, before_ms: i64, limit: u32) -> Result<Vec<ServiceToken>, StoreError> {
    store.fetch_all(&INACTIVE, &[Arg::Int(before_ms), Arg::Int(i64::from(limit))]).await?.iter().map(token).collect()
}

/// Removes a token if it still is inactive.
///
/// # Errors
/// When the database does not answer.
pub async fn delete_inactive(store: &Store, id: &str, before_ms: i64) -> Result<bool, StoreError> {
    changing(store, &DELETE_INACTIVE, id, &[Arg::Text(id), Arg::Int(before_ms)]).await
}

/// Runs a statement on one token and, if it changed something, tells the change feed.
async fn changing(store: &Store, statement: &Statement, id: &str, args: &[Arg<'_>]) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    if tx.execute(statement, args).await? == 0 {
        return Ok(false);
    }
    change::append_in(&mut tx, TOPIC, id, store.now_ms()).await?;
    tx.commit().await?;
    Ok(true)
}
