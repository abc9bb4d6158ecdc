//! Small named values of the installation.

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Statement};

const GET: Statement = Statement::read("meta.get", "SELECT value FROM meta WHERE name = $1");
const SET: Statement = Statement::write(
    "meta.set",
    "INSERT INTO meta (name, value, updated_ms) VALUES ($1, $2, $3) \
     ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_ms = excluded.updated_ms",
);
const INSERT: Statement = Statement::write(
    "meta.insert",
    "INSERT INTO meta (name, value, updated_ms) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING",
);
const REPLACE: Statement =
    Statement::write("meta.replace", "UPDATE meta SET value = $3, updated_ms = $4 WHERE name = $1 AND value = $2");

pub(crate) fn statements() -> Vec<Statement> {
    super::list![GET, SET, INSERT, REPLACE].into()
}

/// The value of a name.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, name: &str) -> Result<Option<String>, StoreError> {
    store.fetch_optional(&GET, &[Arg::Text(name)]).await?.map(|row| row.text(0, "meta.value")).transpose()
}

/// Sets a value, whatever it was.
///
/// # Errors
/// When the database does not answer.
pub async fn set(store: &Store, name: &str, value: &str) -> Result<(), StoreError> {
    store.execute(&SET, &[Arg::Text(name), Arg::Text(value), Arg::Int(store.now_ms())]).await.map(drop)
}

/// Sets `new` only if the value is `old` (`None`: absent). Returns whether it did, so of
/// several replicas that try, one wins.
///
/// # Errors
/// When the database does not answer.
pub async fn compare_and_set(store: &Store, name: &str, old: Option<&str>, new: &str) -> Result<bool, StoreError> {
    let now = Arg::Int(store.now_ms());
    let changed = match old {
        None => store.execute(&INSERT, &[Arg::Text(name), Arg::Text(new), now]).await?,
        Some(old) => store.execute(&REPLACE, &[Arg::Text(name), Arg::Text(old), Arg::Text(new), now]).await?,
    };
    Ok(changed == 1)
}
