//! The revocation endpoint (RFC 7009; A25).

use std::net::IpAddr;

use bartizan_oauth::{OAuthCode, OAuthError};
use bartizan_store::repo::oauth_grant::{self, Grant};
use bartizan_store::repo::oauth_refresh;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};

use super::client_auth::Presented;
use super::{AuthorizationServer, Inner, json, secrets, token, unavailable};
use crate::event::Action;
use crate::secret;

impl AuthorizationServer {
    /// `POST /revoke`. A refresh token ends its grant, an access token only itself. What is
    /// not known is no error (section 2.2).
    pub async fn revoke(&self, headers: &HeaderMap, peer: IpAddr, body: Bytes) -> Response<Bytes> {
        let mut from = token::From::new(peer);
        match self.inner.revoke(headers, &mut from, &body).await {
            Ok(()) => json(StatusCode::OK, Bytes::from_static(b"{}")),
            Err(error) => self.inner.refuse_client(headers, &from, &error, Action::Revoke),
        }
    }
}

impl Inner {
    async fn revoke(&self, headers: &HeaderMap, from: &mut token::From, body: &[u8]) -> Result<(), OAuthError> {
        let params = token::form(headers, body)?;
        let client = Presented::read(headers, &params)?;
        client.id().clone_into(&mut from.client);
        if !self.is_documented(client.id()) {
            self.authenticate_client(&client, from.peer).await?;
        }
        let missing = || OAuthError::new(OAuthCode::InvalidRequest, "token is missing");
        let text = params.get("token").ok_or_else(missing)?;
        let Some(grant) = self.owner(text).await? else { return Ok(()) };
        if grant.client_id != client.id() {
            return Err(OAuthError::new(OAuthCode::UnauthorizedClient, "the token belongs to another client"));
        }
        if self.is_documented(client.id()) {
            self.authenticate_client(&client, from.peer).await?;
        }
        let store = &self.deps.store;
        let ended = if secrets::has_form(text, secrets::REFRESH) {
            oauth_grant::revoke(store, &grant.id, "revoked by the client").await
        } else {
            oauth_grant::delete_access(store, &secret::hash(text), &grant.id).await
        };
        if ended.map_err(|error| unavailable(&error))? {
            let about = self.event_of(Action::Revoke, true, &grant.person, client.id(), "revoked by the client");
            let mut event = about.await;
            event.ip = Some(from.peer);
            self.record(event);
        }
        Ok(())
    }

    /// The grant of a token.
    async fn owner(&self, text: &str) -> Result<Option<Grant>, OAuthError> {
        let (store, hash) = (&self.deps.store, secret::hash(text));
        if secrets::has_form(text, secrets::ACCESS) {
            let found = oauth_grant::access(store, &hash).await.map_err(|error| unavailable(&error))?;
            return Ok(found.map(|access| access.grant));
        }
        if !secrets::has_form(text, secrets::REFRESH) {
            return Ok(None);
        }
        let Some(row) = oauth_refresh::get(store, &hash).await.map_err(|error| unavailable(&error))? else {
            return Ok(None);
        };
        oauth_grant::by_id(store, &row.grant_id).await.map_err(|error| unavailable(&error))
    }
}
