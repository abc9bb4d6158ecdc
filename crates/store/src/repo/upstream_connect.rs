//! Connections of upstream accounts under way: what must be remembered between the redirect
//! to an authorization server and its answer. Single use, bound to one browser session.

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement};

const INSERT: Statement = Statement::write(
    "upstream_connect.insert",
    "INSERT INTO upstream_connect (hash, browser, owner, server, sealed, created_ms, expires_ms) \
     VALUES ($1, $2, $3, $4, $5, $6, $7)",
);
// Another browser's or person's attempt finds nothing, and does not use the state up either.
const TAKE: Statement = Statement::write(
    "upstream_connect.take",
    "DELETE FROM upstream_connect WHERE hash = $1 AND browser = $2 AND owner = $3 AND expires_ms > $4 \
     RETURNING server, sealed",
);
const PRUNE: Statement =
    Statement::write("upstream_connect.prune", "DELETE FROM upstream_connect WHERE expires_ms <= $1");
const BOUND: Statement = Statement::write(
    "upstream_connect.bound",
    "DELETE FROM upstream_connect WHERE owner = $1 AND created_ms < \
     (SELECT created_ms FROM upstream_connect WHERE owner = $1 ORDER BY created_ms DESC LIMIT 1 OFFSET $2)",
);

pub(crate) fn statements() -> Vec<Statement> {
    super::list![INSERT, TAKE, PRUNE, BOUND].into()
}

/// One connection under way.
#[derive(Clone)]
pub struct Connect {
    /// SHA-256 of `state`.
    pub hash: Vec<u8>,
    /// SHA-256 of what binds it to a browser session.
    pub browser: Vec<u8>,
    /// Key of the principal.
    pub owner: String,
    /// Server id.
    pub server: String,
    /// Everything else, sealed.
    pub sealed: Vec<u8>,
    /// End, milliseconds since the epoch.
    pub expires_ms: i64,
}

/// Remembers a connection under way. Of one owner only the newest `most` stay, so that
/// nobody's flood ends another one's.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(store: &Store, new: &Connect, most: u32) -> Result<(), StoreError> {
    let now = store.now_ms();
    let args = [
        Arg::Blob(&new.hash),
        Arg::Blob(&new.browser),
        Arg::Text(&new.owner),
        Arg::Text(&new.server),
        Arg::Blob(&new.sealed),
        Arg::Int(now),
        Arg::Int(new.expires_ms),
    ];
    store.execute(&PRUNE, &[Arg::Int(now)]).await?;
    store.execute(&INSERT, &args).await?;
    let keep = i64::from(most.saturating_sub(1));
    store.execute(&BOUND, &[Arg::Text(&new.owner), Arg::Int(keep)]).await.map(drop)
}

/// Takes one out: server and sealed content, once, for the browser and person that began it.
///
/// # Errors
/// When the database does not answer.
pub async fn take(
    store: &Store,
    hash: &[u8],
    browser: &[u8],
    owner: &str,
) -> Result<Option<(String, Vec<u8>)>, StoreError> {
    let args = [Arg::Blob(hash), Arg::Blob(browser), Arg::Text(owner), Arg::Int(store.now_ms())];
    let Some(row) = store.fetch_optional(&TAKE, &args).await? else { return Ok(None) };
    Ok(Some((row.text(0, "upstream_connect.server")?, row.blob(1, "upstream_connect.sealed")?)))
}
