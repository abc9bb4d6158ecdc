//! One HTTP request of a client of either era, to be spoiled at will, and its answer.

use anyhow::Result;
use bartizan_testkit::http::Http;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

/// Who sends: era, endpoint, credential.
#[derive(Clone)]
pub(crate) struct Client {
    url: String,
    token: String,
    session: Option<String>,
}

/// A request as it goes out.
#[derive(Clone)]
pub(crate) struct Shot {
    pub(crate) verb: Method,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    headers: HeaderMap,
    /// The JSON-RPC message, null when there was none.
    pub(crate) message: Value,
}

impl Client {
    pub(crate) fn modern(url: &str, token: &str) -> Self {
        Self { url: url.to_owned(), token: token.to_owned(), session: None }
    }

    pub(crate) fn legacy(url: &str, token: &str, session: &str) -> Self {
        Self { url: url.to_owned(), token: token.to_owned(), session: Some(session.to_owned()) }
    }

    /// The same at another endpoint. A session belongs to its endpoint.
    pub(crate) fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// A right request.
    pub(crate) fn request(&self, method: &str, mut params: Value) -> Shot {
        let mut headers = vec![
            ("content-type", "application/json".to_owned()),
            ("accept", "application/json, text/event-stream".to_owned()),
            ("authorization", format!("Bearer {}", self.token)),
        ];
        if let Some(session) = &self.session {
            headers.push(("mcp-session-id", session.clone()));
            headers.push(("mcp-protocol-version", "2025-11-25".to_owned()));
        } else {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            headers.push(("mcp-protocol-version", "2026-07-28".to_owned()));
            headers.push(("mcp-method", method.to_owned()));
            if let Some(name) = params["name"].as_str().or_else(|| params["uri"].as_str()) {
                headers.push(("mcp-name", name.to_owned()));
            }
        }
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string().into_bytes();
        Shot { verb: Method::POST, url: self.url.clone(), headers, body }
    }

    /// A right call of a tool.
    pub(crate) fn tool(&self, name: &str, arguments: Value) -> Shot {
        self.request("tools/call", json!({"name": name, "arguments": arguments}))
    }
}

impl Shot {
    /// With another body.
    pub(crate) fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// With a text of the body replaced, which must be there.
    pub(crate) fn replace(self, from: &str, to: &str) -> Self {
        let text = String::from_utf8(self.body.clone()).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        self.body(text.replacen(from, to, 1))
    }

    /// With a header set to this alone.
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        self.without(name).more(name, value)
    }

    /// With one more header.
    pub(crate) fn more(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without a header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn verb(self, verb: Method) -> Self {
        Self { verb, ..self }
    }

    pub(crate) fn url(self, url: String) -> Self {
        Self { url, ..self }
    }

    pub(crate) async fn send(&self, http: &Http) -> Result<Seen> {
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let reply = http.send(self.verb.clone(), &self.url, &headers, self.body.clone()).await?;
        let (status, headers) = (reply.status, reply.headers.clone());
        if !reply.is_events() {
            let text = reply.text().await?;
            let message = serde_json::from_str(&text).unwrap_or_else(|_| json!({"not JSON": text}));
            return Ok(Seen { status, headers, message });
        }
        let mut events = reply.events();
        while let Some(message) = events.message().await? {
            if message.get("method").is_none() {
                return Ok(Seen { status, headers, message });
            }
        }
        Ok(Seen { status, headers, message: Value::Null })
    }
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Code of the JSON-RPC error.
    pub(crate) fn rpc(&self) -> Option<i64> {
        self.message["error"]["code"].as_i64()
    }

    /// The decision, wherever this kind of answer has it.
    pub(crate) fn decision(&self) -> &Value {
        let result = &self.message["result"]["_meta"]["bartizan/decision"];
        let data = &self.message["error"]["data"];
        [result, &data["bartizan/decision"], data]
            .into_iter()
            .find(|value| value["code"].is_string())
            .unwrap_or(&Value::Null)
    }

    /// Code of bartizan.
    pub(crate) fn code(&self) -> Option<&str> {
        self.decision()["code"].as_str()
    }
}
