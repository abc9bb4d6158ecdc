//! Approvals (W12) and asking to be let in (A16). A GET only shows.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bartizan_approvals::{Answer, DecideError, EntryQuestion};
use bartizan_identity::BrowserSession;
use bartizan_oauth::params::{Builder, Params};
use http::{HeaderMap, Uri};

use crate::approvals::{ApprovalPages, no_entry, not_found, problem, unasked};
use crate::backend::Backend;
use crate::body::{self, FORM};
use crate::console::Console;
use crate::headers::Window;
use crate::pages::approvals as pages;
use crate::routes::connect;
use crate::same_origin::is_own;
use crate::{forms, routes};

/// Questions on one page.
const LISTED: usize = 50;

fn query(request: &Request) -> Params {
    Params::parse(request.uri().query().unwrap_or_default().as_bytes()).unwrap_or_default()
}

/// Who is signed in, or the way there and back.
async fn signed_in<B: Backend>(
    console: &Console<B>,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<BrowserSession, Box<Response>> {
    match console.session(headers).await {
        Some(session) => Ok(session),
        None => {
            let here = uri.path_and_query().map_or("/", |here| here.as_str());
            let login = Builder::new().add("return_to", here).append_to("/login");
            Err(Box::new(console.go(&login, Window::Own)))
        }
    }
}

/// `GET /approvals`: what waits for whoever is signed in, and what they wait for.
pub(crate) async fn list<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let Some(desk) = console.0.backend.approvals() else { return routes::not_found(&console, request.headers()) };
    match signed_in(&console, request.headers(), request.uri()).await {
        Ok(session) => listed(&console, desk, &session).await,
        Err(elsewhere) => *elsewhere,
    }
}

async fn listed<B: Backend>(console: &Console<B>, desk: &ApprovalPages, session: &BrowserSession) -> Response {
    let (principal, decider) = desk.decider(session);
    let limit = u32::try_from(LISTED).unwrap_or(u32::MAX);
    let found = async {
        let waiting = desk.approvals.to_decide(&decider, LISTED).await?;
        Ok::<_, DecideError>((waiting, desk.approvals.asked_by(&principal, limit).await?))
    };
    match found.await {
        Ok((waiting, own)) => {
            console.show(&pages::Approvals::new(console.chrome(Some(session)), &waiting, &own), Window::Own)
        }
        Err(error) => console.problem(&problem(&error)),
    }
}

/// What the form of several says. There is one `id` for each that was chosen.
#[derive(Default)]
struct Chosen {
    csrf: String,
    decision: String,
    ids: Vec<String>,
}

impl Chosen {
    fn parse(body: &[u8]) -> Option<Self> {
        let mut chosen = Self::default();
        for pair in body.split(|byte| *byte == b'&') {
            let pair = Params::parse(pair).ok()?;
            let own = |name| pair.get(name).map(str::to_owned);
            chosen.csrf = own("csrf").unwrap_or(chosen.csrf);
            chosen.decision = own("decision").unwrap_or(chosen.decision);
            chosen.ids.extend(own("id"));
        }
        (chosen.ids.len() <= LISTED).then_some(chosen)
    }
}

/// `POST /approvals`: one answer to several.
pub(crate) async fn answer_several<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Some(desk) = console.0.backend.approvals() else { return routes::not_found(&console, &parts.headers) };
    if !is_own(&parts.headers, &console.0.origin) {
        return console.problem(&forms::foreign());
    }
    let Some(session) = console.session(&parts.headers).await else { return console.problem(&forms::signed_out()) };
    let form = body::read(body, FORM).await.ok().and_then(|body| Chosen::parse(&body));
    let Some(form) = form else { return console.problem(&forms::incomplete()) };
    if !console.0.backend.check_csrf(&session, &form.csrf) {
        return console.problem(&forms::foreign());
    }
    let answer = match form.decision.as_str() {
        "call" => Answer::Call,
        "reject" => Answer::Reject,
        _ => return console.problem(&forms::incomplete()),
    };
    let (_, decider) = desk.decider(&session);
    for id in &form.ids {
        match desk.approvals.decide(&decider, id, &answer, None, None).await {
            // What somebody else answered meanwhile is answered.
            Ok(_) | Err(DecideError::Closed(_)) => {}
            Err(error) => return console.problem(&problem(&error)),
        }
    }
    console.go("/approvals", Window::Own)
}

/// `GET /approvals/{id}`
pub(crate) async fn show<B: Backend>(
    State(console): State<Console<B>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let Some(desk) = console.0.backend.approvals() else { return routes::not_found(&console, request.headers()) };
    let session = match signed_in(&console, request.headers(), request.uri()).await {
        Ok(session) => session,
        Err(elsewhere) => return *elsewhere,
    };
    let query = query(&request);
    let link = query.get("link");
    let (_, decider) = desk.decider(&session);
    let found = match desk.visible(&session, &id).await {
        Ok(found) => found,
        Err(error) => return console.problem(&problem(&error)),
    };
    let bad = link.is_some_and(|link| desk.approvals.open_link(&id, link).is_none());
    match found {
        Some((record, _)) if bad && record.row.state == "open" => {
            desk.approvals.bad_link(&decider, &id).await;
            console.problem(&problem(&DecideError::Link))
        }
        Some((record, seen)) => {
            let page = pages::Approval::new(console.chrome(Some(&session)), &record, seen, link.unwrap_or_default());
            console.show(&page, Window::Own)
        }
        None => {
            // Another person's link gives nobody anything, and is noticed.
            if link.is_some() {
                desk.approvals.bad_link(&decider, &id).await;
            }
            console.problem(&not_found())
        }
    }
}

/// `POST /approvals/{id}`
pub(crate) async fn answer<B: Backend>(
    State(console): State<Console<B>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let Some(desk) = console.0.backend.approvals() else { return routes::not_found(&console, request.headers()) };
    let (form, session) = match forms::receive_signed_in(&console, request).await {
        Ok(received) => received,
        Err(refusal) => return *refusal,
    };
    let (_, decider) = desk.decider(&session);
    let seconds = || form.fields.get("seconds").and_then(|text| text.parse::<u32>().ok());
    let answer = match (form.fields.get("decision").unwrap_or_default(), seconds()) {
        ("withdraw", _) => {
            return match desk.approvals.withdraw_as(&decider, &id).await {
                Ok(()) => console.go("/approvals", Window::Own),
                Err(error) => console.problem(&problem(&error)),
            };
        }
        ("call", _) => Answer::Call,
        ("tool", Some(seconds)) => Answer::Tool(seconds),
        ("entry", Some(seconds)) => Answer::Entry(seconds),
        ("reject", _) => Answer::Reject,
        _ => return console.problem(&forms::incomplete()),
    };
    let link = form.fields.get("link").filter(|link| !link.is_empty());
    match desk.approvals.decide(&decider, &id, &answer, form.fields.get("reason"), link).await {
        Ok(record) => console.go(&format!("/approvals/{}", record.row.id), Window::Own),
        Err(error) => console.problem(&problem(&error)),
    }
}

/// `portal:ID` or `server:ID`, of what an address or a form says.
fn subject(fields: &Params) -> Option<String> {
    match (fields.get("portal"), fields.get("server")) {
        (Some(id), None) => Some(format!("portal:{id}")),
        (None, Some(id)) => Some(format!("server:{id}")),
        _ => None,
    }
}

/// `GET /request-access?portal=ID` or `?server=ID`
pub(crate) async fn ask_page<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let Some(desk) = console.0.backend.approvals() else { return routes::not_found(&console, request.headers()) };
    let session = match signed_in(&console, request.headers(), request.uri()).await {
        Ok(session) => session,
        Err(elsewhere) => return *elsewhere,
    };
    let wanted = subject(&query(&request));
    let offered = wanted.and_then(|wanted| (desk.entry)(&session, connect::address(&request), &wanted));
    match offered {
        Some((approval, name)) => {
            let page = pages::RequestAccess::new(console.chrome(Some(&session)), &approval, &name);
            console.show(&page, Window::Own)
        }
        None => console.problem(&no_entry()),
    }
}

/// `POST /request-access`
pub(crate) async fn ask<B: Backend>(State(console): State<Console<B>>, request: Request) -> Response {
    let Some(desk) = console.0.backend.approvals() else { return routes::not_found(&console, request.headers()) };
    let ip = connect::address(&request);
    let (form, session) = match forms::receive_signed_in(&console, request).await {
        Ok(received) => received,
        Err(refusal) => return *refusal,
    };
    let reason = form.fields.get("purpose").unwrap_or_default().trim();
    if reason.is_empty() || reason.chars().count() > bartizan_approvals::MAX_REASON {
        return console.problem(&forms::incomplete());
    }
    let offered = subject(&form.fields).and_then(|wanted| (desk.entry)(&session, ip, &wanted));
    let Some((approval, name)) = offered else { return console.problem(&no_entry()) };
    let (principal, _) = desk.decider(&session);
    let question = EntryQuestion { requester: &principal, approval: &approval, reason, name: &name };
    match desk.approvals.ask_entry(question).await {
        Ok(id) => console.go(&format!("/approvals/{id}"), Window::Own),
        Err(error) => console.problem(&unasked(&error)),
    }
}
