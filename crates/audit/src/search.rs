//! Searching the index.

use bartizan_model::event::AuditEvent;
use bartizan_store::Store;
use bartizan_store::repo::audit_index as repo;

pub use bartizan_store::repo::audit_index::{Cursor, Filter as Query};

use crate::error::AuditError;
use crate::record;

/// One record that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Chain that it is in.
    pub writer: String,
    /// Position in the chain.
    pub seq: u64,
    /// The event. Its identity is empty when it was erased.
    pub event: AuditEvent,
    /// True when the identity was erased.
    pub erased: bool,
    /// The event as canonical JSON, as in the segment but without the chain's members; its
    /// `who` is the commitment.
    pub record: String,
}

/// One page of a result, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// What was found.
    pub rows: Vec<Row>,
    /// Give this as `after` for the next page; `None` on the last.
    pub next: Option<Cursor>,
}

/// Searches the index. What was appended less than a second ago may not be in it yet.
///
/// # Errors
/// When the store does not answer.
pub async fn search(store: &Store, query: &Query) -> Result<Page, AuditError> {
    let page = repo::search(store, query).await?;
    let rows = page.rows.into_iter().filter_map(row).collect();
    Ok(Page { rows, next: page.next })
}

fn row(row: repo::IndexRow) -> Option<Row> {
    let Some(event) = record::event(&row.record, row.who.as_deref()) else {
        tracing::warn!(writer = row.writer, seq = row.seq, "an indexed audit record cannot be read");
        return None;
    };
    Some(Row {
        writer: row.writer,
        seq: u64::try_from(row.seq).unwrap_or(0),
        event,
        erased: row.who.is_none(),
        record: row.record,
    })
}
