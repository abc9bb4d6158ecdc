//! What the servers offer, one cached list per server, kind and sort of asker
//! (feature row P25).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bartizan_accounts::AccountError;
use bartizan_catalog::{Kind, ServerLists, ServerSpec};
use bartizan_model::{Clock, Era, Principal, ReasonCode, ServerId};
use bartizan_registry::{Registry, Whose};
use bartizan_upstream::{ListKind, ListResult, Target, UpstreamError, Upstreams};
use bartizan_wire::{ClientProfile, LATEST_LEGACY, RawJson, meta_key, splice};
use tokio_util::task::TaskTracker;

use crate::personal::{self, Personal};
use crate::slot::{Fetched, Good, Need, Slot};
use crate::stages::credential;
use crate::status::Statuses;

/// Lists that nobody asked for in this time are forgotten, milliseconds.
const IDLE_MS: i64 = 15 * 60_000;
/// Idle lists are looked for when this many are kept.
const MANY: usize = 4_096;

/// One list of one server.
#[derive(Debug, Default)]
pub(crate) struct List {
    /// The items that may be offered, under their kind.
    pub(crate) lists: Arc<ServerLists>,
    /// All items, as they came.
    pub(crate) raw: Arc<ServerLists>,
    /// A number for what came, whatever was decided about it.
    content: u64,
    /// How often decisions had changed when these items were judged.
    epoch: u64,
    /// False when the server does not have the kind at all.
    pub(crate) offered: bool,
    /// `_meta` of the list.
    pub(crate) meta: Option<RawJson>,
    /// Life that the upstream gave, milliseconds; none from legacy servers.
    pub(crate) ttl_ms: Option<u64>,
    /// Era of the server.
    pub(crate) era: Option<Era>,
    /// Set when the server called the list private: the one it may be shown to.
    pub(crate) private_to: Option<Arc<str>>,
}

/// Who gets equal lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    server: ServerId,
    version: Arc<str>,
    kind: ListKind,
    owner: Arc<str>,
    /// A server may offer tools by what the client can do.
    capabilities: RawJson,
}

/// All cached lists.
pub(crate) struct Lists {
    upstreams: Upstreams,
    personal: Personal,
    statuses: Arc<Statuses>,
    /// Longest wait for one list with everything that belongs to it.
    deadline: Duration,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    slots: RwLock<HashMap<Key, Arc<Slot<List>>>>,
    /// Equal content is kept once, whoever asked.
    contents: Mutex<HashMap<[u8; 32], Weak<ServerLists>>>,
    /// Servers that called a list private: not even shared credentials share it.
    private: RwLock<HashMap<ServerId, Arc<str>>>,
    /// What is approved (P44). Every process that serves people has it.
    registry: OnceLock<Registry>,
    #[cfg(any(test, feature = "sabotage"))]
    trusting: std::sync::atomic::AtomicBool,
}

/// A list with the slot it is kept in.
pub(crate) type Kept = (Arc<Slot<List>>, Arc<Fetched<List>>);

/// Who asks for a list.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) principal: &'a Arc<Principal>,
    pub(crate) profile: &'a Arc<ClientProfile>,
}

impl Lists {
    /// An empty cache.
    pub(crate) fn new(
        upstreams: Upstreams,
        personal: Personal,
        statuses: Arc<Statuses>,
        deadline: Duration,
        clock: Arc<dyn Clock>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            upstreams,
            personal,
            statuses,
            deadline,
            clock,
            tasks,
            slots: RwLock::default(),
            contents: Mutex::default(),
            private: RwLock::default(),
            registry: OnceLock::new(),
            #[cfg(any(test, feature = "sabotage"))]
            trusting: false.into(),
        }
    }

    /// Judges lists from now on. The first registry stays.
    pub(crate) fn judge_by(&self, registry: Registry) {
        let _ = self.registry.set(registry);
    }

    /// What is approved.
    pub(crate) fn registry(&self) -> Option<&Registry> {
        #[cfg(any(test, feature = "sabotage"))]
        if self.trusting.load(std::sync::atomic::Ordering::Relaxed) {
            return None;
        }
        self.registry.get()
    }

    /// Takes every list as it comes, for tests that show what judging is for.
    #[cfg(any(test, feature = "sabotage"))]
    pub(crate) fn trust_everything(&self) {
        self.trusting.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    fn key(&self, spec: &ServerSpec, kind: ListKind, asker: Asker<'_>, private: bool) -> Key {
        let owner =
            if private { Arc::clone(asker.principal.key()) } else { credential::list_owner(spec, asker.principal) };
        Key {
            server: spec.id.clone(),
            version: Arc::clone(&spec.version),
            kind,
            owner,
            capabilities: compact(&asker.profile.capabilities),
        }
    }

    fn is_private(&self, spec: &ServerSpec) -> bool {
        self.private.read().unwrap_or_else(PoisonError::into_inner).get(&spec.id) == Some(&spec.version)
    }

    /// The slot of one list.
    fn slot(&self, spec: &ServerSpec, kind: ListKind, asker: Asker<'_>) -> Arc<Slot<List>> {
        let key = self.key(spec, kind, asker, self.is_private(spec));
        if let Some(slot) = self.slots.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(slot);
        }
        let now_ms = self.clock.now_ms();
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MANY {
            make_room(&mut slots, now_ms);
        }
        Arc::clone(slots.entry(key).or_insert_with(|| Arc::new(Slot::new(now_ms))))
    }

    /// One list with its slot: cached, or fetched once for all who wait.
    pub(crate) async fn get(
        self: &Arc<Self>,
        need: Need,
        spec: &Arc<ServerSpec>,
        kind: ListKind,
        asker: Asker<'_>,
    ) -> Kept {
        let slot = self.slot(spec, kind, asker);
        let fetched = self.fetched(&slot, need, spec, kind, asker).await;
        match &fetched.value.private_to {
            // It turned out to be private while we waited for somebody else's.
            Some(owner) if owner != asker.principal.key() => {
                let slot = self.slot(spec, kind, asker);
                let fetched = self.fetched(&slot, need, spec, kind, asker).await;
                (slot, fetched)
            }
            _ => (slot, fetched),
        }
    }

    /// What is known of a list now, fresh or not, with its slot.
    pub(crate) fn known(&self, spec: &ServerSpec, kind: ListKind, asker: Asker<'_>) -> Option<Kept> {
        let slot = self.slot(spec, kind, asker);
        let fetched = slot.peek()?;
        let foreign = fetched.value.private_to.as_ref().is_some_and(|owner| owner != asker.principal.key());
        (!foreign).then_some((slot, fetched))
    }

    /// Renews a list behind, unless somebody does already.
    pub(crate) fn renew(self: &Arc<Self>, spec: &Arc<ServerSpec>, kind: ListKind, asker: Asker<'_>) {
        if self.slot(spec, kind, asker).is_fetching() {
            return;
        }
        let (lists, spec) = (Arc::clone(self), Arc::clone(spec));
        let (principal, profile) = (Arc::clone(asker.principal), Arc::clone(asker.profile));
        self.tasks.spawn(async move {
            let asker = Asker { principal: &principal, profile: &profile };
            lists.get(Need::Route, &spec, kind, asker).await;
        });
    }

    async fn fetched(
        self: &Arc<Self>,
        slot: &Arc<Slot<List>>,
        need: Need,
        spec: &Arc<ServerSpec>,
        kind: ListKind,
        asker: Asker<'_>,
    ) -> Arc<Fetched<List>> {
        let lists = Arc::clone(self);
        let (principal, profile) = (Arc::clone(asker.principal), Arc::clone(asker.profile));
        let asked = Arc::clone(spec);
        let fetched = slot
            .get(need, &self.clock, &self.tasks, move || async move {
                lists.fetch(&asked, kind, Asker { principal: &principal, profile: &profile }).await
            })
            .await;
        // Something was decided while the list was on its way.
        let decided = self.registry().is_some_and(|registry| registry.epoch() != fetched.value.epoch);
        if decided && fetched.value.offered {
            self.judge_again(slot, spec, kind);
            return slot.peek().unwrap_or(fetched);
        }
        fetched
    }

    /// Judges a list that is kept by what is decided now. True when something else is shown then.
    fn judge_again(&self, slot: &Slot<List>, spec: &ServerSpec, kind: ListKind) -> bool {
        let Some(registry) = self.registry() else { return false };
        slot.amend(|list| {
            let epoch = registry.epoch();
            let judged = registry.rejudge(spec, catalog_kind(kind), &list.raw)?;
            let generation = list.content.wrapping_add(judged.stamp);
            let next = List {
                lists: judged.lists,
                raw: Arc::clone(&list.raw),
                content: list.content,
                epoch,
                offered: list.offered,
                meta: list.meta.clone(),
                ttl_ms: list.ttl_ms,
                era: list.era,
                private_to: list.private_to.clone(),
            };
            Some((Arc::new(next), generation))
        })
    }

    /// Something was decided about a server's definitions, or its settings changed. True when a
    /// list that is kept shows something else now.
    pub(crate) fn decided(&self, spec: &ServerSpec) -> bool {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let own = slots.iter().filter(|(key, _)| key.server == spec.id);
        // All of them, not only up to the first that changed.
        own.fold(false, |changed, (key, slot)| self.judge_again(slot, spec, key.kind) || changed)
    }

    /// Asks a server for everything it offers, whatever is known, and puts it on record (P53).
    /// Only for servers that everybody goes to as the same.
    pub(crate) async fn sync(&self, spec: &Arc<ServerSpec>, asker: Asker<'_>) -> Result<usize, ReasonCode> {
        let mut count = 0;
        for kind in ListKind::ALL {
            let listing = tokio::time::timeout(self.deadline, self.listed(spec, kind, asker));
            let listed = listing.await.unwrap_or_else(|_| {
                self.statuses.not_listed(spec, &UpstreamError::Timeout);
                Err(ReasonCode::UpstreamTimeout)
            })?;
            self.statuses.listed(spec);
            let Some(listed) = listed else { continue };
            count += listed.items.len();
            let private = listed.era == Era::Modern && listed.private;
            let raw = Arc::new(ServerLists::parse(catalog_kind(kind), listed.items));
            if let (Some(registry), false) = (self.registry(), private) {
                let judged = registry.judge(spec, catalog_kind(kind), &raw, Whose::Sync).await;
                judged.map_err(|error| unjudged(spec, &error))?;
            }
        }
        Ok(count)
    }

    async fn fetch(&self, spec: &Arc<ServerSpec>, kind: ListKind, asker: Asker<'_>) -> Result<Good<List>, ReasonCode> {
        let listing = tokio::time::timeout(self.deadline, self.listed(spec, kind, asker));
        let listed = listing.await.unwrap_or_else(|_| {
            self.statuses.not_listed(spec, &UpstreamError::Timeout);
            Err(ReasonCode::UpstreamTimeout)
        })?;
        self.statuses.listed(spec);
        let private = listed.as_ref().is_some_and(|listed| listed.era == Era::Modern && listed.private);
        if private && !self.is_private(spec) {
            // From now on everybody has a list of their own.
            let shared = self.key(spec, kind, asker, false);
            let mut known = self.private.write().unwrap_or_else(PoisonError::into_inner);
            known.insert(spec.id.clone(), Arc::clone(&spec.version));
            drop(known);
            let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
            // Others may be waiting on this slot too, so nobody inherits it.
            slots.remove(&shared);
        }
        let private_to = private.then(|| Arc::clone(asker.principal.key()));
        let own = private || personal::is_personal(spec);
        let whose = if own { Whose::Person(asker.principal.key()) } else { Whose::Shared };
        self.keep(spec, kind, listed, private_to, whose).await
    }

    /// With the asker's own account where the server wants one; a token that was taken back is
    /// replaced once.
    async fn listed(
        &self,
        spec: &Arc<ServerSpec>,
        kind: ListKind,
        asker: Asker<'_>,
    ) -> Result<Option<ListResult>, ReasonCode> {
        let lost = |error: AccountError| {
            self.statuses.no_account(spec, &error);
            personal::code(&error).0
        };
        let failed = |error: UpstreamError| {
            self.statuses.not_listed(spec, &error);
            error.code()
        };
        let target = self.personal.target(spec, asker.principal);
        let account = self.personal.ready(spec, asker.principal).await.map_err(lost)?;
        let listed = self.list_or_nothing(&target, kind, asker.profile).await;
        if let (Err(error), Some(account)) = (&listed, account)
            && let Some(challenge) = personal::unauthorized(error)
        {
            let renewed = self.personal.refused(spec, asker.principal, account.version, challenge).await;
            renewed.map_err(lost)?;
            return self.list_or_nothing(&target, kind, asker.profile).await.map_err(failed);
        }
        listed.map_err(failed)
    }

    /// A server without the capability has an empty list, which is no failure.
    async fn list_or_nothing(
        &self,
        target: &Target,
        kind: ListKind,
        profile: &Arc<ClientProfile>,
    ) -> Result<Option<ListResult>, UpstreamError> {
        let discovered = self.upstreams.discover(target, profile).await?;
        if discovered.capabilities.get(kind.capability()).is_none() {
            return Ok(None);
        }
        let mut listed = self.upstreams.list(target, kind, profile).await?;
        if let Some(info) = &discovered.server_info {
            // Modern results name their server; a legacy one said it at the start.
            let meta = listed.meta.take().unwrap_or_else(RawJson::empty_object);
            let named = splice::get(&meta, meta_key::SERVER_INFO).is_some();
            listed.meta = Some(if named { meta } else { splice::set(&meta, meta_key::SERVER_INFO, info) });
        }
        Ok(Some(listed))
    }

    async fn keep(
        &self,
        spec: &ServerSpec,
        kind: ListKind,
        listed: Option<ListResult>,
        private_to: Option<Arc<str>>,
        whose: Whose<'_>,
    ) -> Result<Good<List>, ReasonCode> {
        let Some(listed) = listed else {
            return Ok(Good { value: Arc::default(), generation: 0, ttl_ms: None });
        };
        let digest = digest(kind, &listed);
        let content = digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let raw = self.content(digest, kind, listed.items);
        let (mut lists, mut stamp, mut epoch) = (Arc::clone(&raw), 0, 0);
        if let Some(registry) = self.registry() {
            // Before the judgement, so that what is decided meanwhile is noticed.
            epoch = registry.epoch();
            let judged = registry.judge(spec, catalog_kind(kind), &raw, whose).await;
            let judged = judged.map_err(|error| unjudged(spec, &error))?;
            (lists, stamp) = (judged.lists, judged.stamp);
        }
        let (meta, ttl_ms, era) = (listed.meta, listed.ttl_ms, Some(listed.era));
        let list = List { lists, raw, content, epoch, offered: true, meta, ttl_ms, era, private_to };
        Ok(Good { value: Arc::new(list), generation: content.wrapping_add(stamp), ttl_ms })
    }

    /// The items of equal lists, once.
    fn content(&self, digest: [u8; 32], kind: ListKind, items: Vec<RawJson>) -> Arc<ServerLists> {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = contents.get(&digest).and_then(Weak::upgrade) {
            return known;
        }
        if contents.len() >= MANY {
            contents.retain(|_, lists| lists.strong_count() > 0);
        }
        let lists = Arc::new(ServerLists::parse(catalog_kind(kind), items));
        contents.insert(digest, Arc::downgrade(&lists));
        lists
    }

    /// Drops all lists of one kind of a server, whoever asked for them.
    pub(crate) fn changed(&self, server: &ServerId, kind: ListKind) {
        self.statuses.changed(server);
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        for (key, slot) in slots.iter() {
            // A change of resources is told once for resources and templates.
            let same = key.kind == kind || (kind == ListKind::Resources && key.kind == ListKind::Templates);
            if key.server == *server && same {
                slot.invalidate();
            }
        }
    }
}

#[cfg(test)]
impl Lists {
    /// The capabilities lists are kept for.
    pub(crate) fn keys(&self) -> Vec<RawJson> {
        self.slots.read().unwrap().keys().map(|key| key.capabilities.clone()).collect()
    }
}

impl Lists {
    /// Drops all lists of a server.
    pub(crate) fn all_changed(&self, server: &ServerId) {
        for kind in ListKind::ALL {
            self.changed(server, kind);
        }
    }
}

/// Forgets lists that nobody asked for lately, and at the very least half of them all:
/// a flood of made-up capabilities must not fill the memory.
fn make_room(slots: &mut HashMap<Key, Arc<Slot<List>>>, now_ms: i64) {
    let mut used: Vec<i64> = slots.values().map(|slot| slot.used_ms()).collect();
    used.sort_unstable();
    let median = used.get(used.len() / 2).copied().unwrap_or(now_ms);
    let idle = now_ms.saturating_sub(IDLE_MS);
    let oldest = if used.first().is_some_and(|first| *first <= idle) { idle } else { median };
    slots.retain(|_, slot| {
        let keep = slot.used_ms() > oldest;
        if !keep {
            // Views that still hold it must not trust it for ever.
            slot.invalidate();
        }
        keep
    });
}

/// Capabilities as part of a key: long ones by their hash.
pub(crate) fn compact(capabilities: &RawJson) -> RawJson {
    const LONGEST: usize = 512;
    if capabilities.len() <= LONGEST {
        return capabilities.clone();
    }
    let hash = aws_lc_rs::digest::digest(&SHA256, capabilities.as_bytes());
    RawJson::string(&crate::request_state::hex(hash.as_ref()))
}

/// A client that can do everything: servers may offer tools by what a client can do.
pub(crate) fn everything() -> ClientProfile {
    const ALL: &str = r#"{"elicitation":{"form":{},"url":{}},"roots":{"listChanged":true},"sampling":{"tools":{}}}"#;
    let capabilities = RawJson::try_from(ALL).unwrap_or_else(|_| RawJson::empty_object());
    ClientProfile { capabilities, ..ClientProfile::plain(LATEST_LEGACY) }
}

/// A list that nobody can judge is no list: nothing is shown that was not approved.
fn unjudged(spec: &ServerSpec, error: &bartizan_registry::RegistryError) -> ReasonCode {
    tracing::warn!(%error, server = %spec.id, "what a server offers cannot be judged");
    ReasonCode::UpstreamUnavailable
}

fn catalog_kind(kind: ListKind) -> Kind {
    match kind {
        ListKind::Tools => Kind::Tools,
        ListKind::Prompts => Kind::Prompts,
        ListKind::Resources => Kind::Resources,
        ListKind::Templates => Kind::Templates,
    }
}

fn digest(kind: ListKind, listed: &ListResult) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(kind.method().as_bytes());
    hash.update(&[u8::from(listed.era == Era::Modern)]);
    for item in listed.items.iter().chain(listed.meta.as_ref()) {
        hash.update(&u64::try_from(item.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(item.as_bytes());
    }
    let mut out = [0; 32];
    out.copy_from_slice(hash.finish().as_ref());
    out
}
