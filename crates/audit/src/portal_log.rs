//! The portal log (feature row L4): requests of clients with the column names of the dataset
//! `mcp_portal_logs`, and beside them every member of the record.

use bartizan_model::event::{EventKind, Outcome};
use serde_json::{Map, Value, json};

use crate::search::Row;

/// Name of the portal that is served at `/mcp`.
const DEFAULT_PORTAL: &str = "default";

/// One line of the portal log; `None` for events that are no request of a client. Columns that do
/// not apply are empty. `public_url` is the installation's, for the audiences.
///
/// | column | what |
/// |---|---|
/// | `ColoCode` | the process that answered: its writer name |
/// | `Error` | refusal code, or how the call ended |
/// | `PortalAUD`, `ServerAUD` | the resource that a token must be for |
/// | `SessionID` | of a session; without one of the grant |
pub fn portal_log(row: &Row, public_url: &str) -> Option<Value> {
    let event = &row.event;
    if !matches!(event.kind, EventKind::Call | EventKind::List) {
        return None;
    }
    let Value::Object(mut members) = serde_json::to_value(event).ok()? else { return None };
    if !row.erased {
        members.insert("who".to_owned(), serde_json::to_value(&event.who).ok()?);
    }
    let text = |value: Option<&str>| Value::from(value.unwrap_or_default());
    let public_url = public_url.trim_end_matches('/');
    let portal = event.portal.as_ref().map(|id| id.as_str());
    let server = event.server.as_ref().map(|id| id.as_str());
    let portal_aud = portal.map(|id| match id {
        DEFAULT_PORTAL => format!("{public_url}/mcp"),
        id => format!("{public_url}/portals/{id}/mcp"),
    });
    let server_aud = server.map(|id| format!("{public_url}/servers/{id}/mcp"));
    let user = event.who.principal.split_once(':').map_or("", |(_, name)| name);
    let email = Some(user).filter(|name| name.contains('@')).or(event.who.owner.as_deref());
    let asked = event.target.as_deref().or(event.exposed.as_deref());
    let of = |method: &str| asked.filter(|_| event.method == method);
    let success = event.verdict.allow && event.outcome == Outcome::Ok;
    let error = match (success, event.verdict.code) {
        (true, _) => "",
        (false, Some(code)) => code.as_str(),
        (false, None) => event.outcome.as_str(),
    };
    let columns: Map<String, Value> = [
        ("ClientCountry", text(event.who.country.as_deref())),
        ("ClientIP", text(event.who.ip.as_deref())),
        ("ColoCode", text(Some(&row.writer))),
        ("Datetime", text(Some(&bartizan_model::clock::rfc3339(event.at_ms)))),
        ("Error", text(Some(error))),
        ("Method", text(Some(&event.method))),
        ("PortalAUD", text(portal_aud.as_deref())),
        ("PortalID", text(portal)),
        ("PromptGetName", text(of("prompts/get"))),
        ("ResourceReadURI", text(of("resources/read"))),
        ("ServerAUD", text(server_aud.as_deref())),
        ("ServerID", text(server)),
        ("ServerResponseDurationMs", json!(event.upstream_us / 1_000)),
        ("ServerURL", text(event.server_url.as_deref())),
        ("SessionID", text(event.session.as_deref().or(event.grant.as_deref()))),
        ("Success", success.into()),
        ("ToolCallName", text(of("tools/call"))),
        ("UserEmail", text(email)),
        ("UserID", text(Some(user))),
        // The five columns that people see.
        ("Time", text(Some(&bartizan_model::clock::rfc3339(event.at_ms)))),
        ("Status", text(Some(if success { "success" } else { "error" }))),
        ("Server", text(server)),
        ("Capability", text(asked)),
        ("Duration", json!(event.total_us / 1_000)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    members.extend(columns);
    Some(Value::Object(members))
}
