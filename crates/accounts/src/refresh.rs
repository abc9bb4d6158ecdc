//! New tokens for old: one redemption over all processes, stored before it is used (P20).

use std::time::Duration;

use bartizan_identity::Action;
use bartizan_oauth::params::Builder;
use bartizan_store::repo::lease;
use bartizan_vault::RecordsError;
use tokio::time::Instant;

use crate::account::{Place, Stored};
use crate::accounts::{AccountError, Inner};
use crate::client::{Redeemed, is_unknown_client};

/// Longer than two exchanges with an authorization server and storing what came of them.
const LEASE_MS: i64 = 40_000;
/// How long somebody else's refresh is waited for.
const WAIT: Duration = Duration::from_secs(20);
/// Between looks at it.
const LOOK: Duration = Duration::from_millis(100);
/// Attempts to store tokens that are redeemed already, and the pause between them.
const STORE_ATTEMPTS: u32 = 6;
const STORE_PAUSE: Duration = Duration::from_millis(300);
/// Pause after a failed refresh, milliseconds: doubled each time.
const FIRST_PAUSE_MS: i64 = 2_000;
const LONGEST_PAUSE_MS: i64 = 60_000;

/// What came of asking for new tokens.
enum Outcome {
    Renewed(i64, Box<Stored>),
    /// The person must sign in again.
    Lost(&'static str),
    /// It may work later.
    Failed(String),
}

impl Inner {
    /// Other tokens than those of `version`. `forced`: the server refused them, whatever their age.
    pub(crate) async fn refresh(
        &self,
        place: &Place<'_>,
        version: i64,
        stored: Stored,
        forced: bool,
    ) -> Result<(i64, Stored), AccountError> {
        let now = self.deps.clock.now_ms();
        let usable = !forced && stored.access.is_some() && !stored.is_over(now);
        if stored.refresh.is_none() {
            if usable {
                return Ok((version, stored));
            }
            self.lose(place, version, &stored, "expired").await?;
            return Err(AccountError::LoginNeeded);
        }
        if let Some((until, _)) = self.failing.get(&place.name).filter(|(until, _)| *until > now) {
            tracing::debug!(until, server = place.server, "waiting before the next refresh");
            let why = || AccountError::Unavailable("the token could not be refreshed a moment ago".to_owned());
            return if usable { Ok((version, stored)) } else { Err(why()) };
        }
        let name = format!("upstream_token {}", place.name);
        let last = Instant::now() + WAIT;
        loop {
            let claimed = lease::claim(&self.deps.store, &name, &self.node, "", LEASE_MS).await;
            match claimed {
                Ok(Some(lease)) => {
                    let done = self.refresh_alone(place, version, forced).await;
                    if let Err(error) = lease::release(&self.deps.store, &name, &self.node, lease.fence).await {
                        tracing::warn!(%error, "a lease could not be given back");
                    }
                    return match done {
                        Err(AccountError::Unavailable(_)) if usable => Ok((version, stored)),
                        done => done,
                    };
                }
                Ok(None) | Err(_) if usable => return Ok((version, stored)),
                Ok(None) if Instant::now() < last => tokio::time::sleep(LOOK).await,
                Ok(None) => return Err(AccountError::Unavailable("another process refreshes the token".to_owned())),
                Err(error) => return Err(error.into()),
            }
            if let Some((newer, stored)) = self.load(place).await?
                && newer != version
            {
                return if stored.access.is_some() { Ok((newer, stored)) } else { Err(AccountError::LoginNeeded) };
            }
        }
    }

    /// With the lease in hand.
    async fn refresh_alone(
        &self,
        place: &Place<'_>,
        version: i64,
        forced: bool,
    ) -> Result<(i64, Stored), AccountError> {
        // Somebody may have been faster.
        let Some((newest, stored)) = self.load(place).await? else { return Err(AccountError::LoginNeeded) };
        if stored.access.is_none() || !stored.fits(place) {
            return Err(AccountError::LoginNeeded);
        }
        let due = stored.due_ms().is_some_and(|due| due <= self.deps.clock.now_ms());
        if newest != version && (forced || !due) {
            return Ok((newest, stored));
        }
        let kept = (stored.issuer.clone(), stored.client_id.clone());
        match self.ask_for_new(place, newest, stored).await? {
            Outcome::Renewed(version, stored) => {
                self.failing.invalidate(&place.name);
                Ok((version, *stored))
            }
            Outcome::Lost(why) => {
                // What was refused is the token that was asked with. Another one, of a person
                // who connected anew meanwhile, is as good as it was.
                match self.load(place).await? {
                    Some((now, stored)) if now == newest => self.lose(place, now, &stored, why).await?,
                    Some((now, stored)) if stored.access.is_some() && stored.fits(place) => return Ok((now, stored)),
                    _ => {}
                }
                Err(AccountError::LoginNeeded)
            }
            Outcome::Failed(why) => {
                let (_, pause) = self.failing.get(&place.name).unwrap_or((0, FIRST_PAUSE_MS / 2));
                let pause = (pause * 2).min(LONGEST_PAUSE_MS);
                self.failing.insert(place.name.clone(), (self.deps.clock.now_ms() + pause, pause));
                tracing::warn!(why, server = place.server, issuer = kept.0, "a token could not be refreshed");
                Err(AccountError::Unavailable(why))
            }
        }
    }

    async fn ask_for_new(&self, place: &Place<'_>, version: i64, mut stored: Stored) -> Result<Outcome, AccountError> {
        let metadata = match self.directory.metadata(&stored.issuer).await {
            Ok(metadata) => metadata,
            Err(error) => return Ok(Outcome::Failed(error.to_string())),
        };
        let client = self.known_client(place.config, &metadata, stored.client_kind).await?;
        let Some(client) = client.filter(|client| client.id == stored.client_id) else {
            return Ok(Outcome::Lost("client_gone"));
        };
        let Some(refresh) = stored.refresh.clone().map(zeroize::Zeroizing::new) else {
            return Ok(Outcome::Lost("expired"));
        };
        let form = || {
            Builder::new()
                .add("grant_type", "refresh_token")
                .add("refresh_token", &refresh)
                .add("resource", &stored.resource)
        };
        let mut redeemed = self.redeem(&metadata, &client, form()).await;
        // The answer was lost on its way: some servers give the same one again for a while.
        if matches!(&redeemed, Redeemed::Failed(error) if error.lost()) {
            redeemed = self.redeem(&metadata, &client, form()).await;
        }
        match redeemed {
            Redeemed::Tokens(tokens) => {
                stored.renew(&tokens, self.deps.clock.now_ms());
                Ok(self.commit(place, version, stored).await)
            }
            Redeemed::Refused(error) if is_unknown_client(&error) => {
                self.forget_client(&metadata.issuer, &client.id).await?;
                Ok(Outcome::Lost("client_gone"))
            }
            Redeemed::Refused(error) if error.is_permanent() => Ok(Outcome::Lost("invalid_grant")),
            Redeemed::Refused(error) => Ok(Outcome::Failed(error.to_string())),
            Redeemed::Failed(error) => Ok(Outcome::Failed(error.to_string())),
            Redeemed::Unusable => Ok(Outcome::Failed("no usable token endpoint".to_owned())),
        }
    }

    /// The old refresh token may be worthless by now, so that the new one must be stored.
    async fn commit(&self, place: &Place<'_>, version: i64, stored: Stored) -> Outcome {
        let mut why = String::new();
        for attempt in 0..STORE_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(STORE_PAUSE).await;
            }
            match self.save(place, version, &stored).await {
                Ok(version) => return Outcome::Renewed(version, Box::new(stored)),
                // An earlier attempt that seemed to fail, or the person connected anew meanwhile.
                Err(RecordsError::Conflict) => match self.load(place).await {
                    Ok(Some((version, newest))) if newest.access.is_some() => {
                        return Outcome::Renewed(version, Box::new(newest));
                    }
                    Ok(_) => return Outcome::Lost("disconnected"),
                    Err(error) => why = error.to_string(),
                },
                Err(error) => why = error.to_string(),
            }
        }
        Outcome::Failed(why)
    }

    /// Notes that the person must sign in again.
    pub(crate) async fn lose(
        &self,
        place: &Place<'_>,
        version: i64,
        stored: &Stored,
        why: &'static str,
    ) -> Result<(), AccountError> {
        if stored.access.is_none() {
            return Ok(());
        }
        let empty = Stored {
            access: None,
            refresh: None,
            issued_ms: stored.issued_ms,
            expires_ms: stored.expires_ms,
            issuer: stored.issuer.clone(),
            server_url: stored.server_url.clone(),
            resource: stored.resource.clone(),
            client_kind: stored.client_kind,
            client_id: stored.client_id.clone(),
            scopes: stored.scopes.clone(),
            connected_ms: stored.connected_ms,
            whom: stored.whom.clone(),
        };
        match self.save(place, version, &empty).await {
            // Somebody connected it again.
            Ok(_) | Err(RecordsError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
        self.held.invalidate(&place.name);
        self.event(place, Action::Disconnect, true, &stored.issuer, Some(why));
        Ok(())
    }
}
