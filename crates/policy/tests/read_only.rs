//! P51: for whom only reading is left, whatever else allows more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use bartizan_model::{Principal, ReasonCode, ToolClass};
use bartizan_policy::{Decision, Policies, SessionFacts};
use common::{Ask, compile, findings, service, user};
use serde_json::{Value, json};

/// Everybody may do everything at `s`, twice over.
fn open(portal: Value, server: Value) -> Value {
    let mut resources = json!({
        "servers": [{"server_id": "s", "hostname": "http://localhost/mcp", "visibility": "private", "policies": [
            {"action": "allow", "include": [{"everyone": true}]},
            {"action": "service_auth", "include": [{"everyone": true}]},
        ]}],
        "portals": [{"id": "default", "policies": [
            {"action": "allow", "include": [{"everyone": true}]},
            {"action": "service_auth", "include": [{"everyone": true}]},
        ]}],
        "grants": [{"id": "g", "principals": ["everyone"], "server": "s", "classes": ["write", "destructive", "unknown"]}],
        "policies": [{"id": "p", "cedar": "permit(principal, action == Action::\"call_tool\", resource);"}],
    });
    resources["portals"][0]["read_only"] = portal;
    resources["servers"][0]["read_only"] = server;
    resources
}

fn decide(policies: &Policies, who: Principal, class: ToolClass) -> Decision {
    Ask::tool(who, "s", "t", class).decide(policies)
}

fn refused(policies: &Policies, ask: &Ask) -> bool {
    let decision = ask.decide(policies);
    let listed = ask.with(|query| policies.list_decision(query));
    assert_eq!(decision.allow, listed.allow, "what cannot be called is not listed");
    let explained = ask.with(|query| policies.explain(query)).decision;
    assert_eq!(decision, explained);
    assert!(decision.allow || decision.code == Some(ReasonCode::ReadOnlyMode), "{decision:?}");
    !decision.allow
}

#[test]
fn p51_who_is_held_to_reading_only_reads() {
    let ann = || user("ann@example.com", &["contractors"]);
    let ben = || user("ben@example.com", &["staff"]);
    let rows = [
        (json!([{"everyone": true}]), true, true, true),
        (json!([{"everyone": false}]), false, false, false),
        (json!([{"groups": ["contractors"]}]), true, false, false),
        (json!([{"emails": ["BEN@example.com"]}]), false, true, false),
        (json!([{"service_token": ["ci"]}]), false, false, true),
        (json!([{"groups": ["nobody"]}, {"groups": ["staff"]}]), false, true, false),
        (json!([]), false, false, false),
    ];
    for (list, a, b, c) in rows {
        for policies in [compile(open(list.clone(), json!([]))), compile(open(json!([]), list.clone()))] {
            for (who, held) in [(ann(), a), (ben(), b), (service("ci"), c)] {
                for class in [ToolClass::Write, ToolClass::Destructive, ToolClass::Unknown] {
                    let ask = Ask::tool(who.clone(), "s", "t", class);
                    assert_eq!(refused(&policies, &ask), held, "{list} {} {class:?}", who.key());
                }
                assert!(decide(&policies, who, ToolClass::Read).allow, "{list}");
            }
        }
    }
}

#[test]
fn p51_a_portal_does_not_bind_the_servers_own_endpoint_and_a_server_does() {
    let held = json!([{"everyone": true}]);
    let ask = || Ask::tool(user("ann", &[]), "s", "t", ToolClass::Write);
    let by_portal = compile(open(held.clone(), json!([])));
    assert!(refused(&by_portal, &ask()) && !refused(&by_portal, &ask().direct()));
    let by_server = compile(open(json!([]), held));
    assert!(refused(&by_server, &ask()) && refused(&by_server, &ask().direct()));
    assert!(refused(&by_server, &Ask { action: bartizan_policy::Action::Other, ..ask().direct() }));
}

#[test]
fn p51_clients_are_held_by_their_id_and_an_unknown_one_too() {
    let policies = compile(open(json!([{"client_id": ["cli-1"]}]), json!([])));
    assert!(policies.context_use().session, "lists must be kept apart");
    let session = |client_id| SessionFacts { signed_in: true, client_id, ..SessionFacts::default() };
    for (client, held) in [(Some("cli-1"), true), (Some("cli-2"), false), (None, true)] {
        let ask = Ask { session: Some(session(client)), ..Ask::tool(user("ann", &[]), "s", "t", ToolClass::Write) };
        assert_eq!(refused(&policies, &ask), held, "{client:?}");
    }
}

#[test]
fn p51_a_selector_that_cannot_be_is_told_with_its_place() {
    let found = findings(open(json!([{"ip": ["10.0.0.0/99"]}]), json!([])));
    assert!(found.iter().any(|finding| finding.path == "portals[0].read_only[0]"), "{found:?}");
}

#[test]
fn p51_the_rule_is_part_of_the_version() {
    let (without, with) = (open(json!([]), json!([])), open(json!([{"everyone": true}]), json!([])));
    assert_ne!(compile(without).version(), compile(with).version());
}
