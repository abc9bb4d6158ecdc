//! Markers of what may be used once: whoever inserts the marker has the use, everybody
//! after that, on whatever replica, has not.

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement, Tx};

const INSERT: Statement = Statement::write(
    "replay.insert",
    "INSERT INTO replay_marker (id, expires_ms) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
);
/// Markers are kept this much longer than they ask for, because clocks of replicas differ,
/// milliseconds.
pub const SKEW_MS: i64 = 600_000;

const PRUNE: Statement = Statement::write("replay.prune", "DELETE FROM replay_marker WHERE expires_ms < $1");

pub(crate) fn statements() -> Vec<Statement> {
    super::list![INSERT, PRUNE].into()
}

/// Uses up an id. True for the first, false for everybody after it; of several that try
/// at once, one wins. The marker must be kept until `expires_ms` (milliseconds since the
/// epoch), after which the id must be refused for its age.
///
/// # Errors
/// When the database does not answer: then it is unknown whether the id is used up.
pub async fn consume(store: &Store, id: &str, expires_ms: i64) -> Result<bool, StoreError> {
    Ok(store.execute(&INSERT, &[Arg::Text(id), Arg::Int(expires_ms)]).await? == 1)
}

/// The same in a transaction.
pub(super) async fn consume_in(tx: &mut Tx, id: &str, expires_ms: i64) -> Result<bool, StoreError> {
    Ok(tx.execute(&INSERT, &[Arg::Text(id), Arg::Int(expires_ms)]).await? == 1)
}

/// Removes markers that expired longer than [`SKEW_MS`] before `now_ms` (milliseconds since
/// the epoch). Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(store: &Store, now_ms: i64) -> Result<u64, StoreError> {
    store.execute(&PRUNE, &[Arg::Int(now_ms.saturating_sub(SKEW_MS))]).await
}
