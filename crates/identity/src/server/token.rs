//! The token endpoint (RFC 6749 section 3.2).

use std::net::IpAddr;

use bartizan_oauth::params::Params;
use bartizan_oauth::{OAuthCode, OAuthError, resource};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::client_auth::Presented;
use super::secrets::Pair;
use super::{AuthorizationServer, Inner, json, machines, refusal};
use crate::event::Action;

/// Where a request comes from, for its record.
pub(super) struct From {
    pub(super) peer: IpAddr,
    /// Who it says to be; empty as long as that is not read.
    pub(super) client: String,
    /// The identity provider whose word it brings.
    pub(super) provider: Option<String>,
    /// What exactly was wrong, for the record.
    pub(super) detail: String,
}

impl From {
    pub(super) fn new(peer: IpAddr) -> Self {
        Self { peer, client: String::new(), provider: None, detail: String::new() }
    }
}

impl AuthorizationServer {
    /// `POST /token`.
    pub async fn token(&self, headers: &HeaderMap, peer: IpAddr, body: Bytes) -> Response<Bytes> {
        let inner = &self.inner;
        let mut from = From::new(peer);
        match inner.token(headers, &mut from, &body).await {
            Ok((pair, kind)) => json(StatusCode::OK, inner.answer_with(&pair, kind)),
            Err(error) => inner.refuse_client(headers, &from, &error, Action::Token),
        }
    }
}

impl Inner {
    async fn token(
        &self,
        headers: &HeaderMap,
        from: &mut From,
        body: &[u8],
    ) -> Result<(Pair, Option<&'static str>), OAuthError> {
        let params = form(headers, body)?;
        let grant_type = params
            .get("grant_type")
            .ok_or_else(|| OAuthError::new(OAuthCode::InvalidRequest, "grant_type is missing"))?;
        let client = Presented::read(headers, &params)?;
        client.id().clone_into(&mut from.client);
        let pair = match grant_type {
            "authorization_code" => self.authorization_code(&params, &client, from.peer).await?,
            "refresh_token" => self.refresh_token(&params, &client, from.peer).await?,
            // The rest is large and rare.
            machines::JWT_BEARER => Box::pin(self.jwt_bearer(&params, &client, from)).await?,
            machines::CLIENT_CREDENTIALS => Box::pin(self.client_credentials(&params, &client, from)).await?,
            machines::TOKEN_EXCHANGE => {
                let pair = Box::pin(self.token_exchange(&params, &client, from)).await?;
                return Ok((pair, Some(machines::ACCESS_TOKEN)));
            }
            _ => return Err(OAuthError::new(OAuthCode::UnsupportedGrantType, "this grant type is not offered here")),
        };
        Ok((pair, None))
    }

    /// `issued` is the kind of token, which only an exchange tells (RFC 8693 section 2.2.1).
    fn answer_with(&self, pair: &Pair, issued: Option<&'static str>) -> Vec<u8> {
        #[derive(serde::Serialize)]
        struct Answer<'a> {
            access_token: &'a str,
            token_type: &'static str,
            expires_in: i64,
            #[serde(skip_serializing_if = "str::is_empty")]
            refresh_token: &'a str,
            scope: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            issued_token_type: Option<&'static str>,
        }
        let answer = Answer {
            access_token: &pair.access,
            token_type: "Bearer",
            expires_in: pair.expires_ms.saturating_sub(self.now()).max(0).div_euclid(1000),
            refresh_token: &pair.refresh,
            scope: &pair.scopes,
            issued_token_type: issued,
        };
        serde_json::to_vec(&answer).unwrap_or_default()
    }

    /// The error of an endpoint where clients authenticate, and its record.
    pub(super) fn refuse_client(
        &self,
        headers: &HeaderMap,
        from: &From,
        error: &OAuthError,
        action: Action,
    ) -> Response<Bytes> {
        let note = [error.code.as_str(), &from.detail];
        let note = note.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        let mut event = self.event(action, false, &from.client, &note);
        event.ip = Some(from.peer);
        event.provider.clone_from(&from.provider);
        self.record(event);
        let mut response = refusal(error);
        // RFC 6749 section 5.2: with the scheme the client used.
        if error.code == OAuthCode::InvalidClient && headers.contains_key(AUTHORIZATION) {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"bartizan\""));
        }
        if error.code == OAuthCode::SlowDown {
            response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from_static("60"));
        }
        response
    }

    /// Records that tokens were issued.
    pub(super) async fn note_issued(&self, person: &str, client: &str, peer: IpAddr, how: &str) {
        let mut event = self.event_of(Action::Token, true, person, client, how).await;
        event.ip = Some(peer);
        self.record(event);
    }
}

/// The parameters of a body.
pub(super) fn form(headers: &HeaderMap, body: &[u8]) -> Result<Params, OAuthError> {
    let wrong = |text: String| OAuthError::new(OAuthCode::InvalidRequest, text);
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(wrong("the body must be application/x-www-form-urlencoded".to_owned()));
    }
    let params = Params::parse(body).map_err(|error| wrong(error.to_string()))?;
    if params.is_duplicate("resource") {
        return Err(OAuthError::new(OAuthCode::InvalidTarget, "a token is for one resource, name one"));
    }
    match params.duplicate() {
        Some(name) => Err(wrong(format!("the parameter {name} is there more than once"))),
        None => Ok(params),
    }
}

/// A token request may name the grant's resource, and no other (RFC 8707 section 2.2).
pub(super) fn check_target(params: &Params, granted: &str) -> Result<(), OAuthError> {
    match params.get("resource") {
        None => Ok(()),
        Some(asked) if resource::canonical(asked).as_deref() == Some(granted) => Ok(()),
        Some(_) => Err(OAuthError::new(OAuthCode::InvalidTarget, "the grant is for another resource")),
    }
}
