//! Descriptions and keys of providers, fetched through `egress` and kept for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bartizan_egress::{Egress, EgressError, Url};
use bartizan_model::Clock;
use bartizan_oauth::discovery::{self, DiscoveryError, ServerMetadata};
use bartizan_oauth::jwt::{Claims, Expect, Jwks, JwtError, MAX_JWKS, verify};
use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

/// How long one exchange with a provider may take, all in all.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long descriptions and keys are believed, milliseconds.
const FRESH_MS: i64 = 3_600_000;
/// How long they are used when the provider does not answer, milliseconds.
const STALE_MS: i64 = 24 * FRESH_MS;
/// How long nobody asks again after a failure, milliseconds.
const FAILED_MS: i64 = 5_000;
/// At most this often an unknown key lets us ask for new ones, milliseconds.
const ROLL_MS: i64 = 30_000;
/// Most issuers kept; more can only come of many changes of configuration.
const ISSUERS: usize = 64;

/// A provider cannot be used now. The texts are for the log.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ProviderError {
    #[error(transparent)]
    Egress(#[from] EgressError),
    #[error("no answer within ten seconds")]
    Timeout,
    #[error("status {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error("the key set: {0}")]
    Keys(JwtError),
    #[error("it did not answer a moment ago")]
    Failed,
}

/// What is known about the providers.
pub(crate) struct Directory {
    egress: Egress,
    clock: Arc<dyn Clock>,
    issuers: Mutex<HashMap<String, Arc<Issuer>>>,
}

/// One at a time asks; the others wait for its answer.
#[derive(Default)]
struct Issuer {
    metadata: tokio::sync::Mutex<Kept<ServerMetadata>>,
    keys: tokio::sync::Mutex<Kept<Jwks>>,
}

struct Kept<T> {
    value: Option<Arc<T>>,
    /// Where it came from.
    from: String,
    fetched_ms: i64,
    failed_ms: Option<i64>,
    /// Last time that an unknown key made us ask.
    rolled_ms: Option<i64>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { value: None, from: String::new(), fetched_ms: 0, failed_ms: None, rolled_ms: None }
    }
}

impl<T> Kept<T> {
    fn young(&self, from: &str, now: i64, life_ms: i64) -> Option<Arc<T>> {
        let known = self.value.as_ref().filter(|_| self.from == from);
        known.filter(|_| now.saturating_sub(self.fetched_ms) < life_ms).map(Arc::clone)
    }

    fn failed_just_now(&self, from: &str, now: i64) -> bool {
        self.from == from && self.failed_ms.is_some_and(|at| now.saturating_sub(at) < FAILED_MS)
    }

    /// Keeps a new value, or falls back on one that is not too old.
    fn settle(&mut self, from: &str, now: i64, fetched: Result<T, ProviderError>) -> Result<Arc<T>, ProviderError> {
        match fetched {
            Ok(value) => {
                let value = Arc::new(value);
                *self = Self {
                    value: Some(Arc::clone(&value)),
                    from: from.to_owned(),
                    fetched_ms: now,
                    failed_ms: None,
                    rolled_ms: self.rolled_ms,
                };
                Ok(value)
            }
            Err(error) => {
                tracing::warn!(%error, url = from, "an identity provider cannot be asked");
                if self.from != from {
                    *self = Self { from: from.to_owned(), ..Self::default() };
                }
                self.failed_ms = Some(now);
                self.young(from, now, STALE_MS).ok_or(error)
            }
        }
    }
}

impl Directory {
    pub(crate) fn new(egress: Egress, clock: Arc<dyn Clock>) -> Self {
        Self { egress, clock, issuers: Mutex::default() }
    }

    fn issuer(&self, issuer: &str) -> Arc<Issuer> {
        let mut issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = issuers.get(issuer) {
            return Arc::clone(known);
        }
        if issuers.len() >= ISSUERS {
            issuers.clear();
        }
        let new = Arc::new(Issuer::default());
        issuers.insert(issuer.to_owned(), Arc::clone(&new));
        new
    }

    /// The description of a provider, whose name in it must be the configured one.
    pub(crate) async fn metadata(&self, issuer: &str) -> Result<Arc<ServerMetadata>, ProviderError> {
        let known = self.issuer(issuer);
        let mut kept = known.metadata.lock().await;
        let (url, now) = (discovery::openid_configuration_url(issuer), self.clock.now_ms());
        if let Some(metadata) = kept.young(&url, now, FRESH_MS) {
            return Ok(metadata);
        }
        if kept.failed_just_now(&url, now) {
            return kept.young(&url, now, STALE_MS).ok_or(ProviderError::Failed);
        }
        let fetched = self.get(&url, HeaderMap::new(), discovery::MAX_DOCUMENT).await;
        let fetched = fetched.and_then(|document| Ok(ServerMetadata::parse(&document, issuer)?));
        kept.settle(&url, self.clock.now_ms(), fetched)
    }

    /// The keys of a provider; new ones when `roll`, if the last time is long enough ago.
    async fn keys(&self, issuer: &str, uri: &str, roll: bool) -> Result<Arc<Jwks>, ProviderError> {
        let known = self.issuer(issuer);
        let mut kept = known.keys.lock().await;
        let now = self.clock.now_ms();
        if let Some(keys) = kept.young(uri, now, FRESH_MS) {
            if !roll || kept.rolled_ms.is_some_and(|at| now.saturating_sub(at) < ROLL_MS) {
                return Ok(keys);
            }
            kept.rolled_ms = Some(now);
        }
        if kept.failed_just_now(uri, now) {
            return kept.young(uri, now, STALE_MS).ok_or(ProviderError::Failed);
        }
        let fetched = self.get(uri, HeaderMap::new(), MAX_JWKS).await;
        let fetched = fetched.and_then(|document| Jwks::parse(&document).map_err(ProviderError::Keys));
        kept.settle(uri, self.clock.now_ms(), fetched)
    }

    /// Checks a token against the provider's keys. A key that is not known may be new: then
    /// the keys are asked for once more.
    pub(crate) async fn verify(
        &self,
        token: &str,
        uri: &str,
        expect: &Expect<'_>,
    ) -> Result<Result<Claims, JwtError>, ProviderError> {
        let keys = self.keys(expect.issuer, uri, false).await?;
        match verify(token, &keys, expect) {
            Err(JwtError::UnknownKey) => {
                let keys = self.keys(expect.issuer, uri, true).await?;
                Ok(verify(token, &keys, expect))
            }
            result => Ok(result),
        }
    }

    /// Body of a good answer, within bounds of time and size. Redirects are not followed.
    pub(super) async fn get(&self, url: &str, headers: HeaderMap, max: usize) -> Result<Bytes, ProviderError> {
        let (status, body) = self.send(url, Method::GET, headers, Bytes::new(), max).await?;
        if status == StatusCode::OK { Ok(body) } else { Err(ProviderError::Status(status)) }
    }

    /// Status and body of any answer.
    pub(super) async fn send(
        &self,
        url: &str,
        method: Method,
        mut headers: HeaderMap,
        body: Bytes,
        max: usize,
    ) -> Result<(StatusCode, Bytes), ProviderError> {
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let exchange = async {
            let url = Url::parse(url)?;
            let answer = self.egress.client().send(&url, method, headers, body).await?;
            let status = answer.status();
            Ok((status, answer.into_body().collect_bytes(max).await?))
        };
        tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or(Err(ProviderError::Timeout))
    }
}
