//! POST with a signature, by the Standard Webhooks specification 1.0.

use std::fmt;

use aws_lc_rs::hmac;
use bartizan_config::alerts::Webhook as Config;
use bartizan_egress::{Egress, Url};
use bartizan_store::repo::alert::Delivery;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};

use super::DeliverError;

/// Most bytes of an answer that are read.
const ANSWER: usize = 64 << 10;

pub(crate) struct Webhook {
    url: Url,
    key: hmac::Key,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("host", self.url.host()).finish_non_exhaustive()
    }
}

impl Webhook {
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let url = Url::parse(&config.url).map_err(|error| error.to_string())?;
        let bad = || "`secret` must be `whsec_` and base64 of 24 to 64 bytes".to_owned();
        let text = config.secret.strip_prefix("whsec_").ok_or_else(bad)?;
        let bytes = STANDARD.decode(text).map_err(|_| bad())?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(bad());
        }
        Ok(Self { url, key: hmac::Key::new(hmac::HMAC_SHA256, &bytes) })
    }

    pub(crate) async fn send(&self, egress: &Egress, delivery: &Delivery, now_ms: i64) -> Result<(), DeliverError> {
        let seconds = now_ms.div_euclid(1_000);
        let signed = hmac::sign(&self.key, format!("{}.{seconds}.{}", delivery.id, delivery.body).as_bytes());
        let signature = format!("v1,{}", STANDARD.encode(signed.as_ref()));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("bartizan"));
        let header = |text: &str| HeaderValue::try_from(text).map_err(DeliverError::new);
        headers.insert("webhook-id", header(&delivery.id)?);
        headers.insert("webhook-timestamp", header(&seconds.to_string())?);
        headers.insert("webhook-signature", header(&signature)?);
        let body = Bytes::from(delivery.body.clone());
        let answer = egress.client().send(&self.url, Method::POST, headers, body).await.map_err(DeliverError::new)?;
        let status = answer.status();
        // Read to its end, so that the connection can be used again; a long one is cut.
        let _ = answer.into_body().collect_bytes(ANSWER).await;
        if status.is_success() { Ok(()) } else { Err(DeliverError(format!("HTTP status {}", status.as_u16()))) }
    }
}
