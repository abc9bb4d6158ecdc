//! Refusals of signing in, in words for the person who reads them.

use bartizan_oauth::jwt::JwtError;
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

/// Too many failures, or too many beginnings.
pub(super) fn too_often() -> PageProblem {
    let text = "Signing in from here, or to this account, failed too often within a minute.";
    PageProblem::new(StatusCode::TOO_MANY_REQUESTS, "too_often", TITLE, text).hint("Wait a minute, then try again.")
}

/// Somebody else came back than was asked for.
pub(super) fn other_person() -> PageProblem {
    let text = "The identity provider knows you as somebody else than the person this was for. Nothing was done.";
    refused("other_person", text).hint("Sign in at the identity provider as the same person as here.")
}

pub(super) fn no_break_glass() -> PageProblem {
    let text = "There is no such page.";
    PageProblem::new(StatusCode::NOT_FOUND, "not_found", "There is no such page", text)
}

/// Wrong password, wrong code, a code used before, no account: they look the same.
pub(super) fn break_glass_wrong() -> PageProblem {
    refused("wrong_password_or_code", "The password or the code is wrong, or the code was used before.")
        .hint("Wait for the next code of your authenticator and try again. Each attempt is on record.")
}

pub(super) fn break_glass_unavailable() -> PageProblem {
    let text = "The account cannot be checked now.";
    PageProblem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", TITLE, text).hint("Try again in a moment.")
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

pub(super) fn no_provider() -> PageProblem {
    let text = "No identity provider is set up.";
    PageProblem::new(StatusCode::SERVICE_UNAVAILABLE, "no_provider", TITLE, text).hint(ADMIN)
}

pub(super) fn busy() -> PageProblem {
    let text = "Too many people are signing in at this moment.";
    PageProblem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", TITLE, text).hint("Try again in a moment.")
}

/// It cannot be reached, or what it sent about itself cannot be used; the log says which.
pub(super) fn provider_down() -> PageProblem {
    let text = "The identity provider cannot be asked.";
    PageProblem::new(StatusCode::BAD_GATEWAY, "provider_unavailable", TITLE, text).hint("Try again in a moment.")
}

pub(super) fn provider_settings() -> PageProblem {
    let text = "The identity provider lacks something that signing in needs.";
    PageProblem::new(StatusCode::BAD_GATEWAY, "provider_settings", TITLE, text).hint(ADMIN)
}

pub(super) fn bad_answer() -> PageProblem {
    let text = "The answer of the identity provider is not well-formed.";
    PageProblem::new(StatusCode::BAD_REQUEST, "bad_answer", TITLE, text).hint(AGAIN)
}

/// A mix-up. Nothing of the answer is shown (RFC 9207, section 2.4).
pub(super) fn other_provider() -> PageProblem {
    let text = "The answer comes from another identity provider than the one that was asked.";
    PageProblem::new(StatusCode::BAD_REQUEST, "other_provider", TITLE, text).hint(AGAIN)
}

/// `code` and `description` are bounded and printable; the page escapes them.
pub(super) fn refused_by(code: &str, description: Option<&str>) -> PageProblem {
    let text = match description.filter(|text| !text.is_empty()) {
        Some(description) => format!("The identity provider answered `{code}`: {description}"),
        None => format!("The identity provider answered `{code}`."),
    };
    refused("provider_refused", text).hint(AGAIN)
}

pub(super) fn bad_tokens() -> PageProblem {
    let text = "The identity provider did not confirm the sign-in.";
    PageProblem::new(StatusCode::BAD_GATEWAY, "bad_tokens", TITLE, text).hint(AGAIN)
}

pub(super) fn bad_id_token(error: JwtError) -> PageProblem {
    let code = match error {
        JwtError::TooOld => "too_old",
        _ => "bad_id_token",
    };
    refused(code, format!("The identity provider's statement is not accepted: {error}.")).hint(AGAIN)
}

pub(super) fn bad_userinfo() -> PageProblem {
    refused("bad_userinfo", "What the identity provider says about you cannot be used.").hint(ADMIN)
}

pub(super) fn no_email() -> PageProblem {
    refused("no_email", "The identity provider does not say your e-mail address.").hint(ADMIN)
}

pub(super) fn email_not_verified() -> PageProblem {
    let hint = "Confirm your address at the identity provider first.";
    refused("email_not_verified", "The identity provider has not verified your e-mail address.").hint(hint)
}

pub(super) fn other_domain() -> PageProblem {
    refused("other_domain", "This identity provider does not speak for the domain of your e-mail address.").hint(ADMIN)
}

pub(super) fn too_many_groups() -> PageProblem {
    refused("too_many_groups", "The identity provider lists more than 1,000 groups for you.").hint(ADMIN)
}

pub(super) fn groups_elsewhere() -> PageProblem {
    let text = "The identity provider does not list your groups, because there are too many.";
    refused("groups_elsewhere", text).hint(ADMIN)
}
