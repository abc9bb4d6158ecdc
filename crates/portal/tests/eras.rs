//! Row P7, downstream: every line of the table that tells the eras apart (protocol 4.1).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails")]

mod support;

use bartizan_testkit::fixture::Era;
use serde_json::{Value, json};
use support::stack::{ALICE, Setup};
use support::{Client, LEGACY, MODERN, World, modern_body, modern_headers};

async fn world() -> World {
    World::start().await
}

async fn send(client: &Client, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
    let reply = client.post(headers, body.to_string()).await;
    (reply.status, reply.json().await.unwrap())
}

fn ping() -> Value {
    json!({"jsonrpc": "2.0", "id": 5, "method": "ping"})
}

#[tokio::test]
async fn p7_meta_version_without_or_with_another_header_is_a_header_mismatch() {
    let world = world().await;
    let client = world.client("servers/fix/mcp");
    let body = modern_body(&json!(5), "tools/list", &json!({}), json!({}));
    let no_header = [("mcp-method", "tools/list")];
    let other = [("mcp-method", "tools/list"), ("mcp-protocol-version", LEGACY)];
    let twice = [("mcp-method", "tools/list"), ("mcp-protocol-version", MODERN), ("mcp-protocol-version", MODERN)];
    for headers in [&no_header[..], &other[..], &twice[..]] {
        let (status, answer) = send(&client, headers, &body).await;
        assert_eq!((status, &answer["error"]["code"], &answer["id"]), (400, &json!(-32020), &json!(5)), "{headers:?}");
    }
}

#[tokio::test]
async fn p7_versions_not_served_in_this_form_are_unsupported() {
    let world = world().await;
    let client = world.client("servers/fix/mcp");
    for version in [LEGACY, "2027-01-01", "1999-01-01"] {
        let more = json!({"io.modelcontextprotocol/protocolVersion": version});
        let body = modern_body(&json!("x"), "tools/list", &json!({}), more);
        let headers = [("mcp-method", "tools/list"), ("mcp-protocol-version", version)];
        let (status, answer) = send(&client, &headers, &body).await;
        assert_eq!((status, &answer["error"]["code"], &answer["id"]), (400, &json!(-32022), &json!("x")), "{version}");
        assert_eq!(answer["error"]["data"]["supported"], json!([MODERN]));
        assert_eq!(answer["error"]["data"]["requested"], version);
    }
    let (_, discovered) = client.ask_modern("server/discover", json!({})).await;
    assert_eq!(discovered["result"]["supportedVersions"], json!([MODERN]));
}

#[tokio::test]
async fn p7_legacy_methods_do_not_exist_in_the_modern_era() {
    let world = world().await;
    let client = world.client("servers/fix/mcp");
    let methods = [
        (
            "initialize",
            json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}),
        ),
        ("ping", json!({})),
        ("logging/setLevel", json!({"level": "info"})),
        ("resources/subscribe", json!({"uri": "test://static-text"})),
        ("resources/unsubscribe", json!({"uri": "test://static-text"})),
        ("sampling/createMessage", json!({})),
        ("no/such/method", json!({})),
    ];
    for (method, params) in methods {
        let (status, answer) = client.ask_modern(method, params).await;
        assert_eq!((status, &answer["error"]["code"]), (404, &json!(-32601)), "{method}");
        assert_eq!(answer["id"], 1);
    }
}

#[tokio::test]
async fn p7_a_modern_header_without_meta_is_invalid() {
    let world = world().await;
    let client = world.client("servers/fix/mcp");
    for version in [MODERN, "2027-01-01"] {
        let (status, answer) = send(&client, &[("mcp-protocol-version", version)], &ping()).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32602)), "{version}");
    }
}

#[tokio::test]
async fn p7_initialize_opens_a_session_whatever_the_header() {
    let world = world().await;
    let client = world.client("servers/fix/mcp");
    for (asked, given) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        (LEGACY, LEGACY),
        (MODERN, LEGACY),
        ("1.0", LEGACY),
    ] {
        let mut client = client.clone();
        let result = client.initialize(asked, &json!({})).await;
        assert_eq!(result["protocolVersion"], given);
        assert!(result["serverInfo"]["name"].is_string());
        assert!(result["capabilities"]["tools"].is_object());
        assert!(result.get("resultType").is_none());
        let session = client.session.clone().unwrap();
        assert!(session.len() >= 32 && session.bytes().all(|b| (0x21..=0x7e).contains(&b)));
        assert_eq!(client.ask("ping", json!({})).await, (200, json!({"jsonrpc": "2.0", "id": 1, "result": {}})));
    }
}

#[tokio::test]
async fn p7_without_session_and_meta_both_eras_are_named() {
    let world = world().await;
    let client = world.client("servers/fix/mcp");
    for headers in [&[][..], &[("mcp-protocol-version", "2025-06-18")][..]] {
        let (status, answer) = send(&client, headers, &ping()).await;
        assert_eq!((status, &answer["id"]), (400, &json!(5)));
        let text = answer["error"]["message"].as_str().unwrap();
        assert!(text.contains("initialize") && text.contains("_meta"), "{text}");
    }
}

#[tokio::test]
async fn p7_a_version_header_that_is_no_version() {
    let world = world().await;
    let mut client = world.client("servers/fix/mcp");
    client.initialize(LEGACY, &json!({})).await;
    for version in ["banana", "2025-11-26x", "", "1900-01-01"] {
        let (status, answer) = send(&client, &[("mcp-protocol-version", version)], &ping()).await;
        assert_eq!(status, 400, "{version}: {answer}");
    }
}

#[tokio::test]
async fn p7_required_meta() {
    let world = world().await;
    let client = world.client("servers/fix/mcp");
    let headers = modern_headers("tools/list", &json!({}));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for (key, value) in [
        ("io.modelcontextprotocol/clientCapabilities", Value::Null),
        ("io.modelcontextprotocol/clientCapabilities", json!([])),
        ("io.modelcontextprotocol/logLevel", json!("loud")),
        ("io.modelcontextprotocol/logLevel", json!(7)),
        ("progressToken", json!({})),
    ] {
        let mut body = modern_body(&json!(5), "tools/list", &json!({}), json!({key: value}));
        if value.is_null() {
            body["params"]["_meta"].as_object_mut().unwrap().remove(key);
        }
        let (status, answer) = send(&client, &headers, &body).await;
        assert_eq!(
            (status, &answer["error"]["code"], &answer["id"]),
            (400, &json!(-32602), &json!(5)),
            "{key} {value}"
        );
    }
    // Who the client is may be left out.
    let mut body = modern_body(&json!(5), "tools/list", &json!({}), json!({}));
    body["params"]["_meta"].as_object_mut().unwrap().remove("io.modelcontextprotocol/clientInfo");
    assert_eq!(send(&client, &headers, &body).await.0, 200);
}

#[tokio::test]
async fn p33_headers_must_say_what_the_body_says() {
    let world = world().await;
    let client = world.client("servers/fix/mcp");
    let params = json!({"name": "test_simple_text", "arguments": {}});
    let body = modern_body(&json!(5), "tools/call", &params, json!({}));
    let version = ("mcp-protocol-version", MODERN);
    let rows: &[&[(&str, &str)]] = &[
        &[version],
        &[version, ("mcp-method", "tools/call")],
        &[version, ("mcp-method", "tools/list"), ("mcp-name", "test_simple_text")],
        &[version, ("mcp-method", "TOOLS/CALL"), ("mcp-name", "test_simple_text")],
        &[version, ("mcp-method", "tools/call"), ("mcp-name", "test_delete_notes")],
        &[version, ("mcp-method", "tools/call"), ("mcp-name", "=?base64?!!?=")],
        &[version, ("mcp-method", "tools/call"), ("mcp-name", "test_simple_text"), ("mcp-name", "test_simple_text")],
    ];
    for headers in rows {
        let (status, answer) = send(&client, headers, &body).await;
        assert_eq!((status, &answer["error"]["code"], &answer["id"]), (400, &json!(-32020), &json!(5)), "{headers:?}");
    }
    let coded = [version, ("mcp-method", "tools/call"), ("mcp-name", "=?base64?dGVzdF9zaW1wbGVfdGV4dA==?=")];
    assert_eq!(send(&client, &coded, &body).await.0, 200);
    assert_eq!(world.fixture.stats().of("tool:test_delete_notes"), 0);
    assert_eq!(world.fixture.stats().of("tool:test_simple_text"), 1);
}

#[tokio::test]
async fn p7_modern_clients_send_no_responses_and_need_no_answer_to_notifications() {
    let world = world().await;
    let client = world.client("servers/fix/mcp");
    let meta = modern_body(&json!(5), "x", &json!({}), json!({}))["params"].clone();
    let note = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": meta});
    let version = [("mcp-protocol-version", MODERN)];
    let reply = client.post(&version, note.to_string()).await;
    assert_eq!(reply.status, 202);
    let response = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
    assert_eq!(client.post(&version, response.to_string()).await.status, 400);
}

#[tokio::test]
async fn p7_get_and_delete_without_session_are_not_allowed() {
    let world = world().await;
    let client = world.client("servers/fix/mcp");
    for method in [http::Method::GET, http::Method::DELETE, http::Method::PUT, http::Method::HEAD] {
        let reply = client.send(method.clone(), &[("accept", "text/event-stream")], "").await;
        assert_eq!(reply.status, 405, "{method}");
        assert!(reply.header("allow").is_some_and(|allow| allow.contains("POST")));
    }
}

#[tokio::test]
async fn p7_a_modern_request_ignores_session_headers() {
    let world = world().await;
    let mut client = world.client("servers/fix/mcp");
    client.session = Some("nonsense".to_owned());
    let reply = client.modern_meta(&json!(1), "tools/list", &json!({}), json!({})).await;
    assert_eq!(reply.status, 200);
    assert!(reply.header("mcp-session-id").is_none());
}

#[tokio::test]
async fn p7_capabilities_decide_which_methods_exist() {
    let world = world().await;
    // The bare server offers tools only.
    let client = world.client("servers/bare/mcp");
    let (_, discovered) = client.ask_modern("server/discover", json!({})).await;
    let capabilities = &discovered["result"]["capabilities"];
    assert!(capabilities["tools"].is_object() && capabilities.get("prompts").is_none(), "{discovered}");
    for method in ["prompts/list", "resources/list", "resources/templates/list"] {
        let (status, answer) = client.ask_modern(method, json!({})).await;
        assert_eq!((status, &answer["error"]["code"]), (404, &json!(-32601)), "{method}");
    }
    assert_eq!(client.ask_modern("tools/list", json!({})).await.0, 200);
    let mut legacy = world.client("servers/bare/mcp");
    legacy.initialize(LEGACY, &json!({})).await;
    for method in ["prompts/list", "resources/list"] {
        let (status, answer) = legacy.ask(method, json!({})).await;
        assert_eq!((status, &answer["error"]["code"]), (200, &json!(-32601)), "{method}");
    }
    let (_, answer) = legacy.ask("logging/setLevel", json!({"level": "info"})).await;
    assert_eq!(answer["error"]["code"], -32601);
}

#[tokio::test]
async fn p7_batches_only_for_the_revision_that_has_them() {
    let world = world().await;
    let mut client = world.client("servers/fix/mcp");
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}},
        {"jsonrpc": "2.0", "id": "two", "method": "tools/call", "params": {"name": "test_simple_text", "arguments": {}}},
        {"jsonrpc": "2.0", "id": 3, "method": "no/such"},
    ]);
    client.initialize(LEGACY, &json!({})).await;
    let (status, answer) = send(&client, &[], &batch).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32600)));
    let without_session = Client { session: None, ..client.clone() };
    assert_eq!(send(&without_session, &[], &batch).await.0, 400);

    client.initialize("2025-03-26", &json!({})).await;
    let (status, answer) = send(&client, &[], &batch).await;
    assert_eq!(status, 200);
    let answers = answer.as_array().unwrap();
    assert_eq!(answers.len(), 3);
    let of = |id: Value| answers.iter().find(|answer| answer["id"] == id).unwrap();
    assert_eq!(of(json!(1))["result"], json!({}));
    assert_eq!(of(json!("two"))["result"]["content"][0]["type"], "text");
    assert_eq!(of(json!(3))["error"]["code"], -32601);

    let notes = json!([{"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}]);
    assert_eq!(client.post(&[], notes.to_string()).await.status, 202);
    for bad in [json!([]), json!([1]), json!([{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}])] {
        assert_eq!(send(&client, &[], &bad).await.0, 400, "{bad}");
    }
    let progress = json!([{"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params":
        {"name": "test_tool_with_progress", "arguments": {}, "_meta": {"progressToken": "p"}}}, ping()]);
    let mut events = client.post(&[], progress.to_string()).await.events();
    let (mut seen, mut answered) = (0, 0);
    while let Some(message) = events.message().await.unwrap() {
        seen += usize::from(message["params"]["progressToken"] == "p");
        answered += usize::from(message.get("result").is_some());
    }
    assert_eq!((seen, answered), (3, 2));
}

/// Only modern clients have rounds. What a legacy one calls a request state was sealed by
/// nobody, and must not reach a server that may have made it for somebody else.
#[tokio::test]
async fn p7_the_request_state_of_a_legacy_client_goes_nowhere() {
    for era in [Era::Legacy, Era::Modern] {
        let world = World::with(Setup { era, ..Setup::default() }).await;
        let client = Client::opened(world.url("servers/fix/mcp"), Some(ALICE)).await;
        world.fixture.stats().reset();
        let params = json!({"name": "test_simple_text", "arguments": {}, "requestState": "stolen-state",
            "inputResponses": {"who": {"action": "accept", "content": {"name": "stolen-answer"}}}});
        let (status, answer) = client.ask("tools/call", params).await;
        assert_eq!(status, 200);
        assert!(answer["result"]["content"][0]["text"].is_string(), "{era:?}: {answer}");
        let calls: Vec<_> =
            world.fixture.stats().recorded().into_iter().filter(|it| it.contains("tools/call")).collect();
        assert_eq!(calls.len(), 1, "{era:?}");
        for call in calls {
            for member in ["stolen-state", "stolen-answer", "requestState", "inputResponses"] {
                assert!(!call.contains(member), "{era:?}: {}", call.body);
            }
        }
    }
}
