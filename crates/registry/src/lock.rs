//! `bartizan.lock`: the pins of everything approved, for Git (P48).

use std::collections::BTreeMap;

use bartizan_store::repo::definition;
use serde::{Deserialize, Serialize};

use crate::registry::{Registry, RegistryError};

/// Pins by server, then by `KIND/NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Version of this form: 1.
    pub version: u32,
    /// The pins.
    pub definitions: BTreeMap<String, BTreeMap<String, String>>,
}

/// One difference between two lock files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Server id.
    pub server: String,
    /// `KIND/NAME`.
    pub definition: String,
    /// Pin in the file.
    pub locked: Option<String>,
    /// Pin that is approved.
    pub approved: Option<String>,
}

impl Lock {
    /// Reads a lock file.
    ///
    /// # Errors
    /// When it is none, or of a version that is not known.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lock: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if lock.version == 1 { Ok(lock) } else { Err(format!("version {} is not known", lock.version)) }
    }

    /// The text of the file: the same for the same pins.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Where this lock and another one differ.
    pub fn compare(&self, approved: &Self) -> Vec<Difference> {
        let flat = |lock: &Self| -> BTreeMap<(String, String), String> {
            let each = |(server, pins): (&String, &BTreeMap<String, String>)| {
                let server = server.clone();
                pins.iter().map(move |(name, pin)| ((server.clone(), name.clone()), pin.clone())).collect::<Vec<_>>()
            };
            lock.definitions.iter().flat_map(each).collect()
        };
        let (own, other) = (flat(self), flat(approved));
        let mut keys: Vec<_> = own.keys().chain(other.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let differing = keys.into_iter().filter(|key| own.get(*key) != other.get(*key));
        let tell = |key: &(String, String)| Difference {
            server: key.0.clone(),
            definition: key.1.clone(),
            locked: own.get(key).cloned(),
            approved: other.get(key).cloned(),
        };
        differing.map(tell).collect()
    }
}

impl Registry {
    /// The pins of everything approved.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub async fn lock(&self) -> Result<Lock, RegistryError> {
        let mut definitions: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for server in definition::servers(&self.0.store).await? {
            for row in definition::of_server(&self.0.store, &server).await? {
                if let Some(pin) = row.approved {
                    definitions.entry(server.clone()).or_default().insert(format!("{}/{}", row.kind, row.name), pin);
                }
            }
        }
        Ok(Lock { version: 1, definitions })
    }
}
