//! The changing part of legacy sessions (feature row P34), and what is switched off for a
//! credential (P36): one row each. A session without a row has ended.

use super::{change, client_profile};
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement};

/// Topic of ended sessions and of what was switched in the change feed; named by row.
pub const TOPIC: &str = "portal_state";

const GET: Statement = Statement::read(
    "portal_state.get",
    "SELECT id, counted, profile, off, log_level, created_ms, seen_ms FROM portal_state WHERE id = $1",
);
const INSERT: Statement = Statement::write(
    "portal_state.insert",
    "INSERT INTO portal_state (id, counted, profile, off, log_level, created_ms, seen_ms) \
     VALUES ($1, $2, $3, $4, $5, $6, $7)",
);
/// The oldest of one owner beyond a number.
const SURPLUS: Statement = Statement::write(
    "portal_state.surplus",
    "DELETE FROM portal_state WHERE id IN (SELECT id FROM portal_state WHERE counted = $1 \
     ORDER BY seen_ms DESC, id LIMIT 100000 OFFSET $2) RETURNING id, profile",
);
const SWITCH: Statement = Statement::write(
    "portal_state.switch",
    "UPDATE portal_state SET off = $3, seen_ms = $4 WHERE id = $1 AND off = $2",
);
const SWITCH_NEW: Statement = Statement::write(
    "portal_state.switch_new",
    "INSERT INTO portal_state (id, counted, profile, off, created_ms, seen_ms) VALUES ($1, '', '', $3, $4, $4) \
     ON CONFLICT (id) DO UPDATE SET off = excluded.off, seen_ms = excluded.seen_ms WHERE portal_state.off = $2",
);
const LEVEL: Statement = Statement::write("portal_state.level", "UPDATE portal_state SET log_level = $2 WHERE id = $1");
const TOUCH: Statement =
    Statement::write("portal_state.touch", "UPDATE portal_state SET seen_ms = $2 WHERE id = $1 AND seen_ms < $2");
const END: Statement = Statement::write("portal_state.end", "DELETE FROM portal_state WHERE id = $1");
const PRUNE: Statement = Statement::write(
    "portal_state.prune",
    "DELETE FROM portal_state WHERE (counted <> '' AND seen_ms <= $1) OR (counted = '' AND seen_ms <= $2)",
);

pub(crate) fn statements() -> Vec<Statement> {
    super::list![GET, INSERT, SURPLUS, SWITCH, SWITCH_NEW, LEVEL, TOUCH, END, PRUNE].into()
}

/// One row. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalState {
    /// `s:` and the id of a session, or `c:` and a credential with its endpoint.
    pub id: String,
    /// Among whose sessions it counts; empty for credentials.
    pub counted: String,
    /// Digest of the client's profile; empty for credentials.
    pub profile: String,
    /// Ids of servers that are switched off, as a JSON list.
    pub off: String,
    /// Least severe log level the client wants.
    pub log_level: Option<String>,
    /// When it began.
    pub created_ms: i64,
    /// When it was used, at most five minutes too early.
    pub seen_ms: i64,
}

fn state(row: &Row) -> Result<PortalState, StoreError> {
    Ok(PortalState {
        id: row.text(0, "portal_state.id")?,
        counted: row.text(1, "portal_state.counted")?,
        profile: row.text(2, "portal_state.profile")?,
        off: row.text(3, "portal_state.off")?,
        log_level: row.opt_text(4, "portal_state.log_level")?,
        created_ms: row.int(5, "portal_state.created_ms")?,
        seen_ms: row.int(6, "portal_state.seen_ms")?,
    })
}

/// The row of this id.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, id: &str) -> Result<Option<PortalState>, StoreError> {
    store.fetch_optional(&GET, &[Arg::Text(id)]).await?.as_ref().map(state).transpose()
}

/// Begins a session and keeps its profile. Of the sessions that count together at most
/// `most` stay, this one among them; those that were used longest ago end, with the profiles
/// that nobody else has. Returns them.
///
/// # Errors
/// When the database does not answer; then nothing began.
pub async fn open(store: &Store, new: &PortalState, profile: &str, most: i64) -> Result<Vec<String>, StoreError> {
    let mut tx = store.begin().await?;
    client_profile::put_in(&mut tx, &new.profile, profile, new.created_ms).await?;
    let surplus = tx.fetch_all(&SURPLUS, &[Arg::Text(&new.counted), Arg::Int(most.saturating_sub(1).max(0))]).await?;
    let ended: Vec<String> = surplus.iter().map(|row| row.text(0, "portal_state.id")).collect::<Result<_, _>>()?;
    let profiles = surplus.iter().map(|row| row.text(1, "portal_state.profile"));
    let profiles: std::collections::BTreeSet<String> = profiles.collect::<Result<_, _>>()?;
    let args = [
        Arg::Text(&new.id),
        Arg::Text(&new.counted),
        Arg::Text(&new.profile),
        Arg::Text(&new.off),
        Arg::OptText(new.log_level.as_deref()),
        Arg::Int(new.created_ms),
        Arg::Int(new.seen_ms),
    ];
    tx.execute(&INSERT, &args).await?;
    for id in &ended {
        change::append_in(&mut tx, TOPIC, id, store.now_ms()).await?;
    }
    tx.commit().await?;
    // Not in the transaction: two that begin with each other's profiles must not wait for each other.
    for digest in &profiles {
        if let Err(error) = client_profile::drop_unused(store, digest).await {
            // The next look for unused profiles removes it.
            tracing::debug!(%error, "a profile that nobody has is still there");
        }
    }
    Ok(ended)
}

/// Replaces what is switched off, if it is still `old`. A credential (`new_row`) has no row
/// before its first switch. False when it changed meanwhile or the session has ended.
///
/// # Errors
/// When the database does not answer.
pub async fn switch(store: &Store, id: &str, old: &str, new: &str, new_row: bool) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let now = store.now_ms();
    let statement = if new_row { &SWITCH_NEW } else { &SWITCH };
    let args = [Arg::Text(id), Arg::Text(old), Arg::Text(new), Arg::Int(now)];
    let done = tx.execute(statement, &args).await? == 1;
    if done {
        change::append_in(&mut tx, TOPIC, id, now).await?;
        tx.commit().await?;
    }
    Ok(done)
}

/// `logging/setLevel` of a session.
///
/// # Errors
/// When the database does not answer.
pub async fn set_level(store: &Store, id: &str, level: &str) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    if tx.execute(&LEVEL, &[Arg::Text(id), Arg::Text(level)]).await? == 1 {
        change::append_in(&mut tx, TOPIC, id, store.now_ms()).await?;
    }
    tx.commit().await
}

/// Notes that it was used at a time.
///
/// # Errors
/// When the database does not answer.
pub async fn touch(store: &Store, id: &str, seen_ms: i64) -> Result<(), StoreError> {
    store.execute(&TOUCH, &[Arg::Text(id), Arg::Int(seen_ms)]).await.map(drop)
}

/// Ends a session. False when it had ended.
///
/// # Errors
/// When the database does not answer.
pub async fn end(store: &Store, id: &str) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let done = tx.execute(&END, &[Arg::Text(id)]).await? == 1;
    if done {
        change::append_in(&mut tx, TOPIC, id, store.now_ms()).await?;
        tx.commit().await?;
    }
    Ok(done)
}

/// Removes sessions and rows of credentials that were not used since these times. Returns
/// how many.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(store: &Store, sessions_ms: i64, credentials_ms: i64) -> Result<u64, StoreError> {
    store.execute(&PRUNE, &[Arg::Int(sessions_ms), Arg::Int(credentials_ms)]).await
}
