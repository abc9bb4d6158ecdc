//! Answers. Every refusal has one form, and a code with a page.

use bartizan_model::EventId;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::problem::{AdminError, Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

/// Codes of refusals; each has a page (`bartizan explain-code CODE`).
pub const CODES: [&str; 25] = [
    "unauthenticated",
    "insufficient_scope",
    "cross_site",
    "role_required",
    "not_found",
    "method_not_allowed",
    "malformed_json",
    "unsupported_media_type",
    "invalid",
    "in_use",
    "already_exists",
    "managed_by_file",
    "precondition_required",
    "precondition_failed",
    "idempotency_key_reused",
    "bad_argument",
    "secret_needed",
    "operator_only",
    "wrong_id",
    "audit_unavailable",
    "store_unavailable",
    "too_large",
    "bad_alert",
    "secret_unreadable",
    "another_person_needed",
];

/// A refusal.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) problems: Vec<Problem>,
    pub(crate) allow: Option<String>,
    pub(crate) challenge: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), problems: Vec::new(), allow: None, challenge: None }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is no such thing")
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_argument", message)
    }

    pub(crate) fn answer(self, now_ms: i64) -> Response<Bytes> {
        let id = EventId::new(now_ms).to_string();
        let mut error = json!({"code": self.code, "message": self.message, "request_id": id});
        if !self.problems.is_empty()
            && let Some(members) = error.as_object_mut()
        {
            members.insert("problems".to_owned(), json!(self.problems));
        }
        let mut answer = with_json(self.status, &json!({"error": error}));
        let mut header = |name: HeaderName, value: Option<String>| {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                answer.headers_mut().insert(name, value);
            }
        };
        header(ALLOW, self.allow);
        header(WWW_AUTHENTICATE, self.challenge);
        header(REQUEST_ID, Some(id));
        answer
    }
}

impl From<AdminError> for Refusal {
    fn from(error: AdminError) -> Self {
        let message = error.to_string();
        let (status, code, problems) = match error {
            AdminError::Invalid(problems) => (StatusCode::BAD_REQUEST, "invalid", problems),
            AdminError::InUse(problems) => (StatusCode::CONFLICT, "in_use", problems),
            AdminError::NotFound => return Self::not_found(),
            AdminError::Outdated => (StatusCode::PRECONDITION_FAILED, "precondition_failed", Vec::new()),
            AdminError::Exists => (StatusCode::CONFLICT, "already_exists", Vec::new()),
            AdminError::ManagedByFile => (StatusCode::CONFLICT, "managed_by_file", Vec::new()),
            AdminError::Record => (StatusCode::SERVICE_UNAVAILABLE, "audit_unavailable", Vec::new()),
            AdminError::Store(error) => {
                tracing::error!(%error, "the administration cannot use the store");
                (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", Vec::new())
            }
            AdminError::Sealed => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", Vec::new()),
        };
        Self { problems, ..Self::new(status, code, message) }
    }
}

/// An answer that can be kept and given again.
#[derive(Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) etag: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, etag: None, location: None, body }
    }

    pub(crate) fn to_text(&self) -> String {
        json!({"status": self.status.as_u16(), "etag": self.etag, "location": self.location, "body": self.body})
            .to_string()
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let status = u16::try_from(value.get("status")?.as_u64()?).ok()?;
        Some(Self {
            status: StatusCode::from_u16(status).ok()?,
            etag: text("etag"),
            location: text("location"),
            body: value.get("body")?.clone(),
        })
    }

    pub(crate) fn answer(self) -> Response<Bytes> {
        let mut answer = match self.status {
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => {
                let mut answer = Response::new(Bytes::new());
                *answer.status_mut() = self.status;
                common(&mut answer);
                answer
            }
            status => with_json(status, &self.body),
        };
        for (name, value) in [(ETAG, self.etag), (LOCATION, self.location)] {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                answer.headers_mut().insert(name, value);
            }
        }
        answer
    }
}

fn with_json(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from(body.to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    common(&mut answer);
    answer
}

fn common(answer: &mut Response<Bytes>) {
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.headers_mut().insert(NOSNIFF, HeaderValue::from_static("nosniff"));
}
