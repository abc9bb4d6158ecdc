//! What is wrong with a request, and how it is said.

use bartizan_config::Diagnostic;
use bartizan_config::objects::{self, Kind};
use bartizan_store::StoreError;
use serde::Serialize;

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The object, `portal/hr`; absent when it is the one that was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// JSON pointer (RFC 6901) into the object.
    pub pointer: String,
    /// Stable kind; `bartizan explain-code CODE` tells more.
    pub code: &'static str,
    /// For people. Never holds a secret.
    pub message: String,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl Problem {
    /// About the object that was sent.
    pub fn new(pointer: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self { object: None, pointer: pointer.to_owned(), code, message: message.into(), suggestion: None }
    }

    /// A finding whose path begins at the object.
    pub fn found(found: Diagnostic, path_from: usize) -> Self {
        let path = found.path.get(path_from..).unwrap_or_default();
        Self {
            object: None,
            pointer: objects::pointer(path.trim_start_matches('.')),
            code: found.code,
            message: found.message,
            suggestion: found.suggestion,
        }
    }

    /// The same, about another object.
    pub(crate) fn of(self, kind: Kind, id: &str) -> Self {
        Self { object: Some(format!("{}/{id}", kind.as_str())), ..self }
    }
}

/// Why nothing was changed, or nothing is shown.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The objects are not what they must be; all that is wrong.
    #[error("the objects have {} problems", .0.len())]
    Invalid(Vec<Problem>),
    /// Others name what would be removed or changed; all that would break.
    #[error("other objects would break")]
    InUse(Vec<Problem>),
    /// There is no such thing, for this caller.
    #[error("there is no such object")]
    NotFound,
    /// Somebody else changed it meanwhile.
    #[error("the object was changed meanwhile")]
    Outdated,
    /// There is one with this id.
    #[error("an object with this id exists")]
    Exists,
    /// A file says what it is.
    #[error("this object stands in a configuration file, which is changed there")]
    ManagedByFile,
    /// The record does not take the change.
    #[error("the change cannot be put on record")]
    Record,
    /// The store does not answer, or cannot be understood.
    #[error("the store does not answer")]
    Store(#[source] StoreError),
    /// Secrets cannot be sealed or opened.
    #[error("the secrets cannot be sealed or opened")]
    Sealed,
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
