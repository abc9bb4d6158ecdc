//! The processes of the installation that the others can reach (O17).

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement};

const BEAT: Statement = Statement::write(
    "replica.beat",
    "INSERT INTO replica (node, address, certificate, started_ms, seen_ms) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (node) DO UPDATE SET \
       address = excluded.address, certificate = excluded.certificate, seen_ms = excluded.seen_ms",
);
const SEEN: Statement = Statement::read(
    "replica.seen",
    "SELECT node, address, certificate, started_ms, seen_ms FROM replica WHERE seen_ms >= $1 ORDER BY node",
);
const LEAVE: Statement = Statement::write("replica.leave", "DELETE FROM replica WHERE node = $1");
const PRUNE: Statement = Statement::write("replica.prune", "DELETE FROM replica WHERE seen_ms < $1");

pub(crate) fn statements() -> Vec<Statement> {
    super::list![BEAT, SEEN, LEAVE, PRUNE].into()
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its name, made at its start.
    pub node: String,
    /// Host and port of its listener for the others.
    pub address: String,
    /// SHA-256 of its certificate, lower-case hex.
    pub certificate: String,
    /// Start, milliseconds since the epoch.
    pub started_ms: i64,
    /// When it last said that it lives, milliseconds since the epoch.
    pub seen_ms: i64,
}

fn replica(row: &Row) -> Result<Replica, StoreError> {
    Ok(Replica {
        node: row.text(0, "replica.node")?,
        address: row.text(1, "replica.address")?,
        certificate: row.text(2, "replica.certificate")?,
        started_ms: row.int(3, "replica.started_ms")?,
        seen_ms: row.int(4, "replica.seen_ms")?,
    })
}

/// Says that a process lives and where it is.
///
/// # Errors
/// When the database does not answer.
pub async fn beat(store: &Store, replica: &Replica) -> Result<(), StoreError> {
    let args = [
        Arg::Text(&replica.node),
        Arg::Text(&replica.address),
        Arg::Text(&replica.certificate),
        Arg::Int(replica.started_ms),
        Arg::Int(replica.seen_ms),
    ];
    store.execute(&BEAT, &args).await.map(drop)
}

/// The processes that were seen at or after a time (milliseconds since the epoch).
///
/// # Errors
/// When the database does not answer.
pub async fn seen_since(store: &Store, since_ms: i64) -> Result<Vec<Replica>, StoreError> {
    store.fetch_all(&SEEN, &[Arg::Int(since_ms)]).await?.iter().map(replica).collect()
}

/// A process ends in order.
///
/// # Errors
/// When the database does not answer.
pub async fn leave(store: &Store, node: &str) -> Result<(), StoreError> {
    store.execute(&LEAVE, &[Arg::Text(node)]).await.map(drop)
}

/// Forgets processes that were last seen before a time. Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(store: &Store, before_ms: i64) -> Result<u64, StoreError> {
    store.execute(&PRUNE, &[Arg::Int(before_ms)]).await
}
