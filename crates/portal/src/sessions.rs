//! Legacy sessions (protocol section 2, feature row P34): bound to the principal, the
//! credential and the endpoint they were opened with. A session never authenticates anybody.
//!
//! The id is a sealed envelope, what changes is one row of the store, so every replica can
//! serve every session. What is here are the sessions this process has served lately, with
//! the streams, calls and questions that are its own.

mod asks;
mod envelope;
mod offered;
mod owners;
mod profile;
mod session;

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bartizan_gate::{Changed, Endpoint, NewSession, PortalStates, SEEN_EVERY_MS, Unavailable};
use bartizan_model::{Clock, Principal};
use bartizan_telemetry::Metrics;
use bartizan_vault::HandleSealer;

pub(crate) use asks::{Batch, node_of};
use envelope::Envelope;
pub(crate) use offered::Offered;
use owners::Owners;
pub(crate) use session::{About, Feed, Opening, Running, Session, Transport};

use crate::streams::StreamId;

const SHARDS: usize = 16;
/// Sessions of one process; at the bound the caller's own oldest one goes, and only if
/// there is none, another one that is unused for long.
const MAX_SESSIONS: usize = 100_000;
/// A session nobody used in this time, and of which nothing is only here, leaves memory;
/// milliseconds.
const QUIET_MS: i64 = 10 * 60 * 1000;

type Shard = RwLock<HashMap<Arc<str>, Arc<Session>>>;

/// Why no session was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The owner has as many as it may, and all are in use.
    Full,
    /// The machine gives no random bytes.
    NoRandomness,
    /// The client says too much about itself.
    TooLarge,
    /// The store does not answer.
    Unavailable,
}

/// Why a session is not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Unknown, ended, or somebody else's; nobody can tell which.
    Unknown,
    /// The store does not answer.
    Unavailable,
}

impl From<Unavailable> for Lost {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

/// Who asks for a session, and where.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) principal: &'a Principal,
    /// Grant or service token.
    pub(crate) credential: Option<&'a str>,
    pub(crate) endpoint: &'a Endpoint,
}

/// What sessions need of the process.
pub(crate) struct SessionsDeps {
    pub(crate) states: PortalStates,
    pub(crate) handles: HandleSealer,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) idle_ms: u64,
    pub(crate) per_owner: usize,
    pub(crate) node: Arc<str>,
    pub(crate) metrics: Metrics,
}

/// All sessions this process has served lately.
pub(crate) struct Sessions {
    shards: [Shard; SHARDS],
    hasher: RandomState,
    states: PortalStates,
    handles: HandleSealer,
    clock: Arc<dyn Clock>,
    idle_ms: i64,
    /// The last use is written at most this often, milliseconds.
    seen_every_ms: i64,
    owners: Owners,
    per_owner: usize,
    max: usize,
    count: AtomicUsize,
    node: Arc<str>,
    metrics: Metrics,
}

impl Sessions {
    pub(crate) fn new(deps: SessionsDeps) -> Self {
        let idle_ms = i64::try_from(deps.idle_ms).unwrap_or(i64::MAX);
        Self {
            shards: std::array::from_fn(|_| Shard::default()),
            hasher: RandomState::new(),
            states: deps.states,
            handles: deps.handles,
            clock: deps.clock,
            idle_ms,
            seen_every_ms: SEEN_EVERY_MS.min(idle_ms / 4),
            owners: Owners::new(deps.per_owner),
            per_owner: deps.per_owner,
            max: MAX_SESSIONS,
            count: AtomicUsize::new(0),
            node: deps.node,
            metrics: deps.metrics,
        }
    }

    fn shard(&self, holder: &str) -> &Shard {
        let at = usize::try_from(self.hasher.hash_one(holder) % SHARDS as u64).unwrap_or(0);
        let [first, ..] = &self.shards;
        self.shards.get(at).unwrap_or(first)
    }

    fn here(&self, holder: &str) -> Option<Arc<Session>> {
        self.shard(holder).read().unwrap_or_else(PoisonError::into_inner).get(holder).cloned()
    }

    /// Opens a session, counted among those of `counted`. When these are as many as may
    /// be, the one of them that was used longest ago and is idle ends; nobody else's.
    pub(crate) async fn open(
        &self,
        asker: Asker<'_>,
        counted: Arc<str>,
        about: About,
        transport: Transport,
    ) -> Result<Arc<Session>, Closed> {
        let kept = profile::keep(&about.profile).ok_or(Closed::TooLarge)?;
        let envelope = Envelope {
            transport,
            revision: about.profile.revision,
            offered: about.offered,
            created_ms: self.clock.now_ms(),
            row: random()?,
            owner: envelope::owner_of(asker.principal),
            credential: envelope::credential_of(asker.credential),
            profile: kept.digest,
            endpoint: asker.endpoint.label(),
        };
        let id = envelope.seal(&self.handles).ok_or(Closed::NoRandomness)?;
        let session = self.made(id, &envelope, asker.endpoint, Arc::clone(&counted), about)?;
        if self.count.load(Ordering::Relaxed) >= self.max {
            match self.owners.oldest_idle(&counted) {
                Some(own) => self.end(&own).await.map_err(|_| Closed::Unavailable)?,
                None => self.evict(session.used_ms()),
            }
        }
        // Registered with the owner first, so that many at once cannot pass the bound.
        while !self.owners.add(&session) {
            let own = self.owners.oldest_idle(&counted).ok_or(Closed::Full)?;
            self.end(&own).await.map_err(|_| Closed::Unavailable)?;
        }
        let digest = envelope::hex(&kept.digest);
        let new = NewSession {
            id: &session.holder,
            counted: &counted,
            digest: &digest,
            profile: &kept.text,
            most: self.per_owner,
        };
        if self.states.open(new).await.is_err() {
            self.owners.remove(&session);
            return Err(Closed::Unavailable);
        }
        Ok(self.insert(&session))
    }

    fn made(
        &self,
        id: Arc<str>,
        envelope: &Envelope,
        endpoint: &Endpoint,
        counted: Arc<str>,
        about: About,
    ) -> Result<Arc<Session>, Closed> {
        let [a, b, c, d, ..]: [u8; 16] = random()?;
        Ok(Arc::new(Session::new(Opening {
            id,
            holder: envelope.holder(),
            counted,
            endpoint: endpoint.clone(),
            about,
            transport: envelope.transport,
            now_ms: self.clock.now_ms(),
            streams_from: StreamId::from(u32::from_be_bytes([a, b, c, d])) << 16,
            node: Arc::clone(&self.node),
        })))
    }

    /// Takes a session into memory. The one that is to be used: somebody else may have been faster.
    fn insert(&self, session: &Arc<Session>) -> Arc<Session> {
        let mut shard = self.shard(&session.holder).write().unwrap_or_else(PoisonError::into_inner);
        match shard.entry(Arc::clone(&session.holder)) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(place) => {
                self.count.fetch_add(1, Ordering::Relaxed);
                self.metrics.sessions(1);
                Arc::clone(place.insert(Arc::clone(session)))
            }
        }
    }

    /// The session of this id, if it is alive, this caller's, and of this endpoint.
    /// Whatever is wrong, the answer is the same. One that began elsewhere, or before this
    /// process, is opened here; `counted` is asked for only then.
    pub(crate) async fn find(
        &self,
        id: &str,
        asker: Asker<'_>,
        counted: impl FnOnce() -> Arc<str>,
        transport: Transport,
    ) -> Result<Arc<Session>, Lost> {
        let envelope = Envelope::open(&self.handles, id).ok_or(Lost::Unknown)?;
        if !envelope.is_for(asker.principal, asker.credential, asker.endpoint, transport) {
            return Err(Lost::Unknown);
        }
        let holder = envelope.holder();
        let Some(row) = self.states.get(&holder).await? else {
            self.gone(&holder);
            return Err(Lost::Unknown);
        };
        let now = self.clock.now_ms();
        let here = self.here(&holder);
        let used = here.as_ref().map_or(i64::MIN, |session| session.used_ms()).max(row.seen_ms());
        let streams = here.as_ref().is_some_and(|session| session.is_streaming());
        if now.saturating_sub(used) >= self.idle_ms && !streams {
            self.states.end(&holder).await?;
            self.gone(&holder);
            return Err(Lost::Unknown);
        }
        let session = match here {
            Some(session) => session,
            // The one stream of an old client is where it began.
            None if transport == Transport::Sse => return Err(Lost::Unknown),
            None => self.adopt(id, &envelope, asker.endpoint, counted()).await?,
        };
        session.take(&row);
        session.touch(now);
        self.states.touch(&holder, &row, self.seen_every_ms);
        Ok(session)
    }

    /// A session that is not here, from its envelope and the table of profiles.
    async fn adopt(
        &self,
        id: &str,
        envelope: &Envelope,
        endpoint: &Endpoint,
        counted: Arc<str>,
    ) -> Result<Arc<Session>, Lost> {
        let digest = envelope::hex(&envelope.profile);
        let text = self.states.profile(&digest).await?.ok_or(Lost::Unknown)?;
        let profile = profile::restore(&text, &envelope.profile, envelope.revision).ok_or(Lost::Unknown)?;
        let about = About::new(profile, envelope.offered);
        let session = self.made(id.into(), envelope, endpoint, counted, about).map_err(|_| Lost::Unavailable)?;
        if self.count.load(Ordering::Relaxed) >= self.max {
            self.evict(session.used_ms());
        }
        // Those that leave are only forgotten here. When all are in use, so may this one be:
        // the store bounds how many there are.
        while !self.owners.add(&session) {
            let Some(own) = self.owners.oldest_idle(&session.counted) else { break };
            self.forget(&own);
        }
        let used = self.insert(&session);
        if !Arc::ptr_eq(&used, &session) {
            self.owners.add(&used);
        }
        // It may have ended elsewhere before it was here to hear of it.
        match self.states.get(&used.holder).await {
            Ok(Some(_)) => Ok(used),
            ended => {
                self.forget(&used);
                Err(ended.err().map_or(Lost::Unknown, Lost::from))
            }
        }
    }

    /// Ends a session everywhere: its streams close, its calls are cancelled.
    pub(crate) async fn end(&self, session: &Session) -> Result<(), Unavailable> {
        self.states.end(&session.holder).await?;
        self.forget(session);
        Ok(())
    }

    /// Takes a session out of memory; what is only here ends.
    pub(crate) fn forget(&self, session: &Session) {
        self.owners.remove(session);
        let removed =
            self.shard(&session.holder).write().unwrap_or_else(PoisonError::into_inner).remove(&session.holder);
        if let Some(session) = removed {
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.metrics.sessions(-1);
            session.end();
        }
    }

    fn gone(&self, holder: &str) {
        if let Some(session) = self.here(holder) {
            self.forget(&session);
        }
    }

    /// Ends here what was ended elsewhere.
    pub(crate) async fn heard(&self, changed: Changed) {
        let asked = match changed {
            Changed::Row(holder) => self.here(&holder).into_iter().collect(),
            // The others are asked about before they are used.
            Changed::Any => {
                let mut all = self.all();
                all.retain(|session| !session.is_quiet());
                all
            }
        };
        for session in asked {
            match self.states.get(&session.holder).await {
                Ok(Some(row)) => session.take(&row),
                Ok(None) => self.forget(&session),
                // Nothing is served from it before the store was asked.
                Err(Unavailable) => return,
            }
        }
    }

    /// Ends idle sessions, forgets those that rest, and drops what finished streams still
    /// keep. Called once a minute.
    pub(crate) async fn sweep(&self) {
        let now = self.clock.now_ms();
        for session in self.all() {
            let rest = now.saturating_sub(session.used_ms());
            if session.is_idle(now, self.idle_ms) || (rest >= QUIET_MS && session.is_quiet()) {
                self.forget(&session);
                continue;
            }
            session.sweep();
            if session.is_quiet() {
                continue;
            }
            match self.states.get(&session.holder).await {
                // An open stream is a use.
                Ok(Some(row)) if session.is_streaming() => {
                    self.states.touch(&session.holder, &row, self.seen_every_ms);
                }
                // The word that it ended did not come here.
                Ok(None) => self.forget(&session),
                Ok(Some(_)) | Err(Unavailable) => {}
            }
        }
        self.states.prune(self.idle_ms.saturating_add(self.seen_every_ms)).await;
    }

    /// Every session here at this moment.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(shard.read().unwrap_or_else(PoisonError::into_inner).values().cloned());
        }
        all
    }

    /// Sessions here at this moment.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Makes room for one session in one shard: the one that was used longest ago
    /// and has no open stream leaves memory.
    fn evict(&self, now: i64) {
        let at = usize::try_from(now).unwrap_or(0) % SHARDS;
        for shard in self.shards.iter().cycle().skip(at).take(SHARDS) {
            let oldest = {
                let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
                shard
                    .values()
                    .filter(|session| !session.is_streaming())
                    .min_by_key(|session| session.used_ms())
                    .cloned()
            };
            if let Some(oldest) = oldest {
                self.forget(&oldest);
                return;
            }
        }
    }
}

fn random() -> Result<[u8; 16], Closed> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Closed::NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
