//! A23, P40: what scopes and policies leave of a portal.

use serde_json::{Value, json};

use super::bench::{Bench, From, end, legacy, modern};
use super::mock::Speaks;
use crate::{CallReply, ListCall, Scopes, Stage};

const BOTH: &[(&str, Speaks)] = &[("old", Speaks::Legacy), ("new", Speaks::Modern)];
const GRANTED: &str = r#"[{"id": "g", "principals": ["everyone"], "server": "old", "classes": ["write"]}]"#;

async fn with(bench: &Bench, from: &From, scopes: Scopes, tool: &str) -> CallReply {
    let mut call = from.request("tools/call", json!({"name": tool, "arguments": {}}));
    call.caller.scopes = scopes;
    end(bench.gate.call(call)).await
}

fn granted(text: &str) -> Scopes {
    Scopes::granted(text.split_whitespace())
}

fn challenged(reply: &CallReply) -> Option<&str> {
    match reply {
        CallReply::Scope { scope, .. } => Some(scope),
        _ => None,
    }
}

#[tokio::test]
async fn a23_a_missing_scope_is_named_and_nothing_is_sent() {
    let bench = Bench::with(BOTH, |r| r["grants"] = serde_json::from_str(GRANTED).unwrap()).await;
    for from in [modern("alice"), legacy("alice")] {
        for (scopes, tool, expected) in [
            ("mcp:read", "old_write", Some("mcp:read mcp:write")),
            ("mcp:write", "old_echo", Some("mcp:read mcp:write")),
            ("mcp:read server:new", "old_echo", Some("mcp:read server:new server:old")),
            ("mcp:admin", "old_write", Some("mcp:admin mcp:write")),
            ("mcp:read server:new", "new_echo", None),
            ("mcp:read mcp:write", "old_write", None),
        ] {
            let reply = with(&bench, &from, granted(scopes), tool).await;
            assert_eq!(challenged(&reply), expected, "{scopes}: {tool}");
            assert_eq!(matches!(reply, CallReply::Result(_)), expected.is_none(), "{scopes}: {tool} {reply:?}");
        }
    }
    assert_eq!((bench.mock("old").state.executed("echo"), bench.mock("old").state.executed("write")), (0, 2));
    let events = bench.events_of("call").await;
    assert_eq!(events[0]["verdict"]["code"], "insufficient_scope");
}

#[tokio::test]
async fn a23_a_scope_tells_nothing_about_what_is_hidden() {
    let bench = Bench::new(BOTH).await;
    let alice = modern("alice");
    // Nothing grants `write`: whatever the scopes, it is as unknown as what does not exist.
    for scopes in ["", "mcp:read", "mcp:write", "mcp:read server:new", "mcp:admin"] {
        for tool in ["old_write", "old_nothing", "nowhere_x"] {
            let reply = with(&bench, &alice, granted(scopes), tool).await;
            assert!(reply.is_not_found(), "{scopes} {tool}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a23_a_request_that_narrows_itself_is_refused_and_not_challenged() {
    let bench = Bench::with(BOTH, |r| r["grants"] = serde_json::from_str(GRANTED).unwrap()).await;
    let alice = modern("alice");
    let narrow = |has: &str, wants: &str| granted(has).narrowed(wants.split(' '));
    let reply = with(&bench, &alice, narrow("mcp:read mcp:write", "mcp:read"), "old_write").await;
    assert_eq!(reply.refusal().code.as_str(), "read_only_mode");
    let reply = with(&bench, &alice, narrow("mcp:read", "mcp:read server:new"), "old_echo").await;
    assert_eq!(reply.refusal().code.as_str(), "read_only_mode");
    // Asking for more than the credential has gives no more.
    for wants in ["mcp:read mcp:write", "mcp:write", "*", "mcp:admin mcp:write server:old"] {
        let reply = with(&bench, &alice, narrow("mcp:read", wants), "old_write").await;
        assert!(challenged(&reply).is_some(), "{wants}");
    }
    let server = narrow("mcp:read mcp:write server:new", "mcp:write server:old");
    assert!(challenged(&with(&bench, &alice, server, "old_write").await).is_some());
    assert_eq!(bench.mock("old").state.executed("write"), 0);
    // Without the stage it would go through.
    bench.gate.sabotage().skip(Stage::Authorize);
    with(&bench, &alice, granted("mcp:read"), "old_write").await.json();
    assert_eq!(bench.mock("old").state.executed("write"), 1);
}

fn only(group: &str) -> Value {
    json!([{"action": "allow", "include": [{"groups": [group]}]}])
}

#[tokio::test]
async fn p40_users_see_the_servers_that_portal_and_server_allow() {
    let bench = Bench::with(BOTH, |r| {
        r["portals"][0]["policies"] = only("staff");
        r["servers"][0]["policies"] = only("eng");
        r["servers"][1]["policies"] = only("fin");
    })
    .await;
    let _ = bench.gate.clone().with_selection_page("https://gate.example/");
    for (groups, expected) in [
        (vec!["staff", "eng", "fin"], Some(vec!["old", "new"])),
        (vec!["staff", "eng"], Some(vec!["old"])),
        (vec!["staff", "fin"], Some(vec!["new"])),
        (vec!["staff"], Some(vec![])),
        (vec!["eng", "fin"], None),
        (vec![], None),
    ] {
        for base in [modern("alice").able(json!({})), legacy("alice").able(json!({}))] {
            let from = From { groups: groups.clone(), ..base };
            let reply = bench.tool(&from, "portal_list_servers", json!({})).await;
            let Some(expected) = &expected else {
                assert!(reply.is_not_found(), "{groups:?}");
                continue;
            };
            let listed = reply.json();
            let servers = listed["structuredContent"]["servers"].as_array().unwrap();
            let ids: Vec<&str> = servers.iter().map(|server| server["id"].as_str().unwrap()).collect();
            assert_eq!(ids, *expected, "{groups:?}");
            let tools = bench.tool_names(&from).await;
            for id in ["old", "new"] {
                assert_eq!(tools.iter().any(|tool| tool.starts_with(&format!("{id}_"))), expected.contains(&id));
                // The endpoint of the server itself asks its own policy only.
                let direct = bench.tool(&from.clone().at(id), "echo", json!({})).await;
                let own = groups.contains(&if id == "old" { "eng" } else { "fin" });
                assert_eq!(!direct.is_not_found(), own, "{groups:?} at {id}");
            }
            if expected.is_empty() {
                assert_eq!(
                    listed["structuredContent"]["message"],
                    "No allowed servers available, check your Zero Trust Policies"
                );
                assert_eq!(
                    listed["content"][0]["text"],
                    "No allowed servers available, check your Zero Trust Policies\nRequest access: https://gate.example/"
                );
                assert_eq!(listed["structuredContent"]["url"], "https://gate.example/");
            }
        }
    }
}

async fn names(bench: &Bench, from: &From, scopes: Scopes) -> Vec<String> {
    let mut call = from.request("tools/list", json!({}));
    call.caller.scopes = scopes;
    let call = ListCall::new(call.endpoint, call.caller, call.message, call.params, call.request_bytes);
    let list: Value = serde_json::from_str(bench.gate.list(call).await.unwrap().as_str()).unwrap();
    list["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn p51_who_wants_to_read_only_sees_only_what_reads() {
    let bench = Bench::with(BOTH, |r| r["grants"] = serde_json::from_str(GRANTED).unwrap()).await;
    for from in [modern("alice"), legacy("alice")] {
        let whole = names(&bench, &from, Scopes::ALL).await;
        assert!(whole.contains(&"old_write".to_owned()), "{whole:?}");
        let reading = names(&bench, &from, Scopes::ALL.narrowed(["mcp:read"])).await;
        let expected: Vec<_> = whole.iter().filter(|name| *name != "old_write").cloned().collect();
        assert_eq!(reading, expected);
        // The other list is still what it was.
        assert_eq!(names(&bench, &from, Scopes::ALL).await, whole);
        let reply = with(&bench, &from, Scopes::ALL.narrowed(["mcp:read"]), "old_write").await;
        assert_eq!(reply.refusal().code.as_str(), "read_only_mode");
    }
    assert_eq!(bench.mock("old").state.executed("write"), 0);
}

#[tokio::test]
async fn p51_whom_a_portal_holds_to_reading_finds_no_tool_that_writes() {
    let bench = Bench::with(BOTH, |r| {
        r["grants"] = serde_json::from_str(GRANTED).unwrap();
        r["portals"][0]["read_only"] = json!([{"emails": ["bob"]}]);
    })
    .await;
    assert!(names(&bench, &modern("alice"), Scopes::ALL).await.contains(&"old_write".to_owned()));
    assert!(matches!(with(&bench, &modern("alice"), Scopes::ALL, "old_write").await, CallReply::Result(_)));
    for from in [modern("bob"), legacy("bob")] {
        assert!(!names(&bench, &from, Scopes::ALL).await.contains(&"old_write".to_owned()));
        let reply = with(&bench, &from, Scopes::ALL, "old_write").await;
        assert!(reply.is_not_found(), "{reply:?}");
    }
    let events = bench.events_of("call").await;
    assert_eq!(events.last().unwrap()["verdict"]["code"], "read_only_mode");
    assert_eq!(bench.mock("old").state.executed("write"), 1);
}
