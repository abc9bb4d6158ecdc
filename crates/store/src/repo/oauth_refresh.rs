//! Refresh tokens and their rotation (A10).
//!
//! A token stays good until one that was issued for it is used for the first time; from
//! then on it is *retired*, and so are its siblings. Whoever brings a retired one shows
//! that two hold what one should.

use super::oauth_grant::NewAccess;
use super::{oauth_client, oauth_grant};
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement, Tx};

const INSERT: Statement = Statement::write(
    "oauth_refresh.insert",
    "INSERT INTO oauth_refresh (hash, grant_id, parent, wrapped) VALUES ($1, $2, $3, $4)",
);
const GET: Statement = Statement::read(
    "oauth_refresh.get",
    "SELECT grant_id, parent, used_ms, retired_ms, pair, pair_until_ms, exchanges, wrapped FROM oauth_refresh WHERE hash = $1",
);
const EXCHANGE: Statement = Statement::write(
    "oauth_refresh.exchange",
    "UPDATE oauth_refresh SET used_ms = coalesce(used_ms, $2), exchanges = exchanges + 1, \
       pair = CASE WHEN exchanges = 0 THEN $3 ELSE pair END, \
       pair_until_ms = CASE WHEN exchanges = 0 THEN $4 ELSE pair_until_ms END \
     WHERE hash = $1 AND retired_ms IS NULL AND exchanges < $5 AND (pair_until_ms IS NULL OR pair_until_ms <= $2)",
);
// The one it was issued for, and whatever else was issued for that.
const RETIRE: Statement = Statement::write(
    "oauth_refresh.retire",
    "UPDATE oauth_refresh SET retired_ms = $4, pair = NULL, pair_until_ms = NULL, wrapped = NULL \
     WHERE grant_id = $1 AND retired_ms IS NULL AND hash <> $2 AND (hash = $3 OR parent = $3)",
);
const SWEEP: Statement = Statement::write(
    "oauth_refresh.sweep",
    "DELETE FROM oauth_refresh WHERE grant_id NOT IN (SELECT id FROM oauth_grant)",
);
const FORGET_PAIRS: Statement = Statement::write(
    "oauth_refresh.forget_pairs",
    "UPDATE oauth_refresh SET pair = NULL, pair_until_ms = NULL WHERE pair_until_ms < $1",
);

pub(crate) fn statements() -> Vec<Statement> {
    super::list![INSERT, GET, EXCHANGE, RETIRE, SWEEP, FORGET_PAIRS].into()
}

/// One refresh token. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// Its grant.
    pub grant_id: String,
    /// Hash of the token it was issued for; empty for the first.
    pub parent: Vec<u8>,
    /// When it was first used.
    pub used_ms: Option<i64>,
    /// Since when it must not be used.
    pub retired_ms: Option<i64>,
    /// What it was exchanged for, sealed.
    pub pair: Option<Vec<u8>>,
    /// Until when the same pair is given again.
    pub pair_until_ms: Option<i64>,
    /// How often it was exchanged.
    pub exchanges: i64,
    /// The grant's key, for whoever has the token; gone with its use.
    pub wrapped: Option<Vec<u8>>,
}

/// How often a token may be exchanged while none of its successors is used: answers get
/// lost, but not again and again.
pub const MAX_EXCHANGES: i64 = 5;

/// A refresh token to store.
#[derive(Clone, Copy, Debug)]
pub struct NewRefresh<'a> {
    /// Its hash.
    pub hash: &'a [u8],
    /// The grant's key, for whoever has the token.
    pub wrapped: &'a [u8],
}

pub(super) async fn insert_in(
    tx: &mut Tx,
    grant_id: &str,
    new: NewRefresh<'_>,
    parent: &[u8],
) -> Result<(), StoreError> {
    let args = [Arg::Blob(new.hash), Arg::Text(grant_id), Arg::Blob(parent), Arg::Blob(new.wrapped)];
    tx.execute(&INSERT, &args).await.map(drop)
}

/// The refresh token with this hash, whatever its state.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, hash: &[u8]) -> Result<Option<Refresh>, StoreError> {
    let row = store.fetch_optional(&GET, &[Arg::Blob(hash)]).await?;
    row.map(|row| {
        Ok(Refresh {
            grant_id: row.text(0, "oauth_refresh.grant_id")?,
            parent: row.blob(1, "oauth_refresh.parent")?,
            used_ms: row.opt_int(2, "oauth_refresh.used_ms")?,
            retired_ms: row.opt_int(3, "oauth_refresh.retired_ms")?,
            pair: row.opt_blob(4, "oauth_refresh.pair")?,
            pair_until_ms: row.opt_int(5, "oauth_refresh.pair_until_ms")?,
            exchanges: row.int(6, "oauth_refresh.exchanges")?,
            wrapped: row.opt_blob(7, "oauth_refresh.wrapped")?,
        })
    })
    .transpose()
}

/// A new pair for a refresh token.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// Hash of the token that is exchanged.
    pub hash: &'a [u8],
    /// Hash of the token that one was issued for.
    pub parent: &'a [u8],
    /// The grant.
    pub grant_id: &'a str,
    /// Its client.
    pub client_id: &'a str,
    /// The new pair, sealed for the holder of the token.
    pub pair: &'a [u8],
    /// Until when it is given again. Only the first exchange sets it.
    pub pair_until_ms: i64,
    /// The new access token.
    pub access: NewAccess<'a>,
    /// The new refresh token.
    pub refresh: NewRefresh<'a>,
}

/// What became of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchanged {
    /// Done.
    Done,
    /// Another request was faster, the token was retired, or exchanged [`MAX_EXCHANGES`]
    /// times: read it again.
    Overtaken,
    /// The grant ended.
    Ended,
}

/// Exchanges a token, all or nothing. Of several requests at once one wins.
///
/// # Errors
/// When the database does not answer.
pub async fn exchange(store: &Store, new: Exchange<'_>) -> Result<Exchanged, StoreError> {
    let now = Arg::Int(store.now_ms());
    let mut tx = store.begin().await?;
    if tx.execute(&oauth_grant::TOUCH, &[Arg::Text(new.grant_id), now]).await? == 0 {
        return Ok(Exchanged::Ended);
    }
    let args = [Arg::Blob(new.hash), now, Arg::Blob(new.pair), Arg::Int(new.pair_until_ms), Arg::Int(MAX_EXCHANGES)];
    if tx.execute(&EXCHANGE, &args).await? == 0 {
        return Ok(Exchanged::Overtaken);
    }
    if !new.parent.is_empty() {
        let args = [Arg::Text(new.grant_id), Arg::Blob(new.hash), Arg::Blob(new.parent), now];
        tx.execute(&RETIRE, &args).await?;
    }
    oauth_grant::insert_access_in(&mut tx, new.grant_id, new.access).await?;
    insert_in(&mut tx, new.grant_id, new.refresh, new.hash).await?;
    tx.execute(&oauth_client::USED, &[Arg::Text(new.client_id), now]).await?;
    tx.commit().await?;
    Ok(Exchanged::Done)
}

/// Forgets tokens whose grant is gone, and pairs that are not given any more.
///
/// # Errors
/// When the database does not answer.
pub async fn sweep(store: &Store) -> Result<u64, StoreError> {
    store.execute(&FORGET_PAIRS, &[Arg::Int(store.now_ms())]).await?;
    store.execute(&SWEEP, &[]).await
}
