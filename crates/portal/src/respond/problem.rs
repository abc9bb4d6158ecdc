//! Refusals before a call exists: HTTP status, headers, JSON-RPC body.

use bartizan_wire::era::EraError;
use bartizan_wire::{EnvelopeError, ParamsError, RawJson, RequestId, RpcError, build, codes};
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};

use super::page;
use crate::body::Body;

/// What a 401 tells the client about getting a token (RFC 6750 section 3, RFC 9728
/// section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// URL of the protected resource metadata.
    pub(crate) resource_metadata: String,
    /// A credential was sent and is not good.
    pub(crate) invalid: bool,
    /// Scopes to ask for, separated by spaces; may be empty.
    pub(crate) scope: String,
}

/// Why a request is refused before it becomes a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ProblemKind {
    /// 401.
    Unauthenticated(Challenge),
    /// 403: Host is not ours.
    Host,
    /// 400: no usable Host.
    MalformedHost,
    /// 403: Origin.
    Origin,
    /// 404: no such endpoint, or not for this caller; nobody can tell which.
    Endpoint,
    /// 405, with the allowed methods; a page for browsers that shows the URL.
    Method { allow: &'static str, page: Option<String> },
    /// 406.
    NotAcceptable,
    /// 408.
    SlowBody,
    /// 400: the body broke off.
    BrokenBody,
    /// 413 with the limit in bytes.
    TooLarge(usize),
    /// 415.
    MediaType,
    /// 400: not a JSON-RPC message.
    Envelope(EnvelopeError),
    /// 400, -32600: a message that has no place here.
    Unexpected(&'static str),
    /// What the wire rules say: era table, header check, params.
    Rpc { status: StatusCode, error: RpcError },
    /// 404: session unknown, ended, or somebody else's.
    Session,
    /// 429: the caller has too many of something open.
    Crowded(&'static str),
    /// 503: the credential could not be checked; retry.
    AuthUnavailable,
    /// 503: the state of a session cannot be read or written; retry.
    StateUnavailable,
    /// 500: a fault of the gateway.
    Internal,
}

/// A refusal with the id of the request it answers, if that could be read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    /// Boxed, since it travels through every `Result` of the request path.
    kind: Box<ProblemKind>,
    id: Option<RequestId>,
}

impl From<ProblemKind> for Problem {
    fn from(kind: ProblemKind) -> Self {
        Self { kind: Box::new(kind), id: None }
    }
}

impl From<EnvelopeError> for Problem {
    fn from(error: EnvelopeError) -> Self {
        Self { id: error.id().cloned(), kind: Box::new(ProblemKind::Envelope(error)) }
    }
}

impl From<EraError> for ProblemKind {
    fn from(error: EraError) -> Self {
        Self::Rpc { status: error.status, error: error.error }
    }
}

impl From<ParamsError> for ProblemKind {
    fn from(error: ParamsError) -> Self {
        Self::bad(error.to_rpc())
    }
}

impl ProblemKind {
    /// 400 with an error.
    pub(crate) fn bad(error: RpcError) -> Self {
        Self::Rpc { status: StatusCode::BAD_REQUEST, error }
    }

    pub(crate) fn of(self, id: Option<&RequestId>) -> Problem {
        Problem { kind: Box::new(self), id: id.cloned() }
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Self::Host | Self::Origin => StatusCode::FORBIDDEN,
            Self::Endpoint | Self::Session => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Envelope(error) => error.status(),
            Self::MalformedHost | Self::BrokenBody | Self::Unexpected(_) => StatusCode::BAD_REQUEST,
            Self::Rpc { status, .. } => *status,
            Self::Crowded(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::AuthUnavailable | Self::StateUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The JSON-RPC error. Where the specification defines no code, ours is the HTTP
    /// status: outside of the reserved range (protocol section 3.6).
    pub(crate) fn rpc(&self) -> RpcError {
        let own = |text: &str| RpcError::new(i64::from(self.status().as_u16()), text);
        match self {
            Self::Unauthenticated(challenge) if challenge.invalid => {
                coded(own("The credential is not valid for this endpoint"), "unauthenticated")
            }
            Self::Unauthenticated(_) => coded(own("Authentication required"), "unauthenticated"),
            Self::Host => own("Host not allowed"),
            Self::MalformedHost => own("Host header missing or malformed"),
            Self::Origin => own("Origin not allowed"),
            Self::Endpoint => own("No such endpoint"),
            Self::Method { .. } => own("Method not allowed; MCP messages are sent by POST"),
            Self::NotAcceptable => own("Accept must allow application/json and text/event-stream"),
            Self::SlowBody => own("The request body did not arrive in time"),
            Self::BrokenBody => own("The request body is incomplete"),
            Self::TooLarge(limit) => coded(own(&format!("The request body is over {limit} bytes")), "too_large"),
            Self::MediaType => own("Content-Type must be application/json, without content coding"),
            Self::Envelope(error) => error.to_rpc(),
            Self::Unexpected(text) => RpcError::new(codes::INVALID_REQUEST, *text),
            Self::Rpc { error, .. } => error.clone(),
            Self::Session => own("Session not found; initialize again"),
            Self::Crowded(what) => {
                coded(own(&format!("Too many {what} of this caller are open; close some")), "rate_limited")
            }
            Self::AuthUnavailable => own("The credential cannot be checked at the moment; retry"),
            Self::StateUnavailable => own("Sessions cannot be looked up at the moment; retry"),
            Self::Internal => RpcError::new(codes::INTERNAL_ERROR, "Internal error"),
        }
    }
}

fn coded(error: RpcError, code: &str) -> RpcError {
    error.with_data(RawJson::object([("code", &RawJson::string(code))]))
}

impl Problem {
    /// The HTTP answer.
    pub(crate) fn respond(self) -> Response<Body> {
        let Self { kind, id } = self;
        if let ProblemKind::Method { allow, page: Some(url) } = &*kind {
            let mut answer = Response::new(Body::full(page::page(url)));
            *answer.status_mut() = kind.status();
            let headers = answer.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            headers.insert(
                http::header::CONTENT_SECURITY_POLICY,
                HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
            );
            headers.insert(ALLOW, HeaderValue::from_static(allow));
            return answer;
        }
        let mut answer = super::json(kind.status(), build::error(id.as_ref(), &kind.rpc()));
        let headers = answer.headers_mut();
        match &*kind {
            ProblemKind::Unauthenticated(challenge) => {
                if let Ok(value) = HeaderValue::from_str(&challenge.header()) {
                    headers.insert(WWW_AUTHENTICATE, value);
                }
            }
            ProblemKind::Method { allow, .. } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            ProblemKind::AuthUnavailable | ProblemKind::StateUnavailable | ProblemKind::Crowded(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(1));
            }
            // The rest of the body is not read: the connection cannot be used again.
            ProblemKind::SlowBody | ProblemKind::BrokenBody | ProblemKind::TooLarge(_) => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        answer
    }
}

impl Challenge {
    /// The header of a 403 (RFC 6750 section 3.1): these scopes would do.
    pub(crate) fn insufficient(&self, scope: &str) -> Option<HeaderValue> {
        let text = format!(
            "Bearer error=\"insufficient_scope\", scope=\"{scope}\", resource_metadata=\"{}\"",
            self.resource_metadata
        );
        HeaderValue::from_str(&text).ok()
    }

    fn header(&self) -> String {
        let error = if self.invalid { "error=\"invalid_token\", " } else { "" };
        let scope = if self.scope.is_empty() { String::new() } else { format!(", scope=\"{}\"", self.scope) };
        format!("Bearer {error}resource_metadata=\"{}\"{scope}", self.resource_metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(invalid: bool) -> ProblemKind {
        let resource_metadata = "https://h/.well-known/oauth-protected-resource/mcp".to_owned();
        ProblemKind::Unauthenticated(Challenge { resource_metadata, invalid, scope: String::new() })
    }

    #[test]
    fn p26_statuses_of_refusals_before_a_call() {
        let rows = [
            (challenge(false), 401),
            (ProblemKind::Host, 403),
            (ProblemKind::MalformedHost, 400),
            (ProblemKind::Origin, 403),
            (ProblemKind::Endpoint, 404),
            (ProblemKind::Method { allow: "POST", page: None }, 405),
            (ProblemKind::NotAcceptable, 406),
            (ProblemKind::SlowBody, 408),
            (ProblemKind::BrokenBody, 400),
            (ProblemKind::TooLarge(9), 413),
            (ProblemKind::MediaType, 415),
            (ProblemKind::Unexpected("x"), 400),
            (ProblemKind::Session, 404),
            (ProblemKind::Crowded("streams"), 429),
            (ProblemKind::AuthUnavailable, 503),
            (ProblemKind::StateUnavailable, 503),
            (ProblemKind::Internal, 500),
        ];
        for (kind, status) in rows {
            let code = kind.rpc().code;
            assert!(!(-32099..=-32000).contains(&code), "{kind:?} uses a reserved code");
            let answer = Problem::from(kind.clone()).respond();
            assert_eq!(answer.status().as_u16(), status, "{kind:?}");
            assert!(answer.headers().get("location").is_none());
        }
    }

    #[test]
    fn p26_challenges() {
        let answer = Problem::from(challenge(false)).respond();
        let expected = "Bearer resource_metadata=\"https://h/.well-known/oauth-protected-resource/mcp\"";
        assert_eq!(answer.headers()["www-authenticate"], expected);
        let answer = Problem::from(challenge(true)).respond();
        assert!(answer.headers()["www-authenticate"].to_str().unwrap().contains("error=\"invalid_token\""));
        let answer = Problem::from(ProblemKind::AuthUnavailable).respond();
        assert_eq!(answer.headers()["retry-after"], "1");
    }
}
