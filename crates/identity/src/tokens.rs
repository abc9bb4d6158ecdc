//! Administration of service tokens. Needs only the store, so that the command line can
//! do it while a server runs.

use std::time::Duration;

use bartizan_model::{Clock, Secret};
use bartizan_store::repo::service_token::{self as repo, ServiceToken};
use bartizan_store::{Store, StoreError};
use std::sync::Arc;

use crate::secret;

/// Tokens unused for longer are removed by the clean-up (A11).
pub const MAX_IDLE: Duration = Duration::from_secs(90 * 24 * 3600);

/// Rows read at once.
const PAGE: u32 = 500;

/// A failed operation on tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The name does not follow the grammar.
    #[error("token name `{0}` must be 1 to 64 characters of a-z, 0-9, `-`, `_`, `.`")]
    Name(String),
    /// There is a token of this name.
    #[error("there is a token named `{0}`")]
    Taken(String),
    /// There is no token of this name or id.
    #[error("there is no token `{0}`")]
    Missing(String),
    /// The machine has no randomness.
    #[error("no randomness")]
    Random,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What may be shown of a token. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// The part that goes into `…-Client-Id`.
    pub client_id: String,
    /// What policies call `service:NAME`.
    pub name: String,
    /// When it was made.
    pub created_ms: i64,
    /// When it ends; `None` never.
    pub expires_ms: Option<i64>,
    /// Since when it is suspended.
    pub suspended_ms: Option<i64>,
    /// Last use, exact to five minutes.
    pub last_used_ms: Option<i64>,
    /// Until when the secret before the last rotation is good.
    pub previous_until_ms: Option<i64>,
}

impl From<ServiceToken> for TokenInfo {
    fn from(row: ServiceToken) -> Self {
        Self {
            client_id: format!("{}{}", secret::ID_PREFIX, row.id),
            name: row.name,
            created_ms: row.created_ms,
            expires_ms: row.expires_ms,
            suspended_ms: row.suspended_ms,
            last_used_ms: row.last_used_ms,
            previous_until_ms: row.previous_until_ms,
        }
    }
}

/// Makes and ends service tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Tokens {
    /// Over this store.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Makes a token. Returns the client id and the secret, which is shown this once:
    /// only its hash is kept.
    ///
    /// # Errors
    /// [`TokenError::Name`], [`TokenError::Taken`], or the store's.
    pub async fn create(&self, name: &str, ttl: Option<Duration>) -> Result<(String, Secret<String>), TokenError> {
        check_name(name)?;
        let id = secret::new_id().map_err(|_| TokenError::Random)?;
        let new = secret::new_secret(&id).map_err(|_| TokenError::Random)?;
        let expires = ttl.map(|ttl| self.clock.now_ms().saturating_add(millis(ttl)));
        match repo::insert(&self.store, &id, name, &secret::hash(new.expose()), expires).await {
            Ok(()) => Ok((format!("{}{id}", secret::ID_PREFIX), new)),
            Err(StoreError::Conflict) => Err(TokenError::Taken(name.to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a token a new secret. The present one stays good for `grace`; the one before
    /// it ends now.
    ///
    /// # Errors
    /// [`TokenError::Missing`] or the store's.
    pub async fn rotate(&self, token: &str, grace: Duration) -> Result<Secret<String>, TokenError> {
        let id = self.find(token).await?.id;
        let new = secret::new_secret(&id).map_err(|_| TokenError::Random)?;
        let until = self.clock.now_ms().saturating_add(millis(grace));
        if repo::rotate(&self.store, &id, &secret::hash(new.expose()), until).await? {
            Ok(new)
        } else {
            Err(TokenError::Missing(token.to_owned()))
        }
    }

    /// Suspends a token until [`Tokens::resume`]. Returns false when it was already.
    ///
    /// # Errors
    /// [`TokenError::Missing`] or the store's.
    pub async fn suspend(&self, token: &str) -> Result<bool, TokenError> {
        Ok(repo::suspend(&self.store, &self.find(token).await?.id).await?)
    }

    /// Ends a suspension. Returns false when there was none.
    ///
    /// # Errors
    /// [`TokenError::Missing`] or the store's.
    pub async fn resume(&self, token: &str) -> Result<bool, TokenError> {
        Ok(repo::resume(&self.store, &self.find(token).await?.id).await?)
    }

    /// Removes a token.
    ///
    /// # Errors
    /// [`TokenError::Missing`] or the store's.
    pub async fn delete(&self, token: &str) -> Result<(), TokenError> {
        repo::delete(&self.store, &self.find(token).await?.id).await?;
        Ok(())
    }

    /// All tokens in order of name.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self) -> Result<Vec<TokenInfo>, TokenError> {
        let mut all: Vec<TokenInfo> = Vec::new();
        loop {
            let after = all.last().map(|last| last.name.clone()).unwrap_or_default();
            let page = repo::list(&self.store, &after, PAGE).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page.into_iter().map(TokenInfo::from));
        }
    }

    /// Removes tokens that were neither used nor made within `max_idle` (A11: [`MAX_IDLE`]).
    /// Returns those removed, for the record.
    ///
    /// # Errors
    /// The store's; what was removed stays removed.
    pub async fn sweep_inactive(&self, max_idle: Duration) -> Result<Vec<TokenInfo>, TokenError> {
        let before = self.clock.now_ms().saturating_sub(millis(max_idle));
        let mut removed = Vec::new();
        loop {
            let page = repo::inactive(&self.store, before, PAGE).await?;
            if page.is_empty() {
                return Ok(removed);
            }
            for token in page {
                if repo::delete_inactive(&self.store, &token.id, before).await? {
                    removed.push(TokenInfo::from(token));
                }
            }
        }
    }

    /// By client id or by name.
    async fn find(&self, token: &str) -> Result<ServiceToken, TokenError> {
        let found = match secret::id_of_client(token) {
            Some(id) => repo::by_id(&self.store, id).await?,
            None => repo::by_name(&self.store, token).await?,
        };
        found.ok_or_else(|| TokenError::Missing(token.to_owned()))
    }
}

fn check_name(name: &str) -> Result<(), TokenError> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    // A name in the form of a client id could not be told from one.
    if (1..=64).contains(&name.len()) && name.bytes().all(good) && secret::id_of_client(name).is_none() {
        Ok(())
    } else {
        Err(TokenError::Name(name.chars().take(80).collect()))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
