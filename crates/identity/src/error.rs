//! Why nobody was recognised.

use std::sync::Arc;

use bartizan_model::ReasonCode;

/// Kind of failure, for the audit event. The wire never shows it: every one of these
/// is the same 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthErrorKind {
    /// No such credential, or a wrong secret.
    Unknown,
    /// It ended.
    Expired,
    /// An administrator suspended it.
    Suspended,
    /// Not a credential at all: half a pair, another scheme, too long, not text.
    Malformed,
    /// Two different credentials in one request.
    Ambiguous,
    /// It could not be checked, so it counts as wrong.
    Unavailable,
}

impl AuthErrorKind {
    /// The word in audit events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Suspended => "suspended",
            Self::Malformed => "malformed",
            Self::Ambiguous => "ambiguous",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A refused credential. Holds nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("credential refused: {}", kind.as_str())]
pub struct AuthError {
    /// What is wrong.
    pub kind: AuthErrorKind,
    /// `service:NAME`, when the secret was right and the token is expired or suspended.
    pub principal: Option<Arc<str>>,
}

impl AuthError {
    /// The code for the caller and the record.
    pub fn code(&self) -> ReasonCode {
        ReasonCode::Unauthenticated
    }
}

impl From<AuthErrorKind> for AuthError {
    fn from(kind: AuthErrorKind) -> Self {
        Self { kind, principal: None }
    }
}
