//! The home page (P56): what to add to which client. The same for everybody, plus the bar
//! of whoever is signed in.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bartizan_model::ServerId;
use http::HeaderMap;
use http::header::HOST;

use crate::backend::Backend;
use crate::clients::{guides, slug};
use crate::console::{Console, HomeAsk, PortalView};
use crate::headers::Window;
use crate::{pages, text};

/// The portal that is at the root.
const DEFAULT: &str = "default";

/// `GET /`
pub(crate) async fn root<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let portal = find(&console, request.headers(), None);
    show(&console, request.headers(), portal, false).await
}

/// `GET /mcp` by a browser: says what the address is for.
pub(crate) async fn endpoint<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let portal = find(&console, request.headers(), None);
    show(&console, request.headers(), portal, true).await
}

/// `GET /portals/{id}/`
pub(crate) async fn portal<B: Backend>(
    State(console): State<Console<B>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    named(&console, &id, request.headers(), false).await
}

/// `GET /portals/{id}/mcp` by a browser.
pub(crate) async fn portal_endpoint<B: Backend>(
    State(console): State<Console<B>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    named(&console, &id, request.headers(), true).await
}

/// `GET /servers/{id}/mcp` by a browser. Tells nothing about which servers exist.
pub(crate) async fn server_endpoint<B: Backend>(
    State(console): State<Console<B>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let Ok(id) = ServerId::parse(&id) else { return super::not_found(&console, request.headers()) };
    let server = PortalView {
        id: id.as_str().to_owned(),
        name: id.as_str().to_owned(),
        description: "One server behind the gateway.".to_owned(),
        endpoint: format!("{}/servers/{}/mcp", console.0.public_url, id.as_str()),
        own_host: false,
    };
    show(&console, request.headers(), Some(server), true).await
}

async fn named<B: Backend>(console: &Console<B>, id: &str, headers: &HeaderMap, explain: bool) -> Response {
    match find(console, headers, Some(id)) {
        None => super::not_found(console, headers),
        found => show(console, headers, found, explain).await,
    }
}

fn find<B: Backend>(console: &Console<B>, headers: &HeaderMap, portal: Option<&str>) -> Option<PortalView> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).map(without_port);
    (console.0.home)(HomeAsk { portal, host })
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

async fn show<B: Backend>(
    console: &Console<B>,
    headers: &HeaderMap,
    portal: Option<PortalView>,
    explain: bool,
) -> Response {
    let inner = &console.0;
    let own_host = portal.as_ref().is_some_and(|portal| portal.own_host);
    let session = if own_host { None } else { console.session(headers).await };
    let mut chrome = console.chrome(session.as_ref());
    let account = if own_host { format!("{}/account", inner.public_url) } else { console.path("/account") };
    chrome.sign_in = session.is_none().then(|| account.clone());
    if own_host {
        chrome.base.clear();
    }
    let name = |portal: &PortalView| {
        text::name(&portal.name, if portal.id == DEFAULT { &inner.brand.name } else { &portal.id })
    };
    let lead = portal.as_ref().map(|portal| text::shown(&portal.description, text::SENTENCE));
    let entry = portal
        .as_ref()
        .map_or_else(String::new, |portal| slug(if portal.id == DEFAULT { &inner.brand.name } else { &portal.id }));
    let page = pages::Home {
        title: portal.as_ref().map_or_else(|| inner.brand.name.clone(), name),
        lead: lead.filter(|lead| !lead.is_empty()).unwrap_or_else(|| LEAD.to_owned()),
        explain,
        guides: portal.as_ref().map_or_else(Vec::new, |portal| guides(&entry, &portal.endpoint)),
        endpoint: portal.map(|portal| portal.endpoint),
        account,
        chrome,
    };
    console.show(&page, Window::Own)
}

const LEAD: &str = "One address for all the tools you may use. Add it to your AI client once, and sign in with your \
                    company account.";
