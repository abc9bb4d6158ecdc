//! What a person sees of their own account, and signing out.

use axum::extract::{Request, State};
use axum::response::Response;
use bartizan_identity::ApprovedClient;

use crate::backend::Backend;
use crate::console::Console;
use crate::headers::Window;
use crate::pages::{self, Allowed, Linked};
use crate::routes::connect::address;
use crate::upstream::{OwnAccount, Visit};
use crate::{forms, text, when};

/// `GET /account`
pub(crate) async fn show<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let Some(session) = console.session(request.headers()).await else {
        return console.go("/login?return_to=/account", Window::Own);
    };
    let person = &session.person;
    let clients = match console.0.backend.clients_of(&person.id).await {
        Ok(clients) => clients,
        Err(problem) => return console.problem(&problem),
    };
    let own = match console.0.backend.own(Visit { session: &session, ip: address(&request) }).await {
        Ok(own) => own,
        Err(problem) => return console.problem(&problem),
    };
    let chrome = console.chrome(Some(&session));
    let name = text::shown(&person.name, text::NAME);
    let page = pages::Account {
        csrf: console.0.backend.csrf(&session),
        name: (!name.is_empty() && name != person.email).then_some(name),
        email: text::shown(&person.email, text::NAME * 2),
        groups: pages::list(&person.groups),
        signed_in: when::utc(session.created_ms),
        clients: clients.iter().map(allowed).collect(),
        accounts: own.iter().map(connected).collect(),
        chrome,
    };
    console.show(&page, Window::Own)
}

/// `POST /account`: takes back what was allowed.
pub(crate) async fn change<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let ip = address(&request);
    let (form, session) = match forms::receive_signed_in(&console, request).await {
        Ok(received) => received,
        Err(refusal) => return *refusal,
    };
    let backend = &console.0.backend;
    if let (Some("disconnect"), Some(server)) = (form.fields.get("action"), form.fields.get("server")) {
        return match backend.disconnect(Visit { session: &session, ip }, server).await {
            Ok(()) => console.go("/account", Window::Own),
            Err(problem) => console.problem(&problem),
        };
    }
    let person = &session.person.id;
    match (form.fields.get("action"), form.fields.get("client")) {
        (Some("withdraw"), Some(client)) => match backend.withdraw(person, client).await {
            Ok(()) => console.go("/account", Window::Own),
            Err(problem) => console.problem(&problem),
        },
        _ => console.problem(&forms::incomplete()),
    }
}

/// An account at a server as one entry of the list.
fn connected(own: &OwnAccount) -> Linked {
    let account = &own.account;
    let state = match (&own.name, account.ready, account.expires_ms) {
        (None, ..) => "You may not use this server now".to_owned(),
        (_, false, _) => "Must be connected again".to_owned(),
        (_, true, Some(end)) => format!("Ready · present access until {}", when::utc(end)),
        (_, true, None) => "Ready".to_owned(),
    };
    let used =
        account.last_used_ms.map_or_else(|| "not used yet".to_owned(), |at| format!("last used {}", when::utc(at)));
    let scopes = text::shown(&account.scopes.join(" "), text::SENTENCE);
    let issuer = text::shown(&account.issuer, text::SENTENCE);
    Linked {
        id: account.server.clone(),
        name: text::name(own.name.as_deref().unwrap_or_default(), &account.server),
        reachable: own.name.is_some(),
        lines: vec![
            state,
            match &account.whom {
                Some(whom) => format!("As {}, signed in at {issuer}", text::shown(whom, text::NAME)),
                None => format!("Signed in at {issuer}"),
            },
            format!("Connected {} · {used}", when::utc(account.connected_ms)),
            format!("Scopes: {}", if scopes.is_empty() { "none" } else { &scopes }),
        ],
    }
}

/// A client as one entry of the list.
fn allowed(client: &ApprovedClient) -> Allowed {
    let hosts = client.redirect_hosts.iter().map(|host| pages::target(host)).collect::<Vec<_>>().join(", ");
    let used = match client.last_used_ms {
        Some(used) if client.grants > 0 => format!("Last used {}", when::utc(used)),
        _ => "Not connected now".to_owned(),
    };
    let scopes = text::shown(&client.scopes, text::SENTENCE);
    Allowed {
        id: client.client_id.clone(),
        name: text::name(&client.name, "A client without a name"),
        lines: vec![
            format!("Answers go to {hosts}"),
            format!("Allowed {} · {used}", when::utc(client.granted_ms)),
            format!("Scopes: {}", if scopes.is_empty() { "none" } else { &scopes }),
        ],
    }
}
