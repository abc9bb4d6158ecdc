//! JSON-RPC 2.0 envelopes.

use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::Body;

/// One message of a client.
pub(super) enum Message {
    Request { id: Value, method: String, params: Map<String, Value> },
    Notification { params: Map<String, Value> },
    Response { id: Value, result: Option<Value> },
}

/// A JSON-RPC error.
#[derive(Debug)]
pub(super) struct RpcError {
    pub(super) code: i64,
    pub(super) message: String,
    pub(super) data: Option<Value>,
}

impl RpcError {
    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    pub(super) fn with(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    pub(super) fn method_not_found(method: &str) -> Self {
        Self::new(-32601, format!("Method not found: {method}"))
    }

    fn value(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let (Some(data), Some(members)) = (&self.data, error.as_object_mut()) {
            members.insert("data".into(), data.clone());
        }
        error
    }
}

impl Message {
    pub(super) fn parse(value: Value) -> Result<Self, RpcError> {
        let invalid = |what: &str| RpcError::new(-32600, format!("not a JSON-RPC 2.0 message: {what}"));
        let Value::Object(mut members) = value else { return Err(invalid("not an object")) };
        if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Err(invalid("`jsonrpc` is not \"2.0\""));
        }
        let id = match members.remove("id") {
            None => None,
            Some(id @ (Value::String(_) | Value::Number(_))) => Some(id),
            Some(_) => return Err(invalid("`id` is neither text nor number")),
        };
        let params = match members.remove("params") {
            None => Map::new(),
            Some(Value::Object(params)) => params,
            Some(_) => return Err(invalid("`params` is not an object")),
        };
        match (members.remove("method"), id) {
            (Some(Value::String(method)), Some(id)) => Ok(Self::Request { id, method, params }),
            (Some(Value::String(_)), None) => Ok(Self::Notification { params }),
            (Some(_), _) => Err(invalid("`method` is not text")),
            (None, Some(id)) => Ok(Self::Response { id, result: members.remove("result") }),
            (None, None) => Err(invalid("neither `method` nor `id`")),
        }
    }
}

pub(super) fn response(id: &Value, outcome: &Result<Value, RpcError>) -> Value {
    match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error.value()}),
    }
}

pub(super) fn request(id: &str, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

pub(super) fn notification(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

pub(super) fn error_response(status: StatusCode, id: Option<&Value>, error: &RpcError) -> Response<Body> {
    let mut body = json!({"jsonrpc": "2.0", "error": error.value()});
    if let (Some(id), Some(members)) = (id, body.as_object_mut()) {
        members.insert("id".into(), id.clone());
    }
    super::json(status, &body)
}
