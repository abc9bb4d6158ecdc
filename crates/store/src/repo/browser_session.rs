//! Browser sessions of people who signed in. Only hashes of the cookies are stored.

use super::person::{self, Person};
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement};

const INSERT: Statement = Statement::write(
    "browser_session.insert",
    "INSERT INTO browser_session (hash, id, person, provider, sealed, created_ms, expires_ms) \
     VALUES ($1, $2, $3, $4, $5, $6, $7)",
);
const CURRENT: Statement = Statement::read(
    "browser_session.current",
    "SELECT s.id, s.provider, s.sealed, s.created_ms, s.expires_ms, \
     p.id, p.issuer, p.subject, p.provider, p.email, p.name, p.groups_json, p.created_ms, p.signed_in_ms, \
     p.deactivated_ms \
     FROM browser_session s JOIN person p ON p.id = s.person \
     WHERE s.hash = $1 AND s.expires_ms > $2 AND p.deactivated_ms IS NULL",
);
const END: Statement = Statement::write("browser_session.end", "DELETE FROM browser_session WHERE id = $1");
const END_HASH: Statement = Statement::write("browser_session.end_hash", "DELETE FROM browser_session WHERE hash = $1");
pub(super) const END_ALL: Statement =
    Statement::write("browser_session.end_all", "DELETE FROM browser_session WHERE person = $1");
/// Waits for a sign-out that is under way, and makes a later one wait.
pub(super) const HOLD: Statement = Statement::write(
    "browser_session.hold",
    "UPDATE browser_session SET expires_ms = expires_ms WHERE id = $1 AND person = $2 AND expires_ms > $3",
);
const RUNS: Statement = Statement::read(
    "browser_session.runs",
    "SELECT s.id FROM browser_session s JOIN person p ON p.id = s.person \
     WHERE s.id = $1 AND s.expires_ms > $2 AND p.deactivated_ms IS NULL",
);
const COUNT: Statement = Statement::read(
    "browser_session.count",
    "SELECT COUNT(*) FROM browser_session WHERE person = $1 AND expires_ms > $2",
);
const PRUNE: Statement =
    Statement::write("browser_session.prune", "DELETE FROM browser_session WHERE expires_ms <= $1");

pub(crate) fn statements() -> Vec<Statement> {
    super::list![INSERT, CURRENT, END, END_HASH, END_ALL, HOLD, RUNS, COUNT, PRUNE].into()
}

/// What is kept about a session. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrowserSession {
    /// Name of the session; no secret.
    pub id: String,
    /// Provider that was signed in with.
    pub provider: String,
    /// What the sign-in told, for whoever has the cookie.
    pub sealed: Vec<u8>,
    /// Sign-in here.
    pub created_ms: i64,
    /// End.
    pub expires_ms: i64,
}

/// Stores a new session under the hash of its cookie.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(store: &Store, hash: &[u8], person: &str, new: &BrowserSession) -> Result<(), StoreError> {
    let args = [
        Arg::Blob(hash),
        Arg::Text(&new.id),
        Arg::Text(person),
        Arg::Text(&new.provider),
        Arg::Blob(&new.sealed),
        Arg::Int(new.created_ms),
        Arg::Int(new.expires_ms),
    ];
    store.execute(&INSERT, &args).await.map(drop)
}

/// The session of a cookie with its person, if neither ended.
///
/// # Errors
/// When the database does not answer.
pub async fn current(store: &Store, hash: &[u8]) -> Result<Option<(BrowserSession, Person)>, StoreError> {
    let row = store.fetch_optional(&CURRENT, &[Arg::Blob(hash), Arg::Int(store.now_ms())]).await?;
    let Some(row) = row else { return Ok(None) };
    let session = BrowserSession {
        id: row.text(0, "browser_session.id")?,
        provider: row.text(1, "browser_session.provider")?,
        sealed: row.blob(2, "browser_session.sealed")?,
        created_ms: row.int(3, "browser_session.created_ms")?,
        expires_ms: row.int(4, "browser_session.expires_ms")?,
    };
    Ok(Some((session, person::person(&row, 5)?)))
}

/// Ends a session by its id. Returns false when there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn end(store: &Store, id: &str) -> Result<bool, StoreError> {
    Ok(store.execute(&END, &[Arg::Text(id)]).await? == 1)
}

/// Ends the session of a cookie. Returns false when there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn end_by_hash(store: &Store, hash: &[u8]) -> Result<bool, StoreError> {
    Ok(store.execute(&END_HASH, &[Arg::Blob(hash)]).await? == 1)
}

/// Whether a session runs, and its person may still sign in.
///
/// # Errors
/// When the database does not answer.
pub async fn runs(store: &Store, id: &str) -> Result<bool, StoreError> {
    Ok(store.fetch_optional(&RUNS, &[Arg::Text(id), Arg::Int(store.now_ms())]).await?.is_some())
}

/// How many sessions of a person run.
///
/// # Errors
/// When the database does not answer.
pub async fn count(store: &Store, person: &str) -> Result<u64, StoreError> {
    let row = store.fetch_optional(&COUNT, &[Arg::Text(person), Arg::Int(store.now_ms())]).await?;
    let row = row.ok_or(StoreError::Data("browser_session"))?;
    Ok(u64::try_from(row.int(0, "count")?).unwrap_or(0))
}

/// Ends all sessions of a person. Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn end_all(store: &Store, person: &str) -> Result<u64, StoreError> {
    store.execute(&END_ALL, &[Arg::Text(person)]).await
}

/// Removes sessions that ended by themselves. Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(store: &Store) -> Result<u64, StoreError> {
    store.execute(&PRUNE, &[Arg::Int(store.now_ms())]).await
}
