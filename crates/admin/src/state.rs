//! Objects as they stand in the store, with their secrets opened.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bartizan_config::objects::Kind;
use bartizan_model::EventId;
use bartizan_store::Store;
use bartizan_store::repo::resource::{self, SECRETS};
use bartizan_store::repo::sealed::{Key, Sealed};
use bartizan_vault::{Aad, Records, RecordsError, Vault};
use serde_json::Value;

use crate::problem::AdminError;
use crate::secrets::{self, SecretSet};

/// An object of the store.
#[derive(Clone)]
pub struct Object {
    /// Kind of object.
    pub kind: Kind,
    /// Which one.
    pub id: String,
    /// The revision that made this version.
    pub revision: i64,
    /// The object; an empty text stands where a secret is.
    pub body: Value,
    pub(crate) secret_id: Option<String>,
    pub(crate) secrets: Arc<SecretSet>,
    /// Its secrets do not open: it is not used.
    pub(crate) unreadable: bool,
}

impl Object {
    /// The object with its secrets; compiled at once and written nowhere.
    pub(crate) fn filled(&self) -> Value {
        let mut body = self.body.clone();
        self.secrets.fill(self.kind, &mut body);
        body
    }

    /// The object as it may be shown.
    pub fn public(&self) -> Value {
        secrets::public(self.kind, &self.body, &self.secrets, true)
    }
}

/// All objects of the store at one revision.
#[derive(Clone, Default)]
pub struct State {
    /// Revision of the whole.
    pub revision: i64,
    /// The objects, in the order of their kinds.
    pub objects: BTreeMap<(Kind, String), Object>,
}

impl State {
    /// One object.
    pub fn get(&self, kind: Kind, id: &str) -> Option<&Object> {
        self.objects.get(&(kind, id.to_owned()))
    }

    /// All of them.
    pub fn list(&self) -> Vec<Object> {
        self.objects.values().cloned().collect()
    }
}

/// Reads objects. Opened secrets are kept in memory: a sealed record never changes.
#[derive(Clone)]
pub struct Reader {
    store: Store,
    vault: Vault,
    opened: Arc<Mutex<HashMap<String, Arc<SecretSet>>>>,
}

impl Reader {
    /// Over this store.
    pub fn new(store: Store, vault: Vault) -> Self {
        Self { store, vault, opened: Arc::default() }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Everything that is in use.
    ///
    /// # Errors
    /// When the store does not answer or a secret does not open.
    pub async fn state(&self) -> Result<State, AdminError> {
        let (revision, rows) = resource::live(&self.store).await?;
        let mut objects = BTreeMap::new();
        for row in rows {
            // A newer process knows kinds that this one does not.
            let Some(kind) = Kind::parse(&row.kind) else { continue };
            let object = self.object(kind, row.id.clone(), row.since_rev, &row.body, row.secret_id).await?;
            objects.insert((kind, row.id), object);
        }
        let known: Vec<&str> = objects.values().filter_map(|object: &Object| object.secret_id.as_deref()).collect();
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| known.contains(&id.as_str()));
        Ok(State { revision, objects })
    }

    pub(crate) async fn object(
        &self,
        kind: Kind,
        id: String,
        revision: i64,
        body: &str,
        secret_id: Option<String>,
    ) -> Result<Object, AdminError> {
        let body = serde_json::from_str(body)
            .map_err(|_| AdminError::Store(bartizan_store::StoreError::Data("resource.body")))?;
        let (secrets, unreadable) = match &secret_id {
            None => (Arc::default(), false),
            Some(name) => match self.secrets(name).await {
                Ok(secrets) => (secrets, false),
                Err(AdminError::Sealed) => (Arc::default(), true),
                Err(error) => return Err(error),
            },
        };
        Ok(Object { kind, id, revision, body, secret_id, secrets, unreadable })
    }

    async fn secrets(&self, id: &str) -> Result<Arc<SecretSet>, AdminError> {
        let held = self.opened.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(held) = held {
            return Ok(held);
        }
        let records = Records::new(self.vault.clone(), self.store.clone());
        let found = records.get(&key(id)).await.map_err(|error| match error {
            RecordsError::Store(error) => AdminError::Store(error),
            other => {
                tracing::error!(error = %other, "the secrets of an object do not open");
                AdminError::Sealed
            }
        })?;
        let (_, bytes) = found.ok_or(AdminError::Sealed)?;
        let set = Arc::new(SecretSet::from_bytes(&bytes).ok_or(AdminError::Sealed)?);
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), Arc::clone(&set));
        Ok(set)
    }

    /// Secrets as a record of the store.
    pub(crate) fn seal(&self, secrets: &SecretSet, now_ms: i64) -> Result<Sealed, AdminError> {
        let key = key(&EventId::new(now_ms).to_string());
        let aad = Aad { tenant: &key.tenant, table: &key.kind, id: &key.id, version: 1 };
        let sealed = self.vault.seal(&aad, &secrets.to_bytes()).map_err(|_| AdminError::Sealed)?;
        let key_id = self.vault.current_key().map(|id| id.to_string()).ok_or(AdminError::Sealed)?;
        Ok(Sealed { key, version: 1, key_id, sealed })
    }
}

fn key(id: &str) -> Key {
    Key { tenant: String::new(), kind: SECRETS.to_owned(), id: id.to_owned() }
}
