//! The life of servers that were asked for (feature row G2).

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement};

/// Topic of the change feed; names are ids of servers.
pub const TOPIC: &str = "server_life";

const GET: Statement = Statement::read(
    "server_life.get",
    "SELECT server, state, owner, request, digest, asked_by, asked_ms, decided_by, decided_ms, reason, version \
     FROM server_life WHERE server = $1",
);
const ALL: Statement = Statement::read(
    "server_life.all",
    "SELECT server, state, owner, request, digest, asked_by, asked_ms, decided_by, decided_ms, reason, version \
     FROM server_life ORDER BY server LIMIT 10000",
);
const INSERT: Statement = Statement::write(
    "server_life.insert",
    "INSERT INTO server_life (server, state, owner, request, digest, asked_by, asked_ms, decided_by, decided_ms, \
     reason, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1) ON CONFLICT (server) DO NOTHING",
);
const UPDATE: Statement = Statement::write(
    "server_life.update",
    "UPDATE server_life SET state = $2, owner = $3, request = $4, digest = $5, asked_by = $6, asked_ms = $7, \
     decided_by = $8, decided_ms = $9, reason = $10, version = version + 1 WHERE server = $1 AND version = $11",
);

pub(crate) fn statements() -> Vec<Statement> {
    super::list![GET, ALL, INSERT, UPDATE].into()
}

/// Where a server stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Server id.
    pub server: String,
    /// `draft`, `requested`, `approved`, `suspended` or `retired`.
    pub state: String,
    /// Who answers for it.
    pub owner: String,
    /// What was asked for, canonical JSON.
    pub request: String,
    /// Hash of the request, and of what was approved.
    pub digest: String,
    /// Who asked.
    pub asked_by: String,
    /// When, milliseconds since the epoch.
    pub asked_ms: i64,
    /// Who decided last.
    pub decided_by: Option<String>,
    /// When, milliseconds since the epoch.
    pub decided_ms: Option<i64>,
    /// Why, in the words of whoever decided.
    pub reason: String,
    /// Counts the changes; 0 for a row that does not exist yet.
    pub version: i64,
}

fn life(row: &Row) -> Result<Life, StoreError> {
    Ok(Life {
        server: row.text(0, "server_life.server")?,
        state: row.text(1, "server_life.state")?,
        owner: row.text(2, "server_life.owner")?,
        request: row.text(3, "server_life.request")?,
        digest: row.text(4, "server_life.digest")?,
        asked_by: row.text(5, "server_life.asked_by")?,
        asked_ms: row.int(6, "server_life.asked_ms")?,
        decided_by: row.opt_text(7, "server_life.decided_by")?,
        decided_ms: row.opt_int(8, "server_life.decided_ms")?,
        reason: row.text(9, "server_life.reason")?,
        version: row.int(10, "server_life.version")?,
    })
}

/// One server; `None` when nobody asked for it.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, server: &str) -> Result<Option<Life>, StoreError> {
    store.fetch_optional(&GET, &[Arg::Text(server)]).await?.as_ref().map(life).transpose()
}

/// All servers that were asked for.
///
/// # Errors
/// When the database does not answer.
pub async fn all(store: &Store) -> Result<Vec<Life>, StoreError> {
    store.fetch_all(&ALL, &[]).await?.iter().map(life).collect()
}

/// Writes a row made from one of `version`, and tells everybody. False when somebody else
/// changed it meanwhile.
///
/// # Errors
/// When the database does not answer.
pub async fn put(store: &Store, life: &Life) -> Result<bool, StoreError> {
    let mut args = vec![
        Arg::Text(&life.server),
        Arg::Text(&life.state),
        Arg::Text(&life.owner),
        Arg::Text(&life.request),
        Arg::Text(&life.digest),
        Arg::Text(&life.asked_by),
        Arg::Int(life.asked_ms),
        Arg::OptText(life.decided_by.as_deref()),
        Arg::OptInt(life.decided_ms),
        Arg::Text(&life.reason),
    ];
    let statement = if life.version == 0 {
        &INSERT
    } else {
        args.push(Arg::Int(life.version));
        &UPDATE
    };
    let mut tx = store.begin().await?;
    if tx.execute(statement, &args).await? == 0 {
        return Ok(false);
    }
    super::change::append_in(&mut tx, TOPIC, &life.server, store.now_ms()).await?;
    tx.commit().await?;
    Ok(true)
}
