//! Section 1.2: how refusals look, and who gets in (rows G7, A18, P26).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails")]

mod support;

use serde_json::{Value, json};
use support::{Client, LEGACY, World, response};

fn metadata(world: &World, path: &str) -> String {
    format!("Bearer resource_metadata=\"{}/.well-known/oauth-protected-resource/{path}\"", world.base)
}

#[tokio::test]
async fn p26_no_token_is_401_with_metadata() {
    let world = World::start().await;
    for path in ["mcp", "portals/default/mcp", "servers/fix/mcp", "servers/hidden/mcp", "servers/nothing/mcp"] {
        let client = Client::new(world.url(path), None);
        for body in ["{}", "not json", ""] {
            let reply = client.post(&[], body).await;
            assert_eq!(reply.status, 401, "{path}");
            let place = if path == "portals/default/mcp" { "mcp" } else { path };
            assert_eq!(reply.header("www-authenticate"), Some(metadata(&world, place).as_str()));
            assert!(reply.header("x-request-id").is_some());
            assert!(reply.header("location").is_none());
        }
        assert_eq!(client.send(http::Method::GET, &[("accept", "text/event-stream")], "").await.status, 401);
        assert_eq!(client.send(http::Method::DELETE, &[], "").await.status, 401);
    }
}

#[tokio::test]
async fn p26_a_bad_credential_is_401_everywhere_even_where_none_is_needed() {
    let world = World::start().await;
    for path in ["mcp", "servers/fix/mcp", "servers/open/mcp", "servers/nothing/mcp"] {
        let client = Client::new(world.url(path), Some("wrong-token"));
        let reply = client.modern(&json!(1), "tools/list", &json!({})).await;
        assert_eq!(reply.status, 401, "{path}");
        assert!(reply.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    }
    let client = Client::new(world.url("mcp"), None);
    for value in ["Basic YTpi", "Bearer", "Bearer ", "bearer wrong", "Bearer a b"] {
        assert_eq!(client.post(&[("authorization", value)], "{}").await.status, 401, "{value}");
    }
    // Tokens do not count in the query (A16 of the protocol).
    let query = Client::new(format!("{}?access_token={}", world.url("mcp"), support::stack::ALICE), None);
    assert_eq!(query.post(&[], "{}").await.status, 401);
}

#[tokio::test]
async fn g7_public_servers_need_no_token_private_ones_do() {
    let world = World::start().await;
    let open = Client::new(world.url("servers/open/mcp"), None);
    let (status, answer) = open.ask_modern("tools/list", json!({})).await;
    assert_eq!(status, 200);
    assert!(!answer["result"]["tools"].as_array().unwrap().is_empty());
    let params = json!({"name": "test_simple_text", "arguments": {}});
    let (status, answer) = open.ask_modern("tools/call", params.clone()).await;
    assert_eq!(status, 200);
    assert!(answer["result"]["content"][0]["text"].is_string());
    let mut legacy = open.clone();
    legacy.initialize(LEGACY, &json!({})).await;
    assert_eq!(legacy.ask("tools/call", params.clone()).await.0, 200);
    // Anonymous writes stay unknown.
    let write = json!({"name": "test_write_note", "arguments": {"text": "x"}});
    let (status, answer) = open.ask_modern("tools/call", write).await;
    assert_eq!((status, &answer["error"]["code"]), (200, &json!(-32602)));
    let private = Client::new(world.url("servers/fix/mcp"), None);
    assert_eq!(private.modern(&json!(1), "tools/call", &params).await.status, 401);
}

#[tokio::test]
async fn a18_the_inbound_token_never_goes_upstream() {
    let world = World::start().await;
    let params = json!({"name": "test_simple_text", "arguments": {}});
    assert_eq!(world.client("servers/fix/mcp").ask_modern("tools/call", params.clone()).await.0, 200);
    assert_eq!(Client::opened(world.url("mcp"), Some(support::stack::ALICE)).await.ask("ping", json!({})).await.0, 200);
    let recorded = world.fixture.stats().recorded();
    assert!(!recorded.is_empty());
    for request in recorded {
        assert!(!request.contains(support::stack::ALICE), "{request:?}");
    }
}

#[tokio::test]
async fn p26_unknown_endpoints_and_those_of_others_are_404() {
    let world = World::start().await;
    for path in
        ["servers/nothing/mcp", "servers/hidden/mcp", "portals/nothing/mcp", "portals/staff/mcp", "", "mcp/", "x"]
    {
        let reply = world.client(path).modern(&json!(1), "tools/list", &json!({})).await;
        assert_eq!(reply.status, 404, "{path}");
        assert!(reply.header("x-request-id").is_some());
    }
    let bob = Client::new(world.url("portals/staff/mcp"), Some(support::stack::BOB));
    assert_eq!(bob.modern(&json!(1), "tools/list", &json!({})).await.status, 200);
}

/// The answer to calling a tool, in both eras and at both kinds of endpoint.
async fn everywhere(world: &World, name: &str, arguments: Value) -> Vec<(u16, Value)> {
    let mut answers = Vec::new();
    for (path, prefix) in [("servers/fix/mcp", ""), ("mcp", "fix_")] {
        let params = json!({"name": format!("{prefix}{name}"), "arguments": arguments});
        answers.push(world.client(path).ask_modern("tools/call", params.clone()).await);
        let legacy = Client::opened(world.url(path), Some(support::stack::ALICE)).await;
        answers.push(legacy.ask("tools/call", params).await);
    }
    answers
}

#[tokio::test]
async fn p26_unknown_and_forbidden_tools_look_the_same() {
    let world = World::start().await;
    for name in ["no_such_tool", "test_delete_notes", "test_elicitation_sep1330_enums"] {
        for (place, (status, answer)) in everywhere(&world, name, json!({})).await.into_iter().enumerate() {
            assert_eq!(status, 200);
            let shown = if place < 2 { name.to_owned() } else { format!("fix_{name}") };
            assert_eq!(answer["error"], json!({"code": -32602, "message": format!("Unknown tool: {shown}")}));
        }
        assert_eq!(world.fixture.stats().of(&format!("tool:{name}")), 0);
    }
}

#[tokio::test]
async fn p26_a_visible_tool_refused_is_a_tool_result_with_the_decision() {
    let world = World::start().await;
    for (place, (status, answer)) in
        everywhere(&world, "test_echo", json!({"secret": true})).await.into_iter().enumerate()
    {
        assert_eq!(status, 200, "{answer}");
        let result = &answer["result"];
        assert_eq!(result["isError"], true, "{answer}");
        assert_eq!(result["content"].as_array().unwrap().len(), 1);
        let decision = &result["_meta"]["bartizan/decision"];
        assert_eq!(decision["code"], "policy_denied");
        assert!(decision["rule"].as_str().unwrap().contains("no-secrets"), "{decision}");
        assert_eq!(decision["event_id"].as_str().unwrap().len(), 36);
        assert_eq!(result.get("resultType").is_some(), place % 2 == 0);
    }
    assert_eq!(world.fixture.stats().of("tool:test_echo"), 0);
    for (_, answer) in everywhere(&world, "test_echo", json!({"secret": false})).await {
        assert_ne!(answer["result"]["isError"], true, "{answer}");
    }
}

#[tokio::test]
async fn p26_the_request_id_of_a_refusal_is_its_event() {
    let world = World::start().await;
    let params = json!({"name": "test_echo", "arguments": {"secret": true}});
    let reply = world.client("servers/fix/mcp").modern(&json!(1), "tools/call", &params).await;
    let id = reply.header("x-request-id").unwrap().to_owned();
    let answer = reply.json().await.unwrap();
    assert_eq!(answer["result"]["_meta"]["bartizan/decision"]["event_id"], id);
}

#[tokio::test]
async fn p26_unknown_resources_and_prompts() {
    let world = World::start().await;
    let modern = world.client("servers/fix/mcp");
    let legacy = Client::opened(world.url("servers/fix/mcp"), Some(support::stack::ALICE)).await;
    let uri = json!({"uri": "test://no-such"});
    let (status, answer) = modern.ask_modern("resources/read", uri.clone()).await;
    assert_eq!((status, &answer["error"]["code"]), (200, &json!(-32602)));
    assert_eq!(answer["error"]["data"]["uri"], "test://no-such");
    let (status, answer) = legacy.ask("resources/read", uri).await;
    assert_eq!((status, &answer["error"]["code"]), (200, &json!(-32002)));
    for (status, answer) in [
        modern.ask_modern("prompts/get", json!({"name": "nope"})).await,
        legacy.ask("prompts/get", json!({"name": "nope"})).await,
    ] {
        assert_eq!((status, &answer["error"]["message"]), (200, &json!("Unknown prompt: nope")));
    }
}

#[tokio::test]
async fn p26_too_many_calls_of_a_visible_tool() {
    let world = World::start().await;
    let client = world.client("servers/fix/mcp");
    let params = json!({"name": "test_structured", "arguments": {}});
    assert_ne!(client.ask_modern("tools/call", params.clone()).await.1["result"]["isError"], true);
    let (status, answer) = client.ask_modern("tools/call", params).await;
    assert_eq!(status, 200);
    let decision = &answer["result"]["_meta"]["bartizan/decision"];
    assert_eq!(decision["code"], "rate_limited", "{answer}");
    assert!(decision["retry_after_s"].as_u64().unwrap() >= 1);
}

#[tokio::test]
async fn p26_a_flood_on_one_endpoint_is_429() {
    let world = World::start().await;
    let client = world.client("servers/slow/mcp");
    let mut last = client.modern(&json!(0), "tools/list", &json!({})).await;
    for n in 1..10 {
        last = client.modern(&json!(n), "tools/list", &json!({})).await;
        if last.status != 200 {
            break;
        }
    }
    assert_eq!(last.status, 429);
    assert!(last.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert!(last.json().await.unwrap()["id"].is_number());
}

#[tokio::test]
async fn o11_floods_of_discovery_and_subscriptions_are_429() {
    for method in ["server/discover", "subscriptions/listen"] {
        let world = World::start().await;
        let client = world.client("servers/slow/mcp");
        let mut statuses = Vec::new();
        for n in 0..3 {
            let reply = client.modern(&json!(n), method, &json!({"notifications": {}})).await;
            statuses.push(reply.status);
            assert_eq!(reply.header("retry-after").is_some(), reply.status == 429, "{method}");
        }
        assert_eq!(statuses, [200, 200, 429], "{method}");
    }
    let world = World::start().await;
    let mut client = world.client("servers/slow/mcp");
    // One of two requests is the introduction.
    client.initialize("2025-11-25", &json!({})).await;
    let subscribe = |uri: &'static str| json!({"uri": uri});
    let (_, answer) = client.ask("resources/subscribe", subscribe("test://static-text")).await;
    assert_ne!(answer["error"]["code"], 429, "{answer}");
    let (status, answer) = client.ask("resources/subscribe", subscribe("test://static-text")).await;
    assert_eq!((status, &answer["error"]["code"]), (429, &json!(429)), "{answer}");
    assert_eq!(answer["error"]["data"]["bartizan/decision"]["code"], "rate_limited", "{answer}");
}

#[tokio::test]
async fn p26_a_dead_server_is_a_refusal_not_a_5xx() {
    let world = World::start().await;
    let params = json!({"name": "anything", "arguments": {}});
    for (status, answer) in [
        world.client("servers/dead/mcp").ask_modern("tools/call", params.clone()).await,
        world.client("servers/dead/mcp").ask_modern("tools/list", json!({})).await,
    ] {
        assert!(status < 500, "{answer}");
        assert!(answer.get("result").is_none_or(|result| result["isError"] == true), "{answer}");
    }
    // The others behind the same portal are not harmed.
    let (status, answer) = world.client("mcp").ask_modern("tools/list", json!({})).await;
    assert_eq!(status, 200);
    let tools = answer["result"]["tools"].as_array().unwrap();
    assert!(tools.iter().any(|tool| tool["name"] == "fix_test_simple_text"));
}

#[tokio::test]
async fn p26_every_answer_has_a_request_id_and_no_answer_leaks_json_to_browsers() {
    let world = World::start().await;
    let html = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    for (path, token) in [("mcp", None), ("servers/fix/mcp", None), ("mcp", Some("wrong"))] {
        let client = Client::new(world.url(path), token);
        let reply = client.send(http::Method::GET, &html, "").await;
        assert_eq!(reply.status, 405);
        assert!(reply.header("x-request-id").is_some());
        assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(reply.header("content-security-policy").is_some());
        let page = reply.text().await.unwrap();
        assert!(page.contains(&world.url(path)) && !page.contains("invalid"));
    }
}

#[tokio::test]
async fn p26_malformed_params() {
    let world = World::start().await;
    let legacy = Client::opened(world.url("servers/fix/mcp"), Some(support::stack::ALICE)).await;
    for (method, params) in [
        ("tools/call", json!({})),
        ("tools/call", json!({"name": 7})),
        ("tools/call", json!({"name": "test_echo", "arguments": []})),
        ("resources/read", json!({})),
        ("logging/setLevel", json!({"level": "loud"})),
        ("logging/setLevel", json!({})),
        ("resources/subscribe", json!({})),
        ("completion/complete", json!({})),
    ] {
        let (status, answer) = legacy.ask(method, params.clone()).await;
        assert_eq!((status, &answer["error"]["code"]), (200, &json!(-32602)), "{method} {params}");
        if method.starts_with("logging") || method.ends_with("subscribe") {
            continue;
        }
        let reply = world.client("servers/fix/mcp").modern(&json!(1), method, &params).await;
        let (status, answer) = response(reply, &json!(1)).await;
        assert!(status == 400 && answer["error"]["code"].as_i64().unwrap() < -32000, "{method} {params}: {answer}");
    }
}
