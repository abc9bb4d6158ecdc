//! What was asked and answered on the way to a token, for people who look for a fault (U7).
//! Secrets are masked before anything is kept.

mod mask;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, Method};

use mask::Masks;

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
    inner: Arc<Mutex<Notes>>,
}

struct Notes {
    step: Step,
    list: Vec<Exchange>,
    masks: Masks,
}

impl Default for Trace {
    fn default() -> Self {
        let notes = Notes { step: Step::Challenge, list: Vec::new(), masks: Masks::default() };
        Self { inner: Arc::new(Mutex::new(notes)) }
    }
}

impl Trace {
    /// What follows belongs to this step.
    pub fn at(&self, step: Step) {
        self.lock().step = step;
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The step that was begun last.
    pub fn step(&self) -> Step {
        self.lock().step
    }

    /// Everything so far.
    pub fn exchanges(&self) -> Vec<Exchange> {
        let notes = self.lock();
        // What is a secret may have become known later.
        let clean = |text: &String| notes.masks.scrubbed(text);
        let clean = |one: &Exchange| Exchange {
            request: clean(&one.request),
            sent: clean(&one.sent),
            answer: clean(&one.answer),
            ..one.clone()
        };
        notes.list.iter().map(clean).collect()
    }

    /// Notes one exchange.
    pub fn note(&self, method: &Method, url: &str, sent: &[u8], answer: Result<(u16, &HeaderMap, &[u8]), String>) {
        let mut notes = self.lock();
        let request = format!("{method} {}", notes.masks.url(url));
        let sent = notes.masks.body(sent);
        let (status, answer) = match answer {
            Ok((status, headers, body)) => {
                let challenges = headers.get_all(http::header::WWW_AUTHENTICATE).iter();
                let mut text: String = challenges
                    .filter_map(|value| value.to_str().ok())
                    .map(|value| format!("WWW-Authenticate: {}\n", notes.masks.challenge(value)))
                    .collect();
                text.push_str(&notes.masks.body(body));
                (Some(status), text)
            }
            Err(error) => (None, error),
        };
        let step = notes.step;
        notes.list.push(Exchange { step, request, sent, status, answer });
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

    fn noted(url: &str, sent: &str, challenge: &str, answer: &str) -> String {
        let trace = Trace::default();
        let mut headers = HeaderMap::new();
        if !challenge.is_empty() {
            headers.insert(http::header::WWW_AUTHENTICATE, challenge.parse().unwrap());
        }
        trace.note(&Method::POST, url, sent.as_bytes(), Ok((400, &headers, answer.as_bytes())));
        trace.note(&Method::GET, "https://as.example/x", b"", Err("no answer to s3cret-value".to_owned()));
        let all = trace.exchanges();
        format!("{:?} {:?}", all[0], if sent.contains("s3cret-value") { all.get(1) } else { None })
    }

    #[test]
    fn u7_no_spelling_of_a_secret_gets_into_a_trace() {
        let url = "https://as.example/token";
        let jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzM2NyZXQtdmFsdWUifQ.c2ln";
        for (url, sent, challenge, answer) in [
            (url, "client%5Fsecret=s3cret-value", "", ""),
            (url, "clientSecret=s3cret-value&Access-Token=s3cret-value", "", ""),
            (url, "token=s3cret-value&token_type_hint=access_token", "", ""),
            (url, "id_token_hint=s3cret-value&logout_token=s3cret-value", "", ""),
            ("https://me:s3cret-value@as.example/token", "", "", ""),
            ("https://as.example/cb#access_token=s3cret-value&x=1", "", "", ""),
            ("https://as.example/cb?co%64e=s3cret-value", "", "", ""),
            // Where an object or a list is expected to be harmless.
            (url, "", "", r#"{"access_token":["s3cret-value"],"refresh_token":{"value":"s3cret-value"}}"#),
            (url, "", "", r#"{"a":[{"private-key":"s3cret-value"}]}"#),
            // Broken bodies.
            (url, "", "", r#"{'access_token':'s3cret-value'"#),
            (url, "", "", r#"{"refresh-token" : "s3cret-value","#),
            (url, "", "", "<input name=client_secret value=s3cret-value>"),
            // Said again in other words.
            (url, "code=s3cret-value", "", r#"{"error_description":"no such code: s3cret-value"}"#),
            (url, "code=s3cret-value", "Bearer error_description=\"s3cret-value\"", ""),
            (url, "code=s3cret%2Dvalue", "", "not s3cret-value"),
            (url, "", "Bearer token=\"s3cret-value\", realm=\"x\"", ""),
        ] {
            let all = noted(url, sent, challenge, answer);
            assert!(!all.contains("s3cret%2D"), "{all}");
            assert!(!all.contains("s3cret-value"), "{all}");
        }
        // By its looks alone.
        for answer in [format!("{{\"said\":\"{jwt}\"}}"), format!("it was {jwt}, was it not"), format!("x={jwt}")] {
            let all = noted(url, "", "", &answer);
            assert!(!all.contains("eyJzdWI"), "{all}");
        }
        // What helps to find a fault stays.
        let all = noted(
            "https://as.example/token?x=1",
            "grant_type=refresh_token&client_id=me&scope=a",
            "Bearer error=\"invalid_token\", resource_metadata=\"https://x.example/y\"",
            r#"{"error":{"code":-32601,"message":"Method not found"},"token_type":"Bearer","ready":true}"#,
        );
        for kept in
            ["grant_type=refresh_token", "client_id=me", "x=1", "invalid_token", "x.example/y", "-32601", "Bearer"]
        {
            assert!(all.contains(kept), "{kept}: {all}");
        }
    }
}
