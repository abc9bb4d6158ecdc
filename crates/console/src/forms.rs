//! What every POST of a person goes through: our own page, and where somebody is signed in
//! the token of that session. A refusal is a page, and nothing has happened.

use std::net::IpAddr;

use axum::extract::Request;
use axum::response::Response;
use bartizan_identity::{BrowserSession, PageProblem};
use bartizan_oauth::params::Params;
use http::{HeaderMap, StatusCode};

use crate::backend::Backend;
use crate::body::{self, BodyError};
use crate::console::{self, Console};
use crate::same_origin::is_own;

/// A form from one of our pages.
pub(crate) struct Form {
    pub(crate) headers: HeaderMap,
    /// Where it comes from.
    pub(crate) peer: IpAddr,
    pub(crate) fields: Params,
}

/// Reads a form; refuses those of other sites before the body is looked at.
pub(crate) async fn receive<B: Backend>(console: &Console<B>, request: Request) -> Result<Form, Box<Response>> {
    let peer = console::peer(&request);
    let (parts, body) = request.into_parts();
    if !is_own(&parts.headers, &console.0.origin) {
        return Err(Box::new(console.problem(&foreign())));
    }
    match body::form(&parts.headers, body).await {
        Ok(fields) => Ok(Form { headers: parts.headers, peer, fields }),
        Err(error) => Err(Box::new(console.problem(&unreadable(error)))),
    }
}

/// [`receive`] for somebody signed in, with the token of the session.
pub(crate) async fn receive_signed_in<B: Backend>(
    console: &Console<B>,
    request: Request,
) -> Result<(Form, BrowserSession), Box<Response>> {
    let form = receive(console, request).await?;
    let Some(session) = console.session(&form.headers).await else {
        return Err(Box::new(console.problem(&signed_out())));
    };
    let token = form.fields.get("csrf").unwrap_or_default();
    if !console.0.backend.check_csrf(&session, token) {
        return Err(Box::new(console.problem(&foreign())));
    }
    Ok((form, session))
}

pub(crate) fn foreign() -> PageProblem {
    PageProblem::new(
        StatusCode::FORBIDDEN,
        "foreign_form",
        "This form was not sent from here",
        "It came from another site, or from a page of an earlier sign-in. Nothing was done.",
    )
    .hint("Go back, reload the page and try again.")
}

pub(crate) fn signed_out() -> PageProblem {
    PageProblem::new(
        StatusCode::FORBIDDEN,
        "signed_out",
        "You are not signed in any more",
        "The session of this browser has ended. Nothing was done.",
    )
    .hint("Start again from your AI client, or sign in on the home page.")
}

fn unreadable(error: BodyError) -> PageProblem {
    let status = match error {
        BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::TooSlow => StatusCode::REQUEST_TIMEOUT,
        BodyError::Broken => StatusCode::BAD_REQUEST,
    };
    PageProblem::new(status, "bad_form", "This form could not be read", "Nothing was done.")
        .hint("Go back, reload the page and try again.")
}

/// A field that must be there is not, or says something unknown.
pub(crate) fn incomplete() -> PageProblem {
    unreadable(BodyError::Broken)
}
