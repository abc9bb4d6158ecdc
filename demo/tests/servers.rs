//! The demo servers over real HTTP, in the eras they claim.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use std::sync::Arc;

use bartizan_demo::{DemoServer, Eras};
use bartizan_model::{ManualClock, ToolClass};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

const NOW: i64 = 1_794_000_000_000;
const MODERN: &str = "2026-07-28";

async fn servers() -> Vec<DemoServer> {
    bartizan_demo::start(Arc::new(ManualClock::at(NOW))).await.unwrap()
}

fn of(servers: &[DemoServer], era: Eras) -> &DemoServer {
    servers.iter().find(|server| server.era == era).unwrap()
}

async fn send(
    server: &DemoServer,
    method: Method,
    headers: &[(&str, &str)],
    body: String,
) -> Response<hyper::body::Incoming> {
    let address = server.url.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri("/mcp");
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", address);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap()
}

async fn value(response: Response<hyper::body::Incoming>) -> (StatusCode, Value) {
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// A legacy client.
struct Session<'a> {
    server: &'a DemoServer,
    id: String,
}

impl<'a> Session<'a> {
    async fn open(server: &'a DemoServer, version: &str, capabilities: Value) -> (Self, Value) {
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize",
            "params": {"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}});
        let response = send(server, Method::POST, &[], body.to_string()).await;
        let id = response.headers().get("mcp-session-id").unwrap().to_str().unwrap().to_owned();
        let (status, body) = value(response).await;
        assert_eq!(status, StatusCode::OK);
        (Self { server, id }, body.pointer("/result").unwrap().clone())
    }

    async fn post(&self, body: &Value) -> Response<hyper::body::Incoming> {
        let headers = [("mcp-session-id", self.id.as_str()), ("accept", "application/json, text/event-stream")];
        send(self.server, Method::POST, &headers, body.to_string()).await
    }

    async fn request(&self, method: &str, params: Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        let (status, answer) = value(self.post(&body).await).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    async fn call(&self, name: &str, arguments: Value) -> Value {
        self.request("tools/call", json!({"name": name, "arguments": arguments})).await
    }
}

/// A modern request with all headers; `capabilities` of the client.
async fn modern(server: &DemoServer, method: &str, params: Value, capabilities: Value) -> (StatusCode, Value) {
    let mut params = params;
    let name = params.get("name").or_else(|| params.get("uri")).and_then(Value::as_str).unwrap_or("-").to_owned();
    params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": capabilities});
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    let headers = [("mcp-protocol-version", MODERN), ("mcp-method", method), ("mcp-name", name.as_str())];
    value(send(server, Method::POST, &headers, body.to_string()).await).await
}

#[tokio::test]
async fn u1_three_servers_with_enough_tools() {
    let servers = servers().await;
    assert_eq!(servers.iter().map(|s| s.id).collect::<Vec<_>>(), ["tracker", "wiki", "code"]);
    let count = |class| servers.iter().flat_map(|s| s.tools_of(class)).count();
    assert!(count(ToolClass::Read) >= 10);
    assert!(count(ToolClass::Write) >= 5);
    assert!(count(ToolClass::Destructive) >= 3);
    assert!(servers.iter().all(|s| s.url.starts_with("http://127.0.0.1:") && s.url.ends_with("/mcp")));
}

#[tokio::test]
async fn every_tool_is_described() {
    let servers = servers().await;
    let (session, _) = Session::open(of(&servers, Eras::Legacy), "2025-11-25", json!({})).await;
    let legacy = session.request("tools/list", json!({})).await;
    let (_, wiki) = modern(of(&servers, Eras::Modern), "tools/list", json!({}), json!({})).await;
    let (_, code) = modern(of(&servers, Eras::Both), "tools/list", json!({}), json!({})).await;
    let mut names = Vec::new();
    for list in [legacy, wiki, code] {
        for tool in list.pointer("/result/tools").unwrap().as_array().unwrap() {
            let description = tool["description"].as_str().unwrap();
            assert!((20..=1024).contains(&description.len()), "{tool}");
            assert_eq!(tool.pointer("/inputSchema/type").unwrap(), "object");
            for (_, property) in tool.pointer("/inputSchema/properties").unwrap().as_object().unwrap() {
                assert!(property["description"].as_str().is_some_and(|d| !d.is_empty()), "{tool}");
            }
            names.push(tool["name"].as_str().unwrap().to_owned());
        }
    }
    let declared: usize = servers.iter().map(|s| s.classes.len()).sum();
    assert_eq!(names.len(), declared);
}

#[tokio::test]
async fn legacy_versions_are_negotiated() {
    let servers = servers().await;
    for (asked, given) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("nonsense", "2025-11-25"),
    ] {
        let (_, result) = Session::open(of(&servers, Eras::Legacy), asked, json!({})).await;
        assert_eq!(result["protocolVersion"], given);
        assert!(result["serverInfo"]["name"].is_string());
    }
}

#[tokio::test]
async fn legacy_sessions_begin_and_end() {
    let servers = servers().await;
    let tracker = of(&servers, Eras::Legacy);
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let (status, _) = value(send(tracker, Method::POST, &[], list.to_string()).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let unknown = [("mcp-session-id", "0000")];
    let (status, _) = value(send(tracker, Method::POST, &unknown, list.to_string()).await).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (session, _) = Session::open(tracker, "2025-11-25", json!({})).await;
    assert_eq!(session.request("ping", json!({})).await["result"], json!({}));
    let own = [("mcp-session-id", session.id.as_str())];
    assert_eq!(send(tracker, Method::DELETE, &own, String::new()).await.status(), StatusCode::OK);
    assert_eq!(session.post(&list).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn legacy_only_refuses_modern_requests() {
    let servers = servers().await;
    let (status, answer) = modern(of(&servers, Eras::Legacy), "server/discover", json!({}), json!({})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let code = answer.pointer("/error/code").unwrap().as_i64().unwrap();
    assert!(![-32020, -32021, -32022].contains(&code), "a modern error would look like a modern server");
}

#[tokio::test]
async fn modern_only_refuses_initialize() {
    let servers = servers().await;
    let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}});
    let (status, _) = value(send(of(&servers, Eras::Modern), Method::POST, &[], body.to_string()).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, answer) = modern(of(&servers, Eras::Modern), "initialize", json!({}), json!({})).await;
    assert_eq!((status, answer.pointer("/error/code").unwrap()), (StatusCode::NOT_FOUND, &json!(-32601)));
    assert_eq!(
        send(of(&servers, Eras::Modern), Method::GET, &[], String::new()).await.status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test]
async fn modern_headers_must_agree() {
    let servers = servers().await;
    let wiki = of(&servers, Eras::Modern);
    let body = |version: &str| {
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "get_page",
            "arguments": {"slug": "on-call-guide"},
            "_meta": {"io.modelcontextprotocol/protocolVersion": version,
                "io.modelcontextprotocol/clientCapabilities": {}}}})
        .to_string()
    };
    let ok = [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", "get_page")];
    let coded =
        [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", "=?base64?Z2V0X3BhZ2U=?=")];
    for headers in [ok, coded] {
        let (status, answer) = value(send(wiki, Method::POST, &headers, body(MODERN)).await).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    for (headers, version, code) in [
        (&ok[1..], MODERN, -32020),
        (&[ok[0], ok[2]][..], MODERN, -32020),
        (&ok[..2], MODERN, -32020),
        (&[ok[0], ok[1], ("mcp-name", "delete_page")][..], MODERN, -32020),
        (&[("mcp-protocol-version", "2027-01-01"), ok[1], ok[2]][..], "2027-01-01", -32022),
    ] {
        let (status, answer) = value(send(wiki, Method::POST, headers, body(version)).await).await;
        assert_eq!((status, answer["error"]["code"].as_i64()), (StatusCode::BAD_REQUEST, Some(code)), "{answer}");
    }
}

#[tokio::test]
async fn modern_results_carry_their_members() {
    let servers = servers().await;
    let wiki = of(&servers, Eras::Modern);
    for (method, params) in [
        ("server/discover", json!({})),
        ("tools/list", json!({})),
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        ("prompts/list", json!({})),
        ("resources/read", json!({"uri": "wiki://pages/on-call-guide"})),
    ] {
        let (status, answer) = modern(wiki, method, params, json!({})).await;
        assert_eq!(status, StatusCode::OK);
        let result = &answer["result"];
        assert_eq!(result["resultType"], "complete", "{method}");
        assert!(result["ttlMs"].is_u64() && result["cacheScope"].is_string(), "{method}");
        assert!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"].is_string());
    }
    let (_, missing) = modern(wiki, "resources/read", json!({"uri": "wiki://pages/none"}), json!({})).await;
    assert_eq!(missing["error"]["code"], -32602);
    assert_eq!(missing["error"]["data"]["uri"], "wiki://pages/none");
}

#[tokio::test]
async fn tools_work_on_shared_state() {
    let servers = servers().await;
    let (session, _) = Session::open(of(&servers, Eras::Legacy), "2025-06-18", json!({})).await;
    let made = session.call("create_issue", json!({"project": "WEB", "title": "Typo on the start page"})).await;
    assert_eq!(made["result"]["structuredContent"]["key"], "WEB-7");
    let found = session.call("search_issues", json!({"query": "typo START"})).await;
    assert_eq!(found["result"]["structuredContent"]["total"], 1);
    let budget = session.call("request_budget", json!({"project": "WEB", "amount": 250, "reason": "Fonts"})).await;
    assert_eq!(budget["result"]["structuredContent"]["state"], "submitted");
    let gone = session.call("delete_issue", json!({"issue": "WEB-7"})).await;
    assert_eq!(gone["result"]["content"][0]["text"], "WEB-7 was deleted");
    let found = session.call("get_issue", json!({"issue": "WEB-7"})).await;
    assert_eq!(found["result"]["isError"], true);
}

#[tokio::test]
async fn bad_calls_are_answered_in_the_right_way() {
    let servers = servers().await;
    let (session, _) = Session::open(of(&servers, Eras::Both), "2025-11-25", json!({})).await;
    let unknown = session.call("nothing", json!({})).await;
    assert_eq!(unknown["error"]["code"], -32602);
    for (name, arguments) in [
        ("get_file", json!({})),
        ("get_file", json!({"repository": "shop-web", "path": "../../etc/passwd"})),
        ("get_file", json!({"repository": "no", "path": "README.md"})),
        ("list_commits", json!({"repository": "shop-web", "limit": 0})),
        ("merge_pull_request", json!({"repository": "shop-web", "number": 118})),
        ("create_branch", json!({"repository": "infra", "branch": "a;b"})),
        ("delete_branch", json!({"repository": "infra", "branch": "main"})),
    ] {
        assert_eq!(session.call(name, arguments).await["result"]["isError"], true, "{name}");
    }
}

#[tokio::test]
async fn steps_are_reported_as_progress_in_both_eras() {
    let servers = servers().await;
    let code = of(&servers, Eras::Both);
    let (session, _) = Session::open(code, "2025-11-25", json!({})).await;
    let params = json!({"name": "run_checks", "arguments": {"repository": "orders"}, "_meta": {"progressToken": "p1"}});
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params});
    let response = session.post(&body).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert_eq!(text.matches("notifications/progress").count(), 4);
    assert!(text.trim_end().lines().last().unwrap().contains("\"result\":\"passed\""), "{text}");
    let (status, answer) =
        modern(code, "tools/call", json!({"name": "run_checks", "arguments": {"repository": "orders"}}), json!({}))
            .await;
    assert_eq!((status, &answer["result"]["structuredContent"]["result"]), (StatusCode::OK, &json!("passed")));
}

#[tokio::test]
async fn modern_deletion_asks_first() {
    let servers = servers().await;
    let wiki = of(&servers, Eras::Modern);
    let call = json!({"name": "delete_page", "arguments": {"slug": "refund-rules"}});
    let can = json!({"elicitation": {"form": {}}});
    let (_, asked) = modern(wiki, "tools/call", call.clone(), can.clone()).await;
    assert_eq!(asked["result"]["resultType"], "input_required");
    assert_eq!(asked["result"]["inputRequests"]["confirm"]["method"], "elicitation/create");
    for (answer, text) in [
        (json!({"action": "decline"}), "refund-rules was kept"),
        (json!({"action": "accept", "content": {"confirm": false}}), "refund-rules was kept"),
        (json!({"action": "accept", "content": {"confirm": true}}), "refund-rules was deleted"),
    ] {
        let mut retry = call.clone();
        retry["inputResponses"] = json!({"confirm": answer});
        let (_, done) = modern(wiki, "tools/call", retry, can.clone()).await;
        assert_eq!(done["result"]["content"][0]["text"], text);
    }
}

#[tokio::test]
async fn legacy_deletion_asks_on_the_stream() {
    let servers = servers().await;
    let (session, _) = Session::open(of(&servers, Eras::Legacy), "2025-06-18", json!({"elicitation": {}})).await;
    let body = json!({"jsonrpc": "2.0", "id": "d", "method": "tools/call",
        "params": {"name": "delete_issue", "arguments": {"issue": "FIN-4"}}});
    let mut stream = session.post(&body).await.into_body();
    let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
    let first = String::from_utf8(first.to_vec()).unwrap();
    let question: Value = serde_json::from_str(first.split("data: ").nth(1).unwrap().trim()).unwrap();
    assert_eq!(question["method"], "elicitation/create");
    let answer = json!({"jsonrpc": "2.0", "id": question["id"],
        "result": {"action": "accept", "content": {"confirm": true}}});
    assert_eq!(session.post(&answer).await.status(), StatusCode::ACCEPTED);
    let rest = String::from_utf8(stream.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(rest.contains("FIN-4 was deleted"), "{rest}");
}

#[tokio::test]
async fn subscriptions_tell_of_changes_in_both_eras() {
    let servers = servers().await;
    let tracker = of(&servers, Eras::Legacy);
    let (session, _) = Session::open(tracker, "2025-11-25", json!({})).await;
    session.request("resources/subscribe", json!({"uri": "tracker://issues/WEB-1"})).await;
    let own = [("mcp-session-id", session.id.as_str()), ("accept", "text/event-stream")];
    let mut stream = send(tracker, Method::GET, &own, String::new()).await.into_body();
    session.call("add_comment", json!({"issue": "OPS-1", "body": "not subscribed"})).await;
    session.call("add_comment", json!({"issue": "WEB-1", "body": "hello"})).await;
    let event = stream.frame().await.unwrap().unwrap().into_data().unwrap();
    let event = String::from_utf8(event.to_vec()).unwrap();
    assert!(event.contains("resources/updated") && event.contains("WEB-1"), "{event}");

    let wiki = of(&servers, Eras::Modern);
    let listen = json!({"jsonrpc": "2.0", "id": 99, "method": "subscriptions/listen", "params": {
        "notifications": {"resourceSubscriptions": ["wiki://pages/on-call-guide"]},
        "_meta": {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}}});
    let headers = [("mcp-protocol-version", MODERN), ("mcp-method", "subscriptions/listen")];
    let mut stream = send(wiki, Method::POST, &headers, listen.to_string()).await.into_body();
    let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(String::from_utf8(first.to_vec()).unwrap().contains("subscriptions/acknowledged"));
    let edit = json!({"name": "update_page", "arguments": {"slug": "on-call-guide", "body": "new"}});
    modern(wiki, "tools/call", edit, json!({})).await;
    let event = String::from_utf8(stream.frame().await.unwrap().unwrap().into_data().unwrap().to_vec()).unwrap();
    assert!(event.contains("resources/updated") && event.contains("\"io.modelcontextprotocol/subscriptionId\":99"));
}

#[tokio::test]
async fn prompts_and_completion() {
    let servers = servers().await;
    let (session, _) = Session::open(of(&servers, Eras::Legacy), "2025-11-25", json!({})).await;
    let prompt = session.request("prompts/get", json!({"name": "triage", "arguments": {"project": "WEB"}})).await;
    assert!(prompt["result"]["messages"][0]["content"]["text"].as_str().unwrap().contains("WEB"));
    let missing = session.request("prompts/get", json!({"name": "triage"})).await;
    assert_eq!(missing["error"]["code"], -32602);
    let ask = json!({"ref": {"type": "ref/prompt", "name": "triage"}, "argument": {"name": "project", "value": "W"}});
    let completed = session.request("completion/complete", ask).await;
    assert_eq!(completed["result"]["completion"]["values"], json!(["WEB"]));
}

#[tokio::test]
async fn hostile_requests_are_refused() {
    let servers = servers().await;
    let wiki = of(&servers, Eras::Modern);
    let port = wiki.url.trim_end_matches("/mcp").rsplit(':').next().unwrap();
    for (headers, status) in [
        (vec![("host", "evil.example")], StatusCode::FORBIDDEN),
        (vec![("origin", "https://evil.example")], StatusCode::FORBIDDEN),
    ] {
        assert_eq!(send(wiki, Method::POST, &headers, "{}".into()).await.status(), status, "{port}");
    }
    for body in ["", "{", "[1]", "\"x\"", "{\"jsonrpc\":\"1.0\"}", "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"x\"}"]
    {
        assert_eq!(send(wiki, Method::POST, &[], body.into()).await.status(), StatusCode::BAD_REQUEST, "{body}");
    }
    let huge = "x".repeat((4 << 20) + 1);
    assert_eq!(send(wiki, Method::POST, &[], huge).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
}
