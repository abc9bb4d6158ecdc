//! The append-only history of definitions, each line chained to the one before (P48).

use super::Change;
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement, Tx};

// Taking the number locks the head, so that lines are chained one after the other.
const TAKE: Statement = Statement::write(
    "definition_head.take",
    "UPDATE definition_head SET seq = seq + $1 WHERE id = 1 RETURNING seq, hash",
);
const SET: Statement = Statement::write("definition_head.set", "UPDATE definition_head SET hash = $1 WHERE id = 1");
const HEAD: Statement = Statement::read("definition_head.get", "SELECT seq, hash FROM definition_head WHERE id = 1");
const INSERT: Statement = Statement::write(
    "definition_history.insert",
    "INSERT INTO definition_history (seq, at_ms, server, kind, name, action, pin, former, who, reason, prev, hash) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
);
const AFTER: Statement = Statement::read(
    "definition_history.after",
    "SELECT seq, at_ms, server, kind, name, action, pin, former, who, reason, prev, hash FROM definition_history \
     WHERE seq > $1 ORDER BY seq LIMIT $2",
);
const OF: Statement = Statement::read(
    "definition_history.of",
    "SELECT seq, at_ms, server, kind, name, action, pin, former, who, reason, prev, hash FROM definition_history \
     WHERE server = $1 AND kind = $2 AND name = $3 ORDER BY seq DESC LIMIT $4",
);

pub(crate) fn statements() -> Vec<Statement> {
    super::super::list![TAKE, SET, HEAD, INSERT, AFTER, OF].into()
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Number, from 1.
    pub seq: i64,
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
    /// Server id.
    pub server: String,
    /// Kind of definition.
    pub kind: String,
    /// Original name.
    pub name: String,
    /// What happened.
    pub action: String,
    /// The pin it happened to.
    pub pin: Option<String>,
    /// The pin before.
    pub former: Option<String>,
    /// Who did it.
    pub who: String,
    /// Why.
    pub reason: String,
    /// Hash of the line before; nothing for the first one.
    pub prev: String,
    /// Hash of this line.
    pub hash: String,
}

fn line(row: &Row) -> Result<Line, StoreError> {
    Ok(Line {
        seq: row.int(0, "definition_history.seq")?,
        at_ms: row.int(1, "definition_history.at_ms")?,
        server: row.text(2, "definition_history.server")?,
        kind: row.text(3, "definition_history.kind")?,
        name: row.text(4, "definition_history.name")?,
        action: row.text(5, "definition_history.action")?,
        pin: row.opt_text(6, "definition_history.pin")?,
        former: row.opt_text(7, "definition_history.former")?,
        who: row.text(8, "definition_history.who")?,
        reason: row.text(9, "definition_history.reason")?,
        prev: row.text(10, "definition_history.prev")?,
        hash: row.text(11, "definition_history.hash")?,
    })
}

pub(super) async fn append_in(tx: &mut Tx, now: i64, change: &Change<'_>) -> Result<(), StoreError> {
    let count = i64::try_from(change.edits.len()).map_err(|_| StoreError::Data("definition_history"))?;
    if count == 0 {
        return Ok(());
    }
    let head = tx.fetch_optional(&TAKE, &[Arg::Int(count)]).await?.ok_or(StoreError::Data("definition_head"))?;
    let first = head.int(0, "definition_head.seq")? - count + 1;
    let mut prev = head.text(1, "definition_head.hash")?;
    for (seq, edit) in (first..).zip(change.edits) {
        let mut line = Line {
            seq,
            at_ms: now,
            server: edit.row.server.clone(),
            kind: edit.row.kind.clone(),
            name: edit.row.name.clone(),
            action: edit.action.to_owned(),
            pin: edit.pin.clone(),
            former: edit.former.clone(),
            who: change.who.to_owned(),
            reason: edit.reason.clone(),
            prev,
            hash: String::new(),
        };
        line.hash = (change.seal)(&line);
        insert(tx, &line).await?;
        prev = line.hash;
    }
    tx.execute(&SET, &[Arg::Text(&prev)]).await.map(drop)
}

async fn insert(tx: &mut Tx, line: &Line) -> Result<(), StoreError> {
    let args = [
        Arg::Int(line.seq),
        Arg::Int(line.at_ms),
        Arg::Text(&line.server),
        Arg::Text(&line.kind),
        Arg::Text(&line.name),
        Arg::Text(&line.action),
        Arg::OptText(line.pin.as_deref()),
        Arg::OptText(line.former.as_deref()),
        Arg::Text(&line.who),
        Arg::Text(&line.reason),
        Arg::Text(&line.prev),
        Arg::Text(&line.hash),
    ];
    tx.execute(&INSERT, &args).await.map(drop)
}

/// Number and hash of the newest line; 0 and nothing before the first one.
///
/// # Errors
/// When the database does not answer.
pub async fn head(store: &Store) -> Result<(i64, String), StoreError> {
    let row = store.fetch_optional(&HEAD, &[]).await?.ok_or(StoreError::Data("definition_head"))?;
    Ok((row.int(0, "definition_head.seq")?, row.text(1, "definition_head.hash")?))
}

/// Lines after a number, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn after(store: &Store, seq: i64, limit: u32) -> Result<Vec<Line>, StoreError> {
    store.fetch_all(&AFTER, &[Arg::Int(seq), Arg::Int(i64::from(limit))]).await?.iter().map(line).collect()
}

/// Lines about one definition, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn of(store: &Store, server: &str, kind: &str, name: &str, limit: u32) -> Result<Vec<Line>, StoreError> {
    let args = [Arg::Text(server), Arg::Text(kind), Arg::Text(name), Arg::Int(i64::from(limit))];
    store.fetch_all(&OF, &args).await?.iter().map(line).collect()
}
