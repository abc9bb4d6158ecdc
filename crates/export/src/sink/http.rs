//! POST of lines, signed by the Standard Webhooks specification 1.0.

use ::http::header::{CONTENT_TYPE, USER_AGENT};
use ::http::{HeaderMap, HeaderValue, Method};
use bartizan_config::export::{Format, Push};
use bartizan_egress::sign::webhook::Key;
use bartizan_egress::{Egress, Url};

use super::{Batch, SinkError, headers, request};

pub(crate) struct Http {
    url: Url,
    key: Key,
    headers: HeaderMap,
}

impl Http {
    pub(super) fn new(config: &Push) -> Result<Self, String> {
        let url = Url::parse(&config.url).map_err(|error| error.to_string())?;
        let key = Key::parse(&config.secret).map_err(|error| format!("`secret` {error}"))?;
        Ok(Self { url, key, headers: headers(&config.headers)? })
    }

    pub(super) async fn send(&self, egress: &Egress, batch: &Batch<'_>) -> Result<(), SinkError> {
        let body = batch.lines();
        let mut all = self.headers.clone();
        all.extend(self.key.headers(&batch.id(), batch.now_ms, body.as_bytes()).map_err(SinkError::new)?);
        let kind = if batch.format == Format::Cef { "text/plain; charset=utf-8" } else { "application/x-ndjson" };
        all.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        all.insert(USER_AGENT, HeaderValue::from_static("bartizan"));
        request(egress, &self.url, Method::POST, all, body.into()).await.map(drop)
    }
}
