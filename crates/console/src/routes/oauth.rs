//! What clients ask of the authorization server. Nothing here looks at a cookie; pages of
//! any origin may read the answers (`cors`).

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bartizan_oauth::{OAuthCode, OAuthError};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};

use crate::backend::Backend;
use crate::body::{self, BodyError};
use crate::console::{Console, peer};

/// `POST /token`
pub(crate) async fn token<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let peer = peer(&request);
    let (parts, body) = request.into_parts();
    match body::read(body, body::FORM).await {
        Ok(body) => pass(console.0.backend.token(&parts.headers, peer, body).await),
        Err(error) => unreadable(error, body::FORM),
    }
}

/// `POST /revoke` (RFC 7009)
pub(crate) async fn revoke<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let peer = peer(&request);
    let (parts, body) = request.into_parts();
    match body::read(body, body::FORM).await {
        Ok(body) => pass(console.0.backend.revoke(&parts.headers, peer, body).await),
        Err(error) => unreadable(error, body::FORM),
    }
}

/// `POST /register` (RFC 7591)
pub(crate) async fn register<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let peer = peer(&request);
    match body::read(request.into_body(), body::REGISTRATION).await {
        Ok(body) => pass(console.0.backend.register(peer, body).await),
        Err(error) => unreadable(error, body::REGISTRATION),
    }
}

/// `GET /.well-known/oauth-authorization-server` and its path-inserted form (RFC 8414).
pub(crate) async fn metadata<B: Backend>(
    State(console): State<Console<B>>,
    path: Option<Path<String>>,
    request: Request,
) -> Response {
    if !is_issuer(path.as_deref().map(String::as_str), &console.0.base) {
        return super::not_found(&console, request.headers());
    }
    document(console.0.backend.metadata())
}

/// `GET /.well-known/bartizan-client.json`: as which client bartizan asks other
/// authorization servers.
pub(crate) async fn client_document<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    match console.0.backend.client_document() {
        Some(json) => document(json),
        None => super::not_found(&console, request.headers()),
    }
}

/// The same as OpenID Connect Discovery spells it.
pub(crate) async fn openid<B: Backend>(
    State(console): State<Console<B>>,
    path: Option<Path<String>>,
    request: Request,
) -> Response {
    if !is_issuer(path.as_deref().map(String::as_str), &console.0.base) {
        return super::not_found(&console, request.headers());
    }
    document(console.0.backend.openid_configuration())
}

/// `GET /.well-known/jwks.json` and, as libraries for Cloudflare Access ask for it,
/// `/cdn-cgi/access/certs`: the keys of assertions to upstreams (A13). A new key is in it a
/// week before it signs, so that it may be kept for an hour.
pub(crate) async fn jwks<B: Backend>(State(console): State<Console<B>>) -> Response {
    let mut answer = match console.0.backend.jwks().await {
        Some(keys) => document(keys),
        None => {
            let error = OAuthError::new(OAuthCode::TemporarilyUnavailable, "the keys cannot be had now, try again");
            let mut answer = Response::new(Body::from(error.body()));
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            return answer;
        }
    };
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    answer
}

/// Whether a document asked for with this path is ours: at the root, at the path of the
/// issuer, and at that of an endpoint, where clients ask that take the endpoint for the
/// issuer (revisions before 2025-06-18).
fn is_issuer(path: Option<&str>, base: &str) -> bool {
    let Some(path) = path else { return true };
    let inside =
        path.strip_prefix(base.trim_start_matches('/')).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let rest = inside.map_or(path, |rest| rest.trim_start_matches('/'));
    let mut parts = rest.split('/');
    matches!(
        (parts.next(), parts.next(), parts.next(), parts.next()),
        (Some("" | "mcp" | "sse"), None, None, None)
            | (Some("portals" | "servers"), Some(_), Some("mcp" | "sse"), None)
    )
}

/// The peer; all that nobody named count as one.
fn pass(answer: http::Response<Bytes>) -> Response {
    answer.map(Body::from)
}

fn document(json: Bytes) -> Response {
    let mut answer = Response::new(Body::from(json));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    answer
}

fn unreadable(error: BodyError, limit: usize) -> Response {
    let (status, text) = match error {
        BodyError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, format!("the body may have at most {limit} bytes")),
        BodyError::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the body took too long".to_owned()),
        BodyError::Broken => (StatusCode::BAD_REQUEST, "the body could not be read".to_owned()),
    };
    let mut answer = Response::new(Body::from(OAuthError::new(OAuthCode::InvalidRequest, text).body()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use super::is_issuer;

    #[test]
    fn a1_where_the_metadata_is() {
        for (path, base, ours) in [
            (None, "", true),
            (None, "/gw", true),
            (Some("gw"), "/gw", true),
            (Some("gw/mcp"), "/gw", true),
            (Some("mcp"), "", true),
            (Some("portals/a/mcp"), "", true),
            (Some("gw/servers/a/sse"), "/gw", true),
            (Some("other"), "", false),
            (Some("other"), "/gw", false),
            (Some("gwmcp"), "/gw", false),
            (Some("portals/a"), "", false),
            (Some("portals/a/b/mcp"), "", false),
            (Some("mcp/mcp"), "", false),
        ] {
            assert_eq!(is_issuer(path, base), ours, "{path:?} {base:?}");
        }
    }
}
