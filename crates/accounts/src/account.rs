//! One account at rest, and its place.

use bartizan_catalog::{Credential, OauthConfig, PatConfig, ServerSpec, Transport};
use bartizan_model::{Principal, PrincipalKind};
use bartizan_oauth::token_answer::TokenAnswer;
use bartizan_store::repo::sealed::Key;
use bartizan_store::repo::upstream_account;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::accounts::AccountError;
use crate::strategy::SHARED;
use crate::whom::whom;

/// A token is refreshed this long before its end, milliseconds; short-lived ones later.
pub(crate) const EARLY_MS: i64 = 60_000;
/// Issuer of tokens that were typed.
pub(crate) const PAT: &str = "pat_user";
/// Longest life that is believed, milliseconds.
const MAX_LIFE_MS: i64 = 400 * 24 * 3_600_000;

/// How bartizan is known to an authorization server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientKind {
    /// By the administrator.
    Configured,
    /// By the URL of its document.
    Document,
    /// By registration (RFC 7591).
    Registered,
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
pub(crate) struct Stored {
    /// Gone when the person must sign in again.
    pub(crate) access: Option<String>,
    pub(crate) refresh: Option<String>,
    pub(crate) issued_ms: i64,
    pub(crate) expires_ms: Option<i64>,
    /// Who issued it. It is refreshed and revoked nowhere else.
    pub(crate) issuer: String,
    /// URL of the server it is for. It is sent nowhere else.
    pub(crate) server_url: String,
    /// Resource indicator (RFC 8707).
    pub(crate) resource: String,
    pub(crate) client_kind: ClientKind,
    pub(crate) client_id: String,
    pub(crate) scopes: String,
    pub(crate) connected_ms: i64,
    /// Who the person is there, as far as it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) whom: Option<String>,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.access.zeroize();
        self.refresh.zeroize();
    }
}

impl Stored {
    /// Whether the token may be used for the server as it is configured now.
    pub(crate) fn fits(&self, place: &Place<'_>) -> bool {
        if place.is_pat() || self.issuer == PAT {
            return place.is_pat() && self.issuer == PAT && self.server_url == place.url;
        }
        let configured = place.config.issuer.as_ref().is_none_or(|issuer| *issuer == self.issuer);
        let client = match self.client_kind {
            ClientKind::Configured => place.config.client_id.as_ref() == Some(&self.client_id),
            ClientKind::Document | ClientKind::Registered => place.config.client_id.is_none(),
        };
        self.server_url == place.url && configured && client
    }

    /// When it is time for another token.
    pub(crate) fn due_ms(&self) -> Option<i64> {
        let expires = self.expires_ms?;
        let life = expires.saturating_sub(self.issued_ms).max(0);
        Some(expires - EARLY_MS.min(life / 2))
    }

    pub(crate) fn is_over(&self, now: i64) -> bool {
        self.expires_ms.is_some_and(|expires| expires <= now)
    }

    /// Takes new tokens over.
    pub(crate) fn renew(&mut self, answer: &TokenAnswer, now: i64) {
        self.access.zeroize();
        self.access = Some(answer.access_token.expose().clone());
        if let Some(refresh) = &answer.refresh_token {
            self.refresh.zeroize();
            self.refresh = Some(refresh.expose().clone());
        }
        self.issued_ms = now;
        let life = answer.expires_in_s.map(|s| i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(1000));
        self.expires_ms = life.map(|life| now.saturating_add(life.min(MAX_LIFE_MS)));
        if let Some(said) = &answer.id_token {
            self.whom = whom(said.expose(), &self.issuer, &self.client_id).or_else(|| self.whom.take());
        }
        if let Some(scope) = &answer.scope {
            self.scopes.clone_from(scope);
        }
    }
}

/// Whose account at which server.
pub(crate) struct Place<'a> {
    /// Key of the principal; [`SHARED`] for the one account of all (P19).
    pub(crate) owner: &'a str,
    /// Key of the principal who calls or connects.
    pub(crate) person: &'a str,
    pub(crate) server: &'a str,
    pub(crate) url: &'a str,
    pub(crate) config: &'a OauthConfig,
    /// Of the server's specification.
    pub(crate) spec_version: &'a str,
    /// In the change feed, in memory and as id of the sealed record.
    pub(crate) name: String,
    pat: Option<&'a PatConfig>,
}

/// A typed token has no authorization server.
pub(crate) static NOTHING: OauthConfig = OauthConfig {
    issuer: None,
    client_id: None,
    client_secret: None,
    client_key: None,
    client_key_id: None,
    scopes: Vec::new(),
    shared: false,
    admin_groups: Vec::new(),
};

impl<'a> Place<'a> {
    /// Where a principal may connect an account through an authorization server.
    ///
    /// # Errors
    /// [`AccountError::Misconfigured`] where there are no such accounts, or not for this one.
    pub(crate) fn new(spec: &'a ServerSpec, principal: &'a Principal) -> Result<Self, AccountError> {
        let wrong = |why: &str| Err(AccountError::Misconfigured(why.to_owned()));
        let place = Self::of(spec, principal)?;
        if place.is_pat() {
            return wrong("the server takes typed tokens, not accounts");
        }
        if place.config.shared && !may_administer(place.config, principal) {
            return wrong("the account of this server is connected by its administrators, and this caller is none");
        }
        Ok(place)
    }

    /// Where the account is that a principal's calls use.
    ///
    /// # Errors
    /// [`AccountError::Misconfigured`] where there is none.
    pub(crate) fn of(spec: &'a ServerSpec, principal: &'a Principal) -> Result<Self, AccountError> {
        let absent = || AccountError::Misconfigured("the server takes no personal accounts".to_owned());
        let (config, pat) = match &spec.credential {
            Credential::OauthUser(config) => (config, None),
            Credential::PatUser(pat) => (&NOTHING, Some(pat)),
            _ => return Err(absent()),
        };
        if !config.shared && (principal.kind != PrincipalKind::User || !principal.is_proper()) {
            let why = "only a person can connect an account at this server, and this caller is none";
            return Err(AccountError::Misconfigured(why.to_owned()));
        }
        let person = &**principal.key();
        let owner = if config.shared { SHARED } else { person };
        Self::at(spec, config, owner, person, pat)
    }

    /// A place without any account, to find out about the server.
    ///
    /// # Errors
    /// [`AccountError::Misconfigured`] for local servers.
    pub(crate) fn bare(spec: &'a ServerSpec, config: &'a OauthConfig) -> Result<Self, AccountError> {
        Self::at(spec, config, SHARED, SHARED, None)
    }

    fn at(
        spec: &'a ServerSpec,
        config: &'a OauthConfig,
        owner: &'a str,
        person: &'a str,
        pat: Option<&'a PatConfig>,
    ) -> Result<Self, AccountError> {
        let Transport::Http { url } = &spec.transport else {
            return Err(AccountError::Misconfigured("a local server takes no accounts".to_owned()));
        };
        let server = spec.id.as_str();
        let name = upstream_account::name(owner, server);
        Ok(Self { owner, person, server, url, config, spec_version: &spec.version, name, pat })
    }

    pub(crate) fn is_pat(&self) -> bool {
        self.pat.is_some()
    }

    /// What comes before a token in its header.
    pub(crate) fn prefix(&self) -> &str {
        self.pat.map_or("Bearer", |pat| &pat.prefix)
    }

    /// Whose account it is, for the record.
    pub(crate) fn identity(&self, principal: &Principal) -> String {
        match (self.pat, self.config.shared) {
            (Some(_), _) => format!("pat_user:{}", principal.id),
            (None, true) => "oauth_user:shared".to_owned(),
            (None, false) => format!("oauth_user:{}", principal.id),
        }
    }

    pub(crate) fn record(&self) -> Key {
        Key { tenant: String::new(), kind: "upstream_token".to_owned(), id: self.name.clone() }
    }
}

/// Whether a principal may connect the one account of all.
pub(crate) fn may_administer(config: &OauthConfig, principal: &Principal) -> bool {
    let is_person = principal.kind == PrincipalKind::User && principal.is_proper();
    is_person && principal.groups.iter().any(|group| config.admin_groups.iter().any(|admin| **group == **admin))
}
