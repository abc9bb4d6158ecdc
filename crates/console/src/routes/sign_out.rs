//! Signing out: of this browser, or of everything (P39).

use axum::extract::{Request, State};
use axum::response::Response;
use bartizan_identity::{BrowserSession, ProviderSignOut};
use http::HeaderValue;
use http::header::{REFRESH, SET_COOKIE};

use crate::backend::Backend;
use crate::console::Console;
use crate::forms;
use crate::headers::Window;
use crate::pages;
use crate::routes::connect::address;
use crate::upstream::Visit;

/// The browser goes on to the provider by itself after this time; until then the page can be
/// read.
const READ_S: u32 = 4;

/// `POST /logout`: of this browser; with `everywhere`, of all browsers and clients, and with
/// `accounts` of the servers as well.
pub(crate) async fn sign_out<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    if console.session(request.headers()).await.is_none() {
        return console.go("/signed-out", Window::Own);
    }
    let ip = address(&request);
    let (form, session) = match forms::receive_signed_in(&console, request).await {
        Ok(received) => received,
        Err(refusal) => return *refusal,
    };
    if form.fields.get("action") != Some("everywhere") {
        let done = console.go("/signed-out", Window::Own);
        return end(&console, &session, done).await;
    }
    let accounts = form.fields.get("accounts") == Some("yes");
    match console.0.backend.sign_out_everywhere(Visit { session: &session, ip }, accounts).await {
        Ok(left) => {
            let web = |out: &ProviderSignOut| out.url.starts_with("https://") || out.url.starts_with("http://");
            let provider = left.provider.filter(web);
            let at_once = provider.as_ref().is_some_and(|provider| provider.is_known);
            let page = pages::Left {
                chrome: console.chrome(None),
                browsers: left.browsers,
                clients: left.clients,
                accounts: left.accounts,
                at_once,
                provider: provider.map(|provider| provider.url),
            };
            let mut done = console.show(&page, Window::Own);
            if let Some(on) = page.provider.as_ref().filter(|_| at_once) {
                // A header, because the page stays as it is for whoever stops it there.
                let on = HeaderValue::try_from(format!("{READ_S}; url={on}"));
                done.headers_mut().extend(on.ok().map(|on| (REFRESH, on)));
            }
            end(&console, &session, done).await
        }
        Err(problem) => console.problem(&problem),
    }
}

/// Ends the session of this browser.
async fn end<B: Backend>(console: &Console<B>, session: &BrowserSession, mut done: Response) -> Response {
    match console.0.backend.end(session).await {
        Ok(cookie) => {
            done.headers_mut().append(SET_COOKIE, cookie);
            done
        }
        Err(problem) => console.problem(&problem),
    }
}

/// `GET /signed-out`
pub(crate) async fn signed_out<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    // Somebody who is signed in must not be told otherwise.
    if console.session(request.headers()).await.is_some() {
        return console.go("/account", Window::Own);
    }
    console.show(&pages::SignedOut { chrome: console.chrome(None) }, Window::Own)
}
