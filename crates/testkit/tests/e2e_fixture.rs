//! The fixture by itself: strict in its era, and conformant without anything in front of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use bartizan_testkit::client::{Identity, LegacyClient, ModernClient};
use bartizan_testkit::conformance::{self, LEGACY, MODERN};
use bartizan_testkit::faulty::{Fault, Faulty};
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::http::Http;
use bartizan_testkit::tools::{self, Part};
use http::Method;
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

const JSON: &[(&str, &str)] =
    &[("content-type", "application/json"), ("accept", "application/json, text/event-stream")];

async fn post(url: &str, more: &[(&str, &str)], body: Value) -> (u16, Value) {
    let headers: Vec<(&str, &str)> = JSON.iter().chain(more).copied().collect();
    let reply = Http::new().send(Method::POST, url, &headers, body.to_string()).await.unwrap();
    let status = reply.status;
    (status, reply.json().await.unwrap())
}

async fn fixture(era: Era) -> Fixture {
    Fixture::start(Options::of(era)).await.unwrap()
}

#[tokio::test]
async fn fixture_legacy_only_refuses_a_discover_and_a_missing_session() {
    let fixture = fixture(Era::Legacy).await;
    let discover = json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }}});
    let (status, body) = post(&fixture.url(), &[("mcp-protocol-version", "2026-07-28")], discover).await;
    assert_eq!((status, body["error"]["code"].as_i64()), (400, Some(-32000)));
    let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"});
    assert_eq!(post(&fixture.url(), &[], list.clone()).await.0, 400);
    assert_eq!(post(&fixture.url(), &[("mcp-session-id", "unknown")], list).await.0, 404);
}

#[tokio::test]
async fn fixture_modern_only_refuses_the_handshake_and_get() {
    let fixture = fixture(Era::Modern).await;
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
    let (status, body) = post(&fixture.url(), &[], initialize).await;
    assert_eq!((status, body["error"]["code"].as_i64()), (400, Some(-32602)));
    let problem =
        ModernClient::new(&fixture.url(), Identity::default()).once("initialize", json!({})).await.unwrap_err();
    assert_eq!((problem.status, problem.code), (404, -32601));
    let reply = Http::new().send(Method::GET, &fixture.url(), &[("accept", "text/event-stream")], "").await.unwrap();
    assert_eq!(reply.status, 405);
}

#[tokio::test]
async fn fixture_legacy_asks_under_the_keys_as_string_ids() {
    let fixture = fixture(Era::Legacy).await;
    let client = LegacyClient::connect(&fixture.url(), Identity::default()).await.unwrap();
    let done = client.call("test_input_required_result_multi_round", json!({})).await.unwrap();
    assert_eq!(done.text(), "Ada likes Ada");
    let done = client.call("test_input_required_result_multiple_inputs", json!({})).await.unwrap();
    assert!(done.text().starts_with("Paris Ada"), "{}", done.text());
    assert_eq!(client.close().await.unwrap(), 204);
    let problem = client.request("ping", json!({})).await.unwrap_err();
    assert_eq!(problem.status, 404);
}

#[tokio::test]
async fn fixture_modern_refuses_a_changed_state_and_asks_again_for_missing_answers() {
    let fixture = fixture(Era::Modern).await;
    let client = ModernClient::new(&fixture.url(), Identity::default());
    let params = json!({"name": "test_input_required_result_tampered_state", "arguments": {}});
    let asked = client.once("tools/call", params.clone()).await.unwrap().result;
    let mut retry = client.retry(&params, &asked);
    assert!(client.once("tools/call", retry.clone()).await.is_ok());
    retry["requestState"] = json!(format!("{}x", retry["requestState"].as_str().unwrap()));
    assert_eq!(client.once("tools/call", retry).await.unwrap_err().code, -32602);
    let wrong = json!({"name": "test_input_required_result_elicitation", "arguments": {}, "inputResponses": {"x": {}}});
    assert_eq!(client.once("tools/call", wrong).await.unwrap().result["resultType"], "input_required");
}

#[tokio::test]
async fn fixture_modern_checks_mirrored_headers() {
    let fixture = fixture(Era::Modern).await;
    let client = ModernClient::new(&fixture.url(), Identity::default());
    let params = json!({"name": "test_header_echo", "arguments": {"region": "Zürich"}});
    let problem = client.once("tools/call", params.clone()).await.unwrap_err();
    assert_eq!((problem.status, problem.code), (400, -32020));
    let header = ("mcp-param-region".to_owned(), "=?base64?WsO8cmljaA==?=".to_owned());
    let done = client.once_with("tools/call", params, &[header]).await.unwrap();
    assert_eq!(done.text(), "region=Zürich");
}

#[tokio::test]
async fn fixture_pages_its_lists_with_opaque_cursors() {
    let options = Options { page_size: 7, extra_tools: 30, ..Options::of(Era::Both) };
    let fixture = Fixture::start(options).await.unwrap();
    let legacy = LegacyClient::connect(&fixture.url(), Identity::default()).await.unwrap();
    let modern = ModernClient::new(&fixture.url(), Identity::default());
    let names = fixture.tool_names();
    assert!(names.len() > 60);
    assert_eq!(legacy.tools().await.unwrap(), names);
    assert_eq!(modern.tools().await.unwrap(), names);
    let problem = legacy.request("tools/list", json!({"cursor": "made-up"})).await.unwrap_err();
    assert_eq!(problem.code, -32602);
}

#[tokio::test]
async fn fixture_tells_listeners_of_both_eras() {
    let fixture = fixture(Era::Both).await;
    let legacy = LegacyClient::connect(&fixture.url(), Identity::default()).await.unwrap();
    let mut stream = legacy.stream(None).await.unwrap();
    let modern = ModernClient::new(&fixture.url(), Identity::default());
    let mut listening = modern.listen(json!({"toolsListChanged": true})).await.unwrap();
    fixture.change_tools();
    let method = "notifications/tools/list_changed";
    assert_eq!(stream.message().await.unwrap().unwrap()["method"], method);
    assert_eq!(listening.events.message().await.unwrap().unwrap()["method"], method);
}

#[tokio::test]
async fn fixture_counts_a_cancellation_in_both_eras() {
    let fixture = fixture(Era::Both).await;
    let modern = ModernClient::new(&fixture.url(), Identity::default());
    let open = tokio::time::timeout(
        std::time::Duration::from_millis(300),
        modern.open("tools/call", json!({"name": "test_slow", "arguments": {"ms": 30_000}})),
    );
    assert!(open.await.is_err(), "the slow call answered at once");
    let limit = std::time::Duration::from_secs(5);
    bartizan_testkit::wait::until("a cancellation", limit, async || fixture.stats().of("cancelled") == 1)
        .await
        .unwrap();
    assert_eq!(fixture.stats().of("slow-finished"), 0);
}

#[tokio::test]
async fn faulty_upstream_misbehaves_only_where_told() {
    let faulty = Faulty::start().await.unwrap();
    let client = LegacyClient::connect(&faulty.url(), Identity::default()).await.unwrap();
    assert_eq!(client.call("ping_tool", json!({})).await.unwrap().text(), "pong");
    faulty.fail("tools/call", Fault::Status(503));
    assert_eq!(client.call("ping_tool", json!({})).await.unwrap_err().status, 503);
    assert_eq!(client.tools().await.unwrap(), ["ping_tool"]);
    for fault in [Fault::Reset, Fault::Truncate, Fault::Garbage, Fault::WrongId, Fault::EmptyStream] {
        faulty.fail("tools/call", fault.clone());
        let done = client.call("ping_tool", json!({})).await;
        // This simple client does not compare the id of a lone response.
        assert!(done.is_err() || fault == Fault::WrongId, "{fault:?} went unnoticed");
    }
    faulty.heal();
    assert_eq!(client.call("ping_tool", json!({})).await.unwrap().text(), "pong");
}

/// Sends lines to the fixture over stdio and returns the responses by id.
async fn over_stdio(era: &str, lines: &[Value], ids: usize) -> Vec<Value> {
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_fixture"))
        .args(["--stdio", "--era", era])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    for line in lines {
        stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        if line.get("id").is_some() {
            let limit = std::time::Duration::from_secs(10);
            let line = tokio::time::timeout(limit, answers.next_line()).await.unwrap().unwrap().unwrap();
            seen.push(serde_json::from_str(&line).unwrap());
        }
    }
    drop(stdin);
    let status = tokio::time::timeout(std::time::Duration::from_secs(10), child.wait()).await.unwrap().unwrap();
    assert!(status.success());
    assert_eq!(seen.len(), ids);
    seen
}

#[tokio::test]
async fn fixture_speaks_both_eras_over_stdio() {
    let open = json!({"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "t", "version": "1"}});
    let call = json!({"name": "test_input_required_result_elicitation", "arguments": {}});
    let legacy = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": open}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}),
        json!({"jsonrpc": "2.0", "id": "user_name", "result": {"action": "accept", "content": {"name": "Ada"}}}),
    ];
    let seen = over_stdio("legacy", &legacy, 3).await;
    assert_eq!(seen[0]["result"]["protocolVersion"], "2025-11-25");
    assert_eq!((&seen[1]["id"], &seen[1]["method"]), (&json!("user_name"), &json!("elicitation/create")));
    assert_eq!(seen[2]["result"]["content"][0]["text"], "Hello, Ada!");
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
    });
    let mut asking = call.clone();
    asking["_meta"] = meta.clone();
    let modern = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": meta}}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": asking}),
        json!({"jsonrpc": "2.0", "id": 3, "method": "initialize", "params": open}),
    ];
    let seen = over_stdio("modern", &modern, 3).await;
    assert_eq!(seen[0]["result"]["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(seen[1]["result"]["resultType"], "input_required");
    assert_eq!(seen[2]["error"]["code"], -32602);
}

#[tokio::test]
async fn fixture_speaks_http_and_sse() {
    let fixture = fixture(Era::Legacy).await;
    let http = Http::new();
    let headers = [("accept", "text/event-stream")];
    let mut events = http.send(Method::GET, &fixture.sse_url(), &headers, "").await.unwrap().events();
    let endpoint = events.next().await.unwrap().unwrap();
    assert_eq!(endpoint.name.as_deref(), Some("endpoint"));
    let url = format!("http://127.0.0.1:{}{}", fixture.port(), endpoint.data.unwrap());
    let params =
        json!({"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
    let reply = http.send(Method::POST, &url, JSON, initialize.to_string()).await.unwrap();
    assert_eq!(reply.status, 202);
    assert_eq!(events.message().await.unwrap().unwrap()["result"]["protocolVersion"], "2024-11-05");
    drop(events);
    let limit = std::time::Duration::from_secs(5);
    bartizan_testkit::wait::until("the session ends", limit, async || fixture.open_sessions() == 0).await.unwrap();
}

async fn direct(test: &str, era: Era, set: &str, total: u64) {
    if !tools::ready(test, &[Part::Npm]) {
        return;
    }
    let fixture = fixture(era).await;
    let report = conformance::run(&fixture.url(), set).await.unwrap();
    assert_eq!((report.passed, report.total, report.complaints), (total, total, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn fixture_conformance_direct_legacy() {
    direct("fixture_conformance_direct_legacy", Era::Legacy, LEGACY, 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fixture_conformance_direct_modern() {
    direct("fixture_conformance_direct_modern", Era::Modern, MODERN, 37).await;
}
