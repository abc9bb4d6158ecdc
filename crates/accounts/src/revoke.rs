//! Tokens that nobody may use any more end at their authorization server too (RFC 7009): of an
//! account that its person disconnects, and of all accounts of a person who is deactivated, is
//! removed or has another address. What does not work at once is tried again for a day.

use std::sync::Arc;
use std::time::Duration;

use bartizan_model::ServerId;
use bartizan_oauth::params::Builder;
use bartizan_store::repo::upstream_revocation::{self, Revocation};
use bartizan_vault::Aad;
use zeroize::Zeroizing;

use crate::account::{ClientKind, NOTHING, PAT, Place, Stored};
use crate::accounts::Inner;

/// How often is looked for what is due.
const LOOK: Duration = Duration::from_secs(5);
/// Nobody else tries for so long, milliseconds.
const ALONE_MS: i64 = 60_000;
/// Pause after the first failure, milliseconds: doubled each time.
const FIRST_PAUSE_MS: i64 = 30_000;
const LONGEST_PAUSE_MS: i64 = 3_600_000;
/// Then it is given up, milliseconds.
const LIFE_MS: i64 = 24 * 3_600_000;

fn aad(name: &str, version: i64) -> Aad<'_> {
    Aad { tenant: "", table: "upstream_token", id: name, version }
}

/// Looks after revocations for as long as somebody holds the accounts.
pub(crate) fn spawn(inner: &Arc<Inner>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let weak = Arc::downgrade(inner);
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(inner) = weak.upgrade() else { return };
            Box::pin(inner.revoke_due()).await;
        }
    });
}

impl Inner {
    /// Tries what is due, once.
    pub(crate) async fn revoke_due(&self) {
        let now = self.deps.clock.now_ms();
        let due = match upstream_revocation::take(&self.deps.store, now, now.saturating_add(ALONE_MS)).await {
            Ok(due) => due,
            Err(error) => return tracing::debug!(%error, "what is to be revoked cannot be read"),
        };
        for one in due {
            let server = one.name.split('/').next().unwrap_or_default().to_owned();
            let done = match self.revoke_one(&one, &server).await {
                Ok(()) => true,
                Err(why) if now.saturating_sub(one.removed_ms) >= LIFE_MS => {
                    tracing::warn!(why, server, "tokens could not be revoked upstream in a day: given up");
                    true
                }
                Err(why) => {
                    tracing::info!(why, server, tries = one.tries, "tokens are not revoked upstream yet");
                    false
                }
            };
            let doubled = u32::try_from(one.tries.clamp(1, 20) - 1).unwrap_or(0);
            let pause = FIRST_PAUSE_MS.saturating_mul(1 << doubled).min(LONGEST_PAUSE_MS);
            let noted = match done {
                true => upstream_revocation::delete(&self.deps.store, &one).await,
                false => upstream_revocation::later(&self.deps.store, &one, now.saturating_add(pause)).await,
            };
            if let Err(error) = noted {
                tracing::debug!(%error, "a revocation cannot be noted; it is tried again");
            }
        }
    }

    async fn revoke_one(&self, one: &Revocation, server: &str) -> Result<(), String> {
        let plain = self.deps.vault.open(&aad(&one.name, one.version), &one.sealed);
        // Of no use to anybody, so that there is nothing to revoke.
        let Some(stored) = plain.ok().and_then(|plain| serde_json::from_slice::<Stored>(&plain).ok()) else {
            return Ok(());
        };
        if stored.access.is_none() || stored.issuer == PAT {
            return Ok(());
        }
        let spec = ServerId::parse(server).ok().and_then(|server| (self.deps.servers)(&server));
        let place = match spec.as_ref().map(|spec| (spec, &spec.credential)) {
            Some((spec, bartizan_catalog::Credential::OauthUser(config))) => Place::bare(spec, config).ok(),
            _ => None,
        };
        self.revoke(place.as_ref(), &stored).await
    }

    /// Keeps tokens that could not be revoked at once.
    pub(crate) async fn revoke_later(&self, name: &str, version: i64, stored: &Stored) {
        let plain = Zeroizing::new(serde_json::to_vec(stored).unwrap_or_default());
        let Ok(sealed) = self.deps.vault.seal(&aad(name, version), &plain) else { return };
        let due = self.deps.clock.now_ms().saturating_add(FIRST_PAUSE_MS);
        if let Err(error) = upstream_revocation::insert(&self.deps.store, name, version, &sealed, due).await {
            tracing::warn!(%error, "tokens will not be revoked upstream");
        }
    }

    /// RFC 7009: the refresh token takes its access tokens along; both are told where there
    /// are both, because not every server does so. `place` is `None` where the server is not
    /// configured any more.
    pub(crate) async fn revoke(&self, place: Option<&Place<'_>>, stored: &Stored) -> Result<(), String> {
        // Neither the tokens nor our client are for whoever issued them under other settings.
        if place.is_some_and(|place| !stored.fits(place)) {
            return Err("the settings of the server have changed since".to_owned());
        }
        if place.is_none() && stored.client_kind == ClientKind::Configured {
            return Err("the client of the server is not configured any more".to_owned());
        }
        let config = place.map_or(&NOTHING, |place| place.config);
        let metadata = self.directory.metadata(&stored.issuer).await.map_err(|error| error.to_string())?;
        let Some(endpoint) = &metadata.revocation_endpoint else { return Ok(()) };
        let client = self.known_client(config, &metadata, stored.client_kind).await;
        let client = client.map_err(|error| error.to_string())?;
        let client = client.filter(|client| client.id == stored.client_id).ok_or("the client is gone")?;
        for (token, hint) in [(&stored.refresh, "refresh_token"), (&stored.access, "access_token")] {
            let Some(token) = token else { continue };
            let form = Builder::new().add("token", token).add("token_type_hint", hint);
            let asked = self.ask_as(endpoint, &client, form).await.ok_or("the client cannot be shown")?;
            let (status, _) = asked.map_err(|error| error.to_string())?;
            if !(200..300).contains(&status) {
                return Err(format!("status {status}"));
            }
        }
        Ok(())
    }
}
