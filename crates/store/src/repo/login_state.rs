//! Sign-ins under way: what must be remembered between the redirect to a provider and its
//! answer. Single use, bound to one browser.

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement};

const INSERT: Statement = Statement::write(
    "login_state.insert",
    "INSERT INTO login_state (hash, browser, provider, sealed, expires_ms) VALUES ($1, $2, $3, $4, $5)",
);
// Another browser's attempt finds nothing, and does not use the state up either.
const TAKE: Statement = Statement::write(
    "login_state.take",
    "DELETE FROM login_state WHERE hash = $1 AND browser = $2 AND expires_ms > $3 RETURNING provider, sealed",
);
const PRUNE: Statement = Statement::write("login_state.prune", "DELETE FROM login_state WHERE expires_ms <= $1");
// Oldest first, so that a flood has to outrun people who are signing in.
const BOUND: Statement = Statement::write(
    "login_state.bound",
    "DELETE FROM login_state WHERE expires_ms <= \
     (SELECT expires_ms FROM login_state ORDER BY expires_ms DESC LIMIT 1 OFFSET $1)",
);

pub(crate) fn statements() -> Vec<Statement> {
    super::list![INSERT, TAKE, PRUNE, BOUND].into()
}

/// One sign-in under way.
#[derive(Clone)]
pub struct LoginState {
    /// SHA-256 of `state`.
    pub hash: Vec<u8>,
    /// SHA-256 of the cookie of the browser that began it.
    pub browser: Vec<u8>,
    /// Provider that was asked.
    pub provider: String,
    /// Everything else, sealed.
    pub sealed: Vec<u8>,
    /// End, milliseconds since the epoch.
    pub expires_ms: i64,
}

/// Remembers a sign-in.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(store: &Store, new: &LoginState) -> Result<(), StoreError> {
    let args = [
        Arg::Blob(&new.hash),
        Arg::Blob(&new.browser),
        Arg::Text(&new.provider),
        Arg::Blob(&new.sealed),
        Arg::Int(new.expires_ms),
    ];
    store.execute(&INSERT, &args).await.map(drop)
}

/// Takes a sign-in out: provider and sealed content, once, for the browser that began it.
///
/// # Errors
/// When the database does not answer.
pub async fn take(store: &Store, hash: &[u8], browser: &[u8]) -> Result<Option<(String, Vec<u8>)>, StoreError> {
    let args = [Arg::Blob(hash), Arg::Blob(browser), Arg::Int(store.now_ms())];
    let Some(row) = store.fetch_optional(&TAKE, &args).await? else { return Ok(None) };
    Ok(Some((row.text(0, "login_state.provider")?, row.blob(1, "login_state.sealed")?)))
}

/// Removes what expired, and the oldest beyond `most`. Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(store: &Store, most: u32) -> Result<u64, StoreError> {
    let expired = store.execute(&PRUNE, &[Arg::Int(store.now_ms())]).await?;
    Ok(expired + store.execute(&BOUND, &[Arg::Int(i64::from(most))]).await?)
}
