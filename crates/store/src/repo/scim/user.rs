//! Provisioned users.

use super::{settle, text};
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement, Tx};

const INSERT: Statement = Statement::write(
    "scim_user.insert",
    "INSERT INTO scim_user (id, user_name, name_id, email_id, external_id, active, person, content, version, \
     created_ms, modified_ms) VALUES ($1, $2, $3, $4, $5, $6, NULL, $7, 1, $8, $8)",
);
const UPDATE: Statement = Statement::write(
    "scim_user.update",
    "UPDATE scim_user SET user_name = $3, name_id = $4, email_id = $5, external_id = $6, active = $7, \
     content = $8, modified_ms = $9, version = version + 1 WHERE id = $1 AND version = $2",
);
const GET: Statement = Statement::read(
    "scim_user.get",
    "SELECT id, user_name, name_id, email_id, external_id, active, person, content, version, created_ms, modified_ms \
     FROM scim_user WHERE id = $1",
);
const BY_NAME: Statement = Statement::read(
    "scim_user.by_name",
    "SELECT id, user_name, name_id, email_id, external_id, active, person, content, version, created_ms, modified_ms \
     FROM scim_user WHERE user_name = $1",
);
const BY_EXTERNAL: Statement = Statement::read(
    "scim_user.by_external",
    "SELECT id, user_name, name_id, email_id, external_id, active, person, content, version, created_ms, modified_ms \
     FROM scim_user WHERE external_id = $1 ORDER BY id LIMIT 200",
);
const AFTER: Statement = Statement::read(
    "scim_user.after",
    "SELECT id, user_name, name_id, email_id, external_id, active, person, content, version, created_ms, modified_ms \
     FROM scim_user WHERE id > $1 ORDER BY id LIMIT $2",
);
const PAGE: Statement = Statement::read(
    "scim_user.page",
    "SELECT id, user_name, name_id, email_id, external_id, active, person, content, version, created_ms, modified_ms \
     FROM scim_user ORDER BY id LIMIT $1 OFFSET $2",
);
const COUNT: Statement = Statement::read("scim_user.count", "SELECT COUNT(*) FROM scim_user");
const DELETE: Statement = Statement::write("scim_user.delete", "DELETE FROM scim_user WHERE id = $1 AND version = $2");
const LEAVE: Statement = Statement::write("scim_member.leave", "DELETE FROM scim_member WHERE user_id = $1");
const TOUCH_GROUPS: Statement = Statement::write(
    "scim_group.touch_of_user",
    "UPDATE scim_group SET version = version + 1, modified_ms = $2 \
     WHERE id IN (SELECT group_id FROM scim_member WHERE user_id = $1)",
);
const GROUPS: Statement = Statement::read(
    "scim_user.groups",
    "SELECT g.id, g.name FROM scim_member m JOIN scim_group g ON g.id = m.group_id WHERE m.user_id = $1 \
     ORDER BY g.name LIMIT 10000",
);

pub(crate) fn statements() -> Vec<Statement> {
    crate::repo::list![
        INSERT,
        UPDATE,
        GET,
        BY_NAME,
        BY_EXTERNAL,
        AFTER,
        PAGE,
        COUNT,
        DELETE,
        LEAVE,
        TOUCH_GROUPS,
        GROUPS
    ]
    .into()
}

/// One provisioned user. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Our id.
    pub id: String,
    /// `userName`, folded for comparison; unique.
    pub user_name: String,
    /// `userName` as the id of a principal, if it can be one.
    pub name_id: Option<String>,
    /// The primary address as the id of a principal, if it can be one.
    pub email_id: Option<String>,
    /// `externalId`.
    pub external_id: Option<String>,
    /// False: may not sign in.
    pub active: bool,
    /// Id of the person this is.
    pub person: Option<String>,
    /// The attributes, as JSON.
    pub content: String,
    /// Grows with every change.
    pub version: i64,
    /// When it was made.
    pub created_ms: i64,
    /// When it was changed.
    pub modified_ms: i64,
}

pub(super) fn user(row: &Row) -> Result<User, StoreError> {
    Ok(User {
        id: row.text(0, "scim_user.id")?,
        user_name: row.text(1, "scim_user.user_name")?,
        name_id: row.opt_text(2, "scim_user.name_id")?,
        email_id: row.opt_text(3, "scim_user.email_id")?,
        external_id: row.opt_text(4, "scim_user.external_id")?,
        active: row.int(5, "scim_user.active")? != 0,
        person: row.opt_text(6, "scim_user.person")?,
        content: row.text(7, "scim_user.content")?,
        version: row.int(8, "scim_user.version")?,
        created_ms: row.int(9, "scim_user.created_ms")?,
        modified_ms: row.int(10, "scim_user.modified_ms")?,
    })
}

pub(super) async fn get_in(tx: &mut Tx, id: &str) -> Result<Option<User>, StoreError> {
    tx.fetch_optional(&GET, &[Arg::Text(id)]).await?.as_ref().map(user).transpose()
}

/// Adds a user (version 1, times set here) and judges the person it is, if that one is known.
///
/// # Errors
/// [`StoreError::Conflict`] when the name is taken.
pub async fn create(store: &Store, new: &User) -> Result<(), StoreError> {
    let now = store.now_ms();
    let args = [
        Arg::Text(&new.id),
        Arg::Text(&new.user_name),
        text(&new.name_id),
        text(&new.email_id),
        text(&new.external_id),
        Arg::Int(new.active.into()),
        Arg::Text(&new.content),
        Arg::Int(now),
    ];
    let mut tx = store.begin().await?;
    tx.execute(&INSERT, &args).await?;
    settle::user_in(&mut tx, &new.id, now).await?;
    tx.commit().await
}

/// Replaces a user if it still has this version, and judges the person anew. False when it
/// has another one, or is gone.
///
/// # Errors
/// [`StoreError::Conflict`] when the name is taken, or belongs to a person who is somebody else.
pub async fn update(store: &Store, new: &User) -> Result<bool, StoreError> {
    let now = store.now_ms();
    let args = [
        Arg::Text(&new.id),
        Arg::Int(new.version),
        Arg::Text(&new.user_name),
        text(&new.name_id),
        text(&new.email_id),
        text(&new.external_id),
        Arg::Int(new.active.into()),
        Arg::Text(&new.content),
        Arg::Int(now),
    ];
    let mut tx = store.begin().await?;
    if tx.execute(&UPDATE, &args).await? == 0 {
        return Ok(false);
    }
    settle::user_in(&mut tx, &new.id, now).await?;
    tx.commit().await?;
    Ok(true)
}

/// Removes a user of this version; the person it is may not sign in any more and loses
/// everything. False when it has another version, or is gone.
///
/// # Errors
/// When the database does not answer; then nothing changed.
pub async fn delete(store: &Store, id: &str, version: i64) -> Result<bool, StoreError> {
    let now = store.now_ms();
    let mut tx = store.begin().await?;
    // Groups first, as everywhere: two who wait for each other would both fail.
    tx.execute(&TOUCH_GROUPS, &[Arg::Text(id), Arg::Int(now)]).await?;
    let before = get_in(&mut tx, id).await?;
    if tx.execute(&DELETE, &[Arg::Text(id), Arg::Int(version)]).await? == 0 {
        return Ok(false);
    }
    tx.execute(&LEAVE, &[Arg::Text(id)]).await?;
    if let Some(person) = before.and_then(|user| user.person) {
        settle::gone_in(&mut tx, &person, now).await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// The user with this id.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, id: &str) -> Result<Option<User>, StoreError> {
    store.fetch_optional(&GET, &[Arg::Text(id)]).await?.as_ref().map(user).transpose()
}

/// The user with this folded name.
///
/// # Errors
/// When the database does not answer.
pub async fn by_name(store: &Store, name: &str) -> Result<Option<User>, StoreError> {
    store.fetch_optional(&BY_NAME, &[Arg::Text(name)]).await?.as_ref().map(user).transpose()
}

/// Users with this external id, at most 200.
///
/// # Errors
/// When the database does not answer.
pub async fn by_external(store: &Store, external: &str) -> Result<Vec<User>, StoreError> {
    store.fetch_all(&BY_EXTERNAL, &[Arg::Text(external)]).await?.iter().map(user).collect()
}

/// Users with an id after this one, in order.
///
/// # Errors
/// When the database does not answer.
pub async fn after(store: &Store, id: &str, limit: u32) -> Result<Vec<User>, StoreError> {
    store.fetch_all(&AFTER, &[Arg::Text(id), Arg::Int(limit.into())]).await?.iter().map(user).collect()
}

/// Users in order of their ids, without the first `skip`.
///
/// # Errors
/// When the database does not answer.
pub async fn page(store: &Store, skip: u64, limit: u32) -> Result<Vec<User>, StoreError> {
    let skip = i64::try_from(skip).unwrap_or(i64::MAX);
    store.fetch_all(&PAGE, &[Arg::Int(limit.into()), Arg::Int(skip)]).await?.iter().map(user).collect()
}

/// How many there are.
///
/// # Errors
/// When the database does not answer.
pub async fn count(store: &Store) -> Result<u64, StoreError> {
    let row = store.fetch_optional(&COUNT, &[]).await?.ok_or(StoreError::Data("scim_user"))?;
    Ok(u64::try_from(row.int(0, "count")?).unwrap_or(0))
}

/// Ids and names of the groups of a user, by name.
///
/// # Errors
/// When the database does not answer.
pub async fn groups(store: &Store, id: &str) -> Result<Vec<(String, String)>, StoreError> {
    let rows = store.fetch_all(&GROUPS, &[Arg::Text(id)]).await?;
    rows.iter().map(|row| Ok((row.text(0, "scim_group.id")?, row.text(1, "scim_group.name")?))).collect()
}

pub(super) async fn group_names_in(tx: &mut Tx, id: &str) -> Result<Vec<String>, StoreError> {
    let rows = tx.fetch_all(&GROUPS, &[Arg::Text(id)]).await?;
    rows.iter().map(|row| row.text(1, "scim_group.name")).collect()
}
