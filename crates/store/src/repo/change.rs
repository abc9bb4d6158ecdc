//! What changed, in commit order: the truth that other replicas and caches poll.

mod notify;

pub(crate) use notify::CHANNEL;

use crate::engine::{Engine, Store};
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement, Tx};

const HEAD: Statement = Statement::read("change.head", "SELECT seq FROM change_head WHERE id = 1");
const NEXT: Statement =
    Statement::write("change.next", "UPDATE change_head SET seq = seq + 1 WHERE id = 1 RETURNING seq");
const INSERT: Statement =
    Statement::write("change.insert", "INSERT INTO change_log (seq, topic, name, at_ms) VALUES ($1, $2, $3, $4)");
const SINCE: Statement = Statement::read(
    "change.since",
    "SELECT seq, topic, name, at_ms FROM change_log WHERE seq > $1 ORDER BY seq LIMIT $2",
);
const OLDEST: Statement = Statement::read("change.oldest", "SELECT seq FROM change_log ORDER BY seq LIMIT 1");
const PRUNE: Statement = Statement::write("change.prune", "DELETE FROM change_log WHERE at_ms < $1");

pub(crate) fn statements(engine: Engine) -> Vec<Statement> {
    let mut all: Vec<Statement> = super::list![HEAD, NEXT, INSERT, SINCE, OLDEST, PRUNE].into();
    all.extend(notify::statements(engine));
    all
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Position in the feed; grows in commit order.
    pub seq: i64,
    /// Noun: `service_token`, `resource`, …
    pub topic: String,
    /// Which one.
    pub name: String,
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
}

fn change(row: &Row) -> Result<Change, StoreError> {
    Ok(Change {
        seq: row.int(0, "change_log.seq")?,
        topic: row.text(1, "change_log.topic")?,
        name: row.text(2, "change_log.name")?,
        at_ms: row.int(3, "change_log.at_ms")?,
    })
}

/// Appends within the transaction that makes the change, so that both or none happen.
pub(crate) async fn append_in(tx: &mut Tx, topic: &str, name: &str, now_ms: i64) -> Result<i64, StoreError> {
    let row = tx.fetch_optional(&NEXT, &[]).await?.ok_or(StoreError::Data("change_head"))?;
    let seq = row.int(0, "change_head.seq")?;
    tx.execute(&INSERT, &[Arg::Int(seq), Arg::Text(topic), Arg::Text(name), Arg::Int(now_ms)]).await?;
    notify::wake(tx, topic).await?;
    Ok(seq)
}

/// Appends a change of something that is not in this database. Returns its position.
///
/// # Errors
/// When the database does not answer.
pub async fn append(store: &Store, topic: &str, name: &str) -> Result<i64, StoreError> {
    let mut tx = store.begin().await?;
    let seq = append_in(&mut tx, topic, name, store.now_ms()).await?;
    tx.commit().await?;
    Ok(seq)
}

/// Position of the newest change; the cheapest question whether anything changed.
///
/// # Errors
/// When the database does not answer.
pub async fn head(store: &Store) -> Result<i64, StoreError> {
    store.fetch_optional(&HEAD, &[]).await?.ok_or(StoreError::Data("change_head"))?.int(0, "change_head.seq")
}

/// Changes after a position, oldest first, at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn since(store: &Store, seq: i64, limit: u32) -> Result<Vec<Change>, StoreError> {
    store.fetch_all(&SINCE, &[Arg::Int(seq), Arg::Int(i64::from(limit))]).await?.iter().map(change).collect()
}

/// Position of the oldest change that is still kept. A reader that stands before it has
/// missed something and must read everything anew.
///
/// # Errors
/// When the database does not answer.
pub async fn oldest(store: &Store) -> Result<Option<i64>, StoreError> {
    store.fetch_optional(&OLDEST, &[]).await?.map(|row| row.int(0, "change_log.seq")).transpose()
}

/// Removes changes from before a time (milliseconds since the epoch). Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(store: &Store, before_ms: i64) -> Result<u64, StoreError> {
    store.execute(&PRUNE, &[Arg::Int(before_ms)]).await
}
