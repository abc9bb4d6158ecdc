//! The authorization endpoint and the consent page (A19).

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::response::Response;
use bartizan_identity::{BrowserSession, PageProblem, ReturnTo, Step};
use bartizan_oauth::params::Params;
use http::StatusCode;

use crate::backend::Backend;
use crate::console::{self, Console};
use crate::headers::Window;
use crate::routes::{connect, login, selection};
use crate::{forms, pages};

/// `GET /authorize`: by its query either the selection page of a portal (`elicitationId`)
/// or a client's request (`client_id`); both or neither is an error.
pub(crate) async fn authorize<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let (peer, query) = (console::peer(&request), request.uri().query().unwrap_or_default());
    let Ok(params) = Params::parse(query.as_bytes()) else { return console.problem(&unclear()) };
    let has = |name| params.get(name).is_some() || params.is_duplicate(name);
    match (has("client_id"), has("elicitationId")) {
        (true, false) => {}
        (false, true) => return selection::show(&console, request).await,
        _ => return console.problem(&unclear()),
    }
    let session = console.session(request.headers()).await;
    let step = console.0.backend.authorize(peer, query, session.as_ref()).await;
    answer(&console, peer, step, session.as_ref()).await
}

/// `POST /consent`: what the person decided.
pub(crate) async fn consent<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let (form, session) = match forms::receive_signed_in(&console, request).await {
        Ok(received) => received,
        Err(refusal) => return *refusal,
    };
    let approved = match form.fields.get("decision") {
        Some("allow") => true,
        Some("deny") => false,
        _ => return console.problem(&forms::incomplete()),
    };
    let Some(transaction) = form.fields.get("transaction") else { return console.problem(&forms::incomplete()) };
    if approved && let Some(answer) = connect::journey(&console, form.peer, transaction, &session).await {
        return answer;
    }
    let step = console.0.backend.decide(form.peer, transaction, &session, approved).await;
    answer(&console, form.peer, step, Some(&session)).await
}

/// Does what the authorization server says comes next.
pub(crate) async fn answer<B: Backend>(
    console: &Console<B>,
    peer: IpAddr,
    step: Step,
    session: Option<&BrowserSession>,
) -> Response {
    match (step, session) {
        (Step::Problem(problem), _) => console.problem(&problem),
        (Step::Redirect(url), _) => console.leave(&url, Window::Client),
        (Step::Consent(view), Some(session)) => {
            let page = pages::Consent::new(console.chrome(Some(session)), &view);
            console.answer(StatusCode::OK, &page, Window::Client, Some(&view.redirect_origin))
        }
        (Step::SignIn { transaction }, _) => sign_in(console, peer, transaction).await,
        // Nobody is there to be asked.
        (Step::Consent(view), None) => sign_in(console, peer, view.transaction).await,
    }
}

async fn sign_in<B: Backend>(console: &Console<B>, peer: IpAddr, transaction: String) -> Response {
    let return_to = ReturnTo::Authorize(transaction);
    let Some(ask) = login::asking(console, &return_to) else { return console.problem(&login::expired()) };
    let began = console.0.backend.begin(peer, return_to.clone(), None, ask).await;
    login::begun(console, began, &return_to)
}

/// A link that says too little, or too much.
pub(crate) fn unclear() -> PageProblem {
    PageProblem::new(
        StatusCode::BAD_REQUEST,
        "invalid_request",
        "This link is not complete",
        "It does not say, or not clearly, which client asks for access.",
    )
    .hint("Start again from your AI client. If that does not help, tell whoever makes the client.")
}
