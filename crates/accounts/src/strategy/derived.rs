//! Tokens that come from token endpoints without a browser: in memory, obtained once for all
//! who wait, and again 60 s before their end.

use std::sync::{Arc, Mutex, PoisonError};

use bartizan_catalog::{Credential, ServerSpec};
use bartizan_model::Principal;
use bartizan_store::repo::upstream_account;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use moka::sync::Cache;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{Standing, client_credentials, entra_obo, id_jag, sensitive, token_exchange};
use crate::account::EARLY_MS;
use crate::accounts::{AccountError, GRACE, Inner, YOUNG_MS, hash};

/// Longest life that is believed, milliseconds.
const MAX_LIFE_MS: i64 = 24 * 3_600_000;
/// Life of an exchanged token of which nothing is said, seconds.
const UNSAID_S: u64 = 300;
/// Tokens that were exchanged, in memory; more are exchanged again.
const MOST: u64 = 100_000;
/// Pause after a failure, milliseconds: doubled each time.
const FIRST_PAUSE_MS: i64 = 1_000;
const LONGEST_PAUSE_MS: i64 = 60_000;
/// Owner of what is the same for everybody; no key of a principal.
pub(crate) const SHARED: &str = "shared";

/// A token in memory.
pub(super) struct Derived {
    header: HeaderValue,
    standing: Standing,
    spec_version: Box<str>,
    issued_ms: i64,
    expires_ms: Option<i64>,
    /// What was known of people when it was asked for; none where it is nobody's in particular.
    generation: Option<u64>,
}

/// The tokens in memory.
pub(super) struct Tokens {
    known: Cache<String, Arc<Derived>>,
    /// Grows when people change; and when that was last.
    people: Mutex<(u64, Option<Instant>)>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { known: Cache::new(MOST), people: Mutex::new((0, None)) }
    }
}

impl Tokens {
    /// What is known now, and what is being obtained, is for people as they were.
    pub(super) fn distrust(&self) {
        let mut people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        *people = (people.0.saturating_add(1), Some(Instant::now()));
    }

    fn generation(&self) -> u64 {
        self.people.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether people are as they were.
    fn is_current(&self, held: &Derived) -> bool {
        held.generation.is_none_or(|generation| generation == self.generation())
    }

    /// What is on its way while people change may still use what it began with.
    fn is_on_its_way(&self, held: &Derived) -> bool {
        let Some(generation) = held.generation else { return true };
        let (now, since) = *self.people.lock().unwrap_or_else(PoisonError::into_inner);
        now == generation || (now == generation.saturating_add(1) && since.is_some_and(|at| at.elapsed() < GRACE))
    }
}

/// End of a token's life, milliseconds since the epoch.
pub(super) fn end(now: i64, expires_in_s: Option<u64>) -> Option<i64> {
    let life = expires_in_s.map(|s| i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(1000));
    life.map(|life| now.saturating_add(life.min(MAX_LIFE_MS)))
}

/// When it is time for another one.
pub(super) fn due(issued_ms: i64, expires_ms: Option<i64>) -> Option<i64> {
    let expires = expires_ms?;
    let life = expires.saturating_sub(issued_ms).max(0);
    Some(expires - EARLY_MS.min(life / 2))
}

/// Which token: a person's is exchanged again when the person's groups are others.
fn name(spec: &ServerSpec, principal: &Principal) -> String {
    if !spec.credential.is_personal() {
        return upstream_account::name(SHARED, spec.id.as_str());
    }
    let mut groups: Vec<&str> = principal.groups.iter().map(|group| &**group).collect();
    groups.sort_unstable();
    groups.dedup();
    let text: String = groups.iter().map(|group| format!("{}:{group}", group.len())).collect();
    let groups = URL_SAFE_NO_PAD.encode(hash("derived groups", &text));
    format!("{} {groups}", upstream_account::name(principal.key(), spec.id.as_str()))
}

/// In memory, made with these settings.
fn held(inner: &Inner, spec: &ServerSpec, name: &str) -> Option<Arc<Derived>> {
    inner.strategies.derived.known.get(name).filter(|held| *held.spec_version == *spec.version)
}

/// The token as it is, without asking anybody; none that is over.
pub(super) fn current(inner: &Inner, spec: &ServerSpec, principal: &Principal) -> Option<HeaderValue> {
    let held = held(inner, spec, &name(spec, principal))?;
    let over = held.expires_ms.is_some_and(|expires| expires <= inner.deps.clock.now_ms());
    let over = over || !inner.strategies.derived.is_on_its_way(&held);
    (!over).then(|| held.header.clone())
}

pub(super) async fn ready(inner: &Inner, spec: &ServerSpec, principal: &Principal) -> Result<Standing, AccountError> {
    let name = name(spec, principal);
    if let Some(held) = fresh(inner, spec, &name) {
        return Ok(held.standing.clone());
    }
    Box::pin(renew(inner, spec, principal, &name, None)).await
}

fn fresh(inner: &Inner, spec: &ServerSpec, name: &str) -> Option<Arc<Derived>> {
    let held = held(inner, spec, name).filter(|held| inner.strategies.derived.is_current(held))?;
    let due = due(held.issued_ms, held.expires_ms);
    due.is_none_or(|due| inner.deps.clock.now_ms() < due).then_some(held)
}

/// After the server answered 401 to the token of `version`: another one is ready.
pub(super) async fn refused(
    inner: &Inner,
    spec: &ServerSpec,
    principal: &Principal,
    version: i64,
) -> Result<(), AccountError> {
    let name = name(spec, principal);
    let again = || AccountError::Misconfigured("the server refuses the token it was issued".to_owned());
    if let Some(held) = held(inner, spec, &name).filter(|held| held.standing.version == version) {
        // One that was issued just now does not get better by another one.
        if inner.deps.clock.now_ms().saturating_sub(held.issued_ms) < YOUNG_MS {
            return Err(again());
        }
        Box::pin(renew(inner, spec, principal, &name, Some(version))).await?;
    }
    Ok(())
}

/// Obtains a token, once for all of this process who wait.
async fn renew(
    inner: &Inner,
    spec: &ServerSpec,
    principal: &Principal,
    name: &str,
    not: Option<i64>,
) -> Result<Standing, AccountError> {
    let lock = inner.lock(name);
    let _turn = inner.turn(&lock).await?;
    let fresh = fresh(inner, spec, name).filter(|held| Some(held.standing.version) != not);
    if let Some(held) = fresh {
        return Ok(held.standing.clone());
    }
    let now = inner.deps.clock.now_ms();
    let still = || {
        let held = held(inner, spec, name).filter(|_| not.is_none())?;
        let held = Some(held).filter(|held| inner.strategies.derived.is_current(held))?;
        let good = held.expires_ms.is_none_or(|expires| expires > inner.deps.clock.now_ms());
        good.then(|| held.standing.clone())
    };
    if inner.failing.get(name).is_some_and(|(until, _)| until > now) {
        let why = || AccountError::Unavailable("no token could be had a moment ago".to_owned());
        return still().ok_or_else(why);
    }
    match Box::pin(obtain(inner, spec, principal, name, not)).await {
        Ok(derived) => {
            inner.failing.invalidate(name);
            let standing = derived.standing.clone();
            inner.strategies.derived.known.insert(name.to_owned(), Arc::new(derived));
            Ok(standing)
        }
        // The person can do something about it, at once.
        Err(AccountError::LoginNeeded) => still().ok_or(AccountError::LoginNeeded),
        Err(error) => {
            let (_, pause) = inner.failing.get(name).unwrap_or((0, FIRST_PAUSE_MS / 2));
            let pause = (pause * 2).min(LONGEST_PAUSE_MS);
            inner.failing.insert(name.to_owned(), (now.saturating_add(pause), pause));
            tracing::warn!(%error, server = %spec.id, strategy = spec.credential.strategy(), "no token");
            still().ok_or(error)
        }
    }
}

async fn obtain(
    inner: &Inner,
    spec: &ServerSpec,
    principal: &Principal,
    name: &str,
    not: Option<i64>,
) -> Result<Derived, AccountError> {
    let now = inner.deps.clock.now_ms();
    let generation = spec.credential.is_personal().then(|| inner.strategies.derived.generation());
    let make = |token: &str, version: i64, issued_ms: i64, expires_ms: Option<i64>| {
        let value = Zeroizing::new(format!("Bearer {token}"));
        let identity = match spec.credential.is_personal() {
            true => format!("{}:{}", spec.credential.strategy(), principal.id).into(),
            false => spec.credential.strategy().into(),
        };
        let standing = Standing { version, identity };
        let (header, spec_version) = (sensitive(&value)?, Box::from(&*spec.version));
        Ok(Derived { header, standing, spec_version, issued_ms, expires_ms, generation })
    };
    let answer = match &spec.credential {
        Credential::ClientCredentials(config) => {
            let (version, kept) = client_credentials::obtain(inner, spec, config, not).await?;
            return make(&kept.access, version, kept.issued_ms, kept.expires_ms);
        }
        Credential::TokenExchange(config) => token_exchange::obtain(inner, spec, config, principal).await?,
        Credential::EntraObo(config) => entra_obo::obtain(inner, spec, config, principal).await?,
        Credential::IdJag(config) => id_jag::obtain(inner, spec, config, principal).await?,
        _ => return Err(AccountError::Misconfigured("this strategy has no token".to_owned())),
    };
    let version = held(inner, spec, name).map_or(0, |held| held.standing.version) + 1;
    make(answer.access_token.expose(), version, now, end(now, answer.expires_in_s.or(Some(UNSAID_S))))
}
