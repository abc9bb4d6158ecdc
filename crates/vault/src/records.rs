//! Sealed records in the store, and their online rotation.

use bartizan_store::repo::sealed::{self, Key, Sealed};
use bartizan_store::{Store, StoreError};
use zeroize::Zeroizing;

use crate::{Aad, OpenError, SealError, Vault};

/// Records read at once while re-sealing.
const BATCH: u32 = 100;

/// A failed operation on a sealed record.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The record does not open.
    #[error("sealed record {kind}/{id}: {source}")]
    Open {
        /// Kind of record.
        kind: String,
        /// Which one.
        id: String,
        /// Cause.
        #[source]
        source: OpenError,
    },
    /// Nothing could be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Somebody else wrote the record at the same time; read it again.
    #[error("the record was changed meanwhile")]
    Conflict,
}

/// What a rotation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Now under the current key.
    pub done: u64,
    /// Written by somebody else meanwhile, and so already current.
    pub overtaken: u64,
    /// Did not open; left as they are.
    pub failed: u64,
}

/// Sealed records in a store. Cheap to clone.
#[derive(Clone)]
pub struct Records {
    vault: Vault,
    store: Store,
}

impl Records {
    /// Over this vault and store.
    pub fn new(vault: Vault, store: Store) -> Self {
        Self { vault, store }
    }

    /// Opens a record: its version and content. `None` when there is none.
    ///
    /// # Errors
    /// [`RecordsError::Open`] when it is there but does not open.
    pub async fn get(&self, key: &Key) -> Result<Option<(i64, Zeroizing<Vec<u8>>)>, RecordsError> {
        let Some(found) = sealed::get(&self.store, key).await? else { return Ok(None) };
        // By the name that was asked for, not by the one that the row claims.
        let plain = self.vault.open(&aad(key, found.version), &found.sealed).map_err(|e| open_error(key, e))?;
        Ok(Some((found.version, plain)))
    }

    /// Stores content over version `old` (0: there must be none yet). Returns the new version.
    ///
    /// # Errors
    /// [`RecordsError::Conflict`] when the stored version is another.
    pub async fn put(&self, key: &Key, old: i64, plain: &[u8]) -> Result<i64, RecordsError> {
        let version = old + 1;
        let new = self.sealed(key, version, self.vault.seal(&aad(key, version), plain)?);
        let written = match old {
            0 => sealed::insert(&self.store, &new).await?,
            old => sealed::replace(&self.store, old, &new).await?,
        };
        if written { Ok(version) } else { Err(RecordsError::Conflict) }
    }

    /// Stores a record that is not there yet, its versions beginning with `version` (at least
    /// 1): for names that come back and must not repeat a version. Returns that version.
    ///
    /// # Errors
    /// [`RecordsError::Conflict`] when there is one.
    pub async fn create(&self, key: &Key, version: i64, plain: &[u8]) -> Result<i64, RecordsError> {
        let new = self.sealed(key, version, self.vault.seal(&aad(key, version), plain)?);
        if sealed::insert(&self.store, &new).await? { Ok(version) } else { Err(RecordsError::Conflict) }
    }

    /// Removes a record; false when there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete(&self, key: &Key) -> Result<bool, RecordsError> {
        Ok(sealed::delete(&self.store, key).await?)
    }

    /// Seals every record that is under another key again under the current one, while
    /// others read and write. A record that somebody writes meanwhile keeps what they
    /// wrote. After a run without failures the previous key can be removed, unless a
    /// replica still seals under it.
    ///
    /// # Errors
    /// When the store fails; what was done stays done.
    pub async fn reseal_all(&self) -> Result<Resealed, RecordsError> {
        let current = self.vault.current_key().ok_or(SealError)?.to_string();
        let mut result = Resealed::default();
        let mut after = Key { tenant: String::new(), kind: String::new(), id: String::new() };
        loop {
            let batch = sealed::under_other_keys(&self.store, &current, &after, BATCH).await?;
            let Some(last) = batch.last() else { return Ok(result) };
            after = last.key.clone();
            for old in &batch {
                let Ok(bytes) = self.vault.reseal(&aad(&old.key, old.version), &old.sealed) else {
                    tracing::warn!(kind = %old.key.kind, id = %old.key.id, key = %old.key_id, "sealed record does not open");
                    result.failed += 1;
                    continue;
                };
                let new = self.sealed(&old.key, old.version, bytes);
                if sealed::reseal(&self.store, &old.key_id, &new).await? {
                    result.done += 1;
                } else {
                    result.overtaken += 1;
                }
            }
        }
    }

    fn sealed(&self, key: &Key, version: i64, sealed: Vec<u8>) -> Sealed {
        let key_id = self.vault.current_key().map(|id| id.to_string()).unwrap_or_default();
        Sealed { key: key.clone(), version, key_id, sealed }
    }
}

fn aad(key: &Key, version: i64) -> Aad<'_> {
    Aad { tenant: &key.tenant, table: &key.kind, id: &key.id, version }
}

fn open_error(key: &Key, source: OpenError) -> RecordsError {
    RecordsError::Open { kind: key.kind.clone(), id: key.id.clone(), source }
}
