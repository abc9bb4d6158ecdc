//! Makes checkpoints: each process says where its chain ends, one of them signs all.

use std::sync::Arc;
use std::time::Duration;

use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{Clock, EventId, PrincipalKind};
use bartizan_store::Store;
use bartizan_store::repo::audit_checkpoint::{self as repo, Head, StoredCheckpoint};
use bartizan_store::repo::lease;
use bartizan_vault::Vault;

use super::{CheckpointKey, METHOD, Signed};
use crate::audit::Audit;
use crate::digest::Hex;
use crate::error::AuditError;
use crate::verify::Checkpoint;

/// Where nothing happens, one an hour is enough.
const QUIET_MS: i64 = 3_600_000;
const LEASE: &str = "audit_checkpoint";
/// A little more than two rounds, so that the same process goes on.
const LEASE_MS: i64 = 150_000;
/// Longest document that a record holds whole, bytes.
const WHOLE: usize = 2_000;

/// The task behind checkpoints.
pub struct Checkpointer {
    audit: Audit,
    store: Store,
    vault: Vault,
    clock: Arc<dyn Clock>,
}

impl Checkpointer {
    /// Over this record and store.
    pub fn new(audit: Audit, store: Store, vault: Vault, clock: Arc<dyn Clock>) -> Self {
        Self { audit, store, vault, clock }
    }

    /// Works without end; usually once a minute.
    pub async fn run(&self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "no audit checkpoint could be made");
            }
        }
    }

    /// Says where this process's chain ends and, when this is the process that signs and there
    /// is something new, makes a checkpoint and puts it on record.
    ///
    /// # Errors
    /// When the store, the key or the record fails.
    pub async fn round(&self) -> Result<Option<Signed>, AuditError> {
        let now = self.clock.now_ms();
        if let Some(head) = self.audit.head() {
            let seq = i64::try_from(head.seq).unwrap_or(i64::MAX);
            repo::put_head(&self.store, &Head { writer: head.writer, seq, hash: head.hash }, now).await?;
        }
        if lease::claim(&self.store, LEASE, self.audit.writer(), "", LEASE_MS).await?.is_none() {
            return Ok(None);
        }
        let heads: Vec<Checkpoint> = repo::heads(&self.store).await?.into_iter().map(checkpoint).collect();
        let last = repo::last(&self.store).await?;
        if heads.is_empty() || last.as_ref().is_some_and(|last| is_quiet(last, &heads, now)) {
            return Ok(None);
        }
        let key = CheckpointKey::of_installation(&self.vault, &self.store).await?;
        let number = last.as_ref().map_or(1, |last| last.number + 1);
        let previous = last.map_or(Hex::ZERO, |last| Hex::of(&[last.body.as_bytes()]));
        let signed = Signed::new(&key, number, now, previous, heads);
        let body = signed.document();
        if !repo::insert(&self.store, &StoredCheckpoint { number, at_ms: now, body: body.clone() }).await? {
            return Ok(None);
        }
        let who = Who { principal: "service:bartizan".to_owned(), ..Who::default() };
        let mut event = AuditEvent::new(EventId::new(now), now, EventKind::System, PrincipalKind::Service, who, METHOD);
        event.note = Some(if body.len() <= WHOLE { body } else { signed.without_heads().document() });
        self.audit.append(event).await?;
        Ok(Some(signed))
    }
}

fn checkpoint(head: Head) -> Checkpoint {
    Checkpoint { writer: head.writer, seq: u64::try_from(head.seq).unwrap_or(0), hash: head.hash }
}

/// Nothing was recorded since but the last checkpoint itself.
fn is_quiet(last: &StoredCheckpoint, heads: &[Checkpoint], now_ms: i64) -> bool {
    let Ok(before) = serde_json::from_str::<Signed>(&last.body) else { return false };
    let sum = |heads: &[Checkpoint]| heads.iter().map(|head| u128::from(head.seq)).sum::<u128>();
    let same = before.heads.len() == heads.len();
    same && sum(heads) <= sum(&before.heads) + 1 && now_ms.saturating_sub(last.at_ms) < QUIET_MS
}
