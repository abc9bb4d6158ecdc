//! Whose sessions these are. One owner's use never costs another one a session.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Session;

/// Sessions by row.
type Own = HashMap<Arc<str>, Arc<Session>>;

/// The sessions of each owner, at most `max`.
pub(super) struct Owners {
    max: usize,
    all: Mutex<HashMap<Arc<str>, Own>>,
}

impl Owners {
    pub(super) fn new(max: usize) -> Self {
        Self { max, all: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Own>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session. False when its owner has as many as it may.
    pub(super) fn add(&self, session: &Arc<Session>) -> bool {
        let mut all = self.lock();
        let own = all.entry(Arc::clone(&session.counted)).or_default();
        let room = own.len() < self.max;
        if room {
            own.insert(Arc::clone(&session.holder), Arc::clone(session));
        }
        room
    }

    pub(super) fn remove(&self, session: &Session) {
        let mut all = self.lock();
        if let Some(own) = all.get_mut(&session.counted) {
            own.remove(&session.holder);
            if own.is_empty() {
                all.remove(&session.counted);
            }
        }
    }

    /// The owner's session that was used longest ago and that nobody uses now.
    pub(super) fn oldest_idle(&self, owner: &str) -> Option<Arc<Session>> {
        let all = self.lock();
        let idle = all.get(owner)?.values().filter(|session| !session.is_streaming() && !session.is_busy());
        idle.min_by_key(|session| session.used_ms()).cloned()
    }
}
