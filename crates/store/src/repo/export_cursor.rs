//! How far each export sink has come (feature row L5).

use super::audit_index::Position;
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement};

const PUT: Statement = Statement::write(
    "export_cursor.put",
    "INSERT INTO export_cursor (sink, writer, segment, byte_offset, seq, hash, at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7) \
     ON CONFLICT (sink, writer) DO UPDATE SET segment = excluded.segment, byte_offset = excluded.byte_offset, \
     seq = excluded.seq, hash = excluded.hash, at_ms = excluded.at_ms WHERE excluded.seq >= export_cursor.seq",
);
const GET: Statement = Statement::read(
    "export_cursor.get",
    "SELECT segment, byte_offset, seq, hash FROM export_cursor WHERE sink = $1 AND writer = $2",
);
const ALL: Statement = Statement::read(
    "export_cursor.all",
    "SELECT sink, writer, seq, at_ms FROM export_cursor ORDER BY sink, writer LIMIT 10000",
);

pub(crate) fn statements() -> Vec<Statement> {
    super::list![PUT, GET, ALL].into()
}

/// A sink's standing in one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Name of the sink.
    pub sink: String,
    /// Chain.
    pub writer: String,
    /// Last record that arrived.
    pub seq: i64,
    /// When it arrived, milliseconds since the epoch.
    pub at_ms: i64,
}

/// Where a sink goes on; `None` at the beginning of the chain.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, sink: &str, writer: &str) -> Result<Option<Position>, StoreError> {
    let row = store.fetch_optional(&GET, &[Arg::Text(sink), Arg::Text(writer)]).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Position {
        segment: row.int(0, "export_cursor.segment")?,
        byte_offset: row.int(1, "export_cursor.byte_offset")?,
        seq: row.int(2, "export_cursor.seq")?,
        hash: row.text(3, "export_cursor.hash")?,
    }))
}

/// Says how far a sink has come; never goes back.
///
/// # Errors
/// When the database does not answer.
pub async fn put(store: &Store, sink: &str, writer: &str, at: &Position, now_ms: i64) -> Result<(), StoreError> {
    let args = [
        Arg::Text(sink),
        Arg::Text(writer),
        Arg::Int(at.segment),
        Arg::Int(at.byte_offset),
        Arg::Int(at.seq),
        Arg::Text(&at.hash),
        Arg::Int(now_ms),
    ];
    store.execute(&PUT, &args).await.map(drop)
}

/// Every sink's standing, also of sinks that are no longer configured.
///
/// # Errors
/// When the database does not answer.
pub async fn all(store: &Store) -> Result<Vec<Standing>, StoreError> {
    let standing = |row: &Row| {
        Ok(Standing {
            sink: row.text(0, "export_cursor.sink")?,
            writer: row.text(1, "export_cursor.writer")?,
            seq: row.int(2, "export_cursor.seq")?,
            at_ms: row.int(3, "export_cursor.at_ms")?,
        })
    };
    store.fetch_all(&ALL, &[]).await?.iter().map(standing).collect()
}
