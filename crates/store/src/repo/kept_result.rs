//! Parts of results that were too long for their client (feature row P52).

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement};

const HELD: Statement = Statement::read(
    "kept_result.held",
    "SELECT CAST(COALESCE(sum(bytes), 0) AS BIGINT) FROM kept_result WHERE owner = $1 AND expires_ms > $2",
);
const INSERT: Statement = Statement::write(
    "kept_result.insert",
    "INSERT INTO kept_result (id, part, parts, owner, sealed, bytes, expires_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)",
);
const GET: Statement = Statement::read(
    "kept_result.get",
    "SELECT sealed, parts FROM kept_result WHERE id = $1 AND part = $2 AND owner = $3 AND expires_ms > $4",
);
const PRUNE: Statement = Statement::write("kept_result.prune", "DELETE FROM kept_result WHERE expires_ms <= $1");

pub(crate) fn statements() -> Vec<Statement> {
    super::list![HELD, INSERT, GET, PRUNE].into()
}

/// Keeps the sealed parts of one result until `expires_ms` (milliseconds since the epoch). False
/// when its owner has more than `most` bytes with it. Removes what is over.
///
/// # Errors
/// When the database does not answer; then nothing is kept.
pub async fn put(
    store: &Store,
    id: &str,
    owner: &str,
    sealed: &[String],
    expires_ms: i64,
    now_ms: i64,
    most: i64,
) -> Result<bool, StoreError> {
    let size = |text: &String| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let bytes = sealed.iter().map(size).fold(0, i64::saturating_add);
    let mut tx = store.begin().await?;
    tx.execute(&PRUNE, &[Arg::Int(now_ms)]).await?;
    let held = tx.fetch_optional(&HELD, &[Arg::Text(owner), Arg::Int(now_ms)]).await?;
    let held = held.map(|row| row.int(0, "kept_result.bytes")).transpose()?.unwrap_or(0);
    if held.saturating_add(bytes) > most {
        tx.commit().await?;
        return Ok(false);
    }
    let parts = i64::try_from(sealed.len()).unwrap_or(i64::MAX);
    for (part, text) in (0_i64..).zip(sealed) {
        let args = [
            Arg::Text(id),
            Arg::Int(part),
            Arg::Int(parts),
            Arg::Text(owner),
            Arg::Text(text),
            Arg::Int(size(text)),
            Arg::Int(expires_ms),
        ];
        tx.execute(&INSERT, &args).await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// One part, counted from 0, and how many there are; only for its owner, and only while it lives.
///
/// # Errors
/// When the database does not answer.
pub async fn get(
    store: &Store,
    id: &str,
    part: i64,
    owner: &str,
    now_ms: i64,
) -> Result<Option<(String, i64)>, StoreError> {
    let args = [Arg::Text(id), Arg::Int(part), Arg::Text(owner), Arg::Int(now_ms)];
    let row = store.fetch_optional(&GET, &args).await?;
    row.map(|row| Ok((row.text(0, "kept_result.sealed")?, row.int(1, "kept_result.parts")?))).transpose()
}
