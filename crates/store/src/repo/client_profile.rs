//! What clients said about themselves, by digest, so that another replica or a restarted
//! one knows a session's capabilities.

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement, Tx};

const GET: Statement = Statement::read("client_profile.get", "SELECT profile FROM client_profile WHERE digest = $1");
const PUT: Statement = Statement::write(
    "client_profile.put",
    "INSERT INTO client_profile (digest, profile, seen_ms) VALUES ($1, $2, $3) \
     ON CONFLICT (digest) DO UPDATE SET profile = excluded.profile, seen_ms = excluded.seen_ms",
);
const PRUNE: Statement = Statement::write("client_profile.prune", "DELETE FROM client_profile WHERE seen_ms < $1");

const PRUNE_UNUSED: Statement = Statement::write(
    "client_profile.prune_unused",
    "DELETE FROM client_profile WHERE seen_ms < $1 \
     AND NOT EXISTS (SELECT 1 FROM portal_state WHERE portal_state.profile = client_profile.digest)",
);

const DROP_UNUSED: Statement = Statement::write(
    "client_profile.drop_unused",
    "DELETE FROM client_profile WHERE digest = $1 AND seen_ms < $2 \
     AND NOT EXISTS (SELECT 1 FROM portal_state WHERE portal_state.profile = client_profile.digest)",
);

/// A profile seen this short a time ago may be that of a session which begins elsewhere in
/// a transaction that cannot be seen yet; milliseconds.
const BEGINNING_MS: i64 = 2_000;

pub(crate) fn statements() -> Vec<Statement> {
    super::list![GET, PUT, PRUNE, PRUNE_UNUSED, DROP_UNUSED].into()
}

/// The profile text of a digest.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, digest: &str) -> Result<Option<String>, StoreError> {
    store.fetch_optional(&GET, &[Arg::Text(digest)]).await?.map(|row| row.text(0, "client_profile.profile")).transpose()
}

/// Keeps a profile and notes that it was seen now.
///
/// # Errors
/// When the database does not answer.
pub async fn put(store: &Store, digest: &str, profile: &str) -> Result<(), StoreError> {
    store.execute(&PUT, &[Arg::Text(digest), Arg::Text(profile), Arg::Int(store.now_ms())]).await.map(drop)
}

/// Removes profiles not seen since a time (milliseconds since the epoch). Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(store: &Store, before_ms: i64) -> Result<u64, StoreError> {
    store.execute(&PRUNE, &[Arg::Int(before_ms)]).await
}

/// Keeps a profile within the transaction that begins a session with it.
pub(super) async fn put_in(tx: &mut Tx, digest: &str, profile: &str, now_ms: i64) -> Result<(), StoreError> {
    tx.execute(&PUT, &[Arg::Text(digest), Arg::Text(profile), Arg::Int(now_ms)]).await.map(drop)
}

/// Removes a profile that no session has (any more).
pub(super) async fn drop_unused(store: &Store, digest: &str) -> Result<(), StoreError> {
    let args = [Arg::Text(digest), Arg::Int(store.now_ms().saturating_sub(BEGINNING_MS))];
    store.execute(&DROP_UNUSED, &args).await.map(drop)
}

/// Removes profiles that no session has, not seen since a time (milliseconds since the
/// epoch). Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn prune_unused(store: &Store, before_ms: i64) -> Result<u64, StoreError> {
    store.execute(&PRUNE_UNUSED, &[Arg::Int(before_ms)]).await
}
