//! The portal over a real gate, a fixture server behind it, and a client that sends
//! exactly what it is told.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails")]

pub mod stack;

use std::time::Duration;

use bartizan_testkit::http::{Events, Http, Reply};
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub use stack::World;

pub const JSON: (&str, &str) = ("content-type", "application/json");
pub const ACCEPT: (&str, &str) = ("accept", "application/json, text/event-stream");
pub const LEGACY: &str = "2025-11-25";
pub const MODERN: &str = "2026-07-28";

/// A client of one endpoint.
#[derive(Clone)]
pub struct Client {
    pub http: Http,
    pub url: String,
    pub token: Option<&'static str>,
    pub session: Option<String>,
}

impl Client {
    pub fn new(url: impl Into<String>, token: Option<&'static str>) -> Self {
        Self { http: Http::new(), url: url.into(), token, session: None }
    }

    /// Sends these headers beside token and session.
    pub async fn send(&self, method: Method, headers: &[(&str, &str)], body: impl Into<String>) -> Reply {
        let bearer = self.token.map(|token| format!("Bearer {token}"));
        let mut all = headers.to_vec();
        if let Some(bearer) = &bearer {
            all.push(("authorization", bearer));
        }
        if let Some(session) = &self.session {
            all.push(("mcp-session-id", session));
        }
        self.http.send(method, &self.url, &all, body.into()).await.unwrap()
    }

    pub async fn post(&self, headers: &[(&str, &str)], body: impl Into<String>) -> Reply {
        let mut all = vec![JSON, ACCEPT];
        all.extend_from_slice(headers);
        self.send(Method::POST, &all, body).await
    }

    /// A legacy request; the answer may be JSON or a stream.
    pub async fn legacy(&self, id: &Value, method: &str, params: &Value) -> Reply {
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.post(&[("mcp-protocol-version", LEGACY)], body.to_string()).await
    }

    /// A legacy request whose answer is awaited; messages before it are dropped.
    pub async fn ask(&self, method: &str, params: Value) -> (u16, Value) {
        response(self.legacy(&json!(1), method, &params).await, &json!(1)).await
    }

    pub async fn notify(&self, method: &str, params: &Value) -> u16 {
        let body = json!({"jsonrpc": "2.0", "method": method, "params": params});
        self.post(&[("mcp-protocol-version", LEGACY)], body.to_string()).await.status
    }

    /// Answers a request of the server.
    pub async fn answer(&self, id: &Value, result: &Value) -> u16 {
        let body = json!({"jsonrpc": "2.0", "id": id, "result": result});
        self.post(&[("mcp-protocol-version", LEGACY)], body.to_string()).await.status
    }

    /// Opens a session.
    pub async fn initialize(&mut self, version: &str, capabilities: &Value) -> Value {
        self.session = None;
        let params = json!({"protocolVersion": version, "capabilities": capabilities,
            "clientInfo": {"name": "probe", "version": "1.0"}});
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let reply = self.post(&[], body.to_string()).await;
        assert_eq!(reply.status, 200);
        self.session = Some(reply.header("mcp-session-id").expect("a session id").to_owned());
        let answer = reply.json().await.unwrap();
        assert_eq!(self.notify("notifications/initialized", &json!({})).await, 202);
        answer["result"].clone()
    }

    /// A session that declares everything.
    pub async fn opened(url: impl Into<String>, token: Option<&'static str>) -> Self {
        let mut client = Self::new(url, token);
        client.initialize(LEGACY, &json!({"sampling": {}, "elicitation": {}, "roots": {}})).await;
        client
    }

    /// A modern request with all its headers.
    pub async fn modern(&self, id: &Value, method: &str, params: &Value) -> Reply {
        self.modern_meta(id, method, params, json!({})).await
    }

    pub async fn modern_meta(&self, id: &Value, method: &str, params: &Value, more: Value) -> Reply {
        let body = modern_body(id, method, params, more);
        let headers = modern_headers(method, params);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.post(&headers, body.to_string()).await
    }

    pub async fn ask_modern(&self, method: &str, params: Value) -> (u16, Value) {
        response(self.modern(&json!(1), method, &params).await, &json!(1)).await
    }

    pub async fn stream(&self, headers: &[(&str, &str)]) -> Reply {
        let mut all = vec![("accept", "text/event-stream")];
        all.extend_from_slice(headers);
        self.send(Method::GET, &all, "").await
    }
}

pub fn modern_body(id: &Value, method: &str, params: &Value, more: Value) -> Value {
    let mut meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "probe", "version": "1.0"},
    });
    for (key, value) in more.as_object().cloned().unwrap_or_default() {
        meta[key] = value;
    }
    let mut params = params.clone();
    params["_meta"] = meta;
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

pub fn modern_headers(method: &str, params: &Value) -> Vec<(&'static str, String)> {
    let mut headers = vec![("mcp-protocol-version", MODERN.to_owned()), ("mcp-method", method.to_owned())];
    let name = match method {
        "tools/call" | "prompts/get" => params["name"].as_str(),
        "resources/read" => params["uri"].as_str(),
        _ => None,
    };
    headers.extend(name.map(|name| ("mcp-name", name.to_owned())));
    headers
}

/// The response with this id, from a JSON body or a stream.
pub async fn response(reply: Reply, id: &Value) -> (u16, Value) {
    let status = reply.status;
    if !reply.is_events() {
        return (status, reply.json().await.unwrap());
    }
    let mut events = reply.events();
    while let Some(message) = events.message().await.unwrap() {
        if message["id"] == *id && message.get("method").is_none() {
            return (status, message);
        }
    }
    panic!("the stream ended without an answer");
}

/// The first message for which `wanted` holds.
pub async fn until(events: &mut Events, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let message = events.message().await.unwrap().expect("the stream ended");
        if wanted(&message) {
            return message;
        }
    }
}

/// Waits until something becomes true, at most ten seconds.
pub async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// Bytes sent as they are, and everything that comes back until the connection ends
/// or nothing came for `quiet`.
pub async fn raw(address: &str, bytes: &[u8], quiet: Duration) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read_all(&mut stream, quiet).await
}

pub async fn read_all(stream: &mut TcpStream, quiet: Duration) -> String {
    let mut out = Vec::new();
    let mut buffer = [0_u8; 4096];
    loop {
        match tokio::time::timeout(quiet, stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) | Err(_) => break,
            Ok(Ok(n)) => out.extend_from_slice(&buffer[..n]),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
