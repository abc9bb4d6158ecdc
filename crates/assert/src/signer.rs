//! Makes assertions.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bartizan_model::{Clock, Principal, PrincipalKind, Secret};
use bartizan_oauth::jwt::{SignError, SigningAlg};
use bartizan_store::repo::change;
use bartizan_store::repo::sealed::Key as Name;
use bartizan_store::{Store, StoreError};
use bartizan_vault::{Records, RecordsError, Vault};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::keys::{Key, KeySet};
use crate::schedule::{self, Due};
use crate::{LIFE_S, feed};

/// Topic of the keys in the change feed.
pub(crate) const TOPIC: &str = "assertion_key";
/// Kind of the sealed record.
const KIND: &str = "assertion_keys";
/// Writers that meet are few; more than this is no accident.
const TRIES: usize = 5;
/// Longest list of groups in an assertion, bytes of JSON: servers refuse headers of about
/// 8 KiB.
const MAX_GROUPS: usize = 4096;

/// What [`Signer`] works with.
pub struct SignerDeps {
    /// Where the keys are kept, sealed.
    pub store: Store,
    /// Seals them.
    pub vault: Vault,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Public URL; `iss`, without a final slash.
    pub public_url: String,
    /// Algorithm of new keys.
    pub alg: SigningAlg,
}

/// What is said to an upstream server.
#[derive(Clone, Copy, Debug)]
pub struct Assertion<'a> {
    /// Who calls.
    pub principal: &'a Principal,
    /// The tag of the server, see [`derived_audience`](crate::derived_audience).
    pub audience: &'a str,
    /// The OAuth client or agent through which the principal calls.
    pub client: Option<&'a str>,
    /// The person who answers for an agent: an e-mail address.
    pub owner: Option<&'a str>,
}

/// Nothing can be signed now.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The keys cannot be read or written.
    #[error("the keys of assertions cannot be had: {0}")]
    Records(#[from] RecordsError),
    /// The store does not answer.
    #[error("the keys of assertions cannot be had: {0}")]
    Store(#[from] StoreError),
    /// A stored key is none, or there is no randomness.
    #[error("an assertion cannot be signed")]
    Sign(#[from] SignError),
    /// Nobody calls, or somebody no rule can name.
    #[error("there is nothing to assert about this caller")]
    Nobody,
}

/// Makes assertions and publishes their keys. Cheap to clone.
#[derive(Clone)]
pub struct Signer {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    records: Records,
    clock: Arc<dyn Clock>,
    issuer: String,
    alg: SigningAlg,
    keys: ArcSwapOption<KeySet>,
    /// One of this process at a time reads, makes and forgets keys.
    turn: tokio::sync::Mutex<()>,
}

impl Signer {
    /// Reads nothing yet. Starts a task that follows the change feed and makes new keys in
    /// time, when there is a Tokio runtime; it ends with the last clone.
    pub fn new(deps: SignerDeps) -> Self {
        let inner = Arc::new(Inner {
            records: Records::new(deps.vault, deps.store.clone()),
            store: deps.store,
            clock: deps.clock,
            issuer: deps.public_url.trim_end_matches('/').to_owned(),
            alg: deps.alg,
            keys: ArcSwapOption::empty(),
            turn: tokio::sync::Mutex::default(),
        });
        feed::spawn(&inner);
        Self { inner }
    }

    /// Signs an assertion about the caller for one server: `iss`, `sub` (`user:…`,
    /// `service:…`), `aud`, `iat`, `exp`, `jti`; `email` of people; `groups`, or
    /// `groups_omitted: true` when they are too many for a header; `client_id`; `owner`.
    /// Each has a `jti` of its own, so that servers can refuse the same one twice: sign for
    /// every request. Warm, it asks nobody.
    ///
    /// # Errors
    /// [`SignerError`]; the call must not go upstream then.
    pub async fn sign(&self, about: &Assertion<'_>) -> Result<Secret<String>, SignerError> {
        let claims = self.inner.claims(about)?;
        let keys = self.inner.keys().await?;
        let key = keys.current(self.inner.clock.now_ms()).ok_or(SignError)?;
        Ok(key.sign("JWT", &claims)?)
    }

    /// The key set for whoever verifies.
    ///
    /// # Errors
    /// [`SignerError`] as long as no keys can be had.
    pub async fn jwks(&self) -> Result<Bytes, SignerError> {
        Ok(self.inner.keys().await?.jwks(self.inner.clock.now_ms()))
    }

    /// Reads the keys anew and does what is due. The background task does this all the time.
    ///
    /// # Errors
    /// [`SignerError`]; the former keys stay in use.
    pub async fn refresh(&self) -> Result<(), SignerError> {
        self.inner.refresh().await.map(drop)
    }
}

impl Inner {
    async fn keys(&self) -> Result<Arc<KeySet>, SignerError> {
        match self.keys.load_full() {
            Some(keys) => Ok(keys),
            None => self.refresh().await,
        }
    }

    /// True when a key is to be made or forgotten.
    pub(crate) fn is_due(&self) -> bool {
        let now = self.clock.now_ms();
        self.keys.load().as_ref().is_none_or(|keys| schedule::due(&keys.keys, now) != Due::Nothing)
    }

    /// Reads the keys, and makes or forgets some when that is due. Of several replicas that
    /// try, the one that writes the next version of the record has done it; the others read
    /// again.
    pub(crate) async fn refresh(&self) -> Result<Arc<KeySet>, SignerError> {
        let _turn = self.turn.lock().await;
        let name = Name { tenant: String::new(), kind: KIND.to_owned(), id: "all".to_owned() };
        for _ in 0..TRIES {
            let stored = match self.records.get(&name).await? {
                Some((version, plain)) => KeySet::restore(version, &plain)?,
                None => KeySet::empty(),
            };
            let now = self.clock.now_ms();
            let mut next = match schedule::due(&stored.keys, now) {
                Due::Nothing => return Ok(self.take(stored)),
                Due::Make { from_ms } => {
                    let mut next = stored;
                    next.keys.push(Key::generate(self.alg, from_ms)?);
                    next
                }
                Due::Forget => stored.without_old(now),
            };
            match self.records.put(&name, next.version, &next.plain()?).await {
                Ok(version) => {
                    next.version = version;
                    change::append(&self.store, TOPIC, "all").await?;
                    tracing::info!(keys = next.keys.len(), "the keys of assertions changed");
                    return Ok(self.take(next));
                }
                Err(RecordsError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RecordsError::Conflict.into())
    }

    fn take(&self, keys: KeySet) -> Arc<KeySet> {
        let keys = Arc::new(keys);
        self.keys.store(Some(Arc::clone(&keys)));
        keys
    }

    fn claims(&self, about: &Assertion<'_>) -> Result<Map<String, Value>, SignerError> {
        let Assertion { principal, audience, client, owner } = *about;
        if principal.kind == PrincipalKind::Anonymous || !principal.is_proper() {
            return Err(SignerError::Nobody);
        }
        let mut id = [0u8; 16];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| SignError)?;
        let now = self.clock.now_ms().div_euclid(1000);
        let mut claims = Map::new();
        let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        put("iss", self.issuer.as_str().into());
        put("sub", (**principal.key()).into());
        put("aud", audience.into());
        put("iat", now.into());
        put("exp", now.saturating_add(LIFE_S).into());
        put("jti", URL_SAFE_NO_PAD.encode(id).into());
        if principal.kind == PrincipalKind::User && principal.id.contains('@') {
            put("email", (*principal.id).into());
        }
        let groups = Value::from(principal.groups.iter().map(|group| Value::from(&**group)).collect::<Vec<_>>());
        // Never some of them: a server may forbid by group.
        match groups.to_string().len() <= MAX_GROUPS {
            true => put("groups", groups),
            false => put("groups_omitted", true.into()),
        };
        if let Some(client) = client {
            put("client_id", client.into());
        }
        if let Some(owner) = owner {
            put("owner", owner.into());
        }
        Ok(claims)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("issuer", &self.inner.issuer).finish_non_exhaustive()
    }
}
