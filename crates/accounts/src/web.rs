//! Requests to authorization servers and to the metadata of resources, through `egress`.
//! Redirects are never followed: what is sent may be a secret.

use std::time::Duration;

use crate::trace::{Step, Trace};
use bartizan_egress::{Egress, EgressError, Url};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

/// How long one exchange may take, all in all.
const TIMEOUT: Duration = Duration::from_secs(10);

/// There is no answer. The texts are for the log.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum WebError {
    #[error(transparent)]
    Egress(#[from] EgressError),
    #[error("no answer within ten seconds")]
    Timeout,
}

impl WebError {
    /// True when asking again at once makes sense: the answer was lost, perhaps.
    pub(crate) fn lost(&self) -> bool {
        match self {
            Self::Egress(error) => !error.unsent(),
            Self::Timeout => false,
        }
    }

    /// True when no later attempt will fare better: a rule forbids it.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self, Self::Egress(EgressError::Blocked { .. } | EgressError::Url(_) | EgressError::TooLarge { .. }))
    }
}

/// An answer of any status.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// The way out.
#[derive(Clone)]
pub(crate) struct Web {
    egress: Egress,
    trace: Option<Trace>,
}

impl Web {
    pub(crate) fn new(egress: Egress) -> Self {
        Self { egress, trace: None }
    }

    /// Takes notes of every exchange.
    pub(crate) fn traced(egress: Egress, trace: Trace) -> Self {
        Self { egress, trace: Some(trace) }
    }

    /// What follows belongs to this step.
    pub(crate) fn at(&self, step: Step) {
        if let Some(trace) = &self.trace {
            trace.at(step);
        }
    }

    pub(crate) async fn get(&self, url: &str, max: usize) -> Result<Answer, WebError> {
        self.send(url, Method::GET, HeaderMap::new(), Bytes::new(), max).await
    }

    /// Posts a form.
    pub(crate) async fn post_form(
        &self,
        url: &str,
        mut headers: HeaderMap,
        form: String,
        max: usize,
    ) -> Result<Answer, WebError> {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        self.send(url, Method::POST, headers, Bytes::from(form), max).await
    }

    pub(crate) async fn post_json(&self, url: &str, json: String, max: usize) -> Result<Answer, WebError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.send(url, Method::POST, headers, Bytes::from(json), max).await
    }

    async fn send(
        &self,
        url: &str,
        method: Method,
        mut headers: HeaderMap,
        body: Bytes,
        max: usize,
    ) -> Result<Answer, WebError> {
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        let (noted, sent) = (method.clone(), body.clone());
        let exchange = async {
            let url = Url::parse(url)?;
            let answer = self.egress.client().send(&url, method, headers, body).await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            Ok((Answer { status, body: answer.into_body().collect_bytes(max).await? }, headers))
        };
        let done = tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or(Err(WebError::Timeout));
        if let Some(trace) = &self.trace {
            let answer = done.as_ref().map(|(answer, headers)| (answer.status.as_u16(), headers, &*answer.body));
            trace.note(&noted, url, &sent, answer.map_err(ToString::to_string));
        }
        done.map(|(answer, _)| answer)
    }

    /// Head of the answer to a JSON-RPC request that shows no credential.
    pub(crate) async fn knock(&self, url: &str) -> Result<(StatusCode, HeaderMap), WebError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
        let exchange = async {
            let url = Url::parse(url)?;
            let answer = self.egress.client().send(&url, Method::POST, headers, body).await?;
            Ok((answer.status(), answer.headers().clone()))
        };
        let done = tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or(Err(WebError::Timeout));
        if let Some(trace) = &self.trace {
            let answer = done.as_ref().map(|(status, headers)| (status.as_u16(), headers, [].as_slice()));
            trace.note(
                &Method::POST,
                url,
                br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
                answer.map_err(ToString::to_string),
            );
        }
        done
    }
}
