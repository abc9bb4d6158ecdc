//! What clients send first (row P58), replayed: the documented first messages of those that cannot
//! be run here, and the requests that real ones sent (`openings/*.json`). Each has to end in a list
//! of tools. And how each comes to a token: metadata, registration with its redirect URIs, the page.
//!
//! `BARTIZAN_GOLDEN=write` records the real clients anew, against the fixture.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_testkit::http::Http;
use bartizan_testkit::product::{Config, Product, http_server};
use bartizan_testkit::scripts::{self, RealClient};
use bartizan_testkit::tools::{self, Part, repository};
use http::Method;
use serde_json::{Map, Value, json};

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
        opening("rmcp", false, "2025-11-25", &json!({})),
        opening("rmcp", true, "2025-11-25", &json!({})),
    ]
    .into_iter()
    .chain(unrecorded(&form))
    .collect()
}

/// Clients of which no record says what they open with: every way there is.
fn unrecorded(form: &Value) -> Vec<Opening> {
    let none = json!({});
    let clients = [("cursor-vscode", form), ("claude-ai", &none), ("openai-mcp", form), ("an-old-one", &none)];
    let mut all = Vec::new();
    for (client, capabilities) in clients {
        for initialize in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
            all.push(Opening { client, discovers: false, initialize, capabilities: capabilities.clone() });
        }
        all.push(Opening { client, discovers: true, initialize: "2025-11-25", capabilities: capabilities.clone() });
    }
    all
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

/// The real clients whose first requests are kept, and how each was started.
const RECORDED: [(&str, RealClient, &str); 12] = [
    ("typescript-v1", RealClient::TsV1, ""),
    ("typescript-v2-legacy", RealClient::TsV2, "legacy"),
    ("typescript-v2-auto", RealClient::TsV2, "auto"),
    ("typescript-v2-modern", RealClient::TsV2, "modern"),
    ("python-auto", RealClient::PythonMcp, "auto"),
    ("python-legacy", RealClient::PythonMcp, "legacy"),
    ("fastmcp", RealClient::FastMcp, ""),
    ("inspector", RealClient::Inspector, ""),
    ("mcp-remote", RealClient::McpRemote, ""),
    ("rmcp-legacy", RealClient::Rmcp, "legacy"),
    ("rmcp-auto", RealClient::Rmcp, "auto"),
    ("rmcp-modern", RealClient::Rmcp, "modern"),
];

fn recording(name: &str) -> std::path::PathBuf {
    repository().join("crates/testkit/tests/openings").join(format!("{name}.json"))
}

/// Lets a real client list the tools of the fixture and writes down its requests, up to that list.
async fn record(name: &str, client: RealClient, mode: &str) {
    let fixture = Fixture::start(Options::of(Era::Both).recorded()).await.unwrap();
    let report = scripts::drive(client, &fixture.url(), None, mode, json!([{"list": "tools"}])).await.unwrap();
    assert!(report.0.get("error").is_none(), "{name}: {:#}", report.0);
    let mut kept = Vec::new();
    for request in fixture.stats().recorded() {
        // What depends on the run or the machine is not of the opening.
        let own =
            |header: &str| ["accept", "content-type", "user-agent"].contains(&header) || header.starts_with("mcp-");
        let header = |(header, value): &(String, String)| (header.clone(), json!(value));
        let mut headers: Map<_, _> = request.headers.iter().filter(|(name, _)| own(name)).map(header).collect();
        if headers.contains_key("mcp-session-id") {
            headers.insert("mcp-session-id".to_owned(), json!("SESSION"));
        }
        let lists = request.json()["method"] == "tools/list";
        kept.push(
            json!({"method": request.verb, "target": request.target, "headers": headers, "body": request.json()}),
        );
        if lists {
            break;
        }
    }
    let mut text = serde_json::to_string_pretty(&kept).unwrap();
    text.push('\n');
    std::fs::create_dir_all(recording(name).parent().unwrap()).unwrap();
    std::fs::write(recording(name), text).unwrap();
}

/// Sends the recorded requests one after the other; the answer to the last one.
async fn play(product: &Product, name: &str) -> Value {
    let text = std::fs::read_to_string(recording(name)).unwrap();
    let requests: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut client = Replay { product, session: None, version: None };
    let mut last = Value::Null;
    for request in &requests {
        let target = request["target"].as_str().unwrap();
        if request["method"] != "POST" {
            // The stream for messages of the server stays open: nothing follows from it here. Documents
            // of the sign-in are asked for at every place that a client knows, and are at these two.
            let found = ["/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server"];
            if target != "/mcp" {
                let (status, text) = product.http.get(&format!("{}{target}", product.base())).await.unwrap();
                assert!(status == 200 || status == 404, "{name}: {target}: {status}");
                let is_json = serde_json::from_str::<Value>(&text).is_ok_and(|answer| answer.is_object());
                assert!(!found.contains(&target) || (status == 200 && is_json), "{name}: {target}: {status} {text}");
            }
            continue;
        }
        assert_eq!(target, "/mcp", "{name}");
        let headers: Vec<(&str, &str)> = request["headers"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(header, _)| !["mcp-session-id", "content-type", "accept"].contains(&header.as_str()))
            .map(|(header, value)| (header.as_str(), value.as_str().unwrap()))
            .collect();
        let (status, answer) = client.post(&headers, &request["body"]).await;
        let wanted = if request["body"].get("id").is_some() { 200 } else { 202 };
        assert_eq!(status, wanted, "{name}: {request:#} {answer}");
        last = answer;
    }
    assert_eq!(requests.last().unwrap()["body"]["method"], "tools/list", "{name}");
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn p58_every_recorded_opening_leads_to_a_list() {
    if !tools::ready("p58_every_recorded_opening_leads_to_a_list", &[Part::Product]) {
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "a switch of this test alone")]
    if std::env::var("BARTIZAN_GOLDEN").is_ok_and(|word| word == "write") {
        // One alone with `BARTIZAN_GOLDEN_OF=NAME`.
        let only = std::env::var("BARTIZAN_GOLDEN_OF").ok();
        for (name, client, mode) in RECORDED.into_iter().filter(|(name, ..)| only.as_deref().is_none_or(|o| o == *name))
        {
            record(name, client, mode).await;
        }
    }
    for era in [Era::Legacy, Era::Modern] {
        let fixture = Fixture::start(Options::of(era)).await.unwrap();
        let server = http_server("fx", &fixture.url(), &["test_simple_text".to_owned()]);
        let product = Product::serve(Config::new().server(server)).await.unwrap();
        for (name, _, _) in RECORDED {
            let listed = play(&product, name).await;
            let text = listed["result"]["tools"].to_string();
            assert!(text.contains("fx_test_simple_text"), "{name} before {era:?}: {listed}");
        }
    }
}

/// Where clients wait for the answer of a sign-in, and what the list of allowed ones has to say.
const REDIRECTS: [(&str, &str, Option<&str>); 13] = [
    ("Claude Code", "http://localhost:53682/callback", None),
    ("Codex", "http://127.0.0.1:41739/callback", None),
    ("VS Code", "http://127.0.0.1:33418/", None),
    ("Copilot CLI", "http://127.0.0.1:51234/", None),
    ("MCP Inspector", "http://localhost:6274/oauth/callback", None),
    ("mcp-remote", "http://127.0.0.1:3334/oauth/callback", None),
    ("TypeScript", "http://127.0.0.1:8090/callback", None),
    ("Python", "http://localhost:3030/callback", None),
    ("FastMCP", "http://localhost:49152/callback", None),
    ("Claude", "https://claude.ai/api/mcp/auth_callback", Some("https://claude.ai/api/mcp/auth_callback")),
    ("ChatGPT", "https://chatgpt.com/connector_platform_oauth_redirect", Some("https://chatgpt.com/*")),
    ("VS Code, web", "https://vscode.dev/redirect", Some("https://vscode.dev/redirect")),
    ("Cursor", "cursor://anysphere.cursor-mcp/oauth/callback", Some("cursor://anysphere.cursor-mcp/oauth/callback")),
];

/// Registers as a client program does; the status and the answer.
async fn register(product: &Product, endpoint: &str, name: &str, redirect: &str) -> (u16, Value) {
    let metadata = json!({
        "client_name": name,
        "redirect_uris": [redirect],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    });
    let json = [("content-type", "application/json")];
    let reply = product.http.send(Method::POST, endpoint, &json, metadata.to_string()).await.unwrap();
    (reply.status, reply.json().await.unwrap())
}

/// From the endpoint alone to the address of registration and the page, as clients find them.
async fn discover(product: &Product) -> (String, String) {
    let http = Http::new();
    let reply = http.send(Method::POST, &product.url(), &[("content-type", "application/json")], "{}").await.unwrap();
    assert_eq!(reply.status, 401);
    let challenge = reply.header("www-authenticate").unwrap().to_owned();
    let metadata = challenge.split("resource_metadata=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let resource: Value = serde_json::from_str(&http.get(metadata).await.unwrap().1).unwrap();
    assert_eq!(resource["resource"], product.url());
    let issuer = resource["authorization_servers"][0].as_str().unwrap();
    let document = format!("{issuer}/.well-known/oauth-authorization-server");
    let server: Value = serde_json::from_str(&http.get(&document).await.unwrap().1).unwrap();
    let endpoint = |name: &str| server[name].as_str().unwrap().to_owned();
    (endpoint("registration_endpoint"), endpoint("authorization_endpoint"))
}

/// The endpoint that the client asked for is shown by its page: nothing was refused.
async fn page(product: &Product, authorize: &str, client: &str, redirect: &str) -> (u16, String) {
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let url = format!(
        "{authorize}?response_type=code&client_id={}&redirect_uri={}&state=s&code_challenge={challenge}\
         &code_challenge_method=S256&resource={}",
        encode(client),
        encode(redirect),
        encode(&product.url()),
    );
    let reply = product.http.send(Method::GET, &url, &[("accept", "text/html")], "").await.unwrap();
    let to = reply.header("location").unwrap_or_default().to_owned();
    (reply.status, format!("{to} {}", reply.text().await.unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn p58_every_client_finds_its_way_to_the_sign_in_page() {
    if !tools::ready("p58_every_client_finds_its_way_to_the_sign_in_page", &[Part::Product]) {
        return;
    }
    let allowed: Vec<&str> = REDIRECTS.iter().filter_map(|(_, _, rule)| *rule).collect();
    let strict = Product::serve(Config::new()).await.unwrap();
    let open = Product::serve(Config::new().set("sign_in", json!({"registration": {"allowed_uris": allowed}}))).await;
    let open = open.unwrap();
    let (at_strict, _) = discover(&strict).await;
    let (at_open, authorize) = discover(&open).await;
    for (name, redirect, rule) in REDIRECTS {
        // Where nobody listed anything, what leaves the device is refused, with the rule and what to do.
        let (status, answer) = register(&strict, &at_strict, name, redirect).await;
        if rule.is_some() {
            assert_eq!((status, &answer["error"]), (400, &json!("invalid_redirect_uri")), "{name}: {answer}");
            let text = answer["error_description"].as_str().unwrap();
            for wanted in [redirect, "sign_in.registration.allowed_uris", "ask the administrator"] {
                assert!(text.contains(wanted), "{name}: {text}");
            }
        } else {
            assert_eq!(status, 201, "{name}: {answer}");
        }
        // Listed, everybody registers and is shown where to sign in.
        let (status, answer) = register(&open, &at_open, name, redirect).await;
        assert_eq!(status, 201, "{name}: {answer}");
        let client = answer["client_id"].as_str().unwrap();
        let (status, text) = page(&open, &authorize, client, redirect).await;
        // As far as the provider, of which there is none here.
        assert!(status == 503 && text.contains("no_provider"), "{name}: {status} {text}");
        // Another redirect than the registered one never gets an answer, and the page says which rule.
        let (status, text) = page(&open, &authorize, client, "https://evil.example/cb").await;
        assert_eq!(status, 400, "{name}: {text}");
        assert!(text.contains("redirect"), "{name}: {text}");
        assert!(!text.starts_with("https://evil.example"), "{name}: {text}");
    }
}
