//! Signing in with the company's OpenID Connect provider (feature row A2), and browser
//! sessions.
//!
//! The way: [`Login::begin`] sends the browser to the provider and remembers what it needs
//! for the answer; [`Login::callback`] takes the answer, redeems the code, checks the ID
//! token, and begins a [`BrowserSession`]. A text that came from the browser or from a
//! provider is believed only after the checks of OpenID Connect Core, section 3.1.3.7.

mod again;
mod begin;
mod callback;
pub(crate) mod claims;
mod cookie;
mod limits;
mod problem;
pub(crate) mod provider;
mod return_to;
mod session;
mod step_up;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use bartizan_config::resources::IdentityProvider;
use bartizan_config::settings::Lifetimes;
use bartizan_egress::Egress;
use bartizan_model::{Clock, Secret, check_user_id};
use bartizan_oauth::params::Builder;
use bartizan_store::Store;
use bartizan_store::repo::person::{self, SignIn};
use bartizan_vault::Vault;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::break_glass::{self, BreakGlass, BreakGlassError};
use crate::event::{Action, IdentityEvent, Recorder};
use crate::facts::KeptFacts;
use crate::problem::PageProblem;
use crate::server::step_up::StepUps;
pub use again::{SubjectKind, SubjectProblem};
use cookie::Cookies;
use provider::Directory;
pub use return_to::{LocalPath, ReturnTo};
pub use session::{BrowserSession, BrowserSessions, Person};
pub use step_up::{StepUpNext, StepUpView};

/// Issuer and provider of demo users.
const DEMO: &str = "demo";
/// Sign-ins that may ask providers at once.
const TURNS: usize = 32;

/// The providers in use, with their secrets resolved. Asked at every sign-in, so that a
/// change of configuration is effective at once.
pub type Providers = Arc<dyn Fn() -> Arc<Vec<IdentityProvider>> + Send + Sync>;

/// Whether a provider (by id) with this issuer may speak for anybody still. People of one
/// that left the configuration lose their sessions and grants at once.
pub type KnownProvider = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// What [`Login`] works with.
pub struct LoginDeps {
    /// Where people, sessions and sign-ins under way are kept.
    pub store: Store,
    /// Seals what must not be read in the store.
    pub vault: Vault,
    /// The way to the providers.
    pub egress: Egress,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Public URL without a final slash; the redirect URI is `{public_url}/login/callback`, with
    /// several providers `{public_url}/login/callback/{id}` (RFC 9700 section 4.4.2).
    pub public_url: String,
    /// Identity providers.
    pub providers: Providers,
    /// People who need no provider. Only `dev` has some.
    pub demo_users: Vec<DemoUser>,
    /// The local account for the day on which no provider answers. `None`: switched off.
    pub break_glass: Option<BreakGlass>,
    /// Life of sessions.
    pub lifetimes: Lifetimes,
    /// Takes events for the record.
    pub record: Recorder,
}

/// Somebody in `dev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoUser {
    /// Address.
    pub email: String,
    /// Name for people.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
}

/// What is asked of the provider beyond the ordinary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// The provider that the person chose from [`Begin::Choose`].
    pub provider: Option<String>,
    /// The person must have authenticated within this time, seconds (A17).
    pub max_age_s: Option<u64>,
    /// Wanted authentication context classes.
    pub acr_values: Vec<String>,
    /// `login`, `consent`, `select_account` or `none` (OpenID Connect Core, section 3.1.2.1).
    pub prompt: Option<String>,
    /// Issuer and subject of the only person who may come back. Anybody else is refused, and
    /// the browser keeps the session it has.
    pub same_person: Option<(String, String)>,
}

/// A provider as shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderView {
    /// For [`Ask::provider`].
    pub id: String,
    /// Name for people.
    pub name: String,
}

/// How signing in begins.
#[derive(Debug)]
pub enum Begin {
    /// To the provider.
    Redirect {
        /// Where; an `https` URL (or `http` on loopback).
        url: String,
        /// Binds the sign-in to this browser.
        set_cookie: HeaderValue,
    },
    /// There are several: ask for an e-mail address or a choice.
    Choose(Vec<ProviderView>),
    /// `dev` without a provider: choose a person.
    Demo(Vec<DemoUser>),
    /// Not now.
    Unavailable(PageProblem),
}

/// Somebody signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// The new session.
    pub session: BrowserSession,
    /// Values for `Set-Cookie`.
    pub set_cookies: Vec<HeaderValue>,
    /// Where to go on.
    pub return_to: ReturnTo,
}

/// Signs people in. Cheap to clone.
#[derive(Clone)]
pub struct Login {
    inner: Arc<Inner>,
    /// Where the browser is that is served.
    peer: Option<IpAddr>,
}

struct Inner {
    deps: LoginDeps,
    sessions: BrowserSessions,
    cookies: Cookies,
    directory: Directory,
    step_ups: StepUps,
    limits: limits::Limits,
    /// Sign-ins that may ask providers at once.
    turns: Semaphore,
    pruned_ms: AtomicI64,
}

impl Login {
    /// Whether the break-glass account can be tried at all (A31).
    pub fn has_break_glass(&self) -> bool {
        self.inner.deps.break_glass.is_some()
    }

    /// Over these parts.
    pub fn new(deps: LoginDeps) -> Self {
        let LoginDeps { store, vault, clock, public_url, lifetimes, .. } = &deps;
        let (store, clock) = (store.clone(), Arc::clone(clock));
        let known = known(&deps);
        let step_ups = StepUps::new(store.clone(), vault, Arc::clone(&clock), public_url);
        let sessions = BrowserSessions::new(store, vault, clock, public_url, lifetimes.browser_session_s);
        let sessions = sessions.with_providers(known);
        let cookies = Cookies::new(&deps.public_url);
        let directory = Directory::new(deps.egress.clone(), Arc::clone(&deps.clock));
        let turns = Semaphore::new(TURNS);
        let limits = limits::Limits::new();
        let pruned_ms = AtomicI64::new(0);
        let inner = Inner { deps, sessions, cookies, directory, step_ups, limits, turns, pruned_ms };
        Self { inner: Arc::new(inner), peer: None }
    }

    /// The same, for a browser at this address. Without, all count as one.
    #[must_use]
    pub fn from_peer(&self, peer: IpAddr) -> Self {
        Self { inner: Arc::clone(&self.inner), peer: Some(peer) }
    }

    /// Which providers speak for people.
    pub fn known_provider(&self) -> KnownProvider {
        known(&self.inner.deps)
    }

    /// The links for more, as the pages take them.
    pub fn step_ups(&self) -> StepUps {
        self.inner.step_ups.clone()
    }

    /// The browser sessions.
    pub fn sessions(&self) -> BrowserSessions {
        self.inner.sessions.clone()
    }

    /// Begins to sign somebody in: straight to the provider when there is one, or when the
    /// domain of `email` or the person's choice names one of several.
    pub async fn begin(&self, return_to: ReturnTo, email: Option<&str>, ask: Ask) -> Begin {
        self.inner.begin(return_to, email, ask, self.peer).await
    }

    /// Records that somebody ended the session of a browser.
    pub fn signed_out(&self, session: &BrowserSession) {
        let deps = &self.inner.deps;
        let mut event = IdentityEvent::new(deps.clock.now_ms(), Action::SignOut, true);
        event.person = Some(session.person.email.clone());
        event.groups.clone_from(&session.person.groups);
        event.provider = Some(session.provider.clone());
        event.ip = self.peer;
        (deps.record)(event);
    }

    /// Takes the provider's answer: the last part of the path (`/login/callback/{provider}`)
    /// if there is one, the query, and the headers of the browser that brings it.
    ///
    /// # Errors
    /// A problem to show. Nothing happened then, except that the sign-in cannot be repeated
    /// with the same answer.
    pub async fn callback(
        &self,
        provider: Option<&str>,
        query: &str,
        headers: &HeaderMap,
    ) -> Result<SignedIn, PageProblem> {
        self.inner.callback(provider, query, headers, self.peer).await
    }

    /// Where a person signs out at the provider as well, if it has such a page; an `https`
    /// URL (or `http` on loopback). With the ID token of the sign-in the provider knows whom it
    /// is asked for and by whom, and need not ask (OpenID Connect RP-Initiated Logout 1.0,
    /// section 2).
    pub async fn provider_sign_out(&self, session: &BrowserSession) -> Option<ProviderSignOut> {
        let providers = (self.inner.deps.providers)();
        let provider = providers.iter().find(|provider| provider.id == session.provider)?;
        let metadata = self.inner.metadata(provider).await.ok()?;
        let page = metadata.end_session_endpoint.as_ref()?;
        let hint = self.inner.id_token_hint(&session.person.id, provider).await;
        let query = Builder::new().add("client_id", &provider.client_id);
        let query = query.add_some("id_token_hint", hint.as_ref().map(|hint| hint.expose().as_str()));
        Some(ProviderSignOut { url: query.append_to(page), is_known: hint.is_some() })
    }

    /// Signs in a demo user. Refused when there is none of that address, which is always so
    /// outside of `dev`.
    ///
    /// # Errors
    /// A problem to show.
    pub async fn demo(&self, email: &str, return_to: ReturnTo, headers: &HeaderMap) -> Result<SignedIn, PageProblem> {
        let (deps, limits, now) = (&self.inner.deps, &self.inner.limits, self.inner.now());
        limits.check(self.peer, now)?;
        limits.check_account(email, now)?;
        let found = deps.demo_users.iter().find(|user| user.email == email);
        let user = found.ok_or_else(|| {
            limits.failed(self.peer, email, now);
            problem::no_demo_user()
        })?;
        let address = check_user_id(&user.email).map_err(|_| problem::no_demo_user())?;
        let said = Said {
            issuer: DEMO,
            subject: &address,
            provider: DEMO,
            email: &address,
            name: &user.name,
            groups: &user.groups,
            peer: self.peer,
        };
        let how = session::Authentication {
            auth_time_ms: deps.clock.now_ms(),
            amr: Vec::new(),
            acr: None,
            kept: KeptFacts::default(),
        };
        let (session, cookie) = self.inner.establish(&said, how, headers).await?;
        Ok(SignedIn { session, set_cookies: vec![cookie], return_to })
    }
}

/// The way out at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderSignOut {
    /// Where the browser goes.
    pub url: String,
    /// The provider is shown who leaves, so that it need not ask.
    pub is_known: bool,
}

impl Login {
    /// Signs in with the break-glass account (A31). Every use is on record before it counts,
    /// and raises an alert.
    ///
    /// # Errors
    /// The page that says why not.
    pub async fn break_glass(
        &self,
        password: &str,
        code: &str,
        return_to: ReturnTo,
        headers: &HeaderMap,
    ) -> Result<SignedIn, PageProblem> {
        let (deps, limits, now) = (&self.inner.deps, &self.inner.limits, self.inner.now());
        let account = deps.break_glass.as_ref().ok_or_else(problem::no_break_glass)?;
        // Before, not after: an attempt takes a processor for a while.
        limits.attempt(self.peer, now)?;
        let event = |ok| IdentityEvent {
            provider: Some(break_glass::PROVIDER.to_owned()),
            ip: self.peer,
            ..IdentityEvent::new(now, Action::BreakGlass, ok)
        };
        let email = match account.check(password, code).await {
            Ok(email) => email,
            Err(BreakGlassError::Busy) => return Err(problem::busy()),
            Err(BreakGlassError::Unavailable(error)) => {
                tracing::error!(error, "the break-glass account cannot be checked");
                return Err(problem::break_glass_unavailable());
            }
            Err(_) => {
                (deps.record)(event(false));
                return Err(problem::break_glass_wrong());
            }
        };
        if !account.witness(IdentityEvent { person: Some(email.clone()), ..event(true) }).await {
            return Err(problem::break_glass_unavailable());
        }
        let groups = [break_glass::GROUP.to_owned()];
        let said = Said {
            issuer: break_glass::PROVIDER,
            subject: break_glass::PROVIDER,
            provider: break_glass::PROVIDER,
            email: &email,
            name: "Break-glass account",
            groups: &groups,
            peer: self.peer,
        };
        let at_ms = deps.clock.now_ms();
        let how = session::Authentication {
            auth_time_ms: at_ms,
            amr: vec!["pwd".to_owned(), "otp".to_owned(), "mfa".to_owned()],
            acr: None,
            kept: KeptFacts { mfa_at_ms: Some(at_ms), ..KeptFacts::default() },
        };
        let (session, cookie) = self.inner.establish(&said, how, headers).await?;
        Ok(SignedIn { session, set_cookies: vec![cookie], return_to })
    }
}

/// What a provider says about a person, after all checks.
struct Said<'a> {
    issuer: &'a str,
    subject: &'a str,
    provider: &'a str,
    email: &'a str,
    name: &'a str,
    groups: &'a [String],
    peer: Option<IpAddr>,
}

/// Demo people are spoken for by nobody but themselves.
fn known(deps: &LoginDeps) -> KnownProvider {
    let (providers, demo) = (Arc::clone(&deps.providers), !deps.demo_users.is_empty());
    let emergency = deps.break_glass.is_some();
    Arc::new(move |id, issuer| {
        let listed = || providers().iter().any(|provider| provider.id == id && provider.issuer == issuer);
        match id {
            DEMO if issuer == DEMO => demo,
            break_glass::PROVIDER if issuer == break_glass::PROVIDER => emergency,
            _ => listed(),
        }
    })
}

impl Inner {
    fn now(&self) -> i64 {
        self.deps.clock.now_ms()
    }

    /// Person and session of somebody who proved who they are.
    async fn establish(
        &self,
        said: &Said<'_>,
        how: session::Authentication,
        headers: &HeaderMap,
    ) -> Result<(BrowserSession, HeaderValue), PageProblem> {
        let person = self.person(said).await.inspect_err(|problem| self.refused(said, problem.code))?;
        let (session, cookie) = self.sessions.begin(person, how, said.provider, headers).await?;
        (self.deps.record)(self.event(said, true));
        Ok((session, cookie))
    }

    async fn person(&self, said: &Said<'_>) -> Result<person::Person, PageProblem> {
        let id = random()?;
        let groups = serde_json::to_string(said.groups).map_err(|_| problem::bad_claim("groups"))?;
        let new = SignIn {
            new_id: id.expose(),
            issuer: said.issuer,
            subject: said.subject,
            provider: said.provider,
            email: said.email,
            name: said.name,
            groups_json: &groups,
        };
        let mut result = person::sign_in(&self.deps.store, &new).await;
        if matches!(result, Err(bartizan_store::StoreError::Conflict)) {
            // Two first sign-ins of one person at the same moment: the second finds the first.
            result = person::sign_in(&self.deps.store, &new).await;
        }
        match result {
            Ok(Some(person)) => Ok(person),
            Ok(None) => Err(problem::deactivated()),
            Err(bartizan_store::StoreError::Conflict) => Err(problem::address_taken()),
            Err(error) => Err(problem::store(&error)),
        }
    }

    fn event(&self, said: &Said<'_>, ok: bool) -> IdentityEvent {
        let mut event = IdentityEvent::new(self.deps.clock.now_ms(), Action::SignIn, ok);
        event.person = Some(said.email.to_owned());
        event.groups = said.groups.to_vec();
        event.provider = Some(said.provider.to_owned());
        event.ip = said.peer;
        event
    }

    fn refused(&self, said: &Said<'_>, code: &'static str) {
        let mut event = self.event(said, false);
        event.note = Some(code.to_owned());
        (self.deps.record)(event);
    }
}

/// 256 random bits as text.
fn random() -> Result<Secret<String>, PageProblem> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| problem::no_randomness())?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}
