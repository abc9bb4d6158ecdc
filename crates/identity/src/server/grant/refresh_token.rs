//! `refresh_token` (RFC 6749 section 6) with rotation and grace (A10).

use std::net::IpAddr;

use bartizan_oauth::params::Params;
use bartizan_oauth::scope::ScopeSet;
use bartizan_oauth::{OAuthCode, OAuthError};
use bartizan_store::repo::oauth_grant::{self, Grant};
use bartizan_store::repo::oauth_refresh::{self, Exchange, Exchanged, MAX_EXCHANGES, Refresh};
use bartizan_store::repo::person;

use super::super::client_auth::Presented;
use super::super::scope;
use super::super::secrets::{self, Pair};
use super::super::token::check_target;
use super::super::{Inner, unavailable};
use super::{GrantContent, Stored, invalid_grant};
use crate::event::Action;
use crate::sealing::GrantKey;
use crate::secret;

/// For how long the same token gives the same pair, milliseconds.
const SAME_PAIR_MS: i64 = 30_000;
/// Requests at once with one token are few; more than this is no client.
const TRIES: usize = 5;

impl Inner {
    pub(in super::super) async fn refresh_token(
        &self,
        params: &Params,
        client: &Presented,
        peer: IpAddr,
    ) -> Result<Pair, OAuthError> {
        if !self.is_documented(client.id()) {
            self.authenticate_client(client, peer).await?;
        }
        let text = params
            .get("refresh_token")
            .ok_or_else(|| OAuthError::new(OAuthCode::InvalidRequest, "refresh_token is missing"))?;
        if !secrets::has_form(text, secrets::REFRESH) {
            return Err(invalid_grant());
        }
        let hash = secret::hash(text);
        let (mut row, grant) = self.family(&hash, client).await?;
        if self.is_documented(client.id()) {
            self.authenticate_client(client, peer).await?;
        }
        let content: GrantContent = serde_json::from_str(&grant.content).map_err(|_| invalid_grant())?;
        check_target(params, &content.resource)?;
        let scopes = narrowed(params, &content)?;
        for _ in 0..TRIES {
            if row.retired_ms.is_some() {
                return Err(self.reused(&grant, peer).await);
            }
            // Whoever holds the token opens what is sealed for it.
            let key = row.wrapped.as_deref().and_then(|wrapped| GrantKey::unwrap(text, &grant.id, wrapped));
            let key = key.ok_or_else(invalid_grant)?;
            if let Some(pair) = self.same_pair(text, &row) {
                let pair = self.within(pair, &scopes, &grant, &key).await?;
                self.note_issued(&grant.person, client.id(), peer, "refresh_token, same pair").await;
                return Ok(pair);
            }
            if row.exchanges >= MAX_EXCHANGES {
                return Err(self.reused(&grant, peer).await);
            }
            self.judge(&grant, &content, &key, peer).await?;
            let pair = self.new_pair(&scopes)?;
            match self.exchange(text, &hash, &row, client.id(), &key, &pair).await? {
                Exchanged::Done => {
                    self.note_issued(&grant.person, client.id(), peer, "refresh_token").await;
                    return Ok(pair);
                }
                Exchanged::Ended => return Err(invalid_grant()),
                Exchanged::Overtaken => row = self.family(&hash, client).await?.0,
            }
        }
        Err(OAuthError::new(OAuthCode::TemporarilyUnavailable, "too many requests with this token at once"))
    }

    /// The token and its grant, when the grant runs, is this client's and its person's
    /// account is active.
    async fn family(&self, hash: &[u8], client: &Presented) -> Result<(Refresh, Grant), OAuthError> {
        let store = &self.deps.store;
        let found = oauth_refresh::get(store, hash).await.map_err(|error| unavailable(&error))?;
        let row = found.ok_or_else(invalid_grant)?;
        let found = oauth_grant::by_id(store, &row.grant_id).await.map_err(|error| unavailable(&error))?;
        let grant = found.ok_or_else(invalid_grant)?;
        if grant.client_id != client.id() || grant.revoked_ms.is_some() || self.now() >= grant.expires_ms {
            return Err(invalid_grant());
        }
        let person = person::by_id(store, &grant.person).await.map_err(|error| unavailable(&error))?;
        if person.is_none_or(|person| person.deactivated_ms.is_some()) {
            return Err(invalid_grant());
        }
        Ok((row, grant))
    }

    /// The pair this token was exchanged for a moment ago.
    fn same_pair(&self, token: &str, row: &Refresh) -> Option<Pair> {
        let sealed = row.pair.as_deref().filter(|_| row.pair_until_ms.is_some_and(|until| self.now() < until))?;
        secrets::open(token, &row.grant_id, sealed)
    }

    /// The pair as it is when its scopes were asked for; else with an access token of its own.
    async fn within(&self, pair: Pair, scopes: &str, grant: &Grant, key: &GrantKey) -> Result<Pair, OAuthError> {
        let set = |text: &str| ScopeSet::parse(text).unwrap_or_default();
        if set(&pair.scopes).is_subset(&set(scopes)) {
            return Ok(pair);
        }
        let mut narrow = self.new_pair(scopes)?;
        narrow.refresh.clone_from(&pair.refresh);
        let access = Stored::new(&narrow.access, &grant.id, key)?;
        let added = oauth_grant::add_access(&self.deps.store, &grant.id, access.access(&narrow)).await;
        if added.map_err(|error| unavailable(&error))? { Ok(narrow) } else { Err(invalid_grant()) }
    }

    async fn exchange(
        &self,
        token: &str,
        hash: &[u8],
        row: &Refresh,
        client_id: &str,
        key: &GrantKey,
        pair: &Pair,
    ) -> Result<Exchanged, OAuthError> {
        let sealed = secrets::seal(token, &row.grant_id, pair).ok_or_else(super::super::no_randomness)?;
        let access = Stored::new(&pair.access, &row.grant_id, key)?;
        let refresh = Stored::new(&pair.refresh, &row.grant_id, key)?;
        let new = Exchange {
            hash,
            parent: &row.parent,
            grant_id: &row.grant_id,
            client_id,
            pair: &sealed,
            pair_until_ms: self.now().saturating_add(SAME_PAIR_MS),
            access: access.access(pair),
            refresh: refresh.refresh(),
        };
        oauth_refresh::exchange(&self.deps.store, new).await.map_err(|error| unavailable(&error))
    }

    /// A token whose successor is in use, or that comes too often: two hold what one should.
    /// Neither keeps it.
    async fn reused(&self, grant: &Grant, peer: IpAddr) -> OAuthError {
        match oauth_grant::revoke(&self.deps.store, &grant.id, "refresh token used twice").await {
            Ok(_) => {
                let why = "refresh token used twice";
                let mut event = self.event_of(Action::Replay, false, &grant.person, &grant.client_id, why).await;
                event.ip = Some(peer);
                self.record(event);
                invalid_grant()
            }
            Err(error) => unavailable(&error),
        }
    }
}

/// A refresh may ask for less, never for more (RFC 6749 section 6).
fn narrowed(params: &Params, content: &GrantContent) -> Result<String, OAuthError> {
    let Some(text) = params.get("scope") else { return Ok(content.scopes.clone()) };
    let wrong = || OAuthError::new(OAuthCode::InvalidScope, "a refresh cannot widen the scope");
    let (asked, granted) =
        (ScopeSet::parse(text).map_err(|_| wrong())?, ScopeSet::parse(&content.scopes).map_err(|_| wrong())?);
    if asked.is_empty() || !asked.is_subset(&granted) {
        return Err(wrong());
    }
    // A token that names no server must not be good for more of them than the grant.
    Ok(scope::within(&asked, &granted).to_string())
}
