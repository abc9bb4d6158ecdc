//! The revocation endpoint (RFC 7009; A25).

use bartizan_oauth::{OAuthCode, OAuthError};
use bartizan_store::repo::{oauth_grant, oauth_refresh};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};

use super::client_auth::Presented;
use super::{AuthorizationServer, Inner, json, secrets, token, unavailable};
use crate::event::Action;
use crate::secret;

impl AuthorizationServer {
    /// `POST /revoke`. A refresh token ends its grant, an access token only itself. What is
    /// not known is no error (section 2.2).
    pub async fn revoke(&self, headers: &HeaderMap, body: Bytes) -> Response<Bytes> {
        match self.inner.revoke(headers, &body).await {
            Ok(()) => json(StatusCode::OK, Bytes::from_static(b"{}")),
            Err(error) => self.inner.refuse_client(headers, &error, Action::Revoke),
        }
    }
}

impl Inner {
    async fn revoke(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), OAuthError> {
        let params = token::form(headers, body)?;
        let client = Presented::read(headers, &params)?;
        if !self.is_documented(client.id()) {
            self.authenticate_client(&client).await?;
        }
        let missing = || OAuthError::new(OAuthCode::InvalidRequest, "token is missing");
        let text = params.get("token").ok_or_else(missing)?;
        let Some((grant_id, owner)) = self.owner(text).await? else { return Ok(()) };
        if owner != client.id() {
            return Err(OAuthError::new(OAuthCode::UnauthorizedClient, "the token belongs to another client"));
        }
        if self.is_documented(client.id()) {
            self.authenticate_client(&client).await?;
        }
        let store = &self.deps.store;
        let ended = if secrets::has_form(text, secrets::REFRESH) {
            oauth_grant::revoke(store, &grant_id, "revoked by the client").await
        } else {
            oauth_grant::delete_access(store, &secret::hash(text), &grant_id).await
        };
        if ended.map_err(|error| unavailable(&error))? {
            self.record(self.event(Action::Revoke, true, client.id(), "revoked by the client"));
        }
        Ok(())
    }

    /// The grant and client of a token.
    async fn owner(&self, text: &str) -> Result<Option<(String, String)>, OAuthError> {
        let (store, hash) = (&self.deps.store, secret::hash(text));
        if secrets::has_form(text, secrets::ACCESS) {
            let found = oauth_grant::access(store, &hash).await.map_err(|error| unavailable(&error))?;
            return Ok(found.map(|access| (access.grant.id, access.grant.client_id)));
        }
        if !secrets::has_form(text, secrets::REFRESH) {
            return Ok(None);
        }
        let Some(row) = oauth_refresh::get(store, &hash).await.map_err(|error| unavailable(&error))? else {
            return Ok(None);
        };
        let grant = oauth_grant::by_id(store, &row.grant_id).await.map_err(|error| unavailable(&error))?;
        Ok(grant.map(|grant| (grant.id, grant.client_id)))
    }
}
