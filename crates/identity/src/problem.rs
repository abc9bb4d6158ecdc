//! What a page says when a person's request cannot go on.

use http::{HeaderValue, StatusCode};

/// A refusal for a person in front of a browser. The texts are plain: whoever makes a page
/// of them escapes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageProblem {
    /// HTTP status of the page.
    pub status: StatusCode,
    /// Stable word for the page and the record.
    pub code: &'static str,
    /// Headline.
    pub title: String,
    /// What happened. Never holds what the browser or another server sent, unless it was
    /// bounded and freed of control characters.
    pub text: String,
    /// What the person can do.
    pub hint: Option<String>,
    /// Values for `Set-Cookie`.
    pub set_cookies: Vec<HeaderValue>,
}

impl PageProblem {
    /// A problem without a hint.
    pub fn new(status: StatusCode, code: &'static str, title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { status, code, title: title.into(), text: text.into(), hint: None, set_cookies: Vec::new() }
    }

    /// Adds what the person can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
