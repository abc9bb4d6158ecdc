//! Tiny MCP servers on 127.0.0.1:0 that note everything they see.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bartizan_catalog::{CompileOptions, Snapshot};
use bartizan_config::resources::Resources;
use bartizan_config::settings::{Egress as EgressSettings, WireLimits};
use bartizan_egress::Egress;
use bartizan_model::{Clock, ManualClock};
use bartizan_upstream::{CallRequest, Target, UpstreamCall, UpstreamDeps, UpstreamEvent, UpstreamReply, Upstreams};
use bartizan_wire::{ClientProfile, RawJson, Revision};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub type Reply = Response<BoxBody<Bytes, Infallible>>;
pub type Replying = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// One request as a mock saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub http: String,
    pub path: String,
    pub headers: http::HeaderMap,
    pub json: Value,
    /// 1 for the first request of the server.
    pub number: usize,
}

impl Seen {
    pub fn method(&self) -> &str {
        self.json["method"].as_str().unwrap_or_default()
    }

    pub fn id(&self) -> Value {
        self.json["id"].clone()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

#[derive(Clone)]
pub struct Mock {
    pub addr: SocketAddr,
    log: Arc<Mutex<Vec<Seen>>>,
    pub connections: Arc<AtomicUsize>,
    /// Connections that are open now.
    pub open: Arc<AtomicUsize>,
}

impl Mock {
    pub async fn new(handler: impl Fn(Seen) -> Replying + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mock = Self {
            addr: listener.local_addr().unwrap(),
            log: Arc::default(),
            connections: Arc::default(),
            open: Arc::default(),
        };
        let (this, handler, numbers) = (mock.clone(), Arc::new(handler), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                this.connections.fetch_add(1, Ordering::SeqCst);
                this.open.fetch_add(1, Ordering::SeqCst);
                let (this, handler, numbers) = (this.clone(), Arc::clone(&handler), Arc::clone(&numbers));
                tokio::spawn(async move {
                    let log = Arc::clone(&this.log);
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (log, handler, numbers) = (Arc::clone(&log), Arc::clone(&handler), Arc::clone(&numbers));
                        async move {
                            let (parts, body) = request.into_parts();
                            let body = body.collect().await?.to_bytes();
                            let seen = Seen {
                                http: parts.method.to_string(),
                                path: parts.uri.to_string(),
                                headers: parts.headers,
                                json: serde_json::from_slice(&body).unwrap_or(Value::Null),
                                number: numbers.fetch_add(1, Ordering::SeqCst) + 1,
                            };
                            log.lock().unwrap().push(seen.clone());
                            Ok::<_, hyper::Error>(handler(seen).await)
                        }
                    });
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
                    this.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        mock
    }

    /// A well-behaved server, except where `special` answers.
    pub async fn with(
        era: fn(&Seen) -> Reply,
        special: impl Fn(&Seen) -> Option<Replying> + Send + Sync + 'static,
    ) -> Self {
        Self::new(move |seen| special(&seen).unwrap_or_else(|| ready(era(&seen)))).await
    }

    pub async fn legacy() -> Self {
        Self::with(legacy, |_| None).await
    }

    pub async fn modern() -> Self {
        Self::with(modern, |_| None).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub fn log(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    /// Requests with this JSON-RPC method.
    pub fn seen(&self, method: &str) -> Vec<Seen> {
        self.log().into_iter().filter(|seen| seen.method() == method).collect()
    }

    pub fn count(&self, method: &str) -> usize {
        self.seen(method).len()
    }

    /// Requests by HTTP method.
    pub fn http(&self, method: &str) -> usize {
        self.log().iter().filter(|seen| seen.http == method).count()
    }

    /// Waits until a request with this JSON-RPC method has come.
    pub async fn until(&self, method: &str, count: usize) {
        eventually(|| self.count(method) >= count).await;
    }
}

/// Polls a condition for at most ten seconds.
pub async fn eventually(mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(std::time::Instant::now() < end, "it did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn ready(reply: Reply) -> Replying {
    Box::pin(async move { reply })
}

pub fn reply(status: u16, kind: &str, body: impl Into<Bytes>) -> Reply {
    Response::builder().status(status).header("content-type", kind).body(Full::new(body.into()).boxed()).unwrap()
}

pub fn empty(status: u16) -> Reply {
    Response::builder().status(status).body(Full::default().boxed()).unwrap()
}

pub fn json_reply(status: u16, body: &Value) -> Reply {
    reply(status, "application/json", body.to_string())
}

pub fn result(seen: &Seen, result: Value) -> Reply {
    json_reply(200, &json!({"jsonrpc": "2.0", "id": seen.id(), "result": result}))
}

pub fn error(status: u16, seen: &Seen, code: i64, data: Option<Value>) -> Reply {
    let mut error = json!({"code": code, "message": "mock says no"});
    if let Some(data) = data {
        error["data"] = data;
    }
    json_reply(status, &json!({"jsonrpc": "2.0", "id": seen.id(), "error": error}))
}

/// A body that is written piece by piece; it ends when the sender is dropped.
pub fn piecewise(kind: &str) -> (mpsc::UnboundedSender<Bytes>, Reply) {
    let (sender, receiver) = mpsc::unbounded_channel::<Bytes>();
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(piece)), receiver))
    });
    let reply = Response::builder().header("content-type", kind).body(StreamBody::new(pieces).boxed()).unwrap();
    (sender, reply)
}

/// A scripted event stream.
pub struct Sse(mpsc::UnboundedSender<Bytes>);

impl Sse {
    pub fn new() -> (Self, Reply) {
        let (sender, reply) = piecewise("text/event-stream");
        (Self(sender), reply)
    }

    pub fn raw(&self, text: &str) -> bool {
        self.0.send(Bytes::copy_from_slice(text.as_bytes())).is_ok()
    }

    pub fn message(&self, message: &Value) -> bool {
        self.raw(&format!("data: {message}\n\n"))
    }

    pub fn result(&self, seen: &Seen, result: Value) -> bool {
        self.message(&json!({"jsonrpc": "2.0", "id": seen.id(), "result": result}))
    }

    pub fn notify(&self, method: &str, params: Value) -> bool {
        self.message(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
    }

    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

pub fn capabilities() -> Value {
    json!({
        "tools": {"listChanged": true}, "prompts": {"listChanged": true},
        "resources": {"subscribe": true, "listChanged": true}, "logging": {}, "completions": {},
    })
}

fn common(seen: &Seen) -> Option<Value> {
    Some(match seen.method() {
        "tools/list" => json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}),
        "prompts/list" => json!({"prompts": []}),
        "resources/list" => json!({"resources": []}),
        "resources/templates/list" => json!({"resourceTemplates": []}),
        "tools/call" => json!({"content": [{"type": "text", "text": seen.json["params"]["arguments"].to_string()}]}),
        "prompts/get" => json!({"messages": []}),
        "resources/read" => json!({"contents": [{"uri": seen.json["params"]["uri"], "text": "t"}]}),
        "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" | "ping" => json!({}),
        _ => return None,
    })
}

/// A legacy server with sessions.
pub fn legacy(seen: &Seen) -> Reply {
    match (seen.http.as_str(), seen.method()) {
        ("GET", _) => return empty(405),
        ("DELETE", _) => return empty(200),
        (_, "initialize") => {
            let said = json!({
                "protocolVersion": seen.json["params"]["protocolVersion"], "capabilities": capabilities(),
                "serverInfo": {"name": "legacy", "version": "1"}, "instructions": "be kind",
            });
            let mut reply = result(seen, said);
            reply.headers_mut().insert("mcp-session-id", format!("session-{}", seen.number).parse().unwrap());
            return reply;
        }
        _ => {}
    }
    if seen.header("mcp-session-id").is_none() {
        let body = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": "no session"}});
        return json_reply(400, &body);
    }
    if seen.id().is_null() || seen.method().is_empty() {
        return empty(202);
    }
    match common(seen) {
        Some(value) => result(seen, value),
        None => error(200, seen, -32601, None),
    }
}

/// A modern server.
pub fn modern(seen: &Seen) -> Reply {
    if seen.http != "POST" {
        return empty(405);
    }
    if seen.id().is_null() {
        return empty(202);
    }
    if seen.method() == "server/discover" {
        let said = json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities(),
            "ttlMs": 60000, "cacheScope": "public", "instructions": "be quick",
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "modern", "version": "1"}},
        });
        return result(seen, said);
    }
    let known = !matches!(seen.method(), "initialize" | "ping" | "logging/setLevel" | "resources/subscribe");
    match common(seen).filter(|_| known) {
        Some(mut value) => {
            value["resultType"] = json!("complete");
            result(seen, value)
        }
        None => error(404, seen, -32601, None),
    }
}

/// Small limits, so that tests of limits are quick.
pub fn limits() -> WireLimits {
    WireLimits {
        upstream_body: 1 << 20,
        connect_ms: 2_000,
        list_ms: 2_000,
        call_ms: 2_000,
        call_max_ms: 6_000,
        ..WireLimits::default()
    }
}

pub fn upstreams() -> Upstreams {
    upstreams_with(limits(), Arc::new(ManualClock::at(1_800_000_000_000)))
}

pub fn upstreams_with(limits: WireLimits, clock: Arc<dyn Clock>) -> Upstreams {
    let settings = EgressSettings { private_allow: vec!["127.0.0.1".to_owned()], ..Default::default() };
    let egress = Egress::new(&settings, Duration::from_millis(limits.connect_ms)).unwrap();
    let environment = vec![("PATH".into(), "/usr/bin:/bin".into()), ("HOME".into(), "/nowhere".into())];
    Upstreams::new(UpstreamDeps { egress, limits, clock, child_program: None, environment })
}

/// A target from a server entry as an operator writes it.
pub fn target_of(server: Value, principal: &str) -> Target {
    let resources: Resources = serde_json::from_value(json!({"servers": [server]})).unwrap();
    let options = CompileOptions { dev: true, hosting: true };
    let snapshot = Snapshot::compile(&resources, &options, 0).map_err(|errors| format!("{errors:?}")).unwrap();
    Target {
        spec: Arc::clone(&snapshot.order[0]),
        principal: principal.into(),
        caller: principal.into(),
        authority: None,
    }
}

/// The same server as its shared session is used by one caller.
pub fn shared_by(target: &Target, caller: &str) -> Target {
    Target { principal: "shared".into(), caller: caller.into(), ..target.clone() }
}

pub fn target(url: &str) -> Target {
    target_of(json!({"server_id": "mock", "hostname": url}), "user:alice")
}

pub fn raw(value: &Value) -> RawJson {
    RawJson::from(value)
}

pub fn legacy_client(capabilities: Value) -> Arc<ClientProfile> {
    Arc::new(ClientProfile { capabilities: raw(&capabilities), ..ClientProfile::plain(Revision::V2025_11_25) })
}

pub fn modern_client(capabilities: Value) -> Arc<ClientProfile> {
    Arc::new(ClientProfile { capabilities: raw(&capabilities), ..ClientProfile::plain(Revision::V2026_07_28) })
}

/// Params as a client of the profile's era sends them.
pub fn params(profile: &ClientProfile, mut members: Value) -> RawJson {
    if profile.era == bartizan_model::Era::Modern {
        let capabilities: Value = serde_json::from_str(profile.capabilities.as_str()).unwrap();
        members["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        members["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities;
        if let Some(level) = profile.log_level {
            members["_meta"]["io.modelcontextprotocol/logLevel"] = json!(level.as_str());
        }
    }
    raw(&members)
}

pub fn request(method: &str, profile: &Arc<ClientProfile>, members: Value) -> CallRequest {
    CallRequest::new(method, Some(params(profile, members)), Arc::clone(profile))
}

pub fn echo(profile: &Arc<ClientProfile>, arguments: Value) -> CallRequest {
    request("tools/call", profile, json!({"name": "echo", "arguments": arguments}))
}

/// Runs a call to its end; the notifications on the way, and the end.
pub async fn finish(call: &mut UpstreamCall) -> (Vec<(String, Value)>, UpstreamReply) {
    let mut notes = Vec::new();
    loop {
        match call.next().await {
            UpstreamEvent::Notification { method, params } => {
                let params = params.map_or(Value::Null, |params| serde_json::from_str(params.as_str()).unwrap());
                notes.push((method, params));
            }
            UpstreamEvent::Ask(ask) => panic!("unexpected question {}", ask.method),
            UpstreamEvent::Done(reply) => return (notes, reply),
        }
    }
}

pub fn value(reply: UpstreamReply) -> Value {
    match reply {
        UpstreamReply::Result(raw) => serde_json::from_str(raw.as_str()).unwrap(),
        other => panic!("no result: {other:?}"),
    }
}

/// Calls and returns the result.
pub async fn call(upstreams: &Upstreams, target: &Target, request: CallRequest) -> Value {
    let mut call = upstreams.call(target, request).await.unwrap();
    value(finish(&mut call).await.1)
}
