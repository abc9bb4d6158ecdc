//! The parts of a running process, put together.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bartizan_accounts::{Accounts, AccountsDeps};
use bartizan_admin::Base;
use bartizan_alerts::{Alerts, AlertsDeps, OwnerNotice};
use bartizan_approvals::{Approvals, ApprovalsDeps};
use bartizan_assert::{Signer, SignerDeps};
use bartizan_audit::{Audit, Options};
use bartizan_catalog::{ServerSpec, Snapshot, Transport};
use bartizan_config::Live;
use bartizan_config::settings::File;
use bartizan_egress::Egress;
use bartizan_gate::{Gate, GateDeps};
use bartizan_identity::{DemoUser, Identity, StepUps};
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{Clock, EventId, Principal, PrincipalKind, Secret};
use bartizan_oauth::jwt::SigningAlg;
use bartizan_portal::{Check, Countries, Drain, Ops, OpsDeps, Phase, Portal, PortalDeps, Settings};
use bartizan_registry::{Registry, RegistryDeps};
use bartizan_store::Store;
use bartizan_telemetry::Metrics;
use bartizan_tls::PublicTls;
use bartizan_upstream::{ServerHealth, UpstreamDeps, Upstreams};
use bartizan_vault::{KeyRing, Vault};
use tokio_util::task::TaskTracker;

use crate::admin::Objects;
use crate::areas::{AreaDeps, areas};
use crate::figures::{self, Exporter};
use crate::output::Failure;
use crate::record::Behind;
use crate::sign_in::{self, People, SignInDeps};
use crate::state::{self, State};
use crate::step_up::Links;
use crate::transport;

/// What a process is made of.
pub(crate) struct NodeInput {
    pub(crate) file: File,
    pub(crate) snapshot: Snapshot,
    /// What the files say, for what the store says beside them.
    pub(crate) base: Base,
    pub(crate) store: Store,
    pub(crate) keys: KeyRing,
    pub(crate) audit_dir: PathBuf,
    /// Where the process describes itself.
    pub(crate) state: PathBuf,
    pub(crate) public_url: String,
    pub(crate) listen: std::net::SocketAddr,
    pub(crate) operations: std::net::SocketAddr,
    /// Only `dev` has some.
    pub(crate) dev_users: Vec<(Principal, Secret<String>)>,
    /// People who sign in without a provider. Only `dev` has some.
    pub(crate) demo_users: Vec<DemoUser>,
    /// Providers and clients, with their secrets.
    pub(crate) people: Arc<People>,
    /// Secrets that must not be in kept bodies of calls.
    pub(crate) masks: Vec<Secret<String>>,
    /// The record's settings, with their secrets.
    pub(crate) record: bartizan_config::settings::Audit,
    /// Alerts, with their secrets.
    pub(crate) alerts: bartizan_config::alerts::Alerts,
    pub(crate) clock: Arc<dyn Clock>,
    /// TLS of the public listener.
    pub(crate) tls: Option<PublicTls>,
    /// Where addresses are.
    pub(crate) countries: Option<Countries>,
}

/// A running process. Cheap to share.
pub(crate) struct Node {
    pub(crate) file: File,
    pub(crate) live: Arc<Live<Snapshot>>,
    pub(crate) gate: Gate,
    /// What is approved of what servers offer; the administration decides through it.
    pub(crate) registry: Registry,
    pub(crate) accounts: Accounts,
    pub(crate) approvals: Approvals,
    pub(crate) portal: Portal,
    pub(crate) ops: Ops,
    pub(crate) drain: Drain,
    pub(crate) audit: Audit,
    /// Checkpoints and sinks.
    pub(crate) behind: Behind,
    pub(crate) alerts: Alerts,
    pub(crate) identity: Arc<Identity>,
    pub(crate) people: Arc<People>,
    /// Events of signing in that are on their way to the record.
    pub(crate) events: TaskTracker,
    pub(crate) upstreams: Upstreams,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    /// The file says other settings than those in use.
    pub(crate) restart_needed: AtomicBool,
    pub(crate) tls: Option<PublicTls>,
    pub(crate) countries: Option<Countries>,
    /// Objects of the store, beside those of the files.
    pub(crate) objects: Arc<Objects>,
    public_url: String,
    listen: String,
    operations: String,
    started_ms: i64,
    state: PathBuf,
}

impl Node {
    /// Puts the parts together; nothing listens yet.
    pub(crate) fn assemble(input: NodeInput) -> Result<Arc<Self>, Failure> {
        let NodeInput { file, snapshot, store, keys, clock, .. } = input;
        let cannot = |code: &'static str| move |error: String| Failure::cannot_run(code, error);
        let connect = Duration::from_millis(file.limits.connect_ms);
        let egress = Egress::new(&file.egress, connect).map_err(|e| cannot("bad_egress")(e.to_string()))?;
        // Client documents come from addresses that anybody names.
        let outside = bartizan_config::settings::Egress { private_allow: Vec::new(), ..file.egress.clone() };
        let documents = Egress::new(&outside, connect).map_err(|e| cannot("bad_egress")(e.to_string()))?;
        let tracer = crate::traces::tracer(file.telemetry.otlp_endpoint.as_deref(), &egress);
        let metrics = Metrics::with_tracer(tracer);
        let collector = egress.client();
        crate::panic::install(metrics.clone());
        let vault = Vault::new(keys).map_err(|e| cannot("bad_key")(e.to_string()))?;
        let (rules, watch) = Alerts::rules();
        let options = Options { watch: Some(watch), ..Options::default() };
        let index = Some(store.clone());
        let audit = Audit::open_with(&input.audit_dir, file.audit.mode, index, Arc::clone(&clock), &options)
            .map_err(|e| cannot("audit_unavailable")(e.to_string()))?;
        let identity = Arc::new(
            Identity::new(store.clone(), Arc::clone(&clock))
                .with_dev_users(input.dev_users)
                .with_providers(input.people.known_provider(!input.demo_users.is_empty(), file.sign_in.break_glass))
                .with_agents(input.people.agents()),
        );
        let live = Arc::new(Live::new(Arc::new(snapshot)));
        let objects = Objects::new(&store, &vault, input.base);
        let engine = objects.engine(audit.clone(), Arc::clone(&clock));
        let upstreams = Upstreams::new(UpstreamDeps {
            egress: egress.clone(),
            limits: file.limits.clone(),
            clock: Arc::clone(&clock),
            child_program: std::env::current_exe().ok(),
            environment: std::env::vars_os().collect(),
        });
        let started_ms = clock.now_ms();
        let alerts = Alerts::new(
            AlertsDeps {
                store: store.clone(),
                egress: egress.clone(),
                clock: Arc::clone(&clock),
                node: EventId::new(started_ms).to_string(),
                installation: input.public_url.clone(),
            },
            rules,
        );
        alerts.configure(&input.alerts);
        let gate = Gate::new(GateDeps {
            snapshot: live.cell(),
            upstreams: upstreams.clone(),
            audit: audit.clone(),
            handles: vault.handles(),
            store: Some(store.clone()),
            limits: file.limits.clone(),
            metrics: metrics.clone(),
            clock: Arc::clone(&clock),
            node: EventId::new(started_ms).to_string().into(),
        });
        let settings =
            Settings::new(&file, &input.public_url, input.listen).map_err(|e| cannot("bad_url")(e.to_string()))?;
        let settings = settings.with_countries(input.countries.clone());
        let (settings, drain) = (Arc::new(settings), Drain::new());
        let events = TaskTracker::new();
        let signer = Signer::new(SignerDeps {
            store: store.clone(),
            vault: vault.clone(),
            clock: Arc::clone(&clock),
            public_url: input.public_url.clone(),
            alg: SigningAlg::Es256,
        });
        let record = sign_in::recorder(audit.clone(), Arc::clone(&live), events.clone());
        let servers = Arc::clone(&live);
        let accounts = Accounts::new(AccountsDeps {
            store: store.clone(),
            vault: vault.clone(),
            egress: egress.clone(),
            clock: Arc::clone(&clock),
            public_url: input.public_url.trim_end_matches('/').to_owned(),
            servers: Arc::new(move |id| servers.load().servers.get(id).cloned()),
            record: Arc::clone(&record),
        });
        let agents = input.people.agents();
        let owner = move |id: &str| {
            let all = agents();
            all.iter().find(|agent| agent.id == id).map(|agent| agent.owner.as_str().into())
        };
        let accounts = accounts.with_signer(signer.clone()).with_owners(Arc::new(owner));
        let step_ups =
            StepUps::new(store.clone(), &vault, Arc::clone(&clock), &input.public_url).with_keys(identity.grant_keys());
        let kept = accounts.clone();
        let registry =
            Registry::new(RegistryDeps { store: store.clone(), audit: Some(audit.clone()), clock: Arc::clone(&clock) });
        let gate =
            gate.with_registry(registry.clone()).with_accounts(accounts.clone()).with_selection_page(&input.public_url);
        let gate = gate.with_step_ups(Arc::new(Links(step_ups)));
        let approvals = Approvals::new(ApprovalsDeps {
            store: store.clone(),
            vault: vault.clone(),
            audit: audit.clone(),
            clock: Arc::clone(&clock),
            public_url: Some(input.public_url.clone()),
        });
        let gate = gate.with_approvals(approvals.clone());
        let behind = Behind::new(&input.record, input.masks, &audit, &store, &vault, &egress, &clock)?;
        let gate = gate.with_bodies(behind.bodies());
        let pages = sign_in::pages(SignInDeps {
            selection: crate::selection::pages(gate.clone()),
            approvals: crate::approvals::pages(approvals.clone(), gate.clone(), Arc::clone(&live)),
            upstream: sign_in::upstream(accounts, gate.clone(), Arc::clone(&live)),
            record,
            witness: sign_in::witness(audit.clone(), Arc::clone(&live)),
            store: store.clone(),
            vault,
            egress,
            documents,
            clock: Arc::clone(&clock),
            public_url: input.public_url.clone(),
            settings: file.sign_in.clone(),
            live: Arc::clone(&live),
            people: Arc::clone(&input.people),
            gate: gate.clone(),
            demo_users: input.demo_users,
            signer,
            admin: engine,
            areas: areas(AreaDeps {
                kills: gate.kills().clone(),
                registry: registry.clone(),
                approvals: approvals.clone(),
                bodies: behind.bodies(),
                audit: audit.clone(),
                store: store.clone(),
                clock: Arc::clone(&clock),
                live: Arc::clone(&live),
                objects: Arc::clone(&objects),
            }),
            identity: Arc::clone(&identity),
        });
        let portal = Portal::new(PortalDeps {
            gate: gate.clone(),
            identity: Arc::clone(&identity),
            settings: Arc::clone(&settings),
            clock: Arc::clone(&clock),
            metrics: metrics.clone(),
            drain: drain.clone(),
            pages: Some(pages),
        });
        let exported = metrics.clone();
        let figures = Figures {
            live: Arc::clone(&live),
            audit: audit.clone(),
            upstreams: upstreams.clone(),
            gate: gate.clone(),
            sinks: behind.stats(),
            metrics,
        };
        let text: Arc<dyn Fn() -> String + Send + Sync> = Arc::new(move || figures.text());
        figures::start(
            &file.telemetry,
            Exporter {
                client: collector,
                clock: Arc::clone(&clock),
                metrics: exported,
                text: Arc::clone(&text),
                instance: EventId::new(started_ms).to_string(),
                started_ms,
            },
        );
        let ready = Ready { store: store.clone(), audit: audit.clone(), live: Arc::clone(&live) };
        let ops = Ops::new(OpsDeps {
            settings,
            drain: drain.clone(),
            readiness: Arc::new(move || {
                let ready = ready.clone();
                Box::pin(async move { ready.checks().await })
            }),
            metrics: text,
        });
        let node = Arc::new(Self {
            file,
            objects,
            live,
            gate,
            registry,
            accounts: kept,
            approvals,
            portal,
            ops,
            drain,
            audit,
            behind,
            alerts,
            identity,
            people: input.people,
            events,
            upstreams,
            store,
            clock,
            restart_needed: AtomicBool::new(false),
            tls: input.tls,
            countries: input.countries,
            public_url: input.public_url,
            listen: input.listen.to_string(),
            operations: input.operations.to_string(),
            started_ms,
            state: input.state,
        });
        node.objects.belong_to(&node);
        Ok(node)
    }

    /// Puts something the process itself did on record.
    pub(crate) async fn record(&self, kind: EventKind, method: &str, note: Option<String>) {
        let now = self.clock.now_ms();
        let who = Who { principal: "service:bartizan".to_owned(), ..Who::default() };
        let mut event = AuditEvent::new(EventId::new(now), now, kind, PrincipalKind::Service, who, method);
        event.policy_version = self.live.load().version;
        event.note = note;
        if let Err(error) = self.audit.append(event).await {
            tracing::error!(%error, method, "an event of the process itself is not on record");
        }
    }

    /// A server with what only the running process knows of it.
    fn line(&self, spec: &ServerSpec, health: Option<&ServerHealth>) -> state::Server {
        let (state, details) = self.gate.server_state(spec);
        let summary = self.accounts.summary(spec);
        state::Server {
            auth_config_summary: summary.and_then(|summary| serde_json::to_value(summary).ok()),
            state: Some(state.as_str().to_owned()),
            error_details: details.and_then(|details| serde_json::to_value(details).ok()),
            ..server_line(spec, health)
        }
    }

    /// What is looked after now and then: versions of secrets, changes of servers' states.
    pub(crate) async fn look_after_servers(&self) {
        let snapshot = self.live.load();
        for spec in &snapshot.order {
            if self.accounts.summary(spec).is_none()
                && let Err(error) = self.accounts.count_secrets(spec).await
            {
                tracing::warn!(%error, server = %spec.id, "the secrets of a server could not be counted");
            }
        }
        for change in self.gate.announce_states().await {
            let Some(owner) = snapshot.servers.get(&change.server).and_then(|spec| spec.owner.as_deref()) else {
                continue;
            };
            let event_id = change.event_id.to_string();
            let notice = OwnerNotice {
                owner,
                server: change.server.as_str(),
                from: change.from.as_str(),
                to: change.to.as_str(),
                why: change.details.as_ref().map(|details| details.cause.as_str()),
                event_id: &event_id,
            };
            if let Err(error) = self.alerts.tell_owner(&notice).await {
                tracing::warn!(%error, server = %change.server, "the owner of a server is not told of its state");
            }
        }
    }

    /// Describes the process in its file.
    pub(crate) fn publish(&self) {
        let snapshot = self.live.load();
        let health = self.upstreams.status();
        let find = |spec: &ServerSpec| health.iter().find(|health| health.server == spec.id);
        let stats = self.audit.stats();
        let state = State {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started_ms,
            written_ms: self.clock.now_ms(),
            public_url: self.public_url.clone(),
            listen: self.listen.clone(),
            operations: self.operations.clone(),
            phase: match self.drain.phase() {
                Phase::Starting => "starting",
                Phase::Serving => "serving",
                Phase::Leaving => "leaving",
                Phase::Closing => "closing",
            }
            .to_owned(),
            generation: self.live.generation(),
            policy_version: format!("{:016x}", snapshot.version),
            restart_needed: self.restart_needed.load(Ordering::Acquire),
            reload_error: self.live.last_error().map(|error| state::ReloadError {
                at_ms: error.at_ms,
                errors: error.errors,
                text: error.text.clone(),
            }),
            refused_objects: self.objects.refused(),
            servers: snapshot.order.iter().map(|spec| self.line(spec, find(spec))).collect(),
            sessions: self.portal.session_count(),
            calls: self.gate.running(),
            audit: state::Audit {
                healthy: stats.healthy,
                written: stats.written,
                dropped: stats.dropped,
                queued: stats.queued,
                behind: stats.seq.saturating_sub(stats.indexed),
            },
            tls: self.tls.as_ref().map(transport::standing),
        };
        if let Err(error) = state.write(&self.state) {
            tracing::warn!(%error, "the process cannot describe itself for status");
        }
    }

    /// Removes the description: the process ends.
    pub(crate) fn unpublish(&self) {
        // A file that is left behind names a process that is gone.
        let _ = std::fs::remove_file(&self.state);
    }
}

/// A server as `status` shows it.
pub(crate) fn server_line(spec: &ServerSpec, health: Option<&ServerHealth>) -> state::Server {
    let kind = match spec.transport {
        Transport::Http { .. } => "http",
        Transport::Stdio { .. } => "stdio",
    };
    let transport = health.map(|health| health.transport).filter(|known| *known != "unknown").unwrap_or(kind);
    state::Server {
        server_id: spec.id.to_string(),
        status: format!("{:?}", spec.status).to_lowercase(),
        transport: transport.to_owned(),
        era: health.and_then(|health| health.era).map(|era| era.as_str().to_owned()),
        circuit: health.map(|health| health.circuit.to_owned()),
        last_error: health.and_then(|health| health.last_error.clone()),
        sessions: health.map_or(0, |health| health.sessions),
        processes: health.map_or(0, |health| health.processes),
        unpinned: spec.unpinned,
        unsandboxed: spec.unsandboxed,
        auth_type: spec.credential.strategy().to_owned(),
        auth_config_summary: None,
        state: None,
        error_details: None,
    }
}

/// What readiness asks.
#[derive(Clone)]
struct Ready {
    store: Store,
    audit: Audit,
    live: Arc<Live<Snapshot>>,
}

impl Ready {
    async fn checks(&self) -> Vec<Check> {
        let store = match self.store.ping().await {
            Ok(()) => Check::ok("store"),
            Err(error) => Check::failed("store", error.to_string()),
        };
        let audit = match self.audit.ready() {
            true => Check::ok("audit"),
            false => Check::failed("audit", "events cannot be written"),
        };
        // A bad reload does not make the process less ready: the former configuration is good.
        let config = match self.live.generation() {
            0 => Check::failed("config", "no configuration"),
            _ => Check::ok("config"),
        };
        // The working keys are derived at the start and stay in memory.
        vec![store, Check::ok("key"), config, audit]
    }
}

/// Figures that are looked up when somebody asks.
struct Figures {
    live: Arc<Live<Snapshot>>,
    audit: Audit,
    upstreams: Upstreams,
    gate: Gate,
    sinks: Arc<bartizan_export::Stats>,
    metrics: Metrics,
}

impl Figures {
    /// One line per configured server (P23).
    fn states(&self) -> String {
        let mut out = "# HELP bartizan_server_state 1 for the state a server is in.\n\
                       # TYPE bartizan_server_state gauge\n"
            .to_owned();
        for spec in &self.live.load().order {
            let state = self.gate.server_state(spec).0.word();
            out.push_str(&format!("bartizan_server_state{{server=\"{}\",state=\"{state}\"}} 1\n", spec.id));
        }
        out
    }

    fn text(&self) -> String {
        let stats = self.audit.stats();
        self.metrics.audit(u64::try_from(stats.queued).unwrap_or(u64::MAX), stats.dropped);
        for health in self.upstreams.status() {
            let server: Arc<str> = health.server.as_str().into();
            self.metrics.upstream_up(&server, health.circuit == "closed" && health.era.is_some());
        }
        let text = self.metrics.render();
        let own = format!(
            "# HELP bartizan_config_generation Configurations in use since the start.\n\
             # TYPE bartizan_config_generation gauge\n\
             bartizan_config_generation {}\n\
             # HELP bartizan_config_refused Whether the last reload was refused.\n\
             # TYPE bartizan_config_refused gauge\n\
             bartizan_config_refused {}\n",
            self.live.generation(),
            u8::from(self.live.last_error().is_some())
        );
        let own = own + &self.states() + &self.sinks.text();
        match text.strip_suffix("# EOF\n") {
            Some(body) => format!("{body}{own}# EOF\n"),
            None => text + &own,
        }
    }
}
