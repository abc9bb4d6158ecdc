//! `client_credentials`: bartizan's own token for a server (RFC 6749, section 4.4), one for
//! all replicas, kept sealed and obtained by one of them (as P20 does for people).

use std::time::Duration;

use bartizan_catalog::{ServerSpec, TokenConfig};
use bartizan_oauth::params::Builder;
use bartizan_oauth::token_answer::TokenAnswer;
use bartizan_store::repo::lease;
use bartizan_store::repo::sealed::Key;
use bartizan_vault::RecordsError;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zeroize::{Zeroize as _, Zeroizing};

use super::endpoint::{self, Endpoint};
use crate::accounts::{AccountError, Inner, hash};

/// Longer than asking a token endpoint and storing what came of it.
const LEASE_MS: i64 = 30_000;
/// How long somebody else is waited for, and how often is looked.
const WAIT: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(100);

/// The token at rest.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) access: String,
    pub(super) issued_ms: i64,
    pub(super) expires_ms: Option<i64>,
    /// What it was obtained for and with: other settings, another token.
    bound: Vec<u8>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.access.zeroize();
    }
}

fn bound(spec: &ServerSpec, config: &TokenConfig) -> Vec<u8> {
    let url = match &spec.transport {
        bartizan_catalog::Transport::Http { url } => url.to_string(),
        bartizan_catalog::Transport::Stdio { .. } => String::new(),
    };
    let client = &config.client;
    let parts = [
        Some(&url),
        client.issuer.as_ref(),
        client.client_id.as_ref(),
        config.token_endpoint.as_ref(),
        config.resource.as_ref(),
        config.audience.as_ref(),
    ];
    let mut text = client.scopes.join(" ");
    for part in parts {
        text.push('\n');
        text.push_str(part.map_or("", String::as_str));
    }
    hash("client credentials", &text)
}

fn key(spec: &ServerSpec) -> Key {
    Key { tenant: String::new(), kind: "upstream_service_token".to_owned(), id: spec.id.to_string() }
}

async fn load(inner: &Inner, spec: &ServerSpec) -> Result<(i64, Option<Kept>), AccountError> {
    let Some((version, plain)) = inner.records.get(&key(spec)).await? else { return Ok((0, None)) };
    // What cannot be read is obtained anew.
    Ok((version, serde_json::from_slice(&plain).ok()))
}

/// The newest token and its version; another one than `not`, which the server refused.
pub(super) async fn obtain(
    inner: &Inner,
    spec: &ServerSpec,
    config: &TokenConfig,
    not: Option<i64>,
) -> Result<(i64, Kept), AccountError> {
    let bound = bound(spec, config);
    let usable = |version: i64, kept: &Kept| {
        let due = super::derived::due(kept.issued_ms, kept.expires_ms);
        let fresh = due.is_none_or(|due| inner.deps.clock.now_ms() < due);
        kept.bound == bound && fresh && Some(version) != not
    };
    let name = format!("upstream_service_token {}", spec.id);
    let last = Instant::now() + WAIT;
    loop {
        if let (version, Some(kept)) = load(inner, spec).await?
            && usable(version, &kept)
        {
            return Ok((version, kept));
        }
        if let Some(lease) = lease::claim(&inner.deps.store, &name, &inner.node, "", LEASE_MS).await? {
            let done = alone(inner, spec, config, &bound, &usable).await;
            if let Err(error) = lease::release(&inner.deps.store, &name, &inner.node, lease.fence).await {
                tracing::warn!(%error, "a lease could not be given back");
            }
            return done;
        }
        if Instant::now() >= last {
            return Err(AccountError::Unavailable("another process gets the token".to_owned()));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// With the lease in hand.
async fn alone(
    inner: &Inner,
    spec: &ServerSpec,
    config: &TokenConfig,
    bound: &[u8],
    usable: &(impl Fn(i64, &Kept) -> bool + Sync),
) -> Result<(i64, Kept), AccountError> {
    // Somebody may have been faster.
    let (old, kept) = load(inner, spec).await?;
    if let Some(kept) = kept.filter(|kept| usable(old, kept)) {
        return Ok((old, kept));
    }
    let endpoint = endpoint::find(inner, spec, config).await?;
    let answer = ask(inner, &endpoint, config).await?;
    let now = inner.deps.clock.now_ms();
    let kept = Kept {
        access: answer.access_token.expose().clone(),
        issued_ms: now,
        expires_ms: super::derived::end(now, answer.expires_in_s),
        bound: bound.to_owned(),
    };
    let plain = Zeroizing::new(serde_json::to_vec(&kept).unwrap_or_default());
    match inner.records.put(&key(spec), old, &plain).await {
        Ok(version) => Ok((version, kept)),
        Err(RecordsError::Conflict) => match load(inner, spec).await? {
            (version, Some(kept)) if usable(version, &kept) => Ok((version, kept)),
            _ => Err(AccountError::Unavailable("the token was replaced meanwhile".to_owned())),
        },
        Err(error) => Err(error.into()),
    }
}

async fn ask(inner: &Inner, endpoint: &Endpoint, config: &TokenConfig) -> Result<TokenAnswer, AccountError> {
    let form = Builder::new()
        .add("grant_type", "client_credentials")
        .add("resource", &endpoint.resource)
        .add_some("audience", config.audience.as_deref())
        .add_some("scope", Some(endpoint.scopes.as_str()).filter(|scopes| !scopes.is_empty()));
    endpoint::bearer(endpoint::ask(inner, &endpoint.url, &endpoint.client, form).await?)
}
