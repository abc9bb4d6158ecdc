//! Searching the index.

use bartizan_model::event::AuditEvent;
use bartizan_store::Store;
use bartizan_store::repo::audit_index as repo;

pub use bartizan_store::repo::audit_index::{Cursor, Filter as Query};

use crate::error::AuditError;
use crate::record;

/// How far around the time in an event's id it is looked for, milliseconds.
const AROUND_ID_MS: [i64; 2] = [5_000, 3_600_000];

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
/// An event's id alone needs no index of its own: it holds the time at which it was made,
/// and the event is looked for around that time first.
///
/// # Errors
/// When the store does not answer.
pub async fn search(store: &Store, query: &Query) -> Result<Page, AuditError> {
    let made_ms = query.id.as_deref().and_then(time_of_id);
    let is_open = query.since_ms.is_none() && query.until_ms.is_none();
    if let Some(made_ms) = made_ms.filter(|_| is_open) {
        for around_ms in AROUND_ID_MS {
            let since_ms = Some(made_ms.saturating_sub(around_ms));
            let until_ms = Some(made_ms.saturating_add(around_ms));
            let page = repo::search(store, &Query { since_ms, until_ms, ..query.clone() }).await?;
            if !page.rows.is_empty() {
                return Ok(convert(page));
            }
        }
    }
    Ok(convert(repo::search(store, query).await?))
}

fn convert(page: repo::Page) -> Page {
    Page { rows: page.rows.into_iter().filter_map(row).collect(), next: page.next }
}

/// Milliseconds in a UUIDv7: its first 48 bits (RFC 9562, section 5.7).
fn time_of_id(id: &str) -> Option<i64> {
    let digits: String = id.chars().filter(|c| *c != '-').take(12).collect();
    let made_ms = i64::from_str_radix(&digits, 16).ok()?;
    (digits.len() == 12).then_some(made_ms)
}

/// The event of a row; `None` when it cannot be read.
pub fn event_of(row: &repo::IndexRow) -> Option<AuditEvent> {
    record::event(&row.record, row.who.as_deref())
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

#[cfg(test)]
mod tests {
    use bartizan_model::EventId;

    use super::time_of_id;

    #[test]
    fn l1_an_id_holds_its_time() {
        assert_eq!(time_of_id(&EventId::new(1_767_225_600_123).to_string()), Some(1_767_225_600_123));
        for bad in ["", "x", "0190f0c0", "zzzzzzzz-zzzz-7000", "+190f0c0-0000"] {
            assert!(time_of_id(bad).is_none_or(|ms| ms > 0), "{bad}");
        }
        assert_eq!(time_of_id("0190f0c0"), None);
    }
}
