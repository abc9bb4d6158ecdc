//! Arguments and results of calls (feature row L3): off unless a server is named, masked,
//! sealed, kept apart from the record and for a shorter time, and read by auditors only.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bartizan_model::event::{AuditEvent, EventKind, Outcome, Verdict, Who};
use bartizan_model::role::{Role, RoleSet};
use bartizan_model::{Clock, EventId, PrincipalKind, ReasonCode, Secret};
use bartizan_store::Store;
use bartizan_store::repo::audit_body::{self as repo, StoredBody};
use bartizan_vault::{Aad, Vault};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::audit::Audit;
use crate::error::AuditError;

/// What stands where a secret was.
const MASK: &str = "[masked]";
/// Shorter secrets are not looked for: they would be found everywhere.
const MIN_SECRET: usize = 6;
/// Members whose texts are masked whatever they hold.
const NAMES: [&str; 9] =
    ["password", "passwd", "secret", "token", "authorization", "apikey", "privatekey", "cookie", "credential"];
/// Bodies, and bytes of bodies, that may wait to be sealed.
const QUEUE: usize = 1_024;
const BYTES: usize = 64 << 20;

/// The content of one call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Arguments as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// Result or error as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

/// A body on its way.
#[derive(Clone, Debug)]
pub struct NewBody {
    /// The call.
    pub event_id: EventId,
    /// When it began, milliseconds since the epoch.
    pub at_ms: i64,
    /// Server.
    pub server: String,
    /// Arguments, JSON text.
    pub arguments: Option<String>,
    /// Result or error, JSON text.
    pub result: Option<String>,
}

impl NewBody {
    fn size(&self) -> usize {
        [&self.arguments, &self.result].into_iter().flatten().map(String::len).sum()
    }
}

/// Why a body is not shown.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The role auditor is needed; owners do not have it by themselves.
    #[error("only auditors read the bodies of calls")]
    NotAuditor,
    /// The body does not open.
    #[error("the body cannot be opened")]
    Sealed,
    /// The reading cannot be put on record, or the store does not answer.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Who reads.
#[derive(Clone, Debug)]
pub struct BodyReader {
    /// Kind of caller.
    pub kind: PrincipalKind,
    /// Who, for the record.
    pub who: Who,
    /// Roles.
    pub roles: RoleSet,
}

/// Keeps bodies behind the calls, and shows them to auditors. Cheap to clone.
#[derive(Clone)]
pub struct Bodies {
    inner: Arc<Inner>,
}

struct Inner {
    servers: HashSet<String>,
    masks: Vec<Secret<String>>,
    store: Store,
    vault: Vault,
    clock: Arc<dyn Clock>,
    queue: mpsc::Sender<NewBody>,
    waiting: Arc<AtomicUsize>,
    lost: AtomicU64,
}

impl Bodies {
    /// Keeps the bodies of these servers (`*`: of all); a task of the present runtime seals them.
    /// `masks` are secrets that must not be in them.
    pub fn new(
        servers: impl IntoIterator<Item = String>,
        masks: impl IntoIterator<Item = Secret<String>>,
        store: Store,
        vault: Vault,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (queue, mut next) = mpsc::channel::<NewBody>(QUEUE);
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut masks: Vec<Secret<String>> = masks.into_iter().filter(|s| s.expose().len() >= MIN_SECRET).collect();
        // The longer first: one may be a part of another.
        masks.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        let servers = servers.into_iter().collect();
        let inner = Inner { servers, masks, store, vault, clock, queue, waiting: Arc::clone(&waiting), lost: 0.into() };
        let inner = Arc::new(inner);
        let weak = Arc::downgrade(&inner);
        tokio::spawn(async move {
            while let Some(body) = next.recv().await {
                let size = body.size();
                let Some(inner) = weak.upgrade() else { return };
                if let Err(error) = inner.seal(body).await {
                    inner.lost.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "the body of a call is not kept");
                }
                waiting.fetch_sub(size, Ordering::AcqRel);
            }
        });
        Self { inner }
    }

    /// Whether bodies of this server are kept.
    pub fn wants(&self, server: &str) -> bool {
        self.inner.servers.contains(server) || self.inner.servers.contains("*")
    }

    /// Takes a body; never waits. When too much waits already, it is not kept, which is counted.
    pub fn keep(&self, body: NewBody) {
        let (inner, size) = (&self.inner, body.size());
        let before = inner.waiting.fetch_add(size, Ordering::AcqRel);
        if before + size > BYTES || inner.queue.try_send(body).is_err() {
            inner.waiting.fetch_sub(size, Ordering::AcqRel);
            let lost = inner.lost.fetch_add(1, Ordering::Relaxed) + 1;
            if lost.is_power_of_two() {
                tracing::warn!(lost, "bodies of calls are not kept: too many wait");
            }
        }
    }

    /// Bodies that were not kept since the start.
    pub fn lost(&self) -> u64 {
        self.inner.lost.load(Ordering::Relaxed)
    }

    /// Shows a body to an auditor. The attempt is put on record, durably, before anything is shown.
    ///
    /// # Errors
    /// [`BodyError`].
    pub async fn read(&self, audit: &Audit, event_id: &str, reader: BodyReader) -> Result<Option<Body>, BodyError> {
        let inner = &self.inner;
        let now = inner.clock.now_ms();
        let allowed = reader.roles.allows(Role::Auditor);
        let (id, kind) = (EventId::new(now), EventKind::Admin);
        let mut event = AuditEvent::new(id, now, kind, reader.kind, reader.who, "audit/read_body");
        event.target = Some(event_id.to_owned());
        if !allowed {
            event.verdict = Verdict::refused("authorize", ReasonCode::PolicyDenied, Some("role auditor".to_owned()));
            event.outcome = Outcome::Refused;
        }
        audit.append_durable(event).await?;
        if !allowed {
            return Err(BodyError::NotAuditor);
        }
        let Some(found) = repo::get(&inner.store, event_id).await.map_err(AuditError::from)? else { return Ok(None) };
        let plain = inner.vault.open(&aad(event_id), &found.sealed).map_err(|_| BodyError::Sealed)?;
        serde_json::from_slice(&plain).map(Some).map_err(|_| BodyError::Sealed)
    }

    /// Removes bodies from before a time. Returns how many.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn prune(&self, before_ms: i64) -> Result<u64, AuditError> {
        Ok(repo::prune(&self.inner.store, before_ms).await?)
    }
}

fn aad(event_id: &str) -> Aad<'_> {
    Aad { tenant: "", table: "audit_body", id: event_id, version: 1 }
}

impl Inner {
    async fn seal(&self, new: NewBody) -> Result<(), AuditError> {
        let event_id = new.event_id.to_string();
        let masked = |text: Option<String>| text.map(|text| self.masked(&text));
        let body = Body { arguments: masked(new.arguments), result: masked(new.result) };
        let plain = serde_json::to_vec(&body).unwrap_or_default();
        let sealed = self.vault.seal(&aad(&event_id), &plain).map_err(bartizan_vault::RecordsError::from)?;
        repo::insert(&self.store, &StoredBody { event_id, at_ms: new.at_ms, server: new.server, sealed }).await?;
        Ok(())
    }

    /// What cannot be read cannot be masked, and is not kept.
    fn masked(&self, text: &str) -> Value {
        match serde_json::from_str(text) {
            Ok(mut value) => {
                self.mask(&mut value);
                value
            }
            Err(_) => Value::from("[unreadable]"),
        }
    }

    /// The depth is bounded by the reader of JSON.
    fn mask(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(masked) = self.mask_text(text) {
                    *text = masked;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask(item)),
            Value::Object(members) => {
                let old = std::mem::take(members);
                for (name, mut inside) in old {
                    if is_secret_name(&name) && !inside.is_object() && !inside.is_array() {
                        inside = Value::from(MASK);
                    } else {
                        self.mask(&mut inside);
                    }
                    // Somebody may use a secret as a name.
                    members.insert(self.mask_text(&name).unwrap_or(name), inside);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn mask_text(&self, text: &str) -> Option<String> {
        let mut out: Option<String> = None;
        for secret in &self.masks {
            let now = out.as_deref().unwrap_or(text);
            if now.contains(secret.expose().as_str()) {
                out = Some(now.replace(secret.expose().as_str(), MASK));
            }
        }
        out
    }
}

/// `apiKey`, `api_key` and `X-Api-Key` are one name.
fn is_secret_name(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    NAMES.iter().any(|word| plain.ends_with(word))
}

#[cfg(test)]
mod tests;
