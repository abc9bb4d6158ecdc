//! More scopes for an account that works: the server answered 403 `insufficient_scope` (RFC 6750,
//! section 3.1; MCP authorization, step-up). The account stays as it is; the next connection asks
//! for what was requested before together with what the server named.

use bartizan_oauth::scope::ScopeSet;
use bartizan_store::repo::sealed::Key;
use bartizan_vault::RecordsError;
use serde::{Deserialize, Serialize};

use crate::account::{Place, Stored};
use crate::accounts::{AccountError, Inner};
use crate::discover;

/// How long a wish is remembered, milliseconds.
const WISH_MS: i64 = 60 * 60_000;

/// What the next connection asks for.
#[derive(Serialize, Deserialize)]
struct Wish {
    server_url: String,
    scopes: String,
    at_ms: i64,
}

/// The scopes that a server says are lacking, if that is what its challenge says.
pub(crate) fn lacking(challenge: Option<&str>) -> Option<ScopeSet> {
    let challenge = discover::bearer(challenge.into_iter())?;
    if challenge.get("error") != Some("insufficient_scope") {
        return None;
    }
    Some(challenge.get("scope").and_then(|scopes| ScopeSet::parse(scopes).ok()).unwrap_or_default())
}

fn key(place: &Place<'_>) -> Key {
    Key { tenant: String::new(), kind: "upstream_scopes".to_owned(), id: place.name.clone() }
}

impl Inner {
    /// Remembers what is lacking. Always an error: the person has to agree first.
    ///
    /// # Errors
    /// [`AccountError::LoginNeeded`]; [`AccountError::Misconfigured`] where asking again would
    /// change nothing, so that nobody is asked without end.
    pub(crate) async fn wish(
        &self,
        place: &Place<'_>,
        stored: &Stored,
        lacking: &ScopeSet,
    ) -> Result<(), AccountError> {
        let had = ScopeSet::parse(&stored.scopes).unwrap_or_default();
        if place.is_pat() || lacking.is_empty() || lacking.is_subset(&had) {
            let why = "the server says that scopes are lacking, and asking for them again would change nothing";
            return Err(AccountError::Misconfigured(why.to_owned()));
        }
        let wish = Wish {
            server_url: place.url.to_owned(),
            scopes: had.union(lacking).to_string(),
            at_ms: self.deps.clock.now_ms(),
        };
        let plain = serde_json::to_vec(&wish).unwrap_or_default();
        let old = self.records.get(&key(place)).await?.map_or(0, |(version, _)| version);
        match self.records.put(&key(place), old, &plain).await {
            // Another process heard the same, just now.
            Ok(_) | Err(RecordsError::Conflict) => Err(AccountError::LoginNeeded),
            Err(error) => Err(error.into()),
        }
    }

    /// The scopes to ask for: those found, and those wished for. True when there was a wish.
    pub(crate) async fn wished(&self, place: &Place<'_>, found: &str) -> Result<(String, bool), AccountError> {
        let wish = self.records.get(&key(place)).await?;
        let wish = wish.and_then(|(_, plain)| serde_json::from_slice::<Wish>(&plain).ok());
        let now = self.deps.clock.now_ms();
        let wish = wish.filter(|wish| wish.server_url == place.url && now.saturating_sub(wish.at_ms) < WISH_MS);
        Ok(match wish.and_then(|wish| ScopeSet::parse(&wish.scopes).ok()) {
            Some(scopes) => (ScopeSet::parse(found).unwrap_or_default().union(&scopes).to_string(), true),
            None => (found.to_owned(), false),
        })
    }

    /// It was asked for, or nobody wants it any more.
    pub(crate) async fn forget_wish(&self, place: &Place<'_>) {
        if let Err(error) = self.records.delete(&key(place)).await {
            tracing::warn!(%error, server = place.server, "scopes that were asked for stay noted");
        }
    }
}
