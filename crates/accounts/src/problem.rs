//! Refusals on the way of connecting an account, in words for the person who reads them.

use bartizan_identity::PageProblem;
use http::StatusCode;

use crate::accounts::AccountError;

const TITLE: &str = "Connecting the account did not work";
const AGAIN: &str = "Go back to where you came from and connect the account again.";
const ADMIN: &str = "Tell the people who run this gateway.";

/// No state, an old one, a used one, one of another person or browser; they look the same.
pub(crate) fn unknown_state() -> PageProblem {
    let text = "This was not begun in this browser by you, took longer than ten minutes, or was used already.";
    PageProblem::new(StatusCode::BAD_REQUEST, "connect_state", TITLE, text).hint(AGAIN)
}

pub(crate) fn bad_answer() -> PageProblem {
    let text = "The answer of the authorization server is not well-formed.";
    PageProblem::new(StatusCode::BAD_REQUEST, "connect_answer", TITLE, text).hint(AGAIN)
}

pub(crate) fn other_issuer() -> PageProblem {
    let text = "The answer does not come from the authorization server that was asked.";
    PageProblem::new(StatusCode::BAD_REQUEST, "connect_issuer", TITLE, text).hint(ADMIN)
}

pub(crate) fn refused(code: &str, description: Option<&str>) -> PageProblem {
    let said = description.map(|text| format!(" It said: {text}")).unwrap_or_default();
    let text = format!("The authorization server refused ({code}).{said}");
    PageProblem::new(StatusCode::FORBIDDEN, "connect_refused", TITLE, text).hint(AGAIN)
}

pub(crate) fn no_tokens() -> PageProblem {
    let text = "The authorization server gave no usable token.";
    PageProblem::new(StatusCode::BAD_GATEWAY, "connect_tokens", TITLE, text).hint(AGAIN)
}

pub(crate) fn unavailable() -> PageProblem {
    let text = "The gateway, or what it needs for this, is not available.";
    PageProblem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", TITLE, text).hint("Try again in a moment.")
}

impl From<AccountError> for PageProblem {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::LoginNeeded => unknown_state(),
            AccountError::Unavailable(why) => {
                tracing::warn!(why, "connecting an upstream account");
                unavailable()
            }
            AccountError::Misconfigured(why) => {
                PageProblem::new(StatusCode::BAD_GATEWAY, "connect_settings", TITLE, format!("{why}.")).hint(ADMIN)
            }
        }
    }
}
