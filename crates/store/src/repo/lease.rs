//! Leases: what only one replica may do has one owner, fenced by a growing number.

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement};

// The fence grows with every change of owner and with every gap, never on renewal.
const CLAIM: Statement = Statement::write(
    "lease.claim",
    "INSERT INTO lease (name, owner, address, fence, expires_ms) VALUES ($1, $2, $3, 1, $4) \
     ON CONFLICT (name) DO UPDATE SET \
       fence = CASE WHEN lease.owner = excluded.owner AND lease.expires_ms > $5 \
                    THEN lease.fence ELSE lease.fence + 1 END, \
       owner = excluded.owner, address = excluded.address, expires_ms = excluded.expires_ms \
     WHERE lease.owner = excluded.owner OR lease.expires_ms <= $5 \
     RETURNING owner, address, fence, expires_ms",
);
const GET: Statement =
    Statement::read("lease.get", "SELECT owner, address, fence, expires_ms FROM lease WHERE name = $1");
const RELEASE: Statement =
    Statement::write("lease.release", "UPDATE lease SET expires_ms = 0 WHERE name = $1 AND owner = $2 AND fence = $3");

pub(crate) fn statements() -> Vec<Statement> {
    super::list![CLAIM, GET, RELEASE].into()
}

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Node id.
    pub owner: String,
    /// Where the owner's replica listener is.
    pub address: String,
    /// Grows with every change of owner: a write that carries an older one is from a
    /// replica that no longer owns the work.
    pub fence: i64,
    /// End, milliseconds since the epoch.
    pub expires_ms: i64,
}

fn lease(row: &Row) -> Result<Lease, StoreError> {
    Ok(Lease {
        owner: row.text(0, "lease.owner")?,
        address: row.text(1, "lease.address")?,
        fence: row.int(2, "lease.fence")?,
        expires_ms: row.int(3, "lease.expires_ms")?,
    })
}

/// Claims or renews for `ttl_ms` milliseconds. `None` when another owner's lease still runs.
///
/// # Errors
/// When the database does not answer; then the caller does not own it.
pub async fn claim(
    store: &Store,
    name: &str,
    owner: &str,
    address: &str,
    ttl_ms: i64,
) -> Result<Option<Lease>, StoreError> {
    let now = store.now_ms();
    let until = now.saturating_add(ttl_ms);
    let args = [Arg::Text(name), Arg::Text(owner), Arg::Text(address), Arg::Int(until), Arg::Int(now)];
    store.fetch_optional(&CLAIM, &args).await?.as_ref().map(lease).transpose()
}

/// The running lease of a name; `None` when nobody holds it.
///
/// # Errors
/// When the database does not answer.
pub async fn holder(store: &Store, name: &str) -> Result<Option<Lease>, StoreError> {
    let found = store.fetch_optional(&GET, &[Arg::Text(name)]).await?.as_ref().map(lease).transpose()?;
    Ok(found.filter(|lease| lease.expires_ms > store.now_ms()))
}

/// Gives a lease back. Returns false when it was no longer held with this fence.
///
/// # Errors
/// When the database does not answer.
pub async fn release(store: &Store, name: &str, owner: &str, fence: i64) -> Result<bool, StoreError> {
    let args = [Arg::Text(name), Arg::Text(owner), Arg::Int(fence)];
    Ok(store.execute(&RELEASE, &args).await? == 1)
}
