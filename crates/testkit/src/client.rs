//! Simple MCP clients of both eras.

use std::sync::Arc;

use serde_json::{Value, json};

mod legacy;
mod modern;

pub use legacy::LegacyClient;
pub use modern::{Listening, ModernClient};

/// How a request ended that has no result.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// HTTP status; 0 when there was no answer at all.
    pub status: u16,
    /// JSON-RPC code; 0 when there was no JSON-RPC error.
    pub code: i64,
    /// Message, or the body as it was.
    pub message: String,
    /// `data` of the error.
    pub data: Value,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "HTTP {}, code {}: {} {}", self.status, self.code, self.message, self.data)
    }
}

impl std::error::Error for Problem {}

impl Problem {
    fn from_error(status: u16, error: &Value) -> Self {
        Self {
            status,
            code: error["code"].as_i64().unwrap_or(0),
            message: error["message"].as_str().unwrap_or_default().to_owned(),
            data: error["data"].clone(),
        }
    }

    fn broken(status: u16, message: impl std::fmt::Display) -> Self {
        Self { status, code: 0, message: message.to_string(), data: Value::Null }
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self::broken(0, format!("{error:#}"))
    }
}

/// A result with what came before it.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// The result.
    pub result: Value,
    /// Notifications on the same stream, in order.
    pub notifications: Vec<Value>,
}

impl Exchange {
    /// Text blocks of a tool result, joined.
    pub fn text(&self) -> String {
        text_of(&self.result)
    }

    /// Whether a tool result is an error.
    pub fn is_error(&self) -> bool {
        self.result["isError"] == true
    }

    /// The refusal in `_meta`, null when there is none.
    pub fn decision(&self) -> &Value {
        &self.result["_meta"]["bartizan/decision"]
    }
}

/// Text blocks of a tool result, joined by newlines.
pub fn text_of(result: &Value) -> String {
    let blocks = result["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
}

/// The names of the items of a list result.
pub fn names_of(result: &Value, member: &str, name: &str) -> Vec<String> {
    let items = result[member].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item[name].as_str().map(str::to_owned)).collect()
}

/// Answers what servers ask: method and params to a result, or `None` to refuse.
pub type Answers = Arc<dyn Fn(&str, &Value) -> Option<Value> + Send + Sync>;

/// Accepts every form with "Ada" in every text field, says "Paris", has one root.
pub fn friendly() -> Answers {
    Arc::new(|method, params| match method {
        "elicitation/create" => {
            let fields = params["requestedSchema"]["properties"].as_object();
            let content: serde_json::Map<String, Value> = fields
                .into_iter()
                .flatten()
                .map(|(name, schema)| {
                    let value = match schema["type"].as_str() {
                        Some("boolean") => json!(true),
                        Some("integer" | "number") => json!(1),
                        Some("array") => json!([]),
                        _ => schema["enum"].get(0).cloned().unwrap_or_else(|| json!("Ada")),
                    };
                    (name.clone(), value)
                })
                .collect();
            Some(json!({"action": "accept", "content": content}))
        }
        "sampling/createMessage" => {
            let content = json!({"type": "text", "text": "Paris"});
            Some(json!({"role": "assistant", "content": content, "model": "scripted", "stopReason": "endTurn"}))
        }
        "roots/list" => Some(json!({"roots": [{"uri": "file:///test/root", "name": "Test Root"}]})),
        _ => None,
    })
}

/// Declares elicitation, sampling and roots.
pub fn all_capabilities() -> Value {
    json!({"elicitation": {}, "sampling": {}, "roots": {}})
}

/// Who connects, and how.
#[derive(Clone)]
pub struct Identity {
    /// Bearer token; none = anonymous.
    pub token: Option<String>,
    /// More headers on every request.
    pub headers: Vec<(String, String)>,
    /// Client name.
    pub name: String,
    /// Declared capabilities.
    pub capabilities: Value,
    /// Answers to what servers ask.
    pub answers: Answers,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            token: None,
            headers: Vec::new(),
            name: "testkit".to_owned(),
            capabilities: all_capabilities(),
            answers: friendly(),
        }
    }
}

impl Identity {
    /// With a bearer token.
    pub fn bearer(token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..Self::default() }
    }

    /// The same with other capabilities.
    pub fn declaring(self, capabilities: Value) -> Self {
        Self { capabilities, ..self }
    }

    /// The same with other answers.
    pub fn answering(self, answers: Answers) -> Self {
        Self { answers, ..self }
    }

    fn headers(&self) -> Vec<(String, String)> {
        let mut headers = self.headers.clone();
        if let Some(token) = &self.token {
            headers.push(("authorization".to_owned(), format!("Bearer {token}")));
        }
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
        headers.push(("accept".to_owned(), "application/json, text/event-stream".to_owned()));
        headers
    }
}
