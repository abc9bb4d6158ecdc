//! Legacy sessions (protocol section 2): unguessable ids, bound to the principal and
//! the endpoint they were opened at. A session never authenticates anybody.
//!
//! They live in memory. The id is opaque to everything else, so that it can become a
//! sealed envelope when replicas share sessions.

mod asks;
mod offered;
mod owners;
mod session;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bartizan_gate::Endpoint;
use bartizan_model::{Clock, Principal};
use bartizan_telemetry::Metrics;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub(crate) use asks::Batch;
pub(crate) use offered::Offered;
use owners::Owners;
pub(crate) use session::{About, Opening, Running, Session, Transport};

const SHARDS: usize = 16;
/// Sessions of one process; at the bound the caller's own oldest one goes, and only if
/// there is none, another one that is unused for long.
const MAX_SESSIONS: usize = 100_000;
/// Longer texts are nobody's session id.
const MAX_ID: usize = 128;

type Shard = RwLock<HashMap<Arc<str>, Arc<Session>>>;

/// Why no session was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The owner has as many as it may, and all are in use.
    Full,
    /// The machine gives no random bytes.
    NoRandomness,
}

/// All sessions of this process.
pub(crate) struct Sessions {
    shards: [Shard; SHARDS],
    hasher: RandomState,
    clock: Arc<dyn Clock>,
    idle_ms: i64,
    owners: Owners,
    max: usize,
    count: AtomicUsize,
    metrics: Metrics,
}

impl Sessions {
    pub(crate) fn new(clock: Arc<dyn Clock>, idle_ms: u64, per_owner: usize, metrics: Metrics) -> Self {
        Self {
            shards: std::array::from_fn(|_| Shard::default()),
            hasher: RandomState::new(),
            clock,
            idle_ms: i64::try_from(idle_ms).unwrap_or(i64::MAX),
            owners: Owners::new(per_owner),
            max: MAX_SESSIONS,
            count: AtomicUsize::new(0),
            metrics,
        }
    }

    fn shard(&self, id: &str) -> &Shard {
        let at = usize::try_from(self.hasher.hash_one(id) % SHARDS as u64).unwrap_or(0);
        let [first, ..] = &self.shards;
        self.shards.get(at).unwrap_or(first)
    }

    /// Opens a session, counted among those of `counted`. When these are as many as may
    /// be, the one of them that was used longest ago and is idle ends; nobody else's.
    pub(crate) fn open(
        &self,
        principal: &Principal,
        counted: Arc<str>,
        endpoint: Endpoint,
        about: About,
        transport: Transport,
    ) -> Result<Arc<Session>, Closed> {
        let mut random = [0_u8; 32];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| Closed::NoRandomness)?;
        let id: Arc<str> = URL_SAFE_NO_PAD.encode(random).into();
        let now = self.clock.now_ms();
        let session = Arc::new(Session::new(Opening {
            id: Arc::clone(&id),
            owner: Arc::clone(principal.key()),
            counted,
            endpoint,
            about,
            transport,
            now_ms: now,
        }));
        if self.count.load(Ordering::Relaxed) >= self.max {
            match self.owners.oldest_idle(&session.counted) {
                Some(own) => self.end(&own),
                None => self.evict(now),
            }
        }
        // Registered with the owner first, so that many at once cannot pass the bound.
        while !self.owners.add(&session) {
            let own = self.owners.oldest_idle(&session.counted).ok_or(Closed::Full)?;
            self.end(&own);
        }
        let mut shard = self.shard(&id).write().unwrap_or_else(PoisonError::into_inner);
        if shard.insert(id, Arc::clone(&session)).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
            self.metrics.sessions(1);
        }
        Ok(session)
    }

    /// The session of this id, if it is alive, this principal's, and of this endpoint.
    /// Whatever is wrong, the answer is the same.
    pub(crate) fn get(
        &self,
        id: &str,
        principal: &Principal,
        endpoint: &Endpoint,
        transport: Transport,
    ) -> Option<Arc<Session>> {
        if id.is_empty() || id.len() > MAX_ID {
            return None;
        }
        let now = self.clock.now_ms();
        let found = {
            let shard = self.shard(id).read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(shard.get(id)?)
        };
        if *found.owner != **principal.key() || found.endpoint != *endpoint || found.transport != transport {
            return None;
        }
        if found.is_idle(now, self.idle_ms) {
            self.end(&found);
            return None;
        }
        found.touch(now);
        Some(found)
    }

    /// Ends a session: its streams close, its calls are cancelled.
    pub(crate) fn end(&self, session: &Session) {
        self.owners.remove(session);
        let removed = self.shard(&session.id).write().unwrap_or_else(PoisonError::into_inner).remove(&session.id);
        if let Some(session) = removed {
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.metrics.sessions(-1);
            session.end();
        }
    }

    /// Ends idle sessions and drops what finished streams still keep. Called once a minute.
    pub(crate) fn sweep(&self) {
        let now = self.clock.now_ms();
        for session in self.all() {
            if session.is_idle(now, self.idle_ms) {
                self.end(&session);
            } else {
                session.sweep();
            }
        }
    }

    /// Every session at this moment.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(shard.read().unwrap_or_else(PoisonError::into_inner).values().cloned());
        }
        all
    }

    /// Sessions at this moment.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Makes room for one session in one shard: the one that was used longest ago
    /// and has no open stream.
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
                self.end(&oldest);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
