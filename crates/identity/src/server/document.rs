//! Fetching clients' documents (A8), through the egress guard only.

use std::sync::Arc;
use std::time::Duration;

use bartizan_egress::{Egress, EgressError};
use bartizan_oauth::client_document::{self, DocumentError, DocumentUrl, MAX_DOCUMENT};
use bartizan_oauth::jwt::Jwks;
use bartizan_oauth::registration::ClientMetadata;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use moka::sync::Cache;
use tokio::sync::Semaphore;

/// From connecting to the last byte.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Documents remembered.
const CACHE: u64 = 1_000;
/// Fetches at once.
const FETCHES: usize = 16;
/// Shortest and longest time a document is believed, milliseconds. The draft lets a server
/// bound what the headers say.
const SHORTEST_MS: i64 = 5 * 60 * 1000;
const LONGEST_MS: i64 = 7 * 24 * 3600 * 1000;
/// Without a word of the server.
const DEFAULT_MS: i64 = 3600 * 1000;
/// Keys are not fetched more often than this, milliseconds.
const KEYS_AGAIN_MS: i64 = 30_000;
/// Longest key set of a client, bytes.
const MAX_KEYS: usize = 32 * 1024;

/// Why there is no document. Errors are never remembered.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// No connection, or none that is allowed.
    #[error("the client's document cannot be fetched: {0}")]
    Egress(#[from] EgressError),
    /// Over [`TIMEOUT`].
    #[error("the client's document did not arrive within 10 s")]
    Timeout,
    /// Not 200; redirects are not followed.
    #[error("the client's document was answered with status {0}")]
    Status(u16),
    /// No JSON by its own word.
    #[error("the client's document is not JSON by its content type")]
    ContentType,
    /// Refused.
    #[error("{0}")]
    Document(#[from] DocumentError),
}

struct Kept {
    document: Arc<ClientMetadata>,
    until_ms: i64,
}

struct KeptKeys {
    keys: Arc<Jwks>,
    fetched_ms: i64,
}

/// Fetches documents and remembers good ones.
pub(super) struct Documents {
    egress: Egress,
    kept: Cache<String, Arc<Kept>>,
    keys: Cache<String, Arc<KeptKeys>>,
    fetches: Semaphore,
    timeout: Duration,
}

impl Documents {
    pub(super) fn new(egress: Egress, timeout: Duration) -> Self {
        Self {
            egress,
            kept: Cache::builder().max_capacity(CACHE).build(),
            keys: Cache::builder().max_capacity(CACHE).build(),
            fetches: Semaphore::new(FETCHES),
            timeout,
        }
    }

    /// How many documents are remembered at most.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> u64 {
        self.kept.policy().max_capacity().unwrap_or(u64::MAX)
    }

    /// The document of a client id, remembered or fetched.
    pub(super) async fn get(&self, url: &DocumentUrl, now_ms: i64) -> Result<Arc<ClientMetadata>, FetchError> {
        if let Some(kept) = self.kept.get(url.as_str()).filter(|kept| now_ms < kept.until_ms) {
            return Ok(Arc::clone(&kept.document));
        }
        let fetched = tokio::time::timeout(self.timeout, self.fetch(url)).await;
        let (document, life_ms) = fetched.map_err(|_| FetchError::Timeout)??;
        let document = Arc::new(document);
        let kept = Kept { document: Arc::clone(&document), until_ms: now_ms.saturating_add(life_ms) };
        self.kept.insert(url.as_str().to_owned(), Arc::new(kept));
        Ok(document)
    }

    /// Keys of a client, remembered for five minutes; `again` when none of them fitted,
    /// which counts at most twice a minute.
    pub(super) async fn keys(&self, url: &str, now_ms: i64, again: bool) -> Result<Arc<Jwks>, FetchError> {
        let life_ms = if again { KEYS_AGAIN_MS } else { SHORTEST_MS };
        if let Some(kept) = self.keys.get(url).filter(|kept| now_ms < kept.fetched_ms.saturating_add(life_ms)) {
            return Ok(Arc::clone(&kept.keys));
        }
        let fetched = tokio::time::timeout(self.timeout, self.fetch_json(url, MAX_KEYS)).await;
        let (_, body) = fetched.map_err(|_| FetchError::Timeout)??;
        let keys = Jwks::parse(&body).map_err(|_| DocumentError::Keys)?;
        let keys = Arc::new(keys);
        self.keys.insert(url.to_owned(), Arc::new(KeptKeys { keys: Arc::clone(&keys), fetched_ms: now_ms }));
        Ok(keys)
    }

    async fn fetch(&self, url: &DocumentUrl) -> Result<(ClientMetadata, i64), FetchError> {
        let (headers, body) = self.fetch_json(url.as_str(), MAX_DOCUMENT).await?;
        Ok((client_document::parse(url, &body)?, life_ms(&headers)))
    }

    /// Fetches JSON of a stranger: no redirects, no other status than 200.
    async fn fetch_json(&self, url: &str, max: usize) -> Result<(HeaderMap, Bytes), FetchError> {
        let _permit = self.fetches.acquire().await.map_err(|_| FetchError::Timeout)?;
        let target = self.egress.check_url(url)?;
        if !target.is_https() {
            return Err(EgressError::Url("only https is allowed here").into());
        }
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let response = self.egress.client().send(&target, Method::GET, headers, Bytes::new()).await?;
        if response.status() != http::StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let (parts, body) = response.into_parts();
        if !is_json(&parts.headers) {
            return Err(FetchError::ContentType);
        }
        match body.collect_bytes(max).await {
            Ok(body) => Ok((parts.headers, body)),
            Err(EgressError::TooLarge { .. }) => Err(DocumentError::TooLarge.into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// `application/json`, or anything that says to be JSON inside.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// How long a document is believed (RFC 9111), within our bounds.
fn life_ms(headers: &HeaderMap) -> i64 {
    let mut age = None;
    for value in headers.get_all(CACHE_CONTROL) {
        for part in value.to_str().unwrap_or("no-store").split(',') {
            let part = part.trim().to_ascii_lowercase();
            if part == "no-store" || part == "no-cache" || part == "private" {
                return SHORTEST_MS;
            }
            if let Some(seconds) = part.strip_prefix("max-age=") {
                age = Some(seconds.trim_matches('"').parse::<i64>().unwrap_or(0).saturating_mul(1000));
            }
        }
    }
    age.unwrap_or(DEFAULT_MS).clamp(SHORTEST_MS, LONGEST_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a8_a_document_is_believed_within_bounds() {
        let life = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, text.parse().unwrap());
            life_ms(&headers) / 1000
        };
        assert_eq!(life("max-age=7200, public"), 7200);
        assert_eq!((life("max-age=99999999999999999999"), life("max-age=9999999999")), (300, 7 * 24 * 3600));
        assert_eq!(
            (life("max-age=0"), life("no-store"), life("max-age=7200, no-cache"), life("max-age=x")),
            (300, 300, 300, 300)
        );
        assert_eq!((life("public"), life_ms(&HeaderMap::new()) / 1000), (3600, 3600));
    }
}
