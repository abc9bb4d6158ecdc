//! Kill switches (feature row G24): what is stopped, by whom and why.

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement};
use crate::repo::change;

/// Topic of the change feed.
pub const TOPIC: &str = "kill_switch";
/// Most switches that are set at once; more cannot be set.
pub const MOST: u32 = 10_000;

const INSERT: Statement = Statement::write(
    "kill_switch.insert",
    "INSERT INTO kill_switch (id, scope, subject, reason, set_by, set_ms, until_ms) \
     SELECT $1, $2, $3, $4, $5, $6, $7 \
     WHERE (SELECT count(*) FROM kill_switch WHERE lifted_ms IS NULL AND (until_ms IS NULL OR until_ms > $8)) < $9",
);
const ACTIVE: Statement = Statement::read(
    "kill_switch.active",
    "SELECT id, scope, subject, reason, set_by, set_ms, until_ms, lift_asked_by, lifted_by, lifted_ms, lift_reason \
     FROM kill_switch WHERE lifted_ms IS NULL AND (until_ms IS NULL OR until_ms > $1) ORDER BY set_ms, id LIMIT $2",
);
const NEWEST: Statement = Statement::read(
    "kill_switch.newest",
    "SELECT id, scope, subject, reason, set_by, set_ms, until_ms, lift_asked_by, lifted_by, lifted_ms, lift_reason \
     FROM kill_switch ORDER BY set_ms DESC, id DESC LIMIT $1",
);
const GET: Statement = Statement::read(
    "kill_switch.get",
    "SELECT id, scope, subject, reason, set_by, set_ms, until_ms, lift_asked_by, lifted_by, lifted_ms, lift_reason \
     FROM kill_switch WHERE id = $1",
);
const ASK: Statement = Statement::write(
    "kill_switch.ask",
    "UPDATE kill_switch SET lift_asked_by = $2 WHERE id = $1 AND lifted_ms IS NULL AND lift_asked_by IS NULL",
);
const LIFT: Statement = Statement::write(
    "kill_switch.lift",
    "UPDATE kill_switch SET lifted_by = $2, lifted_ms = $3, lift_reason = $4 \
     WHERE id = $1 AND lifted_ms IS NULL AND ($5 = 0 OR (lift_asked_by IS NOT NULL AND lift_asked_by <> $2))",
);

pub(crate) fn statements() -> Vec<Statement> {
    super::list![INSERT, ACTIVE, NEWEST, GET, ASK, LIFT].into()
}

/// One switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillSwitch {
    /// Id, in refusals and audit events.
    pub id: String,
    /// Kind of what is stopped.
    pub scope: String,
    /// Which of that kind; empty for everything.
    pub subject: String,
    /// Why.
    pub reason: String,
    /// Principal who set it.
    pub set_by: String,
    /// When, milliseconds since the epoch.
    pub set_ms: i64,
    /// When it ends by itself, milliseconds since the epoch.
    pub until_ms: Option<i64>,
    /// Principal who wants it lifted, where that takes two.
    pub lift_asked_by: Option<String>,
    /// Principal who lifted it.
    pub lifted_by: Option<String>,
    /// When, milliseconds since the epoch.
    pub lifted_ms: Option<i64>,
    /// Why.
    pub lift_reason: Option<String>,
}

fn switch(row: &Row) -> Result<KillSwitch, StoreError> {
    Ok(KillSwitch {
        id: row.text(0, "kill_switch.id")?,
        scope: row.text(1, "kill_switch.scope")?,
        subject: row.text(2, "kill_switch.subject")?,
        reason: row.text(3, "kill_switch.reason")?,
        set_by: row.text(4, "kill_switch.set_by")?,
        set_ms: row.int(5, "kill_switch.set_ms")?,
        until_ms: row.opt_int(6, "kill_switch.until_ms")?,
        lift_asked_by: row.opt_text(7, "kill_switch.lift_asked_by")?,
        lifted_by: row.opt_text(8, "kill_switch.lifted_by")?,
        lifted_ms: row.opt_int(9, "kill_switch.lifted_ms")?,
        lift_reason: row.opt_text(10, "kill_switch.lift_reason")?,
    })
}

/// Sets a switch. False when there are [`MOST`] already.
///
/// # Errors
/// When the database does not answer, or the id is taken.
pub async fn insert(store: &Store, new: &KillSwitch) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let args = [
        Arg::Text(&new.id),
        Arg::Text(&new.scope),
        Arg::Text(&new.subject),
        Arg::Text(&new.reason),
        Arg::Text(&new.set_by),
        Arg::Int(new.set_ms),
        Arg::OptInt(new.until_ms),
        Arg::Int(new.set_ms),
        Arg::Int(i64::from(MOST)),
    ];
    let set = tx.execute(&INSERT, &args).await? == 1;
    if set {
        change::append_in(&mut tx, TOPIC, &new.id, new.set_ms).await?;
    }
    tx.commit().await?;
    Ok(set)
}

/// The switches that are set and have not ended at `now_ms` (milliseconds since the epoch).
///
/// # Errors
/// When the database does not answer.
pub async fn active(store: &Store, now_ms: i64) -> Result<Vec<KillSwitch>, StoreError> {
    let args = [Arg::Int(now_ms), Arg::Int(i64::from(MOST))];
    store.fetch_all(&ACTIVE, &args).await?.iter().map(switch).collect()
}

/// The newest switches, also those that were lifted.
///
/// # Errors
/// When the database does not answer.
pub async fn newest(store: &Store, limit: u32) -> Result<Vec<KillSwitch>, StoreError> {
    store.fetch_all(&NEWEST, &[Arg::Int(i64::from(limit))]).await?.iter().map(switch).collect()
}

/// One switch.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, id: &str) -> Result<Option<KillSwitch>, StoreError> {
    store.fetch_optional(&GET, &[Arg::Text(id)]).await?.as_ref().map(switch).transpose()
}

/// Notes who wants it lifted. False when somebody did before, or it is lifted.
///
/// # Errors
/// When the database does not answer.
pub async fn ask_to_lift(store: &Store, id: &str, by: &str) -> Result<bool, StoreError> {
    Ok(store.execute(&ASK, &[Arg::Text(id), Arg::Text(by)]).await? == 1)
}

/// Lifts a switch; with `second`, only if somebody else than `by` asked for it. False when it
/// did not.
///
/// # Errors
/// When the database does not answer.
pub async fn lift(
    store: &Store,
    id: &str,
    by: &str,
    reason: &str,
    now_ms: i64,
    second: bool,
) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let args = [Arg::Text(id), Arg::Text(by), Arg::Int(now_ms), Arg::Text(reason), Arg::Int(i64::from(second))];
    let lifted = tx.execute(&LIFT, &args).await? == 1;
    if lifted {
        change::append_in(&mut tx, TOPIC, id, now_ms).await?;
    }
    tx.commit().await?;
    Ok(lifted)
}
