//! Grants of the token endpoint, one file each, and what a grant holds.

mod authorization_code;
mod client_credentials;
mod foreign;
mod jwt_bearer;
mod refresh_token;
mod token_exchange;

use bartizan_oauth::{OAuthCode, OAuthError};
use bartizan_store::repo::oauth_grant::NewAccess;
use bartizan_store::repo::oauth_refresh::NewRefresh;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::transaction::Request;
use super::{Inner, ms, no_randomness, secrets};
use crate::facts::{self, KeptFacts};
use crate::login::BrowserSession;
use crate::sealing::{self, GrantKey};
use crate::secret;
use bartizan_model::SignInFacts;

/// What is stored of a grant: what was agreed to, and sealed, who signed in how (A6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GrantContent {
    pub(crate) client_name: String,
    pub(crate) client_kind: String,
    pub(crate) resource: String,
    pub(crate) scopes: String,
    pub(crate) provider: String,
    /// The agent it was given to; the person is its owner then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<String>,
    /// Public half of the grant's key.
    key: String,
    /// [`Told`], sealed.
    told: String,
    /// What the person said the access is for, sealed by itself: whoever writes one of the two
    /// cannot read the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
}

/// What is sealed of a grant: what a sign-in told, or a step-up since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) auth_time_ms: i64,
    pub(crate) amr: Vec<String>,
    pub(crate) acr: Option<String>,
    /// Groups at the time of consent, for the record; decisions use those of the person.
    pub(crate) groups: Vec<String>,
    /// What else it told.
    pub(crate) kept: KeptFacts,
}

impl Told {
    /// By the sign-in of a browser session.
    pub(crate) fn of(session: &BrowserSession) -> Self {
        Self {
            auth_time_ms: session.auth_time_ms,
            amr: session.amr.clone(),
            acr: session.acr.clone(),
            groups: session.person.groups.clone(),
            kept: KeptFacts { purpose: None, ..session.kept.clone() },
        }
    }
}

/// What a grant is about, before there is one.
pub(super) struct Terms {
    pub(super) client_name: String,
    pub(super) client_kind: String,
    pub(super) resource: String,
    pub(super) scopes: String,
    pub(super) provider: String,
    pub(super) agent: Option<String>,
}

impl Terms {
    pub(super) fn new(request: &Request, session: &BrowserSession) -> Self {
        Self {
            client_name: request.client_name.clone(),
            client_kind: request.kind().as_str().to_owned(),
            resource: request.resource.clone(),
            scopes: request.scopes.clone(),
            provider: session.provider.clone(),
            agent: None,
        }
    }
}

/// Names of what is sealed.
const TOLD: &str = "told";
const PURPOSE: &str = "purpose";

impl GrantContent {
    /// Of a grant with this id and key. `None` when the machine has no randomness.
    pub(super) fn new(terms: Terms, told: &Told, grant: &str, key: &GrantKey) -> Option<Self> {
        let Terms { client_name, client_kind, resource, scopes, provider, agent } = terms;
        let (key, told_at) = (key.public(), String::new());
        let content =
            Self { client_name, client_kind, resource, scopes, provider, agent, key, told: told_at, purpose: None };
        content.telling(grant, told)
    }

    /// With what another sign-in told.
    pub(super) fn telling(mut self, grant: &str, told: &Told) -> Option<Self> {
        let plain = Zeroizing::new(serde_json::to_vec(told).ok()?);
        self.told = sealing::seal_for(&self.key, grant, TOLD, &plain)?;
        Some(self)
    }

    /// With what the person says the access is for.
    pub(super) fn stating(mut self, grant: &str, purpose: &str) -> Option<Self> {
        self.purpose = Some(sealing::seal_for(&self.key, grant, PURPOSE, purpose.as_bytes())?);
        Some(self)
    }

    /// What is sealed, as policies see it. `None` when it does not open.
    pub(crate) fn facts(&self, grant: &str, key: &GrantKey) -> Option<SignInFacts> {
        let Told { auth_time_ms, amr, acr, mut kept, .. } =
            serde_json::from_slice(&key.open(grant, TOLD, &self.told)?).ok()?;
        if let Some(sealed) = &self.purpose {
            kept.purpose = Some(String::from_utf8(key.open(grant, PURPOSE, sealed)?.to_vec()).ok()?);
        }
        Some(facts::for_policies(&self.provider, auth_time_ms, &amr, acr.as_deref(), &kept))
    }
}

/// A token as it is stored: its hash, and the grant's key for whoever holds it.
struct Stored {
    hash: [u8; 32],
    wrapped: Vec<u8>,
}

impl Stored {
    fn new(token: &str, grant: &str, key: &GrantKey) -> Result<Self, OAuthError> {
        let wrapped = key.wrap(token, grant).ok_or_else(no_randomness)?;
        Ok(Self { hash: secret::hash(token), wrapped })
    }

    /// The access token of this pair.
    fn access<'a>(&'a self, pair: &'a secrets::Pair) -> NewAccess<'a> {
        let secrets::Pair { scopes, expires_ms, .. } = pair;
        NewAccess { hash: &self.hash, wrapped: &self.wrapped, scopes, expires_ms: *expires_ms }
    }

    fn refresh(&self) -> NewRefresh<'_> {
        NewRefresh { hash: &self.hash, wrapped: &self.wrapped }
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
