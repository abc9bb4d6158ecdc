//! When servers are asked what they offer although nobody lists (P53): every two hours, by one
//! process of all.

use aws_lc_rs::digest::{SHA256, digest};
use bartizan_model::ServerId;
use bartizan_store::repo::{lease, server_sync};

use crate::events::{self, News};
use crate::registry::{Registry, RegistryError};

/// Time between two looks, milliseconds; a tenth more or less, so that servers take turns.
pub const EVERY_MS: i64 = 2 * 3_600_000;
/// How long one look may take at most, milliseconds.
const LEASE_MS: i64 = 5 * 60_000;

/// The right to ask one server, until it is given back.
#[derive(Debug)]
pub struct Turn {
    server: ServerId,
    owner: String,
    fence: i64,
    /// What the look before it came to.
    before: Option<String>,
}

impl Turn {
    /// The server.
    pub fn server(&self) -> &ServerId {
        &self.server
    }
}

/// When a server is due after a look, milliseconds.
fn due_ms(server: &ServerId, tried_ms: i64) -> i64 {
    let hash = digest(&SHA256, format!("{server}{tried_ms}").as_bytes());
    let byte = hash.as_ref().first().copied().map_or(0, i64::from);
    // From 90 to 110 percent.
    tried_ms + EVERY_MS * 9 / 10 + EVERY_MS / 5 * byte / 255
}

impl Registry {
    /// Takes the turn to ask a server, if it is due or `now` is set, and no other process has it.
    /// A server that is seen for the first time is due two hours later: whoever lists it asks it.
    ///
    /// # Errors
    /// [`RegistryError::Store`]; then nobody is asked.
    pub async fn take_turn(&self, server: &ServerId, owner: &str, now: bool) -> Result<Option<Turn>, RegistryError> {
        let store = &self.0.store;
        let Some(last) = server_sync::get(store, server.as_str()).await? else {
            if !now {
                server_sync::put(store, server.as_str(), "waiting").await?;
                return Ok(None);
            }
            return self.claim(server, owner, None).await;
        };
        if !now && due_ms(server, last.tried_ms) > self.0.clock.now_ms() {
            return Ok(None);
        }
        let turn = self.claim(server, owner, Some(last.outcome.clone())).await?;
        // Somebody may have been there between the look and the claim.
        match server_sync::get(store, server.as_str()).await? {
            Some(again) if again != last && !now => Ok(None),
            _ => Ok(turn),
        }
    }

    async fn claim(
        &self,
        server: &ServerId,
        owner: &str,
        before: Option<String>,
    ) -> Result<Option<Turn>, RegistryError> {
        let lease = lease::claim(&self.0.store, &name(server), owner, "", LEASE_MS).await?;
        let (server, owner) = (server.clone(), owner.to_owned());
        Ok(lease.map(|lease| Turn { server, owner, fence: lease.fence, before }))
    }

    /// Notes what came of a turn, and gives it back. The first failure after a success is told, and
    /// so is the first success after a failure.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub async fn end_turn(&self, turn: Turn, outcome: &str) -> Result<(), RegistryError> {
        let store = &self.0.store;
        server_sync::put(store, turn.server.as_str(), outcome).await?;
        lease::release(store, &name(&turn.server), &turn.owner, turn.fence).await?;
        let was_good = turn.before.as_deref().is_none_or(|before| matches!(before, "ok" | "waiting"));
        let (method, note) = match (was_good, outcome == "ok") {
            (true, false) => ("server/sync_failed", format!("{outcome}; what was known before stays")),
            (false, true) => ("server/sync", "asked again".to_owned()),
            _ => return Ok(()),
        };
        let news = News { method, target: "sync".to_owned(), pin: None, note };
        events::tell(self.0.audit.as_ref(), turn.server.as_str(), vec![news], self.0.clock.now_ms()).await;
        Ok(())
    }
}

fn name(server: &ServerId) -> String {
    format!("sync:{server}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p53_two_hours_and_a_tenth_more_or_less() {
        let server = ServerId::parse("crm").unwrap();
        for tried in 0..1_000 {
            let wait = due_ms(&server, tried) - tried;
            assert!((EVERY_MS * 9 / 10..=EVERY_MS * 11 / 10).contains(&wait), "{wait}");
        }
    }
}
