//! A client of the legacy era over Streamable HTTP.

use std::sync::atomic::{AtomicI64, Ordering};

use http::Method;
use serde_json::{Value, json};

use super::{Exchange, Identity, Problem};
use crate::http::{Events, Http, Reply};

/// One session.
pub struct LegacyClient {
    http: Http,
    url: String,
    identity: Identity,
    session: Option<String>,
    version: String,
    /// The result of `initialize`.
    pub initialized: Value,
    next: AtomicI64,
}

impl LegacyClient {
    /// Opens a session at 2025-11-25.
    ///
    /// # Errors
    /// The refusal of `initialize`.
    pub async fn connect(url: &str, identity: Identity) -> Result<Self, Problem> {
        Self::connect_as(url, identity, "2025-11-25").await
    }

    /// Opens a session, offering a version.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_as(url: &str, identity: Identity, version: &str) -> Result<Self, Problem> {
        Self::connect_with(Http::new(), url, identity, version).await
    }

    /// Opens a session over connections that others use too.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_with(http: Http, url: &str, identity: Identity, version: &str) -> Result<Self, Problem> {
        let mut client = Self {
            http,
            url: url.to_owned(),
            identity,
            session: None,
            version: version.to_owned(),
            initialized: Value::Null,
            next: AtomicI64::new(1),
        };
        let params = json!({
            "protocolVersion": version,
            "capabilities": client.identity.capabilities,
            "clientInfo": {"name": client.identity.name, "version": "1.0.0"},
        });
        let message = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let reply = client.post(&message).await?;
        client.session = reply.header("mcp-session-id").map(str::to_owned);
        let exchange = client.read(reply, &json!(0)).await?;
        client.version = exchange.result["protocolVersion"].as_str().unwrap_or(version).to_owned();
        client.initialized = exchange.result;
        client.notify("notifications/initialized", json!({})).await?;
        Ok(client)
    }

    /// The session id.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// The negotiated version.
    pub fn version(&self) -> &str {
        &self.version
    }

    fn headers(&self) -> Vec<(String, String)> {
        let mut headers = self.identity.headers();
        if let Some(session) = &self.session {
            headers.push(("mcp-session-id".to_owned(), session.clone()));
            headers.push(("mcp-protocol-version".to_owned(), self.version.clone()));
        }
        headers
    }

    /// Sends one message with the headers of this session.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn post(&self, message: &Value) -> Result<Reply, Problem> {
        let headers = self.headers();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Ok(self.http.send(Method::POST, &self.url, &headers, message.to_string()).await?)
    }

    /// Sends a notification.
    ///
    /// # Errors
    /// When it is not accepted with 202.
    pub async fn notify(&self, method: &str, params: Value) -> Result<(), Problem> {
        let reply = self.post(&json!({"jsonrpc": "2.0", "method": method, "params": params})).await?;
        if reply.status == 202 {
            return Ok(());
        }
        Err(Problem::broken(reply.status, reply.text().await.unwrap_or_default()))
    }

    /// An unused request id.
    pub fn next_id(&self) -> i64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// Sends a request and answers whatever the server asks meanwhile.
    ///
    /// # Errors
    /// The JSON-RPC error, or an HTTP error as it was.
    pub async fn request(&self, method: &str, params: Value) -> Result<Exchange, Problem> {
        let id = json!(self.next_id());
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let reply = self.post(&message).await?;
        self.read(reply, &id).await
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

    async fn read(&self, reply: Reply, id: &Value) -> Result<Exchange, Problem> {
        let status = reply.status;
        if !reply.is_events() {
            let text = reply.text().await?;
            let message: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
            return ended(status, &message, Vec::new()).unwrap_or_else(|| Err(Problem::broken(status, text)));
        }
        let mut events = reply.events();
        let mut notifications = Vec::new();
        while let Some(message) = events.message().await? {
            if message.get("method").is_some() {
                if message.get("id").is_some() {
                    self.answer(&message).await?;
                } else {
                    notifications.push(message);
                }
            } else if message["id"] == *id
                && let Some(end) = ended(status, &message, std::mem::take(&mut notifications))
            {
                return end;
            }
        }
        Err(Problem::broken(status, "the stream ended without a response"))
    }

    async fn answer(&self, request: &Value) -> Result<(), Problem> {
        let method = request["method"].as_str().unwrap_or_default();
        let answer = match (self.identity.answers)(method, &request["params"]) {
            Some(result) => json!({"jsonrpc": "2.0", "id": request["id"], "result": result}),
            None => {
                json!({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "refused"}})
            }
        };
        let reply = self.post(&answer).await?;
        if reply.status == 202 {
            return Ok(());
        }
        Err(Problem::broken(reply.status, format!("the answer to {method} was not accepted")))
    }

    /// Opens the stand-alone stream, or resumes after an event id.
    ///
    /// # Errors
    /// The HTTP error as it was.
    pub async fn stream(&self, last_event: Option<&str>) -> Result<Events, Problem> {
        let mut headers = self.headers();
        headers.retain(|(name, _)| name != "content-type" && name != "accept");
        headers.push(("accept".to_owned(), "text/event-stream".to_owned()));
        if let Some(last) = last_event {
            headers.push(("last-event-id".to_owned(), last.to_owned()));
        }
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let reply = self.http.send(Method::GET, &self.url, &headers, "").await?;
        if reply.status == 200 && reply.is_events() {
            return Ok(reply.events());
        }
        Err(Problem::broken(reply.status, reply.text().await.unwrap_or_default()))
    }

    /// Ends the session; the status of the DELETE.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn close(&self) -> Result<u16, Problem> {
        let headers = self.headers();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Ok(self.http.send(Method::DELETE, &self.url, &headers, "").await?.status)
    }
}

fn ended(status: u16, message: &Value, notifications: Vec<Value>) -> Option<Result<Exchange, Problem>> {
    if let Some(error) = message.get("error") {
        return Some(Err(Problem::from_error(status, error)));
    }
    let result = message.get("result")?.clone();
    Some(Ok(Exchange { result, notifications }))
}
