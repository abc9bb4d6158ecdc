//! Connecting an account at an upstream server (P16): ask, leave, come back.
//!
//! A GET only asks. The browser leaves after a POST, and not by a redirect: authorization
//! servers send it on to other sites at once, which `form-action` of our page would stop.

use std::net::IpAddr;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bartizan_identity::{Ask, BrowserSession, LocalPath, PageProblem, ReturnTo};
use bartizan_model::Secret;
use bartizan_oauth::params::{Builder, Params};
use http::StatusCode;

use crate::backend::Backend;
use crate::console::{ClientAddress, Console};
use crate::headers::Window;
use crate::pages;
use crate::upstream::Visit;
use crate::{forms, routes};

/// The way of a client's sign-in through the logins of servers (P18).
struct Journey {
    transaction: String,
    /// That the person has allowed the client, in this session.
    agreed: String,
    /// Servers that are left out, separated by commas.
    skip: String,
}

impl Journey {
    fn read(params: &Params) -> Option<Self> {
        let get = |name| params.get(name).map(str::to_owned);
        let skip = get("skip").unwrap_or_default();
        Some(Self { transaction: get("transaction")?, agreed: get("agreed")?, skip })
    }

    fn path(&self) -> String {
        let query = Builder::new().add("transaction", &self.transaction).add("agreed", &self.agreed);
        query.add_some("skip", Some(self.skip.as_str()).filter(|skip| !skip.is_empty())).append_to(JOURNEY)
    }

    fn without(mut self, server: &str) -> Self {
        if !self.skip.is_empty() {
            self.skip.push(',');
        }
        self.skip.push_str(server);
        self
    }
}

/// Path of a journey.
const JOURNEY: &str = "/connect";

/// Whose window it is: that of a client, on the way of its sign-in.
fn window(return_to: &str) -> Window {
    let of_client = return_to.strip_prefix(JOURNEY).is_some_and(|rest| rest.starts_with('?'));
    if of_client { Window::Client } else { Window::Own }
}

/// After the person allowed a client: the way to the first login, if there is one to go to.
pub(crate) async fn journey<B: Backend>(
    console: &Console<B>,
    peer: IpAddr,
    transaction: &str,
    session: &BrowserSession,
) -> Option<Response> {
    let backend = &console.0.backend;
    if backend.missing(Visit { session, ip: Some(peer) }).await.is_empty() {
        return None;
    }
    let journey = Journey {
        transaction: transaction.to_owned(),
        agreed: backend.agree(session, transaction),
        skip: String::new(),
    };
    // What cannot be come back to is left out.
    let path = LocalPath::parse(&journey.path())?;
    Some(console.go(path.as_str(), Window::Client))
}

/// `GET /connect`: the next login of a journey, or back to the client.
pub(crate) async fn next<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let Some(journey) = Journey::read(&query(&request)) else {
        return routes::not_found(&console, request.headers());
    };
    let Some(session) = console.session(request.headers()).await else { return console.problem(&no_session()) };
    let backend = &console.0.backend;
    if !backend.has_agreed(&session, &journey.transaction, &journey.agreed) {
        return console.problem(&routes::authorize::unclear());
    }
    let visit = visit(&session, &request);
    for server in backend.missing(visit).await {
        if journey.skip.split(',').any(|left_out| left_out == server) {
            continue;
        }
        // A server that cannot be asked now does not hold up the sign-in.
        let Some(Ok(view)) = backend.ask(visit, &server).await else { continue };
        let return_to = journey.path();
        let mut page = pages::Connect::new(console.chrome(Some(&session)), &view, false, Some(return_to));
        page.later = console.path(&journey.without(&server).path());
        return console.show(&page, Window::Client);
    }
    let peer = crate::console::peer(&request);
    let step = backend.decide(peer, &journey.transaction, &session, true).await;
    routes::authorize::answer(&console, peer, step, Some(&session)).await
}

/// `GET /connect/{server}`
pub(crate) async fn ask<B: Backend>(
    State(console): State<Console<B>>,
    Path(server): Path<String>,
    request: Request,
) -> Response {
    let Some(session) = console.session(request.headers()).await else { return sign_in(&console, &request) };
    let visit = visit(&session, &request);
    if let Some(view) = console.0.backend.typed(visit, &server) {
        let return_to = query(&request).get("return_to").and_then(LocalPath::parse);
        let return_to = return_to.map(|path| path.as_str().to_owned());
        let page = pages::ConnectToken::new(console.chrome(Some(&session)), &view, return_to);
        return console.show(&page, Window::Own);
    }
    if let Some(signed) = console.0.backend.signed(visit, &server).await {
        let done = format!("/connect/{server}/done");
        return match signed {
            Ok(view) if view.ready => console.go(&done, Window::Own),
            Ok(view) => sign_in_again(&console, crate::console::peer(&request), &session, &view.provider, &done).await,
            Err(problem) => console.problem(&problem),
        };
    }
    let Some(asked) = console.0.backend.ask(visit, &server).await else {
        return routes::not_found(&console, request.headers());
    };
    let view = match asked {
        Ok(view) => view,
        Err(problem) => return console.problem(&problem),
    };
    let ready = console.0.backend.own(visit).await.is_ok_and(|own| {
        let same = |account: &bartizan_accounts::AccountView| account.server == view.id && account.ready;
        own.iter().any(|own| same(&own.account))
    });
    let return_to = query(&request).get("return_to").and_then(LocalPath::parse);
    let return_to = return_to.map(|path| path.as_str().to_owned());
    console.show(&pages::Connect::new(console.chrome(Some(&session)), &view, ready, return_to), Window::Own)
}

/// To the company's provider, whose tokens for the person are over. Only the same person may
/// come back.
async fn sign_in_again<B: Backend>(
    console: &Console<B>,
    peer: IpAddr,
    session: &BrowserSession,
    provider: &str,
    done: &str,
) -> Response {
    let return_to = ReturnTo::path(done);
    let ask = Ask {
        provider: Some(provider.to_owned()),
        same_person: Some((session.person.issuer.clone(), session.person.subject.clone())),
        ..Ask::default()
    };
    let began = console.0.backend.begin(peer, return_to.clone(), None, ask).await;
    routes::login::begun(console, began, &return_to)
}

/// `POST /connect/{server}`
pub(crate) async fn leave<B: Backend>(
    State(console): State<Console<B>>,
    Path(server): Path<String>,
    request: Request,
) -> Response {
    let ip = address(&request);
    let (form, session) = match forms::receive_signed_in(&console, request).await {
        Ok(received) => received,
        Err(refusal) => return *refusal,
    };
    let visit = Visit { session: &session, ip };
    let done = format!("/connect/{server}/done");
    let return_to = form.fields.get("return_to").filter(|path| LocalPath::parse(path).is_some()).unwrap_or(&done);
    if let Some(token) = form.fields.get("token") {
        return match console.0.backend.keep(visit, &server, Secret::new(token.to_owned())).await {
            None => routes::not_found(&console, &form.headers),
            Some(Ok(())) => console.go(return_to, Window::Own),
            Some(Err(problem)) => console.problem(&problem),
        };
    }
    let shown = form.fields.get("shown").unwrap_or_default();
    match console.0.backend.leave(visit, &server, return_to, shown).await {
        None => routes::not_found(&console, &form.headers),
        Some(Ok(None)) => again(&console, visit, &server, &form.headers, return_to).await,
        Some(Ok(Some(url))) if is_web(&url) => {
            let page = pages::Onward { chrome: console.chrome(None), title: "Taking you to the sign-in", url };
            console.show(&page, window(return_to))
        }
        Some(Ok(Some(_))) => console.leave("", Window::Own),
        Some(Err(problem)) => console.problem(&problem),
    }
}

/// The page once more: what the person agreed to is not what would be asked for now.
async fn again<B: Backend>(
    console: &Console<B>,
    visit: Visit<'_>,
    server: &str,
    headers: &http::HeaderMap,
    return_to: &str,
) -> Response {
    match console.0.backend.ask(visit, server).await {
        None => routes::not_found(console, headers),
        Some(Err(problem)) => console.problem(&problem),
        Some(Ok(view)) => {
            let chrome = console.chrome(Some(visit.session));
            let mut page = pages::Connect::new(chrome, &view, false, Some(return_to.to_owned()));
            page.changed = true;
            console.show(&page, window(return_to))
        }
    }
}

/// `GET /oauth/callback`
pub(crate) async fn back<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let Some(session) = console.session(request.headers()).await else { return console.problem(&no_session()) };
    let query = request.uri().query().unwrap_or_default();
    match console.0.backend.back(visit(&session, &request), query).await {
        Ok(connected) => {
            let path = connected.return_to.as_str();
            console.go(path, window(path))
        }
        Err(problem) => console.problem(&problem),
    }
}

/// `GET /connect/{server}/done`
pub(crate) async fn done<B: Backend>(
    State(console): State<Console<B>>,
    Path(server): Path<String>,
    request: Request,
) -> Response {
    let Some(session) = console.session(request.headers()).await else { return sign_in(&console, &request) };
    let visit = visit(&session, &request);
    let own = match console.0.backend.own(visit).await {
        Ok(own) => own,
        Err(problem) => return console.problem(&problem),
    };
    let connected = own.iter().any(|own| own.account.server == server && own.account.ready);
    let ready = connected
        || match console.0.backend.signed(visit, &server).await {
            Some(Ok(view)) => view.ready,
            Some(Err(problem)) => return console.problem(&problem),
            None => false,
        };
    let Some(name) = console.0.backend.server_name(visit, &server).filter(|_| ready) else {
        return routes::not_found(&console, request.headers());
    };
    console.show(&pages::Connected::new(console.chrome(Some(&session)), &name), Window::Own)
}

fn visit<'a>(session: &'a BrowserSession, request: &Request) -> Visit<'a> {
    Visit { session, ip: address(request) }
}

pub(crate) fn address(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<ClientAddress>().map(|address| address.0)
}

fn query(request: &Request) -> Params {
    Params::parse(request.uri().query().unwrap_or_default().as_bytes()).unwrap_or_default()
}

/// First the sign-in here, then back to this page.
fn sign_in<B: Backend>(console: &Console<B>, request: &Request) -> Response {
    let here = request.uri().path_and_query().map_or("/", |here| here.as_str());
    console.go(&Builder::new().add("return_to", here).append_to("/login"), Window::Own)
}

fn is_web(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

fn no_session() -> PageProblem {
    PageProblem::new(
        StatusCode::FORBIDDEN,
        "signed_out",
        "You are not signed in here",
        "An account can only be connected by somebody who is signed in. Nothing was connected.",
    )
    .hint("Sign in on the home page, then connect the account again.")
}
