//! Tokens that others signed, each believed once.

use bartizan_config::agents::Agent;
use bartizan_oauth::jwt::{Alg, Claims, Expect, Typ};
use bartizan_oauth::scope::ScopeSet;
use bartizan_oauth::{OAuthCode, OAuthError};
use bartizan_store::repo::oauth_grant::{self, Grant};
use bartizan_store::repo::person::{self, Person};
use bartizan_store::repo::replay;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::super::fresh::Confirmed;
use super::super::secrets::{self, Pair};
use super::super::token::From;
use super::super::{Inner, machines, ms, no_randomness, scope, unavailable};
use super::{GrantContent, Stored, Terms, Told};
use crate::event::Action;
use crate::sealing::GrantKey;
use crate::secret;

/// Longest token that is looked at, bytes.
pub(super) const MAX: usize = 16 * 1024;
/// Longest `jti`, bytes.
const MAX_JTI: usize = 256;
/// How far clocks may differ, seconds.
const LEEWAY_S: i64 = 60;
/// `none` and shared secrets have no name in [`Alg`].
const ALGORITHMS: [Alg; 6] = [Alg::EdDsa, Alg::Es256, Alg::Es384, Alg::Rs256, Alg::Ps256, Alg::Rs512];

/// What a token has to be.
pub(super) struct Foreign<'a> {
    pub(super) token: &'a str,
    pub(super) issuer: &'a str,
    /// Where its keys are; `None`: where its discovery document says.
    pub(super) jwks_uri: Option<&'a str>,
    pub(super) audience: &'a str,
    pub(super) typ: Typ<'a>,
    /// Longest life, seconds.
    pub(super) longest_s: i64,
}

/// Who says to have signed a token, before anything about it is believed. It only chooses
/// among configured issuers, whose keys then decide.
pub(super) fn claimed_issuer(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

impl From {
    /// A refusal whose reason is for the record, and for who proved to be the client.
    pub(super) fn refuse(&mut self, why: &str) -> OAuthError {
        why.clone_into(&mut self.detail);
        OAuthError::new(OAuthCode::InvalidGrant, format!("the assertion is not accepted: {why}"))
    }
}

impl Inner {
    pub(super) fn trust(&self) -> Result<&machines::Trust, OAuthError> {
        let none = || OAuthError::new(OAuthCode::UnsupportedGrantType, "this grant type is not offered here");
        self.trust.get().ok_or_else(none)
    }

    /// Checks signature, type, issuer, audience and times of a token.
    pub(super) async fn believe(&self, foreign: &Foreign<'_>, from: &mut From) -> Result<Claims, OAuthError> {
        let directory = &self.trust()?.directory;
        let down = |error| {
            tracing::warn!(%error, issuer = foreign.issuer, "the keys of an issuer cannot be had");
            OAuthError::new(OAuthCode::TemporarilyUnavailable, "the keys of the issuer cannot be fetched, try again")
        };
        let uri = match foreign.jwks_uri {
            Some(uri) => uri.to_owned(),
            None => {
                let metadata = directory.metadata(foreign.issuer).await.map_err(down)?;
                metadata.jwks_uri.clone().ok_or_else(|| from.refuse("issuer"))?
            }
        };
        let expect = Expect {
            issuer: foreign.issuer,
            audience: foreign.audience,
            algs: &ALGORITHMS,
            typ: foreign.typ,
            nonce: None,
            now_s: self.now().div_euclid(1000),
            leeway_s: LEEWAY_S,
            max_age_s: None,
        };
        let checked = directory.verify(foreign.token, &uri, &expect).await.map_err(down)?;
        let claims = checked.map_err(|error| from.refuse(error.as_str()))?;
        let life = claims.seconds("exp").zip(claims.seconds("iat")).map(|(exp, iat)| exp.saturating_sub(iat));
        match life {
            Some(life) if (1..=foreign.longest_s).contains(&life) => Ok(claims),
            _ => Err(from.refuse("lifetime")),
        }
    }

    /// Uses a token up, for all replicas, until it expires. The last check: what was refused
    /// before may be tried again with what was wrong put right.
    pub(super) async fn use_up(
        &self,
        foreign: &Foreign<'_>,
        claims: &Claims,
        from: &mut From,
    ) -> Result<(), OAuthError> {
        let name = match claims.get("jti") {
            // The signature is not part of it: some can be changed and stay good.
            None => foreign.token.rsplit_once('.').map_or("", |(message, _)| message),
            Some(Value::String(jti)) if (1..=MAX_JTI).contains(&jti.len()) => jti,
            Some(_) => return Err(from.refuse("jti")),
        };
        let exp = claims.seconds("exp").unwrap_or_default();
        let until_ms = exp.saturating_add(LEEWAY_S + 1).saturating_mul(1000);
        let marker = URL_SAFE_NO_PAD.encode(secret::hash(&format!("{}\n{name}", foreign.issuer)));
        let first = replay::consume(&self.deps.store, &format!("foreign:{marker}"), until_ms).await;
        if first.map_err(|error| unavailable(&error))? {
            return Ok(());
        }
        let mut event = self.event(Action::Replay, false, &from.client, "assertion used twice");
        event.ip = Some(from.peer);
        event.provider.clone_from(&from.provider);
        self.record(event);
        Err(from.refuse("replay"))
    }

    /// An access token and nothing to renew it with: who has the authority shows it again.
    pub(super) async fn issue_alone(
        &self,
        person: &Person,
        client_id: &str,
        terms: Terms,
        told: &Told,
        until_ms: Option<i64>,
    ) -> Result<Pair, OAuthError> {
        let now = self.now();
        let mint = |prefix| secrets::mint(prefix).map(|token| token.expose().clone()).ok_or_else(no_randomness);
        let expires_ms = now.saturating_add(ms(self.deps.settings.lifetimes.access_token_s));
        let pair = Pair {
            access: mint(secrets::ACCESS)?,
            refresh: String::new(),
            scopes: terms.scopes.clone(),
            expires_ms: expires_ms.min(until_ms.unwrap_or(i64::MAX)),
        };
        let (id, key) = (secrets::id().ok_or_else(no_randomness)?, GrantKey::new().ok_or_else(no_randomness)?);
        let content = GrantContent::new(terms, told, &id, &key).ok_or_else(no_randomness)?;
        let grant = Grant {
            id,
            person: person.id.clone(),
            client_id: client_id.to_owned(),
            content: serde_json::to_string(&content)
                .map_err(|_| OAuthError::new(OAuthCode::ServerError, "no token could be made"))?,
            created_ms: now,
            expires_ms: pair.expires_ms,
            used_ms: now,
            revoked_ms: None,
        };
        let access = Stored::new(&pair.access, &grant.id, &key)?;
        let issued = oauth_grant::issue(&self.deps.store, &grant, access.access(&pair)).await;
        match issued.map_err(|error| unavailable(&error))? {
            true => Ok(pair),
            false => Err(super::invalid_grant()),
        }
    }

    /// A token of an agent. Its owner must be known and active, here and at the provider.
    pub(super) async fn issue_to_agent(
        &self,
        agent: &Agent,
        resource: String,
        scopes: String,
        from: &mut From,
        how: &str,
    ) -> Result<Pair, OAuthError> {
        let refuse = |from: &mut From, why: &str| {
            why.clone_into(&mut from.detail);
            OAuthError::new(OAuthCode::InvalidGrant, format!("the agent cannot be used: {why}"))
        };
        let expires_ms = agent.expires_ms();
        if expires_ms.is_some_and(|end| self.now() >= end) {
            return Err(refuse(from, "it has expired"));
        }
        let owner = person::by_email(&self.deps.store, &agent.owner).await.map_err(|error| unavailable(&error))?;
        let Some(owner) = owner.filter(|owner| owner.deactivated_ms.is_none()) else {
            return Err(refuse(from, "its owner is unknown or deactivated"));
        };
        match self.confirm(&owner.id, &format!("agent:{}", agent.id), from.peer).await? {
            // Silence ends nobody's agent: owners have holidays, and many providers give no
            // way of asking. The directory's word (A14), or the provider's, does.
            Confirmed::Yes | Confirmed::TooLongAgo => {}
            Confirmed::Ended => return Err(refuse(from, "its owner may not sign in any more")),
        }
        let terms = Terms {
            client_name: agent.id.clone(),
            client_kind: "agent".to_owned(),
            resource,
            scopes,
            provider: owner.provider.clone(),
            agent: Some(agent.id.clone()),
        };
        let told = Told { groups: agent.groups.clone(), ..Told::default() };
        let pair = self.issue_alone(&owner, &agent.id, terms, &told, expires_ms).await?;
        self.note_issued(&owner.id, &format!("agent:{}", agent.id), from.peer, how).await;
        Ok(pair)
    }

    /// Scopes that were asked for, as far as they exist; the usual ones without a word about
    /// them.
    pub(super) fn wanted(&self, asked: Option<&str>) -> Result<ScopeSet, OAuthError> {
        let wrong = |text: String| OAuthError::new(OAuthCode::InvalidScope, text);
        let Some(asked) = asked else { return Ok(self.scopes.clone()) };
        let parsed = ScopeSet::parse(asked).map_err(|error| wrong(error.to_string()))?;
        let known = scope::known(&parsed, &self.scopes);
        if known.is_empty() { Err(wrong(format!("known scopes are {}", self.scopes))) } else { Ok(known) }
    }

    /// The same for an agent: nobody is there to agree to more than the usual ones.
    pub(super) fn wanted_by_agent(&self, asked: Option<&str>) -> Result<String, OAuthError> {
        let granted = scope::within(&self.wanted(asked)?, &self.scopes);
        let wrong = || OAuthError::new(OAuthCode::InvalidScope, format!("agents may have {}", self.scopes));
        if granted.is_empty() { Err(wrong()) } else { Ok(granted.to_string()) }
    }
}
