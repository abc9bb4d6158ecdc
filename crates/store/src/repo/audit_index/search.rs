//! Fork by shape: a search text holds only the conditions that are given, so that each
//! combination can use its index.

use std::fmt::Write as _;

use super::{COLUMNS, IndexRow, row};
use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement};

/// Most rows of one page.
const MAX_LIMIT: u32 = 1_000;

/// What to look for; absent members do not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `user:alice`
    pub principal: Option<String>,
    /// Portal id.
    pub portal: Option<String>,
    /// Server id.
    pub server: Option<String>,
    /// Original name or URI.
    pub target: Option<String>,
    /// Allowed or refused.
    pub allow: Option<bool>,
    /// Refusal code.
    pub code: Option<String>,
    /// Kind of event.
    pub kind: Option<String>,
    /// Event id.
    pub id: Option<String>,
    /// From this time on, milliseconds since the epoch.
    pub since_ms: Option<i64>,
    /// Before this time.
    pub until_ms: Option<i64>,
    /// Rows per page; at most 1,000; 0 means 100.
    pub limit: u32,
    /// Where the last page ended.
    pub after: Option<Cursor>,
}

/// Position in a result: newest first, ties by writer and sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Time of the last row of the page.
    pub at_ms: i64,
    /// Its writer.
    pub writer: String,
    /// Its sequence number.
    pub seq: i64,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.at_ms, self.writer, self.seq)
    }
}

impl Cursor {
    /// Reads what `to_string` wrote; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let (at_ms, writer, seq) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { at_ms: at_ms.parse().ok()?, writer: writer.to_owned(), seq: seq.parse().ok()? })
    }
}

/// One page of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Newest first.
    pub rows: Vec<IndexRow>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<Cursor>,
}

/// The text of a search and its values.
fn build<'a>(filter: &'a Filter, limit: u32) -> (Statement, Vec<Arg<'a>>) {
    let mut args = Vec::new();
    let mut conditions = String::new();
    let mut add = |condition: &str, values: &[Arg<'a>]| {
        conditions.push_str(if conditions.is_empty() { " WHERE " } else { " AND " });
        let mut parts = condition.split('?');
        conditions.push_str(parts.next().unwrap_or_default());
        for (part, value) in parts.zip(values) {
            args.push(*value);
            // Writing into a String cannot fail.
            let _ = write!(conditions, "${}{part}", args.len());
        }
    };
    let texts = [
        ("principal = ?", &filter.principal),
        ("portal = ?", &filter.portal),
        ("server = ?", &filter.server),
        ("target = ?", &filter.target),
        ("code = ?", &filter.code),
        ("kind = ?", &filter.kind),
        ("id = ?", &filter.id),
    ];
    for (condition, value) in texts {
        if let Some(value) = value {
            add(condition, &[Arg::Text(value)]);
        }
    }
    if let Some(allow) = filter.allow {
        add("allow = ?", &[Arg::Int(i64::from(allow))]);
    }
    if let Some(since) = filter.since_ms {
        add("at_ms >= ?", &[Arg::Int(since)]);
    }
    if let Some(until) = filter.until_ms {
        add("at_ms < ?", &[Arg::Int(until)]);
    }
    if let Some(after) = &filter.after {
        let values = [Arg::Int(after.at_ms), Arg::Text(&after.writer), Arg::Int(after.seq)];
        add("(at_ms, writer, seq) < (?, ?, ?)", &values);
    }
    args.push(Arg::Int(i64::from(limit)));
    let sql = format!(
        "SELECT {COLUMNS} FROM audit_index{conditions} ORDER BY at_ms DESC, writer DESC, seq DESC LIMIT ${}",
        args.len()
    );
    (Statement::built("audit_index.search", sql, false), args)
}

/// Every shape with one condition, with none and with all.
pub(super) fn statements() -> Vec<Statement> {
    let text = || Some("x".to_owned());
    let cursor = || Some(Cursor { at_ms: 1, writer: "w".to_owned(), seq: 1 });
    let none = Filter::default;
    let all = Filter {
        principal: text(),
        portal: text(),
        server: text(),
        target: text(),
        allow: Some(true),
        code: text(),
        kind: text(),
        id: text(),
        since_ms: Some(1),
        until_ms: Some(2),
        limit: 1,
        after: cursor(),
    };
    [
        none(),
        Filter { principal: text(), ..none() },
        Filter { portal: text(), ..none() },
        Filter { server: text(), ..none() },
        Filter { target: text(), ..none() },
        Filter { allow: Some(false), ..none() },
        Filter { code: text(), ..none() },
        Filter { kind: text(), ..none() },
        Filter { id: text(), ..none() },
        Filter { since_ms: Some(1), ..none() },
        Filter { until_ms: Some(1), ..none() },
        Filter { after: cursor(), ..none() },
        all,
    ]
    .iter()
    .map(|filter| build(filter, 1).0)
    .collect()
}

/// One page, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn search(store: &Store, filter: &Filter) -> Result<Page, StoreError> {
    let limit = if filter.limit == 0 { 100 } else { filter.limit.min(MAX_LIMIT) };
    // One more than asked tells whether there is a next page.
    let (statement, args) = build(filter, limit + 1);
    let mut rows: Vec<IndexRow> =
        store.fetch_all(&statement, &args).await?.iter().map(row).collect::<Result<_, _>>()?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > wanted;
    rows.truncate(wanted);
    let next = rows.last().filter(|_| more).map(|last| Cursor {
        at_ms: last.at_ms,
        writer: last.writer.clone(),
        seq: last.seq,
    });
    Ok(Page { rows, next })
}
