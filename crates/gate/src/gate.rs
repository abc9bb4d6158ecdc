//! The gate itself: what it is made of, and its front doors.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bartizan_accounts::Accounts;
use bartizan_audit::Audit;
use bartizan_catalog::{ServerSpec, Snapshot, Transport};
use bartizan_config::resources::ServerStatus;
use bartizan_config::settings::WireLimits;
use bartizan_model::{Clock, PortalId, Principal, PrincipalKind, ReasonCode, ServerId, ToolClass};
use bartizan_policy::{Action, Query, RequestContext};
use bartizan_registry::Registry;
use bartizan_store::Store;
use bartizan_telemetry::Metrics;
use bartizan_upstream::{ListKind, Upstreams};
use bartizan_vault::HandleSealer;
use bartizan_wire::RawJson;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{AccessCache, Asker};
use crate::call::{CallHandle, CallReply, Caller, Circumstances, Endpoint, GovernedCall};
use crate::discover::{self, Discovery};
use crate::explain::{self, StageVerdict};
use crate::kills::Kills;
use crate::limits::Limiter;
use crate::listing::{self, ListCall};
use crate::lists::Lists;
use crate::park::Parks;
use crate::personal::Personal;
use crate::portal_tools::ServerLine;
use crate::replays::Replays;
use crate::run;
use crate::status::{self, ErrorDetails, ServerState, StateChange, Statuses};
use crate::step_up::{Door, StepUps};
use crate::subscribe::{self, Hubs, Subscription};
use crate::toggles::PortalStates;
use crate::views::Views;

/// What a gate is made of.
pub struct GateDeps {
    /// The current snapshot; swapped by whoever reloads the configuration, who then
    /// calls [`Gate::snapshot_changed`].
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The way out.
    pub upstreams: Upstreams,
    /// The record.
    pub audit: Audit,
    /// Seals request states and cursors.
    pub handles: HandleSealer,
    /// Where all replicas note which request states were used. Without one, single use
    /// holds for this process only.
    pub store: Option<Store>,
    /// Sizes and times.
    pub limits: WireLimits,
    /// Counters.
    pub metrics: Metrics,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Name of this node: parked calls live here only.
    pub node: Arc<str>,
}

pub(crate) struct Inner {
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) upstreams: Upstreams,
    pub(crate) personal: Personal,
    pub(crate) step_ups: Door,
    pub(crate) approvals: std::sync::OnceLock<bartizan_approvals::Approvals>,
    pub(crate) audit: Audit,
    pub(crate) handles: HandleSealer,
    pub(crate) limits: WireLimits,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) node: Arc<str>,
    pub(crate) limiter: Limiter,
    pub(crate) lists: Arc<Lists>,
    pub(crate) statuses: Arc<Statuses>,
    pub(crate) views: Views,
    /// What all replicas share.
    pub(crate) store: Option<Store>,
    pub(crate) states: PortalStates,
    pub(crate) kills: Kills,
    /// Where pages are, once there are some.
    pub(crate) page_base: std::sync::OnceLock<Arc<str>>,
    /// Keeps arguments and results (L3).
    pub(crate) bodies: std::sync::OnceLock<bartizan_audit::Bodies>,
    pub(crate) parks: Parks,
    pub(crate) replays: Replays,
    pub(crate) hubs: Hubs,
    pub(crate) access: AccessCache,
    /// Everything that runs.
    pub(crate) tasks: TaskTracker,
    /// Calls among it.
    pub(crate) calls: AtomicUsize,
    /// Fires when parked calls must end.
    pub(crate) closing: CancellationToken,
    /// Switches for tests.
    #[cfg(any(test, feature = "sabotage"))]
    pub(crate) sabotage: crate::sabotage::Sabotage,
}

/// Whether a principal may use an endpoint at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Yes.
    Allowed,
    /// It exists, and no.
    Denied,
    /// It does not exist.
    Unknown,
}

/// The one place where calls are decided and forwarded. Cheap to clone.
#[derive(Clone)]
pub struct Gate(pub(crate) Arc<Inner>);

impl Gate {
    /// Puts a gate together.
    pub fn new(deps: GateDeps) -> Self {
        let tasks = TaskTracker::new();
        let deadline = Duration::from_millis(deps.limits.list_ms);
        let personal = Personal::default();
        let statuses = Arc::new(Statuses::default());
        let lists = Lists::new(
            deps.upstreams.clone(),
            personal.clone(),
            Arc::clone(&statuses),
            deadline,
            Arc::clone(&deps.clock),
            tasks.clone(),
        );
        let gate = Self(Arc::new(Inner {
            limiter: Limiter::new(Arc::clone(&deps.clock)),
            lists: Arc::new(lists),
            statuses,
            views: Views::new(),
            page_base: std::sync::OnceLock::new(),
            bodies: std::sync::OnceLock::new(),
            states: PortalStates::new(deps.store.clone(), Arc::clone(&deps.clock)),
            kills: Kills::new(deps.store.clone(), Arc::clone(&deps.clock)),
            parks: Parks::default(),
            replays: Replays::new(deps.store.clone()),
            store: deps.store,
            hubs: Hubs::new(),
            access: AccessCache::default(),
            tasks,
            calls: AtomicUsize::new(0),
            closing: CancellationToken::new(),
            #[cfg(any(test, feature = "sabotage"))]
            sabotage: crate::sabotage::Sabotage::default(),
            snapshot: deps.snapshot,
            upstreams: deps.upstreams,
            personal,
            step_ups: Door::default(),
            approvals: std::sync::OnceLock::new(),
            audit: deps.audit,
            handles: deps.handles,
            limits: deps.limits,
            metrics: deps.metrics,
            clock: deps.clock,
            node: deps.node,
        }));
        let weak = Arc::downgrade(&gate.0);
        gate.0.kills.on_change(move || {
            // Lists are different now, and whoever listens is told.
            if let Some(gate) = weak.upgrade() {
                gate.hubs.snapshot_changed();
            }
        });
        gate
    }

    /// Gives the gate the accounts that people have at servers. Without them every server
    /// that needs one refuses.
    #[must_use]
    pub fn with_accounts(self, accounts: Accounts) -> Self {
        self.0.personal.set(accounts);
        self
    }

    /// Gives the gate what keeps arguments and results. Without it none are kept (L3).
    #[must_use]
    pub fn with_bodies(self, bodies: bartizan_audit::Bodies) -> Self {
        // The first one stays.
        let _ = self.0.bodies.set(bodies);
        self
    }

    /// Tells the gate where the pages for people are: the public URL. Without them nobody is
    /// sent to the selection page.
    #[must_use]
    pub fn with_selection_page(self, public_url: &str) -> Self {
        // The first one stays.
        let _ = self.0.page_base.set(public_url.trim_end_matches('/').into());
        self
    }

    /// What is stopped (G24).
    pub fn kills(&self) -> &Kills {
        &self.0.kills
    }

    /// Gives the gate what is approved of what servers offer (P44). Every process that serves
    /// people does this first; without it lists are taken as they come.
    #[must_use]
    pub fn with_registry(self, registry: Registry) -> Self {
        let weak = Arc::downgrade(&self.0);
        registry.on_change(move |server| {
            if let Some(gate) = weak.upgrade() {
                gate.decided(server);
            }
        });
        self.0.lists.judge_by(registry);
        self
    }

    /// Asks a server for all it offers, now, and puts it on record (P53). How many definitions
    /// there were; `None` for a server that is off, or that people only go to as themselves.
    ///
    /// # Errors
    /// Why the server could not be asked. What was known of it stays.
    pub async fn sync(&self, server: &ServerId) -> Result<Option<usize>, ReasonCode> {
        self.0.sync(server).await
    }

    /// Sessions of legacy clients and what is switched off.
    pub fn states(&self) -> &PortalStates {
        &self.0.states
    }

    /// Name of this process.
    pub fn node(&self) -> &Arc<str> {
        &self.0.node
    }

    /// Seals what clients carry for the portal.
    pub fn handles(&self) -> &HandleSealer {
        &self.0.handles
    }

    /// Gives the gate the links by which people add to their grants. Without them whoever
    /// lacks a second factor or a purpose is refused.
    #[must_use]
    pub fn with_step_ups(self, step_ups: Arc<dyn StepUps>) -> Self {
        self.0.step_ups.set(step_ups);
        self
    }

    /// Gives the gate the approvals. Without them every call that somebody must approve is refused.
    #[must_use]
    pub fn with_approvals(self, approvals: bartizan_approvals::Approvals) -> Self {
        // The first ones stay.
        let _ = self.0.approvals.set(approvals);
        self
    }

    /// Starts a governed call in a task of its own.
    pub fn call(&self, call: GovernedCall) -> CallHandle {
        run::start(&self.0, call)
    }

    /// Answers a list with everything the caller may see. Recorded like a call, also
    /// when the caller leaves before the end.
    ///
    /// # Errors
    /// What to answer instead of a list.
    pub async fn list(&self, call: ListCall) -> Result<RawJson, CallReply> {
        listing::run(&self.0, call).await
    }

    /// What the endpoint can do for the caller: the result of `initialize` (legacy) or
    /// `server/discover` (modern).
    ///
    /// # Errors
    /// What to answer instead.
    pub async fn discover(&self, endpoint: &Endpoint, caller: &Caller) -> Result<Discovery, CallReply> {
        discover::run(&self.0, endpoint, caller).await
    }

    /// Listens on behalf of a caller until the subscription is dropped.
    ///
    /// # Errors
    /// What to answer instead.
    pub async fn subscribe(
        &self,
        endpoint: &Endpoint,
        caller: &Caller,
        filter: bartizan_wire::listen::Filter,
    ) -> Result<Subscription, CallReply> {
        subscribe::open(&self.0, endpoint, caller, filter).await
    }

    /// What each stage would say to a call, without counting, recording or forwarding
    /// it (U6).
    pub async fn explain(&self, call: GovernedCall) -> Vec<StageVerdict> {
        explain::run(&self.0, call).await
    }

    /// Whether a principal may use an endpoint at all, for 401 and 404 before anything
    /// is read. The era is not known yet; rules about it are asked with the call.
    pub fn visible_endpoint(
        &self,
        principal: &Arc<Principal>,
        endpoint: &Endpoint,
        ip: Option<IpAddr>,
        circumstances: &Circumstances,
    ) -> Access {
        let snapshot = self.0.snapshot.load();
        let facts = self.0.facts_key(&snapshot, circumstances);
        let asker = Asker { principal, endpoint, ip, circumstances };
        self.0.access.get(&snapshot, &asker, facts, self.0.clock.now_ms())
    }

    /// The portal that has a host name of its own (P1).
    pub fn portal_by_hostname(&self, host: &str) -> Option<PortalId> {
        let snapshot = self.0.snapshot.load();
        snapshot.portal_hosts.get(&*host.to_ascii_lowercase()).map(|portal| portal.id.clone())
    }

    /// The servers of a portal that the caller may use, as `portal_list_servers` shows
    /// them.
    pub fn servers_status(&self, caller: &Caller, portal: &PortalId) -> Vec<ServerLine> {
        let now_ms = self.0.clock.now_ms();
        self.0.server_lines(&self.0.snapshot.load(), caller, Some(portal), now_ms)
    }

    /// How a server does (P23).
    pub fn server_state(&self, spec: &ServerSpec) -> (ServerState, Option<ErrorDetails>) {
        self.0.statuses.of(spec)
    }

    /// Puts changes of servers' states on record, one event per change that lasted. To be
    /// called now and then. Returns how many there were.
    pub async fn announce_states(&self) -> Vec<StateChange> {
        let (snapshot, now_ms) = (self.0.snapshot.load_full(), self.0.clock.now_ms());
        let news = self.0.statuses.news(snapshot.order.iter().map(|spec| &**spec), now_ms);
        let mut changes = Vec::with_capacity(news.len());
        for change in news {
            let (server, from, to, details) = change.clone();
            let event = status::event(change, now_ms, snapshot.version);
            let details = details.map(|details| details.outward());
            changes.push(StateChange { server, from, to, details, event_id: event.id });
            if let Err(error) = self.0.audit.append(event).await {
                tracing::error!(%error, "a change of a server's state is not on record");
            }
        }
        changes
    }

    /// Tells subscribers that lists may have changed. To be called after the snapshot
    /// was swapped.
    pub fn snapshot_changed(&self) {
        for spec in &self.0.snapshot.load().order {
            // How lists are judged is among the settings.
            self.0.lists.decided(spec);
        }
        self.0.hubs.snapshot_changed();
    }

    /// Calls that run or are parked.
    pub fn running(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed) + self.0.parks.len()
    }

    /// Everything the gate still does: calls, lists being fetched, listeners.
    #[cfg(test)]
    pub(crate) fn tasks(&self) -> usize {
        self.0.tasks.len()
    }

    /// Waits for running calls; parked ones end at once, and are recorded. False when
    /// the time was not enough.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.0.closing.cancel();
        self.0.tasks.close();
        tokio::time::timeout(deadline, self.0.tasks.wait()).await.is_ok()
    }

    /// The switches for tests.
    #[cfg(any(test, feature = "sabotage"))]
    pub fn sabotage(&self) -> &crate::sabotage::Sabotage {
        &self.0.sabotage
    }
}

/// The decision about an endpoint as such.
pub(crate) fn access(
    snapshot: &Snapshot,
    principal: &Principal,
    endpoint: &Endpoint,
    context: &RequestContext<'_>,
) -> Access {
    let (known, action) = match endpoint {
        Endpoint::Portal(id) => (snapshot.portals.contains_key(id), Action::UsePortal),
        Endpoint::Server(id) => (snapshot.servers.contains_key(id), Action::UseServer),
    };
    if !known {
        return Access::Unknown;
    }
    let server = match endpoint {
        Endpoint::Portal(_) => None,
        Endpoint::Server(id) => Some(id),
    };
    let decision = snapshot.policies.list_decision(&Query {
        principal,
        action,
        portal: endpoint.portal(),
        server,
        name: "",
        class: ToolClass::Read,
        context,
        args: None,
    });
    if decision.allow { Access::Allowed } else { Access::Denied }
}

/// Whether a caller may use a server of an endpoint at all.
pub(crate) fn may_use(
    snapshot: &Snapshot,
    endpoint: &Endpoint,
    caller: &Caller,
    spec: &ServerSpec,
    now_ms: i64,
) -> bool {
    let query = Query {
        principal: &caller.principal,
        action: Action::UseServer,
        portal: endpoint.portal(),
        server: Some(&spec.id),
        name: "",
        class: ToolClass::Read,
        context: &caller.context(now_ms),
        args: None,
    };
    let portal = endpoint.portal().and_then(|id| snapshot.portals.get(id));
    let opens = portal.is_none_or(|portal| portal.opens(&spec.id, &caller.principal));
    opens && snapshot.policies.list_decision(&query).allow
}

impl Caller {
    /// What policies may look at.
    pub(crate) fn context(&self, now_ms: i64) -> RequestContext<'_> {
        RequestContext {
            era: self.profile.era,
            ip: self.ip,
            client: self.client.as_deref(),
            client_version: self.client_version.as_deref(),
            session: Some(self.circumstances.session()),
            now_ms,
        }
    }
}

impl Inner {
    /// Something was decided about what a server offers.
    fn decided(&self, server: &ServerId) {
        let snapshot = self.snapshot.load();
        if snapshot.servers.get(server).is_some_and(|spec| self.lists.decided(spec)) {
            self.hubs.snapshot_changed();
        }
    }

    async fn sync(&self, server: &ServerId) -> Result<Option<usize>, ReasonCode> {
        let snapshot = self.snapshot.load_full();
        let Some(spec) = snapshot.servers.get(server) else { return Ok(None) };
        // A process per person is not started for nobody.
        let own = matches!(spec.transport, Transport::Stdio { shared: false, .. });
        if spec.status != ServerStatus::Enabled || own || crate::personal::is_personal(spec) {
            return Ok(None);
        }
        let principal = Arc::new(Principal::new(PrincipalKind::Service, "bartizan-sync", []));
        let profile = Arc::new(crate::lists::everything());
        let asker = crate::lists::Asker { principal: &principal, profile: &profile };
        self.lists.sync(spec, asker).await.map(Some)
    }

    /// The part of a cache key that facts of the caller's session are, where rules look at them.
    pub(crate) fn facts_key(&self, snapshot: &Snapshot, circumstances: &Circumstances) -> Option<Circumstances> {
        #[cfg(any(test, feature = "sabotage"))]
        if self.sabotage.forgets_facts() {
            return None;
        }
        snapshot.policies.context_use().session.then(|| circumstances.key())
    }

    /// The servers behind an endpoint that a caller may use, in the order of lists,
    /// whatever their status.
    pub(crate) fn servers_for(
        &self,
        snapshot: &Snapshot,
        endpoint: &Endpoint,
        caller: &Caller,
        now_ms: i64,
    ) -> Vec<Arc<ServerSpec>> {
        let usable = |spec: &&Arc<ServerSpec>| may_use(snapshot, endpoint, caller, spec, now_ms);
        match endpoint {
            Endpoint::Server(id) => snapshot.servers.get(id).into_iter().filter(usable).cloned().collect(),
            Endpoint::Portal(id) => {
                let portal = snapshot.portals.get(id);
                portal.iter().flat_map(|portal| &portal.servers).filter(usable).cloned().collect()
            }
        }
    }

    /// Whether a server is on now: switched on, and not stopped (G24).
    pub(crate) fn is_on(&self, spec: &ServerSpec, now_ms: i64) -> bool {
        spec.status == ServerStatus::Enabled && !self.kills.known().hides_server(&spec.id, now_ms)
    }

    /// Lines of `portal_list_servers`.
    pub(crate) fn server_lines(
        &self,
        snapshot: &Snapshot,
        caller: &Caller,
        portal: Option<&PortalId>,
        now_ms: i64,
    ) -> Vec<ServerLine> {
        let Some(portal) = portal else { return Vec::new() };
        let health = self.upstreams.status();
        let servers = self.servers_for(snapshot, &Endpoint::Portal(portal.clone()), caller, now_ms);
        let line = |spec: &Arc<ServerSpec>| {
            let known = health.iter().find(|health| health.server == spec.id);
            let (state, details) = self.statuses.of(spec);
            let killed = (!self.is_on(spec, now_ms)).then_some("killed");
            let status = match (ServerLine::off(spec.status).or(killed), known) {
                (Some(off), _) => off,
                _ if state != ServerState::Waiting => state.word(),
                (None, None) => "waiting",
                (None, Some(health)) if health.circuit != "closed" => "error",
                (None, Some(health)) if health.era.is_none() => "waiting",
                (None, Some(_)) => "ready",
            };
            ServerLine {
                id: spec.id.clone(),
                name: spec.name.to_string(),
                on: self.is_on(spec, now_ms) && !caller.selection.off.contains(&spec.id),
                status: if caller.selection.off.contains(&spec.id) && self.is_on(spec, now_ms) {
                    "off"
                } else {
                    status
                },
                url: None,
                error_details: details.map(|details| details.outward()),
            }
        };
        servers.iter().map(line).collect()
    }

    /// A notification on a call's stream that concerns more than the call: true when it
    /// is dealt with.
    pub(crate) fn heard(&self, spec: &ServerSpec, method: &str) -> bool {
        let kind = match method {
            "notifications/tools/list_changed" => ListKind::Tools,
            "notifications/prompts/list_changed" => ListKind::Prompts,
            "notifications/resources/list_changed" => ListKind::Resources,
            _ => return false,
        };
        self.lists.changed(&spec.id, kind);
        true
    }
}
