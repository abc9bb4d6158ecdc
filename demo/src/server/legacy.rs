//! The legacy era: `initialize`, sessions, one stand-alone stream per session.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::rpc::{self, Message, RpcError, error_response};
use super::{Body, LEGACY_VERSIONS, Server, empty, methods, session_id, sse, text};
use crate::app::{Answer, Note, Output, Reply};

/// Sessions kept; the oldest gives way.
const MAX_SESSIONS: usize = 20_000;
/// How long a user may think about a question.
const ANSWER_WITHIN: Duration = Duration::from_secs(300);

/// All sessions of one server.
#[derive(Default)]
pub(super) struct Sessions {
    by_id: HashMap<String, Session>,
    order: VecDeque<String>,
}

struct Session {
    version: &'static str,
    can_ask: bool,
    subscriptions: HashSet<String>,
    questions: HashMap<String, oneshot::Sender<Option<Value>>>,
}

fn lock(server: &Server) -> MutexGuard<'_, Sessions> {
    server.sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn post(server: Arc<Server>, headers: &HeaderMap, value: Value) -> Response<Body> {
    if value.is_array() {
        return batch(&server, headers, value);
    }
    let id = value.get("id").cloned();
    let message = match Message::parse(value) {
        Ok(message) => message,
        Err(error) => return error_response(StatusCode::BAD_REQUEST, id.as_ref(), &error),
    };
    if let Message::Request { id, method, params } = &message
        && method == "initialize"
    {
        return initialize(&server, id, params);
    }
    let session = match known_session(&server, headers) {
        Ok(session) => session,
        Err((status, error)) => return error_response(status, id.as_ref(), &error),
    };
    match message {
        Message::Notification { .. } => empty(StatusCode::ACCEPTED),
        Message::Response { id, result } => {
            let waiting = lock(&server).by_id.get_mut(&session).and_then(|s| s.questions.remove(id.as_str()?));
            if let Some(waiting) = waiting {
                let _ = waiting.send(result);
            }
            empty(StatusCode::ACCEPTED)
        }
        Message::Request { id, method, params } if method == "tools/call" => {
            call(server, session, id, params, text(headers, "accept"))
        }
        Message::Request { id, method, params } => {
            let outcome = simple(&server, &session, &method, &params);
            super::json(StatusCode::OK, &rpc::response(&id, &outcome))
        }
    }
}

fn known_session(server: &Server, headers: &HeaderMap) -> Result<String, (StatusCode, RpcError)> {
    let Some(id) = session_id(headers) else {
        let error = RpcError::new(-32600, "no session: begin with `initialize` and send its Mcp-Session-Id");
        return Err((StatusCode::BAD_REQUEST, error));
    };
    if let Some(version) = text(headers, "mcp-protocol-version")
        && !LEGACY_VERSIONS.contains(&version)
    {
        return Err((StatusCode::BAD_REQUEST, RpcError::new(-32600, "unsupported MCP-Protocol-Version")));
    }
    if lock(server).by_id.contains_key(id) {
        Ok(id.to_owned())
    } else {
        Err((StatusCode::NOT_FOUND, RpcError::new(-32600, "this session does not exist or has ended")))
    }
}

fn initialize(server: &Server, id: &Value, params: &Map<String, Value>) -> Response<Body> {
    let wanted = params.get("protocolVersion").and_then(Value::as_str);
    let Some(wanted) = wanted else {
        let error = RpcError::new(-32602, "`protocolVersion` is missing");
        return super::json(StatusCode::OK, &rpc::response(id, &Err(error)));
    };
    let version = LEGACY_VERSIONS.into_iter().find(|known| *known == wanted).unwrap_or("2025-11-25");
    let session = Session {
        version,
        // Questions to the user came with 2025-06-18.
        can_ask: version >= "2025-06-18" && methods::can_ask(params.get("capabilities")),
        subscriptions: HashSet::new(),
        questions: HashMap::new(),
    };
    let name = Uuid::now_v7().simple().to_string();
    let mut sessions = lock(server);
    sessions.by_id.insert(name.clone(), session);
    sessions.order.push_back(name.clone());
    if sessions.order.len() > MAX_SESSIONS
        && let Some(oldest) = sessions.order.pop_front()
    {
        sessions.by_id.remove(&oldest);
    }
    drop(sessions);
    let result = json!({
        "protocolVersion": version,
        "capabilities": methods::capabilities(),
        "serverInfo": methods::server_info(&*server.app),
        "instructions": server.app.about().instructions,
    });
    let mut response = super::json(StatusCode::OK, &rpc::response(id, &Ok(result)));
    if let Ok(value) = HeaderValue::from_str(&name) {
        response.headers_mut().insert("mcp-session-id", value);
    }
    response
}

/// Everything that is answered at once.
fn simple(server: &Server, session: &str, method: &str, params: &Map<String, Value>) -> Result<Value, RpcError> {
    match method {
        "ping" => Ok(json!({})),
        "resources/subscribe" | "resources/unsubscribe" => {
            let uri = methods::required(params, "uri")?;
            let mut sessions = lock(server);
            if let Some(session) = sessions.by_id.get_mut(session) {
                if method == "resources/unsubscribe" {
                    session.subscriptions.remove(uri);
                } else if session.subscriptions.len() < 1000 {
                    session.subscriptions.insert(uri.to_owned());
                }
            }
            Ok(json!({}))
        }
        _ => methods::answer(&*server.app, method, params).unwrap_or_else(|| Err(RpcError::method_not_found(method))),
    }
}

fn call(
    server: Arc<Server>,
    session: String,
    id: Value,
    params: Map<String, Value>,
    accept: Option<&str>,
) -> Response<Body> {
    let streams = accept.is_some_and(|accept| accept.contains("text/event-stream"));
    let can_ask = streams && lock(&server).by_id.get(&session).is_some_and(|s| s.can_ask);
    let token = params.get("_meta").and_then(|meta| meta.get("progressToken")).cloned().filter(|_| streams);
    let reply = methods::call(&*server.app, &params, can_ask, Answer::None);
    match reply {
        Ok(Reply::Done(output)) if output.steps.is_empty() || token.is_none() => {
            super::json(StatusCode::OK, &rpc::response(&id, &Ok(output.into_result())))
        }
        Err(error) => super::json(StatusCode::OK, &rpc::response(&id, &Err(error))),
        Ok(reply) => {
            let (sender, response) = sse::channel();
            tokio::spawn(async move {
                let outcome = finish(&server, &session, &params, reply, token.as_ref(), &sender).await;
                let _ = sender.send(rpc::response(&id, &outcome)).await;
            });
            response
        }
    }
}

async fn finish(
    server: &Server,
    session: &str,
    params: &Map<String, Value>,
    reply: Reply,
    token: Option<&Value>,
    sender: &mpsc::Sender<Value>,
) -> Result<Value, RpcError> {
    let reply = match reply {
        Reply::Done(output) => Reply::Done(output),
        Reply::Confirm(message) => {
            let answer = ask(server, session, &message, sender).await;
            methods::call(&*server.app, params, true, answer)?
        }
    };
    let Reply::Done(output) = reply else { return Err(RpcError::new(-32603, "the question was asked twice")) };
    report(&output, token, sender).await;
    Ok(output.into_result())
}

/// Sends the steps of a longer piece of work as progress.
pub(super) async fn report(output: &Output, token: Option<&Value>, sender: &mpsc::Sender<Value>) {
    let Some(token) = token else { return };
    for (done, step) in output.steps.iter().enumerate() {
        let params =
            json!({"progressToken": token, "progress": done + 1, "total": output.steps.len(), "message": step});
        if sender.send(rpc::notification("notifications/progress", params)).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

async fn ask(server: &Server, session: &str, message: &str, sender: &mpsc::Sender<Value>) -> Answer {
    let question = format!("ask-{}", Uuid::now_v7().simple());
    let (tell, told) = oneshot::channel();
    match lock(server).by_id.get_mut(session) {
        Some(session) => session.questions.insert(question.clone(), tell),
        None => return Answer::No,
    };
    let request = rpc::request(&question, "elicitation/create", methods::confirmation(message));
    if sender.send(request).await.is_err() {
        return Answer::No;
    }
    let result = tokio::time::timeout(ANSWER_WITHIN, told).await;
    if let Some(session) = lock(server).by_id.get_mut(session) {
        session.questions.remove(&question);
    }
    methods::confirmed(result.ok().and_then(Result::ok).flatten().as_ref())
}

/// Batches exist in 2025-03-26 only.
fn batch(server: &Server, headers: &HeaderMap, value: Value) -> Response<Body> {
    let session = match known_session(server, headers) {
        Ok(session) => session,
        Err((status, error)) => return error_response(status, None, &error),
    };
    let batches = lock(server).by_id.get(&session).is_some_and(|s| s.version == "2025-03-26");
    let Value::Array(items) = value else { return empty(StatusCode::BAD_REQUEST) };
    if !batches || items.is_empty() || items.len() > 100 {
        let error = RpcError::new(-32600, "batches are not part of this protocol version");
        return error_response(StatusCode::BAD_REQUEST, None, &error);
    }
    let mut answers = Vec::new();
    for item in items {
        let Ok(Message::Request { id, method, params }) = Message::parse(item) else { continue };
        let outcome = if method == "tools/call" {
            methods::call(&*server.app, &params, false, Answer::None).and_then(|reply| match reply {
                Reply::Done(output) => Ok(output.into_result()),
                Reply::Confirm(_) => Err(RpcError::new(-32603, "this tool cannot be called in a batch")),
            })
        } else {
            simple(server, &session, &method, &params)
        };
        answers.push(rpc::response(&id, &outcome));
    }
    if answers.is_empty() { empty(StatusCode::ACCEPTED) } else { super::json(StatusCode::OK, &Value::Array(answers)) }
}

/// The stand-alone stream: what changed in resources the session subscribed to.
pub(super) fn stream(server: &Arc<Server>, headers: &HeaderMap) -> Response<Body> {
    let session = match known_session(server, headers) {
        Ok(session) => session,
        Err((status, error)) => return error_response(status, None, &error),
    };
    let (sender, response) = sse::channel();
    let (server, mut notes) = (server.clone(), server.app.notes());
    tokio::spawn(async move {
        loop {
            let note = tokio::select! {
                note = notes.recv() => note,
                () = sender.closed() => return,
            };
            let message = match note {
                Ok(Note::ResourceList) => rpc::notification("notifications/resources/list_changed", json!({})),
                Ok(Note::Updated(uri)) => {
                    let sessions = lock(&server);
                    let Some(session) = sessions.by_id.get(&session) else { return };
                    if !session.subscriptions.contains(&uri) {
                        continue;
                    }
                    rpc::notification("notifications/resources/updated", json!({"uri": uri}))
                }
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => continue,
                Err(_) => return,
            };
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    response
}

pub(super) fn end(server: &Server, headers: &HeaderMap) -> Response<Body> {
    let Some(id) = session_id(headers) else { return empty(StatusCode::BAD_REQUEST) };
    let mut sessions = lock(server);
    if sessions.by_id.remove(id).is_none() {
        return empty(StatusCode::NOT_FOUND);
    }
    sessions.order.retain(|kept| kept != id);
    empty(StatusCode::OK)
}
