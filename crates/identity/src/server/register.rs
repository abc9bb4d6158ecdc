//! Dynamic client registration (RFC 7591; A7). Whoever registers has no authority yet, so
//! it is limited, and what is never used goes away.

use std::net::IpAddr;

use bartizan_oauth::registration::{self, AuthMethod, ClientMetadata};
use bartizan_oauth::{OAuthCode, OAuthError};
use bartizan_store::repo::oauth_client;
use bytes::Bytes;
use http::header::{HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::{AuthorizationServer, Inner, client, json, no_randomness, refusal, secrets, unavailable};
use crate::event::Action;

/// Clients that were never used are kept up to this number, the newest ones.
const MAX_UNUSED: u32 = 10_000;
/// Since 2026-07-28, the MCP revision that deprecates registration (RFC 9745 section 2.1).
const DEPRECATED: HeaderValue = HeaderValue::from_static("@1785196800");
const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");

impl AuthorizationServer {
    /// `POST /register`.
    pub async fn register(&self, peer: IpAddr, body: Bytes) -> Response<Bytes> {
        let mut response = match self.inner.register(peer, &body, MAX_UNUSED).await {
            Ok((id, answer)) => {
                let mut event = self.inner.event(Action::Register, true, &id, "");
                event.ip = Some(peer);
                self.inner.record(event);
                json(StatusCode::CREATED, answer)
            }
            Err(error) => {
                let mut event = self.inner.event(Action::Register, false, "", error.code.as_str());
                event.ip = Some(peer);
                self.inner.record(event);
                let mut response = refusal(&error);
                if error.code == OAuthCode::SlowDown {
                    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
                }
                response
            }
        };
        response.headers_mut().insert(DEPRECATION, DEPRECATED);
        response
    }
}

impl Inner {
    pub(super) async fn register(
        &self,
        peer: IpAddr,
        body: &[u8],
        max_unused: u32,
    ) -> Result<(String, Vec<u8>), OAuthError> {
        if !self.deps.settings.registration.enabled {
            return Err(OAuthError::new(
                OAuthCode::AccessForbidden,
                "registration is switched off here (sign_in.registration.enabled); ask the administrator for a client_id",
            ));
        }
        if !self.registrations.take(peer, "", self.now()) {
            return Err(OAuthError::new(OAuthCode::SlowDown, "too many registrations, try again in a minute"));
        }
        let client = self.registration(body)?;
        let id = secrets::id().map(|id| format!("{}{id}", secrets::CLIENT)).ok_or_else(no_randomness)?;
        let stored = oauth_client::insert(&self.deps.store, &id, &client::stored(&client), max_unused).await;
        stored.map_err(|error| unavailable(&error))?;
        let answer = registration::answer(&id, self.now().div_euclid(1000), &client);
        Ok((id, answer))
    }

    fn registration(&self, body: &[u8]) -> Result<ClientMetadata, OAuthError> {
        let client = registration::parse_request(body)?;
        // Secrets are left out (RFC 7591 section 3.2.1 lets us), keys are no less than asked.
        if client.auth_method == AuthMethod::PrivateKeyJwt {
            return Err(OAuthError::new(
                OAuthCode::InvalidClientMetadata,
                "clients that register are public; for private_key_jwt use a client ID metadata document",
            ));
        }
        for uri in &client.redirect_uris {
            self.rules.check(uri)?;
        }
        Ok(client)
    }
}
