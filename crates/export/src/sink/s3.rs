//! An object store with the S3 interface: one compressed object per batch.

use ::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method};
use bartizan_config::export::{Format, S3 as Config};
use bartizan_egress::sign::sigv4::{Canonical, Keys, authorization, content_hash, timestamp};
use bartizan_egress::{Egress, Url};
use bartizan_model::Secret;

use super::{Batch, SinkError, day, gzip, request};

pub(crate) struct S3 {
    base: String,
    region: String,
    prefix: String,
    id: Secret<String>,
    secret: Secret<String>,
    token: Option<Secret<String>>,
}

impl S3 {
    pub(super) fn new(config: &Config) -> Result<Self, String> {
        let base = config.url.trim_end_matches('/').to_owned();
        let url = Url::parse(&base).map_err(|error| error.to_string())?;
        if url.path_and_query().query().is_some() {
            return Err("`url` must have no query".to_owned());
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if !config.prefix.chars().all(plain) || config.prefix.starts_with('/') {
            return Err(
                "`prefix` may hold letters, digits, `-`, `_`, `.` and `/`, and must not begin with `/`".to_owned()
            );
        }
        Ok(Self {
            base,
            region: config.region.clone(),
            prefix: config.prefix.clone(),
            id: Secret::new(config.access_key_id.clone()),
            secret: Secret::new(config.secret_access_key.clone()),
            token: config.session_token.clone().map(Secret::new),
        })
    }

    /// The same name for the same events, so that another attempt replaces the object.
    fn name(&self, batch: &Batch<'_>) -> String {
        let at = day(batch.events.first().map_or(0, |event| event.at_ms));
        let part = |from: usize, to: usize| at.get(from..to).unwrap_or_default().to_owned();
        let kind = if batch.format == Format::Cef { "cef" } else { "jsonl" };
        let (first, last) = (batch.first(), batch.last());
        format!(
            "{}{}/{}/{}/{}-{first:012}-{last:012}.{kind}.gz",
            self.prefix,
            part(0, 4),
            part(4, 6),
            part(6, 8),
            batch.writer
        )
    }

    pub(super) async fn send(&self, egress: &Egress, batch: &Batch<'_>) -> Result<(), SinkError> {
        let body = gzip(batch.lines().as_bytes())?;
        let url = Url::parse(&format!("{}/{}", self.base, self.name(batch))).map_err(SinkError::new)?;
        let (time, hash) = (timestamp(batch.now_ms), content_hash(&body));
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, text: &str| -> Result<(), SinkError> {
            let mut value = HeaderValue::try_from(text).map_err(|_| SinkError::new("a key is no header value"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
            Ok(())
        };
        set(CONTENT_TYPE, "application/gzip")?;
        set(HeaderName::from_static("x-amz-date"), &time)?;
        set(HeaderName::from_static("x-amz-content-sha256"), &hash)?;
        if let Some(token) = &self.token {
            set(HeaderName::from_static("x-amz-security-token"), token.expose())?;
        }
        let mut signed: Vec<(String, String)> = vec![(HOST.to_string(), host(&url))];
        for (name, value) in &headers {
            signed.push((name.to_string(), value.to_str().unwrap_or_default().to_owned()));
        }
        let keys = Keys { id: self.id.expose(), secret: self.secret.expose(), region: &self.region, service: "s3" };
        let canonical = Canonical { method: "PUT", path: url.path(), query: "", headers: signed, body: &body };
        let mut value = HeaderValue::try_from(authorization(&keys, canonical, &time)).map_err(SinkError::new)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        request(egress, &url, Method::PUT, headers, body.into()).await.map(drop)
    }
}

fn host(url: &Url) -> String {
    let usual = if url.is_https() { 443 } else { 80 };
    match url.port() {
        port if port == usual => url.host().to_string(),
        port => format!("{}:{port}", url.host()),
    }
}
