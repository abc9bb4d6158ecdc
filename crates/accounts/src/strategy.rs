//! The strategies (feature row P17): what a server is shown, and whence it comes.
//!
//! | strategy | what is shown | whose |
//! |---|---|---|
//! | `oauth_user` | token of a connected account ([`crate::accounts`]) | each person's, or one of all (P19) |
//! | `pat_user` | token that was typed | each person's |
//! | `client_credentials` | token from a token endpoint | bartizan's |
//! | `token_exchange`, `entra_obo`, `id_jag` | token exchanged for another one | each caller's |
//! | `assertion` | a signed assertion, made for every request | each caller's |
//! | `aws_sigv4` | a signature over every request | bartizan's |

mod assertion;
mod client_credentials;
mod derived;
mod endpoint;
mod entra_obo;
mod id_jag;
mod pat;
mod sigv4;
mod token_exchange;

pub(crate) use derived::SHARED;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bartizan_assert::Signer;
use bartizan_catalog::{Credential, ServerSpec};
use bartizan_config::resources::SubjectToken;
use bartizan_egress::Url;
use bartizan_identity::PageProblem;
use bartizan_model::{Principal, PrincipalKind, Secret};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use moka::sync::Cache;

use crate::account::Place;
use crate::accounts::{AccountError, Accounts, After, Inner};
use crate::discover::Found;

/// How long what a server says about its authorization server is believed.
const FOUND: Duration = Duration::from_secs(600);

/// The page on which a person gives an account to the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountKind {
    /// The way through an authorization server: [`Accounts::begin`].
    Oauth,
    /// A form for a token: [`Accounts::store_pat`].
    Pat {
        /// Page on which people make such a token.
        help_url: Option<String>,
    },
    /// A sign-in at the company's provider, which leaves the token that is exchanged.
    SignIn {
        /// Id of the provider.
        provider: String,
    },
    /// There is nothing to connect.
    None,
}

/// Whose token of the company's identity provider is wanted.
#[derive(Clone, Debug)]
pub struct SubjectWanted {
    /// Id of the provider.
    pub provider: String,
    /// The person.
    pub principal: Principal,
    /// Which of the tokens.
    pub token: SubjectToken,
}

/// Why there is no such token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// None is kept, or it is over: the person must sign in again.
    #[error("the person must sign in again")]
    SignInNeeded,
    /// It may work in a moment.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The person signs in with another provider, whose tokens are not for this.
    #[error("the person's identity provider is another one")]
    OtherProvider,
}

/// A token, later.
pub type SubjectFuture = Pin<Box<dyn Future<Output = Result<Secret<String>, SubjectError>> + Send>>;

/// Hands out what sign-ins left behind: tokens of the identity provider, sealed at rest.
pub type SubjectTokens = Arc<dyn Fn(SubjectWanted) -> SubjectFuture + Send + Sync>;

/// Something to show is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which token it is, for [`Accounts::refused`]; 0 where every request is signed.
    pub version: i64,
    /// For the record: `pat_user:ana@corp.example`.
    pub identity: Arc<str>,
}

/// A request as it is about to be sent.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Where to.
    pub url: &'a Url,
    /// Method.
    pub method: &'a Method,
    /// Headers, without `Host`.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a Bytes,
}

/// What the strategies keep.
pub(crate) struct Strategies {
    signer: OnceLock<Signer>,
    owners: OnceLock<Owners>,
    subjects: OnceLock<SubjectTokens>,
    derived: derived::Tokens,
    found: Cache<String, Arc<Found>>,
}

impl Strategies {
    /// People changed: what was exchanged for them before is not believed any more.
    pub(crate) fn people_changed(&self) {
        self.derived.distrust();
    }
}

impl Default for Strategies {
    fn default() -> Self {
        Self {
            signer: OnceLock::new(),
            owners: OnceLock::new(),
            subjects: OnceLock::new(),
            derived: derived::Tokens::default(),
            found: Cache::builder().max_capacity(1_000).time_to_live(FOUND).build(),
        }
    }
}

/// Marks a header value as a secret.
fn sensitive(text: &str) -> Result<HeaderValue, AccountError> {
    let unusable = |_| AccountError::Misconfigured("the token cannot be sent".to_owned());
    let mut value = HeaderValue::from_str(text).map_err(unusable)?;
    value.set_sensitive(true);
    Ok(value)
}

/// E-mail address of the person who answers for an agent, by the agent's id.
pub type Owners = Arc<dyn Fn(&str) -> Option<Arc<str>> + Send + Sync>;

fn nobody() -> AccountError {
    AccountError::Misconfigured("only a person can use this server, and this caller is none".to_owned())
}

fn person(principal: &Principal) -> Result<(), AccountError> {
    let is_person = principal.kind == PrincipalKind::User && principal.is_proper();
    is_person.then_some(()).ok_or_else(nobody)
}

impl Accounts {
    /// Gives the signer of assertions.
    #[must_use]
    pub fn with_signer(self, signer: Signer) -> Self {
        let _ = self.inner.strategies.signer.set(signer);
        self
    }

    /// Tells who answers for agents, for assertions (A13).
    #[must_use]
    pub fn with_owners(self, owners: Owners) -> Self {
        let _ = self.inner.strategies.owners.set(owners);
        self
    }

    /// Gives what sign-ins left behind.
    #[must_use]
    pub fn with_subject_tokens(self, tokens: SubjectTokens) -> Self {
        let _ = self.inner.strategies.subjects.set(tokens);
        self
    }

    /// What a page has to offer to somebody who is sent to `/connect/{server}`.
    pub fn kind(spec: &ServerSpec) -> AccountKind {
        match &spec.credential {
            Credential::OauthUser(_) => AccountKind::Oauth,
            Credential::PatUser(config) => AccountKind::Pat { help_url: config.help_url.clone() },
            Credential::TokenExchange(config) | Credential::EntraObo(config) | Credential::IdJag(config) => {
                match config.provider.as_ref().filter(|_| config.subject != SubjectToken::Assertion) {
                    Some(provider) => AccountKind::SignIn { provider: provider.id.clone() },
                    None => AccountKind::None,
                }
            }
            _ => AccountKind::None,
        }
    }

    /// Keeps the token that a person typed, sealed, for this person and this server as it is
    /// configured now. Blanks around it are cut off.
    ///
    /// # Errors
    /// [`PageProblem`] for the person; its text never holds a part of the token.
    pub async fn store_pat(
        &self,
        spec: &ServerSpec,
        principal: &Principal,
        token: Secret<String>,
    ) -> Result<(), PageProblem> {
        Box::pin(pat::store(&self.inner, spec, principal, &token)).await
    }

    /// Makes ready what will be shown. Warm: memory only.
    ///
    /// # Errors
    /// [`AccountError`]; then nothing may be sent.
    pub async fn ready(&self, spec: &ServerSpec, principal: &Principal) -> Result<Standing, AccountError> {
        match &spec.credential {
            Credential::OauthUser(_) | Credential::PatUser(_) => {
                let ready = self.authorize(spec, principal).await?;
                Ok(Standing { version: ready.version, identity: ready.identity })
            }
            Credential::Assertion(_) => assertion::ready(&self.inner, principal),
            Credential::AwsSigv4(_) => Ok(Standing { version: 0, identity: "aws_sigv4".into() }),
            Credential::ClientCredentials(_)
            | Credential::TokenExchange(_)
            | Credential::EntraObo(_)
            | Credential::IdJag(_) => derived::ready(&self.inner, spec, principal).await,
            Credential::None | Credential::Headers(_) => {
                Ok(Standing { version: 0, identity: spec.credential.strategy().into() })
            }
        }
    }

    /// What goes with one request to the server itself; to its place and nowhere else.
    ///
    /// # Errors
    /// [`AccountError`]; then the request must not be sent.
    pub async fn show(
        &self,
        spec: &ServerSpec,
        principal: &Principal,
        request: Request<'_>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, AccountError> {
        if !at_home(spec, request.url) {
            let why = "a credential is shown to the server it is for and to nobody else";
            return Err(AccountError::Misconfigured(why.to_owned()));
        }
        // Without its credential a request would be somebody else's: nobody's.
        let gone = || AccountError::Unavailable("the credential is gone since the call began".to_owned());
        Ok(match &spec.credential {
            Credential::None | Credential::Headers(_) => Vec::new(),
            Credential::OauthUser(_) => {
                vec![(AUTHORIZATION, self.current(spec, principal).ok_or_else(gone)?.header)]
            }
            Credential::PatUser(config) => {
                let held = self.current(spec, principal).ok_or_else(gone)?;
                let name = HeaderName::try_from(config.header.as_str());
                let name = name.map_err(|_| AccountError::Misconfigured("the header is none".to_owned()))?;
                vec![(name, held.header)]
            }
            Credential::ClientCredentials(_)
            | Credential::TokenExchange(_)
            | Credential::EntraObo(_)
            | Credential::IdJag(_) => {
                vec![(AUTHORIZATION, derived::current(&self.inner, spec, principal).ok_or_else(gone)?)]
            }
            Credential::Assertion(config) => {
                vec![assertion::sign(&self.inner, spec, config, principal).await?]
            }
            Credential::AwsSigv4(config) => sigv4::sign(config, &request, self.inner.deps.clock.now_ms())?,
        })
    }

    /// The server answered 401 to what was shown.
    pub async fn declined(
        &self,
        spec: &ServerSpec,
        principal: &Principal,
        version: i64,
        challenge: Option<&str>,
    ) -> After {
        match &spec.credential {
            Credential::OauthUser(_) | Credential::PatUser(_) => {
                self.refused(spec, principal, version, challenge).await
            }
            Credential::ClientCredentials(_)
            | Credential::TokenExchange(_)
            | Credential::EntraObo(_)
            | Credential::IdJag(_)
                if crate::scopes::lacking(challenge).is_none() =>
            {
                match derived::refused(&self.inner, spec, principal, version).await {
                    Ok(()) => After::Retry,
                    Err(AccountError::LoginNeeded) => After::LoginNeeded,
                    Err(error) => After::Failed(error),
                }
            }
            // Another signature would say the same.
            _ => After::Failed(AccountError::Misconfigured("the server refused the credential".to_owned())),
        }
    }

    /// Whether this principal may connect the account of a server: its own, or as a member of
    /// `admin_groups` the one of all (P19).
    pub fn may_connect(spec: &ServerSpec, principal: &Principal) -> bool {
        match &spec.credential {
            Credential::OauthUser(_) => Place::new(spec, principal).is_ok(),
            Credential::PatUser(_) => Place::of(spec, principal).is_ok(),
            _ => false,
        }
    }
}

/// Whether a URL is at the origin of the server.
fn at_home(spec: &ServerSpec, url: &Url) -> bool {
    match &spec.transport {
        bartizan_catalog::Transport::Http { url: home } => Url::parse(home).is_ok_and(|home| home.same_origin(url)),
        bartizan_catalog::Transport::Stdio { .. } => false,
    }
}

impl Inner {
    /// The person's own token at the identity provider, or an assertion about the caller.
    async fn subject(
        &self,
        config: &bartizan_catalog::TokenConfig,
        principal: &Principal,
        audience: &str,
    ) -> Result<Secret<String>, AccountError> {
        if config.subject == SubjectToken::Assertion {
            return assertion::about(self, principal, audience).await;
        }
        person(principal)?;
        let wrong = |why: &str| AccountError::Misconfigured(why.to_owned());
        let tokens = self.strategies.subjects.get();
        let tokens = tokens.ok_or_else(|| wrong("this process keeps no tokens of the identity provider"))?;
        let provider = config.provider.as_ref().ok_or_else(|| wrong("no identity provider is configured"))?;
        let wanted =
            SubjectWanted { provider: provider.id.clone(), principal: principal.clone(), token: config.subject };
        tokens(wanted).await.map_err(|error| match error {
            SubjectError::SignInNeeded => AccountError::LoginNeeded,
            SubjectError::Unavailable(why) => AccountError::Unavailable(why),
            SubjectError::OtherProvider => wrong("the person does not sign in with the configured identity provider"),
        })
    }
}

/// How a kind of token is called (RFC 8693, section 3).
fn token_type(kind: SubjectToken) -> &'static str {
    match kind {
        SubjectToken::Assertion => "urn:ietf:params:oauth:token-type:jwt",
        SubjectToken::IdToken => "urn:ietf:params:oauth:token-type:id_token",
        SubjectToken::AccessToken => "urn:ietf:params:oauth:token-type:access_token",
        SubjectToken::RefreshToken => "urn:ietf:params:oauth:token-type:refresh_token",
    }
}
