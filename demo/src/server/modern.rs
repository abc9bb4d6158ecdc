//! The modern era, 2026-07-28: every request stands alone.

use std::sync::Arc;

use base64::Engine;
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::rpc::{self, Message, RpcError, error_response};
use super::{Body, MODERN_VERSION, Server, empty, legacy, methods, sse, text};
use crate::app::{Answer, Note, Reply};

pub(super) const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
const SUBSCRIPTION_KEY: &str = "io.modelcontextprotocol/subscriptionId";
const SERVER_KEY: &str = "io.modelcontextprotocol/serverInfo";
/// Key of the only question these servers ask.
const QUESTION: &str = "confirm";

pub(super) fn post(server: &Arc<Server>, headers: &HeaderMap, value: Value) -> Response<Body> {
    let id = value.get("id").cloned();
    let message = match Message::parse(value) {
        Ok(message) => message,
        Err(error) => return error_response(StatusCode::BAD_REQUEST, id.as_ref(), &error),
    };
    match message {
        Message::Notification { params } => match check_version(headers, &params) {
            Ok(()) => empty(StatusCode::ACCEPTED),
            Err(error) => error_response(StatusCode::BAD_REQUEST, None, &error),
        },
        Message::Response { id, .. } => {
            let error = RpcError::new(-32600, "clients do not send responses in this version");
            error_response(StatusCode::BAD_REQUEST, Some(&id), &error)
        }
        Message::Request { id, method, params } => {
            match check_version(headers, &params).and_then(|()| check_headers(headers, &method, &params)) {
                Ok(()) => request(server, headers, &id, &method, params),
                Err(error) => error_response(StatusCode::BAD_REQUEST, Some(&id), &error),
            }
        }
    }
}

fn request(
    server: &Arc<Server>,
    headers: &HeaderMap,
    id: &Value,
    method: &str,
    params: Map<String, Value>,
) -> Response<Body> {
    let app = &*server.app;
    let outcome = match method {
        "server/discover" => Ok(json!({
            "supportedVersions": [MODERN_VERSION],
            "capabilities": methods::capabilities(),
            "instructions": app.about().instructions,
        })),
        "tools/call" => return call(server, headers, id, &params),
        "subscriptions/listen" => return listen(server, id, &params),
        _ => match methods::answer(app, method, &params) {
            Some(outcome) => outcome,
            None => {
                return error_response(StatusCode::NOT_FOUND, Some(id), &RpcError::method_not_found(method));
            }
        },
    };
    let cacheable = !matches!(method, "prompts/get" | "completion/complete");
    // Modern revisions use -32602 for an unknown resource.
    let outcome = outcome.map(|result| complete(server, result, cacheable)).map_err(|error| match error.code {
        -32002 => RpcError { code: -32602, ..error },
        _ => error,
    });
    super::json(StatusCode::OK, &rpc::response(id, &outcome))
}

/// Adds what every complete result carries.
fn complete(server: &Server, result: Value, cacheable: bool) -> Value {
    let mut result = result;
    if let Some(members) = result.as_object_mut() {
        members.insert("resultType".into(), "complete".into());
        if cacheable {
            members.insert("ttlMs".into(), 5_000.into());
            members.insert("cacheScope".into(), "public".into());
        }
        members.insert("_meta".into(), json!({SERVER_KEY: methods::server_info(&*server.app)}));
    }
    result
}

fn meta<'a>(params: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    params.get("_meta").and_then(|meta| meta.get(key))
}

fn check_version(headers: &HeaderMap, params: &Map<String, Value>) -> Result<(), RpcError> {
    let Some(version) = meta(params, VERSION_KEY).and_then(Value::as_str) else {
        return Err(RpcError::new(-32602, format!("`_meta` lacks {VERSION_KEY}; legacy sessions are not served here")));
    };
    if text(headers, "mcp-protocol-version") != Some(version) {
        return Err(RpcError::new(-32020, "MCP-Protocol-Version is missing or differs from the body"));
    }
    if version != MODERN_VERSION {
        let data = json!({"supported": [MODERN_VERSION], "requested": version});
        return Err(RpcError::new(-32022, "Unsupported protocol version").with(data));
    }
    if !meta(params, CAPABILITIES_KEY).is_some_and(Value::is_object) {
        return Err(RpcError::new(-32602, format!("`_meta` lacks {CAPABILITIES_KEY}")));
    }
    Ok(())
}

/// `Mcp-Method` and `Mcp-Name` must say what the body says.
fn check_headers(headers: &HeaderMap, method: &str, params: &Map<String, Value>) -> Result<(), RpcError> {
    if text(headers, "mcp-method") != Some(method) {
        return Err(RpcError::new(-32020, "Mcp-Method is missing or differs from the body"));
    }
    let member = match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        _ => return Ok(()),
    };
    let named = text(headers, "mcp-name").and_then(decode);
    if named.as_deref() == params.get(member).and_then(Value::as_str) && named.is_some() {
        Ok(())
    } else {
        Err(RpcError::new(-32020, "Mcp-Name is missing or differs from the body"))
    }
}

/// Header values outside plain ASCII travel as `=?base64?…?=`.
fn decode(value: &str) -> Option<String> {
    match value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        None => Some(value.to_owned()),
        Some(coded) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(coded).ok()?;
            String::from_utf8(bytes).ok()
        }
    }
}

fn call(server: &Arc<Server>, headers: &HeaderMap, id: &Value, params: &Map<String, Value>) -> Response<Body> {
    let can_ask = methods::can_ask(meta(params, CAPABILITIES_KEY));
    let answer = match params.get("inputResponses").and_then(|all| all.get(QUESTION)) {
        None => Answer::None,
        Some(result) => methods::confirmed(Some(result)),
    };
    let streams = text(headers, "accept").is_some_and(|accept| accept.contains("text/event-stream"));
    let token = meta(params, "progressToken").cloned().filter(|_| streams);
    let output = match methods::call(&*server.app, params, can_ask, answer) {
        Err(error) => return super::json(StatusCode::OK, &rpc::response(id, &Err(error))),
        Ok(Reply::Confirm(message)) => {
            let mut question = methods::confirmation(&message);
            if let Some(members) = question.as_object_mut() {
                members.insert("mode".into(), "form".into());
            }
            let result = json!({
                "resultType": "input_required",
                "inputRequests": {QUESTION: {"method": "elicitation/create", "params": question}},
                "_meta": {SERVER_KEY: methods::server_info(&*server.app)},
            });
            return super::json(StatusCode::OK, &rpc::response(id, &Ok(result)));
        }
        Ok(Reply::Done(output)) => output,
    };
    if output.steps.is_empty() || token.is_none() {
        let result = complete(server, output.into_result(), false);
        return super::json(StatusCode::OK, &rpc::response(id, &Ok(result)));
    }
    let (sender, response) = sse::channel();
    let (server, id) = (server.clone(), id.clone());
    tokio::spawn(async move {
        legacy::report(&output, token.as_ref(), &sender).await;
        let result = complete(&server, output.into_result(), false);
        let _ = sender.send(rpc::response(&id, &Ok(result))).await;
    });
    response
}

fn listen(server: &Arc<Server>, id: &Value, params: &Map<String, Value>) -> Response<Body> {
    let wanted = params.get("notifications");
    let list_changes = wanted.and_then(|w| w.get("resourcesListChanged")) == Some(&Value::Bool(true));
    let uris: Vec<String> = wanted
        .and_then(|w| w.get("resourceSubscriptions"))
        .and_then(Value::as_array)
        .map(|uris| uris.iter().filter_map(Value::as_str).map(str::to_owned).take(1000).collect())
        .unwrap_or_default();
    let mut accepted = Map::new();
    if list_changes {
        accepted.insert("resourcesListChanged".into(), true.into());
    }
    if !uris.is_empty() {
        accepted.insert("resourceSubscriptions".into(), json!(uris));
    }
    let (sender, response) = sse::channel();
    let (mut notes, mark) = (server.app.notes(), json!({SUBSCRIPTION_KEY: id}));
    tokio::spawn(async move {
        let acknowledged = json!({"_meta": mark, "notifications": accepted});
        let first = rpc::notification("notifications/subscriptions/acknowledged", acknowledged);
        if sender.send(first).await.is_err() {
            return;
        }
        loop {
            let note = tokio::select! {
                note = notes.recv() => note,
                () = sender.closed() => return,
            };
            let message = match note {
                Ok(Note::ResourceList) if list_changes => {
                    rpc::notification("notifications/resources/list_changed", json!({"_meta": mark}))
                }
                Ok(Note::Updated(uri)) if uris.contains(&uri) => {
                    rpc::notification("notifications/resources/updated", json!({"_meta": mark, "uri": uri}))
                }
                Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => continue,
                Err(_) => return,
            };
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    response
}
