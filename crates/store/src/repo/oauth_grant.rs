//! Grants: what a person lets a client do at one resource, and the access tokens of each.

use super::person::{self, Person};
use super::{browser_session, change, oauth_code};
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement, Tx};

/// Topic of revocations in the change feed; new grants and tokens are no change that
/// anybody's memory could contradict.
pub const TOPIC: &str = "oauth_grant";

const INSERT: Statement = Statement::write(
    "oauth_grant.insert",
    "INSERT INTO oauth_grant (id, person, client_id, content, created_ms, expires_ms, used_ms) \
     VALUES ($1, $2, $3, $4, $5, $6, $5)",
);
const BY_ID: Statement = Statement::read(
    "oauth_grant.by_id",
    "SELECT id, person, client_id, content, created_ms, expires_ms, used_ms, revoked_ms FROM oauth_grant WHERE id = $1",
);
const OF_PERSON: Statement = Statement::read(
    "oauth_grant.of_person",
    "SELECT id, person, client_id, content, created_ms, expires_ms, used_ms, revoked_ms FROM oauth_grant \
     WHERE person = $1 AND revoked_ms IS NULL AND expires_ms > $2 ORDER BY used_ms DESC LIMIT 1000",
);
/// Also the lock that makes refreshes of one grant wait for each other.
pub(super) const TOUCH: Statement = Statement::write(
    "oauth_grant.touch",
    "UPDATE oauth_grant SET used_ms = $2 WHERE id = $1 AND revoked_ms IS NULL AND expires_ms > $2",
);
const SET_CONTENT: Statement = Statement::write(
    "oauth_grant.set_content",
    "UPDATE oauth_grant SET content = $3 WHERE id = $1 AND content = $2 AND revoked_ms IS NULL AND expires_ms > $4",
);
const REVOKE: Statement = Statement::write(
    "oauth_grant.revoke",
    "UPDATE oauth_grant SET revoked_ms = $2, revoked_why = $3 WHERE id = $1 AND revoked_ms IS NULL",
);
pub(super) const REVOKE_OF_CLIENT: Statement = Statement::write(
    "oauth_grant.revoke_of_client",
    "UPDATE oauth_grant SET revoked_ms = $3, revoked_why = $4 \
     WHERE person = $1 AND client_id = $2 AND revoked_ms IS NULL",
);
const REVOKE_OF_PERSON: Statement = Statement::write(
    "oauth_grant.revoke_of_person",
    "UPDATE oauth_grant SET revoked_ms = $2, revoked_why = $3 WHERE person = $1 AND revoked_ms IS NULL",
);
const SWEEP: Statement =
    Statement::write("oauth_grant.sweep", "DELETE FROM oauth_grant WHERE expires_ms < $1 OR revoked_ms < $1");
const INSERT_ACCESS: Statement = Statement::write(
    "oauth_access.insert",
    "INSERT INTO oauth_access (hash, grant_id, wrapped, scopes, expires_ms) VALUES ($1, $2, $3, $4, $5)",
);
const ACCESS: Statement = Statement::read(
    "oauth_access.get",
    "SELECT g.id, g.person, g.client_id, g.content, g.created_ms, g.expires_ms, g.used_ms, g.revoked_ms, \
            a.wrapped, a.scopes, a.expires_ms, \
            p.id, p.issuer, p.subject, p.provider, p.email, p.name, p.groups_json, p.created_ms, p.signed_in_ms, \
            p.deactivated_ms \
     FROM oauth_access a JOIN oauth_grant g ON g.id = a.grant_id JOIN person p ON p.id = g.person WHERE a.hash = $1",
);
const DELETE_ACCESS: Statement = Statement::write("oauth_access.delete", "DELETE FROM oauth_access WHERE hash = $1");
const SWEEP_ACCESS: Statement =
    Statement::write("oauth_access.sweep", "DELETE FROM oauth_access WHERE expires_ms < $1");

pub(crate) fn statements() -> Vec<Statement> {
    super::list![
        INSERT,
        BY_ID,
        OF_PERSON,
        TOUCH,
        SET_CONTENT,
        REVOKE,
        REVOKE_OF_CLIENT,
        REVOKE_OF_PERSON,
        SWEEP,
        INSERT_ACCESS,
        ACCESS,
        DELETE_ACCESS,
        SWEEP_ACCESS,
    ]
    .into()
}

/// One grant. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its id.
    pub id: String,
    /// Person's id.
    pub person: String,
    /// The client.
    pub client_id: String,
    /// What for, as JSON; who signed in how is sealed in it.
    pub content: String,
    /// When it was given.
    pub created_ms: i64,
    /// When the person has to sign in again.
    pub expires_ms: i64,
    /// When tokens were last issued for it.
    pub used_ms: i64,
    /// Since when it is revoked.
    pub revoked_ms: Option<i64>,
}

fn grant(row: &Row) -> Result<Grant, StoreError> {
    Ok(Grant {
        id: row.text(0, "oauth_grant.id")?,
        person: row.text(1, "oauth_grant.person")?,
        client_id: row.text(2, "oauth_grant.client_id")?,
        content: row.text(3, "oauth_grant.content")?,
        created_ms: row.int(4, "oauth_grant.created_ms")?,
        expires_ms: row.int(5, "oauth_grant.expires_ms")?,
        used_ms: row.int(6, "oauth_grant.used_ms")?,
        revoked_ms: row.opt_int(7, "oauth_grant.revoked_ms")?,
    })
}

/// An access token and its grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The grant.
    pub grant: Grant,
    /// The grant's key, for whoever has the token.
    pub wrapped: Vec<u8>,
    /// Scopes of this token, separated by spaces.
    pub scopes: String,
    /// End of this token.
    pub expires_ms: i64,
    /// Who gave the grant, as known now.
    pub person: Person,
}

/// An access token to store.
#[derive(Clone, Copy, Debug)]
pub struct NewAccess<'a> {
    /// Its hash.
    pub hash: &'a [u8],
    /// The grant's key, for whoever has the token.
    pub wrapped: &'a [u8],
    /// Its scopes, separated by spaces.
    pub scopes: &'a str,
    /// Its end, milliseconds since the epoch.
    pub expires_ms: i64,
}

pub(super) async fn insert_in(tx: &mut Tx, new: &Grant) -> Result<(), StoreError> {
    let args = [
        Arg::Text(&new.id),
        Arg::Text(&new.person),
        Arg::Text(&new.client_id),
        Arg::Text(&new.content),
        Arg::Int(new.created_ms),
        Arg::Int(new.expires_ms),
    ];
    tx.execute(&INSERT, &args).await.map(drop)
}

pub(super) async fn insert_access_in(tx: &mut Tx, grant_id: &str, new: NewAccess<'_>) -> Result<(), StoreError> {
    let NewAccess { hash, wrapped, scopes, expires_ms } = new;
    let args = [Arg::Blob(hash), Arg::Text(grant_id), Arg::Blob(wrapped), Arg::Text(scopes), Arg::Int(expires_ms)];
    tx.execute(&INSERT_ACCESS, &args).await.map(drop)
}

/// The grant with this id.
///
/// # Errors
/// When the database does not answer.
pub async fn by_id(store: &Store, id: &str) -> Result<Option<Grant>, StoreError> {
    store.fetch_optional(&BY_ID, &[Arg::Text(id)]).await?.as_ref().map(grant).transpose()
}

/// The running grants of a person, the last used first, at most 1,000.
///
/// # Errors
/// When the database does not answer.
pub async fn of_person(store: &Store, person: &str) -> Result<Vec<Grant>, StoreError> {
    let args = [Arg::Text(person), Arg::Int(store.now_ms())];
    store.fetch_all(&OF_PERSON, &args).await?.iter().map(grant).collect()
}

/// The access token with this hash, expired or not, with its grant, revoked or not.
/// `None` too when the person is gone.
///
/// # Errors
/// When the database does not answer.
pub async fn access(store: &Store, hash: &[u8]) -> Result<Option<Access>, StoreError> {
    let row = store.fetch_optional(&ACCESS, &[Arg::Blob(hash)]).await?;
    row.map(|row| {
        Ok(Access {
            grant: grant(&row)?,
            wrapped: row.blob(8, "oauth_access.wrapped")?,
            scopes: row.text(9, "oauth_access.scopes")?,
            expires_ms: row.int(10, "oauth_access.expires_ms")?,
            person: person::person(&row, 11)?,
        })
    })
    .transpose()
}

/// Replaces what is kept of a running grant, if it is what the caller saw, and tells the
/// change feed. False when it changed meanwhile or ended.
///
/// # Errors
/// When the database does not answer.
pub async fn set_content(store: &Store, id: &str, old: &str, new: &str) -> Result<bool, StoreError> {
    let now = store.now_ms();
    let mut tx = store.begin().await?;
    let args = [Arg::Text(id), Arg::Text(old), Arg::Text(new), Arg::Int(now)];
    if tx.execute(&SET_CONTENT, &args).await? == 0 {
        return Ok(false);
    }
    change::append_in(&mut tx, TOPIC, id, now).await?;
    tx.commit().await?;
    Ok(true)
}

/// Ends a grant and with it all its tokens. False when there is none or it had ended.
///
/// # Errors
/// When the database does not answer.
pub async fn revoke(store: &Store, id: &str, why: &str) -> Result<bool, StoreError> {
    let now = store.now_ms();
    let mut tx = store.begin().await?;
    if tx.execute(&REVOKE, &[Arg::Text(id), Arg::Int(now), Arg::Text(why)]).await? == 0 {
        return Ok(false);
    }
    change::append_in(&mut tx, TOPIC, id, now).await?;
    tx.commit().await?;
    Ok(true)
}

/// Ends all browser sessions and grants of a person, and the codes on their way. Returns how
/// many grants ended.
///
/// # Errors
/// When the database does not answer.
pub async fn revoke_of_person(store: &Store, person: &str, why: &str) -> Result<u64, StoreError> {
    let now = store.now_ms();
    let mut tx = store.begin().await?;
    let ended = end_all_in(&mut tx, person, why, now).await?;
    tx.commit().await?;
    Ok(ended)
}

/// Each step waits for what is under way and makes the next: sessions issue codes, codes
/// become grants. Whatever was first is then seen by the next step.
pub(super) async fn end_all_in(tx: &mut Tx, person: &str, why: &str, now: i64) -> Result<u64, StoreError> {
    tx.execute(&browser_session::END_ALL, &[Arg::Text(person)]).await?;
    tx.execute(&oauth_code::DELETE_OF_PERSON, &[Arg::Text(person)]).await?;
    let ended = tx.execute(&REVOKE_OF_PERSON, &[Arg::Text(person), Arg::Int(now), Arg::Text(why)]).await?;
    change::append_in(tx, TOPIC, person, now).await?;
    Ok(ended)
}

/// A new grant with its only access token. False when its person may not do anything now.
///
/// # Errors
/// When the database does not answer.
pub async fn issue(store: &Store, grant: &Grant, access: NewAccess<'_>) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    if tx.execute(&person::ACTIVE, &[Arg::Text(&grant.person)]).await? == 0 {
        return Ok(false);
    }
    insert_in(&mut tx, grant).await?;
    insert_access_in(&mut tx, &grant.id, access).await?;
    tx.commit().await?;
    Ok(true)
}

/// One more access token for a grant. False when the grant ended.
///
/// # Errors
/// When the database does not answer.
pub async fn add_access(store: &Store, grant_id: &str, access: NewAccess<'_>) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    if tx.execute(&TOUCH, &[Arg::Text(grant_id), Arg::Int(store.now_ms())]).await? == 0 {
        return Ok(false);
    }
    insert_access_in(&mut tx, grant_id, access).await?;
    tx.commit().await?;
    Ok(true)
}

/// Ends one access token. False when there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn delete_access(store: &Store, hash: &[u8], grant_id: &str) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    if tx.execute(&DELETE_ACCESS, &[Arg::Blob(hash)]).await? == 0 {
        return Ok(false);
    }
    change::append_in(&mut tx, TOPIC, grant_id, store.now_ms()).await?;
    tx.commit().await?;
    Ok(true)
}

/// Forgets access tokens that ended before a time, and grants that ended or were revoked
/// before another.
///
/// # Errors
/// When the database does not answer.
pub async fn sweep(store: &Store, access_before_ms: i64, grant_before_ms: i64) -> Result<u64, StoreError> {
    let tokens = store.execute(&SWEEP_ACCESS, &[Arg::Int(access_before_ms)]).await?;
    Ok(tokens + store.execute(&SWEEP, &[Arg::Int(grant_before_ms)]).await?)
}
