//! Asking a provider about somebody who signed in before (A5), with the tokens it gave
//! then. They are kept sealed, one set per person: that of the last sign-in.

mod subject;

use std::time::Duration;

use bartizan_config::resources::IdentityProvider;
use bartizan_model::Secret;
use bartizan_oauth::discovery::ServerMetadata;
use bartizan_oauth::jwt::{Claims, Expect, Typ};
use bartizan_oauth::params::Builder;
use bartizan_oauth::token_answer::{self, TokenAnswer, TokenAnswerError};
use bartizan_store::repo::sealed::Key;
use bartizan_store::repo::{lease, person};
use bartizan_vault::Records;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zeroize::{Zeroize as _, Zeroizing};

use super::callback::LEEWAY_S;
use super::{DEMO, Inner, Login, claims, random};
use crate::break_glass;
use crate::server::fresh::Again;
pub use subject::{SubjectKind, SubjectProblem};

/// Answers this young are not asked for again: clients of one person refresh together.
const YOUNG_MS: i64 = 2_000;
/// How long one process has the asking for itself, milliseconds.
const LEASE_MS: i64 = 30_000;
/// How long the others wait for its answer.
const WAIT: Duration = Duration::from_secs(8);
const LOOK: Duration = Duration::from_millis(200);
/// Longest ID token that is put into an address, bytes.
const MAX_HINT: usize = 6 * 1024;
/// Attempts to keep tokens that were renewed already, and the pause between them.
const STORE_ATTEMPTS: u32 = 6;
const STORE_PAUSE: Duration = Duration::from_millis(300);

/// What a provider gave at a sign-in.
#[derive(Serialize, Deserialize)]
struct Kept {
    provider: String,
    issuer: String,
    client_id: String,
    access: String,
    /// End of the access token, milliseconds since the epoch.
    access_until_ms: Option<i64>,
    refresh: Option<String>,
    /// The newest ID token, as it came.
    #[serde(default)]
    id_token: Option<String>,
    /// Its end, milliseconds since the epoch.
    #[serde(default)]
    id_until_ms: i64,
    /// When the provider last spoke about the person.
    checked_ms: i64,
    /// It ended the sign-in. This is kept until the next one: without tokens nobody could be
    /// asked, and that would be forgiven for a while.
    #[serde(default)]
    ended: bool,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.access.zeroize();
        self.refresh.zeroize();
        self.id_token.zeroize();
    }
}

impl Kept {
    /// Nobody needs the tokens any more; what does not work now is of no use later.
    fn end(&mut self) {
        self.access.zeroize();
        self.refresh.zeroize();
        self.refresh = None;
        self.id_token.zeroize();
        self.id_token = None;
        self.ended = true;
    }

    /// Takes an ID token over that was checked.
    fn take_id(&mut self, token: &Secret<String>, claims: &Claims) {
        self.id_token.zeroize();
        self.id_token = Some(token.expose().clone());
        self.id_until_ms = claims.seconds("exp").unwrap_or(0).saturating_mul(1000);
    }

    fn take(&mut self, tokens: &TokenAnswer, now: i64) {
        self.access.zeroize();
        tokens.access_token.expose().clone_into(&mut self.access);
        let life = tokens.expires_in_s.and_then(|seconds| i64::try_from(seconds.saturating_mul(1000)).ok());
        self.access_until_ms = life.map(|life| now.saturating_add(life));
        // Without a new one the old one stays good (RFC 6749 section 6).
        if let Some(refresh) = &tokens.refresh_token {
            self.refresh.zeroize();
            self.refresh = Some(refresh.expose().clone());
        }
    }
}

fn key(person: &str) -> Key {
    Key { tenant: String::new(), kind: "sign_in_tokens".to_owned(), id: person.to_owned() }
}

/// What came of asking, before it is weighed.
enum Told {
    /// Claims, and those of the userinfo endpoint.
    Claims(Claims, Option<Claims>),
    Ended(&'static str),
    Nothing,
}

impl Login {
    /// Asks the provider about a person again, by id, and takes over what it says. One at a
    /// time per person, in all processes: many providers take a refresh token once only.
    pub async fn ask_again(&self, person: &str) -> Again {
        self.inner.ask_again(person).await
    }
}

impl Inner {
    fn records(&self) -> Records {
        Records::new(self.deps.vault.clone(), self.deps.store.clone())
    }

    /// Keeps what a sign-in gave. A sign-in does not fail for it: without, the person signs
    /// in again when nobody can vouch for them any more.
    pub(super) async fn keep_tokens(
        &self,
        person: &str,
        provider: &IdentityProvider,
        tokens: &TokenAnswer,
        id: &Claims,
    ) {
        let now = self.now();
        let mut kept = Kept {
            provider: provider.id.clone(),
            issuer: provider.issuer.clone(),
            client_id: provider.client_id.clone(),
            access: String::new(),
            access_until_ms: None,
            refresh: None,
            id_token: None,
            id_until_ms: 0,
            checked_ms: now,
            ended: false,
        };
        kept.take(tokens, now);
        if let Some(token) = &tokens.id_token {
            kept.take_id(token, id);
        }
        for _ in 0..3 {
            let old = match self.records().get(&key(person)).await {
                Ok(found) => found.map_or(0, |(version, _)| version),
                // It does not open: it is of no use to anybody.
                Err(bartizan_vault::RecordsError::Open { .. }) => {
                    let _ = self.records().delete(&key(person)).await;
                    0
                }
                Err(error) => return tracing::warn!(%error, "tokens of a sign-in are not kept"),
            };
            match self.put(person, old, &kept).await {
                Some(_) => return,
                None => tracing::debug!("tokens of a sign-in met others"),
            }
        }
    }

    /// The newest ID token of a person's sign-in, when it is of this provider and short enough
    /// for an address. A provider takes an expired one as well.
    pub(super) async fn id_token_hint(&self, person: &str, provider: &IdentityProvider) -> Option<Secret<String>> {
        let (_, mut kept) = self.kept(person).await?;
        let same = kept.provider == provider.id && kept.issuer == provider.issuer;
        let token = Secret::new(kept.id_token.take()?);
        (same && kept.client_id == provider.client_id && token.expose().len() <= MAX_HINT).then_some(token)
    }

    async fn put(&self, person: &str, old: i64, kept: &Kept) -> Option<i64> {
        let plain = Zeroizing::new(serde_json::to_vec(kept).ok()?);
        self.records().put(&key(person), old, &plain).await.ok()
    }

    /// The old refresh token may be worthless by now, so that the new one must be stored.
    /// `None` when somebody else was faster: the person signed in anew.
    async fn put_surely(&self, person: &str, old: i64, kept: &Kept) -> Option<i64> {
        let plain = Zeroizing::new(serde_json::to_vec(kept).ok()?);
        for attempt in 0..STORE_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(STORE_PAUSE).await;
            }
            match self.records().put(&key(person), old, &plain).await {
                Ok(version) => return Some(version),
                Err(bartizan_vault::RecordsError::Conflict) => return None,
                Err(error) => tracing::warn!(%error, "renewed tokens of a sign-in are not kept yet"),
            }
        }
        None
    }

    async fn kept(&self, person: &str) -> Option<(i64, Kept)> {
        let (version, plain) = self.records().get(&key(person)).await.ok()??;
        Some((version, serde_json::from_slice(&plain).ok()?))
    }

    pub(super) async fn ask_again(&self, id: &str) -> Again {
        let began = self.now();
        let Ok(Some(person)) = person::by_id(&self.deps.store, id).await else {
            return Again::Unknown { since_ms: began };
        };
        if person.provider == DEMO {
            let there = self.deps.demo_users.iter().any(|user| user.email.eq_ignore_ascii_case(&person.email));
            return if there { Again::Current } else { Again::Ended("no such demo user") };
        }
        if person.provider == break_glass::PROVIDER {
            let Some(account) = &self.deps.break_glass else { return Again::Ended("the break-glass account is off") };
            return match account.standing().await {
                Ok(Some(standing)) if standing.email == person.email => Again::Current,
                Ok(_) => Again::Ended("there is no such account any more"),
                Err(_) => Again::Unknown { since_ms: began },
            };
        }
        let providers = (self.deps.providers)();
        let same = |it: &&IdentityProvider| it.id == person.provider && it.issuer == person.issuer;
        let Some(provider) = providers.iter().find(same) else {
            return Again::Ended("the provider is not configured any more");
        };
        let nothing = Again::Unknown { since_ms: person.signed_in_ms };
        let (Ok(owner), last) = (random(), Instant::now() + WAIT) else { return nothing };
        loop {
            let Some((version, kept)) = self.kept(id).await else { return nothing };
            if kept.ended {
                return Again::Ended("the provider had ended the sign-in");
            }
            if kept.checked_ms >= began.saturating_sub(YOUNG_MS) {
                return Again::Current;
            }
            let since_ms = kept.checked_ms;
            let fits = kept.provider == provider.id && kept.issuer == provider.issuer;
            if !fits || kept.client_id != provider.client_id {
                return Again::Unknown { since_ms };
            }
            let name = format!("sign_in {id}");
            match lease::claim(&self.deps.store, &name, owner.expose(), "", LEASE_MS).await {
                Ok(Some(lease)) => {
                    let several = providers.len() > 1;
                    let again = self.asked(&person, provider, several, version, kept).await;
                    // It runs out by itself.
                    let _ = lease::release(&self.deps.store, &name, owner.expose(), lease.fence).await;
                    return again;
                }
                Ok(None) if Instant::now() < last => tokio::time::sleep(LOOK).await,
                Ok(None) | Err(_) => return Again::Unknown { since_ms },
            }
        }
    }

    /// With the lease in hand.
    async fn asked(
        &self,
        person: &person::Person,
        provider: &IdentityProvider,
        several: bool,
        version: i64,
        mut kept: Kept,
    ) -> Again {
        let since_ms = kept.checked_ms;
        let mut version = version;
        let (id, userinfo) = match self.told(person, provider, &mut version, &mut kept).await {
            Told::Claims(id, userinfo) => (id, userinfo),
            Told::Nothing => return Again::Unknown { since_ms },
            Told::Ended(why) => {
                kept.end();
                if self.put(&person.id, version, &kept).await.is_none() {
                    tracing::warn!("that a sign-in ended is not kept");
                }
                return Again::Ended(why);
            }
        };
        let Ok(who) = claims::person(provider, &id, userinfo.as_ref(), several) else {
            return Again::Ended("what the provider says now would not let them sign in");
        };
        let said = super::Said {
            issuer: &provider.issuer,
            subject: &person.subject,
            provider: &provider.id,
            email: &who.email,
            name: &who.name,
            groups: &who.groups,
            peer: None,
        };
        match self.person(&said).await {
            Ok(_) => {}
            Err(problem) if problem.status.is_server_error() => return Again::Unknown { since_ms },
            Err(_) => return Again::Ended("the account is not active"),
        }
        kept.checked_ms = self.now();
        if self.put(&person.id, version, &kept).await.is_none() {
            tracing::warn!("when a person was last confirmed is not kept");
        }
        Again::Current
    }

    async fn told(
        &self,
        person: &person::Person,
        provider: &IdentityProvider,
        version: &mut i64,
        kept: &mut Kept,
    ) -> Told {
        let Ok(metadata) = self.metadata(provider).await else { return Told::Nothing };
        let mut id_token = None;
        if let Some(refresh) = kept.refresh.clone() {
            let refresh = Secret::new(refresh);
            let tokens = match self.renew(provider, &metadata, &refresh).await {
                Ok(tokens) => tokens,
                Err(Some(error)) if error.is_permanent() => return Told::Ended("the provider ended the sign-in"),
                Err(_) => return Told::Nothing,
            };
            kept.take(&tokens, self.now());
            // At once: the old refresh token may be used up.
            match self.put_surely(&person.id, *version, kept).await {
                Some(new) => *version = new,
                None => return Told::Nothing,
            }
            if let Some(token) = &tokens.id_token {
                match self.renewed_id(provider, &metadata, token.expose()).await {
                    Some(claims) => {
                        // Kept with what comes of the claims.
                        kept.take_id(token, &claims);
                        id_token = Some(claims);
                    }
                    None => return Told::Nothing,
                }
            }
        } else if kept.access_until_ms.is_none_or(|until| self.now() >= until) {
            return Told::Nothing;
        }
        let userinfo = match &metadata.userinfo_endpoint {
            Some(endpoint) => self.said_of(endpoint, &Secret::new(kept.access.clone())).await,
            None => None,
        };
        let about = |claims: &Claims| claims.text("sub") == Some(person.subject.as_str());
        if ![&id_token, &userinfo].into_iter().flatten().all(about) {
            return Told::Ended("the provider spoke of somebody else");
        }
        match (id_token, userinfo) {
            (Some(id), userinfo) if userinfo.is_some() || !claims::is_incomplete(provider, &id) => {
                Told::Claims(id, userinfo)
            }
            // Providers that say groups in ID tokens only say nothing about them here.
            (None, Some(userinfo)) if userinfo.get(&provider.claims.groups).is_some() => Told::Claims(userinfo, None),
            _ => Told::Nothing,
        }
    }

    async fn renew(
        &self,
        provider: &IdentityProvider,
        metadata: &ServerMetadata,
        refresh: &Secret<String>,
    ) -> Result<TokenAnswer, Option<TokenAnswerError>> {
        let body = Builder::new().add("grant_type", "refresh_token").add("refresh_token", refresh.expose());
        let sent = self.ask_tokens(provider, metadata, body).await.map_err(|_| None)?;
        token_answer::parse(sent.0.as_u16(), &sent.1).map_err(|error| {
            tracing::info!(%error, provider = provider.id, "a person could not be asked about again");
            Some(error)
        })
    }

    /// OpenID Connect Core, section 12.2: as at the sign-in, but without a nonce.
    async fn renewed_id(&self, provider: &IdentityProvider, metadata: &ServerMetadata, token: &str) -> Option<Claims> {
        let algs = super::callback::algs(metadata);
        let expect = Expect {
            issuer: &provider.issuer,
            audience: &provider.client_id,
            algs: &algs,
            typ: Typ::Plain,
            nonce: None,
            now_s: self.now().div_euclid(1000),
            leeway_s: LEEWAY_S,
            max_age_s: None,
        };
        self.directory.verify(token, metadata.jwks_uri.as_ref()?, &expect).await.ok()?.ok()
    }
}
