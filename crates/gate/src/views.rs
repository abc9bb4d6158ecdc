//! What one caller sees, compiled once and kept as long as nothing it was made from
//! changes. A call only needs the servers its name can belong to, so a slow server
//! never holds up a call to another one.

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use bartizan_catalog::{Kind, ServerSpec, Snapshot, View};
use bartizan_config::resources::ServerStatus;
use bartizan_model::{Era, Principal, ServerId};
use bartizan_upstream::ListKind;
use bartizan_wire::RawJson;
use futures_util::future::join_all;

use crate::call::{Caller, Circumstances, Endpoint};
use crate::gate::{Inner, may_use};
use crate::kills::Active;
use crate::listing::RenderedByEra;
use crate::lists::{Asker, List, compact};
use crate::slot::{Fetched, Need, Outcome, Slot};

/// Size of all kept views at most, KiB.
const MAX_KIB: u64 = 512 << 10;
/// Locks that keep a view from being made twice at once.
const STRIPES: usize = 64;
/// A view nobody used in this time is forgotten, seconds.
const IDLE_S: u64 = 15 * 60;

/// Everything that can make one view different from another. Circumstances that no
/// policy looks at are left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    endpoint: Endpoint,
    principal: Arc<Principal>,
    /// Servers that the caller switched off.
    off: crate::toggles::Off,
    snapshot: u64,
    kind: ListKind,
    /// Only what reads.
    reads_only: bool,
    /// Servers and tools that a kill switch stops.
    kills: u64,
    /// None for all servers of the endpoint.
    servers: Option<Box<[usize]>>,
    capabilities: RawJson,
    ip: Option<IpAddr>,
    client: Option<Arc<str>>,
    client_version: Option<Arc<str>>,
    era: Option<Era>,
    circumstances: Option<Circumstances>,
}

/// One server's part of a view.
pub(crate) struct Part {
    pub(crate) spec: Arc<ServerSpec>,
    slot: Arc<Slot<List>>,
    pub(crate) fetched: Arc<Fetched<List>>,
}

impl Part {
    fn holds(&self, need: Need, now_ms: i64) -> bool {
        self.slot.holds(self.fetched.generation, need, now_ms)
    }
}

/// A view with what it was made from.
pub(crate) struct Seen {
    pub(crate) view: View,
    parts: Vec<Part>,
    valid_until_ms: i64,
    /// Equal versions do not make equal snapshots: secrets are not part of a version.
    snapshot: Weak<Snapshot>,
    pub(crate) on_portal: bool,
    /// Some result may be given in pages (P52).
    pub(crate) gives_pages: bool,
    kib: u32,
    /// Items as they go to clients, made when first listed.
    pub(crate) by_era: RenderedByEra,
}

impl Seen {
    fn holds(&self, wanted: &Wanted<'_>, now_ms: i64) -> bool {
        self.is_current(wanted, now_ms) && self.parts.iter().all(|part| part.holds(wanted.need, now_ms))
    }

    /// A view of more servers that is good for these.
    fn serves(&self, wanted: &Wanted<'_>, now_ms: i64) -> bool {
        let among = |part: &&Part| wanted.servers.iter().any(|spec| spec.id == part.spec.id);
        self.is_of(wanted, now_ms) && self.parts.iter().filter(among).all(|part| part.holds(wanted.need, now_ms))
    }

    fn is_of(&self, wanted: &Wanted<'_>, now_ms: i64) -> bool {
        self.valid_until_ms > now_ms && std::ptr::eq(self.snapshot.as_ptr(), Arc::as_ptr(wanted.snapshot))
    }

    /// Made from what is known now, however old that is.
    fn is_current(&self, wanted: &Wanted<'_>, now_ms: i64) -> bool {
        self.is_of(wanted, now_ms) && self.parts.iter().all(|part| part.slot.is_at(part.fetched.generation))
    }

    /// The servers it was made from.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// True when no server has anything of the kind and at least one did not answer.
    pub(crate) fn is_empty_for_lack_of_answers(&self) -> bool {
        self.parts.iter().any(|part| matches!(part.fetched.outcome, Outcome::Error(_)))
    }

    /// False when every server answered and none has the kind at all.
    pub(crate) fn offers_anything(&self) -> bool {
        self.parts.iter().any(|part| part.fetched.value.offered || part.fetched.outcome != Outcome::Ok)
    }

    /// How long a client may keep the list, milliseconds: the shortest of all servers,
    /// nothing for servers that do not say.
    pub(crate) fn ttl_ms(&self, now_ms: i64) -> i64 {
        let left = |part: &Part| match part.fetched.value.ttl_ms {
            Some(_) => part.fetched.fresh_until_ms.saturating_sub(now_ms).max(0),
            None => 0,
        };
        self.parts.iter().map(left).min().unwrap_or(0)
    }

    /// The servers with how they did lately.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (&Part, Outcome)> {
        self.parts.iter().map(|part| {
            let latest = part.slot.peek();
            (part, latest.map_or_else(|| part.fetched.outcome.clone(), |latest| latest.outcome.clone()))
        })
    }
}

/// All kept views.
pub(crate) struct Views {
    kept: moka::sync::Cache<Key, Arc<Seen>>,
    making: Vec<tokio::sync::Mutex<()>>,
    hasher: std::hash::RandomState,
}

/// What a view is wanted of.
pub(crate) struct Wanted<'a> {
    pub(crate) snapshot: &'a Arc<Snapshot>,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) caller: &'a Caller,
    pub(crate) kind: ListKind,
    pub(crate) need: Need,
    /// The servers it may be made of, in the order of the endpoint.
    pub(crate) servers: &'a [Arc<ServerSpec>],
    /// Whether these are all servers of the endpoint.
    pub(crate) whole: bool,
    /// Only what reads, for lists of who wants no more. A call that wants more is told so.
    pub(crate) reads_only: bool,
    /// What is stopped.
    pub(crate) kills: Arc<Active>,
}

impl Views {
    /// None yet.
    pub(crate) fn new() -> Self {
        let kept = moka::sync::Cache::builder()
            .weigher(|_: &Key, seen: &Arc<Seen>| seen.kib)
            .max_capacity(MAX_KIB)
            .time_to_idle(std::time::Duration::from_secs(IDLE_S))
            .build();
        let making = std::iter::repeat_with(tokio::sync::Mutex::default).take(STRIPES).collect();
        Self { kept, making, hasher: std::hash::RandomState::new() }
    }

    fn stripe(&self, key: &Key) -> Option<&tokio::sync::Mutex<()>> {
        let at = usize::try_from(self.hasher.hash_one(key)).unwrap_or(usize::MAX) % STRIPES;
        self.making.get(at)
    }

    /// The view, from the cache when nothing changed.
    pub(crate) async fn get(&self, gate: &Arc<Inner>, wanted: &Wanted<'_>, now_ms: i64) -> Arc<Seen> {
        let key = wanted.key(gate);
        match self.kept.get(&key) {
            Some(seen) if seen.holds(wanted, now_ms) => seen,
            _ => self.whole(gate, wanted, key, now_ms).await,
        }
    }

    /// The view for one name, of which `owner` says whose it is. What is known of the
    /// other servers is enough, however old; it is renewed behind.
    pub(crate) async fn get_for(
        &self,
        gate: &Arc<Inner>,
        wanted: &Wanted<'_>,
        now_ms: i64,
        owner: impl Fn(&View) -> Option<ServerId>,
    ) -> Arc<Seen> {
        // Who calls has mostly listed before.
        if let Some(seen) = self.kept.get(&wanted.whole_key(gate))
            && seen.serves(wanted, now_ms)
        {
            return seen;
        }
        let key = wanted.key(gate);
        let cached = self.kept.get(&key);
        if let Some(seen) = &cached
            && seen.holds(wanted, now_ms)
        {
            return Arc::clone(seen);
        }
        if wanted.servers.len() > 1 {
            let mut known = cached.filter(|seen| seen.is_current(wanted, now_ms));
            // Twice: the owner's list may turn out to have changed.
            for _ in 0..2 {
                let Some(seen) = known.or_else(|| self.as_known(gate, wanted, &key, now_ms)) else { break };
                let Some(server) = owner(&seen.view) else { break };
                let Some(part) = seen.parts.iter().find(|part| part.spec.id == server) else { break };
                if !part.holds(wanted.need, now_ms) {
                    gate.lists.get(wanted.need, &part.spec, wanted.kind, wanted.asker()).await;
                }
                if part.slot.is_at(part.fetched.generation) {
                    for other in seen.parts.iter().filter(|other| !other.holds(wanted.need, now_ms)) {
                        gate.lists.renew(&other.spec, wanted.kind, wanted.asker());
                    }
                    return seen;
                }
                known = None;
            }
        }
        self.whole(gate, wanted, key, now_ms).await
    }

    async fn whole(&self, gate: &Arc<Inner>, wanted: &Wanted<'_>, key: Key, now_ms: i64) -> Arc<Seen> {
        let parts = join_all(wanted.usable(now_ms).map(|spec| async {
            let (slot, fetched) = gate.lists.get(wanted.need, spec, wanted.kind, wanted.asker()).await;
            Part { spec: Arc::clone(spec), slot, fetched }
        }))
        .await;
        let _making = match self.stripe(&key) {
            Some(stripe) => Some(stripe.lock().await),
            None => None,
        };
        // Somebody else may have made it meanwhile.
        if let Some(seen) = self.kept.get(&key)
            && seen.holds(wanted, gate.clock.now_ms())
        {
            return seen;
        }
        let seen = Arc::new(wanted.build(parts, now_ms));
        self.kept.insert(key, Arc::clone(&seen));
        seen
    }

    /// From whatever is known; nothing when a server was never asked.
    fn as_known(&self, gate: &Inner, wanted: &Wanted<'_>, key: &Key, now_ms: i64) -> Option<Arc<Seen>> {
        let parts = wanted
            .usable(now_ms)
            .map(|spec| {
                let (slot, fetched) = gate.lists.known(spec, wanted.kind, wanted.asker())?;
                Some(Part { spec: Arc::clone(spec), slot, fetched })
            })
            .collect::<Option<Vec<_>>>()?;
        let seen = Arc::new(wanted.build(parts, now_ms));
        self.kept.insert(key.clone(), Arc::clone(&seen));
        Some(seen)
    }
}

/// What a view takes, roughly: its items twice (as they are, and as one list), and
/// what is kept about each.
fn kib(view: &View) -> u32 {
    const EACH: usize = 256;
    let kinds = [Kind::Tools, Kind::Prompts, Kind::Resources, Kind::Templates];
    let bytes: usize = kinds.iter().flat_map(|kind| view.items(*kind)).map(|item| 2 * item.len() + EACH).sum();
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}

impl Wanted<'_> {
    fn asker(&self) -> Asker<'_> {
        Asker { principal: &self.caller.principal, profile: &self.caller.profile }
    }

    /// The servers that are on and that the caller may use at all; others are not
    /// contacted on the caller's behalf.
    fn usable(&self, now_ms: i64) -> impl Iterator<Item = &Arc<ServerSpec>> {
        self.servers.iter().filter(move |spec| {
            spec.status == ServerStatus::Enabled
                && !self.kills.hides_server(&spec.id, now_ms)
                && !self.is_off(spec)
                && may_use(self.snapshot, self.endpoint, self.caller, spec, now_ms)
        })
    }

    /// Whether the caller switched it off (P36). A server's own endpoint has no switches.
    fn is_off(&self, spec: &ServerSpec) -> bool {
        self.caller.selection.off.contains(&spec.id) && self.endpoint.portal().is_some()
    }

    /// Key of the view of exactly these servers.
    fn key(&self, gate: &Inner) -> Key {
        // The endpoint of one server has no parts.
        let whole = self.whole || matches!(self.endpoint, Endpoint::Server(_));
        let servers = (!whole).then(|| self.servers.iter().map(|spec| spec.position).collect());
        Key { servers, ..self.whole_key(gate) }
    }

    /// Key of the view of all servers.
    fn whole_key(&self, gate: &Inner) -> Key {
        let used = self.snapshot.policies.context_use();
        let caller = self.caller;
        Key {
            endpoint: self.endpoint.clone(),
            principal: Arc::clone(&caller.principal),
            off: Arc::clone(&caller.selection.off),
            snapshot: self.snapshot.version,
            kind: self.kind,
            reads_only: self.reads_only,
            kills: self.kills.view_key(),
            servers: None,
            capabilities: compact(&caller.profile.capabilities),
            ip: caller.ip.filter(|_| used.ip),
            client: caller.client.clone().filter(|_| used.client),
            client_version: caller.client_version.clone().filter(|_| used.client_version),
            era: used.era.then_some(caller.profile.era),
            circumstances: gate.facts_key(self.snapshot, &caller.circumstances),
        }
    }

    fn gives_pages(&self) -> bool {
        let portal = self.endpoint.portal().and_then(|id| self.snapshot.portals.get(id));
        portal.is_some_and(|portal| portal.servers.iter().any(|server| server.gives_pages(portal)))
    }

    fn build(&self, parts: Vec<Part>, now_ms: i64) -> Seen {
        let lists: Vec<_> =
            parts.iter().map(|part| (Arc::clone(&part.spec), Arc::clone(&part.fetched.value.lists))).collect();
        let context = self.caller.context(now_ms);
        let view = View::build(self.snapshot, self.endpoint.portal(), &self.caller.principal, &context, &lists);
        let view = if self.reads_only { view.with_tools(|tool| !tool.class.needs_grant()) } else { view };
        let view = if self.kills.hides() {
            view.with_tools(|tool| !self.kills.hides_tool(&tool.server.id, &tool.def.name, now_ms))
        } else {
            view
        };
        // Time alone changes what is seen.
        let valid_until_ms = self.snapshot.policies.holds_until_ms(&context).unwrap_or(i64::MAX);
        Seen {
            kib: kib(&view),
            view,
            parts,
            valid_until_ms,
            snapshot: Arc::downgrade(self.snapshot),
            on_portal: self.endpoint.portal().is_some(),
            gives_pages: self.gives_pages(),
            by_era: RenderedByEra::default(),
        }
    }
}
