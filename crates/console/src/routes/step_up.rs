//! Links for more: a second factor (A17) or a purpose (A16). Seeing the page does nothing;
//! the person goes on by a form, to the provider and back.

use std::net::IpAddr;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bartizan_identity::{BrowserSession, ReturnTo, StepUpNext, StepUpView};

use crate::backend::Backend;
use crate::console::{self, Console};
use crate::headers::Window;
use crate::routes::login;
use crate::{forms, pages};

/// `GET /step-up/{handle}`: what is asked. Who is not signed in signs in first.
pub(crate) async fn show<B: Backend>(
    State(console): State<Console<B>>,
    Path(handle): Path<String>,
    request: Request,
) -> Response {
    let (peer, backend) = (console::peer(&request), &console.0.backend);
    let Some(session) = console.session(request.headers()).await else {
        if !backend.is_step_up(&handle) {
            return console.problem(&login::expired());
        }
        let return_to = ReturnTo::path(&format!("/step-up/{handle}"));
        let began = backend.begin(peer, return_to.clone(), None, bartizan_identity::Ask::default()).await;
        return login::begun(&console, began, &return_to);
    };
    match backend.step_up(peer, &handle, &session).await {
        Ok(view) => {
            let page = pages::StepUp::new(console.chrome(Some(&session)), &handle, &view);
            console.show(&page, Window::Own)
        }
        Err(problem) => console.problem(&problem),
    }
}

/// `POST /step-up/{handle}`: the person goes on.
pub(crate) async fn go<B: Backend>(
    State(console): State<Console<B>>,
    Path(handle): Path<String>,
    request: Request,
) -> Response {
    let (form, session) = match forms::receive_signed_in(&console, request).await {
        Ok(received) => received,
        Err(refusal) => return *refusal,
    };
    let backend = &console.0.backend;
    match backend.step_up_go(form.peer, &handle, &session, form.fields.get("purpose")).await {
        StepUpNext::Done(view) => done(&console, &session, &view),
        StepUpNext::Problem(problem) => console.problem(&problem),
        StepUpNext::Provider(ask) => {
            let return_to = ReturnTo::StepUp(handle);
            let began = backend.begin(form.peer, return_to.clone(), None, ask).await;
            login::begun_by_form(&console, began, &return_to)
        }
    }
}

/// Back from the provider. The state of the sign-in, bound to this browser and used up,
/// is what a form's token is elsewhere.
pub(crate) async fn returned<B: Backend>(
    console: &Console<B>,
    peer: IpAddr,
    handle: &str,
    session: &BrowserSession,
) -> Response {
    match console.0.backend.step_up_return(peer, handle, session).await {
        Ok(view) => done(console, session, &view),
        Err(problem) => console.problem(&problem),
    }
}

fn done<B: Backend>(console: &Console<B>, session: &BrowserSession, view: &StepUpView) -> Response {
    console.show(&pages::StepUpDone::new(console.chrome(Some(session)), view), Window::Own)
}
