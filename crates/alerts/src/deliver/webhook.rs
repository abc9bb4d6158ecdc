//! POST with a signature, by the Standard Webhooks specification 1.0.

use std::fmt;

use bartizan_config::alerts::Webhook as Config;
use bartizan_egress::sign::webhook::Key;
use bartizan_egress::{Egress, Url};
use bartizan_store::repo::alert::Delivery;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method};

use super::DeliverError;

/// Most bytes of an answer that are read.
const ANSWER: usize = 64 << 10;

pub(crate) struct Webhook {
    url: Url,
    key: Key,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("host", self.url.host()).finish_non_exhaustive()
    }
}

impl Webhook {
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let url = Url::parse(&config.url).map_err(|error| error.to_string())?;
        let key = Key::parse(&config.secret).map_err(|error| format!("`secret` {error}"))?;
        Ok(Self { url, key })
    }

    pub(crate) async fn send(&self, egress: &Egress, delivery: &Delivery, now_ms: i64) -> Result<(), DeliverError> {
        let mut headers =
            self.key.headers(&delivery.id, now_ms, delivery.body.as_bytes()).map_err(DeliverError::new)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("bartizan"));
        let body = Bytes::from(delivery.body.clone());
        let answer = egress.client().send(&self.url, Method::POST, headers, body).await.map_err(DeliverError::new)?;
        let status = answer.status();
        // Read to its end, so that the connection can be used again; a long one is cut.
        let _ = answer.into_body().collect_bytes(ANSWER).await;
        if status.is_success() { Ok(()) } else { Err(DeliverError(format!("HTTP status {}", status.as_u16()))) }
    }
}
