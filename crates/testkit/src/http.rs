//! A plain HTTP client for tests: every header as given, bodies whole or as a stream of events.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;

/// Longest wait for any one answer or event.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A client with kept connections.
#[derive(Clone, Debug)]
pub struct Http {
    inner: Client<HttpConnector, Full<Bytes>>,
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

/// An answer whose body has not been read.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    body: Incoming,
}

impl Http {
    /// A client with no connection yet.
    #[expect(clippy::disallowed_methods, reason = "a client of tests; the product's go through egress")]
    pub fn new() -> Self {
        Self { inner: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// Sends a request with exactly these headers (and Host).
    ///
    /// # Errors
    /// When no answer comes within 60 s.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).context("the request is malformed")?;
        let Ok(response) = timeout(LIMIT, self.inner.request(request)).await else {
            bail!("no answer from {url} within {LIMIT:?}");
        };
        let (head, body) = response.with_context(|| format!("cannot reach {url}"))?.into_parts();
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// Status and body of a GET.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn get(&self, url: &str) -> Result<(u16, String)> {
        let reply = self.send(Method::GET, url, &[], Bytes::new()).await?;
        Ok((reply.status, reply.text().await?))
    }
}

impl Reply {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the body is a stream of events.
    pub fn is_events(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"))
    }

    /// The whole body.
    ///
    /// # Errors
    /// When it does not end within 60 s.
    pub async fn bytes(self) -> Result<Bytes> {
        match timeout(LIMIT, self.body.collect()).await {
            Ok(body) => Ok(body.context("the body broke off")?.to_bytes()),
            Err(_) => bail!("the body did not end within {LIMIT:?}"),
        }
    }

    /// The whole body as text.
    ///
    /// # Errors
    /// As [`Self::bytes`], or when it is no UTF-8.
    pub async fn text(self) -> Result<String> {
        Ok(String::from_utf8(self.bytes().await?.to_vec())?)
    }

    /// The whole body as JSON; null when it is empty.
    ///
    /// # Errors
    /// As [`Self::text`], or when it is no JSON.
    pub async fn json(self) -> Result<Value> {
        let text = self.text().await?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
    }

    /// The body as events.
    pub fn events(self) -> Events {
        Events { body: self.body, buffer: Vec::new() }
    }
}

/// One server-sent event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `id:`.
    pub id: Option<String>,
    /// `event:`.
    pub name: Option<String>,
    /// `data:` lines joined by newlines; `None` when there was none.
    pub data: Option<String>,
    /// `retry:` in milliseconds.
    pub retry: Option<u64>,
}

impl Event {
    /// The data as JSON; null when there is none.
    pub fn json(&self) -> Value {
        self.data.as_deref().and_then(|data| serde_json::from_str(data).ok()).unwrap_or(Value::Null)
    }
}

/// A stream of events. Dropping it closes the connection.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event that has any field; comments are passed over. `None` at the end.
    ///
    /// # Errors
    /// When the stream breaks or nothing comes for 60 s.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        match timeout(LIMIT, self.next_unbounded()).await {
            Ok(event) => event,
            Err(_) => bail!("no event within {LIMIT:?}"),
        }
    }

    async fn next_unbounded(&mut self) -> Result<Option<Event>> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let event = parse(&String::from_utf8_lossy(&block));
                if event != Event::default() {
                    return Ok(Some(event));
                }
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.context("the stream broke")?.into_data() {
                        // Every ending becomes a plain newline.
                        self.buffer.extend(data.iter().filter(|byte| **byte != b'\r'));
                    }
                }
            }
        }
    }

    /// The next event with data, as JSON. `None` at the end.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn message(&mut self) -> Result<Option<Value>> {
        while let Some(event) = self.next().await? {
            if event.data.as_ref().is_some_and(|data| !data.is_empty()) {
                return Ok(Some(event.json()));
            }
        }
        Ok(None)
    }
}

fn parse(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => event.id = Some(value.to_owned()),
            "event" => event.name = Some(value.to_owned()),
            "retry" => event.retry = value.parse().ok(),
            "data" => match &mut event.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => event.data = Some(value.to_owned()),
            },
            _ => {}
        }
    }
    event
}
