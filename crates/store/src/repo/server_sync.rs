//! When servers were asked what they offer (feature row P53).

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement};

const GET: Statement =
    Statement::read("server_sync.get", "SELECT tried_ms, synced_ms, outcome FROM server_sync WHERE server = $1");
const PUT: Statement = Statement::write(
    "server_sync.put",
    "INSERT INTO server_sync (server, tried_ms, synced_ms, outcome) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (server) DO UPDATE SET tried_ms = excluded.tried_ms, outcome = excluded.outcome, \
     synced_ms = COALESCE(excluded.synced_ms, server_sync.synced_ms)",
);

pub(crate) fn statements() -> Vec<Statement> {
    super::list![GET, PUT].into()
}

/// The latest attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// When it was, milliseconds since the epoch.
    pub tried_ms: i64,
    /// When one last succeeded, milliseconds since the epoch.
    pub synced_ms: Option<i64>,
    /// `ok`, or a code.
    pub outcome: String,
}

/// The latest attempt for a server.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, server: &str) -> Result<Option<Synced>, StoreError> {
    let Some(row) = store.fetch_optional(&GET, &[Arg::Text(server)]).await? else { return Ok(None) };
    Ok(Some(Synced {
        tried_ms: row.int(0, "server_sync.tried_ms")?,
        synced_ms: row.opt_int(1, "server_sync.synced_ms")?,
        outcome: row.text(2, "server_sync.outcome")?,
    }))
}

/// Notes an attempt.
///
/// # Errors
/// When the database does not answer.
pub async fn put(store: &Store, server: &str, outcome: &str) -> Result<(), StoreError> {
    let now = store.now_ms();
    let ok = (outcome == "ok").then_some(now);
    let args = [Arg::Text(server), Arg::Int(now), Arg::OptInt(ok), Arg::Text(outcome)];
    store.execute(&PUT, &args).await.map(drop)
}
