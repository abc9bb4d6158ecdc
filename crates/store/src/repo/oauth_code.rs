//! Authorization codes: once, for a minute (A9).

use super::oauth_grant::{self, Grant, NewAccess};
use super::oauth_refresh::NewRefresh;
use super::{browser_session, oauth_client, oauth_refresh};
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement};

const INSERT: Statement = Statement::write(
    "oauth_code.insert",
    "INSERT INTO oauth_code (hash, grant_id, person, client_id, redirect_uri, challenge, content, wrapped, expires_ms) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
);
const GET: Statement = Statement::read(
    "oauth_code.get",
    "SELECT grant_id, person, client_id, redirect_uri, challenge, content, wrapped, expires_ms, used_ms \
     FROM oauth_code WHERE hash = $1",
);
const USE: Statement = Statement::write(
    "oauth_code.use",
    "UPDATE oauth_code SET used_ms = $2 WHERE hash = $1 AND used_ms IS NULL AND expires_ms > $2",
);
pub(super) const DELETE_OF_CLIENT: Statement = Statement::write(
    "oauth_code.delete_of_client",
    "DELETE FROM oauth_code WHERE person = $1 AND client_id = $2 AND used_ms IS NULL",
);
pub(super) const DELETE_OF_PERSON: Statement =
    Statement::write("oauth_code.delete_of_person", "DELETE FROM oauth_code WHERE person = $1 AND used_ms IS NULL");
const SWEEP: Statement = Statement::write("oauth_code.sweep", "DELETE FROM oauth_code WHERE expires_ms < $1");

pub(crate) fn statements() -> Vec<Statement> {
    super::list![INSERT, GET, USE, DELETE_OF_CLIENT, DELETE_OF_PERSON, SWEEP].into()
}

/// One code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The grant that it becomes, or became.
    pub grant_id: String,
    /// Person's id.
    pub person: String,
    /// The client that may redeem it.
    pub client_id: String,
    /// Where it was sent.
    pub redirect_uri: String,
    /// PKCE challenge, S256.
    pub challenge: String,
    /// What the grant will hold, as JSON.
    pub content: String,
    /// The grant's key, for whoever has the code.
    pub wrapped: Vec<u8>,
    /// End, milliseconds since the epoch.
    pub expires_ms: i64,
    /// When it was redeemed.
    pub used_ms: Option<i64>,
}

/// Stores a new code under its hash, as long as the browser session (by id) that asks for it
/// goes on. False when it ended.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(store: &Store, hash: &[u8], session: &str, code: &Code) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let holder = [Arg::Text(session), Arg::Text(&code.person), Arg::Int(store.now_ms())];
    if tx.execute(&browser_session::HOLD, &holder).await? == 0 {
        return Ok(false);
    }
    let args = [
        Arg::Blob(hash),
        Arg::Text(&code.grant_id),
        Arg::Text(&code.person),
        Arg::Text(&code.client_id),
        Arg::Text(&code.redirect_uri),
        Arg::Text(&code.challenge),
        Arg::Text(&code.content),
        Arg::Blob(&code.wrapped),
        Arg::Int(code.expires_ms),
    ];
    tx.execute(&INSERT, &args).await?;
    tx.commit().await?;
    Ok(true)
}

/// The code with this hash, used or not, expired or not.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, hash: &[u8]) -> Result<Option<Code>, StoreError> {
    let row = store.fetch_optional(&GET, &[Arg::Blob(hash)]).await?;
    row.map(|row| {
        Ok(Code {
            grant_id: row.text(0, "oauth_code.grant_id")?,
            person: row.text(1, "oauth_code.person")?,
            client_id: row.text(2, "oauth_code.client_id")?,
            redirect_uri: row.text(3, "oauth_code.redirect_uri")?,
            challenge: row.text(4, "oauth_code.challenge")?,
            content: row.text(5, "oauth_code.content")?,
            wrapped: row.blob(6, "oauth_code.wrapped")?,
            expires_ms: row.int(7, "oauth_code.expires_ms")?,
            used_ms: row.opt_int(8, "oauth_code.used_ms")?,
        })
    })
    .transpose()
}

/// The first tokens of a grant, as hashes.
#[derive(Clone, Copy, Debug)]
pub struct FirstTokens<'a> {
    /// The access token.
    pub access: NewAccess<'a>,
    /// The refresh token.
    pub refresh: NewRefresh<'a>,
}

/// Turns a code into a grant with its first tokens, all or nothing. False when the code was
/// used or removed meanwhile, or has expired: then nothing changed.
///
/// # Errors
/// When the database does not answer.
pub async fn redeem(store: &Store, hash: &[u8], grant: &Grant, tokens: FirstTokens<'_>) -> Result<bool, StoreError> {
    let now = store.now_ms();
    let mut tx = store.begin().await?;
    if tx.execute(&USE, &[Arg::Blob(hash), Arg::Int(now)]).await? == 0 {
        return Ok(false);
    }
    oauth_grant::insert_in(&mut tx, grant).await?;
    oauth_grant::insert_access_in(&mut tx, &grant.id, tokens.access).await?;
    oauth_refresh::insert_in(&mut tx, &grant.id, tokens.refresh, &[]).await?;
    tx.execute(&oauth_client::USED, &[Arg::Text(&grant.client_id), Arg::Int(now)]).await?;
    tx.commit().await?;
    Ok(true)
}

/// Forgets codes that ended before a time.
///
/// # Errors
/// When the database does not answer.
pub async fn sweep(store: &Store, before_ms: i64) -> Result<u64, StoreError> {
    store.execute(&SWEEP, &[Arg::Int(before_ms)]).await
}
