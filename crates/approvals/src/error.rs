//! Why something was not asked or not answered.

use bartizan_store::StoreError;

/// A question that could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The person asked too often within the last hour; again after these seconds.
    #[error("too many questions within one hour")]
    TooMany {
        /// Seconds.
        retry_after_s: u64,
    },
    /// It cannot be kept or put on record.
    #[error("approvals are not available: {0}")]
    Unavailable(String),
}

/// A question that was not answered. Nothing changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// There is none with this id, or it is not for this person.
    #[error("there is no such approval")]
    Unknown,
    /// It is the person's own.
    #[error("nobody approves their own request")]
    Own,
    /// It is not open any more; in this state.
    #[error("the approval is {0} already")]
    Closed(String),
    /// The answer says something that the question does not allow.
    #[error("{0}")]
    Bad(&'static str),
    /// The link is forged, used, too old or for another question.
    #[error("the link is not good")]
    Link,
    /// It cannot be kept or put on record.
    #[error("approvals are not available: {0}")]
    Unavailable(String),
}

impl From<StoreError> for AskError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<StoreError> for DecideError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
