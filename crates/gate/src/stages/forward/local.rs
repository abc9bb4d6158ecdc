//! Tools that the gate answers itself.

use bartizan_accounts::AccountError;
use bartizan_model::{Era, PrincipalKind, ServerId};
use bartizan_wire::RawJson;
use futures_util::future::join_all;
use serde_json::json;

use crate::exchange::Exchange;
use crate::portal_tools::{self, PortalTool, ServerLine};
use crate::toggles::Link;

/// What is said where nothing can be kept for the caller.
const NOT_KEPT: &str = "Switches are kept for callers who signed in; this one did not.";
/// What is said when the store does not answer.
const UNAVAILABLE: &str = "This cannot be switched at the moment. Try again later.";

/// Answers a call of one of the portal's own tools.
pub(crate) async fn run(x: &mut Exchange, tool: PortalTool) -> RawJson {
    match tool {
        PortalTool::List => list_servers(x).await,
        PortalTool::Page => page(x),
        PortalTool::Single => single(x).await,
        PortalTool::NextPage => crate::budget::next_page(x).await.unwrap_or_else(|text| failed(x, text)),
    }
}

fn failed(x: &Exchange, text: &str) -> RawJson {
    portal_tools::failure(text, x.era() == Era::Modern)
}

/// `portal_list_servers`: the servers of the portal that the caller may use.
async fn list_servers(x: &Exchange) -> RawJson {
    let mut lines = x.gate.server_lines(&x.snapshot, &x.caller, x.endpoint.portal(), x.at_ms);
    if lines.is_empty() {
        return nobody(x);
    }
    join_all(lines.iter_mut().filter(|line| line.on).map(|line| account(x, line))).await;
    let structured = json!({ "servers": lines });
    portal_tools::result(&structured.to_string(), &structured, x.era() == Era::Modern)
}

/// What a caller reads who may use no server at all (P40).
const NO_SERVERS: &str = "No allowed servers available, check your Zero Trust Policies";

/// No server is for the caller. The portal's own page says whom to ask.
fn nobody(x: &Exchange) -> RawJson {
    let url = x.endpoint.portal().zip(x.gate.page_base.get()).map(|(portal, base)| match portal.as_str() {
        "default" => format!("{base}/"),
        id => format!("{base}/portals/{id}/"),
    });
    let (structured, text) = match &url {
        Some(url) => (
            json!({ "servers": [], "message": NO_SERVERS, "url": url }),
            format!("{NO_SERVERS}\nRequest access: {url}"),
        ),
        None => (json!({ "servers": [], "message": NO_SERVERS }), NO_SERVERS.to_owned()),
    };
    portal_tools::result(&text, &structured, x.era() == Era::Modern)
}

/// Says where the caller has to connect an account first.
async fn account(x: &Exchange, line: &mut ServerLine) {
    let Some(spec) = x.snapshot.servers.get(&line.id) else { return };
    if let Err(AccountError::LoginNeeded) = x.gate.personal.ready(spec, &x.caller.principal).await {
        line.status = "login_needed";
        line.url = x.gate.personal.login_url(spec);
    }
}

/// `portal_toggle_servers`: the address of the selection page.
fn page(x: &Exchange) -> RawJson {
    if x.caller.principal.kind != PrincipalKind::User {
        return failed(x, "Only a person can choose on a page. Use portal_toggle_single_server.");
    }
    let (Some(holder), Some(portal)) = (&x.caller.selection.holder, x.endpoint.portal()) else {
        return failed(x, NOT_KEPT);
    };
    let link = Link::new(&x.caller.principal, portal, holder);
    match x.gate.selection_url(&link) {
        Some(url) => {
            let text = format!("Open {url} to choose the servers of this portal. It is good for ten minutes.");
            portal_tools::result(&text, &json!({ "url": url }), x.era() == Era::Modern)
        }
        None => failed(x, "There is no page to choose on here. Use portal_toggle_single_server."),
    }
}

/// What a call of `portal_toggle_single_server` says.
struct Wanted {
    server: String,
    on: bool,
}

fn wanted(x: &Exchange) -> Option<Wanted> {
    let arguments = x.params.arguments.as_ref()?;
    let text = |name| arguments.get(name).and_then(|value| value.as_string().map(|text| text.into_owned()));
    let on = match text("action")?.as_str() {
        "toggle" => true,
        "untoggle" => false,
        _ => return None,
    };
    Some(Wanted { server: text("server_id")?, on })
}

/// `portal_toggle_single_server`.
async fn single(x: &mut Exchange) -> RawJson {
    let Some(Wanted { server, on }) = wanted(x) else {
        return failed(x, "`server_id` must name a server, and `action` be `toggle` (on) or `untoggle` (off).");
    };
    let lines = x.gate.server_lines(&x.snapshot, &x.caller, x.endpoint.portal(), x.at_ms);
    let Some(mut line) = lines.iter().find(|line| line.id.as_str() == server).cloned() else {
        // The same for one that does not exist and one that is not for this caller.
        return failed(x, &format!("Unknown server: {server}"));
    };
    let Some(holder) = x.caller.selection.holder.clone() else { return failed(x, NOT_KEPT) };
    let switched = x.gate.states.switch(&holder, |off| changed(off, &lines, &line.id, on)).await;
    match switched {
        Ok(Some(_)) => {}
        Ok(None) => return failed(x, "The session has ended."),
        Err(_) => return failed(x, UNAVAILABLE),
    }
    x.finish.note = Some(format!("{server} switched {}", if on { "on" } else { "off" }));
    // What the administrator switched off stays off.
    let offered = !matches!(line.status, "disabled" | "killed");
    if offered {
        line.on = on;
        line.status = if on { "on" } else { "off" };
    }
    if line.on {
        account(x, &mut line).await;
    }
    let structured = match &line.url {
        Some(url) => json!({ "server_id": server, "on": line.on, "status": line.status, "url": url }),
        None => json!({ "server_id": server, "on": line.on, "status": line.status }),
    };
    let text = match (&line.url, line.on) {
        (Some(url), _) => format!("{server} is on. Connect your account first: {url}"),
        (None, true) => format!("{server} is on."),
        (None, false) if on => format!("{server} is {} by the administrator.", line.status),
        (None, false) => format!("{server} is off. Its tools are not offered any more."),
    };
    portal_tools::result(&text, &structured, x.era() == Era::Modern)
}

/// What is off after a switch; servers that the caller may not use any more are left out, so
/// that the list stays as short as the portal's.
fn changed(off: &[ServerId], lines: &[ServerLine], server: &ServerId, on: bool) -> Vec<ServerId> {
    let known = |id: &&ServerId| lines.iter().any(|line| line.id == **id) && *id != server;
    off.iter().filter(known).chain((!on).then_some(server)).cloned().collect()
}
