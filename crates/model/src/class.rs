//! Reviewed tool classes (feature row G3).

use serde::{Deserialize, Serialize};

/// What a tool may do, as a reviewer decided. A server's own annotations never
/// decide; they only pre-fill the review.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolClass {
    /// Changes nothing outside the answer.
    Read,
    /// Creates or changes something.
    Write,
    /// Removes something or cannot be undone.
    Destructive,
    /// Nobody has reviewed the tool yet; treated like a write.
    #[default]
    Unknown,
}

impl ToolClass {
    /// The lower-case word used in files, audit events and policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Destructive => "destructive",
            Self::Unknown => "unknown",
        }
    }

    /// True for everything that needs a durable intent and an explicit grant.
    pub fn needs_grant(self) -> bool {
        self != Self::Read
    }
}
