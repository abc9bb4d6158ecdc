//! Questions that a person answers before something may happen (feature rows W12, A16). What
//! may be used once is used by the database: of several processes that try, one succeeds.

use super::change;
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement, Tx};

/// Topic of questions and answers in the change feed; named by id.
pub const TOPIC: &str = "approval";

/// Time in which the number of a person's questions is bounded, milliseconds.
pub const WINDOW_MS: i64 = 3_600_000;

const GET: Statement = Statement::read(
    "approval.get",
    "SELECT id, kind, requester, subject, digest, approvers, longest_s, details, state, scope, asked_ms, expires_ms, \
     decided_ms, decided_by, reason, until_ms, used_ms, owner, definition FROM approval WHERE id = $1",
);
/// What may answer a call: its own question, or an answer for the whole tool.
const OF_CALL: Statement = Statement::read(
    "approval.of_call",
    "SELECT id, kind, requester, subject, digest, approvers, longest_s, NULL, state, scope, asked_ms, expires_ms, \
     decided_ms, decided_by, reason, until_ms, used_ms, owner, definition FROM approval \
     WHERE requester = $1 AND subject = $2 AND (digest = $3 OR (scope = 'tool' AND definition = $5)) AND asked_ms > $4 \
     ORDER BY asked_ms DESC, id DESC LIMIT 50",
);
const LAST: Statement = Statement::read(
    "approval.last",
    "SELECT id, kind, requester, subject, digest, approvers, longest_s, details, state, scope, asked_ms, expires_ms, \
     decided_ms, decided_by, reason, until_ms, used_ms, owner, definition FROM approval \
     WHERE requester = $1 AND subject = $2 AND kind = 'call' AND decided_ms IS NOT NULL AND scope IS NOT NULL \
     ORDER BY asked_ms DESC, id DESC LIMIT 1",
);
const OF_STATE: Statement = Statement::read(
    "approval.of_state",
    "SELECT id, kind, requester, subject, digest, approvers, longest_s, NULL, state, scope, asked_ms, expires_ms, \
     decided_ms, decided_by, reason, until_ms, used_ms, owner, definition FROM approval \
     WHERE state = $1 AND expires_ms > $2 ORDER BY expires_ms LIMIT $3",
);
const NEWEST: Statement = Statement::read(
    "approval.newest",
    "SELECT id, kind, requester, subject, digest, approvers, longest_s, NULL, state, scope, asked_ms, expires_ms, \
     decided_ms, decided_by, reason, until_ms, used_ms, owner, definition FROM approval \
     WHERE requester = $1 ORDER BY asked_ms DESC, id DESC LIMIT $2",
);
const ENTERED: Statement = Statement::read(
    "approval.entered",
    "SELECT id, kind, requester, subject, digest, approvers, longest_s, NULL, state, scope, asked_ms, expires_ms, \
     decided_ms, decided_by, reason, until_ms, used_ms, owner, definition FROM approval \
     WHERE kind = 'access' AND state = 'approved' AND until_ms > $1 ORDER BY until_ms LIMIT $2",
);
/// In the transaction that inserts, so that it must not be asked of a reader.
const SAME: Statement = Statement::write(
    "approval.same",
    "SELECT id FROM approval WHERE requester = $1 AND subject = $2 AND digest = $3 AND approvers = $4 \
     AND state = 'open' AND expires_ms > $5 ORDER BY asked_ms DESC LIMIT 1",
);
const COUNT: Statement = Statement::write(
    "approval.count",
    "SELECT COUNT(*), COALESCE(MIN(asked_ms), 0) FROM approval WHERE requester = $1 AND asked_ms > $2",
);
const INSERT: Statement = Statement::write(
    "approval.insert",
    "INSERT INTO approval (id, kind, requester, subject, digest, approvers, longest_s, details, state, asked_ms, expires_ms, \
     owner, definition) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'open', $9, $10, $11, $12)",
);
const DECIDE: Statement = Statement::write(
    "approval.decide",
    "UPDATE approval SET state = $2, scope = $3, decided_ms = $4, decided_by = $5, reason = $6, until_ms = $7 \
     WHERE id = $1 AND state = 'open' AND expires_ms > $4",
);
const USE: Statement = Statement::write(
    "approval.use",
    "UPDATE approval SET state = 'used', used_ms = $2 \
     WHERE id = $1 AND state = 'approved' AND scope = 'once' AND until_ms > $2",
);
const END: Statement = Statement::write(
    "approval.end",
    "UPDATE approval SET state = 'withdrawn' WHERE id = $1 AND state IN ('open', 'approved')",
);
const EXPIRE: Statement = Statement::write(
    "approval.expire",
    "UPDATE approval SET state = 'expired' WHERE (state = 'open' AND expires_ms <= $1) \
     OR (state = 'approved' AND until_ms <= $1) RETURNING id",
);
const PRUNE: Statement = Statement::write(
    "approval.prune",
    "DELETE FROM approval WHERE asked_ms < $1 AND state IN ('rejected', 'expired', 'used', 'withdrawn')",
);

pub(crate) fn statements() -> Vec<Statement> {
    super::list![GET, OF_CALL, LAST, OF_STATE, NEWEST, ENTERED, SAME, COUNT, INSERT, DECIDE, USE, END, EXPIRE, PRUNE]
        .into()
}

/// One question. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Own id.
    pub id: String,
    /// `call` or `access`.
    pub kind: String,
    /// Key of the principal that asked.
    pub requester: String,
    /// E-mail address of the person who answers for an agent that asked; empty for everybody else.
    pub owner: String,
    /// What may happen: `tool:SERVER/NAME`, `server:ID`, `portal:ID`.
    pub subject: String,
    /// The exact call; empty for access.
    pub digest: String,
    /// Digest over what the call would run: the reviewed definition and the version of the server. An answer for
    /// the whole tool is good for these only; empty for access.
    pub definition: String,
    /// Who may answer, as JSON.
    pub approvers: String,
    /// The longest an answer may last, seconds; 0 = only this once.
    pub longest_s: i64,
    /// Sealed; absent where many are read.
    pub details: Option<Vec<u8>>,
    /// `open`, `approved`, `rejected`, `expired`, `used` or `withdrawn`.
    pub state: String,
    /// `once`, `tool` or `entry`, once approved.
    pub scope: Option<String>,
    /// When it was asked.
    pub asked_ms: i64,
    /// When the question ends.
    pub expires_ms: i64,
    /// When it was answered.
    pub decided_ms: Option<i64>,
    /// Key of the principal that answered.
    pub decided_by: Option<String>,
    /// Why, in the words of who answered.
    pub reason: Option<String>,
    /// When what was approved ends.
    pub until_ms: Option<i64>,
    /// When it was used.
    pub used_ms: Option<i64>,
}

fn approval(row: &Row) -> Result<Approval, StoreError> {
    Ok(Approval {
        id: row.text(0, "approval.id")?,
        kind: row.text(1, "approval.kind")?,
        requester: row.text(2, "approval.requester")?,
        subject: row.text(3, "approval.subject")?,
        digest: row.text(4, "approval.digest")?,
        approvers: row.text(5, "approval.approvers")?,
        longest_s: row.int(6, "approval.longest_s")?,
        details: row.opt_blob(7, "approval.details").unwrap_or_default(),
        state: row.text(8, "approval.state")?,
        scope: row.opt_text(9, "approval.scope")?,
        asked_ms: row.int(10, "approval.asked_ms")?,
        expires_ms: row.int(11, "approval.expires_ms")?,
        decided_ms: row.opt_int(12, "approval.decided_ms")?,
        decided_by: row.opt_text(13, "approval.decided_by")?,
        reason: row.opt_text(14, "approval.reason")?,
        until_ms: row.opt_int(15, "approval.until_ms")?,
        used_ms: row.opt_int(16, "approval.used_ms")?,
        owner: row.text(17, "approval.owner")?,
        definition: row.text(18, "approval.definition")?,
    })
}

async fn many(store: &Store, statement: &Statement, args: &[Arg<'_>]) -> Result<Vec<Approval>, StoreError> {
    store.fetch_all(statement, args).await?.iter().map(approval).collect()
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A new question.
    New,
    /// The same one is open already, under this id.
    Open(String),
    /// The person asked too often; the oldest question of the last hour is from then.
    TooMany {
        /// Milliseconds since the epoch.
        oldest_ms: i64,
    },
}

/// Asks, unless the same is open or the person asked `most` times within [`WINDOW_MS`].
///
/// # Errors
/// When the database does not answer; then nothing was asked.
pub async fn ask(store: &Store, new: &Approval, most: i64) -> Result<Asked, StoreError> {
    let mut tx = store.begin().await?;
    // First, because it makes others that ask at the same time wait: then counting is exact.
    change::append_in(&mut tx, TOPIC, &new.id, store.now_ms()).await?;
    let same = [
        Arg::Text(&new.requester),
        Arg::Text(&new.subject),
        Arg::Text(&new.digest),
        Arg::Text(&new.approvers),
        Arg::Int(new.asked_ms),
    ];
    if let Some(row) = tx.fetch_optional(&SAME, &same).await? {
        return Ok(Asked::Open(row.text(0, "approval.id")?));
    }
    let window = [Arg::Text(&new.requester), Arg::Int(new.asked_ms.saturating_sub(WINDOW_MS))];
    if let Some(row) = tx.fetch_optional(&COUNT, &window).await?
        && row.int(0, "approval.count")? >= most
    {
        return Ok(Asked::TooMany { oldest_ms: row.int(1, "approval.asked_ms")? });
    }
    let args = [
        Arg::Text(&new.id),
        Arg::Text(&new.kind),
        Arg::Text(&new.requester),
        Arg::Text(&new.subject),
        Arg::Text(&new.digest),
        Arg::Text(&new.approvers),
        Arg::Int(new.longest_s),
        Arg::Blob(new.details.as_deref().unwrap_or_default()),
        Arg::Int(new.asked_ms),
        Arg::Int(new.expires_ms),
        Arg::Text(&new.owner),
        Arg::Text(&new.definition),
    ];
    tx.execute(&INSERT, &args).await?;
    tx.commit().await?;
    Ok(Asked::New)
}

/// The question with this id, whatever became of it.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, id: &str) -> Result<Option<Approval>, StoreError> {
    store.fetch_optional(&GET, &[Arg::Text(id)]).await?.as_ref().map(approval).transpose()
}

/// Questions asked after `since_ms` that are about an exact call, and answers for its whole
/// tool as it is defined now; the newest first, without details.
///
/// # Errors
/// When the database does not answer.
pub async fn of_call(
    store: &Store,
    requester: &str,
    subject: &str,
    digest: &str,
    definition: &str,
    since_ms: i64,
) -> Result<Vec<Approval>, StoreError> {
    let args = [Arg::Text(requester), Arg::Text(subject), Arg::Text(digest), Arg::Int(since_ms), Arg::Text(definition)];
    many(store, &OF_CALL, &args).await
}

/// The last call of a person to a tool that somebody approved.
///
/// # Errors
/// When the database does not answer.
pub async fn last_approved(store: &Store, requester: &str, subject: &str) -> Result<Option<Approval>, StoreError> {
    let row = store.fetch_optional(&LAST, &[Arg::Text(requester), Arg::Text(subject)]).await?;
    row.as_ref().map(approval).transpose()
}

/// Open questions of everybody, those that end first in front; without details.
///
/// # Errors
/// When the database does not answer.
pub async fn open(store: &Store, now_ms: i64, limit: u32) -> Result<Vec<Approval>, StoreError> {
    many(store, &OF_STATE, &[Arg::Text("open"), Arg::Int(now_ms), Arg::Int(i64::from(limit))]).await
}

/// What one principal asked, the newest first; without details.
///
/// # Errors
/// When the database does not answer.
pub async fn of_requester(store: &Store, requester: &str, limit: u32) -> Result<Vec<Approval>, StoreError> {
    many(store, &NEWEST, &[Arg::Text(requester), Arg::Int(i64::from(limit))]).await
}

/// Temporary access that lasts, of everybody; without details.
///
/// # Errors
/// When the database does not answer.
pub async fn entered(store: &Store, now_ms: i64, limit: u32) -> Result<Vec<Approval>, StoreError> {
    many(store, &ENTERED, &[Arg::Int(now_ms), Arg::Int(i64::from(limit))]).await
}

/// An answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// `once`, `tool` or `entry`; `None` rejects.
    pub scope: Option<&'a str>,
    /// Key of the principal that answers.
    pub by: &'a str,
    /// Why.
    pub reason: Option<&'a str>,
    /// Now, milliseconds since the epoch.
    pub now_ms: i64,
    /// When what is approved ends.
    pub until_ms: Option<i64>,
}

/// Answers an open question. False when it is not open any more: of several answers at once,
/// one counts.
///
/// # Errors
/// When the database does not answer.
pub async fn decide(store: &Store, id: &str, answer: &Answer<'_>) -> Result<bool, StoreError> {
    let state = if answer.scope.is_some() { "approved" } else { "rejected" };
    let args = [
        Arg::Text(id),
        Arg::Text(state),
        Arg::OptText(answer.scope),
        Arg::Int(answer.now_ms),
        Arg::Text(answer.by),
        Arg::OptText(answer.reason),
        Arg::OptInt(answer.until_ms),
    ];
    let mut tx = store.begin().await?;
    changed(tx.execute(&DECIDE, &args).await?, tx, id, store.now_ms()).await
}

/// Uses up what was approved for one call. True for exactly one of all that try.
///
/// # Errors
/// When the database does not answer: then it is unknown whether it was used.
pub async fn use_up(store: &Store, id: &str, now_ms: i64) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    changed(tx.execute(&USE, &[Arg::Text(id), Arg::Int(now_ms)]).await?, tx, id, store.now_ms()).await
}

/// Takes back what is open or approved.
///
/// # Errors
/// When the database does not answer.
pub async fn withdraw(store: &Store, id: &str) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    changed(tx.execute(&END, &[Arg::Text(id)]).await?, tx, id, store.now_ms()).await
}

async fn changed(rows: u64, mut tx: Tx, id: &str, now_ms: i64) -> Result<bool, StoreError> {
    if rows == 0 {
        return Ok(false);
    }
    change::append_in(&mut tx, TOPIC, id, now_ms).await?;
    tx.commit().await?;
    Ok(true)
}

/// Ends what is over at `now_ms`. Returns the ids; of several processes, each id goes to one.
///
/// # Errors
/// When the database does not answer.
pub async fn expire(store: &Store, now_ms: i64) -> Result<Vec<String>, StoreError> {
    let mut tx = store.begin().await?;
    let rows = tx.fetch_all(&EXPIRE, &[Arg::Int(now_ms)]).await?;
    let ids: Vec<String> = rows.iter().map(|row| row.text(0, "approval.id")).collect::<Result<_, _>>()?;
    for id in &ids {
        change::append_in(&mut tx, TOPIC, id, store.now_ms()).await?;
    }
    tx.commit().await?;
    Ok(ids)
}

/// Forgets what ended and was asked before a time. Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(store: &Store, before_ms: i64) -> Result<u64, StoreError> {
    store.execute(&PRUNE, &[Arg::Int(before_ms)]).await
}
