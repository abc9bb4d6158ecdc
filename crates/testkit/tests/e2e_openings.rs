//! The documented first messages of clients that cannot be run here, replayed as they were recorded:
//! each has to end in a list of tools (row P58).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::tools::{self, Part};
use http::Method;
use serde_json::{Value, json};

/// One client program.
struct Opening {
    client: &'static str,
    /// Opens with `server/discover` and falls back to the handshake on -32601.
    discovers: bool,
    /// The revision it offers in `initialize`.
    initialize: &'static str,
    capabilities: Value,
}

fn openings() -> Vec<Opening> {
    let form = json!({"elicitation": {}, "roots": {"listChanged": true}});
    let everything = json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {"listChanged": true}});
    let opening = |client, discovers, initialize, capabilities: &Value| Opening {
        client,
        discovers,
        initialize,
        capabilities: capabilities.clone(),
    };
    vec![
        opening("claude-code", true, "2025-11-25", &form),
        opening("codex-mcp-client", false, "2025-06-18", &json!({"elicitation": {}})),
        opening("Visual Studio Code", false, "2025-11-25", &everything),
        opening("github-copilot-developer", true, "2025-11-25", &form),
        opening("cursor-vscode", false, "2025-06-18", &form),
        opening("claude-ai", false, "2025-06-18", &json!({})),
        opening("openai-mcp", false, "2025-03-26", &json!({})),
        opening("an-old-one", false, "2024-11-05", &json!({})),
    ]
}

struct Replay<'a> {
    product: &'a Product,
    session: Option<String>,
    version: Option<String>,
}

impl Replay<'_> {
    async fn post(&mut self, more: &[(&str, &str)], message: &Value) -> (u16, Value) {
        let authorization = format!("Bearer {}", self.product.token("agent"));
        let (session, version) = (self.session.clone(), self.version.clone());
        let mut headers = vec![
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        ];
        headers.extend(session.as_deref().map(|session| ("mcp-session-id", session)));
        headers.extend(version.as_deref().map(|version| ("mcp-protocol-version", version)));
        headers.extend_from_slice(more);
        let url = self.product.url();
        let reply = self.product.http.send(Method::POST, &url, &headers, message.to_string()).await.unwrap();
        let status = reply.status;
        if let Some(session) = reply.header("mcp-session-id") {
            self.session = Some(session.to_owned());
        }
        if reply.is_events() {
            return (status, reply.events().message().await.unwrap().unwrap_or_default());
        }
        let text = reply.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

async fn replay(product: &Product, opening: &Opening) -> Value {
    let mut client = Replay { product, session: None, version: None };
    let info = json!({"name": opening.client, "version": "1.0.0"});
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": info,
        "io.modelcontextprotocol/clientCapabilities": opening.capabilities,
    });
    if opening.discovers {
        let modern = |method: &str| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": meta}});
        let headers = |method: &'static str| [("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
        let (status, discovered) = client.post(&headers("server/discover"), &modern("server/discover")).await;
        assert_eq!(status, 200, "{}: {discovered}", opening.client);
        assert!(discovered["result"]["supportedVersions"].as_array().unwrap().contains(&json!("2026-07-28")));
        let (status, listed) = client.post(&headers("tools/list"), &modern("tools/list")).await;
        assert_eq!(status, 200, "{}: {listed}", opening.client);
        return listed;
    }
    let params = json!({
        "protocolVersion": opening.initialize, "capabilities": opening.capabilities, "clientInfo": info,
    });
    let open = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
    let (status, opened) = client.post(&[], &open).await;
    assert_eq!(status, 200, "{}: {opened}", opening.client);
    assert_eq!(opened["result"]["protocolVersion"], opening.initialize, "{}", opening.client);
    // Revisions before 2025-06-18 know no version header.
    if opening.initialize >= "2025-06-18" {
        client.version = Some(opening.initialize.to_owned());
    }
    let (status, _) = client.post(&[], &json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    assert_eq!(status, 202, "{}", opening.client);
    let (status, listed) = client.post(&[], &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    assert_eq!(status, 200, "{}: {listed}", opening.client);
    listed
}

#[tokio::test(flavor = "multi_thread")]
async fn p58_every_documented_opening_leads_to_a_list() {
    if !tools::ready("p58_every_documented_opening_leads_to_a_list", &[Part::Product]) {
        return;
    }
    for era in [Era::Legacy, Era::Modern] {
        let fixture = Fixture::start(Options::of(era)).await.unwrap();
        let server = http_server("fx", &fixture.url(), &["test_simple_text".to_owned()]);
        let product = Product::serve(Config::new().server(server)).await.unwrap();
        for opening in openings() {
            let listed = replay(&product, &opening).await;
            let text = listed["result"]["tools"].to_string();
            assert!(text.contains("fx_test_simple_text"), "{} before {era:?}: {listed}", opening.client);
        }
    }
}
