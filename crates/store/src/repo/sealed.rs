//! Sealed records (feature row P21). This crate sees only ciphertext.

use crate::engine::Store;
use crate::error::StoreError;
use crate::exec::{Arg, Row, Statement, Tx};

const GET: Statement = Statement::read(
    "sealed.get",
    "SELECT tenant, kind, id, version, key_id, sealed FROM sealed WHERE tenant = $1 AND kind = $2 AND id = $3",
);
const INSERT: Statement = Statement::write(
    "sealed.insert",
    "INSERT INTO sealed (tenant, kind, id, version, key_id, sealed, updated_ms) VALUES ($1, $2, $3, $4, $5, $6, $7) \
     ON CONFLICT (tenant, kind, id) DO NOTHING",
);
const REPLACE: Statement = Statement::write(
    "sealed.replace",
    "UPDATE sealed SET version = $5, key_id = $6, sealed = $7, updated_ms = $8 \
     WHERE tenant = $1 AND kind = $2 AND id = $3 AND version = $4",
);
const RESEAL: Statement = Statement::write(
    "sealed.reseal",
    "UPDATE sealed SET key_id = $6, sealed = $7, updated_ms = $8 \
     WHERE tenant = $1 AND kind = $2 AND id = $3 AND version = $4 AND key_id = $5",
);
const OTHER_KEYS: Statement = Statement::read(
    "sealed.other_keys",
    "SELECT tenant, kind, id, version, key_id, sealed FROM sealed \
     WHERE key_id <> $1 AND (tenant, kind, id) > ($2, $3, $4) ORDER BY tenant, kind, id LIMIT $5",
);
const DELETE: Statement =
    Statement::write("sealed.delete", "DELETE FROM sealed WHERE tenant = $1 AND kind = $2 AND id = $3");

pub(crate) fn statements() -> Vec<Statement> {
    super::list![GET, INSERT, REPLACE, RESEAL, OTHER_KEYS, DELETE].into()
}

/// Name of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Tenant; empty while there is one.
    pub tenant: String,
    /// What kind of record: `upstream_token`, …
    pub kind: String,
    /// Which one.
    pub id: String,
}

/// One record as stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its name.
    pub key: Key,
    /// Grows with every new content.
    pub version: i64,
    /// Master key under which it is sealed.
    pub key_id: String,
    /// Ciphertext with its header.
    pub sealed: Vec<u8>,
}

fn sealed(row: &Row) -> Result<Sealed, StoreError> {
    Ok(Sealed {
        key: Key {
            tenant: row.text(0, "sealed.tenant")?,
            kind: row.text(1, "sealed.kind")?,
            id: row.text(2, "sealed.id")?,
        },
        version: row.int(3, "sealed.version")?,
        key_id: row.text(4, "sealed.key_id")?,
        sealed: row.blob(5, "sealed.sealed")?,
    })
}

/// Reads one record.
///
/// # Errors
/// When the database does not answer.
pub async fn get(store: &Store, key: &Key) -> Result<Option<Sealed>, StoreError> {
    let args = [Arg::Text(&key.tenant), Arg::Text(&key.kind), Arg::Text(&key.id)];
    store.fetch_optional(&GET, &args).await?.as_ref().map(sealed).transpose()
}

/// Stores a new record; false when there is one of this name.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(store: &Store, new: &Sealed) -> Result<bool, StoreError> {
    let args = [
        Arg::Text(&new.key.tenant),
        Arg::Text(&new.key.kind),
        Arg::Text(&new.key.id),
        Arg::Int(new.version),
        Arg::Text(&new.key_id),
        Arg::Blob(&new.sealed),
        Arg::Int(store.now_ms()),
    ];
    Ok(store.execute(&INSERT, &args).await? == 1)
}

/// Stores a new record as part of a transaction.
pub(crate) async fn insert_in(tx: &mut Tx, new: &Sealed, now_ms: i64) -> Result<(), StoreError> {
    let args = [
        Arg::Text(&new.key.tenant),
        Arg::Text(&new.key.kind),
        Arg::Text(&new.key.id),
        Arg::Int(new.version),
        Arg::Text(&new.key_id),
        Arg::Blob(&new.sealed),
        Arg::Int(now_ms),
    ];
    if tx.execute(&INSERT, &args).await? == 1 { Ok(()) } else { Err(StoreError::Conflict) }
}

/// Replaces the content if the stored version is `old_version`; false when it is not.
///
/// # Errors
/// When the database does not answer.
pub async fn replace(store: &Store, old_version: i64, new: &Sealed) -> Result<bool, StoreError> {
    let args = [
        Arg::Text(&new.key.tenant),
        Arg::Text(&new.key.kind),
        Arg::Text(&new.key.id),
        Arg::Int(old_version),
        Arg::Int(new.version),
        Arg::Text(&new.key_id),
        Arg::Blob(&new.sealed),
        Arg::Int(store.now_ms()),
    ];
    Ok(store.execute(&REPLACE, &args).await? == 1)
}

/// Replaces the ciphertext of the same content by one under another key, if neither the
/// version nor the key changed meanwhile.
///
/// # Errors
/// When the database does not answer.
pub async fn reseal(store: &Store, old_key_id: &str, new: &Sealed) -> Result<bool, StoreError> {
    let args = [
        Arg::Text(&new.key.tenant),
        Arg::Text(&new.key.kind),
        Arg::Text(&new.key.id),
        Arg::Int(new.version),
        Arg::Text(old_key_id),
        Arg::Text(&new.key_id),
        Arg::Blob(&new.sealed),
        Arg::Int(store.now_ms()),
    ];
    Ok(store.execute(&RESEAL, &args).await? == 1)
}

/// Records that are not under `key_id`, after `after` in order of name, at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn under_other_keys(store: &Store, key_id: &str, after: &Key, limit: u32) -> Result<Vec<Sealed>, StoreError> {
    let args = [
        Arg::Text(key_id),
        Arg::Text(&after.tenant),
        Arg::Text(&after.kind),
        Arg::Text(&after.id),
        Arg::Int(i64::from(limit)),
    ];
    store.fetch_all(&OTHER_KEYS, &args).await?.iter().map(sealed).collect()
}

/// Removes a record; false when there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn delete(store: &Store, key: &Key) -> Result<bool, StoreError> {
    let args = [Arg::Text(&key.tenant), Arg::Text(&key.kind), Arg::Text(&key.id)];
    Ok(store.execute(&DELETE, &args).await? == 1)
}
