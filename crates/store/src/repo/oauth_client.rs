//! OAuth clients that registered themselves (A7). Bounded: registration needs no
//! authority, so whoever never came back is the first to go.

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement};

const INSERT: Statement =
    Statement::write("oauth_client.insert", "INSERT INTO oauth_client (id, metadata, created_ms) VALUES ($1, $2, $3)");
const BY_ID: Statement =
    Statement::read("oauth_client.by_id", "SELECT id, metadata, created_ms, used_ms FROM oauth_client WHERE id = $1");
// The newest `$1` of those never used stay.
const TRIM: Statement = Statement::write(
    "oauth_client.trim",
    "DELETE FROM oauth_client WHERE used_ms IS NULL AND id IN \
     (SELECT id FROM oauth_client WHERE used_ms IS NULL ORDER BY created_ms DESC, id LIMIT 1000000 OFFSET $1)",
);
pub(super) const USED: Statement =
    Statement::write("oauth_client.used", "UPDATE oauth_client SET used_ms = $2 WHERE id = $1");
const SWEEP: Statement = Statement::write(
    "oauth_client.sweep",
    "DELETE FROM oauth_client WHERE (used_ms IS NULL AND created_ms < $1) OR used_ms < $2",
);
const COUNT: Statement = Statement::read("oauth_client.count", "SELECT count(*) FROM oauth_client");

pub(crate) fn statements() -> Vec<Statement> {
    super::list![INSERT, BY_ID, TRIM, USED, SWEEP, COUNT].into()
}

/// One client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuthClient {
    /// The `client_id`.
    pub id: String,
    /// What it registered, as JSON.
    pub metadata: String,
    /// When, milliseconds since the epoch.
    pub created_ms: i64,
    /// When somebody last signed in with it, or it last got tokens.
    pub used_ms: Option<i64>,
}

/// Stores a new client, and removes the oldest of those that were never used beyond
/// `max_unused`.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(store: &Store, id: &str, metadata: &str, max_unused: u32) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    tx.execute(&INSERT, &[Arg::Text(id), Arg::Text(metadata), Arg::Int(store.now_ms())]).await?;
    tx.execute(&TRIM, &[Arg::Int(i64::from(max_unused))]).await?;
    tx.commit().await
}

/// The client with this id.
///
/// # Errors
/// When the database does not answer.
pub async fn by_id(store: &Store, id: &str) -> Result<Option<OAuthClient>, StoreError> {
    let row = store.fetch_optional(&BY_ID, &[Arg::Text(id)]).await?;
    row.map(|row| {
        Ok(OAuthClient {
            id: row.text(0, "oauth_client.id")?,
            metadata: row.text(1, "oauth_client.metadata")?,
            created_ms: row.int(2, "oauth_client.created_ms")?,
            used_ms: row.opt_int(3, "oauth_client.used_ms")?,
        })
    })
    .transpose()
}

/// Removes clients never used since a time, and those last used before another.
///
/// # Errors
/// When the database does not answer.
pub async fn sweep(store: &Store, unused_before_ms: i64, used_before_ms: i64) -> Result<u64, StoreError> {
    store.execute(&SWEEP, &[Arg::Int(unused_before_ms), Arg::Int(used_before_ms)]).await
}

/// How many there are.
///
/// # Errors
/// When the database does not answer.
pub async fn count(store: &Store) -> Result<i64, StoreError> {
    store.fetch_optional(&COUNT, &[]).await?.ok_or(StoreError::Data("oauth_client"))?.int(0, "count")
}
