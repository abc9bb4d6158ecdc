//! Lists: complete, ordered, cached, and never held up or emptied by one bad server.

use std::sync::atomic::Ordering;

use bartizan_model::{PrincipalKind, ReasonCode};
use serde_json::{Value, json};

use super::bench::{Bench, From, legacy, modern, names};
use super::mock::{Speaks, TOOLS};
use crate::{CallReply, Unknown};

const BOTH: &[(&str, Speaks)] = &[("old", Speaks::Legacy), ("new", Speaks::Modern)];

pub(crate) fn many(resources: &mut Value, count: usize) {
    let all: Vec<String> = (0..count).map(|n| format!("tool_{n:05}")).collect();
    resources["servers"][0]["classes"]["read"] = json!(all);
}

pub(crate) fn add_many(bench: &Bench, count: usize, size: usize) {
    let mut tools = bench.mock("old").state.tools.lock().unwrap();
    for n in 0..count {
        let text = "x".repeat(size);
        tools.push(json!({"name": format!("tool_{n:05}"), "description": text, "inputSchema": {"type": "object"}}));
    }
}

#[tokio::test]
async fn p31_a_portals_list_is_merged_in_the_order_of_its_servers() {
    let bench = Bench::new(BOTH).await;
    for from in [legacy("alice"), modern("alice")] {
        let list = bench.list(&from, "tools/list").await.unwrap();
        let found = names(&list, "tools");
        let readable = TOOLS.iter().filter(|name| !["write", "remove", "odd"].contains(name));
        let own = ["portal_list_servers", "portal_toggle_servers", "portal_toggle_single_server"];
        let mut expected = own.map(str::to_owned).to_vec();
        for server in ["old", "new"] {
            expected.extend(readable.clone().map(|name| format!("{server}_{name}")));
        }
        assert_eq!(found, expected);
        let outcomes = &list["_meta"]["bartizan/server_outcomes"];
        assert_eq!(*outcomes, json!({"old": {"status": "ok"}, "new": {"status": "ok"}}));
        let is_modern = !list["resultType"].is_null();
        assert_eq!(is_modern, from.revision == bartizan_wire::Revision::V2026_07_28);
        assert_eq!(list["cacheScope"].as_str(), is_modern.then_some("private"));
        assert_eq!(list["ttlMs"].as_i64(), is_modern.then_some(0));
    }
    for (method, member, first) in
        [("prompts/list", "prompts", "old_greet"), ("resources/list", "resources", "bartizan+uri://old/note://1")]
    {
        let list = bench.list(&modern("alice"), method).await.unwrap();
        assert_eq!(names(&list, member)[0], first);
    }
    let resources = bench.list(&legacy("alice"), "resources/list").await.unwrap();
    assert_eq!(names(&resources, "resources")[1], "ui://old/board/main");
    let templates = bench.list(&legacy("alice"), "resources/templates/list").await.unwrap();
    assert_eq!(templates["resourceTemplates"][0]["uriTemplate"], "bartizan+uri://old/note://{id}");
}

#[tokio::test]
async fn p30_a_server_endpoints_items_are_untouched() {
    let bench = Bench::with(BOTH, |r| {
        for n in 0..2 {
            r["servers"][n]["classes"]["read"] = json!(["odd one"]);
        }
    })
    .await;
    let item = json!({"name": "odd one", "x-unknown": [1.50, {"b": 1, "a": 2}], "inputSchema": {"type": "object"}, "_meta": {"k": "v"}});
    for server in ["old", "new"] {
        bench.mock(server).state.tools.lock().unwrap().push(item.clone());
    }
    for (from, server) in
        [(legacy("alice"), "old"), (modern("alice"), "new"), (legacy("alice"), "new"), (modern("alice"), "old")]
    {
        let list = bench.list(&from.at(server), "tools/list").await.unwrap();
        assert_eq!(
            list["tools"].as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>(),
            [item.to_string()]
        );
        assert!(list["_meta"]["bartizan/server_outcomes"].is_null());
    }
}

#[tokio::test]
async fn p12_without_prefix_names_are_the_servers_own() {
    let bench = Bench::with(&[("one", Speaks::Legacy), ("two", Speaks::Modern)], |r| {
        r["portals"][0]["prefix"] = "never".into();
        r["servers"][0]["classes"]["read"] = json!(["echo"]);
        r["servers"][1]["classes"]["read"] = json!(["fail", "ask"]);
        r["servers"][1]["updated_tools"] = json!([{"name": "ask", "alias": "question"}]);
    })
    .await;
    for (server, kept) in [("one", &["echo"][..]), ("two", &["fail", "ask"][..])] {
        let others = TOOLS.iter().filter(|name| !kept.contains(name)).map(|name| (*name).to_owned());
        bench.mock(server).state.hidden.lock().unwrap().extend(others);
    }
    let found = bench.tool_names(&modern("alice")).await;
    for name in ["echo", "fail", "question"] {
        assert!(found.contains(&name.to_owned()), "{found:?}");
    }
    assert_eq!(bench.tool(&modern("alice"), "echo", json!({"a": 1})).await.text(), r#"{"a":1}"#);
    assert_eq!(bench.tool(&modern("alice"), "fail", json!({})).await.json()["isError"], true);
    bench.tool(&modern("alice"), "question", json!({})).await.json();
    assert_eq!(bench.mock("two").state.executed("ask"), 1);
    assert!(bench.tool(&modern("alice"), "ask", json!({})).await.is_not_found());
}

#[tokio::test]
async fn p13_long_names_are_reachable() {
    let long = "a_very_long_tool_name_that_goes_on_and_on_for_more_than_sixty_four_characters_in_all";
    let bench = Bench::with(&[("old", Speaks::Legacy)], |r| {
        r["servers"][0]["classes"]["read"] = json!([long]);
        let mut short = r["portals"][0].clone();
        short["id"] = "short".into();
        short["max_tool_name"] = 32.into();
        r["portals"].as_array_mut().unwrap().push(short);
    })
    .await;
    bench.mock("old").state.tools.lock().unwrap().push(json!({"name": long, "inputSchema": {"type": "object"}}));
    for (portal, length) in [("default", 64), ("short", 32)] {
        let from = From {
            endpoint: crate::Endpoint::Portal(bartizan_model::PortalId::parse(portal).unwrap()),
            ..modern("alice")
        };
        let found = bench.tool_names(&from).await;
        let name = found.iter().find(|name| name.starts_with("old_a_very")).unwrap();
        assert_eq!(name.len(), length);
        assert_eq!(bench.tool(&from, name, json!({})).await.text(), long);
    }
}

#[tokio::test]
async fn p31_long_lists_have_pages_and_every_item_once() {
    let bench = Bench::with(&[("old", Speaks::Legacy)], |r| many(r, 2_500)).await;
    // Five times 2,500 KiB and a bit: pages by size.
    add_many(&bench, 2_500, 5_000);
    let alice = modern("alice");
    let mut found = Vec::new();
    let (mut cursor, mut pages) = (None::<String>, 0);
    loop {
        let page = bench.list_page(&alice, "tools/list", cursor.as_deref()).await.unwrap();
        found.extend(names(&page, "tools"));
        pages += 1;
        cursor = page["nextCursor"].as_str().map(str::to_owned);
        if let Some(cursor) = &cursor {
            for (what, from) in [("another principal", modern("bob")), ("another endpoint", modern("alice").at("old"))]
            {
                match bench.list_page(&from, "tools/list", Some(cursor)).await {
                    Err(reply) => assert_eq!(reply.error_code(), -32602, "{what}"),
                    Ok(_) => panic!("{what}"),
                }
            }
            assert!(bench.list_page(&alice, "prompts/list", Some(cursor)).await.is_err(), "another list");
        } else {
            break;
        }
    }
    assert!(pages > 1);
    let unique: std::collections::HashSet<_> = found.iter().collect();
    assert_eq!((found.len(), unique.len()), (2_503, 2_503));
    let mut sorted = found.clone();
    sorted.sort();
    assert_eq!(found[3..], sorted.iter().filter(|n| n.starts_with("old")).cloned().collect::<Vec<_>>()[..]);
    assert_eq!(bench.mock("old").state.count("tools/list"), 1);
    for bad in ["", "x", "bm90IG91cnM"] {
        assert_eq!(bench.list_page(&alice, "tools/list", Some(bad)).await.unwrap_err().error_code(), -32602);
    }
}

#[tokio::test]
async fn p31_five_thousand_tools_come_in_one_page_from_the_cache() {
    let bench = Bench::with(&[("old", Speaks::Legacy)], |r| many(r, 5_000)).await;
    add_many(&bench, 5_000, 100);
    for _ in 0..3 {
        assert_eq!(bench.tool_names(&modern("alice")).await.len(), 5_003);
    }
    assert_eq!(bench.mock("old").state.count("tools/list"), 1);
    assert_eq!(bench.tool(&modern("alice"), "old_tool_04999", json!({})).await.text(), "tool_04999");
}

#[tokio::test]
async fn lists_that_nobody_has_are_unknown_methods() {
    let bench = Bench::new(BOTH).await;
    for method in ["tasks/list", "nothing/list"] {
        match bench.list(&modern("alice"), method).await {
            Err(CallReply::NotFound { what: Unknown::Method(name), .. }) => assert_eq!(name, method),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a21_lists_of_endpoints_one_may_not_use_are_not_found() {
    let bench = Bench::with(BOTH, |r| {
        r["servers"][1]["policies"] = json!([]);
        r["servers"][0]["status"] = "killed".into();
    })
    .await;
    let nobody = From { kind: PrincipalKind::Anonymous, ..modern("anonymous") };
    for from in [modern("alice").at("new"), modern("alice").at("old"), modern("alice").at("none"), nobody] {
        match bench.list(&from, "tools/list").await {
            Err(CallReply::NotFound { what, .. }) => assert_eq!(what, Unknown::Endpoint),
            other => panic!("{other:?}"),
        }
    }
    let events = bench.events_of("list").await;
    assert_eq!(
        events.iter().map(|e| e["verdict"]["code"].as_str()).collect::<Vec<_>>(),
        [Some("policy_denied"), Some("killed"), Some("policy_denied"), Some("policy_denied")]
    );
    assert_eq!(
        bench.tool_names(&modern("alice")).await,
        ["portal_list_servers", "portal_toggle_servers", "portal_toggle_single_server"]
    );
}

#[tokio::test]
async fn o11_lists_are_counted_too() {
    let bench = Bench::with(BOTH, |r| r["rate_limits"] = json!([{"id": "l", "per": ["user"], "per_minute": 2}])).await;
    bench.list(&modern("alice"), "tools/list").await.unwrap();
    bench.tool(&modern("alice"), "old_echo", json!({})).await.json();
    match bench.list(&modern("alice"), "tools/list").await {
        Err(CallReply::Refused(refusal)) => {
            assert_eq!((refusal.code, refusal.retry_after_s), (ReasonCode::RateLimited, Some(30)))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn l1_a_list_is_recorded_also_when_its_client_has_left() {
    let bench = Bench::new(BOTH).await;
    bench.mock("old").state.hold_lists.store(true, Ordering::SeqCst);
    let call = modern("alice").request("tools/list", json!({}));
    let call = crate::ListCall::new(call.endpoint, call.caller, call.message, call.params, call.request_bytes);
    {
        let list = bench.gate.list(call);
        tokio::select! {
            _ = list => panic!("the list is held"),
            () = bench.mock("old").state.list_reached.notified() => {}
        }
    }
    bench.mock("old").state.hold_lists.store(false, Ordering::SeqCst);
    bench.mock("old").state.release.notify_one();
    bench.idle().await;
    let events = bench.events_of("list").await;
    assert_eq!((events.len(), &events[0]["method"], &events[0]["outcome"]), (1, &json!("tools/list"), &json!("ok")));
    assert_eq!((&events[0]["portal"], &events[0]["era"]), (&json!("default"), &json!("modern")));
    assert!(events[0]["response_bytes"].as_u64().unwrap() > 100);
}

#[tokio::test]
async fn a21_listed_means_callable() {
    let bench = Bench::with(BOTH, |r| {
        r["grants"] = json!([
            {"id": "a", "principals": ["group:dev"], "server": "old", "classes": ["write"]},
            {"id": "b", "principals": ["user:carol"], "server": "new", "classes": ["write", "destructive", "unknown"]}
        ]);
        r["servers"][1]["policies"] = json!([{"action": "allow", "include": [{"emails": ["alice", "carol"]}]}]);
        r["policies"] = json!([{"id": "no", "cedar":
            "forbid(principal == User::\"alice\", action == Action::\"call_tool\", resource == Tool::\"old/echo\");"}]);
    })
    .await;
    let quick: Vec<_> =
        TOOLS.iter().filter(|t| ["echo", "write", "remove", "odd", "fail", "resource"].contains(t)).collect();
    for user in ["alice", "bob", "carol"] {
        for groups in [vec![], vec!["dev"]] {
            let from = From { groups, ..modern(user) };
            let listed = bench.tool_names(&from).await;
            for server in ["old", "new"] {
                for tool in &quick {
                    let name = format!("{server}_{tool}");
                    let reply = bench.tool(&from, &name, json!({})).await;
                    let callable = matches!(reply, CallReply::Result(_));
                    assert_eq!(listed.contains(&name), callable, "{user} {name}: {reply:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn discovery_of_portals_and_servers() {
    let bench = Bench::new(BOTH).await;
    for from in [legacy("alice"), modern("alice")] {
        let is_modern = from.revision == bartizan_wire::Revision::V2026_07_28;
        let caller = from.caller();
        let portal = super::bench::value(&bench.gate.discover(&from.endpoint, &caller).await.unwrap().result);
        assert_eq!(portal["capabilities"]["tools"], json!({"listChanged": true}));
        assert_eq!(portal["capabilities"]["resources"], json!({"subscribe": true, "listChanged": true}));
        assert!(portal["instructions"].as_str().unwrap().contains("## old (old)\nbe kind"));
        for server in ["old", "new"] {
            let own = super::bench::value(
                &bench.gate.discover(&from.clone().at(server).endpoint, &caller).await.unwrap().result,
            );
            assert_eq!(own["instructions"], "be kind");
            for found in [&portal, &own] {
                if is_modern {
                    assert_eq!(found["supportedVersions"], json!(["2026-07-28"]));
                    assert_eq!((&found["resultType"], &found["cacheScope"]), (&json!("complete"), &json!("private")));
                    assert!(
                        found["ttlMs"].is_u64() && found["_meta"]["io.modelcontextprotocol/serverInfo"].is_object()
                    );
                } else {
                    assert_eq!(found["protocolVersion"], "2025-11-25");
                    assert!(found["serverInfo"]["name"].is_string() && found["resultType"].is_null());
                }
            }
        }
        let denied = bench.gate.discover(&from.at("none").endpoint, &caller).await;
        assert!(denied.is_err_and(|reply| reply.is_not_found()));
    }
}

#[tokio::test]
async fn modern_lists_name_their_server() {
    let bench = Bench::new(BOTH).await;
    let info = |list: Value| list["_meta"]["io.modelcontextprotocol/serverInfo"]["name"].clone();
    for (from, name) in [
        (modern("alice"), json!("bartizan")),
        (modern("alice").at("old"), json!("mock")),
        (modern("alice").at("new"), json!("mock")),
        (legacy("alice"), Value::Null),
        (legacy("alice").at("old"), Value::Null),
        (legacy("alice").at("new"), Value::Null),
    ] {
        assert_eq!(info(bench.list(&from, "tools/list").await.unwrap()), name, "{:?}", from.endpoint);
    }
}
