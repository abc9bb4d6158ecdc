//! Errors as OAuth writes them.

use serde::Serialize;

/// Code of an error: RFC 6749 sections 4.1.2.1 and 5.2, RFC 7591 section 3.2.2, RFC 8707
/// section 2, OpenID Connect Core section 3.1.2.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the standards")]
pub enum OAuthCode {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    UnauthorizedClient,
    UnsupportedGrantType,
    UnsupportedResponseType,
    UnsupportedTokenType,
    InvalidScope,
    InvalidTarget,
    AccessDenied,
    ServerError,
    TemporarilyUnavailable,
    LoginRequired,
    ConsentRequired,
    InvalidRedirectUri,
    InvalidClientMetadata,
    /// Registration is switched off or refused here; not a registered code, but a clear one.
    AccessForbidden,
    /// Too often; RFC 6585 section 4 for the status.
    SlowDown,
}

impl OAuthCode {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::UnsupportedTokenType => "unsupported_token_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::AccessDenied | Self::AccessForbidden => "access_denied",
            Self::ServerError => "server_error",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::LoginRequired => "login_required",
            Self::ConsentRequired => "consent_required",
            Self::InvalidRedirectUri => "invalid_redirect_uri",
            Self::InvalidClientMetadata => "invalid_client_metadata",
            Self::SlowDown => "slow_down",
        }
    }

    /// The status of an answer that holds it as JSON.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidClient => 401,
            Self::AccessForbidden => 403,
            Self::SlowDown => 429,
            Self::ServerError => 500,
            Self::TemporarilyUnavailable => 503,
            _ => 400,
        }
    }
}

/// An error for a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {description}", code.as_str())]
pub struct OAuthError {
    /// What.
    pub code: OAuthCode,
    /// In words for the developer of the client; repeats nothing secret.
    pub description: String,
}

impl OAuthError {
    /// With a description. Characters that RFC 6749 section 5.2 forbids become `?`.
    pub fn new(code: OAuthCode, description: impl AsRef<str>) -> Self {
        let good = |c: char| matches!(c, ' ' | '!' | '#'..='[' | ']'..='~');
        let description = description.as_ref().chars().map(|c| match c {
            '"' | '\\' => '\'',
            c if good(c) => c,
            _ => '?',
        });
        Self { code, description: description.take(600).collect() }
    }

    /// See [`OAuthCode::status`].
    pub fn status(&self) -> u16 {
        self.code.status()
    }

    /// The JSON body.
    pub fn body(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'static str,
            error_description: &'a str,
        }
        let body = Body { error: self.code.as_str(), error_description: &self.description };
        serde_json::to_vec(&body).unwrap_or_else(|_| br#"{"error":"server_error"}"#.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a9_errors_have_the_form_of_rfc_6749() {
        let error = OAuthError::new(OAuthCode::InvalidGrant, "no \"such\\ code\u{7}\u{fc}");
        assert_eq!(error.body(), br#"{"error":"invalid_grant","error_description":"no 'such' code??"}"#);
        assert_eq!(error.status(), 400);
        assert_eq!(OAuthCode::InvalidClient.status(), 401);
        assert!(OAuthError::new(OAuthCode::InvalidRequest, "x".repeat(9999)).description.len() <= 600);
    }
}
