//! One assertion: good for this server, now, and once (RFC 7515, 7519; RFC 8725 for what to look out for).

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::keys::{Key, read};
use crate::replay::Seen;

/// Longest life that the gateway gives, seconds.
const LIFE_S: i64 = 60;
/// Difference of clocks that is forgiven, seconds.
const LEEWAY_S: i64 = 5;
/// Longest assertion that is looked at, bytes.
const LONGEST: usize = 16_384;
/// Unknown keys make the set be fetched again, this long after the last fetch ended at the earliest, seconds.
const COOLDOWN_S: i64 = 10;
/// Longest that a fetch may take.
const FETCH: Duration = Duration::from_secs(5);
/// A key that the gateway withdrew is forgotten after this, seconds.
const KEPT_S: i64 = 600;
/// Assertions that are remembered against a second use.
const REMEMBERED: usize = 100_000;

/// Why a request did not come through the gateway. For the server's log; the caller is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub &'static str);

/// What the gateway says about the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(pub Map<String, Value>);

impl Claims {
    /// A claim that is text, such as `sub` or `email`.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// Groups of the person.
    pub fn groups(&self) -> Vec<&str> {
        let groups = self.0.get("groups").and_then(Value::as_array);
        groups.into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

type Fetched = Pin<Box<dyn Future<Output = Option<String>> + Send>>;
type Fetch = Box<dyn Fn() -> Fetched + Send + Sync>;
type Now = Box<dyn Fn() -> i64 + Send + Sync>;

/// Verifies assertions. One per process: it remembers which were used. Cheap to clone.
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    issuer: String,
    audience: String,
    fetch: Fetch,
    now: Now,
    keys: RwLock<Kept>,
    /// Held while keys are fetched: before this time (seconds) they are not fetched again.
    next_look_s: tokio::sync::Mutex<i64>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Kept {
    keys: HashMap<String, Key>,
    good_until_s: i64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    crit: Option<Value>,
}

#[expect(clippy::disallowed_methods, reason = "this crate is for other people's servers, which have one clock")]
fn machine_time() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|time| i64::try_from(time.as_secs()).ok()).unwrap_or(0)
}

impl Guard {
    /// `issuer` is the gateway's public URL, `audience` the tag of this server; `fetch` brings the text of
    /// `ISSUER/.well-known/jwks.json`. It is given up after five seconds, so the runtime needs its timer.
    pub fn new<F, O, E>(issuer: &str, audience: &str, fetch: F) -> Self
    where
        F: Fn() -> O + Send + Sync + 'static,
        O: Future<Output = Result<String, E>> + Send + 'static,
    {
        Self::with_clock(issuer, audience, fetch, machine_time)
    }

    /// The same by another clock, seconds since the epoch.
    pub fn with_clock<F, O, E>(
        issuer: &str,
        audience: &str,
        fetch: F,
        now: impl Fn() -> i64 + Send + Sync + 'static,
    ) -> Self
    where
        F: Fn() -> O + Send + Sync + 'static,
        O: Future<Output = Result<String, E>> + Send + 'static,
    {
        let fetch: Fetch = Box::new(move || {
            let text = fetch();
            Box::pin(async move { text.await.ok() })
        });
        let inner = Inner {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            fetch,
            now: Box::new(now),
            keys: RwLock::default(),
            next_look_s: tokio::sync::Mutex::default(),
            seen: Mutex::new(Seen::new(REMEMBERED)),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The claims of an assertion.
    ///
    /// # Errors
    /// [`Refused`] for any that is not good, and for a good one the second time.
    pub async fn verify(&self, assertion: &str) -> Result<Claims, Refused> {
        if assertion.is_empty() || assertion.len() > LONGEST {
            return Err(Refused("none"));
        }
        let (message, signature) = assertion.rsplit_once('.').ok_or(Refused("form"))?;
        let (header, claims) = message.split_once('.').ok_or(Refused("form"))?;
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| Refused("form"));
        let head: Header = serde_json::from_slice(&bytes(header)?).map_err(|_| Refused("form"))?;
        if head.crit.is_some() {
            return Err(Refused("crit"));
        }
        let key = self.key(&head.kid).await?;
        if !key.is_for(&head.alg) {
            return Err(Refused("algorithm"));
        }
        if !key.verifies(message.as_bytes(), &bytes(signature)?) {
            return Err(Refused("signature"));
        }
        let claims: Map<String, Value> = serde_json::from_slice(&bytes(claims)?).map_err(|_| Refused("form"))?;
        self.judge(&claims)?;
        Ok(Claims(claims))
    }

    fn judge(&self, claims: &Map<String, Value>) -> Result<(), Refused> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let time = |name: &str| claims.get(name).and_then(Value::as_i64);
        let now = (self.inner.now)();
        if text("iss") != Some(&self.inner.issuer) {
            return Err(Refused("issuer"));
        }
        let wanted = Some(self.inner.audience.as_str());
        let meant = match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == wanted),
            Some(one) => one.as_str() == wanted,
            None => false,
        };
        if !meant {
            return Err(Refused("audience"));
        }
        let (end, issued) = (time("exp").ok_or(Refused("no end"))?, time("iat").ok_or(Refused("no begin"))?);
        let begins = time("nbf").unwrap_or(issued).max(issued);
        if end <= now.saturating_sub(LEEWAY_S) || begins > now.saturating_add(LEEWAY_S) {
            return Err(Refused("time"));
        }
        if end > now.saturating_add(LIFE_S + LEEWAY_S) {
            return Err(Refused("too long a life"));
        }
        text("sub").ok_or(Refused("no subject"))?;
        let id = text("jti").ok_or(Refused("no id"))?;
        let mut seen = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.first(id, end.saturating_add(LEEWAY_S), now) { Ok(()) } else { Err(Refused("used before")) }
    }

    /// A key of the gateway by its id; nothing an assertion carries or points to is a key.
    async fn key(&self, kid: &str) -> Result<Key, Refused> {
        // Who has a known key waits for nobody, least of all for a fetch that somebody's invented key began.
        if let Ok(key) = self.known(kid) {
            return Ok(key);
        }
        let mut next_look_s = self.inner.next_look_s.lock().await;
        let known = self.known(kid);
        // A flood of unknown keys is not passed on to the gateway.
        if known.is_ok() || (self.inner.now)() < *next_look_s {
            return known;
        }
        let text = tokio::time::timeout(FETCH, (self.inner.fetch)()).await.ok().flatten();
        let now = (self.inner.now)();
        // From the end of the fetch: who waited for a slow one does not begin the next.
        *next_look_s = now.saturating_add(COOLDOWN_S);
        if let Some(keys) = text.and_then(|text| read(&text)) {
            let kept = Kept { keys, good_until_s: now.saturating_add(KEPT_S) };
            *self.inner.keys.write().unwrap_or_else(PoisonError::into_inner) = kept;
        }
        self.known(kid)
    }

    fn known(&self, kid: &str) -> Result<Key, Refused> {
        let kept = self.inner.keys.read().unwrap_or_else(PoisonError::into_inner);
        if (self.inner.now)() > kept.good_until_s {
            return Err(Refused("no keys"));
        }
        kept.keys.get(kid).cloned().ok_or(Refused("unknown key"))
    }
}
