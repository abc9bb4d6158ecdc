//! A client of the modern era.

use std::sync::atomic::{AtomicI64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use super::{Exchange, Identity, Problem};
use crate::http::{Events, Http, Reply};

const VERSION: &str = "2026-07-28";

/// A client; it has no session.
pub struct ModernClient {
    http: Http,
    url: String,
    identity: Identity,
    level: Option<String>,
    next: AtomicI64,
}

/// An open `subscriptions/listen`.
pub struct Listening {
    /// The id of the request.
    pub id: Value,
    /// The acknowledgement.
    pub acknowledged: Value,
    /// What follows.
    pub events: Events,
}

/// A header value in the coding of the specification.
fn coded(value: &str) -> String {
    let plain = value.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
        && value.trim() == value
        && !(value.starts_with("=?base64?") && value.ends_with("?="));
    if plain { value.to_owned() } else { format!("=?base64?{}?=", STANDARD.encode(value)) }
}

impl ModernClient {
    /// A client of an endpoint.
    pub fn new(url: &str, identity: Identity) -> Self {
        Self::with(Http::new(), url, identity)
    }

    /// A client over connections that others use too.
    pub fn with(http: Http, url: &str, identity: Identity) -> Self {
        Self { http, url: url.to_owned(), identity, level: None, next: AtomicI64::new(1) }
    }

    /// The same, asking for log messages of a level.
    pub fn logging(self, level: &str) -> Self {
        Self { level: Some(level.to_owned()), ..self }
    }

    /// The `_meta` of every request.
    pub fn meta(&self) -> Value {
        let mut meta = json!({
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientCapabilities": self.identity.capabilities,
            "io.modelcontextprotocol/clientInfo": {"name": self.identity.name, "version": "1.0.0"},
        });
        if let Some(level) = &self.level {
            meta["io.modelcontextprotocol/logLevel"] = json!(level);
        }
        meta
    }

    /// The headers the specification demands for a request.
    pub fn headers(&self, method: &str, params: &Value) -> Vec<(String, String)> {
        let mut headers = self.identity.headers();
        headers.push(("mcp-protocol-version".to_owned(), VERSION.to_owned()));
        headers.push(("mcp-method".to_owned(), method.to_owned()));
        let name = match method {
            "tools/call" | "prompts/get" => &params["name"],
            "resources/read" => &params["uri"],
            _ => &Value::Null,
        };
        if let Some(name) = name.as_str() {
            headers.push(("mcp-name".to_owned(), coded(name)));
        }
        headers
    }

    /// Sends a body with headers of one's own choice.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn send(&self, headers: &[(String, String)], body: String) -> Result<Reply, Problem> {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Ok(self.http.send(Method::POST, &self.url, &headers, body).await?)
    }

    async fn post(
        &self,
        method: &str,
        mut params: Value,
        extra: &[(String, String)],
    ) -> Result<(Value, Reply), Problem> {
        let mut meta = self.meta();
        if let (Some(meta), Some(given)) = (meta.as_object_mut(), params["_meta"].as_object()) {
            meta.extend(given.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        params["_meta"] = meta;
        let id = json!(self.next.fetch_add(1, Ordering::SeqCst));
        let mut headers = self.headers(method, &params);
        headers.extend_from_slice(extra);
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string();
        Ok((id, self.send(&headers, body).await?))
    }

    /// One request, one answer; `input_required` is an answer like any other.
    ///
    /// # Errors
    /// The JSON-RPC error, or an HTTP error as it was.
    pub async fn once(&self, method: &str, params: Value) -> Result<Exchange, Problem> {
        self.once_with(method, params, &[]).await
    }

    /// The same with more headers, such as `Mcp-Param-…`.
    ///
    /// # Errors
    /// As [`Self::once`].
    pub async fn once_with(
        &self,
        method: &str,
        params: Value,
        extra: &[(String, String)],
    ) -> Result<Exchange, Problem> {
        let (id, reply) = self.post(method, params, extra).await?;
        let status = reply.status;
        if !reply.is_events() {
            let text = reply.text().await?;
            let message: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
            return match ended(status, &message) {
                Some(Ok(result)) => Ok(Exchange { result, notifications: Vec::new() }),
                Some(Err(problem)) => Err(problem),
                None => Err(Problem::broken(status, text)),
            };
        }
        let mut events = reply.events();
        let mut notifications = Vec::new();
        while let Some(message) = events.message().await? {
            if message.get("method").is_some() {
                if message.get("id").is_some() {
                    return Err(Problem::broken(status, format!("a request on a response stream: {message}")));
                }
                notifications.push(message);
            } else if message["id"] == id
                && let Some(end) = ended(status, &message)
            {
                return end.map(|result| Exchange { result, notifications });
            }
        }
        Err(Problem::broken(status, "the stream ended without a response"))
    }

    /// Sends a request and retries with answers until it is complete (at most 10 rounds).
    ///
    /// # Errors
    /// As [`Self::once`], or when it asks too often.
    pub async fn request(&self, method: &str, params: Value) -> Result<Exchange, Problem> {
        let mut current = params.clone();
        for _ in 0..10 {
            let exchange = self.once(method, current).await?;
            if exchange.result["resultType"] != "input_required" {
                return Ok(exchange);
            }
            current = self.retry(&params, &exchange.result);
        }
        Err(Problem::broken(200, "asked more than ten times"))
    }

    /// The params of a retry that answers everything.
    pub fn retry(&self, params: &Value, required: &Value) -> Value {
        let mut next = params.clone();
        let mut responses = json!({});
        for (key, ask) in required["inputRequests"].as_object().into_iter().flatten() {
            let method = ask["method"].as_str().unwrap_or_default();
            if let Some(answer) = (self.identity.answers)(method, &ask["params"]) {
                responses[key.as_str()] = answer;
            }
        }
        next["inputResponses"] = responses;
        if let Some(state) = required.get("requestState") {
            next["requestState"] = state.clone();
        }
        next
    }

    /// Calls a tool.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn call(&self, name: &str, arguments: Value) -> Result<Exchange, Problem> {
        self.request("tools/call", json!({"name": name, "arguments": arguments})).await
    }

    /// All tool names, page by page.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn tools(&self) -> Result<Vec<String>, Problem> {
        let mut names = Vec::new();
        let mut params = json!({});
        loop {
            let exchange = self.request("tools/list", params).await?;
            names.extend(super::names_of(&exchange.result, "tools", "name"));
            match exchange.result.get("nextCursor") {
                Some(cursor) => params = json!({"cursor": cursor}),
                None => return Ok(names),
            }
        }
    }

    /// Opens a stream of a request without reading it; dropping it cancels the request.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn open(&self, method: &str, params: Value) -> Result<Reply, Problem> {
        Ok(self.post(method, params, &[]).await?.1)
    }

    /// Listens for notifications.
    ///
    /// # Errors
    /// When the first message is no acknowledgement.
    pub async fn listen(&self, filter: Value) -> Result<Listening, Problem> {
        let (id, reply) = self.post("subscriptions/listen", json!({"notifications": filter}), &[]).await?;
        let status = reply.status;
        if !reply.is_events() {
            return Err(Problem::broken(status, reply.text().await.unwrap_or_default()));
        }
        let mut events = reply.events();
        match events.message().await? {
            Some(first) if first["method"] == "notifications/subscriptions/acknowledged" => {
                Ok(Listening { id, acknowledged: first, events })
            }
            first => Err(Problem::broken(status, format!("not acknowledged: {first:?}"))),
        }
    }
}

fn ended(status: u16, message: &Value) -> Option<Result<Value, Problem>> {
    match message.get("error") {
        Some(error) => Some(Err(Problem::from_error(status, error))),
        None => message.get("result").cloned().map(Ok),
    }
}
