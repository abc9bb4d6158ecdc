//! The person's own token of the provider, for whoever exchanges it for one of a server (P17).
//! It is renewed in time, by one process at a time, and stored before it is used (as P20 does).

use std::time::Duration;

use bartizan_config::resources::IdentityProvider;
use bartizan_model::{Secret, fold_user_id};
use bartizan_store::repo::{lease, person};
use tokio::time::Instant;

use super::{Inner, Kept, LEASE_MS, LOOK, Login};
use crate::login::random;

/// A token is renewed this long before its end, milliseconds.
const EARLY_MS: i64 = 60_000;
/// How long somebody else's renewal is waited for.
const WAIT: Duration = Duration::from_secs(15);

/// Which token of a sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    /// The ID token (OpenID Connect Core, section 2).
    Id,
    /// The access token.
    Access,
    /// The refresh token, which is not renewed for this.
    Refresh,
}

/// Why there is no such token. The texts are for the record and hold no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectProblem {
    /// None is kept, or it is over: the person must sign in again.
    #[error("the person must sign in again")]
    SignInNeeded,
    /// It may work in a moment.
    #[error("unavailable: {0}")]
    Unavailable(&'static str),
    /// The person is vouched for by another provider than the one that is wanted, or by one
    /// that is not configured any more.
    #[error("the person's identity provider is another one")]
    OtherProvider,
}

impl Login {
    /// A token that the provider of this id gave for the person of this address. Only ever for
    /// a token endpoint that exchanges it.
    ///
    /// # Errors
    /// [`SubjectProblem`].
    pub async fn subject_token(
        &self,
        provider: &str,
        email: &str,
        kind: SubjectKind,
    ) -> Result<Secret<String>, SubjectProblem> {
        self.inner.subject_token(provider, email, kind).await
    }
}

impl Kept {
    /// The token, and its end, milliseconds since the epoch; none that is absent.
    fn subject(&self, kind: SubjectKind) -> Option<(&str, Option<i64>)> {
        let (text, until) = match kind {
            SubjectKind::Id => (self.id_token.as_deref()?, Some(self.id_until_ms)),
            SubjectKind::Access => (self.access.as_str(), self.access_until_ms),
            SubjectKind::Refresh => (self.refresh.as_deref()?, None),
        };
        (!text.is_empty()).then_some((text, until))
    }

    /// The same if it is good for so long, milliseconds.
    fn good(&self, kind: SubjectKind, now: i64, for_ms: i64) -> Option<Secret<String>> {
        let (text, until) = self.subject(kind)?;
        until.is_none_or(|until| until > now.saturating_add(for_ms)).then(|| Secret::new(text.to_owned()))
    }
}

impl Inner {
    async fn subject_token(
        &self,
        wanted: &str,
        email: &str,
        kind: SubjectKind,
    ) -> Result<Secret<String>, SubjectProblem> {
        let no_store = |_| SubjectProblem::Unavailable("the store does not answer");
        let found = person::by_email(&self.deps.store, &fold_user_id(email)).await.map_err(no_store)?;
        let person = found.filter(|person| person.deactivated_ms.is_none()).ok_or(SubjectProblem::SignInNeeded)?;
        let providers = (self.deps.providers)();
        let same = |it: &&IdentityProvider| it.id == wanted && person.provider == wanted && it.issuer == person.issuer;
        let provider = providers.iter().find(same).ok_or(SubjectProblem::OtherProvider)?;
        let owner = random().map_err(|_| SubjectProblem::Unavailable("no randomness"))?;
        let last = Instant::now() + WAIT;
        let name = format!("sign_in {}", person.id);
        loop {
            let (_, kept) = self.usable(&person.id, provider).await?;
            let now = self.now();
            if let Some(token) = kept.good(kind, now, EARLY_MS) {
                return Ok(token);
            }
            let still = kept.good(kind, now, 0);
            if kept.refresh.is_none() {
                return still.ok_or(SubjectProblem::SignInNeeded);
            }
            match lease::claim(&self.deps.store, &name, owner.expose(), "", LEASE_MS).await {
                Ok(Some(lease)) => {
                    let renewed = self.renew_subject(&person, provider, kind).await;
                    // It runs out by itself.
                    let _ = lease::release(&self.deps.store, &name, owner.expose(), lease.fence).await;
                    return match (renewed, still) {
                        (Err(SubjectProblem::Unavailable(_)), Some(still)) => Ok(still),
                        (renewed, _) => renewed,
                    };
                }
                Ok(None) | Err(_) if still.is_some() => return still.ok_or(SubjectProblem::SignInNeeded),
                Ok(None) if Instant::now() < last => tokio::time::sleep(LOOK).await,
                Ok(None) => return Err(SubjectProblem::Unavailable("another process renews the token")),
                Err(_) => return Err(SubjectProblem::Unavailable("the store does not answer")),
            }
        }
    }

    /// What is kept, if it is of this provider as it is configured now.
    async fn usable(&self, person: &str, provider: &IdentityProvider) -> Result<(i64, Kept), SubjectProblem> {
        let fits = |kept: &Kept| {
            let same = kept.provider == provider.id && kept.issuer == provider.issuer;
            same && kept.client_id == provider.client_id && !kept.ended
        };
        let found = match self.records().get(&super::key(person)).await {
            Ok(found) => found,
            // What does not open is of no use to anybody.
            Err(bartizan_vault::RecordsError::Open { .. }) => None,
            Err(_) => return Err(SubjectProblem::Unavailable("the store does not answer")),
        };
        let (version, plain) = found.ok_or(SubjectProblem::SignInNeeded)?;
        let kept: Kept = serde_json::from_slice(&plain).map_err(|_| SubjectProblem::SignInNeeded)?;
        if fits(&kept) { Ok((version, kept)) } else { Err(SubjectProblem::SignInNeeded) }
    }

    /// With the lease in hand.
    async fn renew_subject(
        &self,
        person: &person::Person,
        provider: &IdentityProvider,
        kind: SubjectKind,
    ) -> Result<Secret<String>, SubjectProblem> {
        // Somebody may have been faster.
        let (mut version, mut kept) = self.usable(&person.id, provider).await?;
        if let Some(token) = kept.good(kind, self.now(), EARLY_MS) {
            return Ok(token);
        }
        let refresh = kept.refresh.clone().map(Secret::new).ok_or(SubjectProblem::SignInNeeded)?;
        let down = SubjectProblem::Unavailable("the identity provider cannot be asked");
        let metadata = self.metadata(provider).await.map_err(|_| down.clone())?;
        let tokens = match self.renew(provider, &metadata, &refresh).await {
            Ok(tokens) => tokens,
            Err(Some(error)) if error.is_permanent() => {
                kept.end();
                if self.put(&person.id, version, &kept).await.is_none() {
                    tracing::warn!("that a sign-in ended is not kept");
                }
                return Err(SubjectProblem::SignInNeeded);
            }
            Err(_) => return Err(down),
        };
        kept.take(&tokens, self.now());
        // First the refresh token is safe, then the ID token is looked at.
        let lost = SubjectProblem::Unavailable("the renewed token could not be kept");
        version = self.put_surely(&person.id, version, &kept).await.ok_or_else(|| lost.clone())?;
        if let Some(token) = &tokens.id_token {
            let claims = self.renewed_id(provider, &metadata, token.expose()).await.ok_or_else(|| down.clone())?;
            if claims.text("sub") != Some(person.subject.as_str()) {
                tracing::warn!(
                    provider = provider.id,
                    "the provider renewed the tokens of a person with somebody else's"
                );
                kept.end();
                // It is not used, whether that is kept or not.
                let _ = self.put_surely(&person.id, version, &kept).await;
                return Err(SubjectProblem::SignInNeeded);
            }
            kept.take_id(token, &claims);
            self.put_surely(&person.id, version, &kept).await.ok_or(lost)?;
        }
        // Not every provider gives an ID token with a refresh.
        kept.good(kind, self.now(), 0).ok_or(SubjectProblem::SignInNeeded)
    }
}
