//! Definitions that servers offer, and what was decided about them (feature rows P43–P45, P48).

pub mod history;

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement, Tx};

/// Topic of the change feed; names are ids of servers.
pub const TOPIC: &str = "definition";

const OF_SERVER: Statement = Statement::read(
    "definition.of_server",
    "SELECT server, kind, name, state, approved, approved_by, approved_ms, seen, seen_by, seen_ms, once_pin, once_ms, \
     rejected, first_pin, first_by, missing_ms, alias_of, version FROM definition WHERE server = $1 ORDER BY kind, name",
);
const GET: Statement = Statement::read(
    "definition.get",
    "SELECT server, kind, name, state, approved, approved_by, approved_ms, seen, seen_by, seen_ms, once_pin, once_ms, \
     rejected, first_pin, first_by, missing_ms, alias_of, version FROM definition \
     WHERE server = $1 AND kind = $2 AND name = $3",
);
const NAMES: Statement = Statement::read(
    "definition.names",
    "SELECT server, name FROM definition WHERE kind = 'tool' AND server <> $1 ORDER BY server, name LIMIT 100000",
);
const SERVERS: Statement =
    Statement::read("definition.servers", "SELECT DISTINCT server FROM definition ORDER BY server LIMIT 100000");
const SYNCED: Statement =
    Statement::read("definition_sync.of_server", "SELECT kind FROM definition_sync WHERE server = $1");
const CLAIM: Statement = Statement::write(
    "definition_sync.claim",
    "INSERT INTO definition_sync (server, kind, at_ms, who) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (server, kind) DO NOTHING",
);
const INSERT: Statement = Statement::write(
    "definition.insert",
    "INSERT INTO definition (server, kind, name, state, approved, approved_by, approved_ms, seen, seen_by, seen_ms, \
     once_pin, once_ms, rejected, first_pin, first_by, missing_ms, alias_of, version) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, 1) \
     ON CONFLICT (server, kind, name) DO NOTHING",
);
const UPDATE: Statement = Statement::write(
    "definition.update",
    "UPDATE definition SET state = $4, approved = $5, approved_by = $6, approved_ms = $7, seen = $8, seen_by = $9, \
     seen_ms = $10, once_pin = $11, once_ms = $12, rejected = $13, first_pin = $14, first_by = $15, missing_ms = $16, \
     alias_of = $17, version = version + 1 WHERE server = $1 AND kind = $2 AND name = $3 AND version = $18",
);
const BODY: Statement = Statement::read("definition_body.get", "SELECT body FROM definition_body WHERE pin = $1");
const KEEP: Statement = Statement::write(
    "definition_body.put",
    "INSERT INTO definition_body (pin, body) VALUES ($1, $2) ON CONFLICT (pin) DO NOTHING",
);

pub(crate) fn statements() -> Vec<Statement> {
    let mut all: Vec<Statement> =
        super::list![OF_SERVER, GET, NAMES, SERVERS, SYNCED, CLAIM, INSERT, UPDATE, BODY, KEEP].into();
    all.extend(history::statements());
    all
}

/// One definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// Server id.
    pub server: String,
    /// `tool`, `prompt`, `template` or `server`.
    pub kind: String,
    /// Original name; of a template its text, of a server nothing.
    pub name: String,
    /// `quarantined` (new), `approved`, `changed`, `rejected` or `missing`.
    pub state: String,
    /// Pin of what is approved.
    pub approved: Option<String>,
    /// Who approved it.
    pub approved_by: Option<String>,
    /// When, milliseconds since the epoch.
    pub approved_ms: Option<i64>,
    /// Pin of what was seen last and recorded.
    pub seen: Option<String>,
    /// Whose list it was seen in, where lists are personal.
    pub seen_by: Option<String>,
    /// When, milliseconds since the epoch.
    pub seen_ms: Option<i64>,
    /// Pin that is good for a while only.
    pub once_pin: Option<String>,
    /// Until then, milliseconds since the epoch.
    pub once_ms: Option<i64>,
    /// Pin that was rejected.
    pub rejected: Option<String>,
    /// Pin that the first of two people approved.
    pub first_pin: Option<String>,
    /// Who that is.
    pub first_by: Option<String>,
    /// Since when the server does not list it, milliseconds since the epoch.
    pub missing_ms: Option<i64>,
    /// The missing name that it is much like.
    pub alias_of: Option<String>,
    /// Counts the changes of this row; 0 for a row that does not exist yet.
    pub version: i64,
}

fn definition(row: &Row) -> Result<Definition, StoreError> {
    Ok(Definition {
        server: row.text(0, "definition.server")?,
        kind: row.text(1, "definition.kind")?,
        name: row.text(2, "definition.name")?,
        state: row.text(3, "definition.state")?,
        approved: row.opt_text(4, "definition.approved")?,
        approved_by: row.opt_text(5, "definition.approved_by")?,
        approved_ms: row.opt_int(6, "definition.approved_ms")?,
        seen: row.opt_text(7, "definition.seen")?,
        seen_by: row.opt_text(8, "definition.seen_by")?,
        seen_ms: row.opt_int(9, "definition.seen_ms")?,
        once_pin: row.opt_text(10, "definition.once_pin")?,
        once_ms: row.opt_int(11, "definition.once_ms")?,
        rejected: row.opt_text(12, "definition.rejected")?,
        first_pin: row.opt_text(13, "definition.first_pin")?,
        first_by: row.opt_text(14, "definition.first_by")?,
        missing_ms: row.opt_int(15, "definition.missing_ms")?,
        alias_of: row.opt_text(16, "definition.alias_of")?,
        version: row.int(17, "definition.version")?,
    })
}

/// All definitions of a server.
///
/// # Errors
/// When the database does not answer.
pub async fn of_server(store: &Store, server: &str) -> Result<Vec<Definition>, StoreError> {
    store.fetch_all(&OF_SERVER, &[Arg::Text(server)]).await?.iter().map(definition).collect()
}

/// One definition.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, server: &str, kind: &str, name: &str) -> Result<Option<Definition>, StoreError> {
    let args = [Arg::Text(server), Arg::Text(kind), Arg::Text(name)];
    store.fetch_optional(&GET, &args).await?.as_ref().map(definition).transpose()
}

/// Names of the tools of all other servers, with their server.
///
/// # Errors
/// When the database does not answer.
pub async fn names_elsewhere(store: &Store, server: &str) -> Result<Vec<(String, String)>, StoreError> {
    let rows = store.fetch_all(&NAMES, &[Arg::Text(server)]).await?;
    rows.iter().map(|row| Ok((row.text(0, "definition.server")?, row.text(1, "definition.name")?))).collect()
}

/// Servers of which something is known.
///
/// # Errors
/// When the database does not answer.
pub async fn servers(store: &Store) -> Result<Vec<String>, StoreError> {
    store.fetch_all(&SERVERS, &[]).await?.iter().map(|row| row.text(0, "definition.server")).collect()
}

/// The kinds of a server that were seen for the first time already.
///
/// # Errors
/// When the database does not answer.
pub async fn synced(store: &Store, server: &str) -> Result<Vec<String>, StoreError> {
    let rows = store.fetch_all(&SYNCED, &[Arg::Text(server)]).await?;
    rows.iter().map(|row| row.text(0, "definition_sync.kind")).collect()
}

/// The canonical text of a pin.
///
/// # Errors
/// When the database does not answer.
pub async fn body(store: &Store, pin: &str) -> Result<Option<String>, StoreError> {
    let row = store.fetch_optional(&BODY, &[Arg::Text(pin)]).await?;
    row.map(|row| row.text(0, "definition_body.body")).transpose()
}

/// A change of one row, with its line of the history.
#[derive(Clone, Debug)]
pub struct Edit {
    /// The row as it shall be; `version` is that of the row it was made from.
    pub row: Definition,
    /// A pin with its canonical text, to be kept.
    pub body: Option<(String, String)>,
    /// What happened: `seen`, `approved`, …
    pub action: &'static str,
    /// The pin it happened to.
    pub pin: Option<String>,
    /// The pin before.
    pub former: Option<String>,
    /// Why, in the words of whoever decided.
    pub reason: String,
}

/// Changes that happen together.
#[derive(Debug)]
pub struct Change<'a> {
    /// The server they are about.
    pub server: &'a str,
    /// Set for a first look at one kind: nothing happens when somebody looked before.
    pub first_of: Option<&'a str>,
    /// Who does it.
    pub who: &'a str,
    /// The rows.
    pub edits: &'a [Edit],
    /// The hash of a line of the history, whose own `hash` is still empty.
    pub seal: fn(&history::Line) -> String,
}

/// Applies all changes or none, and tells everybody. False when somebody else was first:
/// with the first look, or with a change of one of the rows.
///
/// # Errors
/// When the database does not answer.
pub async fn apply(store: &Store, change: &Change<'_>) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let done = apply_in(&mut tx, store.now_ms(), change).await?;
    if done {
        tx.commit().await?;
    }
    Ok(done)
}

/// Applies the changes of several servers in one transaction: all of them, or none when one of
/// them cannot be. Many servers that are seen for the first time cost one commit.
///
/// # Errors
/// When the database does not answer.
pub async fn apply_all(store: &Store, changes: &[Change<'_>]) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    for change in changes {
        if !apply_in(&mut tx, store.now_ms(), change).await? {
            return Ok(false);
        }
    }
    tx.commit().await?;
    Ok(true)
}

async fn apply_in(tx: &mut Tx, now: i64, change: &Change<'_>) -> Result<bool, StoreError> {
    if let Some(kind) = change.first_of {
        let args = [Arg::Text(change.server), Arg::Text(kind), Arg::Int(now), Arg::Text(change.who)];
        if tx.execute(&CLAIM, &args).await? == 0 {
            return Ok(false);
        }
    }
    for edit in change.edits {
        if let Some((pin, body)) = &edit.body {
            tx.execute(&KEEP, &[Arg::Text(pin), Arg::Text(body)]).await?;
        }
        if !put(tx, &edit.row).await? {
            return Ok(false);
        }
    }
    history::append_in(tx, now, change).await?;
    super::change::append_in(tx, TOPIC, change.server, now).await?;
    Ok(true)
}

async fn put(tx: &mut Tx, row: &Definition) -> Result<bool, StoreError> {
    let mut args = vec![
        Arg::Text(&row.server),
        Arg::Text(&row.kind),
        Arg::Text(&row.name),
        Arg::Text(&row.state),
        Arg::OptText(row.approved.as_deref()),
        Arg::OptText(row.approved_by.as_deref()),
        Arg::OptInt(row.approved_ms),
        Arg::OptText(row.seen.as_deref()),
        Arg::OptText(row.seen_by.as_deref()),
        Arg::OptInt(row.seen_ms),
        Arg::OptText(row.once_pin.as_deref()),
        Arg::OptInt(row.once_ms),
        Arg::OptText(row.rejected.as_deref()),
        Arg::OptText(row.first_pin.as_deref()),
        Arg::OptText(row.first_by.as_deref()),
        Arg::OptInt(row.missing_ms),
        Arg::OptText(row.alias_of.as_deref()),
    ];
    let statement = if row.version == 0 {
        &INSERT
    } else {
        args.push(Arg::Int(row.version));
        &UPDATE
    };
    Ok(tx.execute(statement, &args).await? == 1)
}
