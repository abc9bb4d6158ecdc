//! A small MCP server of either era, on a port of its own, that writes down what it saw.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Stream = mpsc::UnboundedSender<Bytes>;

/// Era of a mock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Legacy,
    Modern,
}

/// What a mock knows and saw.
#[derive(Default)]
pub(crate) struct State {
    /// Extra tools beside the built-in ones.
    pub(crate) tools: Mutex<Vec<Value>>,
    /// Names of built-in tools that are listed.
    pub(crate) hidden: Mutex<HashSet<String>>,
    /// Calls that began, by tool.
    pub(crate) executed: Mutex<HashMap<String, usize>>,
    /// Every request: method, session or none, body.
    pub(crate) seen: Mutex<Vec<(String, Option<String>, Value)>>,
    /// Notifications, among them cancellations.
    pub(crate) notified: Mutex<Vec<Value>>,
    /// `Authorization` headers.
    pub(crate) authorizations: Mutex<Vec<String>>,
    /// All headers of every request, as text.
    pub(crate) heads: Mutex<Vec<String>>,
    /// Tokens that are good; without a set everybody may come.
    pub(crate) tokens: Mutex<Option<HashSet<String>>>,
    /// Requests with the token they came with.
    pub(crate) asked_as: Mutex<Vec<(String, Value)>>,
    pub(crate) sessions: AtomicUsize,
    /// Held `tools/list` requests wait for `release`.
    pub(crate) hold_lists: AtomicBool,
    pub(crate) list_reached: Notify,
    pub(crate) release: Notify,
    /// Lists are answered with 500.
    pub(crate) broken: AtomicBool,
    /// `ttlMs` and `cacheScope` of modern lists.
    pub(crate) cache: Mutex<Option<(u64, &'static str)>>,
    /// Every list of tools names itself: `list_1` is in the first.
    pub(crate) numbered: AtomicBool,
    /// Reached by `hang`.
    pub(crate) hanging: Notify,
    /// Ends `hang`.
    pub(crate) unhang: Notify,
    /// Answers of clients to legacy server requests.
    waiting: Mutex<HashMap<String, oneshot::Sender<Value>>>,
    /// GET streams and listen streams.
    streams: Mutex<Vec<Stream>>,
    pub(crate) stream_opened: Notify,
    pub(crate) subscribed: Mutex<Vec<String>>,
}

impl State {
    pub(crate) fn executed(&self, tool: &str) -> usize {
        self.executed.lock().unwrap().get(tool).copied().unwrap_or(0)
    }

    pub(crate) fn count(&self, method: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|(seen, _, _)| seen == method).count()
    }

    pub(crate) fn last(&self, method: &str) -> Option<Value> {
        let seen = self.seen.lock().unwrap();
        seen.iter().rev().find(|(known, _, _)| known == method).map(|(_, _, body)| body.clone())
    }

    pub(crate) fn cancelled(&self) -> usize {
        let notified = self.notified.lock().unwrap();
        notified.iter().filter(|n| n["method"] == "notifications/cancelled").count()
    }

    /// Sends a notification on every open stream.
    pub(crate) fn announce(&self, method: &str, params: Value) {
        let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        self.streams.lock().unwrap().retain(|stream| stream.send(event(&message)).is_ok());
    }
}

/// A running mock.
pub(crate) struct Mock {
    pub(crate) url: String,
    pub(crate) state: Arc<State>,
    _stop: tokio_util::sync::DropGuard,
}

impl Mock {
    pub(crate) async fn start(speaks: Speaks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        let stop = tokio_util::sync::CancellationToken::new();
        let (accepting, shared) = (stop.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    () = accepting.cancelled() => return,
                };
                let state = Arc::clone(&shared);
                let stop = accepting.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let state = Arc::clone(&state);
                        async move { Ok::<_, Infallible>(serve(state, speaks, request).await) }
                    });
                    let serving =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    tokio::select! {
                        _ = serving => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
        });
        Self { url, state, _stop: stop.drop_guard() }
    }
}

fn full(status: u16, value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed_unsync();
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(body).unwrap()
}

fn empty(status: u16) -> Response<Body> {
    Response::builder().status(status).body(Full::new(Bytes::new()).boxed_unsync()).unwrap()
}

fn event(message: &Value) -> Bytes {
    Bytes::from(format!("event: message\ndata: {message}\n\n"))
}

fn stream() -> (Stream, Response<Body>) {
    let (sender, receiver) = mpsc::unbounded_channel::<Bytes>();
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|bytes| (Ok::<_, Infallible>(Frame::data(bytes)), receiver))
    });
    let response = Response::builder().header("content-type", "text/event-stream");
    (sender, response.body(StreamBody::new(frames).boxed_unsync()).unwrap())
}

fn sent_headers(headers: &hyper::HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into())).collect()
}

async fn serve(state: Arc<State>, speaks: Speaks, request: Request<Incoming>) -> Response<Body> {
    state.heads.lock().unwrap().push(format!("{:?}", sent_headers(request.headers())));
    let session = request.headers().get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
    if let Some(given) = request.headers().get("authorization") {
        state.authorizations.lock().unwrap().push(given.to_str().unwrap().to_owned());
    }
    let token = request.headers().get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let token = token.unwrap_or_default().to_owned();
    if state.tokens.lock().unwrap().as_ref().is_some_and(|good| !good.contains(&token)) {
        let mut response = empty(401);
        response.headers_mut().insert("www-authenticate", "Bearer error=\"invalid_token\"".parse().unwrap());
        return response;
    }
    if request.method() == Method::GET {
        if speaks == Speaks::Modern {
            return empty(405);
        }
        let (sender, response) = stream();
        // A comment at once, so that the head goes out.
        let _ = sender.send(Bytes::from_static(b": open\n\n"));
        state.streams.lock().unwrap().push(sender);
        state.stream_opened.notify_one();
        return response;
    }
    if request.method() == Method::DELETE {
        return empty(200);
    }
    let bytes = request.into_body().collect().await.unwrap().to_bytes();
    let message: Value = serde_json::from_slice(&bytes).unwrap();
    let Some(method) = message["method"].as_str().map(str::to_owned) else {
        let key = message["id"].as_str().map_or_else(|| message["id"].to_string(), str::to_owned);
        if let Some(waiting) = state.waiting.lock().unwrap().remove(&key) {
            let _ = waiting.send(message);
        }
        return empty(202);
    };
    if message.get("id").is_none() {
        state.notified.lock().unwrap().push(message);
        return empty(202);
    }
    state.asked_as.lock().unwrap().push((token, message.clone()));
    state.seen.lock().unwrap().push((method.clone(), session.clone(), message.clone()));
    match speaks {
        Speaks::Legacy => legacy(state, &method, message, session).await,
        Speaks::Modern => modern(state, &method, message).await,
    }
}

fn result(id: &Value, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

fn error(id: &Value, code: i64, text: &str, data: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text, "data": data}})
}

fn capabilities() -> Value {
    json!({
        "tools": {"listChanged": true}, "prompts": {"listChanged": true},
        "resources": {"subscribe": true, "listChanged": true}, "completions": {}, "logging": {}
    })
}

fn tool(name: &str) -> Value {
    json!({"name": name, "description": format!("does {name}"), "inputSchema": {"type": "object"}})
}

/// Names of the tools every mock has.
pub(crate) const TOOLS: &[&str] = &[
    "echo",
    "write",
    "remove",
    "odd",
    "fail",
    "rpc_error",
    "hang",
    "ask",
    "ask_two",
    "ask_sampling",
    "ask_slowly",
    "link",
    "progress",
    "drop",
    "forever",
    "resource",
];

fn listed(state: &State) -> Vec<Value> {
    let hidden = state.hidden.lock().unwrap();
    let mut tools: Vec<Value> = TOOLS.iter().filter(|name| !hidden.contains(**name)).map(|name| tool(name)).collect();
    tools.extend(state.tools.lock().unwrap().iter().cloned());
    tools
}

async fn lists(state: &State, method: &str) -> Option<Value> {
    Some(match method {
        "tools/list" => {
            state.list_reached.notify_one();
            if state.hold_lists.load(Ordering::SeqCst) {
                state.release.notified().await;
            }
            let mut tools = listed(state);
            if state.numbered.load(Ordering::SeqCst) {
                tools.push(tool(&format!("list_{}", state.count("tools/list"))));
            }
            json!({"tools": tools})
        }
        "prompts/list" => json!({"prompts": [{"name": "greet", "arguments": [{"name": "who"}]}]}),
        "resources/list" => {
            json!({"resources": [{"uri": "note://1", "name": "one"}, {"uri": "ui://board/main", "name": "ui"}]})
        }
        "resources/templates/list" => json!({"resourceTemplates": [{"uriTemplate": "note://{id}", "name": "notes"}]}),
        _ => return None,
    })
}

fn plain(method: &str, params: &Value) -> Option<Result<Value, (i64, Value)>> {
    Some(match method {
        "prompts/get" => {
            Ok(json!({"messages": [{"role": "user", "content": {"type": "text", "text": params["name"]}}]}))
        }
        "resources/read" if params["uri"] == "note://missing" => Err((-32602, json!({"uri": params["uri"]}))),
        "resources/read" => Ok(json!({"contents": [{"uri": params["uri"], "text": "t"}]})),
        "completion/complete" => Ok(json!({"completion": {"values": [params["ref"].to_string()]}})),
        "custom/method" => Ok(json!({"custom": params})),
        _ => return None,
    })
}

/// Tools that answer at once, in either era.
async fn simple(state: &State, name: &str, params: &Value) -> Option<Result<Value, (i64, Value)>> {
    let text = |text: String| Ok(json!({"content": [{"type": "text", "text": text}]}));
    Some(match name {
        "echo" | "write" | "remove" | "odd" => text(params["arguments"].to_string()),
        "fail" => Ok(json!({"content": [{"type": "text", "text": "no"}], "isError": true})),
        "rpc_error" => Err((-31000, json!({"why": "because"}))),
        "resource" => Ok(json!({"content": [{"type": "resource_link", "uri": "note://1", "name": "one"}]})),
        // As long as asked for: rows as data and as text, and a picture.
        "rows" => {
            let count = params["arguments"]["count"].as_u64().unwrap_or(1);
            let rows: Vec<Value> = (0..count).map(|n| json!({"id": n, "name": format!("row number {n}")})).collect();
            let data = json!({"rows": rows, "total": count});
            Ok(json!({
                "content": [{"type": "text", "text": data.to_string()}], "structuredContent": data, "isError": false
            }))
        }
        "hang" => {
            state.hanging.notify_one();
            state.unhang.notified().await;
            text("at last".to_owned())
        }
        _ => {
            let known = state.tools.lock().unwrap().iter().any(|tool| tool["name"] == name);
            let known = known || name.starts_with("list_");
            if !known {
                return None;
            }
            text(name.to_owned())
        }
    })
}

async fn legacy(state: Arc<State>, method: &str, message: Value, session: Option<String>) -> Response<Body> {
    let (id, params) = (message["id"].clone(), message["params"].clone());
    if method == "initialize" {
        let number = state.sessions.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = json!({
            "protocolVersion": params["protocolVersion"], "capabilities": capabilities(),
            "serverInfo": {"name": "mock", "version": "1"}, "instructions": "be kind"
        });
        let mut response = full(200, &result(&id, &answer));
        response.headers_mut().insert("mcp-session-id", format!("session-{number}").parse().unwrap());
        return response;
    }
    if method == "server/discover" {
        return full(400, &error(&Value::Null, -32000, "no session", &Value::Null));
    }
    if session.is_none() {
        return full(400, &error(&id, -32000, "no session", &Value::Null));
    }
    if method == "resources/subscribe" {
        state.subscribed.lock().unwrap().push(params["uri"].as_str().unwrap().to_owned());
        return full(200, &result(&id, &json!({})));
    }
    if method.ends_with("/list") && state.broken.load(Ordering::SeqCst) {
        return empty(500);
    }
    if let Some(list) = lists(&state, method).await {
        return full(200, &result(&id, &list));
    }
    if let Some(answer) = plain(method, &params) {
        return finished(&id, answer);
    }
    if method != "tools/call" {
        return full(200, &error(&id, -32601, "no such method", &Value::Null));
    }
    let name = params["name"].as_str().unwrap().to_owned();
    *state.executed.lock().unwrap().entry(name.clone()).or_insert(0) += 1;
    if let Some(answer) = simple(&state, &name, &params).await {
        return finished(&id, answer);
    }
    let (sender, response) = stream();
    tokio::spawn(async move { legacy_stream(state, name, id, params, sender).await });
    response
}

fn finished(id: &Value, answer: Result<Value, (i64, Value)>) -> Response<Body> {
    match answer {
        Ok(value) => full(200, &result(id, &value)),
        Err((code, data)) => full(200, &error(id, code, "failed", &data)),
    }
}

fn elicitation(text: &str) -> Value {
    json!({"message": text, "requestedSchema": {"type": "object", "properties": {"v": {"type": "string"}}}})
}

impl State {
    async fn legacy_ask(&self, sender: &Stream, key: &str, method: &str, params: Value) -> Option<Value> {
        let (answer, answered) = oneshot::channel();
        let key = {
            let mut waiting = self.waiting.lock().unwrap();
            let free = (0..).map(|n| if n == 0 { key.to_owned() } else { format!("{key}{n}") });
            let key = free.into_iter().find(|key| !waiting.contains_key(key)).unwrap();
            waiting.insert(key.clone(), answer);
            key
        };
        let ask = json!({"jsonrpc": "2.0", "id": key, "method": method, "params": params});
        sender.send(event(&ask)).ok()?;
        tokio::select! {
            answer = answered => answer.ok(),
            () = sender.closed() => None,
        }
    }
}

fn progress(sender: &Stream, params: &Value, steps: std::ops::RangeInclusive<u32>) {
    let token = &params["_meta"]["progressToken"];
    for n in steps {
        let params = json!({"progressToken": token, "progress": n, "total": 3});
        let note = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
        let _ = sender.send(event(&note));
    }
}

async fn legacy_stream(state: Arc<State>, name: String, id: Value, params: Value, sender: Stream) {
    let text = |text: String| json!({"content": [{"type": "text", "text": text}]});
    let value = |answer: Option<Value>| answer.map(|a| a["result"]["content"]["v"].as_str().unwrap_or("?").to_owned());
    let done = match name.as_str() {
        "ask" => {
            let answer = state.legacy_ask(&sender, "user_name", "elicitation/create", elicitation("name?")).await;
            let Some(name) = value(answer) else { return };
            result(&id, &text(format!("Hello {name}")))
        }
        "ask_two" => {
            let (one, two) = tokio::join!(
                state.legacy_ask(&sender, "one", "elicitation/create", elicitation("1?")),
                state.legacy_ask(&sender, "two", "elicitation/create", elicitation("2?")),
            );
            let (Some(one), Some(two)) = (value(one), value(two)) else { return };
            result(&id, &text(format!("{one} {two}")))
        }
        // Works on while it waits for the answer, once it is told to.
        "ask_slowly" => {
            let work = async {
                state.unhang.notified().await;
                progress(&sender, &params, 1..=3);
            };
            let asking = state.legacy_ask(&sender, "user_name", "elicitation/create", elicitation("name?"));
            let (answer, ()) = tokio::join!(asking, work);
            let Some(name) = value(answer) else { return };
            progress(&sender, &params, 4..=4);
            result(&id, &text(format!("Hello {name}")))
        }
        "forever" => loop {
            let answer = state.legacy_ask(&sender, "again", "elicitation/create", elicitation("again?")).await;
            if answer.is_none() {
                return;
            }
        },
        "ask_sampling" => {
            let params = json!({"messages": [], "maxTokens": 1});
            let Some(answer) = state.legacy_ask(&sender, "capital", "sampling/createMessage", params).await else {
                return;
            };
            match answer.get("error") {
                Some(_) => error(&id, -32000, "no sampling", &Value::Null),
                None => result(&id, &text("sampled".to_owned())),
            }
        }
        "link" => {
            let entry = json!({"mode": "url", "elicitationId": "e1", "url": "https://example.com/go", "message": "go"});
            error(&id, -32042, "go there", &json!({"elicitations": [entry]}))
        }
        "progress" => {
            progress(&sender, &params, 1..=3);
            result(&id, &text("done".to_owned()))
        }
        // Ends without an answer.
        "drop" => return,
        other => error(&id, -32602, &format!("Unknown tool: {other}"), &Value::Null),
    };
    let _ = sender.send(event(&done));
}

async fn modern(state: Arc<State>, method: &str, message: Value) -> Response<Body> {
    let (id, params) = (message["id"].clone(), message["params"].clone());
    let info = json!({"io.modelcontextprotocol/serverInfo": {"name": "mock", "version": "1"}});
    let complete = |mut value: Value| {
        value["resultType"] = "complete".into();
        value["_meta"] = info.clone();
        value
    };
    if method == "server/discover" {
        let answer = json!({
            "supportedVersions": ["2026-07-28"], "capabilities": capabilities(), "instructions": "be kind",
            "ttlMs": 60000, "cacheScope": "public"
        });
        return full(200, &result(&id, &complete(answer)));
    }
    if method == "subscriptions/listen" {
        let (sender, response) = stream();
        let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
        let ack = json!({"notifications": params["notifications"], "_meta": meta});
        let message = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": ack});
        let _ = sender.send(event(&message));
        state.streams.lock().unwrap().push(sender);
        state.stream_opened.notify_one();
        return response;
    }
    if method.ends_with("/list") && state.broken.load(Ordering::SeqCst) {
        return empty(500);
    }
    if let Some(mut list) = lists(&state, method).await {
        if let Some((ttl, scope)) = *state.cache.lock().unwrap() {
            list["ttlMs"] = ttl.into();
            list["cacheScope"] = scope.into();
        }
        return full(200, &result(&id, &complete(list)));
    }
    if let Some(answer) = plain(method, &params) {
        return finished(&id, answer.map(complete));
    }
    if method != "tools/call" {
        return full(404, &error(&id, -32601, "no such method", &Value::Null));
    }
    let name = params["name"].as_str().unwrap().to_owned();
    *state.executed.lock().unwrap().entry(name.clone()).or_insert(0) += 1;
    if let Some(answer) = simple(&state, &name, &params).await {
        return finished(&id, answer.map(complete));
    }
    modern_rounds(&name, &id, &params, complete)
}

fn modern_rounds(name: &str, id: &Value, params: &Value, complete: impl Fn(Value) -> Value) -> Response<Body> {
    let text = |text: String| complete(json!({"content": [{"type": "text", "text": text}]}));
    let ask = |key: &str, state: Option<&str>, method: &str, params: Value| {
        let mut answer =
            json!({"resultType": "input_required", "inputRequests": {key: {"method": method, "params": params}}});
        if let Some(state) = state {
            answer["requestState"] = state.into();
        }
        answer
    };
    let responses = &params["inputResponses"];
    let answer = match name {
        "ask" => match responses["user_name"]["content"]["v"].as_str() {
            Some(v) if params["requestState"] == "mock-state" => text(format!("Hello {v}")),
            Some(_) => return full(200, &error(id, -32602, "bad requestState", &Value::Null)),
            None => ask("user_name", Some("mock-state"), "elicitation/create", elicitation("name?")),
        },
        "ask_two" => match (responses["one"]["content"]["v"].as_str(), responses["two"]["content"]["v"].as_str()) {
            (Some(one), Some(two)) => text(format!("{one} {two}")),
            _ => json!({"resultType": "input_required", "inputRequests": {
                "one": {"method": "elicitation/create", "params": elicitation("1?")},
                "two": {"method": "elicitation/create", "params": elicitation("2?")}
            }}),
        },
        "forever" => ask("again", Some("s"), "elicitation/create", elicitation("again?")),
        "ask_sampling" => match responses["capital"]["content"].is_null() {
            false => text("sampled".to_owned()),
            true => ask("capital", None, "sampling/createMessage", json!({"messages": [], "maxTokens": 1})),
        },
        "link" => match responses["go"]["action"].as_str() {
            Some("accept") => text("went".to_owned()),
            _ => ask(
                "go",
                Some("l"),
                "elicitation/create",
                json!({"mode": "url", "url": "https://example.com/go", "message": "go"}),
            ),
        },
        other => return full(200, &error(id, -32602, &format!("Unknown tool: {other}"), &Value::Null)),
    };
    full(StatusCode::OK.as_u16(), &result(id, &answer))
}
