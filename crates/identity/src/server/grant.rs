//! Grants of the token endpoint, one file each, and what a grant holds.

mod authorization_code;
mod client_credentials;
mod foreign;
mod jwt_bearer;
mod refresh_token;
mod token_exchange;

use bartizan_oauth::{OAuthCode, OAuthError};
use serde::{Deserialize, Serialize};

use super::transaction::Request;
use super::{Inner, ms, no_randomness, secrets};
use crate::facts::{self, KeptFacts};
use crate::login::BrowserSession;
use bartizan_model::SignInFacts;

/// What is stored of a grant: who signed in how, and what was agreed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GrantContent {
    pub(crate) client_name: String,
    pub(crate) client_kind: String,
    pub(crate) resource: String,
    pub(crate) scopes: String,
    pub(crate) provider: String,
    pub(crate) auth_time_ms: i64,
    pub(crate) amr: Vec<String>,
    pub(crate) acr: Option<String>,
    /// Groups at the time of consent, for the record; decisions use those of the person.
    pub(crate) groups: Vec<String>,
    /// What else the sign-in told, or a step-up since.
    #[serde(default)]
    pub(crate) kept: KeptFacts,
    /// The agent it was given to; the person is its owner then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<String>,
}

impl GrantContent {
    pub(super) fn new(request: &Request, session: &BrowserSession) -> Self {
        Self {
            client_name: request.client_name.clone(),
            client_kind: request.kind().as_str().to_owned(),
            resource: request.resource.clone(),
            scopes: request.scopes.clone(),
            provider: session.provider.clone(),
            auth_time_ms: session.auth_time_ms,
            amr: session.amr.clone(),
            acr: session.acr.clone(),
            groups: session.person.groups.clone(),
            kept: KeptFacts { purpose: None, ..session.kept.clone() },
            agent: None,
        }
    }

    /// As policies see them.
    pub(crate) fn facts(&self) -> SignInFacts {
        let Self { provider, auth_time_ms, amr, acr, kept, .. } = self;
        facts::for_policies(provider, *auth_time_ms, amr, acr.as_deref(), kept)
    }
}

/// One text for every reason: whoever guesses learns nothing.
pub(super) fn invalid_grant() -> OAuthError {
    OAuthError::new(OAuthCode::InvalidGrant, "the code or token is not good (any more); sign in again")
}

impl Inner {
    /// New tokens, in clear and not stored yet.
    fn new_pair(&self, scopes: &str) -> Result<secrets::Pair, OAuthError> {
        let mint = |prefix| secrets::mint(prefix).map(|token| token.expose().clone()).ok_or_else(no_randomness);
        Ok(secrets::Pair {
            access: mint(secrets::ACCESS)?,
            refresh: mint(secrets::REFRESH)?,
            scopes: scopes.to_owned(),
            expires_ms: self.now().saturating_add(ms(self.deps.settings.lifetimes.access_token_s)),
        })
    }
}
