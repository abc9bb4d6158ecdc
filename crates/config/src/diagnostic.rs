//! One way to say what is wrong with a configuration, shared by every crate that
//! checks a part of it.

use std::fmt;

use serde::Serialize;

/// A finding about one value of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Where the value is, from the root of the resources: `servers[2].hostname`.
    pub path: String,
    /// What is wrong, for people. Never holds a secret.
    pub message: String,
    /// Stable kind of finding: `unknown_server`, `duplicate_id`, …
    pub code: &'static str,
    /// What to write instead, if that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// Where in the text of the value, for values that are a language of their own (Cedar).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// A place in the text of one value. Line and column are counted from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Line within the value, from 1.
    pub line: usize,
    /// Character within the line, from 1.
    pub column: usize,
}

impl Diagnostic {
    /// A finding without suggestion and position.
    pub fn new(path: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), code, suggestion: None, position: None }
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// Adds the place within the value's text.
    #[must_use]
    pub fn at(mut self, line: usize, column: usize) -> Self {
        self.position = Some(Position { line, column });
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, " ({line}:{column})")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, " ({suggestion})")?;
        }
        Ok(())
    }
}
