//! Provisioned groups.

use std::collections::BTreeSet;

use super::{settle, text};
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement, Tx};

const INSERT: Statement = Statement::write(
    "scim_group.insert",
    "INSERT INTO scim_group (id, name, external_id, content, version, created_ms, modified_ms) \
     VALUES ($1, $2, $3, $4, 1, $5, $5)",
);
const UPDATE: Statement = Statement::write(
    "scim_group.update",
    "UPDATE scim_group SET name = $3, external_id = $4, content = $5, modified_ms = $6, version = version + 1 \
     WHERE id = $1 AND version = $2",
);
const GET: Statement = Statement::read(
    "scim_group.get",
    "SELECT id, name, external_id, content, version, created_ms, modified_ms FROM scim_group WHERE id = $1",
);
const BY_NAME: Statement = Statement::read(
    "scim_group.by_name",
    "SELECT id, name, external_id, content, version, created_ms, modified_ms FROM scim_group WHERE name = $1",
);
const BY_EXTERNAL: Statement = Statement::read(
    "scim_group.by_external",
    "SELECT id, name, external_id, content, version, created_ms, modified_ms FROM scim_group \
     WHERE external_id = $1 ORDER BY id LIMIT 200",
);
const AFTER: Statement = Statement::read(
    "scim_group.after",
    "SELECT id, name, external_id, content, version, created_ms, modified_ms FROM scim_group \
     WHERE id > $1 ORDER BY id LIMIT $2",
);
const PAGE: Statement = Statement::read(
    "scim_group.page",
    "SELECT id, name, external_id, content, version, created_ms, modified_ms FROM scim_group \
     ORDER BY id LIMIT $1 OFFSET $2",
);
const COUNT: Statement = Statement::read("scim_group.count", "SELECT COUNT(*) FROM scim_group");
const DELETE: Statement =
    Statement::write("scim_group.delete", "DELETE FROM scim_group WHERE id = $1 AND version = $2");
const MEMBERS: Statement =
    Statement::read("scim_member.of_group", "SELECT user_id FROM scim_member WHERE group_id = $1 ORDER BY user_id");
const JOIN: Statement = Statement::write(
    "scim_member.join",
    "INSERT INTO scim_member (group_id, user_id) SELECT $1, id FROM scim_user WHERE id = $2",
);
const QUIT: Statement =
    Statement::write("scim_member.quit", "DELETE FROM scim_member WHERE group_id = $1 AND user_id = $2");
/// Also the lock that makes a sign-in of this user wait, or be waited for.
const TOUCH_USER: Statement =
    Statement::write("scim_user.touch", "UPDATE scim_user SET version = version + 1, modified_ms = $2 WHERE id = $1");

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
        MEMBERS,
        JOIN,
        QUIT,
        TOUCH_USER
    ]
    .into()
}

/// One provisioned group. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Our id.
    pub id: String,
    /// `displayName`, as policies call it; unique.
    pub name: String,
    /// `externalId`.
    pub external_id: Option<String>,
    /// The attributes without the members, as JSON.
    pub content: String,
    /// Grows with every change.
    pub version: i64,
    /// When it was made.
    pub created_ms: i64,
    /// When it was changed.
    pub modified_ms: i64,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is done.
    Done,
    /// It has another version, or is gone.
    Stale,
    /// There is no user with this id; nothing changed.
    NoUser(String),
}

fn group(row: &Row) -> Result<Group, StoreError> {
    Ok(Group {
        id: row.text(0, "scim_group.id")?,
        name: row.text(1, "scim_group.name")?,
        external_id: row.opt_text(2, "scim_group.external_id")?,
        content: row.text(3, "scim_group.content")?,
        version: row.int(4, "scim_group.version")?,
        created_ms: row.int(5, "scim_group.created_ms")?,
        modified_ms: row.int(6, "scim_group.modified_ms")?,
    })
}

/// Adds a group (version 1, times set here) with its members.
///
/// # Errors
/// [`StoreError::Conflict`] when the name is taken.
pub async fn create(store: &Store, new: &Group, members: &BTreeSet<String>) -> Result<Changed, StoreError> {
    let now = store.now_ms();
    let args =
        [Arg::Text(&new.id), Arg::Text(&new.name), text(&new.external_id), Arg::Text(&new.content), Arg::Int(now)];
    let mut tx = store.begin().await?;
    tx.execute(&INSERT, &args).await?;
    if let Some(stranger) = members_in(&mut tx, &new.id, members, false, now).await? {
        return Ok(Changed::NoUser(stranger));
    }
    tx.commit().await?;
    Ok(Changed::Done)
}

/// Replaces a group of this version and its members (`None`: they stay).
///
/// # Errors
/// [`StoreError::Conflict`] when the name is taken.
pub async fn update(store: &Store, new: &Group, members: Option<&BTreeSet<String>>) -> Result<Changed, StoreError> {
    let now = store.now_ms();
    let args = [
        Arg::Text(&new.id),
        Arg::Int(new.version),
        Arg::Text(&new.name),
        text(&new.external_id),
        Arg::Text(&new.content),
        Arg::Int(now),
    ];
    let mut tx = store.begin().await?;
    let before = tx.fetch_optional(&GET, &[Arg::Text(&new.id)]).await?.as_ref().map(group).transpose()?;
    if tx.execute(&UPDATE, &args).await? == 0 {
        return Ok(Changed::Stale);
    }
    let renamed = before.is_none_or(|before| before.name != new.name);
    let own;
    let members = match members {
        Some(members) => members,
        None if !renamed => {
            tx.commit().await?;
            return Ok(Changed::Done);
        }
        None => {
            own = member_ids_in(&mut tx, &new.id).await?;
            &own
        }
    };
    if let Some(stranger) = members_in(&mut tx, &new.id, members, renamed, now).await? {
        return Ok(Changed::NoUser(stranger));
    }
    tx.commit().await?;
    Ok(Changed::Done)
}

/// Removes a group of this version; its members lose it. False when it has another version,
/// or is gone.
///
/// # Errors
/// When the database does not answer; then nothing changed.
pub async fn delete(store: &Store, id: &str, version: i64) -> Result<bool, StoreError> {
    let now = store.now_ms();
    let mut tx = store.begin().await?;
    if tx.execute(&DELETE, &[Arg::Text(id), Arg::Int(version)]).await? == 0 {
        return Ok(false);
    }
    members_in(&mut tx, id, &BTreeSet::new(), false, now).await?;
    tx.commit().await?;
    Ok(true)
}

/// Makes these the members and judges everybody it changes; all of them when the group has
/// another name. In order of the ids, as everywhere: two who wait for each other would both
/// fail. Returns the id of a user that does not exist.
async fn members_in(
    tx: &mut Tx,
    id: &str,
    wanted: &BTreeSet<String>,
    renamed: bool,
    now: i64,
) -> Result<Option<String>, StoreError> {
    let present = member_ids_in(tx, id).await?;
    for user in wanted.union(&present) {
        let (is, shall) = (present.contains(user), wanted.contains(user));
        if is == shall && !renamed {
            continue;
        }
        if tx.execute(&TOUCH_USER, &[Arg::Text(user), Arg::Int(now)]).await? == 0 && shall {
            return Ok(Some(user.clone()));
        }
        match (is, shall) {
            (false, true) => drop(tx.execute(&JOIN, &[Arg::Text(id), Arg::Text(user)]).await?),
            (true, false) => drop(tx.execute(&QUIT, &[Arg::Text(id), Arg::Text(user)]).await?),
            _ => {}
        }
        settle::user_in(tx, user, now).await?;
    }
    Ok(None)
}

async fn member_ids_in(tx: &mut Tx, id: &str) -> Result<BTreeSet<String>, StoreError> {
    let rows = tx.fetch_all(&MEMBERS, &[Arg::Text(id)]).await?;
    rows.iter().map(|row| row.text(0, "scim_member.user_id")).collect()
}

/// Ids of the members, in order.
///
/// # Errors
/// When the database does not answer.
pub async fn members(store: &Store, id: &str) -> Result<BTreeSet<String>, StoreError> {
    let rows = store.fetch_all(&MEMBERS, &[Arg::Text(id)]).await?;
    rows.iter().map(|row| row.text(0, "scim_member.user_id")).collect()
}

/// The group with this id.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, id: &str) -> Result<Option<Group>, StoreError> {
    store.fetch_optional(&GET, &[Arg::Text(id)]).await?.as_ref().map(group).transpose()
}

/// The group with this name.
///
/// # Errors
/// When the database does not answer.
pub async fn by_name(store: &Store, name: &str) -> Result<Option<Group>, StoreError> {
    store.fetch_optional(&BY_NAME, &[Arg::Text(name)]).await?.as_ref().map(group).transpose()
}

/// Groups with this external id, at most 200.
///
/// # Errors
/// When the database does not answer.
pub async fn by_external(store: &Store, external: &str) -> Result<Vec<Group>, StoreError> {
    store.fetch_all(&BY_EXTERNAL, &[Arg::Text(external)]).await?.iter().map(group).collect()
}

/// Groups with an id after this one, in order.
///
/// # Errors
/// When the database does not answer.
pub async fn after(store: &Store, id: &str, limit: u32) -> Result<Vec<Group>, StoreError> {
    store.fetch_all(&AFTER, &[Arg::Text(id), Arg::Int(limit.into())]).await?.iter().map(group).collect()
}

/// Groups in order of their ids, without the first `skip`.
///
/// # Errors
/// When the database does not answer.
pub async fn page(store: &Store, skip: u64, limit: u32) -> Result<Vec<Group>, StoreError> {
    let skip = i64::try_from(skip).unwrap_or(i64::MAX);
    store.fetch_all(&PAGE, &[Arg::Int(limit.into()), Arg::Int(skip)]).await?.iter().map(group).collect()
}

/// How many there are.
///
/// # Errors
/// When the database does not answer.
pub async fn count(store: &Store) -> Result<u64, StoreError> {
    let row = store.fetch_optional(&COUNT, &[]).await?.ok_or(StoreError::Data("scim_group"))?;
    Ok(u64::try_from(row.int(0, "count")?).unwrap_or(0))
}
