//! Routing, refusals and answers.

use bartizan_model::{PrincipalKind, ReasonCode};
use serde_json::json;

use super::bench::{Bench, From, legacy, modern};
use super::mock::Speaks;
use crate::{CallReply, Stage, Unknown};

const BOTH: &[(&str, Speaks)] = &[("old", Speaks::Legacy), ("new", Speaks::Modern)];

fn everyone_may_write(resources: &mut serde_json::Value) {
    resources["grants"] = json!([
        {"id": "g", "principals": ["everyone"], "server": "old", "tools": ["write"]},
        {"id": "h", "principals": ["everyone"], "server": "new", "tools": ["write"]}
    ]);
}

#[tokio::test]
async fn p12_calls_reach_the_server_their_name_says_in_all_pairings() {
    let bench = Bench::new(BOTH).await;
    for from in [legacy("alice"), modern("alice")] {
        for server in ["old", "new"] {
            let reply = bench.tool(&from, &format!("{server}_echo"), json!({"n": 1})).await;
            assert_eq!(reply.text(), r#"{"n":1}"#);
            assert_eq!(reply.json()["resultType"].is_null(), from.revision != bartizan_wire::Revision::V2026_07_28);
        }
    }
    assert_eq!(bench.mock("old").state.executed("echo"), 2);
    assert_eq!(bench.mock("new").state.executed("echo"), 2);
    let sent = bench.mock("new").state.last("tools/call").unwrap();
    assert_eq!(sent["params"]["name"], "echo", "the server hears its own name");
}

#[tokio::test]
async fn p6_a_server_endpoint_uses_original_names() {
    let bench = Bench::new(BOTH).await;
    for from in [legacy("alice"), modern("alice")] {
        assert_eq!(bench.tool(&from.clone().at("old"), "echo", json!({})).await.text(), "{}");
        assert!(bench.tool(&from.clone().at("old"), "old_echo", json!({})).await.is_not_found());
        assert!(bench.tool(&from.clone().at("nobody"), "echo", json!({})).await.is_not_found());
        assert!(bench.tool(&from.at("old"), "portal_list_servers", json!({})).await.is_not_found());
    }
}

#[tokio::test]
async fn p12_ids_with_underscores_are_told_apart_by_table() {
    let bench = Bench::new(&[("a", Speaks::Legacy), ("a_b", Speaks::Legacy)]).await;
    for (server, name) in [("a", "b_c"), ("a_b", "c")] {
        bench.mock(server).state.tools.lock().unwrap().push(json!({"name": name, "inputSchema": {"type": "object"}}));
    }
    let alice = legacy("alice");
    let all = bench.list(&alice, "tools/list").await.unwrap();
    let tools = all["tools"].as_array().unwrap();
    let mut found = 0;
    for tool in tools {
        let origin = &tool["_meta"]["bartizan/origin"];
        if !matches!(origin["name"].as_str(), Some("b_c" | "c")) {
            continue;
        }
        found += 1;
        let mut from = alice.clone();
        from.user = "alice";
        let class = bench.tool(&from, tool["name"].as_str().unwrap(), json!({})).await;
        assert!(class.is_not_found(), "unreviewed tools stay hidden");
    }
    assert_eq!(found, 0, "unreviewed tools are not listed");
}

#[tokio::test]
async fn p12_equal_names_are_both_reachable() {
    let bench = Bench::with(&[("a", Speaks::Legacy), ("a_b", Speaks::Legacy)], |r| {
        r["servers"][0]["classes"]["read"] = json!(["b_c"]);
        r["servers"][1]["classes"]["read"] = json!(["c"]);
    })
    .await;
    for (server, name) in [("a", "b_c"), ("a_b", "c")] {
        bench.mock(server).state.tools.lock().unwrap().push(json!({"name": name, "inputSchema": {"type": "object"}}));
    }
    let names = bench.tool_names(&legacy("alice")).await;
    let names: Vec<_> = names.into_iter().filter(|name| name.starts_with("a_b_c")).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    for name in &names {
        bench.tool(&legacy("alice"), name, json!({})).await.json();
    }
    assert_eq!((bench.mock("a").state.executed("b_c"), bench.mock("a_b").state.executed("c")), (1, 1));
}

#[tokio::test]
async fn g3_a_write_is_unknown_until_granted() {
    let mut bench = Bench::new(BOTH).await;
    for name in ["old_write", "old_remove", "old_odd", "new_write", "old_nothing"] {
        match bench.tool(&modern("alice"), name, json!({})).await {
            CallReply::NotFound { what, .. } => assert_eq!(what, Unknown::Tool(name.to_owned())),
            other => panic!("{other:?}"),
        }
    }
    let events = bench.events_of("call").await;
    let codes: Vec<_> = events.iter().map(|e| e["verdict"]["code"].as_str()).collect();
    let write = Some("write_not_granted");
    assert_eq!(codes, [write, write, write, write, None], "the record has the cause");
    assert_eq!(bench.mock("old").state.count("tools/call"), 0);
    bench.reload(everyone_may_write);
    assert_eq!(bench.tool(&modern("alice"), "old_write", json!({"x": 1})).await.text(), r#"{"x":1}"#);
    assert!(bench.tool(&modern("alice"), "old_remove", json!({})).await.is_not_found());
}

#[tokio::test]
async fn g3_an_expired_grant_denies_again_and_the_list_follows() {
    let bench = Bench::with(BOTH, |r| {
        everyone_may_write(r);
        // One minute after NOW_MS.
        r["grants"][0]["expires"] = "2026-09-21T14:14:20Z".into();
    })
    .await;
    assert!(bench.tool_names(&modern("alice")).await.contains(&"old_write".to_owned()));
    bench.tool(&modern("alice"), "old_write", json!({})).await.json();
    bench.clock.advance_ms(60_000);
    assert!(bench.tool(&modern("alice"), "old_write", json!({})).await.is_not_found());
    assert!(!bench.tool_names(&modern("alice")).await.contains(&"old_write".to_owned()));
}

#[tokio::test]
async fn g3_grants_that_end_one_after_the_other_change_list_and_calls_together() {
    for swapped in [false, true] {
        let bench = Bench::with(&[("old", Speaks::Legacy)], |r| {
            let both = json!({"id": "a", "principals": ["everyone"], "server": "old", "tools": ["write", "remove"],
                              "expires": "2026-09-21T14:13:30Z"});
            let one = json!({"id": "b", "principals": ["user:alice"], "server": "old", "tools": ["write"],
                             "expires": "2026-09-21T14:13:40Z"});
            r["grants"] = if swapped { json!([one, both]) } else { json!([both, one]) };
        })
        .await;
        // Ten and twenty seconds after NOW_MS; no list is fetched anew meanwhile.
        let mut now_ms = 0;
        for (at_ms, write, remove) in [
            (0, true, true),
            (9_999, true, true),
            (10_001, true, false),
            (19_999, true, false),
            (20_001, false, false),
            (40_000, false, false),
        ] {
            bench.clock.advance_ms(at_ms - now_ms);
            now_ms = at_ms;
            // Listed first, then called, and the other way round.
            for order in [[true, false], [false, true]] {
                for list in order {
                    if list {
                        let names = bench.tool_names(&modern("alice")).await;
                        let listed = |name: &str| names.contains(&name.to_owned());
                        assert_eq!((listed("old_write"), listed("old_remove")), (write, remove), "at {at_ms}");
                        continue;
                    }
                    for (name, good) in [("old_write", write), ("old_remove", remove)] {
                        let reply = bench.tool(&modern("alice"), name, json!({})).await;
                        assert_eq!(reply.is_not_found(), !good, "{name} at {at_ms}: {reply:?}");
                    }
                }
            }
        }
        assert_eq!(bench.mock("old").state.count("tools/list"), 1);
    }
}

#[tokio::test]
async fn g3_show_ungranted_lists_and_refuses() {
    let bench = Bench::with(BOTH, |r| r["portals"][0]["show_ungranted"] = true.into()).await;
    assert!(bench.tool_names(&modern("alice")).await.contains(&"old_write".to_owned()));
    let reply = bench.tool(&modern("alice"), "old_write", json!({})).await;
    let refusal = reply.refusal();
    assert_eq!((refusal.code, refusal.visible), (ReasonCode::WriteNotGranted, true));
    assert_eq!(bench.mock("old").state.count("tools/call"), 0);
}

#[tokio::test]
async fn a20_argument_rules_refuse_only_those_calls() {
    let bench = Bench::with(BOTH, |r| {
        r["policies"] = json!([{"id": "no-big", "cedar":
            "forbid(principal, action == Action::\"call_tool\", resource == Tool::\"old/echo\") when { context.args has amount && context.args.amount > 1000 };"}]);
    })
    .await;
    let alice = modern("alice");
    assert!(bench.tool_names(&alice).await.contains(&"old_echo".to_owned()), "a rule on arguments does not hide");
    bench.tool(&alice, "old_echo", json!({"amount": 1000})).await.json();
    let reply = bench.tool(&alice, "old_echo", json!({"amount": 1001})).await;
    assert_eq!(reply.refusal().code, ReasonCode::PolicyDenied);
    assert!(reply.refusal().rule.as_deref().unwrap().contains("no-big"));
    bench.tool(&alice, "old_echo", json!({"amount": 1})).await.json();
    assert_eq!(
        bench.tool(&alice, "old_echo", json!({"amount": "many"})).await.refusal().code,
        ReasonCode::ArgumentRefused
    );
    assert_eq!(bench.mock("old").state.executed("echo"), 2);
}

#[tokio::test]
async fn p41_what_is_off_is_neither_listed_nor_callable() {
    let bench = Bench::with(BOTH, |r| {
        r["servers"][0]["updated_tools"] = json!([{"name": "echo", "enabled": false}]);
        r["servers"][0]["updated_prompts"] = json!([{"name": "greet", "enabled": false}]);
        r["servers"][0]["updated_resources"] = json!([{"name": "note://1", "enabled": false}]);
        r["servers"][1]["default_disabled"] = true.into();
        r["servers"][1]["updated_tools"] = json!([{"name": "echo", "enabled": true}]);
    })
    .await;
    let alice = modern("alice");
    let names = bench.tool_names(&alice).await;
    assert!(!names.contains(&"old_echo".to_owned()) && names.contains(&"new_echo".to_owned()), "{names:?}");
    assert!(!names.contains(&"new_fail".to_owned()));
    for name in ["old_echo", "new_fail"] {
        assert!(bench.tool(&alice, name, json!({})).await.is_not_found());
    }
    assert!(bench.call(&alice, "prompts/get", json!({"name": "old_greet"})).await.is_not_found());
    let uri = "bartizan+uri://old/note://1";
    assert!(bench.call(&alice, "resources/read", json!({"uri": uri})).await.is_not_found());
    bench.call(&alice, "resources/read", json!({"uri": "bartizan+uri://old/note://2"})).await.json();
    bench.tool(&alice, "new_echo", json!({})).await.json();
    let events = bench.events_of("call").await;
    assert!(events[0]["note"].as_str().unwrap().contains("switched off"));
}

#[tokio::test]
async fn a21_refusals_are_equal_for_all_causes() {
    let bench = Bench::with(
        &[("old", Speaks::Legacy), ("dead", Speaks::Legacy), ("off", Speaks::Legacy), ("not", Speaks::Legacy)],
        |r| {
            r["servers"][0]["updated_tools"] = json!([{"name": "fail", "enabled": false}]);
            r["servers"][1]["status"] = "killed".into();
            r["servers"][2]["status"] = "disabled".into();
            r["servers"][3]["policies"] = json!([{"action": "allow", "include": [{"emails": ["bob"]}]}]);
        },
    )
    .await;
    let mut shapes = Vec::new();
    for name in
        ["old_fail", "old_write", "old_nothing", "dead_echo", "off_echo", "not_echo", "nobody_echo", "", "_", "old_"]
    {
        match bench.tool(&modern("alice"), name, json!({})).await {
            CallReply::NotFound { what: Unknown::Tool(given), .. } => {
                assert_eq!(given, name);
                shapes.push(());
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let codes: Vec<_> =
        bench.events_of("call").await.iter().map(|e| e["verdict"]["code"].as_str().map(str::to_owned)).collect();
    let code = |text: &str| Some(text.to_owned());
    assert_eq!(
        codes,
        [None, code("write_not_granted"), None, code("killed"), None, code("policy_denied"), None, None, None, None]
    );
    for server in ["dead", "off", "not"] {
        assert!(bench.mock(server).state.seen.lock().unwrap().is_empty(), "{server} is not contacted");
    }
    assert_eq!(shapes.len(), 10);
}

#[tokio::test]
async fn g7_anonymous_callers_reach_public_servers_only() {
    let bench = Bench::with(BOTH, |r| r["servers"][0]["visibility"] = "public".into()).await;
    let nobody = From { kind: PrincipalKind::Anonymous, ..modern("anonymous") };
    bench.tool(&nobody.clone().at("old"), "echo", json!({})).await.json();
    assert!(bench.tool(&nobody.clone().at("old"), "write", json!({})).await.is_not_found());
    for endpoint in [nobody.clone().at("new"), nobody.clone()] {
        match bench.tool(&endpoint, "echo", json!({})).await {
            CallReply::NotFound { what, .. } => assert_eq!(what, Unknown::Endpoint),
            other => panic!("{other:?}"),
        }
    }
    let events = bench.events_of("call").await;
    assert_eq!(events[2]["verdict"]["code"], "unauthenticated");
    use crate::Access;
    let caller = nobody.caller();
    assert_eq!(
        bench.gate.visible_endpoint(&caller.principal, &nobody.clone().at("old").endpoint, None, &caller.circumstances),
        Access::Allowed
    );
    assert_eq!(
        bench.gate.visible_endpoint(&caller.principal, &nobody.clone().at("new").endpoint, None, &caller.circumstances),
        Access::Denied
    );
    assert_eq!(
        bench.gate.visible_endpoint(&caller.principal, &nobody.clone().at("x").endpoint, None, &caller.circumstances),
        Access::Unknown
    );
}

#[tokio::test]
async fn killed_while_a_call_is_on_its_way() {
    let mut bench = Bench::new(BOTH).await;
    let stop = bench.gate.sabotage().stop_at(Stage::State);
    let handle = bench.start(&modern("alice"), "tools/call", json!({"name": "old_echo", "arguments": {}}));
    stop.reached.notified().await;
    bench.reload(|r| r["servers"][0]["status"] = "killed".into());
    stop.go.notify_one();
    assert!(super::bench::end(handle).await.is_not_found());
    assert_eq!(bench.events_of("call").await[0]["verdict"]["code"], "killed");
    assert_eq!(bench.mock("old").state.executed("echo"), 0);
}

#[tokio::test]
async fn o4_a_call_keeps_the_snapshot_it_began_with() {
    let mut bench = Bench::with(BOTH, everyone_may_write).await;
    let before = format!("{:016x}", bench.snapshot.load().version);
    let stop = bench.gate.sabotage().stop_at(Stage::Authorize);
    let handle = bench.start(&modern("alice"), "tools/call", json!({"name": "old_write", "arguments": {}}));
    stop.reached.notified().await;
    bench.reload(|r| r["grants"] = json!([]));
    stop.go.notify_one();
    super::bench::end(handle).await.json();
    bench.gate.sabotage().clear();
    assert!(bench.tool(&modern("alice"), "old_write", json!({})).await.is_not_found());
    let events = bench.events_of("call").await;
    assert_eq!(events[0]["policy_version"], before);
    assert_eq!(events[1]["policy_version"], format!("{:016x}", bench.snapshot.load().version));
}

#[tokio::test]
async fn o11_limits_refuse_with_the_limit_and_the_time() {
    let bench = Bench::with(BOTH, |r| {
        r["rate_limits"] =
            json!([{"id": "slow-echo", "per": ["user", "tool"], "server": "old", "tools": ["echo"], "per_minute": 2}]);
    })
    .await;
    let alice = modern("alice");
    for _ in 0..2 {
        bench.tool(&alice, "old_echo", json!({})).await.json();
    }
    let reply = bench.tool(&alice, "old_echo", json!({})).await;
    let refusal = reply.refusal();
    assert_eq!(
        (refusal.code, refusal.rule.as_deref(), refusal.retry_after_s),
        (ReasonCode::RateLimited, Some("slow-echo"), Some(30))
    );
    bench.tool(&modern("bob"), "old_echo", json!({})).await.json();
    bench.tool(&alice, "new_echo", json!({})).await.json();
    bench.clock.advance_ms(30_000);
    bench.tool(&alice, "old_echo", json!({})).await.json();
}

#[tokio::test]
async fn o11_concurrency_counts_running_calls() {
    let bench =
        Bench::with(BOTH, |r| r["rate_limits"] = json!([{"id": "one", "per": ["user"], "concurrent": 1}])).await;
    let handle = bench.start(&modern("alice"), "tools/call", json!({"name": "old_hang", "arguments": {}}));
    bench.mock("old").state.hanging.notified().await;
    assert_eq!(bench.tool(&modern("alice"), "old_echo", json!({})).await.refusal().code, ReasonCode::RateLimited);
    bench.tool(&modern("bob"), "old_echo", json!({})).await.json();
    bench.mock("old").state.unhang.notify_one();
    assert_eq!(super::bench::end(handle).await.text(), "at last");
    bench.tool(&modern("alice"), "old_echo", json!({})).await.json();
}

#[tokio::test]
async fn upstream_failures_have_codes() {
    let bench = Bench::new(BOTH).await;
    let reply = bench.tool(&modern("alice"), "old_drop", json!({})).await;
    assert_eq!(reply.refusal().code, ReasonCode::UpstreamUnavailable);
    assert_eq!(bench.tool(&modern("alice"), "old_rpc_error", json!({})).await.error_code(), -31000);
    assert_eq!(bench.tool(&modern("alice"), "old_fail", json!({})).await.json()["isError"], true);
    let outcomes: Vec<_> =
        bench.events_of("call").await.iter().map(|e| e["outcome"].as_str().unwrap().to_owned()).collect();
    assert_eq!(outcomes, ["unknown", "rpc_error", "tool_error"]);
    assert_eq!(bench.mock("old").state.executed("drop"), 1, "a call whose outcome is unknown is not repeated");
}

#[tokio::test]
async fn p27_prompts_resources_and_completions_pass() {
    let bench = Bench::new(BOTH).await;
    for from in [legacy("alice"), modern("alice")] {
        for server in ["old", "new"] {
            let got = bench.call(&from, "prompts/get", json!({"name": format!("{server}_greet")})).await.json();
            assert_eq!(got["messages"][0]["content"]["text"], "greet");
            let uri = format!("bartizan+uri://{server}/note://7");
            let read = bench.call(&from, "resources/read", json!({"uri": uri})).await.json();
            assert_eq!(read["contents"][0]["uri"], uri.as_str());
            let ui = format!("ui://{server}/board/main");
            let read = bench.call(&from, "resources/read", json!({"uri": ui})).await.json();
            assert_eq!(read["contents"][0]["uri"], ui.as_str(), "ui:// stays ui://");
            let reference = json!({"ref": {"type": "ref/prompt", "name": format!("{server}_greet")}, "argument": {"name": "who", "value": "a"}});
            let done = bench.call(&from, "completion/complete", reference).await.json();
            assert!(done["completion"]["values"][0].as_str().unwrap().contains(r#""name":"greet""#));
            let template = format!("bartizan+uri://{server}/note://{{id}}");
            let reference =
                json!({"ref": {"type": "ref/resource", "uri": template}, "argument": {"name": "id", "value": "a"}});
            let done = bench.call(&from, "completion/complete", reference).await.json();
            assert!(done["completion"]["values"][0].as_str().unwrap().contains(r#""uri":"note://{id}""#));
            let linked = bench.tool(&from, &format!("{server}_resource"), json!({})).await.json();
            assert_eq!(linked["content"][0]["uri"], format!("bartizan+uri://{server}/note://1"));
        }
        assert!(bench.call(&from, "prompts/get", json!({"name": "old_nothing"})).await.is_not_found());
        for uri in ["note://1", "bartizan+uri://nobody/note://1", "bartizan+uri://old", ""] {
            assert!(bench.call(&from, "resources/read", json!({"uri": uri})).await.is_not_found(), "{uri}");
        }
    }
}

#[tokio::test]
async fn p12_a_missing_resource_is_named_as_the_client_named_it() {
    let bench = Bench::new(BOTH).await;
    let uri = "bartizan+uri://new/note://missing";
    match bench.call(&modern("alice"), "resources/read", json!({"uri": uri})).await {
        CallReply::Error(error) => {
            assert_eq!(error.code, -32602);
            assert_eq!(super::bench::value(&error.data.unwrap())["uri"], uri);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn unknown_methods_need_a_word_of_the_policies() {
    let mut bench = Bench::new(BOTH).await;
    let at = |server| modern("alice").at(server);
    for from in [at("old"), modern("alice")] {
        match bench.call(&from, "custom/method", json!({"a": 1})).await {
            CallReply::NotFound { what, .. } => assert_eq!(what, Unknown::Method("custom/method".into())),
            other => panic!("{other:?}"),
        }
    }
    bench.reload(|r| {
        r["policies"] = json!([{"id": "custom", "cedar": "permit(principal, action == Action::\"other\", resource == Server::\"old\");"}]);
    });
    assert_eq!(bench.call(&at("old"), "custom/method", json!({"a": 1})).await.json()["custom"]["a"], 1);
    assert_eq!(bench.events_of("intent").await.len(), 1, "nobody reviewed what the method does");
    assert!(bench.call(&modern("alice"), "custom/method", json!({})).await.is_not_found());
}

#[tokio::test]
async fn p14_list_servers_from_both_eras() {
    let bench = Bench::with(&[("old", Speaks::Legacy), ("dead", Speaks::Legacy), ("not", Speaks::Legacy)], |r| {
        r["servers"][1]["status"] = "killed".into();
        r["servers"][2]["policies"] = json!([]);
    })
    .await;
    for from in [legacy("alice"), modern("alice")] {
        assert!(bench.tool_names(&from).await.contains(&"portal_list_servers".to_owned()));
        let reply = bench.tool(&from, "portal_list_servers", json!({})).await.json();
        assert_eq!(
            reply["structuredContent"]["servers"],
            json!([
                {"id": "old", "name": "old", "on": true, "status": "ready"},
                {"id": "dead", "name": "dead", "on": false, "status": "killed"}
            ])
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(reply["content"][0]["text"].as_str().unwrap()).unwrap(),
            reply["structuredContent"]
        );
    }
    let events = bench.events_of("call").await;
    assert_eq!((events[0]["target"].as_str(), events.len()), (Some("portal_list_servers"), 2));
}

#[tokio::test]
async fn p35_one_upstream_session_per_principal() {
    let bench = Bench::new(&[("old", Speaks::Legacy)]).await;
    for _ in 0..50 {
        bench.tool(&legacy("alice"), "old_echo", json!({})).await.json();
    }
    assert_eq!(bench.mock("old").state.count("initialize"), 1);
    for _ in 0..10 {
        bench.tool(&legacy("bob"), "old_echo", json!({})).await.json();
        bench.tool(&legacy("alice"), "old_echo", json!({})).await.json();
    }
    assert_eq!(bench.mock("old").state.count("initialize"), 2);
    let seen = bench.mock("old").state.seen.lock().unwrap();
    let sessions: std::collections::HashSet<_> =
        seen.iter().filter(|(method, _, _)| method == "tools/call").map(|(_, session, _)| session.clone()).collect();
    assert_eq!(sessions.len(), 2);
}

#[tokio::test]
async fn o4_running_calls_survive_a_change_of_their_server() {
    let mut bench = Bench::new(BOTH).await;
    for server in ["old", "new"] {
        let params = json!({"name": format!("{server}_hang"), "arguments": {}});
        let handle = bench.start(&modern("alice"), "tools/call", params);
        bench.mock(server).state.hanging.notified().await;
        let at = usize::from(server == "new");
        bench.reload(|r| {
            r["servers"][at]["auth_type"] = "bearer".into();
            r["servers"][at]["auth_credentials"] = "a-new-secret-value".into();
        });
        bench.tool(&modern("alice"), &format!("{server}_echo"), json!({})).await.json();
        bench.mock(server).state.unhang.notify_one();
        assert_eq!(super::bench::end(handle).await.text(), "at last", "{server}");
    }
}

#[tokio::test]
async fn p33_mirrored_headers_must_agree_with_the_body() {
    let bench = Bench::with(BOTH, |r| r["servers"][0]["classes"]["read"] = json!(["regional"])).await;
    bench.mock("old").state.tools.lock().unwrap().push(json!({
        "name": "regional",
        "inputSchema": {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    }));
    let params = json!({"name": "old_regional", "arguments": {"region": "eu"}});
    let name = || http::HeaderName::from_static("mcp-param-region");
    for (given, good) in [(Some("eu"), true), (Some("us"), false), (None, false)] {
        let mut call = modern("alice").request("tools/call", params.clone());
        call.param_headers.extend(given.map(|value| (name(), http::HeaderValue::from_static(value))));
        let reply = super::bench::end(bench.gate.call(call)).await;
        if good {
            reply.json();
        } else {
            assert_eq!(reply.error_code(), -32020, "{given:?}");
        }
    }
    assert_eq!(bench.mock("old").state.executed("regional"), 1);
    let call = legacy("alice").request("tools/call", params);
    super::bench::end(bench.gate.call(call)).await.json();
}
