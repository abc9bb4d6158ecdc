//! The local account for the day on which no identity provider answers (A31).

use axum::extract::{Request, State};
use axum::response::Response;
use bartizan_identity::ReturnTo;

use crate::backend::Backend;
use crate::console::Console;
use crate::forms;
use crate::headers::Window;
use crate::pages::{self, Fields};
use crate::routes::{authorize, login, not_found};

/// `GET /login/break-glass`. Where the account is switched off, nothing is here.
pub(crate) async fn ask<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    if !console.0.backend.has_break_glass() {
        return not_found(&console, request.headers());
    }
    let Ok(params) = login::query(&request) else { return console.problem(&authorize::unclear()) };
    let fields: Fields = match login::return_to(&params) {
        ReturnTo::Authorize(transaction) => vec![("transaction", transaction)],
        ReturnTo::Path(path) => vec![("return_to", path.as_str().to_owned())],
        ReturnTo::StepUp(_) => Vec::new(),
    };
    let page = pages::BreakGlass { chrome: console.chrome(None), fields };
    console.show(&page, Window::Own)
}

/// `POST /login/break-glass`
pub(crate) async fn sign_in<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    if !console.0.backend.has_break_glass() {
        return not_found(&console, request.headers());
    }
    let form = match forms::receive(&console, request).await {
        Ok(form) => form,
        Err(refusal) => return *refusal,
    };
    let (Some(password), Some(code)) = (form.fields.get("password"), form.fields.get("code")) else {
        return console.problem(&forms::incomplete());
    };
    let return_to = login::return_to(&form.fields);
    if login::asking(&console, &return_to).is_none() {
        return console.problem(&login::expired());
    }
    let signed_in = console.0.backend.break_glass(form.peer, password, code, return_to, &form.headers).await;
    match signed_in {
        Ok(signed_in) => login::go_on_by_form(&console, form.peer, signed_in).await,
        Err(problem) => console.problem(&problem),
    }
}
