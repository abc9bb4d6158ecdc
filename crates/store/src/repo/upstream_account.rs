//! Accounts of people at upstream servers: what may be listed of them. The tokens are
//! sealed records of their own (feature rows P16, P57).

use super::{change, upstream_revocation};
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement, Tx};

/// Topic of the change feed; names are those of [`name`].
pub const TOPIC: &str = "upstream_account";

const PUT: Statement = Statement::write(
    "upstream_account.put",
    "INSERT INTO upstream_account \
       (owner, server, status, issuer, scopes, expires_ms, version, connected_ms, last_used_ms) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL) \
     ON CONFLICT (owner, server) DO UPDATE SET status = excluded.status, issuer = excluded.issuer, \
       scopes = excluded.scopes, expires_ms = excluded.expires_ms, version = excluded.version, \
       connected_ms = excluded.connected_ms \
     WHERE upstream_account.version < excluded.version",
);
const LIST: Statement = Statement::read(
    "upstream_account.list",
    "SELECT owner, server, status, issuer, scopes, expires_ms, version, connected_ms, last_used_ms \
     FROM upstream_account WHERE owner = $1 ORDER BY server LIMIT 1000",
);
const GET: Statement = Statement::read(
    "upstream_account.get",
    "SELECT owner, server, status, issuer, scopes, expires_ms, version, connected_ms, last_used_ms \
     FROM upstream_account WHERE owner = $1 AND server = $2",
);
const USED: Statement = Statement::write(
    "upstream_account.used",
    "UPDATE upstream_account SET last_used_ms = $3 WHERE owner = $1 AND server = $2",
);
const DELETE: Statement =
    Statement::write("upstream_account.delete", "DELETE FROM upstream_account WHERE owner = $1 AND server = $2");

const SERVERS: Statement =
    Statement::read("upstream_account.servers", "SELECT server FROM upstream_account WHERE owner = $1");
const DELETE_ALL: Statement =
    Statement::write("upstream_account.delete_all", "DELETE FROM upstream_account WHERE owner = $1");
const DELETE_CONNECTS: Statement =
    Statement::write("upstream_account.delete_connects", "DELETE FROM upstream_connect WHERE owner = $1");
// By the end of the name, so that a record without its row goes as well.
const DELETE_TOKENS: Statement = Statement::write(
    "upstream_account.delete_tokens",
    "DELETE FROM sealed WHERE tenant = '' AND kind = 'upstream_token' \
     AND substr(id, length(id) - length(CAST($1 AS TEXT))) = '/' || CAST($1 AS TEXT)",
);

pub(crate) fn statements() -> Vec<Statement> {
    super::list![PUT, LIST, GET, USED, DELETE, SERVERS, DELETE_ALL, DELETE_CONNECTS, DELETE_TOKENS].into()
}

/// One account, without its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Key of the principal.
    pub owner: String,
    /// Server id.
    pub server: String,
    /// `ready` or `login_needed`.
    pub status: String,
    /// Authorization server.
    pub issuer: String,
    /// Granted scopes, separated by spaces.
    pub scopes: String,
    /// End of the access token, milliseconds since the epoch, if it is known.
    pub expires_ms: Option<i64>,
    /// Version of the sealed record.
    pub version: i64,
    /// When the person signed in, milliseconds since the epoch.
    pub connected_ms: i64,
    /// Last use, to within some minutes, milliseconds since the epoch.
    pub last_used_ms: Option<i64>,
}

fn account(row: &Row) -> Result<Account, StoreError> {
    Ok(Account {
        owner: row.text(0, "upstream_account.owner")?,
        server: row.text(1, "upstream_account.server")?,
        status: row.text(2, "upstream_account.status")?,
        issuer: row.text(3, "upstream_account.issuer")?,
        scopes: row.text(4, "upstream_account.scopes")?,
        expires_ms: row.opt_int(5, "upstream_account.expires_ms")?,
        version: row.int(6, "upstream_account.version")?,
        connected_ms: row.int(7, "upstream_account.connected_ms")?,
        last_used_ms: row.opt_int(8, "upstream_account.last_used_ms")?,
    })
}

/// Name of an account in the change feed, and of its sealed record. Server ids hold no slash.
pub fn name(owner: &str, server: &str) -> String {
    format!("{server}/{owner}")
}

/// Notes an account unless a newer version of it is there, and tells every process.
///
/// # Errors
/// When the database does not answer; then nothing changed.
pub async fn put(store: &Store, new: &Account) -> Result<(), StoreError> {
    let args = [
        Arg::Text(&new.owner),
        Arg::Text(&new.server),
        Arg::Text(&new.status),
        Arg::Text(&new.issuer),
        Arg::Text(&new.scopes),
        Arg::OptInt(new.expires_ms),
        Arg::Int(new.version),
        Arg::Int(new.connected_ms),
    ];
    let mut tx = store.begin().await?;
    tx.execute(&PUT, &args).await?;
    change::append_in(&mut tx, TOPIC, &name(&new.owner, &new.server), store.now_ms()).await?;
    tx.commit().await
}

/// The accounts of a principal, by server, at most 1,000.
///
/// # Errors
/// When the database does not answer.
pub async fn list(store: &Store, owner: &str) -> Result<Vec<Account>, StoreError> {
    store.fetch_all(&LIST, &[Arg::Text(owner)]).await?.iter().map(account).collect()
}

/// One account.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, owner: &str, server: &str) -> Result<Option<Account>, StoreError> {
    let args = [Arg::Text(owner), Arg::Text(server)];
    store.fetch_optional(&GET, &args).await?.as_ref().map(account).transpose()
}

/// Notes a use; no process needs to be told.
///
/// # Errors
/// When the database does not answer.
pub async fn used(store: &Store, owner: &str, server: &str) -> Result<(), StoreError> {
    let args = [Arg::Text(owner), Arg::Text(server), Arg::Int(store.now_ms())];
    store.execute(&USED, &args).await.map(drop)
}

/// Removes an account and tells every process; false when there is none.
///
/// # Errors
/// When the database does not answer; then nothing changed.
pub async fn delete(store: &Store, owner: &str, server: &str) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let gone = tx.execute(&DELETE, &[Arg::Text(owner), Arg::Text(server)]).await?;
    change::append_in(&mut tx, TOPIC, &name(owner, server), store.now_ms()).await?;
    tx.commit().await?;
    Ok(gone == 1)
}

/// Removes all accounts of an owner with their tokens, and connections under way: whoever
/// bears the name next is somebody else. What is to be revoked upstream is kept for that.
pub(super) async fn remove_all_in(tx: &mut Tx, owner: &str, now: i64) -> Result<u64, StoreError> {
    let owner_arg = [Arg::Text(owner)];
    let rows = tx.fetch_all(&SERVERS, &owner_arg).await?;
    upstream_revocation::queue_in(tx, owner, now).await?;
    for statement in [&DELETE_CONNECTS, &DELETE_ALL, &DELETE_TOKENS] {
        tx.execute(statement, &owner_arg).await?;
    }
    let gone = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    for row in rows {
        let server = row.text(0, "upstream_account.server")?;
        change::append_in(tx, TOPIC, &name(owner, &server), now).await?;
    }
    Ok(gone)
}
