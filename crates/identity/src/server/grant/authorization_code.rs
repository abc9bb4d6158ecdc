//! `authorization_code` (RFC 6749 section 4.1.3, RFC 7636 section 4.6).

use std::net::IpAddr;

use bartizan_oauth::params::Params;
use bartizan_oauth::pkce::Challenge;
use bartizan_oauth::{OAuthCode, OAuthError};
use bartizan_store::repo::oauth_code::{self, Code, FirstTokens};
use bartizan_store::repo::oauth_grant::{self, Grant};
use bartizan_store::repo::person;

use super::super::client_auth::Presented;
use super::super::secrets::{self, Pair};
use super::super::token::check_target;
use super::super::{Inner, ms, unavailable};
use super::{GrantContent, Stored, invalid_grant};
use crate::event::Action;
use crate::sealing::GrantKey;
use crate::secret;

impl Inner {
    pub(in super::super) async fn authorization_code(
        &self,
        params: &Params,
        client: &Presented,
        peer: IpAddr,
    ) -> Result<Pair, OAuthError> {
        if !self.is_documented(client.id()) {
            self.authenticate_client(client, peer).await?;
        }
        let required = |name: &str| {
            let missing = || OAuthError::new(OAuthCode::InvalidRequest, format!("{name} is missing"));
            params.get(name).ok_or_else(missing)
        };
        let (text, verifier) = (required("code")?, required("code_verifier")?);
        if !secrets::has_form(text, secrets::CODE) {
            return Err(invalid_grant());
        }
        let hash = secret::hash(text);
        let found = oauth_code::get(&self.deps.store, &hash).await.map_err(|error| unavailable(&error))?;
        let code = found.ok_or_else(invalid_grant)?;
        let proven = Challenge::parse(&code.challenge).is_some_and(|challenge| challenge.is_proven_by(verifier));
        // OAuth 2.1 leaves redirect_uri out of this request; who sends it must be right.
        let same_way = !params.is_duplicate("redirect_uri")
            && params.get("redirect_uri").is_none_or(|uri| uri == code.redirect_uri);
        // A used code alone ends nothing: it stands in histories and logs, the verifier does not.
        if !(code.client_id == client.id() && proven && same_way) {
            return Err(invalid_grant());
        }
        if self.is_documented(client.id()) {
            self.authenticate_client(client, peer).await?;
        }
        if code.used_ms.is_some() {
            return Err(self.replayed(&code, peer).await);
        }
        if self.now() >= code.expires_ms {
            return Err(invalid_grant());
        }
        let person = person::by_id(&self.deps.store, &code.person).await.map_err(|error| unavailable(&error))?;
        if person.is_none_or(|person| person.deactivated_ms.is_some()) {
            return Err(invalid_grant());
        }
        let content: GrantContent = serde_json::from_str(&code.content).map_err(|_| invalid_grant())?;
        check_target(params, &content.resource)?;
        let key = GrantKey::unwrap(text, &code.grant_id, &code.wrapped).ok_or_else(invalid_grant)?;
        let pair = self.new_pair(&content.scopes)?;
        self.redeem(&hash, &code, &key, &pair, peer).await?;
        self.note_issued(&code.person, client.id(), peer, "authorization_code").await;
        Ok(pair)
    }

    async fn redeem(
        &self,
        hash: &[u8],
        code: &Code,
        key: &GrantKey,
        pair: &Pair,
        peer: IpAddr,
    ) -> Result<(), OAuthError> {
        let now = self.now();
        let grant = Grant {
            id: code.grant_id.clone(),
            person: code.person.clone(),
            client_id: code.client_id.clone(),
            content: code.content.clone(),
            created_ms: now,
            expires_ms: now.saturating_add(ms(self.deps.settings.lifetimes.grant_s)),
            used_ms: now,
            revoked_ms: None,
        };
        let (access, refresh) =
            (Stored::new(&pair.access, &grant.id, key)?, Stored::new(&pair.refresh, &grant.id, key)?);
        let tokens = FirstTokens { access: access.access(pair), refresh: refresh.refresh() };
        match oauth_code::redeem(&self.deps.store, hash, &grant, tokens).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let now = oauth_code::get(&self.deps.store, hash).await.map_err(|error| unavailable(&error))?;
                // Two requests at once: it cannot be known which of them is the thief's. A code
                // that was taken back, or ran out, meanwhile is no theft.
                match now.filter(|code| code.used_ms.is_some()) {
                    Some(used) => Err(self.replayed(&used, peer).await),
                    None => Err(invalid_grant()),
                }
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// A code that comes twice was stolen: whatever it gave ends (RFC 6749 section 4.1.2).
    async fn replayed(&self, code: &Code, peer: IpAddr) -> OAuthError {
        match oauth_grant::revoke(&self.deps.store, &code.grant_id, "code used twice").await {
            Ok(_) => {
                let about = self.event_of(Action::Replay, false, &code.person, &code.client_id, "code used twice");
                let mut event = about.await;
                event.ip = Some(peer);
                self.record(event);
                invalid_grant()
            }
            Err(error) => unavailable(&error),
        }
    }
}
