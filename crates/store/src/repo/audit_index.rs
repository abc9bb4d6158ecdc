//! The searchable index of the audit segments (feature row L9). It holds nothing that
//! the segments do not hold, and can be thrown away and built again.

mod bulk;
mod figures;
mod search;

pub use bulk::{Batch, index};
pub use figures::{About, Day, days, figure_texts, nth_duration_us};
pub use search::{Cursor, Filter, Page, search};

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement};

const POSITION: Statement = Statement::read(
    "audit_position.get",
    "SELECT segment, byte_offset, seq, hash FROM audit_position WHERE writer = $1",
);
const WRITERS: Statement =
    Statement::read("audit_position.writers", "SELECT writer FROM audit_position ORDER BY writer");
const FORGET_POSITION: Statement =
    Statement::write("audit_position.forget", "DELETE FROM audit_position WHERE writer = $1");
const FORGET_ROWS: Statement = Statement::write("audit_index.forget", "DELETE FROM audit_index WHERE writer = $1");
const COUNT: Statement = Statement::read("audit_index.count", "SELECT count(*) FROM audit_index WHERE writer = $1");
const ERASE: Statement =
    Statement::write("audit_index.erase", "UPDATE audit_index SET principal = NULL, who = NULL WHERE principal = $1");
const PRUNE: Statement = Statement::write("audit_index.prune", "DELETE FROM audit_index WHERE at_ms < $1");

pub(crate) fn statements() -> Vec<Statement> {
    let mut all: Vec<Statement> =
        super::list![POSITION, WRITERS, FORGET_POSITION, FORGET_ROWS, COUNT, ERASE, PRUNE].into();
    all.extend(bulk::statements());
    all.extend(figures::statements());
    all.extend(search::statements());
    all
}

/// How far a writer's segments are indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Segment number.
    pub segment: i64,
    /// First byte of that segment which is not indexed yet.
    pub byte_offset: i64,
    /// Last indexed sequence number.
    pub seq: i64,
    /// Its hash, lower-case hex: a check point outside of the files.
    pub hash: String,
}

/// One indexed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRow {
    /// When the action began, milliseconds since the epoch.
    pub at_ms: i64,
    /// Writer of the segment.
    pub writer: String,
    /// Sequence number within the writer.
    pub seq: i64,
    /// `call`, `intent`, `list`, …
    pub kind: String,
    /// `user:alice`; `None` once erased.
    pub principal: Option<String>,
    /// Portal id.
    pub portal: Option<String>,
    /// Server id.
    pub server: Option<String>,
    /// Original name or URI.
    pub target: Option<String>,
    /// Whether it was allowed.
    pub allow: bool,
    /// Refusal code.
    pub code: Option<String>,
    /// Event id.
    pub id: String,
    /// Identity as JSON; `None` once erased.
    pub who: Option<String>,
    /// The event as canonical JSON.
    pub record: String,
    /// How it ended: `ok`, `tool_error`, …
    pub outcome: String,
    /// Microseconds from admission to answer.
    pub total_us: i64,
}

/// The columns in the order of [`row`] and of the bulk insert.
const COLUMNS: &str = "at_ms, writer, seq, kind, principal, portal, server, target, allow, code, id, who, record, \
     outcome, total_us";

fn row(row: &Row) -> Result<IndexRow, StoreError> {
    Ok(IndexRow {
        at_ms: row.int(0, "audit_index.at_ms")?,
        writer: row.text(1, "audit_index.writer")?,
        seq: row.int(2, "audit_index.seq")?,
        kind: row.text(3, "audit_index.kind")?,
        principal: row.opt_text(4, "audit_index.principal")?,
        portal: row.opt_text(5, "audit_index.portal")?,
        server: row.opt_text(6, "audit_index.server")?,
        target: row.opt_text(7, "audit_index.target")?,
        allow: row.int(8, "audit_index.allow")? != 0,
        code: row.opt_text(9, "audit_index.code")?,
        id: row.text(10, "audit_index.id")?,
        who: row.opt_text(11, "audit_index.who")?,
        record: row.text(12, "audit_index.record")?,
        outcome: row.text(13, "audit_index.outcome")?,
        total_us: row.int(14, "audit_index.total_us")?,
    })
}

/// How far a writer is indexed; `None` before its first record.
///
/// # Errors
/// When the database does not answer.
pub async fn position(store: &Store, writer: &str) -> Result<Option<Position>, StoreError> {
    let Some(row) = store.fetch_optional(&POSITION, &[Arg::Text(writer)]).await? else { return Ok(None) };
    Ok(Some(Position {
        segment: row.int(0, "audit_position.segment")?,
        byte_offset: row.int(1, "audit_position.byte_offset")?,
        seq: row.int(2, "audit_position.seq")?,
        hash: row.text(3, "audit_position.hash")?,
    }))
}

/// Every writer that has something in the index.
///
/// # Errors
/// When the database does not answer.
pub async fn writers(store: &Store) -> Result<Vec<String>, StoreError> {
    store.fetch_all(&WRITERS, &[]).await?.iter().map(|row| row.text(0, "audit_position.writer")).collect()
}

/// Number of indexed records of a writer.
///
/// # Errors
/// When the database does not answer.
pub async fn count(store: &Store, writer: &str) -> Result<i64, StoreError> {
    let row = store.fetch_optional(&COUNT, &[Arg::Text(writer)]).await?.ok_or(StoreError::Data("audit_index"))?;
    row.int(0, "audit_index.count")
}

/// Forgets everything about a writer, so that it is indexed again from its start.
///
/// # Errors
/// When the database does not answer.
pub async fn forget(store: &Store, writer: &str) -> Result<(), StoreError> {
    let mut tx = store.begin_bulk().await?;
    tx.execute(&FORGET_POSITION, &[Arg::Text(writer)]).await?;
    tx.execute(&FORGET_ROWS, &[Arg::Text(writer)]).await?;
    tx.commit().await
}

/// Removes the identity of a principal from all rows. Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn erase(store: &Store, principal: &str) -> Result<u64, StoreError> {
    store.execute(&ERASE, &[Arg::Text(principal)]).await
}

/// Removes rows from before a time (milliseconds since the epoch). Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn prune(store: &Store, before_ms: i64) -> Result<u64, StoreError> {
    store.execute(&PRUNE, &[Arg::Int(before_ms)]).await
}
