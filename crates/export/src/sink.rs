//! Ways to a sink. All connections are made by `egress`.

mod files;
mod http;
mod otlp;
mod s3;
mod syslog;

use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use bartizan_config::export::{Format, Sink};
use bartizan_egress::{Body, Egress, Url};
use bytes::Bytes;

use crate::event::Event;
use crate::format;

/// Longest attempt.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Most bytes of an answer that are read.
const ANSWER: usize = 64 << 10;

/// Why a delivery failed. Never holds a secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(String);

impl SinkError {
    pub(crate) fn new(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// Events of one writer that follow each other; never empty.
pub(crate) struct Batch<'a> {
    pub(crate) writer: &'a str,
    pub(crate) events: &'a [Event],
    pub(crate) format: Format,
    pub(crate) now_ms: i64,
}

impl Batch<'_> {
    fn first(&self) -> i64 {
        self.events.first().map_or(0, |event| event.seq)
    }

    fn last(&self) -> i64 {
        self.events.last().map_or(0, |event| event.seq)
    }

    /// One event per line.
    fn lines(&self) -> String {
        let mut out = String::new();
        for event in self.events {
            out.push_str(&format::write(self.format, event));
            out.push('\n');
        }
        out
    }

    /// The same for every attempt with the same events.
    fn id(&self) -> String {
        format!("{}-{}-{}", self.writer, self.first(), self.last())
    }
}

/// One sink, ready.
pub(crate) enum Target {
    Files(files::Files),
    Otlp(otlp::Otlp),
    Syslog(syslog::Syslog),
    Http(Box<http::Http>),
    S3(s3::S3),
}

impl Target {
    /// From the configuration; secrets are resolved. The error is for people.
    pub(crate) fn new(from: &Sink) -> Result<Self, String> {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !(1..=64).contains(&from.id.len()) || !from.id.chars().all(good) {
            return Err("`id` must be 1–64 letters, digits, `-` or `_`".to_owned());
        }
        if !(1..=10_000).contains(&from.batch) {
            return Err("`batch` must be from 1 to 10,000".to_owned());
        }
        match (&from.files, &from.otlp, &from.syslog, &from.http, &from.s3) {
            (Some(files), None, None, None, None) => Ok(Self::Files(files::Files::new(files, from.format))),
            (None, Some(otlp), None, None, None) => otlp::Otlp::new(otlp).map(Self::Otlp),
            (None, None, Some(syslog), None, None) => syslog::Syslog::new(syslog).map(Self::Syslog),
            (None, None, None, Some(push), None) => http::Http::new(push).map(|http| Self::Http(Box::new(http))),
            (None, None, None, None, Some(s3)) => s3::S3::new(s3).map(Self::S3),
            _ => Err("exactly one of `files`, `otlp`, `syslog`, `http` and `s3` must be there".to_owned()),
        }
    }

    /// One attempt. When it fails, some of the events may have arrived.
    pub(crate) async fn send(&self, egress: &Egress, batch: Batch<'_>) -> Result<(), SinkError> {
        let attempt = async {
            match self {
                Self::Files(files) => files.send(&batch).await,
                Self::Otlp(otlp) => otlp.send(egress, &batch).await,
                Self::Syslog(syslog) => syslog.send(egress, &batch).await,
                Self::Http(http) => http.send(egress, &batch).await,
                Self::S3(s3) => s3.send(egress, &batch).await,
            }
        };
        tokio::time::timeout(ATTEMPT, attempt).await.unwrap_or_else(|_| Err(SinkError::new("no answer in 30 s")))
    }
}

/// Headers of a configuration.
fn headers<'a>(from: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, text) in from {
        let wrong = || format!("`{name}` is no header that can be sent");
        let mut value = HeaderValue::try_from(text).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(HeaderName::try_from(name).map_err(|_| wrong())?, value);
    }
    Ok(headers)
}

/// One request whose answer must be a success. Returns the beginning of the answer.
async fn request(
    egress: &Egress,
    url: &Url,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Bytes, SinkError> {
    let answer: Response<Body> = egress.client().send(url, method, headers, body).await.map_err(SinkError::new)?;
    let status = answer.status();
    // Read to its end, so that the connection can be used again; a long one is cut.
    let content = answer.into_body().collect_bytes(ANSWER).await.unwrap_or_default();
    if status.is_success() { Ok(content) } else { Err(SinkError(format!("HTTP status {}", status.as_u16()))) }
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>, SinkError> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).map_err(SinkError::new)?;
    encoder.finish().map_err(SinkError::new)
}

/// `20261103` of a time.
fn day(at_ms: i64) -> String {
    bartizan_model::clock::rfc3339(at_ms).chars().take(10).filter(|c| *c != '-').collect()
}
