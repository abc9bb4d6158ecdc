//! Refusals of signing in, in words for the person who reads them.

use bartizan_store::StoreError;
use http::StatusCode;

use crate::problem::PageProblem;

const TITLE: &str = "Signing in did not work";
const AGAIN: &str = "Go back to where you came from and sign in again.";
const ADMIN: &str = "Tell the people who run this gateway.";

fn refused(code: &'static str, text: impl Into<String>) -> PageProblem {
    PageProblem::new(StatusCode::FORBIDDEN, code, TITLE, text)
}

/// The database.
pub(super) fn store(error: &StoreError) -> PageProblem {
    tracing::warn!(%error, "signing in met the database");
    let text = "The gateway cannot reach its database.";
    PageProblem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", TITLE, text).hint("Try again in a moment.")
}

pub(super) fn no_randomness() -> PageProblem {
    let text = "The machine has no randomness.";
    PageProblem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", TITLE, text).hint(ADMIN)
}

pub(super) fn no_demo_user() -> PageProblem {
    refused("unknown_user", "There is no such demo user.")
}

/// No state, an old one, a used one, or one of another browser; they look the same.
pub(super) fn unknown_state() -> PageProblem {
    let text = "This sign-in was not begun in this browser, took longer than ten minutes, or was used already.";
    PageProblem::new(StatusCode::BAD_REQUEST, "sign_in_state", TITLE, text).hint(AGAIN)
}

pub(super) fn deactivated() -> PageProblem {
    refused("deactivated", "This account was deactivated.").hint(ADMIN)
}

pub(super) fn address_taken() -> PageProblem {
    let text = "Another account already has this e-mail address.";
    PageProblem::new(StatusCode::CONFLICT, "address_taken", TITLE, text).hint(ADMIN)
}

/// A claim that cannot be used. `name` is ours, not the provider's.
pub(super) fn bad_claim(name: &str) -> PageProblem {
    let text = format!("What the identity provider says in the claim for `{name}` cannot be used.");
    refused("bad_claim", text).hint(ADMIN)
}
