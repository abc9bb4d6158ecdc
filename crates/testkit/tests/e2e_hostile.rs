//! Bad input at the front door: exact answers, no panic, nothing lost (section 1.2, rows O10, P26, P30, P33).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::time::Duration;

use bartizan_testkit::client::{Identity, LegacyClient, ModernClient};
use bartizan_testkit::fixture::{self, Era, Fixture, Options};
use bartizan_testkit::http::Http;
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn ready(test: &str) -> bool {
    tools::ready(test, &[Part::Product])
}

async fn behind(config: Config) -> (Fixture, Product) {
    let fixture = Fixture::start(Options::of(Era::Both).recorded()).await.unwrap();
    let server = http_server("fx", &fixture.url(), &fixture::tool_names());
    let product = Product::serve(config.server(server)).await.unwrap();
    (fixture, product)
}

struct Door<'a> {
    product: &'a Product,
    authorization: String,
}

impl<'a> Door<'a> {
    fn new(product: &'a Product) -> Self {
        Self { product, authorization: format!("Bearer {}", product.token("agent")) }
    }

    async fn post(&self, more: &[(&str, &str)], body: impl Into<bytes::Bytes>) -> (u16, Value) {
        let mut headers = vec![
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("authorization", self.authorization.as_str()),
        ];
        headers.extend_from_slice(more);
        let reply = self.product.http.send(Method::POST, &self.product.url(), &headers, body).await.unwrap();
        let status = reply.status;
        let text = reply.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

const MODERN: &[(&str, &str)] = &[("mcp-protocol-version", "2026-07-28")];

fn modern_body(method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
}

fn with<'a>(headers: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    MODERN.iter().chain(headers).copied().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn p26_malformed_bodies_have_exact_answers() {
    if !ready("p26_malformed_bodies_have_exact_answers") {
        return;
    }
    let (fixture, product) = behind(Config::new()).await;
    let door = Door::new(&product);
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let list = |body: String| body;
    let cases: Vec<(&str, Vec<u8>, u16, i64)> = vec![
        ("empty", Vec::new(), 400, -32700),
        ("not JSON", b"{oops".to_vec(), 400, -32700),
        ("invalid UTF-8", b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\xfe\"}".to_vec(), 400, -32700),
        ("a number", b"42".to_vec(), 400, -32600),
        ("no version", br#"{"id":1,"method":"tools/list"}"#.to_vec(), 400, -32600),
        ("wrong version", br#"{"jsonrpc":"1.0","id":1,"method":"tools/list"}"#.to_vec(), 400, -32600),
        ("method is no string", br#"{"jsonrpc":"2.0","id":1,"method":5}"#.to_vec(), 400, -32600),
        ("id is an object", br#"{"jsonrpc":"2.0","id":{},"method":"tools/list"}"#.to_vec(), 400, -32600),
        ("duplicate id", br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/list"}"#.to_vec(), 400, -32600),
        (
            "duplicate method",
            br#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}"#.to_vec(),
            400,
            -32600,
        ),
        (
            "too deep",
            list(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"x":{}}}}}"#, nested(200)))
                .into_bytes(),
            400,
            -32600,
        ),
        ("a batch without a session", b"[]".to_vec(), 400, -32600),
    ];
    for (what, body, status, code) in cases {
        let (got, answer) = door.post(&[], body).await;
        assert_eq!(got, status, "{what}: {answer}");
        let found = answer["error"]["code"].as_i64();
        assert!(found == Some(code) || (code == -32600 && found == Some(-32700)), "{what}: {answer}");
    }
    assert_eq!(fixture.stats().of("tools/call"), 0);
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    assert!(client.tools().await.is_ok(), "the product does not work any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn p30_duplicate_keys_that_matter_are_refused() {
    if !ready("p30_duplicate_keys_that_matter_are_refused") {
        return;
    }
    let (fixture, product) = behind(Config::new()).await;
    let door = Door::new(&product);
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
    let cases = [
        format!(r#"{{"name":"fx_test_echo","name":"fx_test_write_note","arguments":{{}},{meta}}}"#),
        format!(r#"{{"name":"fx_test_echo","arguments":{{}},"arguments":{{"value":1}},{meta}}}"#),
        format!(r#"{{"name":"fx_test_echo","arguments":{{"value":1,"value":2}},{meta}}}"#),
        format!(r#"{{"name":"fx_test_echo","arguments":{{}},{meta},{meta}}}"#),
    ];
    for params in cases {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let (status, answer) =
            door.post(&with(&[("mcp-method", "tools/call"), ("mcp-name", "fx_test_echo")]), body).await;
        assert_eq!(status, 400, "{params}: {answer}");
        assert!(answer["error"]["code"].is_i64(), "{params}: {answer}");
    }
    assert_eq!(fixture.stats().of("tools/call"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_a_body_over_four_mebibytes_is_413() {
    if !ready("g6_a_body_over_four_mebibytes_is_413") {
        return;
    }
    let (_fixture, product) = behind(Config::new()).await;
    let door = Door::new(&product);
    let body = |size: usize| {
        let frame = modern_body("tools/call", json!({"name": "fx_test_echo", "arguments": {"value": ""}})).to_string();
        frame.replace(r#""value":"""#, &format!(r#""value":"{}""#, "x".repeat(size - frame.len())))
    };
    let headers = with(&[("mcp-method", "tools/call"), ("mcp-name", "fx_test_echo")]);
    let limit = 4 << 20;
    assert_eq!(door.post(&headers, body(limit)).await.0, 200);
    assert_eq!(door.post(&headers, body(limit + 1)).await.0, 413);
    // Without a declared length the bound holds while reading.
    let mut stream = TcpStream::connect(("127.0.0.1", product.port())).await.unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        product.port(),
        door.authorization
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..80 {
        // The answer may come, and the connection end, in the middle.
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let mut answer = vec![0; 64];
    let count = stream.read(&mut answer).await.unwrap_or(0);
    let text = String::from_utf8_lossy(&answer[..count]).into_owned();
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 413"), "{text}");
    assert!(ModernClient::new(&product.url(), Identity::bearer(product.token("agent"))).tools().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn o10_forged_host_and_origin_are_refused_on_every_listener() {
    if !ready("o10_forged_host_and_origin_are_refused_on_every_listener") {
        return;
    }
    let (_fixture, product) = behind(Config::new()).await;
    let raw = async |port: u16, request: String| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 256];
        let count = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..count]).split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    let body = modern_body("tools/list", json!({})).to_string();
    let request = |host: &str, origin: Option<&str>| {
        let origin = origin.map_or_else(String::new, |origin| format!("Origin: {origin}\r\n"));
        format!(
            "POST /mcp HTTP/1.1\r\nHost: {host}\r\n{origin}Authorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\n\
             Content-Length: {}\r\n\r\n{body}",
            product.token("agent"),
            body.len()
        )
    };
    let own = format!("127.0.0.1:{}", product.port());
    assert_eq!(raw(product.port(), request(&own, None)).await, "200");
    assert_eq!(raw(product.port(), request(&own, Some(&format!("http://{own}")))).await, "200");
    for host in ["evil.example.com", "127.0.0.1.evil.example", "localhost.evil.example", "169.254.169.254", "0.0.0.0"] {
        let status = raw(product.port(), request(host, None)).await;
        assert!(status.starts_with('4'), "Host {host}: {status}");
    }
    for origin in ["http://evil.example.com", "null", "https://127.0.0.1.evil.example", "file://", "garbage"] {
        assert_eq!(raw(product.port(), request(&own, Some(origin))).await, "403", "Origin {origin}");
    }
    let operations: u16 = product.operations_url("").rsplit(':').next().unwrap().parse().unwrap();
    let health = "GET /metrics HTTP/1.1\r\nHost: evil.example.com\r\n\r\n".to_owned();
    let status = raw(operations, health).await;
    assert!(status.starts_with('4'), "operations listener: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn o10_health_and_metrics_are_not_on_the_public_port() {
    if !ready("o10_health_and_metrics_are_not_on_the_public_port") {
        return;
    }
    let (_fixture, product) = behind(Config::new()).await;
    for path in ["/metrics", "/livez", "/readyz", "/startupz"] {
        let (status, _) = product.http.get(&format!("{}{path}", product.base())).await.unwrap();
        assert!((400..500).contains(&status), "{path}: {status}");
        let (status, _) = product.http.get(&product.operations_url(path)).await.unwrap();
        assert_eq!(status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p33_headers_that_disagree_with_the_body_are_refused_before_policy() {
    if !ready("p33_headers_that_disagree_with_the_body_are_refused_before_policy") {
        return;
    }
    let (fixture, product) = behind(Config::new()).await;
    let door = Door::new(&product);
    let call = modern_body("tools/call", json!({"name": "fx_test_write_note", "arguments": {"text": "x"}})).to_string();
    let name = ("mcp-name", "fx_test_write_note");
    let cases: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("name of another tool", with(&[("mcp-method", "tools/call"), ("mcp-name", "fx_test_simple_text")])),
        ("no name", with(&[("mcp-method", "tools/call")])),
        ("method of another request", with(&[("mcp-method", "tools/list"), name])),
        ("method in capitals", with(&[("mcp-method", "Tools/Call"), name])),
        ("no method", with(&[name])),
        ("no version", vec![("mcp-method", "tools/call"), name]),
        ("another version", vec![("mcp-protocol-version", "2025-11-25"), ("mcp-method", "tools/call"), name]),
        ("broken base64", with(&[("mcp-method", "tools/call"), ("mcp-name", "=?base64?%%%?=")])),
    ];
    for (what, headers) in cases {
        let (status, answer) = door.post(&headers, call.clone()).await;
        assert_eq!((status, answer["error"]["code"].as_i64()), (400, Some(-32020)), "{what}: {answer}");
        assert_eq!(answer["id"], 7, "{what}: {answer}");
    }
    let old = call.replace("2026-07-28", "2099-01-01");
    let headers = [("mcp-protocol-version", "2099-01-01"), ("mcp-method", "tools/call"), name];
    let (status, answer) = door.post(&headers, old).await;
    assert_eq!((status, answer["error"]["code"].as_i64()), (400, Some(-32022)), "{answer}");
    assert_eq!(answer["error"]["data"]["requested"], "2099-01-01");
    assert_eq!(answer["error"]["data"]["supported"], json!(["2026-07-28"]));
    assert_eq!(fixture.stats().of("tools/call"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn p33_param_headers_are_checked_and_forwarded() {
    if !ready("p33_param_headers_are_checked_and_forwarded") {
        return;
    }
    let (fixture, product) = behind(Config::new()).await;
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    client.tools().await.unwrap();
    let params = json!({"name": "fx_test_header_echo", "arguments": {"region": "eu west"}});
    let header = |value: &str| [("mcp-param-region".to_owned(), value.to_owned())];
    assert_eq!(
        client.once_with("tools/call", params.clone(), &header("eu west")).await.unwrap().text(),
        "region=eu west"
    );
    for wrong in ["us", "EU west", "=?base64?!!?="] {
        let problem = client.once_with("tools/call", params.clone(), &header(wrong)).await.unwrap_err();
        assert_eq!((problem.status, problem.code), (400, -32020), "{wrong}: {problem}");
    }
    assert_eq!(client.once("tools/call", params).await.unwrap_err().code, -32020);
    let sent = fixture.stats().recorded();
    let call = sent.iter().find(|request| request.json()["method"] == "tools/call").unwrap();
    assert_eq!(call.header("mcp-param-region"), Some("eu west"));
    assert_eq!(call.header("mcp-name"), Some("test_header_echo"), "the name header must follow the name");
}

#[tokio::test(flavor = "multi_thread")]
async fn p26_unknown_sessions_and_versions_of_the_legacy_era() {
    if !ready("p26_unknown_sessions_and_versions_of_the_legacy_era") {
        return;
    }
    let (_fixture, product) = behind(Config::new().token("other")).await;
    let door = Door::new(&product);
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).to_string();
    assert_eq!(door.post(&[], list.clone()).await.0, 400, "no session");
    for unknown in ["x", "00000000-0000-0000-0000-000000000000", "../../etc/passwd", "!!!"] {
        assert_eq!(door.post(&[("mcp-session-id", unknown)], list.clone()).await.0, 404, "{unknown}");
    }
    let client = LegacyClient::connect(&product.url(), Identity::bearer(product.token("agent"))).await.unwrap();
    let session = client.session().unwrap().to_owned();
    assert!(session.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{session}");
    let good = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-11-25")];
    assert_eq!(door.post(&good, list.clone()).await.0, 200);
    let nonsense = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "nonsense")];
    assert_eq!(door.post(&nonsense, list.clone()).await.0, 400);
    // The session of one is unknown to another.
    let other = Door { product: &product, authorization: format!("Bearer {}", product.token("other")) };
    assert_eq!(other.post(&good, list.clone()).await.0, 404);
    assert!(matches!(client.close().await.unwrap(), 200..=204));
    assert_eq!(door.post(&good, list).await.0, 404, "ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn p26_half_sent_requests_are_dropped_in_time() {
    if !ready("p26_half_sent_requests_are_dropped_in_time") {
        return;
    }
    let limits = json!({"client_read_ms": 1_000, "drain_wait_ms": 100});
    let (_fixture, product) = behind(Config::new().set("limits", limits)).await;
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: 1000\r\n\r\n{{\"jsonrpc\"",
        product.port(),
        product.token("agent")
    );
    for begun in ["POST /mcp HT", head.as_str()] {
        let mut stream = TcpStream::connect(("127.0.0.1", product.port())).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "still open after 20 s: {begun:?}");
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    assert!(ModernClient::new(&product.url(), Identity::bearer(product.token("agent"))).tools().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn p30_unknown_members_and_number_spelling_survive_both_ways() {
    if !ready("p30_unknown_members_and_number_spelling_survive_both_ways") {
        return;
    }
    let (fixture, product) = behind(Config::new()).await;
    let door = Door::new(&product);
    let arguments =
        r#"{"value":{"a":1.0,"b":1e3,"c":-0,"big":12345678901234567890,"z":null,"é":"\u00e9","list":[1,1.50]}}"#;
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"fx_test_echo","arguments":{arguments},"x-unknown":{{"keep":1.10}},"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}},"com.example/odd":[2.0]}}}}}}"#
    );
    let (status, _) = door.post(&with(&[("mcp-method", "tools/call"), ("mcp-name", "fx_test_echo")]), body).await;
    assert_eq!(status, 200);
    let sent = fixture.stats().recorded();
    let call = sent.iter().find(|request| request.json()["method"] == "tools/call").unwrap();
    for kept in [arguments, r#""x-unknown":{"keep":1.10}"#, r#""com.example/odd":[2.0]"#] {
        assert!(call.body.contains(kept), "{kept} is not in {}", call.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p27_other_methods_and_paths_have_right_answers() {
    if !ready("p27_other_methods_and_paths_have_right_answers") {
        return;
    }
    let (_fixture, product) = behind(Config::new()).await;
    let authorization = format!("Bearer {}", product.token("agent"));
    let headers = [("authorization", authorization.as_str()), ("accept", "text/event-stream")];
    for method in [Method::GET, Method::DELETE] {
        let reply = Http::new().send(method.clone(), &product.url(), &headers, "").await.unwrap();
        assert_eq!(reply.status, 405, "{method} without a session");
    }
    for path in ["/nothing", "/servers/fx", "/servers//mcp", "/portals/%2e%2e/mcp", "/mcp/more"] {
        let url = format!("{}{path}", product.base());
        let reply = Http::new().send(Method::POST, &url, &headers, "{}").await.unwrap();
        assert!(matches!(reply.status, 400 | 401 | 404 | 405), "{path}: {}", reply.status);
    }
    let client = ModernClient::new(&product.url(), Identity::bearer(product.token("agent")));
    for method in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "no/such"]
    {
        let problem = client.once(method, json!({})).await.unwrap_err();
        assert_eq!((problem.status, problem.code), (404, -32601), "{method}: {problem}");
    }
    let problem = client.once("resources/read", json!({"uri": "test://nothing"})).await.unwrap_err();
    assert_eq!(problem.code, -32602, "{problem}");
}
