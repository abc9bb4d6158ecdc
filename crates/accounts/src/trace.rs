//! What was asked and answered on the way to a token, for people who look for a fault (U7).
//! Secrets are masked before anything is kept.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, Method};
use serde_json::Value;

/// Most characters kept of a body.
const BODY: usize = 4_000;
/// Members and parameters that are secrets, whoever sends them.
const SECRETS: [&str; 14] = [
    "access_token",
    "refresh_token",
    "id_token",
    "client_secret",
    "registration_access_token",
    "code",
    "code_verifier",
    "assertion",
    "client_assertion",
    "subject_token",
    "actor_token",
    "state",
    "device_code",
    "password",
];

/// The steps to a usable server, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A request without a token.
    Challenge,
    /// The description of the resource.
    ResourceMetadata,
    /// The description of the authorization server.
    ServerMetadata,
    /// A client identity there.
    Registration,
    /// The person's consent.
    Authorize,
    /// The token.
    Token,
    /// `server/discover` or `initialize`.
    Handshake,
    /// Tools, prompts, resources.
    Lists,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Challenge,
        Self::ResourceMetadata,
        Self::ServerMetadata,
        Self::Registration,
        Self::Authorize,
        Self::Token,
        Self::Handshake,
        Self::Lists,
    ];

    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Challenge => "challenge",
            Self::ResourceMetadata => "resource_metadata",
            Self::ServerMetadata => "server_metadata",
            Self::Registration => "registration",
            Self::Authorize => "authorize",
            Self::Token => "token",
            Self::Handshake => "handshake",
            Self::Lists => "lists",
        }
    }

    /// Where it is specified.
    pub fn section(self) -> &'static str {
        match self {
            Self::Challenge => "RFC 6750 section 3, RFC 9728 section 5.1",
            Self::ResourceMetadata => "RFC 9728 section 3",
            Self::ServerMetadata => "RFC 8414 section 3",
            Self::Registration => "RFC 7591 section 3; Client ID Metadata Documents",
            Self::Authorize => "RFC 6749 section 4.1.1, RFC 7636 section 4.3, RFC 9207",
            Self::Token => "RFC 6749 sections 4.1.3 and 5, RFC 8707 section 2",
            Self::Handshake => "MCP: lifecycle, versioning",
            Self::Lists => "MCP: tools, prompts, resources",
        }
    }
}

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// On the way to what.
    pub step: Step,
    /// Method and URL; secrets masked.
    pub request: String,
    /// Body of the request; secrets masked.
    pub sent: String,
    /// HTTP status; `None` when there was no answer.
    pub status: Option<u16>,
    /// `WWW-Authenticate` and the body, or why there was no answer; secrets masked.
    pub answer: String,
}

/// Takes notes. Cheap to clone; clones write into one list.
#[derive(Clone)]
pub struct Trace {
    inner: Arc<Mutex<(Step, Vec<Exchange>)>>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { inner: Arc::new(Mutex::new((Step::Challenge, Vec::new()))) }
    }
}

impl Trace {
    /// What follows belongs to this step.
    pub fn at(&self, step: Step) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).0 = step;
    }

    /// The step that was begun last.
    pub fn step(&self) -> Step {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Everything so far.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Notes one exchange.
    pub fn note(&self, method: &Method, url: &str, sent: &[u8], answer: Result<(u16, &HeaderMap, &[u8]), String>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (status, answer) = match answer {
            Ok((status, headers, body)) => {
                let challenges = headers.get_all(http::header::WWW_AUTHENTICATE).iter();
                let mut text: String = challenges
                    .filter_map(|value| value.to_str().ok())
                    .map(|value| format!("WWW-Authenticate: {value}\n"))
                    .collect();
                text.push_str(&masked(body));
                (Some(status), text)
            }
            Err(error) => (None, error),
        };
        let (step, list) = &mut *inner;
        list.push(Exchange {
            step: *step,
            request: format!("{method} {}", masked_url(url)),
            sent: masked(sent),
            status,
            answer,
        });
    }
}

fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name.to_ascii_lowercase().as_str())
}

/// A JSON or form body without its secrets; anything else only as its beginning.
fn masked(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let clean = match serde_json::from_str::<Value>(&text) {
        Ok(mut value) => {
            hide(&mut value);
            value.to_string()
        }
        // What is broken may hold a secret all the same.
        Err(_) if SECRETS.iter().any(|name| text.contains(&format!("{name}\""))) => {
            "(broken, and with a secret in it)".to_owned()
        }
        Err(_) => form(&text),
    };
    clean.chars().filter(|c| !c.is_control() || *c == '\n').take(BODY).collect()
}

fn form(text: &str) -> String {
    let part = |part: &str| match part.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}=***"),
        _ => part.to_owned(),
    };
    text.split('&').map(part).collect::<Vec<_>>().join("&")
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if is_secret(name) && !member.is_object() && !member.is_array() {
                    *member = "***".into();
                } else {
                    hide(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

fn masked_url(url: &str) -> String {
    match url.split_once('?') {
        Some((path, query)) => format!("{path}?{}", form(query)),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u7_secrets_are_masked_wherever_they_are() {
        let trace = Trace::default();
        trace.at(Step::Token);
        let body =
            br#"{"access_token":"s3cret","nested":[{"refresh_token":"s3cret"}],"token_type":"Bearer","code":42}"#;
        let sent = b"grant_type=authorization_code&code=s3cret&code_verifier=s3cret&client_id=me&Client_Secret=s3cret";
        trace.note(
            &Method::POST,
            "https://as.example/token?state=s3cret&x=1",
            sent,
            Ok((200, &HeaderMap::new(), body)),
        );
        trace.note(
            &Method::POST,
            "https://as.example/token",
            b"",
            Ok((200, &HeaderMap::new(), br#"{"access_token":"s3cret""#)),
        );
        let all = format!("{:?}", trace.exchanges());
        assert!(!all.contains("s3cret"), "{all}");
        for kept in ["client_id=me", "Bearer", "x=1", "grant_type=authorization_code"] {
            assert!(all.contains(kept), "{kept}: {all}");
        }
    }
}
