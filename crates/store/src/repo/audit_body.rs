//! Sealed arguments and results of calls (feature row L3).

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement};

const INSERT: Statement = Statement::write(
    "audit_body.insert",
    "INSERT INTO audit_body (event_id, at_ms, server, sealed) VALUES ($1, $2, $3, $4) ON CONFLICT (event_id) DO NOTHING",
);
const GET: Statement =
    Statement::read("audit_body.get", "SELECT at_ms, server, sealed FROM audit_body WHERE event_id = $1");
const PRUNE: Statement = Statement::write("audit_body.prune", "DELETE FROM audit_body WHERE at_ms < $1");

pub(crate) fn statements() -> Vec<Statement> {
    super::list![INSERT, GET, PRUNE].into()
}

/// A stored body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBody {
    /// The call.
    pub event_id: String,
    /// When it began, milliseconds since the epoch.
    pub at_ms: i64,
    /// Server that was called.
    pub server: String,
    /// Sealed content.
    pub sealed: Vec<u8>,
}

/// Keeps a body; the first of an event stays.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(store: &Store, body: &StoredBody) -> Result<(), StoreError> {
    let args = [Arg::Text(&body.event_id), Arg::Int(body.at_ms), Arg::Text(&body.server), Arg::Blob(&body.sealed)];
    store.execute(&INSERT, &args).await.map(drop)
}

/// The body of a call.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, event_id: &str) -> Result<Option<StoredBody>, StoreError> {
    let Some(row) = store.fetch_optional(&GET, &[Arg::Text(event_id)]).await? else { return Ok(None) };
    Ok(Some(StoredBody {
        event_id: event_id.to_owned(),
        at_ms: row.int(0, "audit_body.at_ms")?,
        server: row.text(1, "audit_body.server")?,
        sealed: row.blob(2, "audit_body.sealed")?,
    }))
}

/// Removes bodies from before a time. Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(store: &Store, before_ms: i64) -> Result<u64, StoreError> {
    store.execute(&PRUNE, &[Arg::Int(before_ms)]).await
}
