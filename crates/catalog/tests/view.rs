//! Views: names, curation, policies, rendering (rows P12, P13, P40, P41, A21, G3).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use bartizan_catalog::{Kind, Report, ServerLists, View, uri};
use bartizan_model::{Principal, ReasonCode};
use bartizan_policy::{Action, Query};
use bartizan_wire::{RawJson, splice};
use common::{compile, context, everyone, id, lists, names, portal_view, raw, server, tools, user};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

fn read(names: &[&str]) -> Value {
    json!({"classes": {"read": names}})
}

#[test]
fn p12_servers_with_clashing_names_are_both_reachable() {
    let snapshot = compile(json!({"servers": [server("a", read(&["b_c"])), server("a_b", read(&["c"]))]}));
    let lists = lists(&snapshot, vec![("a", tools(&["b_c"])), ("a_b", tools(&["c"]))]);
    let view = portal_view(&snapshot, "default", &user("ann", &[]), &lists);
    assert_eq!(names(&view), ["a_b_c", "a_b_c_0c1d18f5"]);
    let first = view.tool("a_b_c").unwrap();
    assert_eq!((first.server.id.as_str(), &*first.def.name), ("a", "b_c"));
    let second = view.tool("a_b_c_0c1d18f5").unwrap();
    assert_eq!((second.server.id.as_str(), &*second.def.name), ("a_b", "c"));
    assert!(view.tool("c").is_none() && view.tool("b_c").is_none() && view.tool("").is_none());
    assert_eq!(view.reports.len(), 1);
    assert!(matches!(&view.reports[0], Report::Clash { exposed, .. } if &**exposed == "a_b_c_0c1d18f5"));
}

#[test]
fn p12_names_do_not_depend_on_who_looks_or_on_the_order_of_lists() {
    let snapshot = compile(json!({
        "servers": [
            server("a", json!({"classes": {"write": ["b_c"]}})),
            server("a_b", json!({"classes": {"read": ["c"]}})),
        ],
        "portals": [{"id": "default", "policies": everyone()}, {"id": "back", "servers": ["a_b", "a"], "policies": everyone()}],
        "grants": [{"id": "g", "principals": ["user:ann"], "server": "a", "classes": ["write"]}],
    }));
    let forward = lists(&snapshot, vec![("a", tools(&["b_c"])), ("a_b", tools(&["c"]))]);
    let backward = lists(&snapshot, vec![("a_b", tools(&["c"])), ("a", tools(&["b_c"]))]);
    for lists in [&forward, &backward] {
        assert_eq!(names(&portal_view(&snapshot, "default", &user("ann", &[]), lists)), ["a_b_c", "a_b_c_0c1d18f5"]);
        // Ben does not see the first, which is no reason for the second to change its name.
        assert_eq!(names(&portal_view(&snapshot, "default", &user("ben", &[]), lists)), ["a_b_c_0c1d18f5"]);
        // The portal's order is that of lists; the order of creation decides on names.
        assert_eq!(names(&portal_view(&snapshot, "back", &user("ann", &[]), lists)), ["a_b_c_0c1d18f5", "a_b_c"]);
    }
}

#[test]
fn p12_prefix_never_uses_aliases() {
    let value = json!({
        "servers": [
            server("a", json!({"classes": {"read": ["get", "only"]}})),
            server("b", json!({"classes": {"read": ["get"]}, "updated_tools": [{"name": "get", "alias": "fetch"}]})),
            server("c", json!({"classes": {"read": ["get"]}})),
            server("d", json!({"classes": {"read": ["get"]}, "updated_tools": [{"name": "get", "enabled": false}]})),
        ],
        "portals": [
            {"id": "bare", "prefix": "never", "policies": everyone()},
            {"id": "always", "policies": everyone()},
        ],
    });
    let snapshot = compile(value);
    let lists = lists(
        &snapshot,
        vec![("a", tools(&["get", "only"])), ("b", tools(&["get"])), ("c", tools(&["get"])), ("d", tools(&["get"]))],
    );
    let bare = portal_view(&snapshot, "bare", &user("ann", &[]), &lists);
    let clash = names(&bare)[3].to_owned();
    assert_eq!(names(&bare)[..3], ["get", "only", "fetch"]);
    assert!(clash.starts_with("get_") && clash.len() == 12);
    assert_eq!(bare.tool("get").unwrap().server.id.as_str(), "a");
    assert_eq!(bare.reports.len(), 1, "the switched-off tool takes no name: {:?}", bare.reports);
    let always = portal_view(&snapshot, "always", &user("ann", &[]), &lists);
    assert_eq!(names(&always), ["a_get", "a_only", "b_fetch", "c_get"]);
}

#[test]
fn p42_an_alias_never_takes_another_tools_name() {
    let snapshot = compile(json!({"servers": [server("a", json!({
        "classes": {"read": ["get", "delete"]}, "updated_tools": [{"name": "delete", "alias": "get"}],
    }))]}));
    let lists = lists(&snapshot, vec![("a", tools(&["delete", "get"]))]);
    let view = portal_view(&snapshot, "default", &user("ann", &[]), &lists);
    assert_eq!(names(&view), ["a_delete", "a_get"]);
    assert_eq!(&*view.tool("a_get").unwrap().def.name, "get");
    assert!(matches!(&view.reports[..], [Report::AliasTaken { .. }]));
}

#[test]
fn p13_long_names_keep_the_original_in_meta_and_title() {
    let long = "list_everything_".repeat(6);
    let snapshot = compile(json!({
        "servers": [server("srv", json!({"classes": {"read": [long, "short"]}}))],
        "portals": [{"id": "default", "policies": everyone()}, {"id": "tight", "max_tool_name": 32, "policies": everyone()}],
    }));
    let items = [json!({"name": long, "x": 1.5}).to_string(), json!({"name": "short", "title": "T"}).to_string()];
    let offered = ServerLists::parse(Kind::Tools, items.iter().map(|text| raw(text)));
    let lists = lists(&snapshot, vec![("srv", offered)]);
    for (portal, max) in [("default", 64), ("tight", 32)] {
        let view = portal_view(&snapshot, portal, &user("ann", &[]), &lists);
        let tool = &view.tools[0];
        assert_eq!(tool.exposed.len(), max);
        assert_eq!(
            *tool.exposed,
            *format!("srv_{long}").chars().take(max - 9).chain(tool.exposed.chars().skip(max - 9)).collect::<String>()
        );
        let shown: Value = serde_json::from_str(tool.rendered.as_str()).unwrap();
        assert_eq!(shown["name"], *tool.exposed);
        assert_eq!(shown["title"], long);
        assert_eq!(shown["_meta"]["bartizan/origin"], json!({"server": "srv", "name": long}));
        assert!(tool.rendered.as_str().contains("\"x\":1.5"));
        let short: Value = serde_json::from_str(view.tools[1].rendered.as_str()).unwrap();
        assert_eq!((&short["name"], &short["title"]), (&json!("srv_short"), &json!("T")));
        assert!(view.tool(&tool.exposed).is_some());
    }
}

#[test]
fn p30_rendering_touches_only_what_it_must() {
    let snapshot = compile(json!({"servers": [server("s", read(&["t", "u", "v"]))]}));
    let items = [
        r#"{ "inputSchema" : {"type":"object","properties":{"n":{"maximum":1.0e2}}}, "name":"t" , "zz":[1, 2],"_meta":{"k":1.50}}"#,
        r#"{"name":"u","_meta":{"ui":{"resourceUri":"ui://w/x","csp":1},"ui/resourceUri":"ui://w/x","openai/outputTemplate":"ui://w/y","o":"ui://z","bartizan/origin":"forged"}}"#,
        r#"{"name":"v","_meta":null,"title":""}"#,
    ];
    let lists = lists(&snapshot, vec![("s", ServerLists::parse(Kind::Tools, items.map(raw)))]);
    let view = portal_view(&snapshot, "default", &user("ann", &[]), &lists);
    assert_eq!(
        view.tools[0].rendered.as_str(),
        r#"{ "inputSchema" : {"type":"object","properties":{"n":{"maximum":1.0e2}}}, "name":"s_t" , "zz":[1, 2],"_meta":{"k":1.50,"bartizan/origin":{"server":"s","name":"t"}}}"#
    );
    let ui: Value = serde_json::from_str(view.tools[1].rendered.as_str()).unwrap();
    assert_eq!(ui["_meta"]["ui"], json!({"resourceUri": "ui://s/w/x", "csp": 1}));
    assert_eq!(ui["_meta"]["ui/resourceUri"], "ui://s/w/x");
    assert_eq!(ui["_meta"]["openai/outputTemplate"], "ui://s/w/y");
    assert_eq!(ui["_meta"]["o"], "ui://z");
    assert_eq!(ui["_meta"]["bartizan/origin"], json!({"server": "s", "name": "u"}));
    // A server's own endpoint passes every byte.
    let own = View::build(&snapshot, None, &user("ann", &[]), &context(0), &lists);
    for (tool, item) in own.tools.iter().zip(items) {
        assert_eq!(tool.rendered.as_str(), item);
        assert_eq!(tool.exposed, tool.def.name);
    }
    assert_eq!(own.list(Kind::Tools).as_str(), format!("[{}]", items.join(",")));
}

#[test]
fn p41_off_is_not_there() {
    let snapshot = compile(json!({"servers": [
        server("s", json!({"classes": {"read": ["a", "b", "new"]}, "updated_tools": [{"name": "b", "enabled": false}],
            "updated_prompts": [{"name": "p", "enabled": false}], "updated_resources": [{"name": "x:1", "enabled": false}]})),
        server("d", json!({"classes": {"read": ["a", "b", "new"]}, "default_disabled": true,
            "updated_tools": [{"name": "b"}], "updated_resources": [{"name": "x:{id}"}]})),
        server("off", json!({"classes": {"read": ["a"]}, "status": "disabled"})),
        server("dead", json!({"classes": {"read": ["a"]}, "status": "killed"})),
    ]}));
    let mut all = tools(&["a", "b", "new"]);
    for (kind, text) in [
        (Kind::Prompts, r#"{"name":"p"}"#),
        (Kind::Prompts, r#"{"name":"q"}"#),
        (Kind::Resources, r#"{"uri":"x:1"}"#),
        (Kind::Resources, r#"{"uri":"y:1"}"#),
        (Kind::Templates, r#"{"uriTemplate":"x:{id}"}"#),
    ] {
        all.push(kind, raw(text));
    }
    let mut again = tools(&["a", "b", "new"]);
    again.push(Kind::Resources, raw(r#"{"uri":"x:1"}"#));
    again.push(Kind::Templates, raw(r#"{"uriTemplate":"x:{id}"}"#));
    let lists = lists(&snapshot, vec![("s", all), ("d", again), ("off", tools(&["a"])), ("dead", tools(&["a"]))]);
    let view = portal_view(&snapshot, "default", &user("ann", &[]), &lists);
    assert_eq!(names(&view), ["s_a", "s_new", "d_b"]);
    for hidden in ["s_b", "d_a", "d_new", "off_a", "dead_a"] {
        assert!(view.tool(hidden).is_none(), "{hidden}");
    }
    assert_eq!(view.prompts.iter().map(|prompt| &*prompt.exposed).collect::<Vec<_>>(), ["s_q"]);
    assert!(view.prompt("s_p").is_none() && view.prompt("s_q").is_some());
    let wrapped = |server: &str, text: &str| uri::wrap(&id(server), text);
    let shown: Vec<String> = view.resources.iter().map(|resource| resource.exposed.to_string()).collect();
    assert_eq!(shown, [wrapped("s", "y:1"), wrapped("d", "x:1")]);
    let routed = |text: &str| view.route_uri(text).map(|(server, original)| (server.id.to_string(), original));
    assert_eq!(routed(&wrapped("s", "y:1")), Some(("s".to_owned(), "y:1".to_owned())));
    assert_eq!(routed(&wrapped("s", "z:9")), Some(("s".to_owned(), "z:9".to_owned())), "may come from a template");
    assert_eq!(routed(&wrapped("s", "x:1")), None);
    assert_eq!(routed(&wrapped("d", "x:7")), Some(("d".to_owned(), "x:7".to_owned())));
    assert_eq!(routed(&wrapped("d", "y:1")), None);
    assert_eq!(routed(&wrapped("off", "y:1")), None);
    assert_eq!(routed(&wrapped("nope", "y:1")), None);
    assert_eq!(routed("y:1"), None, "unwrapped URIs belong to no server of a portal");
    assert_eq!(
        view.templates.iter().map(|each| each.exposed.to_string()).collect::<Vec<_>>(),
        [wrapped("s", "x:{id}"), wrapped("d", "x:{id}")]
    );
    assert_eq!(
        splice::get(&view.templates[0].rendered, "uriTemplate").unwrap().as_string().unwrap(),
        "bartizan+uri://s/x:{id}"
    );
    assert_eq!(view.servers.iter().map(|server| server.id.as_str()).collect::<Vec<_>>(), ["s", "d"]);
}

#[test]
fn p41_another_spelling_of_a_uri_is_the_same_resource() {
    let snapshot = compile(json!({
        "servers": [server("s", json!({"updated_resources": [{"name": "file:///off", "enabled": false}]}))],
        "policies": [{"id": "p", "cedar": "forbid(principal, action == Action::\"read_resource\", resource) when { resource.uri like \"file:///secret/*\" };"}],
    }));
    let items = ["FILE:///off", "file:///x/../secret/a", "file:///%73ecret/b", "file:///open/../c"]
        .map(|uri| raw(&json!({"uri": uri}).to_string()));
    let lists = lists(&snapshot, vec![("s", ServerLists::parse(Kind::Resources, items))]);
    let view = portal_view(&snapshot, "default", &user("ann", &[]), &lists);
    let shown: Vec<&str> = view.resources.iter().map(|each| &*each.def.uri).collect();
    assert_eq!(shown, ["file:///open/../c"]);
    assert!(view.route_uri("bartizan+uri://s/FILE:///off").is_none());
    assert!(view.route_uri("bartizan+uri://s/file:///./off").is_none());
}

#[test]
fn g3_show_ungranted_lists_and_refuses() {
    let value = |show: bool| {
        json!({
            "servers": [server("s", json!({"classes": {"read": ["r"], "write": ["w"]}}))],
            "portals": [{"id": "default", "show_ungranted": show, "policies": everyone()}],
            "policies": [{"id": "p", "cedar": "forbid(principal, action == Action::\"call_tool\", resource == Tool::\"s/secret\");"}],
            "grants": [{"id": "g", "principals": ["user:ann"], "server": "s", "tools": ["w"]}],
        })
    };
    let offered = || tools(&["r", "w", "new", "secret"]);
    let hidden = compile(value(false));
    let shown = compile(value(true));
    let view =
        |snapshot, who| portal_view(snapshot, "default", &user(who, &[]), &lists(snapshot, vec![("s", offered())]));
    assert_eq!(names(&view(&hidden, "ben")), ["s_r"]);
    assert_eq!(names(&view(&hidden, "ann")), ["s_r", "s_w"]);
    let ben = view(&shown, "ben");
    assert_eq!(names(&ben), ["s_r", "s_w", "s_new"], "what a policy forbids stays hidden");
    let write = ben.tool("s_w").unwrap();
    assert_eq!((write.decision.allow, write.decision.code), (false, Some(ReasonCode::WriteNotGranted)));
    let meta: Value = serde_json::from_str(write.rendered.as_str()).unwrap();
    assert_eq!(meta["_meta"]["bartizan/decision"]["code"], "write_not_granted");
    let granted: Value = serde_json::from_str(view(&shown, "ann").tool("s_w").unwrap().rendered.as_str()).unwrap();
    assert!(granted["_meta"].get("bartizan/decision").is_none());
}

#[test]
fn p40_servers_that_may_not_be_used_give_nothing() {
    let snapshot = compile(json!({
        "servers": [
            server("open", read(&["t"])),
            server("eng", json!({"classes": {"read": ["t"]}, "policies": [{"action": "allow", "include": [{"groups": ["eng"]}]}]})),
        ],
        "portals": [{"id": "default", "policies": everyone()}, {"id": "part", "servers": ["open"], "policies": everyone()},
                    {"id": "shut"}],
    }));
    let mut offered = tools(&["t"]);
    offered.push(Kind::Resources, raw(r#"{"uri":"x:1"}"#));
    offered.push(Kind::Prompts, raw(r#"{"name":"p"}"#));
    let lists = lists(&snapshot, vec![("open", tools(&["t"])), ("eng", offered)]);
    let ben = portal_view(&snapshot, "default", &user("ben", &[]), &lists);
    assert_eq!(names(&ben), ["open_t"]);
    assert!(ben.resources.is_empty() && ben.prompts.is_empty() && ben.servers.len() == 1);
    assert!(ben.route_uri(&uri::wrap(&id("eng"), "x:1")).is_none());
    assert_eq!(names(&portal_view(&snapshot, "default", &user("ann", &["eng"]), &lists)), ["open_t", "eng_t"]);
    assert_eq!(names(&portal_view(&snapshot, "part", &user("ann", &["eng"]), &lists)), ["open_t"]);
    for portal in ["shut", "missing"] {
        let view = portal_view(&snapshot, portal, &user("ann", &["eng"]), &lists);
        assert!(view.tools.is_empty() && view.servers.is_empty(), "{portal}");
        assert_eq!(view.list(Kind::Tools).as_str(), "[]");
    }
    assert!(portal_view(&snapshot, "default", &Principal::anonymous(), &lists).tools.is_empty());
    let own = View::build(&snapshot, None, &user("ben", &[]), &context(0), &lists[1..]);
    assert!(own.tools.is_empty() && own.route_uri("x:1").is_none());
}

#[test]
fn p12_doubles_of_one_server_are_reported_not_renamed() {
    let snapshot = compile(json!({"servers": [server("s", read(&["t"]))]}));
    let items = [r#"{"name":"t","description":"one"}"#, r#"{"name":"t","description":"two"}"#];
    let lists = lists(&snapshot, vec![("s", ServerLists::parse(Kind::Tools, items.map(raw)))]);
    for portal in [true, false] {
        let view = if portal {
            portal_view(&snapshot, "default", &user("ann", &[]), &lists)
        } else {
            View::build(&snapshot, None, &user("ann", &[]), &context(0), &lists)
        };
        assert_eq!(view.tools.len(), 1);
        assert!(view.tools[0].def.raw().as_str().contains("one"));
        assert!(matches!(&view.reports[..], [Report::Duplicate { .. }]));
    }
}

#[test]
fn p31_kinds_may_come_in_lists_of_their_own() {
    let snapshot = compile(json!({"servers": [server("s", read(&["t"])), server("u", read(&["t"]))]}));
    let prompts = ServerLists::parse(Kind::Prompts, [raw(r#"{"name":"p"}"#)]);
    let all = lists(&snapshot, vec![("s", prompts), ("u", tools(&["t"])), ("s", tools(&["t"]))]);
    let view = portal_view(&snapshot, "default", &user("ann", &[]), &all);
    assert_eq!((names(&view), view.prompts.len()), (vec!["s_t", "u_t"], 1));
    assert_eq!(view.servers.len(), 2);
}

#[test]
fn g3_grants_expire_in_views() {
    let snapshot = compile(json!({
        "servers": [server("s", json!({"classes": {"write": ["w"]}}))],
        "grants": [{"id": "g", "principals": ["everyone"], "server": "s", "tools": ["w"], "expires": "1970-01-01T00:01:00Z"}],
    }));
    assert_eq!(snapshot.next_change_ms(0), Some(60_000));
    let lists = lists(&snapshot, vec![("s", tools(&["w"]))]);
    let portal = bartizan_model::PortalId::parse("default").unwrap();
    let at = |now| View::build(&snapshot, Some(&portal), &user("ann", &[]), &context(now), &lists).tools.len();
    assert_eq!((at(0), at(59_999), at(60_000)), (1, 1, 0));
}

#[test]
fn p1_five_thousand_tools_are_listed_in_order_and_found() {
    let all: Vec<Value> = (0..50).map(|n| server(&format!("server_{n}"), json!({}))).collect();
    let mut value = json!({"servers": all});
    for server in value["servers"].as_array_mut().unwrap() {
        server["classes"] = json!({"read": (0..100).map(|n| format!("tool_{n}")).collect::<Vec<_>>()});
    }
    let snapshot = compile(value);
    let names: Vec<String> = (0..100).map(|n| format!("tool_{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let lists = snapshot.order.iter().map(|spec| (Arc::clone(spec), Arc::new(tools(&names)))).collect();
    let view = portal_view(&snapshot, "default", &user("ann", &[]), &lists);
    assert_eq!(view.tools.len(), 5_000);
    assert_eq!(&*view.tools[4_999].exposed, "server_49_tool_99");
    assert!(view.tools.iter().all(|tool| std::ptr::eq(view.tool(&tool.exposed).unwrap(), tool)));
    assert_eq!(splice::items(view.list(Kind::Tools)).len(), 5_000);
    assert!(std::ptr::eq(view.list(Kind::Tools), view.list(Kind::Tools)));
}

/// Random installation: servers with ids and tools made of few letters, so that they clash.
fn installation() -> impl Strategy<Value = Vec<(String, Vec<String>)>> {
    let server = ("[ab_]{1,4}(-[ab_]{1,2})?", proptest::collection::hash_set("[abc_]{1,4}", 0..5));
    proptest::collection::hash_map(server.0, server.1, 1..6)
        .prop_map(|servers| servers.into_iter().map(|(id, tools)| (id, tools.into_iter().collect())).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn p12_round_trip_for_all_ids(servers in installation(), never in any::<bool>()) {
        let configured: Vec<Value> = servers.iter().map(|(id, tools)| server(id, json!({"classes": {"read": tools}}))).collect();
        let snapshot = compile(json!({
            "servers": configured,
            "portals": [{"id": "default", "prefix": if never { "never" } else { "always" }, "policies": everyone()}],
        }));
        let offered = servers
            .iter()
            .map(|(id, names)| (id.as_str(), tools(&names.iter().map(String::as_str).collect::<Vec<_>>())))
            .collect();
        let view = portal_view(&snapshot, "default", &user("ann", &[]), &lists(&snapshot, offered));
        let mut found: HashMap<(String, String), usize> = HashMap::new();
        for tool in &view.tools {
            let routed = view.tool(&tool.exposed).unwrap();
            prop_assert!(std::ptr::eq(routed, tool));
            let shown = splice::get(&tool.rendered, "name").unwrap();
            prop_assert_eq!(shown.as_string().unwrap(), &*tool.exposed);
            *found.entry((routed.server.id.to_string(), routed.def.name.to_string())).or_default() += 1;
        }
        for (id, tools) in &servers {
            for tool in tools {
                prop_assert_eq!(found.get(&(id.clone(), tool.clone())), Some(&1));
            }
        }
        prop_assert_eq!(view.tools.len(), servers.iter().map(|(_, tools)| tools.len()).sum::<usize>());
    }

    /// In the view ⇔ callable, for random users, tools and rules without arguments.
    #[test]
    fn a21_listed_equals_callable(
        groups in subsequence(vec!["eng", "fin"], 0..=2),
        grants in proptest::collection::vec((select(vec!["user:ann", "group:eng", "everyone"]),
            select(vec!["s0", "s1"]), subsequence(vec!["t0", "t3"], 0..=2), select(vec!["write", "destructive", "unknown"])), 0..3),
        rules in proptest::collection::vec((select(vec!["allow", "block"]), select(vec!["eng", "fin"])), 0..3),
        forbids in proptest::collection::vec(select(vec![
            "forbid(principal, action == Action::\"call_tool\", resource == Tool::\"s0/t0\");",
            "forbid(principal in Group::\"fin\", action == Action::\"call_tool\", resource) when { resource.class != \"read\" };",
            "forbid(principal, action == Action::\"call_tool\", resource in Server::\"s1\") when { resource.name like \"*3\" };",
            "forbid(principal, action == Action::\"use_server\", resource == Server::\"s1\") unless { principal in Group::\"eng\" };",
            "permit(principal in Group::\"eng\", action == Action::\"call_tool\", resource) when { resource.name == \"t2\" };",
            "permit(principal == User::\"ann\", action, resource in Server::\"s0\");",
        ]), 0..4),
    ) {
        let classes = json!({"read": ["t0"], "write": ["t1", "t2"], "destructive": ["t3"]});
        let mut value = json!({
            "servers": [server("s0", json!({"classes": classes})), server("s1", json!({"classes": classes}))],
            "policies": forbids.iter().enumerate().map(|(at, text)| json!({"id": format!("p{at}"), "cedar": text})).collect::<Vec<_>>(),
            "grants": grants.iter().enumerate().map(|(at, (who, server, tools, class))| json!({
                "id": format!("g{at}"), "principals": [who], "server": server, "tools": tools, "classes": [class]})).collect::<Vec<_>>(),
        });
        for (action, group) in rules {
            let rule = json!({"action": action, "include": [{"groups": [group]}]});
            value["servers"][1]["policies"].as_array_mut().unwrap().push(rule);
        }
        let snapshot = compile(value);
        let who = user("ann", &groups);
        let all = ["t0", "t1", "t2", "t3", "t4"];
        let offered = lists(&snapshot, vec![("s0", tools(&all)), ("s1", tools(&all))]);
        let view = portal_view(&snapshot, "default", &who, &offered);
        let portal = bartizan_model::PortalId::parse("default").unwrap();
        let context = context(0);
        for spec in &snapshot.order {
            for name in all {
                let decision = snapshot.policies.decide(&Query {
                    principal: &who,
                    action: Action::CallTool,
                    portal: Some(&portal),
                    server: Some(&spec.id),
                    name,
                    class: spec.class_of(name),
                    context: &context,
                    args: Some("{}"),
                });
                let listed = view.tool(&format!("{}_{name}", spec.id));
                prop_assert_eq!(listed.is_some(), decision.allow, "{} {}", spec.id, name);
                if let Some(listed) = listed {
                    prop_assert_eq!(&listed.decision, &decision);
                }
            }
        }
    }
}

#[test]
fn lists_are_arrays_of_the_rendered_items() {
    let snapshot = compile(json!({"servers": [server("s", read(&["t"]))]}));
    let mut offered = tools(&["t"]);
    offered.push(Kind::Resources, raw(r#"{"uri":"x:1","name":"n"}"#));
    let lists = lists(&snapshot, vec![("s", offered)]);
    let view = portal_view(&snapshot, "default", &user("ann", &[]), &lists);
    assert_eq!(view.list(Kind::Resources).as_str(), r#"[{"uri":"bartizan+uri://s/x:1","name":"n"}]"#);
    assert_eq!(view.list(Kind::Prompts), &RawJson::array([]));
    assert_eq!(view.items(Kind::Tools).count(), 1);
    let resource = view.resource("bartizan+uri://s/x:1").unwrap();
    assert_eq!(&*resource.def.uri, "x:1");
}
