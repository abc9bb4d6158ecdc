//! Errors in the form of RFC 7644, section 3.12.

use axum::response::Response;
use bartizan_store::StoreError;
use http::StatusCode;
use serde_json::json;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScimError {
    pub(crate) status: StatusCode,
    pub(crate) kind: Option<&'static str>,
    /// For people; never repeats what it does not know to be harmless.
    pub(crate) detail: String,
}

impl ScimError {
    pub(crate) fn new(status: StatusCode, kind: Option<&'static str>, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into() }
    }

    fn bad(kind: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some(kind), detail)
    }

    pub(crate) fn syntax(detail: impl Into<String>) -> Self {
        Self::bad("invalidSyntax", detail)
    }

    pub(crate) fn value(detail: impl Into<String>) -> Self {
        Self::bad("invalidValue", detail)
    }

    pub(crate) fn filter(detail: impl Into<String>) -> Self {
        Self::bad("invalidFilter", detail)
    }

    pub(crate) fn path(detail: impl Into<String>) -> Self {
        Self::bad("invalidPath", detail)
    }

    pub(crate) fn mutability(detail: impl Into<String>) -> Self {
        Self::bad("mutability", detail)
    }

    pub(crate) fn no_target(detail: impl Into<String>) -> Self {
        Self::bad("noTarget", detail)
    }

    pub(crate) fn too_many() -> Self {
        Self::bad("tooMany", "this filter would have to look at too many resources; compare userName, externalId or id")
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, None, "there is no such resource")
    }

    pub(crate) fn stale() -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, None, "the resource has another version")
    }

    pub(crate) fn busy() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, None, "too many changes at this moment, try again")
    }

    pub(crate) fn taken(what: &str) -> Self {
        Self::new(StatusCode::CONFLICT, Some("uniqueness"), format!("this {what} belongs to another resource"))
    }

    /// What the store says; `what` is named where it is taken.
    pub(crate) fn store(error: &StoreError, what: &str) -> Self {
        if matches!(error, StoreError::Conflict) {
            return Self::taken(what);
        }
        tracing::warn!(%error, "provisioning met the database");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, None, "the database does not answer, try again")
    }

    pub(crate) fn response(&self) -> Response {
        let mut body = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
            "status": self.status.as_u16().to_string(),
            "detail": self.detail,
        });
        if let (Some(kind), Some(body)) = (self.kind, body.as_object_mut()) {
            body.insert("scimType".to_owned(), kind.into());
        }
        crate::http::json(self.status, &body)
    }
}
