//! Browser sessions: a cookie with 256 random bits, of which only the hash is stored.

use std::fmt;
use std::sync::Arc;

use bartizan_model::{Clock, Secret, SignInFacts};
use bartizan_store::repo::{browser_session as repo, person};
use bartizan_store::{Store, StoreError};
use bartizan_vault::{HandleSealer, Vault};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use super::cookie::{self, Cookies};
use super::{KnownProvider, random};
use crate::facts::{self, KeptFacts};
use crate::problem::PageProblem;
use crate::sealing;
use crate::secret;

/// Purpose of the sealed handles that protect forms.
const CSRF: &str = "console csrf v1";
/// What the facts of a sign-in are sealed for.
const SEALED: &str = "browser session v1";
/// Purpose of the sealed notes of what a person agreed to.
const AGREED: &str = "console agreed v1";

/// A person, as known since the last sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Our id.
    pub id: String,
    /// Provider of the last sign-in.
    pub provider: String,
    /// Issuer that speaks for the person.
    pub issuer: String,
    /// The person's name at the issuer.
    pub subject: String,
    /// Address in the form of [`bartizan_model::fold_user_id`]; the id of the principal.
    pub email: String,
    /// Name for people; may be anything, pages escape it.
    pub name: String,
    /// Group names as of the last sign-in.
    pub groups: Vec<String>,
}

impl TryFrom<person::Person> for Person {
    type Error = StoreError;

    fn try_from(row: person::Person) -> Result<Self, StoreError> {
        let groups = serde_json::from_str(&row.groups_json).map_err(|_| StoreError::Data("person.groups_json"))?;
        let person::Person { id, provider, issuer, subject, email, name, .. } = row;
        Ok(Self { id, provider, issuer, subject, email, name, groups })
    }
}

/// Somebody signed in with this browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrowserSession {
    /// Name of the session; no secret.
    pub id: String,
    /// Who.
    pub person: Arc<Person>,
    /// When the person authenticated at the provider, milliseconds since the epoch; 0 when
    /// the provider did not say, which is never recent enough for a step-up.
    pub auth_time_ms: i64,
    /// Authentication methods (RFC 8176).
    pub amr: Vec<String>,
    /// Authentication context class.
    pub acr: Option<String>,
    /// What else the sign-in told.
    pub kept: KeptFacts,
    /// Provider that was signed in with.
    pub provider: String,
    /// Sign-in here, milliseconds since the epoch.
    pub created_ms: i64,
    /// End, milliseconds since the epoch.
    pub expires_ms: i64,
}

impl BrowserSession {
    /// The facts of the sign-in, as policies see them.
    pub fn facts(&self) -> SignInFacts {
        facts::for_policies(&self.provider, self.auth_time_ms, &self.amr, self.acr.as_deref(), &self.kept)
    }
}

/// What a sign-in says about how somebody authenticated; kept for whoever has the cookie.
#[derive(Serialize, Deserialize)]
pub(super) struct Authentication {
    pub(super) auth_time_ms: i64,
    pub(super) amr: Vec<String>,
    pub(super) acr: Option<String>,
    pub(super) kept: KeptFacts,
}

/// Finds, makes and ends browser sessions. Cheap to clone.
#[derive(Clone)]
pub struct BrowserSessions {
    store: Store,
    clock: Arc<dyn Clock>,
    handles: HandleSealer,
    cookies: Cookies,
    life_ms: i64,
    known: Option<KnownProvider>,
}

impl BrowserSessions {
    /// Over this store. `public_url` decides about the cookie: with `https` it is
    /// `__Host-bartizan` and `Secure`; without (only `dev`, on loopback) plain `bartizan`.
    /// Sessions last `life_s` seconds.
    pub fn new(store: Store, vault: &Vault, clock: Arc<dyn Clock>, public_url: &str, life_s: u64) -> Self {
        let life_ms = i64::try_from(life_s.saturating_mul(1000)).unwrap_or(i64::MAX);
        Self { store, clock, handles: vault.handles(), cookies: Cookies::new(public_url), life_ms, known: None }
    }

    /// Sessions of people for whom no provider speaks any more are none.
    #[must_use]
    pub fn with_providers(self, known: KnownProvider) -> Self {
        Self { known: Some(known), ..self }
    }

    /// The session of a request. `None` without one, when it ended, when its person is
    /// deactivated, and when that cannot be found out.
    pub async fn current(&self, headers: &HeaderMap) -> Option<BrowserSession> {
        let cookie = self.cookies.find(headers, cookie::SESSION)?;
        let found = match repo::current(&self.store, &secret::hash(cookie)).await {
            Ok(found) => found.map(|found| session(cookie, found)),
            Err(error) => Some(Err(error)),
        };
        match found? {
            Ok(session) => {
                let speaks = |known: &KnownProvider| known(&session.provider, &session.person.issuer);
                self.known.as_ref().is_none_or(speaks).then_some(session)
            }
            Err(error) => {
                tracing::warn!(%error, "a browser session could not be read");
                None
            }
        }
    }

    /// A token for the forms of a page, good for this session only. Empty, and then never
    /// accepted, when the machine has no randomness.
    pub fn csrf(&self, session: &BrowserSession) -> String {
        self.handles.seal(CSRF, session.id.as_bytes()).unwrap_or_default()
    }

    /// Whether a form came from a page of this session.
    pub fn check_csrf(&self, session: &BrowserSession, token: &str) -> bool {
        self.handles.open(CSRF, token).is_ok_and(|id| secret::same(&id, session.id.as_bytes()))
    }

    /// Notes in a sealed text that the person of this session agreed to something, to be
    /// shown again later in the same session. Empty, and then never accepted, when the machine
    /// has no randomness.
    pub fn agree(&self, session: &BrowserSession, what: &str) -> String {
        self.handles.seal(AGREED, format!("{}\n{what}", session.id).as_bytes()).unwrap_or_default()
    }

    /// Whether a text is from [`Self::agree`] of this session, about the same.
    pub fn has_agreed(&self, session: &BrowserSession, what: &str, text: &str) -> bool {
        let wanted = format!("{}\n{what}", session.id);
        self.handles.open(AGREED, text).is_ok_and(|said| secret::same(&said, wanted.as_bytes()))
    }

    /// Ends a session; the value is for `Set-Cookie`.
    ///
    /// # Errors
    /// A problem to show when the session could not be ended; it is good still then.
    pub async fn end(&self, session: &BrowserSession) -> Result<HeaderValue, PageProblem> {
        match repo::end(&self.store, &session.id).await {
            Ok(_) => Ok(self.cookies.clear(cookie::SESSION)),
            Err(error) => Err(super::problem::store(&error)),
        }
    }

    /// Begins a session under a name nobody knew before (session fixation), and ends the
    /// one the browser had. Returns it with the value for `Set-Cookie`.
    pub(super) async fn begin(
        &self,
        person: person::Person,
        how: Authentication,
        provider: &str,
        headers: &HeaderMap,
    ) -> Result<(BrowserSession, HeaderValue), PageProblem> {
        let (id, cookie) = (random()?, random()?);
        let now = self.clock.now_ms();
        let plain = serde_json::to_vec(&how).ok();
        let sealed = plain.and_then(|plain| sealing::seal(cookie.expose(), SEALED, id.expose(), &plain));
        let row = repo::BrowserSession {
            id: id.expose().clone(),
            provider: provider.to_owned(),
            sealed: sealed.ok_or_else(super::problem::no_randomness)?,
            created_ms: now,
            expires_ms: now.saturating_add(self.life_ms),
        };
        let stored = repo::insert(&self.store, &secret::hash(cookie.expose()), &person.id, &row).await;
        stored.map_err(|error| super::problem::store(&error))?;
        if let Some(old) = self.cookies.find(headers, cookie::SESSION) {
            let ended = repo::end_by_hash(&self.store, &secret::hash(old)).await;
            ended.map_err(|error| super::problem::store(&error))?;
        }
        let session = session(cookie.expose(), (row, person)).map_err(|error| super::problem::store(&error))?;
        Ok((session, self.set(&cookie)))
    }

    fn set(&self, cookie: &Secret<String>) -> HeaderValue {
        self.cookies.set(cookie::SESSION, cookie.expose(), self.life_ms / 1000)
    }
}

fn session(cookie: &str, (row, person): (repo::BrowserSession, person::Person)) -> Result<BrowserSession, StoreError> {
    let repo::BrowserSession { id, provider, sealed, created_ms, expires_ms } = row;
    let plain = sealing::open(cookie, SEALED, &id, &sealed);
    let how = plain.and_then(|plain| serde_json::from_slice(&plain).ok());
    let Authentication { auth_time_ms, amr, acr, kept } = how.ok_or(StoreError::Data("browser_session.sealed"))?;
    let person = Arc::new(Person::try_from(person)?);
    Ok(BrowserSession { id, person, auth_time_ms, amr, acr, kept, provider, created_ms, expires_ms })
}

impl fmt::Debug for BrowserSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrowserSessions").finish_non_exhaustive()
    }
}
