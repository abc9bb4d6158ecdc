//! The OAuth authorization server for clients (feature rows A6 to A10): one file per
//! endpoint and per grant.
//!
//! Tokens, codes and handles are random and opaque; the store holds hashes of them. What a
//! page needs between two requests travels as a sealed handle, so that nobody fills the
//! store by asking.

mod assertion;
mod authorize;
mod client;
mod client_auth;
mod document;
pub(crate) mod fresh;
mod grant;
pub(crate) mod limit;
mod machines;
mod people;
mod register;
mod revoke;
mod scope;
mod secrets;
pub(crate) mod step_up;
mod token;
mod transaction;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bartizan_config::resources;
use bartizan_config::settings::SignIn;
use bartizan_egress::Egress;
use bartizan_model::Clock;
use bartizan_oauth::redirect::Rules;
use bartizan_oauth::scope::ScopeSet;
use bartizan_oauth::server_metadata::Server;
use bartizan_oauth::{OAuthCode, OAuthError};
use bartizan_store::repo::{oauth_client, oauth_code, oauth_grant, oauth_refresh, person, replay};
use bartizan_store::{Store, StoreError};
use bartizan_vault::{HandleSealer, Vault};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};

use crate::event::{Action, IdentityEvent, Recorder};
use crate::problem::PageProblem;
pub(crate) use grant::GrantContent;
pub use machines::{Agents, Machines};
pub use people::{ApprovedClient, SignedOut};

/// Scopes a client may ask for (A23), with the words of the consent page.
pub const SCOPES: [(&str, &str); 2] = [
    ("mcp:read", "See and read with the tools you may use"),
    ("mcp:write", "Change things with the tools you may use"),
];

/// How long a page may lie open before it is answered, milliseconds.
const PAGE_MS: i64 = 10 * 60 * 1000;
/// How often what ended is removed.
const SWEEP: Duration = Duration::from_secs(600);
/// A client that registered and was never used, milliseconds.
const NEVER_USED_MS: i64 = 24 * 3600 * 1000;
/// How long used codes and ended grants are remembered for the sake of replays, milliseconds.
const REMEMBER_MS: i64 = 24 * 3600 * 1000;

/// The clients known beforehand, with their secrets resolved. Asked at every use, so that
/// a change of configuration is effective at once.
pub type Clients = Arc<dyn Fn() -> Arc<Vec<resources::Client>> + Send + Sync>;
/// Whether a canonical URL is an endpoint of ours.
pub type IsResource = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What [`AuthorizationServer`] works with.
pub struct AuthorizationServerDeps {
    /// Where clients, consents, codes and grants are kept.
    pub store: Store,
    /// Seals what travels through the browser.
    pub vault: Vault,
    /// The way to clients' documents and keys. Anybody names their addresses, so no private
    /// one may be allowed to it.
    pub documents: Egress,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Public URL without a final slash.
    pub issuer: String,
    /// Sign-in settings.
    pub settings: Arc<SignIn>,
    /// Clients known beforehand.
    pub clients: Clients,
    /// Which resources tokens may be for.
    pub resources: IsResource,
    /// Takes events for the record.
    pub record: Recorder,
}

/// The authorization server. Cheap to clone.
#[derive(Clone)]
pub struct AuthorizationServer {
    inner: Arc<Inner>,
    /// Where the browser is that is served, for the record.
    peer: Option<IpAddr>,
}

struct Inner {
    deps: AuthorizationServerDeps,
    handles: HandleSealer,
    rules: Rules,
    scopes: ScopeSet,
    documents: document::Documents,
    registrations: limit::Limiter,
    failures: limit::Limiter,
    at_refresh: OnceLock<fresh::AtRefresh>,
    /// Whoever gets tokens without a browser.
    trust: OnceLock<machines::Trust>,
}

/// How a request of a browser goes on.
#[derive(Debug)]
pub enum Step {
    /// A page; the browser must not be sent back to the client.
    Problem(PageProblem),
    /// To the client, with a code or an error; a URI of one of its registered forms.
    Redirect(String),
    /// To the sign-in, then [`AuthorizationServer::resume`] with this.
    SignIn {
        /// Sealed request.
        transaction: String,
    },
    /// The consent page, then [`AuthorizationServer::decide`].
    Consent(Box<ConsentView>),
}

/// What the consent page shows. Texts are plain: the page escapes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentView {
    /// For [`AuthorizationServer::decide`]; good in this browser session only.
    pub transaction: String,
    /// What the client calls itself.
    pub client_name: String,
    /// Host of the client's document.
    pub client_host: Option<String>,
    /// Where the code will go; for a custom scheme the scheme with its colon.
    pub redirect_host: String,
    /// Source expression for `form-action`: `scheme://host[:port]` or `scheme:`.
    pub redirect_origin: String,
    /// True when the code goes to a program on the user's machine, whichever that is: the
    /// redirect URI of this request is a loopback address or has a custom scheme.
    pub loopback_only: bool,
    /// What it asks for.
    pub scopes: Vec<ScopeView>,
    /// Where the tokens will be good.
    pub resource: String,
    /// How the client is known.
    pub kind: ClientKind,
}

/// A scope in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeView {
    /// As on the wire.
    pub name: String,
    /// For people.
    pub text: String,
}

/// How a client is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientKind {
    /// It registered itself.
    Registered,
    /// Its id is the URL of its document.
    Document,
    /// An administrator configured it.
    Preregistered,
}

impl ClientKind {
    /// The word in the store and in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Document => "document",
            Self::Preregistered => "preregistered",
        }
    }

    fn parse(text: &str) -> Self {
        [Self::Document, Self::Preregistered].into_iter().find(|kind| kind.as_str() == text).unwrap_or(Self::Registered)
    }
}

impl AuthorizationServer {
    /// Starts a task that removes what ended, when there is a Tokio runtime; it ends with
    /// the last clone. An entry of `allowed_uris` that allows nothing is logged and ignored.
    pub fn new(deps: AuthorizationServerDeps) -> Self {
        let inner = Arc::new(Inner {
            handles: deps.vault.handles(),
            rules: rules(&deps.settings),
            scopes: SCOPES.iter().map(|(name, _)| *name).collect(),
            documents: document::Documents::new(deps.documents.clone(), document::TIMEOUT),
            registrations: limit::Limiter::new(limit::REGISTRATIONS_EACH, limit::REGISTRATIONS_ALL),
            failures: limit::Limiter::new(limit::FAILURES_EACH, u32::MAX),
            at_refresh: OnceLock::new(),
            trust: OnceLock::new(),
            deps,
        });
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let weak = Arc::downgrade(&inner);
            runtime.spawn(async move {
                loop {
                    tokio::time::sleep(SWEEP).await;
                    let Some(inner) = weak.upgrade() else { return };
                    if let Err(error) = inner.sweep().await {
                        tracing::warn!(%error, "what ended could not be removed from the store");
                    }
                }
            });
        }
        Self { inner, peer: None }
    }

    /// Asks provider and policy again at each refresh (A5). Given once, before anything is
    /// served; without it a refresh only asks whether the person is active.
    #[must_use]
    pub fn with_refresh(self, at_refresh: fresh::AtRefresh) -> Self {
        let _ = self.inner.at_refresh.set(at_refresh);
        self
    }

    /// The same server, asked by a browser at this address; events name it.
    #[must_use]
    pub fn from_peer(&self, peer: IpAddr) -> Self {
        Self { inner: Arc::clone(&self.inner), peer: Some(peer) }
    }

    /// `/.well-known/oauth-authorization-server`.
    pub fn metadata(&self) -> Bytes {
        self.inner.describe(|server| server.oauth())
    }

    /// `/.well-known/openid-configuration`.
    pub fn openid_configuration(&self) -> Bytes {
        self.inner.describe(|server| server.openid())
    }

    /// Scopes a client may ask for.
    pub fn scopes(&self) -> &ScopeSet {
        &self.inner.scopes
    }

    /// The public URL without a final slash.
    pub fn issuer(&self) -> &str {
        &self.inner.deps.issuer
    }

    /// Removes what ended: codes, tokens, grants, and clients nobody uses.
    ///
    /// # Errors
    /// The store's; what was removed stays removed.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        self.inner.sweep().await
    }
}

impl Inner {
    fn now(&self) -> i64 {
        self.deps.clock.now_ms()
    }

    fn describe(&self, form: impl Fn(&Server<'_>) -> Vec<u8>) -> Bytes {
        let scopes: Vec<&str> = self.scopes.iter().collect();
        form(&Server {
            issuer: &self.deps.issuer,
            registration: self.deps.settings.registration.enabled,
            client_documents: self.deps.settings.client_metadata.enabled,
            machines: self.offered(),
            scopes: &scopes,
        })
        .into()
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        let (store, now) = (&self.deps.store, self.now());
        let lifetimes = &self.deps.settings.lifetimes;
        let unused = ms(lifetimes.unused_client_s);
        // A grant that runs was given, or refreshed, within its life: its client is in use.
        let last_used = now.saturating_sub(unused.max(ms(lifetimes.grant_s)));
        oauth_client::sweep(store, now.saturating_sub(NEVER_USED_MS.min(unused)), last_used).await?;
        oauth_code::sweep(store, now.saturating_sub(REMEMBER_MS)).await?;
        oauth_grant::sweep(store, now, now.saturating_sub(REMEMBER_MS)).await?;
        oauth_refresh::sweep(store).await?;
        replay::prune(store, now).await.map(drop)
    }

    fn event(&self, action: Action, ok: bool, client: &str, note: &str) -> IdentityEvent {
        let mut event = IdentityEvent::new(self.now(), action, ok);
        let client: String = client.chars().filter(|c| matches!(c, ' '..='~')).take(256).collect();
        event.client = (!client.is_empty()).then_some(client);
        event.note = (!note.is_empty()).then(|| note.to_owned());
        event
    }

    /// The same about a person, by id.
    async fn event_of(&self, action: Action, ok: bool, person: &str, client: &str, note: &str) -> IdentityEvent {
        let mut event = self.event(action, ok, client, note);
        match person::by_id(&self.deps.store, person).await {
            Ok(Some(person)) => {
                event.person = Some(person.email);
                event.provider = Some(person.provider);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "an event is recorded without its person"),
        }
        event
    }

    fn record(&self, event: IdentityEvent) {
        (self.deps.record)(event);
    }
}

fn rules(settings: &SignIn) -> Rules {
    let registration = &settings.registration;
    let (localhost, loopback) = (registration.allow_any_on_localhost, registration.allow_any_on_loopback);
    let good: Vec<String> = registration
        .allowed_uris
        .iter()
        .filter(|uri| match Rules::new(localhost, loopback, std::slice::from_ref(uri)) {
            Ok(_) => true,
            Err(refusal) => {
                tracing::warn!(%refusal, "an entry of sign_in.registration.allowed_uris is ignored");
                false
            }
        })
        .cloned()
        .collect();
    Rules::new(localhost, loopback, &good).unwrap_or_default()
}

/// Whether a bearer token has the form of an access token of ours.
pub(crate) fn is_access_token(text: &str) -> bool {
    secrets::has_form(text, secrets::ACCESS)
}

/// Seconds of a setting in milliseconds.
fn ms(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// The answer of an endpoint for programs; never cached (RFC 6749 section 5.1).
fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(http::header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// The same for an error.
fn refusal(error: &OAuthError) -> Response<Bytes> {
    json(StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST), error.body())
}

/// The database does not answer: the client may try again.
fn unavailable(error: &StoreError) -> OAuthError {
    tracing::warn!(%error, "the authorization server cannot reach its store");
    OAuthError::new(OAuthCode::TemporarilyUnavailable, "the store does not answer, try again")
}

/// The machine has no randomness.
fn no_randomness() -> OAuthError {
    OAuthError::new(OAuthCode::ServerError, "no token could be made")
}

impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServer").field("issuer", &self.inner.deps.issuer).finish_non_exhaustive()
    }
}
