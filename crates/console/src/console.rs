//! What every route uses: the parts, who is visiting, and how a page is answered.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use askama::Template;
use axum::extract::Request;
use axum::response::Response;
use bartizan_identity::{BrowserSession, PageProblem};
use bartizan_model::{Clock, EventId};
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::assets;
use crate::backend::Backend;
use crate::headers::{self, REQUEST_ID, Window};
use crate::pages::{self, Chrome, Visitor};

/// Address of the peer, after trusted proxies. Whoever serves the router puts it into the
/// extensions of each request; without it all requests count as one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// The address a request comes from.
pub(crate) fn peer(request: &Request) -> IpAddr {
    let address = request.extensions().get::<ClientAddress>();
    address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.0)
}

/// Name of the installation, as people know it.
#[derive(Clone, Debug)]
pub struct Brand {
    /// Shown on every page.
    pub name: String,
    /// One line at the foot of every page: whom to ask.
    pub support: Option<String>,
}

impl Default for Brand {
    fn default() -> Self {
        Self { name: "bartizan".to_owned(), support: None }
    }
}

/// Which home page is asked for.
#[derive(Clone, Copy, Debug)]
pub struct HomeAsk<'a> {
    /// The id in the path; `None` at `/`.
    pub portal: Option<&'a str>,
    /// The host of the request, without port; a portal may have one of its own.
    pub host: Option<&'a str>,
}

/// A portal as its home page shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalView {
    /// Its id.
    pub id: String,
    /// Its name for people; may be empty.
    pub name: String,
    /// A sentence about it; may be empty.
    pub description: String,
    /// The URL that is added to clients.
    pub endpoint: String,
    /// The request came to the portal's own host name, where nobody is signed in and which
    /// has no base path.
    pub own_host: bool,
}

/// Finds portals. Says the same whoever asks: home pages are public.
pub type HomeSource = Arc<dyn Fn(HomeAsk<'_>) -> Option<PortalView> + Send + Sync>;

/// The parts, cheap to clone.
pub(crate) struct Console<B>(pub(crate) Arc<Inner<B>>);

impl<B> Clone for Console<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

pub(crate) struct Inner<B> {
    pub(crate) backend: B,
    pub(crate) home: HomeSource,
    pub(crate) clock: Arc<dyn Clock>,
    /// Without trailing slash.
    pub(crate) public_url: String,
    /// Scheme, host and port of it.
    pub(crate) origin: String,
    /// Path of it; mostly empty.
    pub(crate) base: String,
    pub(crate) brand: Brand,
}

impl<B: Backend> Console<B> {
    pub(crate) fn new(backend: B, home: HomeSource, clock: Arc<dyn Clock>, public_url: &str, brand: Brand) -> Self {
        let public_url = public_url.trim_end_matches('/').to_owned();
        let rest = public_url.split_once("://").map_or("", |(_, rest)| rest);
        let base = rest.split_once('/').map_or_else(String::new, |(_, path)| format!("/{path}"));
        let origin = public_url.strip_suffix(&base).unwrap_or(&public_url).to_owned();
        Self(Arc::new(Inner { backend, home, clock, public_url, origin, base, brand }))
    }

    /// A path of ours as the browser has to ask for it.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.0.base)
    }

    /// What surrounds a page; with the bar of whoever is signed in.
    pub(crate) fn chrome(&self, session: Option<&BrowserSession>) -> Chrome {
        let inner = &self.0;
        Chrome {
            brand: inner.brand.name.clone(),
            base: inner.base.clone(),
            version: assets::version(),
            person: session.map(|session| Visitor {
                email: crate::text::shown(&session.person.email, crate::text::NAME * 2),
                csrf: inner.backend.csrf(session),
            }),
            sign_in: None,
            support: inner.brand.support.clone(),
        }
    }

    /// A page that asks or tells something of our own.
    pub(crate) fn show(&self, page: &impl Template, window: Window) -> Response {
        self.answer(StatusCode::OK, page, window, None)
    }

    pub(crate) fn answer(
        &self,
        status: StatusCode,
        page: &impl Template,
        window: Window,
        target: Option<&str>,
    ) -> Response {
        match page.render() {
            Ok(html) => headers::page(status, html, window, target),
            Err(error) => {
                tracing::error!(%error, "a page could not be rendered");
                let text = "This page could not be made. Please try again later.\n";
                headers::page(StatusCode::INTERNAL_SERVER_ERROR, text.to_owned(), window, None)
            }
        }
    }

    /// The page of a problem. It names an event, under which the log has the same problem.
    pub(crate) fn problem(&self, problem: &PageProblem) -> Response {
        let event = EventId::new(self.0.clock.now_ms()).to_string();
        tracing::info!(code = problem.code, status = problem.status.as_u16(), event, "a page tells of a problem");
        let page = pages::Problem::new(self.chrome(None), problem, event.clone());
        let mut answer = self.answer(problem.status, &page, Window::Own, None);
        if let Ok(event) = HeaderValue::try_from(event) {
            answer.headers_mut().insert(REQUEST_ID, event);
        }
        for cookie in &problem.set_cookies {
            answer.headers_mut().append(SET_COOKIE, cookie.clone());
        }
        answer
    }

    /// 303 to a page of ours.
    pub(crate) fn go(&self, path: &str, window: Window) -> Response {
        headers::local(&self.path(path), window).unwrap_or_else(|| self.problem(&nowhere()))
    }

    /// 303 to where the authorization server or the login say.
    pub(crate) fn leave(&self, url: &str, window: Window) -> Response {
        headers::see_other(url, window).unwrap_or_else(|| self.problem(&nowhere()))
    }

    /// Who is signed in with this browser.
    pub(crate) async fn session(&self, headers: &HeaderMap) -> Option<BrowserSession> {
        self.0.backend.session(headers).await
    }
}

fn nowhere() -> PageProblem {
    PageProblem::new(
        StatusCode::BAD_REQUEST,
        "bad_redirect",
        "This way leads nowhere safe",
        "The client asked to be answered at an address that a browser must not be sent to.",
    )
    .hint("Nothing was allowed. Tell whoever makes the client, and your administrator.")
}
