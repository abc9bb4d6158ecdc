//! Problems with their places, and what is made of a list of them.

use serde::Serialize;

/// Whether a problem stops the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is not used.
    Error,
    /// The configuration works, but not as its author may think.
    Warning,
}

/// A place in a file. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Path as it was given, or `environment` and `command line`.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Character in the line, from 1.
    pub column: usize,
    /// Characters concerned; 0 for the file as a whole.
    #[serde(skip)]
    pub length: usize,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// Stable code, with a page in `bartizan explain-code`.
    pub code: &'static str,
    /// What is wrong; lower case, without a full stop, never with a secret.
    pub message: String,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// The value, e.g. `servers[2].hostname`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Where it was written, if it was.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The line of the file, with secrets masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
}

impl Problem {
    /// An error without a place.
    pub fn error(code: &'static str, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            suggestion: None,
            path: path.into(),
            place: None,
            snippet: None,
        }
    }

    /// A warning without a place.
    pub fn warning(code: &'static str, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, path, message) }
    }

    /// The same with a suggestion.
    #[must_use]
    pub fn suggest(self, suggestion: impl Into<String>) -> Self {
        Self { suggestion: Some(suggestion.into()), ..self }
    }
}

/// All problems of one check, in the order of the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The problems.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Sorts by place, problems without one first, and drops repetitions.
    pub fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| {
            let key = |p: &Problem| p.place.as_ref().map(|place| (place.file.clone(), place.line, place.column));
            key(a).cmp(&key(b)).then_with(|| a.severity.cmp(&b.severity))
        });
        problems.dedup();
        Self { problems }
    }

    /// True if nothing was found at all.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// True if something stops the start.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Numbers of errors and warnings.
    pub fn counts(&self) -> (usize, usize) {
        let errors = self.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        (errors, self.problems.len() - errors)
    }
}

impl std::fmt::Display for Report {
    /// Plain text with snippets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::render::text(self, false))
    }
}

impl std::error::Error for Report {}
