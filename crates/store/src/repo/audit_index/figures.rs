//! Counts and durations over the index (feature row L6). Every question is a range of one
//! index that holds all columns it needs.

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement};

/// Day number in a time zone; the times are after 1970, so integer division rounds down.
const DAYS: &str = "SELECT (at_ms + $3) / 86400000, count(*), CAST(sum(1 - allow) AS BIGINT), \
     CAST(sum(CASE WHEN outcome IN ('tool_error', 'rpc_error', 'unknown') THEN 1 ELSE 0 END) AS BIGINT), \
     CAST(sum(CASE WHEN code IN ('approval_required', 'approval_rejected', 'approval_expired') THEN 1 ELSE 0 END) AS BIGINT) \
     FROM audit_index WHERE kind = 'call' AND at_ms >= $1 AND at_ms < $2";
const RANK: &str = "SELECT total_us FROM audit_index WHERE kind = 'call' AND at_ms >= $1 AND at_ms < $2";

/// Which calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// From this time on, milliseconds since the epoch.
    pub since_ms: i64,
    /// Before this time.
    pub until_ms: i64,
    /// Only this portal.
    pub portal: Option<&'a str>,
    /// Only this server.
    pub server: Option<&'a str>,
}

/// The calls of one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Day {
    /// Days since 1970-01-01 in the time zone that was asked for.
    pub day: i64,
    /// Calls.
    pub count: i64,
    /// Refused ones.
    pub denied: i64,
    /// Those that ended with an error.
    pub errors: i64,
    /// Those refused for want of an approval.
    pub approvals: i64,
}

fn narrowed<'a>(about: &About<'a>, text: &str, args: &mut Vec<Arg<'a>>) -> String {
    let mut sql = text.to_owned();
    for (column, value) in [("portal", about.portal), ("server", about.server)] {
        if let Some(value) = value {
            args.push(Arg::Text(value));
            sql.push_str(&format!(" AND {column} = ${}", args.len()));
        }
    }
    sql
}

fn days_statement<'a>(about: &About<'a>, offset_ms: i64) -> (Statement, Vec<Arg<'a>>) {
    let mut args = vec![Arg::Int(about.since_ms), Arg::Int(about.until_ms), Arg::Int(offset_ms)];
    let sql = narrowed(about, DAYS, &mut args) + " GROUP BY 1 ORDER BY 1";
    (Statement::built("audit_index.days", sql, false), args)
}

fn rank_statement<'a>(about: &About<'a>, rank: i64) -> (Statement, Vec<Arg<'a>>) {
    let mut args = vec![Arg::Int(about.since_ms), Arg::Int(about.until_ms)];
    let mut sql = narrowed(about, RANK, &mut args);
    args.push(Arg::Int(rank));
    sql.push_str(&format!(" AND allow = 1 ORDER BY total_us LIMIT 1 OFFSET ${}", args.len()));
    (Statement::built("audit_index.rank", sql, false), args)
}

pub(super) fn statements() -> Vec<Statement> {
    let both = About { portal: Some("p"), server: Some("s"), ..About::default() };
    [About::default(), both].iter().flat_map(|about| [days_statement(about, 0).0, rank_statement(about, 0).0]).collect()
}

/// The texts of every question, for a look at how the database answers them.
pub fn figure_texts() -> Vec<String> {
    statements().iter().map(|statement| statement.text().as_str().to_owned()).collect()
}

/// Calls per day of a time zone so many milliseconds east of UTC, in order; days without
/// calls are left out.
///
/// # Errors
/// When the database does not answer.
pub async fn days(store: &Store, about: &About<'_>, offset_ms: i64) -> Result<Vec<Day>, StoreError> {
    let (statement, args) = days_statement(about, offset_ms);
    let mut days = Vec::new();
    for row in store.fetch_all(&statement, &args).await? {
        days.push(Day {
            day: row.int(0, "audit_index.day")?,
            count: row.int(1, "audit_index.count")?,
            denied: row.int(2, "audit_index.denied")?,
            errors: row.int(3, "audit_index.errors")?,
            approvals: row.int(4, "audit_index.approvals")?,
        });
    }
    Ok(days)
}

/// The duration, microseconds, of the allowed call that so many allowed calls were faster than.
///
/// # Errors
/// When the database does not answer.
pub async fn nth_duration_us(store: &Store, about: &About<'_>, rank: i64) -> Result<Option<i64>, StoreError> {
    let (statement, args) = rank_statement(about, rank);
    store.fetch_optional(&statement, &args).await?.map(|row| row.int(0, "audit_index.total_us")).transpose()
}
