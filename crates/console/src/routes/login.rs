//! Signing in: to the provider and back, and on to where it was needed.

use std::net::IpAddr;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bartizan_identity::{Ask, Begin, PageProblem, ReturnTo, SignedIn};
use bartizan_oauth::params::{Builder, Params, ParamsError};
use http::StatusCode;
use http::header::{HeaderValue, SET_COOKIE};

use crate::backend::Backend;
use crate::console::{self, Console};
use crate::forms;
use crate::headers::Window;
use crate::pages::{self, Fields};
use crate::routes::{authorize, step_up};

/// How the browser came here, which decides how it can be sent on: `form-action` of the
/// page with the form holds for redirects after it, and where they end is not known yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Link,
    Form,
}

/// `GET /login`: begins a sign-in, or the next step of one after a choice.
pub(crate) async fn begin<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let Ok(params) = query(&request) else { return console.problem(&authorize::unclear()) };
    let return_to = return_to(&params);
    let Some(asking) = asking(&console, &return_to) else { return console.problem(&expired()) };
    let ask = Ask { provider: params.get("provider").map(str::to_owned), ..asking };
    if let (ReturnTo::Path(path), None) = (&return_to, &ask.provider)
        && console.session(request.headers()).await.is_some()
    {
        return console.go(path.as_str(), Window::Own);
    }
    let began = console.0.backend.begin(console::peer(&request), return_to.clone(), None, ask).await;
    answer(&console, began, &return_to, By::Link)
}

/// `POST /login`: the provider is found by the domain of an address.
pub(crate) async fn by_email<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let form = match forms::receive(&console, request).await {
        Ok(form) => form,
        Err(refusal) => return *refusal,
    };
    let Some(email) = form.fields.get("email") else { return console.problem(&forms::incomplete()) };
    let return_to = return_to(&form.fields);
    let Some(ask) = asking(&console, &return_to) else { return console.problem(&expired()) };
    let began = console.0.backend.begin(form.peer, return_to.clone(), Some(email), ask).await;
    answer(&console, began, &return_to, By::Form)
}

/// `GET /login/callback` and `GET /login/callback/{provider}`: the provider's answer.
pub(crate) async fn callback<B: Backend>(
    State(console): State<Console<B>>,
    provider: Option<Path<String>>,
    request: Request,
) -> Response {
    let (peer, query) = (console::peer(&request), request.uri().query().unwrap_or_default());
    let provider = provider.as_deref().map(String::as_str);
    match console.0.backend.callback(peer, provider, query, request.headers()).await {
        Ok(signed_in) => go_on(&console, peer, signed_in, By::Link).await,
        Err(problem) => console.problem(&problem),
    }
}

/// `POST /login/demo`
pub(crate) async fn demo<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let form = match forms::receive(&console, request).await {
        Ok(form) => form,
        Err(refusal) => return *refusal,
    };
    let Some(user) = form.fields.get("user") else { return console.problem(&forms::incomplete()) };
    let return_to = return_to(&form.fields);
    if asking(&console, &return_to).is_none() {
        return console.problem(&expired());
    }
    match console.0.backend.demo(form.peer, user, return_to, &form.headers).await {
        Ok(signed_in) => go_on(&console, form.peer, signed_in, By::Form).await,
        Err(problem) => console.problem(&problem),
    }
}

/// `GET /login/continue`: signed in, back to what a client asked for. A request of its own,
/// because only now the browser shows the cookie of the session.
pub(crate) async fn resume<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let Ok(params) = query(&request) else { return console.problem(&authorize::unclear()) };
    let Some(transaction) = params.get("transaction") else { return console.problem(&authorize::unclear()) };
    let Some(session) = console.session(request.headers()).await else {
        // Not back to the provider: a browser that keeps no cookies would go round for ever.
        return console.problem(&no_cookie());
    };
    let peer = console::peer(&request);
    let step = console.0.backend.resume(peer, transaction, &session).await;
    authorize::answer(&console, peer, step, Some(&session)).await
}

/// What a client wants the provider to do. Read from its request at every step, so that no
/// link or form can leave it out. `None` for what is no request of ours, or an old one:
/// nothing is kept for that.
pub(crate) fn asking<B: Backend>(console: &Console<B>, return_to: &ReturnTo) -> Option<Ask> {
    let login = match return_to {
        ReturnTo::Authorize(transaction) => console.0.backend.wants_login(transaction)?,
        ReturnTo::StepUp(_) | ReturnTo::Path(_) => false,
    };
    Some(Ask { prompt: login.then(|| "login".to_owned()), ..Ask::default() })
}

/// Answers how a sign-in begins.
pub(crate) fn begun<B: Backend>(console: &Console<B>, began: Begin, return_to: &ReturnTo) -> Response {
    answer(console, began, return_to, By::Link)
}

/// The same after a form.
pub(crate) fn begun_by_form<B: Backend>(console: &Console<B>, began: Begin, return_to: &ReturnTo) -> Response {
    answer(console, began, return_to, By::Form)
}

fn answer<B: Backend>(console: &Console<B>, began: Begin, return_to: &ReturnTo, by: By) -> Response {
    let window = match return_to {
        ReturnTo::Authorize(_) => Window::Client,
        ReturnTo::StepUp(_) | ReturnTo::Path(_) => Window::Own,
    };
    match began {
        Begin::Redirect { url, set_cookie } => {
            let mut answer = if !url.starts_with("https://") && !url.starts_with("http://") {
                console.leave("", window)
            } else if by == By::Form {
                onward(console, "Taking you to the sign-in", url, window)
            } else {
                console.leave(&url, window)
            };
            answer.headers_mut().append(SET_COOKIE, set_cookie);
            answer
        }
        Begin::Choose(providers) => {
            let fields = fields(return_to);
            let href = |id: &str| {
                let query = fields
                    .iter()
                    .fold(Builder::new().add("provider", id), |query, (name, value)| query.add(name, value));
                query.append_to(&console.path("/login"))
            };
            let mut page = pages::Choose::new(console.chrome(None), &providers, fields.clone(), href);
            page.unknown = by == By::Form;
            console.show(&page, window)
        }
        Begin::Demo(users) => {
            let page = pages::Demo::new(console.chrome(None), &users, fields(return_to));
            console.show(&page, window)
        }
        Begin::Unavailable(problem) if console.0.backend.has_break_glass() => {
            let page = format!("{}/login/break-glass", console.0.public_url);
            let own = problem.hint.clone().unwrap_or_default();
            let hint = format!("{own} Whoever holds the break-glass account signs in at {page}");
            console.problem(&problem.hint(hint))
        }
        Begin::Unavailable(problem) => console.problem(&problem),
    }
}

/// Goes on after a form of another route.
pub(crate) async fn go_on_by_form<B: Backend>(console: &Console<B>, peer: IpAddr, signed_in: SignedIn) -> Response {
    go_on(console, peer, signed_in, By::Form).await
}

async fn go_on<B: Backend>(console: &Console<B>, peer: IpAddr, signed_in: SignedIn, by: By) -> Response {
    let mut answer = match signed_in.return_to {
        ReturnTo::StepUp(handle) => step_up::returned(console, peer, &handle, &signed_in.session).await,
        ReturnTo::Path(path) => console.go(path.as_str(), Window::Own),
        ReturnTo::Authorize(transaction) => {
            let path = Builder::new().add("transaction", &transaction).append_to("/login/continue");
            match by {
                By::Link => console.go(&path, Window::Client),
                By::Form => onward(console, "You are signed in", console.path(&path), Window::Client),
            }
        }
    };
    set_cookies(&mut answer, signed_in.set_cookies);
    answer
}

fn set_cookies(answer: &mut Response, cookies: Vec<HeaderValue>) {
    for cookie in cookies {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
}

fn onward<B: Backend>(console: &Console<B>, title: &'static str, url: String, window: Window) -> Response {
    console.show(&pages::Onward { chrome: console.chrome(None), title, url }, window)
}

/// The way on, as fields of a form or query.
fn fields(return_to: &ReturnTo) -> Fields {
    match return_to {
        ReturnTo::Authorize(transaction) => vec![("transaction", transaction.clone())],
        ReturnTo::Path(path) => vec![("return_to", path.as_str().to_owned())],
        // Goes to a certain provider, so there is nothing to choose.
        ReturnTo::StepUp(_) => Fields::new(),
    }
}

/// The reverse of [`fields`]; the home page when there is nothing to be believed.
pub(crate) fn return_to(params: &Params) -> ReturnTo {
    match params.get("transaction") {
        Some(transaction) => ReturnTo::Authorize(transaction.to_owned()),
        None => ReturnTo::path(params.get("return_to").unwrap_or("/")),
    }
}

pub(crate) fn query(request: &Request) -> Result<Params, ParamsError> {
    Params::parse(request.uri().query().unwrap_or_default().as_bytes())
}

/// A sealed request that is none, or none any more.
pub(crate) fn expired() -> PageProblem {
    PageProblem::new(
        StatusCode::BAD_REQUEST,
        "request_expired",
        "This page is no longer good",
        "It is older than ten minutes, or was not made here.",
    )
    .hint("Go back to your AI client and connect again.")
}

fn no_cookie() -> PageProblem {
    PageProblem::new(
        StatusCode::BAD_REQUEST,
        "no_session",
        "This browser did not keep you signed in",
        "You signed in, but the browser shows no cookie of this site.",
    )
    .hint("Allow cookies for this site, and start again from your AI client.")
}
