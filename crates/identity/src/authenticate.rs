//! From headers to a principal. A warm answer touches nothing but memory.

mod access;
mod agent;
mod feed;
mod still;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bartizan_model::{Clock, Principal, PrincipalKind, Secret};
use bartizan_oauth::scope::ScopeSet;
use bartizan_store::Store;
use bartizan_store::repo::service_token::{self as repo, ServiceToken};
use http::HeaderMap;
use moka::sync::Cache;
use tokio::sync::Semaphore;

use crate::credential::{self, Credential};
use crate::error::{AuthError, AuthErrorKind};
use crate::login::KnownProvider;
use crate::sealing::GrantKeys;
use crate::secret::{self, ID_PREFIX};
use crate::server::{Agents, is_access_token};
use crate::tokens::Tokens;
pub use access::GrantInfo;
use access::{KnownAccess, KnownGrant};
use feed::Freshness;
pub use still::Held;

/// Credentials kept in memory.
const CACHE: u64 = 10_000;
/// Credentials with open streams remembered for times without a database.
const CONFIRMED: u64 = 100_000;
/// How long an answer is kept without being asked for again. Correctness does not depend
/// on it: every change empties the entry, and a stale feed bypasses the cache.
const CACHE_IDLE: Duration = Duration::from_secs(600);
/// How long an unknown credential is remembered as such.
const NEGATIVE: Duration = Duration::from_secs(2);
/// Look-ups in the database at once; a flood of unknown credentials waits here.
const LOOKUPS: usize = 8;
/// The last use of a token is written at most this often, milliseconds (A11).
const USED_EVERY_MS: i64 = 5 * 60 * 1000;

/// A recognised caller. Holds nothing of the credential (A18).
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// Who; one allocation for all requests of the same caller.
    pub principal: Arc<Principal>,
    /// Which credential: a service token's client id, `grant:ID`, or `dev:NAME`.
    pub credential_id: Arc<str>,
    /// The one resource (canonical URL) the credential is good for. Whoever serves another
    /// must answer 401 (A18). `None`: not bound to one.
    pub resource: Option<Arc<str>>,
    /// Scopes of the credential. `None`: not limited by scopes.
    pub scopes: Option<Arc<ScopeSet>>,
    /// What a person let a client do. `None` for other credentials.
    pub grant: Option<Arc<GrantInfo>>,
    /// For asking later whether it is good still.
    pub held: Held,
}

impl Authenticated {
    /// By a credential that is good everywhere.
    fn unbound(principal: Arc<Principal>, credential_id: Arc<str>, held: Held) -> Self {
        Self { principal, credential_id, resource: None, scopes: None, grant: None, held }
    }
}

/// A token's row, as long as nothing changed.
struct Known {
    token: ServiceToken,
    authenticated: Authenticated,
    last_used_ms: AtomicI64,
    /// Generation of the cache before the row was read; an older one is not believed.
    generation: u64,
}

/// Tells who calls. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
    dev: Arc<HashMap<[u8; 32], Authenticated>>,
}

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    tokens: Tokens,
    /// By hash of the credential.
    known: Cache<[u8; 32], Arc<Known>>,
    unknown: Cache<[u8; 32], u64>,
    /// Access tokens, by hash.
    access: Cache<[u8; 32], Arc<KnownAccess>>,
    /// What opens grants.
    keys: GrantKeys,
    /// Grants of streams whose access token ended, by id.
    grants: Cache<Arc<str>, KnownGrant>,
    /// When a held credential was last found good; only for times without a database.
    confirmed: Cache<[u8; 32], tokio::time::Instant>,
    lookups: Semaphore,
    freshness: Freshness,
    /// Whether a provider speaks for people still.
    known_provider: OnceLock<KnownProvider>,
    /// The agents of the configuration in use.
    agents: OnceLock<Agents>,
}

impl Identity {
    /// Over this store. Starts a task that follows the change feed, so that what another
    /// process changes is seen here within two seconds; it ends with the last clone.
    /// Outside of a Tokio runtime there is no such task, and every request is checked
    /// against the database.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        let inner = Arc::new(Inner {
            tokens: Tokens::new(store.clone(), Arc::clone(&clock)),
            store,
            clock,
            known: Cache::builder().max_capacity(CACHE).time_to_idle(CACHE_IDLE).build(),
            unknown: Cache::builder().max_capacity(CACHE).time_to_live(NEGATIVE).build(),
            access: Cache::builder().max_capacity(CACHE).time_to_idle(CACHE_IDLE).build(),
            keys: GrantKeys::default(),
            grants: Cache::builder().max_capacity(CACHE).time_to_idle(CACHE_IDLE).build(),
            confirmed: Cache::builder().max_capacity(CONFIRMED).time_to_live(CACHE_IDLE).build(),
            lookups: Semaphore::new(LOOKUPS),
            freshness: Freshness::default(),
            known_provider: OnceLock::new(),
            agents: OnceLock::new(),
        });
        feed::spawn(&inner);
        Self { inner, dev: Arc::default() }
    }

    /// Adds users with fixed bearer tokens. Only `bartizan dev` calls this.
    #[must_use]
    pub fn with_dev_users(mut self, users: Vec<(Principal, Secret<String>)>) -> Self {
        let users = users.into_iter().map(|(principal, token)| {
            let credential_id = format!("dev:{}", principal.id).into();
            let held = Held::fixed(&credential_id);
            (secret::hash(token.expose()), Authenticated::unbound(Arc::new(principal), credential_id, held))
        });
        self.dev = Arc::new(self.dev.iter().map(|(hash, user)| (*hash, user.clone())).chain(users).collect());
        self
    }

    /// Refuses access tokens of people for whom no provider speaks any more. Asked at every
    /// request, so it must only look into memory.
    #[must_use]
    pub fn with_providers(self, known: KnownProvider) -> Self {
        // Given once, before anything is served.
        let _ = self.inner.known_provider.set(known);
        self
    }

    /// Adds agents (A27). Without this call their tokens are not believed.
    #[must_use]
    pub fn with_agents(self, agents: Agents) -> Self {
        let _ = self.inner.agents.set(agents);
        self
    }

    /// The keys of grants whose tokens were shown lately.
    pub fn grant_keys(&self) -> GrantKeys {
        self.inner.keys.clone()
    }

    /// Administration of service tokens. What it changes is effective here at the next
    /// request after [`Identity::refresh`], elsewhere within two seconds.
    pub fn tokens(&self) -> &Tokens {
        &self.inner.tokens
    }

    /// Who sends these headers. `None`: no credential was offered.
    ///
    /// # Errors
    /// [`AuthError`] when one was offered and is not good. The caller answers 401 for
    /// every kind, and never falls back to anonymous.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Option<Authenticated>, AuthError> {
        match credential::find(headers)? {
            None => Ok(None),
            Some(Credential::Bearer(token)) if is_access_token(&token) => {
                let hash = secret::hash(&token);
                let known = match self.inner.cached_access(&hash)?.filter(|known| known.is_open) {
                    Some(known) => known,
                    None => self.inner.look_up_access(&hash, &token).await?,
                };
                self.inner.check_access(&known).map(Some)
            }
            Some(Credential::Bearer(token)) => {
                // Looked up by hash, so the time tells nothing about the token.
                let user = self.dev.get(&secret::hash(&token));
                user.cloned().map(Some).ok_or_else(|| AuthErrorKind::Unknown.into())
            }
            Some(Credential::Service { id, secret }) => {
                let hash = secret::hash(&secret);
                let known = match self.inner.cached(&hash)? {
                    Some(known) => known,
                    None => self.inner.look_up(&id, &hash).await?,
                };
                self.inner.check(&known, &hash).map(Some)
            }
        }
    }

    /// Takes in what changed since the last look. The background task does this all the
    /// time; call it to see a change of one's own at once.
    ///
    /// # Errors
    /// When the database does not answer; after two seconds of that, credentials are no
    /// longer believed from memory.
    pub async fn refresh(&self) -> Result<(), bartizan_store::StoreError> {
        self.inner.refresh().await
    }
}

impl Inner {
    /// The warm path.
    fn cached(&self, hash: &[u8; 32]) -> Result<Option<Arc<Known>>, AuthError> {
        if !self.freshness.is_fresh() {
            return Ok(None);
        }
        let generation = self.freshness.generation();
        if let Some(known) = self.known.get(hash).filter(|known| known.generation == generation) {
            return Ok(Some(known));
        }
        if self.unknown.get(hash) == Some(generation) {
            return Err(AuthErrorKind::Unknown.into());
        }
        Ok(None)
    }

    async fn look_up(&self, id: &str, hash: &[u8; 32]) -> Result<Arc<Known>, AuthError> {
        let unavailable = |_| AuthError::from(AuthErrorKind::Unavailable);
        let _permit = self.lookups.acquire().await.map_err(unavailable)?;
        self.read(id, hash).await
    }

    /// Reads a token's row and keeps it.
    async fn read(&self, id: &str, hash: &[u8; 32]) -> Result<Arc<Known>, AuthError> {
        // A change between reading the row and keeping it makes what is kept worthless.
        let generation = self.freshness.generation();
        let row = repo::by_id(&self.store, id).await.map_err(|error| {
            tracing::warn!(%error, "a service token could not be checked");
            AuthError::from(AuthErrorKind::Unavailable)
        })?;
        let Some(token) = row.filter(|token| matches(token, hash)) else {
            self.unknown.insert(*hash, generation);
            return Err(AuthErrorKind::Unknown.into());
        };
        let principal = Arc::new(Principal::new(PrincipalKind::Service, token.name.as_str(), []));
        let credential_id = format!("{ID_PREFIX}{}", token.id).into();
        let last_used_ms = AtomicI64::new(token.last_used_ms.unwrap_or(i64::MIN));
        let held = Held::service(token.id.as_str().into(), *hash);
        let authenticated = Authenticated::unbound(principal, credential_id, held);
        let known = Arc::new(Known { token, authenticated, last_used_ms, generation });
        self.known.insert(*hash, Arc::clone(&known));
        Ok(known)
    }

    /// What time decides, on every request.
    fn check(&self, known: &Known, hash: &[u8; 32]) -> Result<Authenticated, AuthError> {
        let (token, now) = (&known.token, self.clock.now_ms());
        let refuse = |kind| Err(AuthError { kind, principal: Some(Arc::clone(known.authenticated.principal.key())) });
        let is_current = secret::same(&token.hash, hash);
        let in_grace = token.previous_until_ms.is_some_and(|until| now < until);
        if !is_current && !in_grace {
            return refuse(AuthErrorKind::Expired);
        }
        if token.suspended_ms.is_some() {
            return refuse(AuthErrorKind::Suspended);
        }
        if token.expires_ms.is_some_and(|end| now >= end) {
            return refuse(AuthErrorKind::Expired);
        }
        self.note_use(known, now);
        Ok(known.authenticated.clone())
    }

    /// Writes the last use behind the answer, at most every five minutes.
    fn note_use(&self, known: &Known, now: i64) {
        let last = known.last_used_ms.load(Ordering::Relaxed);
        if now.saturating_sub(USED_EVERY_MS) < last {
            return;
        }
        let claimed = known.last_used_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        let (Ok(_), Ok(runtime)) = (claimed, tokio::runtime::Handle::try_current()) else { return };
        let (store, id) = (self.store.clone(), known.token.id.clone());
        runtime.spawn(async move {
            if let Err(error) = repo::used(&store, &id, now, USED_EVERY_MS).await {
                tracing::warn!(%error, "the last use of a service token was not written");
            }
        });
    }
}

/// True for the current secret and for the previous one; both are always compared.
fn matches(token: &ServiceToken, hash: &[u8; 32]) -> bool {
    let current = secret::same(&token.hash, hash);
    let previous = secret::same(token.previous_hash.as_deref().unwrap_or(&[0; 32]), hash);
    current | previous
}
