//! The routes, one file per subject.

mod account;
mod approvals;
mod authorize;
mod break_glass;
mod connect;
mod home;
mod login;
mod oauth;
mod selection;
mod sign_out;
mod step_up;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{get, post};
use bartizan_identity::PageProblem;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::backend::Backend;
use crate::console::Console;
use crate::{assets, cors, headers};

/// All routes over these parts.
pub(crate) fn routes<B: Backend>(console: Console<B>) -> Router {
    let pages = Router::new()
        .route("/", get(home::root))
        .route("/portals/{id}", get(home::portal))
        .route("/portals/{id}/", get(home::portal))
        .route("/mcp", get(home::endpoint))
        .route("/sse", get(home::endpoint))
        .route("/portals/{id}/mcp", get(home::portal_endpoint))
        .route("/portals/{id}/sse", get(home::portal_endpoint))
        .route("/servers/{id}/mcp", get(home::server_endpoint))
        .route("/servers/{id}/sse", get(home::server_endpoint))
        .route("/authorize", get(authorize::authorize))
        .route("/portals/{id}/authorize", get(selection::portal))
        .route("/selection", post(selection::choose))
        .route("/consent", post(authorize::consent))
        .route("/login", get(login::begin).post(login::by_email))
        .route("/login/callback", get(login::callback))
        .route("/login/callback/{provider}", get(login::callback))
        .route("/step-up/{handle}", get(step_up::show).post(step_up::go))
        .route("/login/continue", get(login::resume))
        .route("/login/demo", post(login::demo))
        .route("/login/break-glass", get(break_glass::ask).post(break_glass::sign_in))
        .route("/account", get(account::show).post(account::change))
        .route("/approvals", get(approvals::list).post(approvals::answer_several))
        .route("/approvals/{id}", get(approvals::show).post(approvals::answer))
        .route("/request-access", get(approvals::ask_page).post(approvals::ask))
        .route("/connect", get(connect::next))
        .route("/connect/{server}", get(connect::ask).post(connect::leave))
        .route("/connect/{server}/done", get(connect::done))
        .route("/oauth/callback", get(connect::back))
        .route("/logout", post(sign_out::sign_out))
        .route("/signed-out", get(sign_out::signed_out))
        .route("/assets/{name}", get(asset));
    let clients = Router::new()
        .route("/token", post(oauth::token).options(cors::preflight))
        .route("/register", post(oauth::register).options(cors::preflight))
        .route("/revoke", post(oauth::revoke).options(cors::preflight))
        .route("/.well-known/oauth-authorization-server", get(oauth::metadata).options(cors::preflight))
        .route("/.well-known/oauth-authorization-server/{*path}", get(oauth::metadata).options(cors::preflight))
        .route("/.well-known/bartizan-client.json", get(oauth::client_document).options(cors::preflight))
        .route("/.well-known/openid-configuration", get(oauth::openid).options(cors::preflight))
        .route("/.well-known/openid-configuration/{*path}", get(oauth::openid).options(cors::preflight))
        .route("/.well-known/jwks.json", get(oauth::jwks).options(cors::preflight))
        .route("/cdn-cgi/access/certs", get(oauth::jwks).options(cors::preflight))
        .route_layer(map_response(cors::layer));
    pages
        .merge(clients)
        .fallback(unknown::<B>)
        .method_not_allowed_fallback(wrong_method::<B>)
        .layer(map_response(headers::finish))
        .with_state(console)
}

async fn asset<B: Backend>(State(console): State<Console<B>>, Path(name): Path<String>, request: Request) -> Response {
    assets::asset(&name).unwrap_or_else(|| not_found(&console, request.headers()))
}

async fn unknown<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    not_found(&console, request.headers())
}

async fn wrong_method<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let problem = PageProblem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "This address is used in another way",
        "It does not answer this kind of request.",
    );
    refuse(&console, request.headers(), &problem.hint("Go to the home page and start from there."))
}

/// Nothing is here; the same for everything that is not.
pub(crate) fn not_found<B: Backend>(console: &Console<B>, asked: &HeaderMap) -> Response {
    let problem =
        PageProblem::new(StatusCode::NOT_FOUND, "not_found", "There is no such page", "Nothing is at this address.");
    refuse(console, asked, &problem.hint("Check the address, or go to the home page."))
}

/// A page for browsers, JSON for everybody else.
fn refuse<B: Backend>(console: &Console<B>, asked: &HeaderMap, problem: &PageProblem) -> Response {
    let page = console.problem(problem);
    if wants_page(asked) {
        return page;
    }
    let (mut parts, _) = page.into_parts();
    let body = serde_json::json!({ "error": problem.code, "error_description": problem.text }).to_string();
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    parts.headers.remove(http::header::CONTENT_SECURITY_POLICY);
    Response::from_parts(parts, body.into())
}

/// True when the sender is a browser that wants a page.
fn wants_page(asked: &HeaderMap) -> bool {
    let accept = asked.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accept.flat_map(|value| value.split(',')).any(|part| part.trim().to_ascii_lowercase().starts_with("text/html"))
}
