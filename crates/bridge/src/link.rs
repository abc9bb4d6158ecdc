//! HTTP with the server: one exchange per message, both eras.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bartizan_egress::{Body, Client, EgressError, Url};
use bartizan_model::Era;
use bartizan_wire::headers::{PROTOCOL_VERSION, ParamHeader, SESSION_ID, for_request, param_headers, param_values};
use bartizan_wire::{Message, RawJson, Revision, meta_key};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::BridgeError;
use crate::sign_in::{Token, Way};

/// Most tools whose headers are remembered.
const TOOLS: usize = 20_000;

/// The server.
pub(crate) struct Link {
    pub(crate) url: Url,
    pub(crate) client: Client,
    sign_in: Way,
    session: RwLock<Session>,
    /// `x-mcp-header` of the tools that were listed.
    tools: Mutex<HashMap<String, Arc<[ParamHeader]>>>,
}

/// Of a legacy server.
#[derive(Clone, Default)]
struct Session {
    id: Option<HeaderValue>,
    version: Option<HeaderValue>,
}

impl Link {
    pub(crate) fn new(url: Url, client: Client, sign_in: Way) -> Self {
        Self { url, client, sign_in, session: RwLock::default(), tools: Mutex::default() }
    }

    /// Sends a message. A refusal that signing in can mend is mended, once.
    pub(crate) async fn post(&self, message: &Message) -> Result<Response<Body>, BridgeError> {
        let headers = self.headers(message);
        let body = message.raw().clone();
        let answer = self.exchange(Method::POST, headers, body).await?;
        if message.method() == Some("initialize") && answer.status().is_success() {
            let mut session = self.session.write().unwrap_or_else(PoisonError::into_inner);
            *session = Session { id: answer.headers().get(SESSION_ID).cloned(), version: None };
        }
        Ok(answer)
    }

    /// The stream of a legacy server's own messages. `None`: it has none.
    pub(crate) async fn listen(&self, last: Option<&str>) -> Result<Option<Body>, BridgeError> {
        let mut headers = self.session_headers();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(last) = last.and_then(|last| HeaderValue::try_from(last).ok()) {
            headers.insert(bartizan_wire::headers::LAST_EVENT_ID, last);
        }
        let answer = self.exchange(Method::GET, headers, Bytes::new()).await?;
        Ok((answer.status() == StatusCode::OK).then(|| answer.into_body()))
    }

    /// Ends a legacy session, as a client that goes away does.
    pub(crate) async fn end(&self) {
        let session = self.session.read().unwrap_or_else(PoisonError::into_inner).clone();
        if session.id.is_some() {
            // The session ends by itself later, if this does not arrive.
            let _ = self.exchange(Method::DELETE, self.session_headers(), Bytes::new()).await;
        }
    }

    pub(crate) fn has_session(&self) -> bool {
        self.session.read().unwrap_or_else(PoisonError::into_inner).version.is_some()
    }

    /// Takes notice of what an answer says about the session and about tools.
    pub(crate) fn note(&self, method: &str, answer: &Message) {
        let Some(result) = answer.result() else { return };
        match method {
            "initialize" => {
                let version = result.get("protocolVersion");
                let version = version.as_ref().and_then(RawJson::as_string);
                let version = version.and_then(|text| HeaderValue::try_from(&*text).ok());
                self.session.write().unwrap_or_else(PoisonError::into_inner).version = version;
            }
            "tools/list" => {
                let listed: Vec<RawJson> = result.get("tools").and_then(|tools| items(&tools)).unwrap_or_default();
                let mut known = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
                for tool in listed {
                    let name = tool.get("name").and_then(|name| name.as_string().map(std::borrow::Cow::into_owned));
                    let headers = tool.get("inputSchema").and_then(|schema| param_headers(&schema).ok());
                    if let (Some(name), Some(headers)) = (name, headers) {
                        if headers.is_empty() {
                            known.remove(&name);
                        } else if known.len() < TOOLS {
                            known.insert(name, headers.into());
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn headers(&self, message: &Message) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let method = message.method().unwrap_or_default();
        let params = message.params();
        match revision(params.as_ref()) {
            Some(revision) => {
                headers.extend(for_request(revision, method, params.as_ref()));
                if method == "tools/call" {
                    headers.extend(self.params(params.as_ref()));
                }
            }
            None if method == "initialize" => {}
            None => headers = self.session_headers(),
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers
    }

    fn params(&self, params: Option<&RawJson>) -> Vec<(http::HeaderName, HeaderValue)> {
        let name = params.and_then(|params| params.get("name"));
        let name = name.as_ref().and_then(RawJson::as_string);
        let known = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(annotated) = name.and_then(|name| known.get(&*name).cloned()) else { return Vec::new() };
        param_values(&annotated, params.and_then(|params| params.get("arguments")).as_ref())
    }

    fn session_headers(&self) -> HeaderMap {
        let session = self.session.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut headers = HeaderMap::new();
        headers.extend(session.id.map(|id| (SESSION_ID, id)));
        headers.extend(session.version.map(|version| (PROTOCOL_VERSION, version)));
        headers
    }

    async fn exchange(&self, method: Method, headers: HeaderMap, body: Bytes) -> Result<Response<Body>, BridgeError> {
        let mut token = self.sign_in.current().await;
        for last_try in [false, true] {
            let answer = self.send(method.clone(), headers.clone(), body.clone(), token.as_ref()).await;
            let answer = answer.map_err(|error| BridgeError::Unreachable(error.to_string()))?;
            let challenge = challenge(answer.headers());
            let more_scope = answer.status() == StatusCode::FORBIDDEN
                && challenge.as_deref().is_some_and(|text| text.contains("insufficient_scope"));
            if last_try || !(answer.status() == StatusCode::UNAUTHORIZED || more_scope) {
                return Ok(answer);
            }
            // Nothing was executed.
            let refused = token.as_ref().map(|token| token.version);
            token = Some(self.sign_in.renew(refused, challenge.as_deref(), more_scope).await?);
        }
        Err(BridgeError::SignIn("the server refuses its own tokens".to_owned()))
    }

    async fn send(
        &self,
        method: Method,
        mut headers: HeaderMap,
        body: Bytes,
        token: Option<&Token>,
    ) -> Result<Response<Body>, EgressError> {
        headers.extend(token.map(|token| (AUTHORIZATION, token.header.clone())));
        self.client.send(&self.url, method, headers, body).await
    }
}

/// The revision of a modern message.
fn revision(params: Option<&RawJson>) -> Option<Revision> {
    let version = params?.get("_meta")?.get(meta_key::PROTOCOL_VERSION)?;
    let version = version.as_string()?;
    Revision::parse(&version).filter(|revision| revision.era() == Era::Modern)
}

fn challenge(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    values.find(|value| value.trim_start().to_ascii_lowercase().starts_with("bearer")).map(str::to_owned)
}

fn items(list: &RawJson) -> Option<Vec<RawJson>> {
    let texts: Vec<Box<serde_json::value::RawValue>> = list.to().ok()?;
    let limits = bartizan_wire::Limits::default();
    Some(texts.iter().filter_map(|text| RawJson::parse(text.get().to_owned(), &limits).ok()).collect())
}
