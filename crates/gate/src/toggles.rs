//! What changes about legacy sessions, and which servers are switched off by whom (feature
//! rows P34, P36): one row each in the store, remembered here. Memory is believed as long
//! as the change feed speaks; when it is silent for two seconds, the store is asked.

mod feed;
mod link;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bartizan_model::{Clock, ServerId};
use bartizan_store::feed::Freshness;
use bartizan_store::repo::{client_profile, portal_state};
use bartizan_store::{Store, StoreError};
use bartizan_wire::LogLevel;
use tokio::sync::{broadcast, watch};

pub(crate) use link::Link;
pub use link::LinkError;

/// Rows remembered.
const REMEMBERED: u64 = 200_000;
/// A row nobody asked for in this time is forgotten here.
const IDLE: Duration = Duration::from_secs(15 * 60);
/// The last use is written at most this often, milliseconds.
pub const SEEN_EVERY_MS: i64 = 5 * 60 * 1000;
/// What is switched off for a credential is kept this long after its last use,
/// milliseconds: as long as a service token that nobody uses.
const CREDENTIAL_MS: i64 = 90 * 24 * 3_600_000;
/// A profile that no session has is kept this long, milliseconds.
const PROFILE_MS: i64 = 3_600_000;
/// Longest wait for the store.
const PATIENCE: Duration = Duration::from_secs(5);
/// Attempts to switch while others do.
const ATTEMPTS: usize = 8;
/// Changes that whoever follows them may be behind.
const BEHIND: usize = 1_024;

/// Servers that are switched off, sorted.
pub type Off = Arc<[ServerId]>;

/// Where a caller's switches are kept, and what is switched off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Name of the row; none for callers who cannot keep any.
    pub holder: Option<Arc<str>>,
    /// The servers.
    pub off: Off,
}

/// One row.
#[derive(Debug)]
pub struct State {
    /// Servers that are switched off.
    pub off: Off,
    /// Digest of the client's profile; empty for credentials.
    pub profile: Box<str>,
    /// Least severe log level the client wants.
    pub log_level: Option<LogLevel>,
    seen_ms: AtomicI64,
}

impl State {
    /// When it was used last, as far as the store knows; milliseconds since the epoch.
    pub fn seen_ms(&self) -> i64 {
        self.seen_ms.load(Ordering::Relaxed)
    }
}

/// A session that begins.
#[derive(Clone, Copy, Debug)]
pub struct NewSession<'a> {
    /// Name of its row.
    pub id: &'a str,
    /// Among whose sessions it counts.
    pub counted: &'a str,
    /// Digest of the profile.
    pub digest: &'a str,
    /// The profile.
    pub profile: &'a str,
    /// Most sessions that count together.
    pub most: usize,
}

/// The store does not answer, and memory cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store does not answer")]
pub struct Unavailable;

/// Something of a row changed, or it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// This row.
    Row(Arc<str>),
    /// Nobody knows which rows.
    Any,
}

/// All rows. Cheap to clone.
#[derive(Clone)]
pub struct PortalStates(Arc<Inner>);

struct Inner {
    /// Without one, memory is all there is.
    store: Option<Store>,
    clock: Arc<dyn Clock>,
    remembered: moka::sync::Cache<Arc<str>, Option<Arc<State>>>,
    /// Under which configuration was looked for servers that were added.
    told: moka::sync::Cache<Arc<str>, u64>,
    /// Rows and profiles of a process without a store.
    alone: Mutex<Alone>,
    freshness: Freshness,
    /// Grows with every change that is heard of.
    epoch: AtomicU64,
    changes: broadcast::Sender<Changed>,
    watched: Mutex<HashMap<Arc<str>, watch::Sender<u64>>>,
    profiles_pruned_ms: AtomicI64,
}

#[derive(Default)]
struct Alone {
    rows: HashMap<Arc<str>, (Arc<str>, Arc<State>)>,
    profiles: HashMap<Box<str>, Box<str>>,
    /// Links that were used.
    used: std::collections::HashSet<String>,
    /// Servers that people were shown, by person and portal.
    shown: HashMap<(String, String), String>,
}

/// Tells when a row changes.
#[derive(Debug)]
pub(crate) struct Watch {
    id: Arc<str>,
    receiver: Option<watch::Receiver<u64>>,
    states: std::sync::Weak<Inner>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PortalStates")
    }
}

impl Watch {
    /// Ends when the row may have changed.
    pub(crate) async fn changed(&mut self) {
        if let Some(receiver) = &mut self.receiver
            && receiver.changed().await.is_ok()
        {
            return;
        }
        // The sender lives as long as we do.
        std::future::pending().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(inner) = self.states.upgrade() else { return };
        let mut watched = inner.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // Ours still counts until it is dropped.
        if watched.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            watched.remove(&self.id);
        }
        self.receiver = None;
    }
}

fn parse(text: &str) -> Off {
    let mut ids: Vec<ServerId> = serde_json::from_str(text).unwrap_or_default();
    ids.sort();
    ids.dedup();
    ids.into()
}

fn text_of(off: &[ServerId]) -> String {
    serde_json::to_string(off).unwrap_or_else(|_| "[]".to_owned())
}

fn state(row: &portal_state::PortalState) -> State {
    State {
        off: parse(&row.off),
        profile: row.profile.as_str().into(),
        log_level: row.log_level.as_deref().and_then(LogLevel::parse),
        seen_ms: row.seen_ms.into(),
    }
}

async fn asked<T>(question: impl Future<Output = Result<T, StoreError>>) -> Result<T, Unavailable> {
    match tokio::time::timeout(PATIENCE, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the state of a session could not be read or written");
            Err(Unavailable)
        }
        Err(_) => Err(Unavailable),
    }
}

impl PortalStates {
    /// Without a store: what is here is all there is.
    pub fn alone(clock: Arc<dyn Clock>) -> Self {
        Self::new(None, clock)
    }

    /// Over this store. Starts a task that follows the change feed; it ends with the last
    /// clone. Outside of a Tokio runtime there is none, and the store is always asked.
    pub fn new(store: Option<Store>, clock: Arc<dyn Clock>) -> Self {
        let inner = Arc::new(Inner {
            remembered: moka::sync::Cache::builder().max_capacity(REMEMBERED).time_to_idle(IDLE).build(),
            told: moka::sync::Cache::builder().max_capacity(REMEMBERED).time_to_idle(IDLE).build(),
            alone: Mutex::default(),
            freshness: Freshness::default(),
            epoch: 0.into(),
            changes: broadcast::Sender::new(BEHIND),
            watched: Mutex::default(),
            profiles_pruned_ms: i64::MIN.into(),
            store,
            clock,
        });
        feed::spawn(&inner);
        Self(inner)
    }

    /// The row of this name. Touches nothing but memory while the feed speaks and the row
    /// was asked for before.
    ///
    /// # Errors
    /// [`Unavailable`] when the store has to be asked and does not answer.
    pub async fn get(&self, id: &Arc<str>) -> Result<Option<Arc<State>>, Unavailable> {
        let inner = &self.0;
        let Some(store) = &inner.store else {
            return Ok(inner.alone().rows.get(id).map(|(_, state)| Arc::clone(state)));
        };
        if inner.freshness.is_fresh()
            && let Some(known) = inner.remembered.get(id)
        {
            return Ok(known);
        }
        let epoch = inner.epoch.load(Ordering::Acquire);
        let found = asked(portal_state::get(store, id)).await?.map(|row| Arc::new(state(&row)));
        inner.remembered.insert(Arc::clone(id), found.clone());
        // A change between the question and now makes what is remembered worthless.
        if inner.epoch.load(Ordering::Acquire) != epoch {
            inner.remembered.invalidate(id);
        }
        Ok(found)
    }

    /// Begins a session.
    ///
    /// # Errors
    /// [`Unavailable`]; then nothing began.
    pub async fn open(&self, new: NewSession<'_>) -> Result<(), Unavailable> {
        let inner = &self.0;
        let now = inner.clock.now_ms();
        let id: Arc<str> = new.id.into();
        let begun = State { off: Off::default(), profile: new.digest.into(), log_level: None, seen_ms: now.into() };
        let Some(store) = &inner.store else {
            let mut alone = inner.alone();
            alone.profiles.entry(new.digest.into()).or_insert_with(|| new.profile.into());
            alone.rows.insert(id, (new.counted.into(), Arc::new(begun)));
            return Ok(());
        };
        let row = portal_state::PortalState {
            id: new.id.to_owned(),
            counted: new.counted.to_owned(),
            profile: new.digest.to_owned(),
            off: "[]".to_owned(),
            log_level: None,
            created_ms: now,
            seen_ms: now,
        };
        let most = i64::try_from(new.most).unwrap_or(i64::MAX);
        let ended = asked(portal_state::open(store, &row, new.profile, most)).await?;
        for id in ended {
            inner.heard(Changed::Row(id.into()));
        }
        // Nobody else can know it yet, so nobody can have changed it.
        inner.remembered.insert(id, Some(Arc::new(begun)));
        Ok(())
    }

    /// The profile of a digest.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn profile(&self, digest: &str) -> Result<Option<String>, Unavailable> {
        match &self.0.store {
            Some(store) => asked(client_profile::get(store, digest)).await,
            None => Ok(self.0.alone().profiles.get(digest).map(|text| text.to_string())),
        }
    }

    /// Ends a session, on all replicas.
    ///
    /// # Errors
    /// [`Unavailable`]; then it goes on.
    pub async fn end(&self, id: &Arc<str>) -> Result<(), Unavailable> {
        match &self.0.store {
            Some(store) => drop(asked(portal_state::end(store, id)).await?),
            None => drop(self.0.alone().rows.remove(id)),
        }
        self.0.heard(Changed::Row(Arc::clone(id)));
        Ok(())
    }

    /// `logging/setLevel` of a session.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn set_level(&self, id: &Arc<str>, level: LogLevel) -> Result<(), Unavailable> {
        match &self.0.store {
            Some(store) => asked(portal_state::set_level(store, id, level.as_str())).await?,
            None => self.0.alone().change(id, |state| state.log_level = Some(level)),
        }
        self.0.heard(Changed::Row(Arc::clone(id)));
        Ok(())
    }

    /// Notes a use now; written at most every `every_ms`, and not waited for.
    pub fn touch(&self, id: &Arc<str>, state: &State, every_ms: i64) {
        let now = self.0.clock.now_ms();
        let before = state.seen_ms();
        // Without a store nothing is spared.
        if now.saturating_sub(before) < every_ms && self.0.store.is_some() {
            return;
        }
        let won = state.seen_ms.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if let (true, Some(store)) = (won, &self.0.store) {
            let (store, id) = (store.clone(), Arc::clone(id));
            tokio::spawn(async move { asked(portal_state::touch(&store, &id, now)).await });
        }
    }

    /// Changes what is switched off: `change` gets what is and says what shall be. The new
    /// state, or none when the session has ended.
    ///
    /// # Errors
    /// [`Unavailable`], also when others switch all the time.
    pub async fn switch(
        &self,
        id: &Arc<str>,
        change: impl Fn(&[ServerId]) -> Vec<ServerId>,
    ) -> Result<Option<Off>, Unavailable> {
        let credential = id.starts_with(CREDENTIAL);
        let sorted = |before: &[ServerId]| {
            let mut after = change(before);
            after.sort();
            after.dedup();
            after
        };
        let Some(store) = &self.0.store else {
            return Ok(self.switch_alone(id, credential, sorted));
        };
        for _ in 0..ATTEMPTS {
            let row = asked(portal_state::get(store, id)).await?;
            if row.is_none() && !credential {
                return Ok(None);
            }
            let before = row.map_or_else(|| "[]".to_owned(), |row| row.off);
            let known = parse(&before);
            let after = sorted(&known);
            if *after == *known {
                return Ok(Some(known));
            }
            let text = text_of(&after);
            if asked(portal_state::switch(store, id, &before, &text, credential)).await? {
                self.0.heard(Changed::Row(Arc::clone(id)));
                return Ok(Some(after.into()));
            }
        }
        Err(Unavailable)
    }

    fn switch_alone(
        &self,
        id: &Arc<str>,
        credential: bool,
        sorted: impl Fn(&[ServerId]) -> Vec<ServerId>,
    ) -> Option<Off> {
        let off: Off = {
            let mut alone = self.0.alone();
            if credential && !alone.rows.contains_key(id) {
                let seen_ms = self.0.clock.now_ms().into();
                let new = State { off: Off::default(), profile: "".into(), log_level: None, seen_ms };
                alone.rows.insert(Arc::clone(id), ("".into(), Arc::new(new)));
            }
            let off: Off = sorted(&alone.rows.get(id)?.1.off).into();
            alone.change(id, |state| state.off = Arc::clone(&off));
            off
        };
        self.0.heard(Changed::Row(Arc::clone(id)));
        Some(off)
    }

    /// Every change that is heard of, here or from elsewhere.
    pub fn changes(&self) -> broadcast::Receiver<Changed> {
        self.0.changes.subscribe()
    }

    /// Tells of changes of one row.
    pub(crate) fn watch(&self, id: &Arc<str>) -> Watch {
        let mut watched = self.0.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = watched.entry(Arc::clone(id)).or_insert_with(|| watch::Sender::new(0));
        Watch { id: Arc::clone(id), receiver: Some(sender.subscribe()), states: Arc::downgrade(&self.0) }
    }

    /// Removes what is over: sessions that were not used for `idle_ms`, rows of credentials
    /// that are not used any more, profiles that nobody has.
    pub async fn prune(&self, idle_ms: i64) {
        let now = self.0.clock.now_ms();
        let (sessions, credentials) = (now.saturating_sub(idle_ms), now.saturating_sub(CREDENTIAL_MS));
        let Some(store) = &self.0.store else {
            self.0.alone().prune(sessions, credentials);
            return;
        };
        let pruned = asked(portal_state::prune(store, sessions, credentials)).await;
        let due = self.0.profiles_pruned_ms.load(Ordering::Relaxed).saturating_add(PROFILE_MS) <= now;
        if pruned.is_ok() && due {
            self.0.profiles_pruned_ms.store(now, Ordering::Relaxed);
            // The next look removes what this one did not.
            let _ = asked(client_profile::prune_unused(store, now.saturating_sub(PROFILE_MS))).await;
        }
    }
}

/// First letters of the rows of credentials.
const CREDENTIAL: &str = "c:";
/// First letters of the rows of sessions.
const SESSION: &str = "s:";

/// Name of the row of a credential at an endpoint.
pub fn credential_holder(credential: &str, endpoint: &crate::Endpoint) -> Arc<str> {
    format!("{CREDENTIAL}{credential}@{}", endpoint.label()).into()
}

/// Name of the row of a session.
pub fn session_holder(id: &str) -> Arc<str> {
    format!("{SESSION}{id}").into()
}

pub(crate) fn is_session(holder: &str) -> bool {
    holder.starts_with(SESSION)
}

impl Inner {
    fn alone(&self) -> MutexGuard<'_, Alone> {
        self.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what changed and tells whoever waits for it.
    fn heard(&self, changed: Changed) {
        // Before the row is forgotten: see `get`.
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let tell = |sender: &watch::Sender<u64>| sender.send_modify(|count| *count = count.wrapping_add(1));
        match &changed {
            Changed::Row(id) => {
                self.remembered.invalidate(id);
                watched.get(id).into_iter().for_each(tell);
            }
            Changed::Any => {
                self.remembered.invalidate_all();
                watched.values().for_each(tell);
            }
        }
        drop(watched);
        // Without a portal nobody follows.
        let _ = self.changes.send(changed);
    }
}

impl Alone {
    fn change(&mut self, id: &Arc<str>, change: impl FnOnce(&mut State)) {
        if let Some((_, known)) = self.rows.get_mut(id) {
            let mut next = State {
                off: Arc::clone(&known.off),
                profile: known.profile.clone(),
                log_level: known.log_level,
                seen_ms: known.seen_ms().into(),
            };
            change(&mut next);
            *known = Arc::new(next);
        }
    }

    fn prune(&mut self, sessions_ms: i64, credentials_ms: i64) {
        self.rows.retain(|_, (counted, state)| {
            state.seen_ms() > if counted.is_empty() { credentials_ms } else { sessions_ms }
        });
        let used: std::collections::HashSet<&str> = self.rows.values().map(|(_, state)| &*state.profile).collect();
        self.profiles.retain(|digest, _| used.contains(&**digest));
    }
}
