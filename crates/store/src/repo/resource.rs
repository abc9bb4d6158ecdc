//! Servers, portals, policies and so on that are not in files (feature rows P54, L10): every
//! version of every object, and who made it. An object's version is the revision of the
//! whole in which it changed.

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement, Tx};
use crate::repo::change;
use crate::repo::sealed::{self, Sealed};

/// Topic of the change feed; the name is the revision.
pub const TOPIC: &str = "resource";
/// Kind of the sealed records with secrets of objects.
pub const SECRETS: &str = "resource";

// One statement, so that the revision is that of the rows.
const LIVE: Statement = Statement::read(
    "resource.live",
    "SELECT h.revision, r.kind, r.id, r.since_rev, r.body, r.secret_id \
     FROM (SELECT coalesce(max(revision), 0) AS revision FROM resource_revision) h \
     LEFT JOIN resource r ON r.until_rev IS NULL ORDER BY r.kind, r.id",
);
const HEAD: Statement = Statement::read("resource.head", "SELECT coalesce(max(revision), 0) FROM resource_revision");
const ONE: Statement =
    Statement::read("resource.one", "SELECT since_rev FROM resource WHERE kind = $1 AND id = $2 AND until_rev IS NULL");
const END: Statement = Statement::write(
    "resource.end",
    "UPDATE resource SET until_rev = $3 WHERE kind = $1 AND id = $2 AND until_rev IS NULL",
);
const INSERT: Statement = Statement::write(
    "resource.insert",
    "INSERT INTO resource (kind, id, since_rev, until_rev, body, secret_id) VALUES ($1, $2, $3, NULL, $4, $5)",
);
const REVISION: Statement = Statement::write(
    "resource_revision.insert",
    "INSERT INTO resource_revision (revision, at_ms, by_whom, source, reason, git_revision, event_id) \
     VALUES ($1, $2, $3, $4, $5, $6, $7)",
);
const REVISIONS: Statement = Statement::read(
    "resource_revision.newest",
    "SELECT revision, at_ms, by_whom, source, reason, git_revision, event_id FROM resource_revision \
     WHERE revision <= $1 ORDER BY revision DESC LIMIT $2",
);
const HISTORY: Statement = Statement::read(
    "resource.history",
    "SELECT since_rev, until_rev, body, secret_id FROM resource WHERE kind = $1 AND id = $2 \
     ORDER BY since_rev DESC LIMIT $3",
);
const VERSION: Statement = Statement::read(
    "resource.version",
    "SELECT since_rev, until_rev, body, secret_id FROM resource WHERE kind = $1 AND id = $2 AND since_rev = $3",
);
const ANSWER: Statement =
    Statement::read("admin_answer.get", "SELECT digest, answer FROM admin_answer WHERE caller = $1 AND name = $2");
const KEEP_ANSWER: Statement = Statement::write(
    "admin_answer.insert",
    "INSERT INTO admin_answer (caller, name, digest, answer, at_ms) VALUES ($1, $2, $3, $4, $5)",
);
const PRUNE_ANSWERS: Statement = Statement::write("admin_answer.prune", "DELETE FROM admin_answer WHERE at_ms < $1");

/// How long answers are kept, milliseconds.
const ANSWERS_MS: i64 = 86_400_000;

pub(crate) fn statements() -> Vec<Statement> {
    super::list![
        LIVE,
        HEAD,
        ONE,
        END,
        INSERT,
        REVISION,
        REVISIONS,
        HISTORY,
        VERSION,
        ANSWER,
        KEEP_ANSWER,
        PRUNE_ANSWERS
    ]
    .into()
}

/// An object in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `server`, `portal`, …
    pub kind: String,
    /// Its id within the kind.
    pub id: String,
    /// The revision that made this version.
    pub since_rev: i64,
    /// Canonical JSON without secrets.
    pub body: String,
    /// Sealed record of kind [`SECRETS`] with its secrets.
    pub secret_id: Option<String>,
}

/// A version of an object, in use or former.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The revision that made it.
    pub since_rev: i64,
    /// The revision that ended it.
    pub until_rev: Option<i64>,
    /// Canonical JSON without secrets.
    pub body: String,
    /// Sealed record with its secrets.
    pub secret_id: Option<String>,
}

/// Who made a revision, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Its number, from 1.
    pub revision: i64,
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
    /// `user:alice`, `service:ci`, …
    pub by: String,
    /// `console`, `api`, `apply`.
    pub source: String,
    /// What the person said it is for.
    pub reason: Option<String>,
    /// Revision of the files that were applied.
    pub git_revision: Option<String>,
    /// Audit event.
    pub event_id: String,
}

/// What an object must be for a change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is none.
    Absent,
    /// It is at this version.
    At(i64),
}

/// The secrets of a new version.
#[derive(Clone, PartialEq, Eq)]
pub enum Secrets {
    /// It has none.
    None,
    /// Those of a version before.
    Kept(String),
    /// New ones; the id of the record names them.
    New(Sealed),
}

/// A change of one object.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    /// Kind of object.
    pub kind: String,
    /// Which one.
    pub id: String,
    /// What it must be now.
    pub expect: Expect,
    /// What it becomes; `None` removes it.
    pub body: Option<(String, Secrets)>,
}

/// The answer to a request that may come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whose request.
    pub caller: String,
    /// The key it carried.
    pub name: String,
    /// Digest of the request.
    pub digest: String,
    /// The answer as text.
    pub answer: String,
}

/// Why nothing was changed.
#[derive(Debug)]
pub enum CommitError<E> {
    /// Something else changed since `base`: look again.
    Outdated,
    /// An object is not what it must be.
    Conflict {
        /// Its kind.
        kind: String,
        /// Its id.
        id: String,
    },
    /// The caller's last word was no.
    Refused(E),
    /// The database.
    Store(StoreError),
}

impl<E> From<StoreError> for CommitError<E> {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What is in use, and the revision of the whole.
///
/// # Errors
/// When the database does not answer.
pub async fn live(store: &Store) -> Result<(i64, Vec<Resource>), StoreError> {
    let rows = store.fetch_all(&LIVE, &[]).await?;
    let revision = rows.first().ok_or(StoreError::Data("resource_revision"))?.int(0, "resource_revision.revision")?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let Some(kind) = row.opt_text(1, "resource.kind")? else { continue };
        found.push(Resource {
            kind,
            id: row.text(2, "resource.id")?,
            since_rev: row.int(3, "resource.since_rev")?,
            body: row.text(4, "resource.body")?,
            secret_id: row.opt_text(5, "resource.secret_id")?,
        });
    }
    Ok((revision, found))
}

/// The revision of the whole.
///
/// # Errors
/// When the database does not answer.
pub async fn head(store: &Store) -> Result<i64, StoreError> {
    head_of(store.fetch_optional(&HEAD, &[]).await?)
}

fn head_of(row: Option<Row>) -> Result<i64, StoreError> {
    row.ok_or(StoreError::Data("resource_revision"))?.int(0, "resource_revision.revision")
}

/// Makes changes, all or none, as the revision after `base`. `last` is asked when everything
/// is written and nothing is committed: it puts the change on record, so that no change
/// goes without. Returns the revision.
///
/// # Errors
/// [`CommitError`]; then nothing changed.
pub async fn commit<E, F>(
    store: &Store,
    base: i64,
    about: &Revision,
    changes: &[Change],
    answer: Option<&Answer>,
    last: impl FnOnce() -> F,
) -> Result<i64, CommitError<E>>
where
    F: Future<Output = Result<(), E>>,
{
    let (mut tx, now, revision) = (store.begin().await?, about.at_ms, base + 1);
    // First, because it is what writers wait for each other at: what follows sees what they did.
    change::append_in(&mut tx, TOPIC, &revision.to_string(), now).await?;
    if head_of(tx.fetch_optional(&HEAD, &[]).await?)? != base {
        return Err(CommitError::Outdated);
    }
    let args = [
        Arg::Int(revision),
        Arg::Int(now),
        Arg::Text(&about.by),
        Arg::Text(&about.source),
        Arg::OptText(about.reason.as_deref()),
        Arg::OptText(about.git_revision.as_deref()),
        Arg::Text(&about.event_id),
    ];
    tx.execute(&REVISION, &args).await?;
    for change in changes {
        if !one(&mut tx, change, revision, now).await? {
            return Err(CommitError::Conflict { kind: change.kind.clone(), id: change.id.clone() });
        }
    }
    if let Some(answer) = answer {
        tx.execute(&PRUNE_ANSWERS, &[Arg::Int(now - ANSWERS_MS)]).await?;
        let args = [
            Arg::Text(&answer.caller),
            Arg::Text(&answer.name),
            Arg::Text(&answer.digest),
            Arg::Text(&answer.answer),
            Arg::Int(now),
        ];
        tx.execute(&KEEP_ANSWER, &args).await?;
    }
    last().await.map_err(CommitError::Refused)?;
    tx.commit().await?;
    Ok(revision)
}

/// False when the object is not what it must be.
async fn one(tx: &mut Tx, change: &Change, revision: i64, now: i64) -> Result<bool, StoreError> {
    let (kind, id) = (Arg::Text(&change.kind), Arg::Text(&change.id));
    let found = tx.fetch_optional(&ONE, &[kind, id]).await?.map(|row| row.int(0, "resource.since_rev")).transpose()?;
    let wanted = match change.expect {
        Expect::Absent => None,
        Expect::At(revision) => Some(revision),
    };
    if found != wanted {
        return Ok(false);
    }
    if found.is_some() {
        tx.execute(&END, &[kind, id, Arg::Int(revision)]).await?;
    }
    let Some((body, secrets)) = &change.body else { return Ok(found.is_some()) };
    let secret = match secrets {
        Secrets::None => None,
        Secrets::Kept(id) => Some(id.as_str()),
        Secrets::New(record) => {
            sealed::insert_in(tx, record, now).await?;
            Some(record.key.id.as_str())
        }
    };
    let args = [kind, id, Arg::Int(revision), Arg::Text(body), Arg::OptText(secret)];
    tx.execute(&INSERT, &args).await?;
    Ok(true)
}

fn version(row: &Row) -> Result<Version, StoreError> {
    Ok(Version {
        since_rev: row.int(0, "resource.since_rev")?,
        until_rev: row.opt_int(1, "resource.until_rev")?,
        body: row.text(2, "resource.body")?,
        secret_id: row.opt_text(3, "resource.secret_id")?,
    })
}

/// Versions of an object, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn history(store: &Store, kind: &str, id: &str, limit: u32) -> Result<Vec<Version>, StoreError> {
    let args = [Arg::Text(kind), Arg::Text(id), Arg::Int(i64::from(limit))];
    store.fetch_all(&HISTORY, &args).await?.iter().map(version).collect()
}

/// One version of an object.
///
/// # Errors
/// When the database does not answer.
pub async fn at(store: &Store, kind: &str, id: &str, since_rev: i64) -> Result<Option<Version>, StoreError> {
    let args = [Arg::Text(kind), Arg::Text(id), Arg::Int(since_rev)];
    store.fetch_optional(&VERSION, &args).await?.as_ref().map(version).transpose()
}

/// Revisions up to `newest`, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn revisions(store: &Store, newest: i64, limit: u32) -> Result<Vec<Revision>, StoreError> {
    let rows = store.fetch_all(&REVISIONS, &[Arg::Int(newest), Arg::Int(i64::from(limit))]).await?;
    let one = |row: &Row| {
        Ok(Revision {
            revision: row.int(0, "resource_revision.revision")?,
            at_ms: row.int(1, "resource_revision.at_ms")?,
            by: row.text(2, "resource_revision.by_whom")?,
            source: row.text(3, "resource_revision.source")?,
            reason: row.opt_text(4, "resource_revision.reason")?,
            git_revision: row.opt_text(5, "resource_revision.git_revision")?,
            event_id: row.text(6, "resource_revision.event_id")?,
        })
    };
    rows.iter().map(one).collect()
}

/// The answer to an earlier request with this key: its digest and text.
///
/// # Errors
/// When the database does not answer.
pub async fn answer(store: &Store, caller: &str, name: &str) -> Result<Option<(String, String)>, StoreError> {
    let Some(row) = store.fetch_optional(&ANSWER, &[Arg::Text(caller), Arg::Text(name)]).await? else {
        return Ok(None);
    };
    Ok(Some((row.text(0, "admin_answer.digest")?, row.text(1, "admin_answer.answer")?)))
}
