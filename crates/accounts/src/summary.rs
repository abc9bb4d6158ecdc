//! What may be read back of the secrets of servers (feature row P5): that there are some, and
//! which version. A version rises when the value changes, on every replica alike.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bartizan_catalog::ServerSpec;
use bartizan_model::ServerId;
use bartizan_store::repo::sealed::Key;
use bartizan_vault::RecordsError;
use serde::Serialize;

use crate::accounts::{AccountError, Accounts, Inner, hash};

/// Attempts next to other replicas that do the same.
const ATTEMPTS: usize = 5;

/// `auth_config_summary`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SecretSummary {
    /// Whether there are secrets.
    pub has_client_secret: bool,
    /// Counts their values; 0 before the first.
    pub client_secret_version: i64,
}

/// Summaries by server, each with the version of the settings it is about.
#[derive(Default)]
pub(crate) struct Summaries(Mutex<HashMap<ServerId, (Box<str>, SecretSummary)>>);

impl Accounts {
    /// What is known of a server's secrets; `None` before [`Self::count_secrets`] has seen
    /// these settings.
    pub fn summary(&self, spec: &ServerSpec) -> Option<SecretSummary> {
        let known = self.inner.summaries.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&spec.id).filter(|(version, _)| **version == *spec.version).map(|(_, summary)| *summary)
    }

    /// Compares the secrets of a server with those seen last, and counts.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn count_secrets(&self, spec: &ServerSpec) -> Result<SecretSummary, AccountError> {
        let summary = Box::pin(self.inner.count(spec)).await?;
        let mut known = self.inner.summaries.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(spec.id.clone(), ((*spec.version).into(), summary));
        Ok(summary)
    }
}

impl Inner {
    async fn count(&self, spec: &ServerSpec) -> Result<SecretSummary, AccountError> {
        let key = Key { tenant: String::new(), kind: "secret_version".to_owned(), id: spec.id.to_string() };
        let secrets = spec.credential.secrets();
        let mut all = zeroize::Zeroizing::new(String::new());
        for secret in &secrets {
            all.push_str(&format!("{}:{}", secret.expose().len(), secret.expose().as_str()));
        }
        // Sealed like everything else: nobody can try guesses against it.
        let now = hash("secret version", &all);
        for _ in 0..ATTEMPTS {
            let known = self.records.get(&key).await?;
            let version = known.as_ref().map_or(0, |(version, _)| *version);
            let same = known.is_some_and(|(_, plain)| *plain == now);
            if same || secrets.is_empty() {
                return Ok(SecretSummary { has_client_secret: !secrets.is_empty(), client_secret_version: version });
            }
            match self.records.put(&key, version, &now).await {
                Ok(version) => return Ok(SecretSummary { has_client_secret: true, client_secret_version: version }),
                Err(RecordsError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(AccountError::Unavailable("others count the same secrets".to_owned()))
    }
}
