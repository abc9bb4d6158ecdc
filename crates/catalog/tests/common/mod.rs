//! Shared by the tests: snapshots from JSON, lists from names.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses a part")]

use std::sync::Arc;

use bartizan_catalog::{CompileOptions, Kind, ServerLists, ServerSpec, Snapshot, View};
use bartizan_config::Diagnostic;
use bartizan_config::resources::Resources;
use bartizan_model::{Era, PortalId, Principal, PrincipalKind, ServerId};
use bartizan_policy::RequestContext;
use bartizan_wire::RawJson;
use serde_json::{Value, json};

pub const SERVE: CompileOptions = CompileOptions { dev: false, hosting: true };

pub fn resources(value: Value) -> Resources {
    serde_json::from_value(value).unwrap()
}

pub fn compile(value: Value) -> Snapshot {
    match Snapshot::compile(&resources(value), &SERVE, 0) {
        Ok(snapshot) => snapshot,
        Err(findings) => panic!("{findings:#?}"),
    }
}

pub fn findings(value: Value) -> Vec<Diagnostic> {
    findings_with(value, SERVE)
}

pub fn findings_with(value: Value, options: CompileOptions) -> Vec<Diagnostic> {
    match Snapshot::compile(&resources(value), &options, 0) {
        Ok(_) => Vec::new(),
        Err(findings) => findings,
    }
}

pub fn everyone() -> Value {
    json!([
        {"action": "allow", "include": [{"everyone": true}]},
        {"action": "service_auth", "include": [{"everyone": true}]},
    ])
}

/// An open HTTP server, with more members.
pub fn server(id: &str, more: Value) -> Value {
    let mut value = json!({"server_id": id, "hostname": "http://localhost/mcp", "policies": everyone()});
    for (key, member) in more.as_object().unwrap() {
        value[key] = member.clone();
    }
    value
}

pub fn raw(text: &str) -> RawJson {
    RawJson::try_from(text).unwrap()
}

pub fn tools(names: &[&str]) -> ServerLists {
    let items = names
        .iter()
        .map(|name| RawJson::from(&json!({"name": name, "description": "d", "inputSchema": {"type": "object"}})));
    ServerLists::parse(Kind::Tools, items)
}

pub fn id(text: &str) -> ServerId {
    ServerId::parse(text).unwrap()
}

pub fn user(name: &str, groups: &[&str]) -> Principal {
    Principal::new(PrincipalKind::User, name, groups.iter().map(|group| Arc::from(*group)))
}

pub fn context(now_ms: i64) -> RequestContext<'static> {
    RequestContext { era: Era::Modern, ip: None, client: None, client_version: None, session: None, now_ms }
}

pub type Lists = Vec<(Arc<ServerSpec>, Arc<ServerLists>)>;

pub fn lists(snapshot: &Snapshot, offers: Vec<(&str, ServerLists)>) -> Lists {
    offers.into_iter().map(|(name, lists)| (Arc::clone(&snapshot.servers[&id(name)]), Arc::new(lists))).collect()
}

pub fn portal_view(snapshot: &Snapshot, portal: &str, who: &Principal, lists: &Lists) -> View {
    View::build(snapshot, Some(&PortalId::parse(portal).unwrap()), who, &context(0), lists)
}

pub fn names(view: &View) -> Vec<&str> {
    view.tools.iter().map(|tool| &*tool.exposed).collect()
}
