//! One problem in a configuration, before it has a position.

use std::fmt;

/// A problem found while checking or compiling a configuration.
///
/// `path` names the value from the root of the file: member names joined by dots,
/// list positions in brackets, e.g. `servers[2].auth_credentials`. The empty path is
/// the whole file. The loader knows where in which file each path was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where, e.g. `portals[0].servers[1]`.
    pub path: String,
    /// What is wrong, lower case, without a full stop.
    pub message: String,
    /// Stable code, e.g. `unknown_reference`.
    pub code: &'static str,
    /// What to write instead.
    pub suggestion: Option<String>,
}

impl Diagnostic {
    /// A problem without a suggestion.
    pub fn new(path: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), code, suggestion: None }
    }

    /// The same with a suggestion.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "{} [{}]", self.message, self.code)
        } else {
            write!(f, "{}: {} [{}]", self.path, self.message, self.code)
        }
    }
}
