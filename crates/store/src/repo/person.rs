//! People who signed in (feature row A2).

use super::scim::settle::{self, Verdict};
use super::{change, oauth_grant, upstream_account};
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement, Tx};

/// Issuer of the break-glass account (A31), which is the installation's own.
pub const LOCAL_ISSUER: &str = "break-glass";
/// The group of that account, of nobody else.
pub const LOCAL_GROUP: &str = "break-glass";
/// Topic of these rows in the change feed; the name is the person's id.
pub const TOPIC: &str = "person";

const UPSERT: Statement = Statement::write(
    "person.upsert",
    "INSERT INTO person (id, issuer, subject, provider, email, name, groups_json, created_ms, signed_in_ms) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) \
     ON CONFLICT (issuer, subject) DO UPDATE SET provider = excluded.provider, email = excluded.email, \
     name = excluded.name, groups_json = excluded.groups_json, signed_in_ms = excluded.signed_in_ms \
     WHERE person.deactivated_ms IS NULL \
     RETURNING id, issuer, subject, provider, email, name, groups_json, created_ms, signed_in_ms, deactivated_ms",
);
const BY_SUBJECT: Statement = Statement::read(
    "person.by_subject",
    "SELECT id, issuer, subject, provider, email, name, groups_json, created_ms, signed_in_ms, deactivated_ms \
     FROM person WHERE issuer = $1 AND subject = $2",
);
const BY_ID: Statement = Statement::read(
    "person.by_id",
    "SELECT id, issuer, subject, provider, email, name, groups_json, created_ms, signed_in_ms, deactivated_ms \
     FROM person WHERE id = $1",
);
const BY_EMAIL: Statement = Statement::read(
    "person.by_email",
    "SELECT id, issuer, subject, provider, email, name, groups_json, created_ms, signed_in_ms, deactivated_ms \
     FROM person WHERE email = $1",
);
const DEACTIVATE: Statement = Statement::write(
    "person.deactivate",
    // Of somebody whom the directory deactivated, an administrator's word is the stronger one.
    "UPDATE person SET deactivated_ms = COALESCE(deactivated_ms, $2), deactivated_by = NULL \
     WHERE id = $1 AND (deactivated_ms IS NULL OR deactivated_by IS NOT NULL)",
);
const REACTIVATE: Statement = Statement::write(
    "person.reactivate",
    "UPDATE person SET deactivated_ms = NULL, deactivated_by = NULL WHERE id = $1 AND deactivated_ms IS NOT NULL",
);
const LIST: Statement = Statement::read(
    "person.list",
    "SELECT id, issuer, subject, provider, email, name, groups_json, created_ms, signed_in_ms, deactivated_ms \
     FROM person WHERE email > $1 ORDER BY email LIMIT $2",
);
/// A write that changes nothing: the lock that makes a new grant and a deactivation wait for
/// each other, so that the later one sees the earlier.
pub(super) const ACTIVE: Statement = Statement::write(
    "person.active",
    "UPDATE person SET deactivated_ms = deactivated_ms WHERE id = $1 AND deactivated_ms IS NULL",
);
const DELETE: Statement = Statement::write("person.delete", "DELETE FROM person WHERE id = $1");

pub(crate) fn statements() -> Vec<Statement> {
    super::list![UPSERT, BY_SUBJECT, BY_ID, BY_EMAIL, DEACTIVATE, REACTIVATE, ACTIVE, LIST, DELETE].into()
}

/// One person. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Our id.
    pub id: String,
    /// Issuer of the provider that speaks for the person.
    pub issuer: String,
    /// The person's name at that issuer; never changes.
    pub subject: String,
    /// Provider of the last sign-in.
    pub provider: String,
    /// Address, lower case; unique.
    pub email: String,
    /// Name for people.
    pub name: String,
    /// Group names as a JSON list of texts.
    pub groups_json: String,
    /// First sign-in.
    pub created_ms: i64,
    /// Last sign-in.
    pub signed_in_ms: i64,
    /// Since when the person may not sign in.
    pub deactivated_ms: Option<i64>,
}

pub(crate) fn person(row: &Row, first: usize) -> Result<Person, StoreError> {
    Ok(Person {
        id: row.text(first, "person.id")?,
        issuer: row.text(first + 1, "person.issuer")?,
        subject: row.text(first + 2, "person.subject")?,
        provider: row.text(first + 3, "person.provider")?,
        email: row.text(first + 4, "person.email")?,
        name: row.text(first + 5, "person.name")?,
        groups_json: row.text(first + 6, "person.groups_json")?,
        created_ms: row.int(first + 7, "person.created_ms")?,
        signed_in_ms: row.int(first + 8, "person.signed_in_ms")?,
        deactivated_ms: row.opt_int(first + 9, "person.deactivated_ms")?,
    })
}

/// What the provider says about a person who signs in.
#[derive(Clone, Debug)]
pub struct SignIn<'a> {
    /// Id to be used if the person is new.
    pub new_id: &'a str,
    /// Issuer.
    pub issuer: &'a str,
    /// Subject.
    pub subject: &'a str,
    /// Provider.
    pub provider: &'a str,
    /// Address, lower case.
    pub email: &'a str,
    /// Name for people.
    pub name: &'a str,
    /// Group names as a JSON list of texts.
    pub groups_json: &'a str,
}

/// The key of the principal with this address, to whom accounts belong.
pub(super) fn owner(email: &str) -> String {
    format!("user:{email}")
}

/// Notes a sign-in: makes the person, or takes over what the provider says now. `None` when
/// the person is deactivated, or not provisioned where that is needed (A14). The change feed hears of it when something changed. With the
/// address go the upstream accounts: another person may have it next.
///
/// # Errors
/// [`StoreError::Conflict`] when somebody else has the address.
pub async fn sign_in(store: &Store, new: &SignIn<'_>) -> Result<Option<Person>, StoreError> {
    let now = store.now_ms();
    let mut tx = store.begin().await?;
    let before = tx.fetch_optional(&BY_SUBJECT, &[Arg::Text(new.issuer), Arg::Text(new.subject)]).await?;
    let before = before.as_ref().map(|row| person(row, 0)).transpose()?;
    let known = before.as_ref().map(|before| before.id.as_str());
    let verdict = match new.issuer {
        // No directory knows the account for the day on which nothing else answers.
        LOCAL_ISSUER => Verdict::Free,
        _ => settle::sign_in_in(&mut tx, known, new.email, new.subject, new.groups_json).await?,
    };
    let (groups_json, user) = match &verdict {
        Verdict::Free => (new.groups_json, None),
        Verdict::Known { groups_json, user } => (groups_json.as_str(), user.as_deref()),
        Verdict::Refused => return Ok(None),
    };
    let args = [
        Arg::Text(new.new_id),
        Arg::Text(new.issuer),
        Arg::Text(new.subject),
        Arg::Text(new.provider),
        Arg::Text(new.email),
        Arg::Text(new.name),
        Arg::Text(groups_json),
        Arg::Int(now),
    ];
    let Some(row) = tx.fetch_optional(&UPSERT, &args).await? else { return Ok(None) };
    let after = person(&row, 0)?;
    settle::signed_in_in(&mut tx, &after.id, new.groups_json, user).await?;
    if let Some(old) = before.as_ref().map(|before| &before.email).filter(|old| **old != after.email) {
        upstream_account::remove_all_in(&mut tx, &owner(old), now).await?;
    }
    let same = before.is_some_and(|before| Person { signed_in_ms: after.signed_in_ms, ..before } == after);
    if !same {
        change::append_in(&mut tx, TOPIC, &after.id, now).await?;
    }
    tx.commit().await?;
    Ok(Some(after))
}

/// The person of this name at an issuer.
///
/// # Errors
/// When the database does not answer.
pub async fn by_subject(store: &Store, issuer: &str, subject: &str) -> Result<Option<Person>, StoreError> {
    let row = store.fetch_optional(&BY_SUBJECT, &[Arg::Text(issuer), Arg::Text(subject)]).await?;
    row.as_ref().map(|row| person(row, 0)).transpose()
}

/// The person with this id.
///
/// # Errors
/// When the database does not answer.
pub async fn by_id(store: &Store, id: &str) -> Result<Option<Person>, StoreError> {
    store.fetch_optional(&BY_ID, &[Arg::Text(id)]).await?.as_ref().map(|row| person(row, 0)).transpose()
}

/// The person with this address, in lower case.
///
/// # Errors
/// When the database does not answer.
pub async fn by_email(store: &Store, email: &str) -> Result<Option<Person>, StoreError> {
    store.fetch_optional(&BY_EMAIL, &[Arg::Text(email)]).await?.as_ref().map(|row| person(row, 0)).transpose()
}

/// People by address, those after this one.
///
/// # Errors
/// When the database does not answer.
pub async fn after(store: &Store, email: &str, limit: u32) -> Result<Vec<Person>, StoreError> {
    let rows = store.fetch_all(&LIST, &[Arg::Text(email), Arg::Int(limit.into())]).await?;
    rows.iter().map(|row| person(row, 0)).collect()
}

/// Deactivates a person and ends all browser sessions, codes, grants and upstream accounts of
/// theirs. Returns false when there is no such person or they are deactivated already.
///
/// # Errors
/// When the database does not answer; then nothing changed.
pub async fn deactivate(store: &Store, id: &str) -> Result<bool, StoreError> {
    without_accounts(store, &DEACTIVATE, id, &[Arg::Text(id), Arg::Int(store.now_ms())]).await
}

/// Forgets the upstream accounts of a person with their tokens, and connections under way.
/// Returns how many accounts there were.
///
/// # Errors
/// When the database does not answer; then nothing changed.
pub async fn forget_accounts(store: &Store, id: &str) -> Result<u64, StoreError> {
    let mut tx = store.begin().await?;
    let Some(row) = tx.fetch_optional(&BY_ID, &[Arg::Text(id)]).await? else { return Ok(0) };
    let email = person(&row, 0)?.email;
    let gone = upstream_account::remove_all_in(&mut tx, &owner(&email), store.now_ms()).await?;
    tx.commit().await?;
    Ok(gone)
}

/// Lets a deactivated person sign in again. Returns false when there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn reactivate(store: &Store, id: &str) -> Result<bool, StoreError> {
    changing(store, &REACTIVATE, id, &[Arg::Text(id)]).await
}

/// Removes a person with all sessions, codes, grants and upstream accounts, so that the address is free again. Returns false when there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn delete(store: &Store, id: &str) -> Result<bool, StoreError> {
    without_accounts(store, &DELETE, id, &[Arg::Text(id)]).await
}

async fn without_accounts(
    store: &Store,
    statement: &Statement,
    id: &str,
    args: &[Arg<'_>],
) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let Some(row) = tx.fetch_optional(&BY_ID, &[Arg::Text(id)]).await? else { return Ok(false) };
    let email = person(&row, 0)?.email;
    if statement.name == DELETE.name {
        // Who signs in with this address next may be the one the directory means.
        settle::unlink_in(&mut tx, id).await?;
    }
    upstream_account::remove_all_in(&mut tx, &owner(&email), store.now_ms()).await?;
    changing_in(tx, store, statement, id, args).await
}

/// Runs a statement on one person and, if it changed something, ends the person's browser
/// sessions, codes and grants, and tells the change feed.
async fn changing(store: &Store, statement: &Statement, id: &str, args: &[Arg<'_>]) -> Result<bool, StoreError> {
    changing_in(store.begin().await?, store, statement, id, args).await
}

async fn changing_in(
    mut tx: Tx,
    store: &Store,
    statement: &Statement,
    id: &str,
    args: &[Arg<'_>],
) -> Result<bool, StoreError> {
    if tx.execute(statement, args).await? == 0 {
        return Ok(false);
    }
    let now = store.now_ms();
    oauth_grant::end_all_in(&mut tx, id, "account changed", now).await?;
    change::append_in(&mut tx, TOPIC, id, now).await?;
    tx.commit().await?;
    Ok(true)
}
