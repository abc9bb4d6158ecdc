//! Alerts (feature row L14): hits of rules, what fires, and what is on its way out.

use super::replay;
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement, Tx};

const HIT: Statement = Statement::write(
    "alert_hit.insert",
    "INSERT INTO alert_hit (writer, seq, rule, at_ms, cause, resolves, event_id, summary, seen) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0) ON CONFLICT (writer, seq, rule) DO NOTHING",
);
const UNSEEN: Statement = Statement::read(
    "alert_hit.unseen",
    "SELECT writer, seq, rule, at_ms, cause, resolves, event_id, summary FROM alert_hit \
     WHERE seen = 0 ORDER BY at_ms, writer, seq LIMIT $1",
);
const SEEN: Statement = Statement::write(
    "alert_hit.seen",
    "UPDATE alert_hit SET seen = 1 WHERE writer = $1 AND seq = $2 AND rule = $3 AND seen = 0",
);
const COUNT: Statement = Statement::read(
    "alert_hit.count",
    "SELECT count(*), min(at_ms) FROM alert_hit WHERE rule = $1 AND cause = $2 AND at_ms > $3 AND at_ms <= $4 AND resolves = 0",
);
const PRUNE: Statement = Statement::write("alert_hit.prune", "DELETE FROM alert_hit WHERE seen = 1 AND at_ms < $1");
const COLUMNS: &str = "rule, cause, id, hits, first_ms, last_ms, fired_ms, resolved_ms, event_id, summary, told";
const GET: Statement = Statement::read(
    "alert.get",
    "SELECT rule, cause, id, hits, first_ms, last_ms, fired_ms, resolved_ms, event_id, summary, told \
     FROM alert WHERE rule = $1 AND cause = $2",
);
const PUT: Statement = Statement::write(
    "alert.put",
    "INSERT INTO alert (rule, cause, id, hits, first_ms, last_ms, fired_ms, resolved_ms, event_id, summary, told) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
     ON CONFLICT (rule, cause) DO UPDATE SET id = excluded.id, hits = excluded.hits, first_ms = excluded.first_ms, \
     last_ms = excluded.last_ms, fired_ms = excluded.fired_ms, resolved_ms = excluded.resolved_ms, \
     event_id = excluded.event_id, summary = excluded.summary, told = excluded.told",
);
const RESOLVE: Statement = Statement::write(
    "alert.resolve",
    "UPDATE alert SET resolved_ms = $3 WHERE rule = $1 AND cause = $2 AND resolved_ms IS NULL AND last_ms = $4",
);
const TOLD: Statement = Statement::read(
    "alert.told",
    "SELECT count(*) FROM alert WHERE rule = $1 AND fired_ms > $2 AND told = 1 AND substr(cause, 1, $3) = $4",
);
const REMOVE: Statement =
    Statement::write("alert.remove", "DELETE FROM alert WHERE resolved_ms IS NOT NULL AND resolved_ms < $1");
const DELIVERY: Statement = Statement::write(
    "alert_delivery.insert",
    "INSERT INTO alert_delivery (id, destination, body, created_ms, attempts, next_ms) VALUES ($1, $2, $3, $4, 0, $5)",
);
const DUE: Statement = Statement::read(
    "alert_delivery.due",
    "SELECT id, destination, body, created_ms, attempts FROM alert_delivery WHERE next_ms <= $1 \
     ORDER BY next_ms, body LIMIT $2",
);
const CLAIM: Statement = Statement::write(
    "alert_delivery.claim",
    "UPDATE alert_delivery SET attempts = attempts + 1, next_ms = $2 WHERE id = $1 AND attempts = $3",
);
const DONE: Statement = Statement::write("alert_delivery.done", "DELETE FROM alert_delivery WHERE id = $1");

pub(crate) fn statements() -> Vec<Statement> {
    let mut all: Vec<Statement> =
        super::list![HIT, UNSEEN, SEEN, COUNT, PRUNE, GET, PUT, RESOLVE, TOLD, REMOVE, DELIVERY, DUE, CLAIM, DONE]
            .into();
    all.extend([list("firing"), list("newest")]);
    all
}

fn list(which: &'static str) -> Statement {
    let (name, rest) = match which {
        "firing" => ("alert.firing", "WHERE resolved_ms IS NULL ORDER BY last_ms LIMIT $1"),
        _ => ("alert.newest", "ORDER BY fired_ms DESC LIMIT $1"),
    };
    Statement::built(name, format!("SELECT {COLUMNS} FROM alert {rest}"), false)
}

/// An audit event that a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Writer of the event.
    pub writer: String,
    /// Its number there.
    pub seq: i64,
    /// Id of the rule.
    pub rule: String,
    /// When the event began, milliseconds since the epoch.
    pub at_ms: i64,
    /// What the rule groups by, as text: hits of one cause make one alert.
    pub cause: String,
    /// True when the event ends the alert.
    pub resolves: bool,
    /// Id of the event.
    pub event_id: String,
    /// The event in a few words.
    pub summary: String,
}

/// One alert: a rule and a cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Id of the rule.
    pub rule: String,
    /// What the rule groups by.
    pub cause: String,
    /// Id of this firing.
    pub id: String,
    /// Hits since it fired, those included that made it fire.
    pub hits: i64,
    /// First of them, milliseconds since the epoch.
    pub first_ms: i64,
    /// Last of them.
    pub last_ms: i64,
    /// When it fired.
    pub fired_ms: i64,
    /// When it was over; `None` while it fires.
    pub resolved_ms: Option<i64>,
    /// The event that made it fire.
    pub event_id: String,
    /// That event in a few words.
    pub summary: String,
    /// Whether destinations were told of it.
    pub told: bool,
}

/// A message to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Id of the message; the same at each attempt.
    pub id: String,
    /// Id of the destination.
    pub destination: String,
    /// The message as JSON.
    pub body: String,
    /// When it was made, milliseconds since the epoch.
    pub created_ms: i64,
    /// Attempts that failed.
    pub attempts: i64,
}

fn hit(row: &Row) -> Result<Hit, StoreError> {
    Ok(Hit {
        writer: row.text(0, "alert_hit.writer")?,
        seq: row.int(1, "alert_hit.seq")?,
        rule: row.text(2, "alert_hit.rule")?,
        at_ms: row.int(3, "alert_hit.at_ms")?,
        cause: row.text(4, "alert_hit.cause")?,
        resolves: row.int(5, "alert_hit.resolves")? != 0,
        event_id: row.text(6, "alert_hit.event_id")?,
        summary: row.text(7, "alert_hit.summary")?,
    })
}

fn alert(row: &Row) -> Result<Alert, StoreError> {
    Ok(Alert {
        rule: row.text(0, "alert.rule")?,
        cause: row.text(1, "alert.cause")?,
        id: row.text(2, "alert.id")?,
        hits: row.int(3, "alert.hits")?,
        first_ms: row.int(4, "alert.first_ms")?,
        last_ms: row.int(5, "alert.last_ms")?,
        fired_ms: row.int(6, "alert.fired_ms")?,
        resolved_ms: row.opt_int(7, "alert.resolved_ms")?,
        event_id: row.text(8, "alert.event_id")?,
        summary: row.text(9, "alert.summary")?,
        told: row.int(10, "alert.told")? != 0,
    })
}

/// Writes hits down; part of the transaction that indexes their events.
pub(crate) async fn insert_hits(tx: &mut Tx, hits: &[Hit]) -> Result<(), StoreError> {
    for hit in hits {
        let args = [
            Arg::Text(&hit.writer),
            Arg::Int(hit.seq),
            Arg::Text(&hit.rule),
            Arg::Int(hit.at_ms),
            Arg::Text(&hit.cause),
            Arg::Int(i64::from(hit.resolves)),
            Arg::Text(&hit.event_id),
            Arg::Text(&hit.summary),
        ];
        tx.execute(&HIT, &args).await?;
    }
    Ok(())
}

/// Hits that nobody looked at yet, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn unseen(store: &Store, limit: u32) -> Result<Vec<Hit>, StoreError> {
    store.fetch_all(&UNSEEN, &[Arg::Int(i64::from(limit))]).await?.iter().map(hit).collect()
}

/// How many hits of a cause lie after `after_ms` and until `until_ms`, and when the first of
/// them was; those that end the alert do not count.
///
/// # Errors
/// When the database does not answer.
pub async fn count(
    store: &Store,
    rule: &str,
    cause: &str,
    after_ms: i64,
    until_ms: i64,
) -> Result<(i64, Option<i64>), StoreError> {
    let args = [Arg::Text(rule), Arg::Text(cause), Arg::Int(after_ms), Arg::Int(until_ms)];
    let row = store.fetch_optional(&COUNT, &args).await?.ok_or(StoreError::Data("alert_hit"))?;
    Ok((row.int(0, "alert_hit.count")?, row.opt_int(1, "alert_hit.first")?))
}

/// The alert of a cause, firing or over.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, rule: &str, cause: &str) -> Result<Option<Alert>, StoreError> {
    store.fetch_optional(&GET, &[Arg::Text(rule), Arg::Text(cause)]).await?.as_ref().map(alert).transpose()
}

/// Alerts that fire, those first that were quiet longest.
///
/// # Errors
/// When the database does not answer.
pub async fn firing(store: &Store, limit: u32) -> Result<Vec<Alert>, StoreError> {
    store.fetch_all(&list("firing"), &[Arg::Int(i64::from(limit))]).await?.iter().map(alert).collect()
}

/// Alerts, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn newest(store: &Store, limit: u32) -> Result<Vec<Alert>, StoreError> {
    store.fetch_all(&list("newest"), &[Arg::Int(i64::from(limit))]).await?.iter().map(alert).collect()
}

/// How many alerts of a rule, of causes that begin with `prefix`, fired after a time and were told.
///
/// # Errors
/// When the database does not answer.
pub async fn told_since(store: &Store, rule: &str, since_ms: i64, prefix: &str) -> Result<i64, StoreError> {
    let length = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
    let args = [Arg::Text(rule), Arg::Int(since_ms), Arg::Int(length), Arg::Text(prefix)];
    let row = store.fetch_optional(&TOLD, &args).await?;
    row.ok_or(StoreError::Data("alert"))?.int(0, "alert.told")
}

/// Takes a hit in: marks it, puts the alert as it is now, and sends messages; all or nothing.
/// False, without a change, when somebody else took it in before.
///
/// # Errors
/// When the database does not answer.
pub async fn take(store: &Store, hit: &Hit, now: Option<&Alert>, messages: &[Delivery]) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let key = [Arg::Text(&hit.writer), Arg::Int(hit.seq), Arg::Text(&hit.rule)];
    if tx.execute(&SEEN, &key).await? == 0 {
        return Ok(false);
    }
    if let Some(alert) = now {
        let args = [
            Arg::Text(&alert.rule),
            Arg::Text(&alert.cause),
            Arg::Text(&alert.id),
            Arg::Int(alert.hits),
            Arg::Int(alert.first_ms),
            Arg::Int(alert.last_ms),
            Arg::Int(alert.fired_ms),
            Arg::OptInt(alert.resolved_ms),
            Arg::Text(&alert.event_id),
            Arg::Text(&alert.summary),
            Arg::Int(i64::from(alert.told)),
        ];
        tx.execute(&PUT, &args).await?;
    }
    send(&mut tx, messages).await?;
    tx.commit().await?;
    Ok(true)
}

/// Ends an alert that had no hit since `alert.last_ms`. False when there is a newer one, or it is
/// over already.
///
/// # Errors
/// When the database does not answer.
pub async fn resolve(store: &Store, alert: &Alert, now_ms: i64, messages: &[Delivery]) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let args = [Arg::Text(&alert.rule), Arg::Text(&alert.cause), Arg::Int(now_ms), Arg::Int(alert.last_ms)];
    if tx.execute(&RESOLVE, &args).await? == 0 {
        return Ok(false);
    }
    send(&mut tx, messages).await?;
    tx.commit().await?;
    Ok(true)
}

async fn send(tx: &mut Tx, messages: &[Delivery]) -> Result<(), StoreError> {
    for message in messages {
        let args = [
            Arg::Text(&message.id),
            Arg::Text(&message.destination),
            Arg::Text(&message.body),
            Arg::Int(message.created_ms),
            Arg::Int(message.created_ms),
        ];
        tx.execute(&DELIVERY, &args).await?;
    }
    Ok(())
}

/// Sends a message that is of no alert, once: false when a message of this id went out before, in
/// the time until `expires_ms` (milliseconds since the epoch).
///
/// # Errors
/// When the database does not answer.
pub async fn tell(store: &Store, message: &Delivery, once: &str, expires_ms: i64) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    if !replay::consume_in(&mut tx, once, expires_ms).await? {
        return Ok(false);
    }
    send(&mut tx, std::slice::from_ref(message)).await?;
    tx.commit().await?;
    Ok(true)
}

/// Messages whose time has come; of one moment, what fires comes before what is over.
///
/// # Errors
/// When the database does not answer.
pub async fn due(store: &Store, now_ms: i64, limit: u32) -> Result<Vec<Delivery>, StoreError> {
    let rows = store.fetch_all(&DUE, &[Arg::Int(now_ms), Arg::Int(i64::from(limit))]).await?;
    let delivery = |row: &Row| {
        Ok(Delivery {
            id: row.text(0, "alert_delivery.id")?,
            destination: row.text(1, "alert_delivery.destination")?,
            body: row.text(2, "alert_delivery.body")?,
            created_ms: row.int(3, "alert_delivery.created_ms")?,
            attempts: row.int(4, "alert_delivery.attempts")?,
        })
    };
    rows.iter().map(delivery).collect()
}

/// Takes an attempt at a message: if it fails, or the process ends, the next one is at
/// `next_ms`. False when somebody else took it.
///
/// # Errors
/// When the database does not answer.
pub async fn claim(store: &Store, message: &Delivery, next_ms: i64) -> Result<bool, StoreError> {
    let args = [Arg::Text(&message.id), Arg::Int(next_ms), Arg::Int(message.attempts)];
    Ok(store.execute(&CLAIM, &args).await? == 1)
}

/// A message arrived, or is given up.
///
/// # Errors
/// When the database does not answer.
pub async fn done(store: &Store, id: &str) -> Result<(), StoreError> {
    store.execute(&DONE, &[Arg::Text(id)]).await.map(drop)
}

/// Forgets hits that were taken in, from before a time, and alerts that were over then.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(store: &Store, hits_before_ms: i64, alerts_before_ms: i64) -> Result<(), StoreError> {
    store.execute(&PRUNE, &[Arg::Int(hits_before_ms)]).await?;
    store.execute(&REMOVE, &[Arg::Int(alerts_before_ms)]).await.map(drop)
}
