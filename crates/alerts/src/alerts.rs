//! The task that takes hits in and sends messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bartizan_audit::Watch;
use bartizan_config::alerts::Alerts as Config;
use bartizan_egress::Egress;
use bartizan_model::{Clock, EventId};
use bartizan_store::repo::alert::{self, Delivery};
use bartizan_store::repo::lease;
use bartizan_store::{Store, StoreError};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::deliver::DeliverError;
use crate::evaluate;
use crate::message::{Data, Message};
use crate::rule::{Problem, Rules};

/// Time between two looks.
const TICK: Duration = Duration::from_secs(1);
/// Name and length of the lease of the one process that works.
const LEASE: &str = "alerts";
const LEASE_MS: i64 = 15_000;
/// The lease is renewed when so much of it is over.
const RENEW: Duration = Duration::from_secs(5);
/// Messages looked at in a round.
const DUE: u32 = 256;
/// Waits after the first, second, … failure, seconds; the last one repeats.
const BACKOFF_S: [i64; 6] = [5, 30, 120, 600, 1_800, 3_600];
/// A message that did not arrive in this time is given up.
const GIVE_UP_MS: i64 = 24 * 3_600_000;
/// Begins the destination of mail to the owner of a server. No id of a destination has a colon.
const OWNER: &str = "owner:";
/// Replicas that see the same change tell of it once, milliseconds.
const SAME_MS: i64 = 60_000;
/// What was taken in is kept for counting, and alerts that are over for reading.
const KEEP_HITS_MS: i64 = 2 * 86_400_000;
const KEEP_ALERTS_MS: i64 = 90 * 86_400_000;
const PRUNE: Duration = Duration::from_secs(3_600);

/// What alerts need.
pub struct AlertsDeps {
    /// Where alerts are.
    pub store: Store,
    /// The way to destinations.
    pub egress: Egress,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Name of this process in the lease.
    pub node: String,
    /// Public URL, for messages.
    pub installation: String,
}

/// The state of a server is another one.
#[derive(Clone, Copy, Debug)]
pub struct OwnerNotice<'a> {
    /// Address of whoever answers for the server.
    pub owner: &'a str,
    /// Its id.
    pub server: &'a str,
    /// The word for the state before.
    pub from: &'a str,
    /// The word for the state now.
    pub to: &'a str,
    /// Why, in words that name no host.
    pub why: Option<&'a str>,
    /// The audit event.
    pub event_id: &'a str,
}

/// Rules in use, and the task behind them. Cheap to clone.
#[derive(Clone)]
pub struct Alerts {
    inner: Arc<Inner>,
}

struct Inner {
    deps: AlertsDeps,
    rules: Arc<ArcSwap<Rules>>,
}

/// Messages, in their order, for each destination.
fn by_destination(due: Vec<Delivery>) -> HashMap<String, Vec<Delivery>> {
    let mut each: HashMap<String, Vec<Delivery>> = HashMap::new();
    for message in due {
        each.entry(message.destination.clone()).or_default().push(message);
    }
    each
}

/// The rules before anything else exists: the audit record needs them first.
fn watch(rules: Arc<ArcSwap<Rules>>) -> Watch {
    Arc::new(move |row| rules.load().find(row))
}

impl Alerts {
    /// Rules without a task, and what finds their events in the audit record.
    pub fn rules() -> (Arc<ArcSwap<Rules>>, Watch) {
        let rules = Arc::new(ArcSwap::from_pointee(Rules::default()));
        let watch = watch(Arc::clone(&rules));
        (rules, watch)
    }

    /// Over these rules.
    pub fn new(deps: AlertsDeps, rules: Arc<ArcSwap<Rules>>) -> Self {
        Self { inner: Arc::new(Inner { deps, rules }) }
    }

    /// Takes what a configuration says; its secrets are resolved. Returns what cannot work.
    pub fn configure(&self, config: &Config) -> Vec<Problem> {
        let (rules, problems) = Rules::compile(config);
        self.inner.rules.store(Arc::new(rules));
        problems
    }

    /// Takes in and sends, without end.
    pub async fn run(&self) {
        self.inner.run().await;
    }

    /// One round of everything: what the task does each second. For tests and tools.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn round(&self) -> Result<(), StoreError> {
        self.inner.round().await
    }

    /// Tells the owner of a server that its state is another one (P23), by mail and until it
    /// arrives. False when there is no e-mail destination, or another replica said so just now.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn tell_owner(&self, notice: &OwnerNotice<'_>) -> Result<bool, StoreError> {
        self.inner.tell_owner(notice).await
    }

    /// Sends a test message to one destination, at once.
    ///
    /// # Errors
    /// When there is no such destination, or it did not take the message.
    pub async fn test(&self, destination: &str) -> Result<(), DeliverError> {
        self.inner.test(destination).await
    }
}

impl Inner {
    async fn run(self: &Arc<Self>) {
        // Apart: a destination that does not answer must not hold up what others are told.
        tokio::join!(self.evaluate(), self.deliver());
    }

    /// The process with the lease takes hits in.
    async fn evaluate(&self) {
        let mut held: Option<Instant> = None;
        let mut pruned: Option<Instant> = None;
        loop {
            tokio::time::sleep(TICK).await;
            if self.rules.load().is_idle() {
                continue;
            }
            let deps = &self.deps;
            if held.is_none_or(|since| since.elapsed() > RENEW) {
                held = match lease::claim(&deps.store, LEASE, &deps.node, "", LEASE_MS).await {
                    Ok(lease) => lease.map(|_| Instant::now()),
                    Err(_) => None,
                };
            }
            if held.is_none() {
                continue;
            }
            let (rules, now) = (self.rules.load_full(), deps.clock.now_ms());
            if let Err(error) = evaluate::round(&deps.store, &rules, now, &deps.installation).await {
                tracing::warn!(%error, "alerts are late");
            }
            if pruned.is_none_or(|last| last.elapsed() > PRUNE) {
                match alert::prune(&deps.store, now - KEEP_HITS_MS, now - KEEP_ALERTS_MS).await {
                    Ok(()) => pruned = Some(Instant::now()),
                    Err(error) => tracing::warn!(%error, "old alerts are kept"),
                }
            }
        }
    }

    /// Every process sends; each attempt is one process's.
    async fn deliver(self: &Arc<Self>) {
        let mut sending: HashMap<String, JoinHandle<()>> = HashMap::new();
        loop {
            tokio::time::sleep(TICK).await;
            sending.retain(|_, task| !task.is_finished());
            if self.rules.load().is_idle() {
                continue;
            }
            let due = alert::due(&self.deps.store, self.deps.clock.now_ms(), DUE).await;
            let due = due.inspect_err(|error| tracing::warn!(%error, "alerts are late")).unwrap_or_default();
            for (destination, messages) in by_destination(due) {
                // One message at a time to each.
                if sending.contains_key(&destination) {
                    continue;
                }
                let inner = Arc::clone(self);
                sending.insert(destination, tokio::spawn(async move { inner.send_all(messages).await }));
            }
        }
    }

    async fn round(&self) -> Result<(), StoreError> {
        let (deps, rules) = (&self.deps, self.rules.load_full());
        evaluate::round(&deps.store, &rules, deps.clock.now_ms(), &deps.installation).await?;
        let due = alert::due(&deps.store, deps.clock.now_ms(), u32::MAX >> 1).await?;
        for (_, messages) in by_destination(due) {
            self.send_all(messages).await;
        }
        Ok(())
    }

    /// Messages of one destination, until one does not arrive.
    async fn send_all(&self, messages: Vec<Delivery>) {
        for message in messages {
            match self.send(message).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, "an alert is late");
                    return;
                }
            }
        }
    }

    /// True when the destination takes messages.
    async fn send(&self, delivery: Delivery) -> Result<bool, StoreError> {
        let (store, now, rules) = (&self.deps.store, self.deps.clock.now_ms(), self.rules.load_full());
        let owner = delivery.destination.strip_prefix(OWNER);
        let target = match owner {
            Some(_) => rules.relay(),
            None => rules.targets.get(&delivery.destination),
        };
        // The destination is gone since.
        let Some(target) = target else {
            return alert::done(store, &delivery.id).await.map(|()| true);
        };
        let at = usize::try_from(delivery.attempts).unwrap_or(usize::MAX).min(BACKOFF_S.len() - 1);
        let wait_s = BACKOFF_S.get(at).copied().unwrap_or(3_600);
        if !alert::claim(store, &delivery, now + wait_s * 1_000).await? {
            return Ok(true);
        }
        let sent = match owner {
            Some(to) => target.mail(&self.deps.egress, &delivery, to).await,
            None => target.send(&self.deps.egress, &delivery, now).await,
        };
        let Err(error) = sent else {
            return alert::done(store, &delivery.id).await.map(|()| true);
        };
        let (destination, attempts) = (delivery.destination.as_str(), delivery.attempts + 1);
        tracing::warn!(%error, destination, id = delivery.id, attempts, "an alert did not arrive");
        if now.saturating_sub(delivery.created_ms) > GIVE_UP_MS {
            tracing::error!(destination, id = delivery.id, "an alert is given up");
            alert::done(store, &delivery.id).await?;
        }
        Ok(false)
    }

    async fn tell_owner(&self, notice: &OwnerNotice<'_>) -> Result<bool, StoreError> {
        let (deps, now) = (&self.deps, self.deps.clock.now_ms());
        if self.rules.load().relay().is_none() {
            return Ok(false);
        }
        let OwnerNotice { owner, server, from, to, why, event_id } = notice;
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        let message = Message {
            kind: "server.state".to_owned(),
            timestamp: bartizan_model::clock::rfc3339(now),
            data: Data {
                id: EventId::new(now).to_string(),
                rule: "server_state".to_owned(),
                severity: "medium".to_owned(),
                cause: serde_json::json!({ "server": server, "from": from, "to": to }),
                count: 1,
                first_ms: now,
                last_ms: now,
                event_id: (*event_id).to_owned(),
                summary: format!("{server} was {from} and is {to}{why}"),
                installation: deps.installation.clone(),
            },
        };
        let delivery = Delivery {
            id: EventId::new(now).to_string(),
            destination: format!("{OWNER}{owner}"),
            body: serde_json::to_string(&message).unwrap_or_default(),
            created_ms: now,
            attempts: 0,
        };
        let once = format!("server_state {server} {from} {to} {}", now.div_euclid(SAME_MS));
        alert::tell(&deps.store, &delivery, &once, now.saturating_add(SAME_MS)).await
    }

    async fn test(&self, destination: &str) -> Result<(), DeliverError> {
        let (rules, now) = (self.rules.load_full(), self.deps.clock.now_ms());
        let target = rules.targets.get(destination);
        let target = target.ok_or_else(|| DeliverError(format!("there is no destination `{destination}`")))?;
        let message = Message {
            kind: "alert.test".to_owned(),
            timestamp: bartizan_model::clock::rfc3339(now),
            data: Data {
                id: EventId::new(now).to_string(),
                rule: "test".to_owned(),
                severity: "low".to_owned(),
                cause: serde_json::Value::Object(serde_json::Map::new()),
                count: 0,
                first_ms: now,
                last_ms: now,
                event_id: String::new(),
                summary: "a test".to_owned(),
                installation: self.deps.installation.clone(),
            },
        };
        let delivery = Delivery {
            id: EventId::new(now).to_string(),
            destination: destination.to_owned(),
            body: serde_json::to_string(&message).map_err(DeliverError::new)?,
            created_ms: now,
            attempts: 0,
        };
        target.send(&self.deps.egress, &delivery, now).await
    }
}
