//! The selection page (P36, P38): which servers of a portal are on, for the session or grant
//! that asked. A GET only shows; the link is used up by the choice.

use axum::extract::{Request, State};
use axum::response::Response;
use bartizan_identity::BrowserSession;
use bartizan_oauth::params::{Builder, Params};

use crate::backend::Backend;
use crate::body::{self, FORM};
use crate::console::Console;
use crate::headers::Window;
use crate::routes::{authorize, connect};
use crate::same_origin::is_own;
use crate::selection::problem;
use crate::upstream::Visit;
use crate::{forms, pages, routes};

/// `GET /portals/{id}/authorize`; the link itself says which portal it is about.
pub(crate) async fn portal<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let query = Params::parse(request.uri().query().unwrap_or_default().as_bytes()).unwrap_or_default();
    if query.get("elicitationId").is_none() || query.get("client_id").is_some() {
        return console.problem(&authorize::unclear());
    }
    show(&console, request).await
}

/// `GET /authorize?elicitationId=…`
pub(crate) async fn show<B: Backend>(console: &Console<B>, request: Request) -> Response {
    let query = Params::parse(request.uri().query().unwrap_or_default().as_bytes()).unwrap_or_default();
    let handle = query.get("elicitationId").unwrap_or_default();
    let Some(session) = console.session(request.headers()).await else {
        let here = request.uri().path_and_query().map_or("/", |here| here.as_str());
        return console.go(&Builder::new().add("return_to", here).append_to("/login"), Window::Own);
    };
    let visit = Visit { session: &session, ip: connect::address(&request) };
    match console.0.backend.selection(visit, handle).await {
        None => routes::not_found(console, request.headers()),
        Some(Ok(view)) => {
            let page = pages::Selection::new(console.chrome(Some(&session)), &view, handle);
            console.show(&page, Window::Own)
        }
        Some(Err(error)) => console.problem(&problem(error)),
    }
}

/// What the form says. There is one `on` for every server, so that there may be many.
#[derive(Default)]
struct Chosen {
    csrf: String,
    handle: String,
    on: Vec<String>,
}

impl Chosen {
    /// Nothing of a form that says something twice or unclearly.
    fn parse(body: &[u8]) -> Option<Self> {
        let mut chosen = Self::default();
        for pair in body.split(|byte| *byte == b'&') {
            let pair = Params::parse(pair).ok()?;
            let once = |kept: &mut String, name| match pair.get(name) {
                Some(value) if kept.is_empty() => {
                    value.clone_into(kept);
                    Some(())
                }
                Some(_) => None,
                None => Some(()),
            };
            once(&mut chosen.csrf, "csrf")?;
            once(&mut chosen.handle, "elicitationId")?;
            chosen.on.extend(pair.get("on").map(str::to_owned));
        }
        Some(chosen)
    }
}

/// `POST /selection`
pub(crate) async fn choose<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let ip = connect::address(&request);
    let (parts, body) = request.into_parts();
    if !is_own(&parts.headers, &console.0.origin) {
        return console.problem(&forms::foreign());
    }
    let Some(session) = console.session(&parts.headers).await else { return console.problem(&forms::signed_out()) };
    let form = body::read(body, FORM).await.ok().and_then(|body| Chosen::parse(&body));
    let Some(form) = form else { return console.problem(&forms::incomplete()) };
    if !console.0.backend.check_csrf(&session, &form.csrf) {
        return console.problem(&forms::foreign());
    }
    let visit = Visit { session: &session, ip };
    match console.0.backend.select(visit, &form.handle, form.on).await {
        None => routes::not_found(&console, &parts.headers),
        Some(Ok(view)) => console.show(&done(&console, &session, &view), Window::Own),
        Some(Err(error)) => console.problem(&problem(error)),
    }
}

fn done<B: Backend>(
    console: &Console<B>,
    session: &BrowserSession,
    view: &crate::selection::Selection,
) -> pages::SelectionDone {
    pages::SelectionDone::new(console.chrome(Some(session)), view)
}
