//! Pages for people and the endpoints behind them: home, sign-in, consent, account, and
//! the HTTP side of the authorization server. Rendered on the server, usable without script.
//!
//! Must never decide: what it shows and does comes from `identity`.
//!
//! Nothing here changes by a GET, except that asking to sign in begins to sign in. Every
//! POST of a person is checked twice (`forms`): that the browser says it comes from a page
//! of ours, and that it carries the token of the session. `headers` is the only place that
//! makes a page or a redirect, so no page goes without its policy.

mod approvals;
mod assets;
mod backend;
mod body;
mod clients;
mod console;
mod cors;
mod forms;
mod headers;
mod pages;
mod routes;
mod same_origin;
mod selection;
mod sign_out;
#[cfg(test)]
mod tests;
mod text;
mod upstream;
mod when;

use std::sync::Arc;

use axum::Router;
use bartizan_identity::{AuthorizationServer, BrowserSessions, Login};
use bartizan_model::Clock;

pub use approvals::{ApprovalPages, EntrySource, WhoSource};
pub use backend::KeySource;
pub use console::{Brand, ClientAddress, HomeAsk, HomeSource, PortalView};
pub use same_origin::is_own;
pub use selection::{Choose, Look, Selection, SelectionAnswer, SelectionError, SelectionLine, SelectionPages};
pub use upstream::{ServerSource, UpstreamAccounts};

/// What the pages need.
#[derive(Clone)]
pub struct ConsoleDeps {
    /// Clients' requests and tokens.
    pub server: AuthorizationServer,
    /// Signing people in.
    pub login: Login,
    /// Who is signed in with which browser.
    pub sessions: BrowserSessions,
    /// Finds the portal of a home page.
    pub home: HomeSource,
    /// Wall clock, for event ids.
    pub clock: Arc<dyn Clock>,
    /// Public URL. Paths of requests are relative to its path: whoever serves the router
    /// has removed it.
    pub public_url: String,
    /// How the installation is called.
    pub brand: Brand,
    /// The keys that verify what upstream servers are told (A13).
    pub jwks: KeySource,
    /// People's accounts at servers (P16); `None` where there are none.
    pub upstream: Option<UpstreamAccounts>,
    /// Choosing servers of a portal (P36); `None` where that is not possible.
    pub selection: Option<SelectionPages>,
    /// Answering and asking (W12, A16); `None` where that is not possible.
    pub approvals: Option<ApprovalPages>,
}

/// The pages and endpoints. Requests must have passed the check of their `Host`; each
/// should carry its [`ClientAddress`] as an extension. `Origin` is checked here, by route:
/// the endpoints for clients take every one, forms only our own.
pub fn router(deps: ConsoleDeps) -> Router {
    let ConsoleDeps { server, login, sessions, home, clock, public_url, brand, jwks, upstream, selection, approvals } =
        deps;
    let backend = backend::Real { server, login, sessions, jwks, upstream, selection, approvals };
    routes::routes(console::Console::new(backend, home, clock, &public_url, brand))
}
