//! A27: agents in rules, grants and Cedar statements.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use bartizan_model::{Principal, PrincipalKind, ToolClass};
use common::{Ask, cedar, compile, findings, open_with, service, user};
use serde_json::{Value, json};

fn agent(id: &str, groups: &[&str]) -> Principal {
    Principal::new(PrincipalKind::Agent, id, groups.iter().map(|group| (*group).into()))
}

/// Who may read with a server whose rules are these.
fn readers(rules: Value) -> Vec<&'static str> {
    let mut file = open_with(json!([]), json!([]));
    file["servers"][1]["policies"] = rules;
    let policies = compile(file);
    let all = [
        ("agent ci", agent("ci", &["eng"])),
        ("agent deploy", agent("deploy", &[])),
        ("service ci", service("ci")),
        ("user ci", user("ci", &["eng"])),
    ];
    let may = |who: &Principal| Ask::tool(who.clone(), "wiki", "t", ToolClass::Read).decide(&policies).allow;
    all.into_iter().filter(|(_, who)| may(who)).map(|(name, _)| name).collect()
}

#[test]
fn a27_rules_name_agents_and_nobody_else_by_them() {
    let auth = |include: Value| json!([{"action": "service_auth", "include": include}]);
    assert_eq!(readers(auth(json!([{"agents": ["ci"]}]))), ["agent ci"]);
    assert_eq!(readers(auth(json!([{"service_token": ["ci"]}]))), ["service ci"]);
    assert_eq!(readers(auth(json!([{"groups": ["eng"]}]))), ["agent ci"]);
    assert_eq!(readers(auth(json!([{"everyone": true}]))), ["agent ci", "agent deploy", "service ci"]);
    assert_eq!(readers(json!([{"action": "allow", "include": [{"everyone": true}]}])), ["user ci"]);
    let blocked = json!([
        {"action": "block", "include": [{"agents": ["ci"]}]},
        {"action": "service_auth", "include": [{"everyone": true}]},
    ]);
    assert_eq!(readers(blocked), ["agent deploy", "service ci"]);
    assert!(readers(json!([])).is_empty(), "default deny");
}

#[test]
fn a27_a_public_server_is_not_for_agents_without_a_rule() {
    let mut file = open_with(json!([]), json!([]));
    file["servers"][1]["policies"] = json!([]);
    file["servers"][1]["visibility"] = "public".into();
    let policies = compile(file);
    let may = |who: Principal| Ask::tool(who, "wiki", "t", ToolClass::Read).decide(&policies).allow;
    assert!(may(user("ana", &[])) && !may(agent("ci", &[])) && !may(service("ci")));
}

#[test]
fn a27_writes_are_granted_to_agents_by_name() {
    let write = |policies, who: Principal| Ask::tool(who, "wiki", "t", ToolClass::Write).decide(policies).allow;
    let grant = json!([{"id": "g", "principals": ["agent:ci"], "server": "wiki", "tools": ["t"]}]);
    let granted = compile(open_with(json!([]), grant));
    assert!(write(&granted, agent("ci", &[])));
    for other in [agent("deploy", &[]), service("ci"), user("ci", &[]), user("agent:ci", &[])] {
        assert!(!write(&granted, other.clone()), "{other:?}");
    }
    let by_statement = compile(open_with(
        cedar(r#"permit(principal == Agent::"ci", action == Action::"call_tool", resource);"#),
        json!([]),
    ));
    assert!(write(&by_statement, agent("ci", &[])) && !write(&by_statement, service("ci")));
    let forbidden = open_with(cedar(r#"forbid(principal is Agent, action, resource);"#), json!([]));
    let forbidden = compile(forbidden);
    let read = |who| Ask::tool(who, "wiki", "t", ToolClass::Read).decide(&forbidden).allow;
    assert!(!read(agent("ci", &[])) && read(service("ci")) && read(user("ana", &[])));
}

#[test]
fn a27_a_broad_permit_opens_no_door_for_agents() {
    let open = |text: &str| {
        let mut file = open_with(cedar(text), json!([]));
        file["servers"][1]["policies"] = json!([]);
        let policies = compile(file);
        Ask::tool(agent("ci", &["eng"]), "wiki", "t", ToolClass::Read).decide(&policies).allow
    };
    assert!(!open(r#"permit(principal, action == Action::"use_server", resource);"#));
    assert!(!open(r#"permit(principal in Group::"eng", action == Action::"use_server", resource);"#));
    assert!(open(r#"permit(principal is Agent, action == Action::"use_server", resource);"#));
    assert!(open(r#"permit(principal == Agent::"ci", action == Action::"use_server", resource);"#));
}

#[test]
fn a27_agents_are_not_signed_in_users() {
    let mut file = open_with(json!([]), json!([]));
    file["servers"][1]["policies"] = json!([{"action": "allow", "include": [{"agents": ["ci"]}]}]);
    let found = findings(file);
    assert!(found.iter().any(|finding| finding.code == "selector_never_matches"), "{found:?}");
}
