//! Everything below the portal, put together for a test.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bartizan_audit::Audit;
use bartizan_catalog::{CompileOptions, Snapshot};
use bartizan_config::resources::Resources;
use bartizan_config::settings::{AuditMode, Egress as EgressSettings, File, WireLimits};
use bartizan_egress::Egress;
use bartizan_gate::{Gate, GateDeps};
use bartizan_identity::Identity;
use bartizan_model::{Clock, ManualClock, Principal, PrincipalKind, Secret};
use bartizan_portal::{Drain, Ops, OpsDeps, Portal, PortalDeps, Settings};
use bartizan_store::{Store, StoreUrl};
use bartizan_telemetry::Metrics;
use bartizan_testkit::fixture::{Era, Fixture, Options};
use bartizan_upstream::{UpstreamDeps, Upstreams};
use bartizan_vault::{KeyRing, Vault};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::Client;

/// Token of a user in `engineering`.
pub const ALICE: &str = "alice-token-0123456789abcdef";
/// Token of a user in `staff`.
pub const BOB: &str = "bob-token-0123456789abcdef0";

/// What a test may change.
pub struct Setup {
    pub era: Era,
    pub request_body: usize,
    pub client_read_ms: u64,
    pub session_idle_ms: u64,
    pub drain_wait_ms: u64,
    pub drain_deadline_ms: u64,
    pub head_hold_ms: Option<u64>,
    pub trusted: Vec<&'static str>,
    pub credential_check_ms: Option<u64>,
    pub sessions_per_principal: usize,
    pub streams_per_principal: usize,
    pub connection_idle_ms: u64,
}

impl Default for Setup {
    fn default() -> Self {
        let limits = WireLimits::default();
        Self {
            era: Era::Legacy,
            request_body: limits.request_body,
            client_read_ms: limits.client_read_ms,
            session_idle_ms: limits.session_idle_ms,
            drain_wait_ms: limits.drain_wait_ms,
            drain_deadline_ms: limits.drain_deadline_ms,
            head_hold_ms: None,
            trusted: Vec::new(),
            credential_check_ms: None,
            sessions_per_principal: limits.sessions_per_principal,
            streams_per_principal: limits.streams_per_principal,
            connection_idle_ms: limits.connection_idle_ms,
        }
    }
}

/// A running data plane.
pub struct World {
    pub portal: Portal,
    pub drain: Drain,
    pub clock: Arc<ManualClock>,
    pub fixture: Fixture,
    pub base: String,
    pub address: String,
    pub identity: Arc<Identity>,
    pub metrics: Metrics,
    pub settings: Arc<Settings>,
    audit: Audit,
    _open: Fixture,
    folder: TempDir,
}

impl World {
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let fixture = Fixture::start(Options::of(setup.era).recorded()).await.unwrap();
        let open = Fixture::start(Options::of(setup.era)).await.unwrap();
        let bare = bare().await;
        let resources = resources(&fixture.url(), &open.url(), &bare);
        let resources: Resources = serde_json::from_value(resources).unwrap();
        let clock = Arc::new(ManualClock::at(1_800_000_000_000));
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let base = format!("http://{address}");
        let limits = WireLimits {
            request_body: setup.request_body,
            client_read_ms: setup.client_read_ms,
            session_idle_ms: setup.session_idle_ms,
            drain_wait_ms: setup.drain_wait_ms,
            drain_deadline_ms: setup.drain_deadline_ms,
            sessions_per_principal: setup.sessions_per_principal,
            streams_per_principal: setup.streams_per_principal,
            connection_idle_ms: setup.connection_idle_ms,
            ..WireLimits::default()
        };
        let trusted_proxies = setup.trusted.iter().map(|net| net.parse().unwrap()).collect();
        let file = File { limits: limits.clone(), trusted_proxies, ..File::default() };
        let mut settings = Settings::new(&file, &base, address).unwrap();
        settings.head_hold = setup.head_hold_ms.map_or(settings.head_hold, Duration::from_millis);
        settings.credential_check = setup.credential_check_ms.map_or(settings.credential_check, Duration::from_millis);
        let settings = Arc::new(settings);
        let identity = Arc::new(identity(&clock).await);
        let metrics = Metrics::new();
        let audit = Audit::open(folder.path(), AuditMode::Fast, None, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        let drain = Drain::new();
        let deps = PortalDeps {
            gate: gate(&resources, &clock, limits, audit.clone()),
            identity: Arc::clone(&identity),
            settings: Arc::clone(&settings),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            metrics: metrics.clone(),
            drain: drain.clone(),
            pages: None,
        };
        let portal = Portal::new(deps);
        drain.started();
        tokio::spawn({
            let portal = portal.clone();
            async move { portal.serve(listener).await }
        });
        let address = address.to_string();
        Self { portal, drain, clock, fixture, base, address, identity, metrics, settings, audit, _open: open, folder }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// A client of Alice.
    pub fn client(&self, path: &str) -> Client {
        Client::new(self.url(path), Some(ALICE))
    }

    /// A client with a new service token.
    pub async fn service(&self, name: &str, path: &str) -> Client {
        let (_, secret) = self.identity.tokens().create(name, None).await.unwrap();
        Client::new(self.url(path), Some(secret.expose().clone().leak()))
    }

    /// What `/metrics` of the operations listener says.
    pub async fn metrics(&self) -> String {
        let metrics = self.metrics.clone();
        let ops = Ops::new(OpsDeps {
            settings: Arc::clone(&self.settings),
            drain: self.drain.clone(),
            readiness: Arc::new(|| Box::pin(async { Vec::new() })),
            metrics: Arc::new(move || metrics.render()),
        });
        let request = Request::builder().uri("/metrics").header("host", "127.0.0.1:7421").body(()).unwrap();
        let body = ops.handle(request).await.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    /// The events of one kind on record.
    pub async fn events_of(&self, kind: &str) -> Vec<Value> {
        self.audit.flush().await.unwrap();
        let mut events = Vec::new();
        for writer in std::fs::read_dir(self.folder.path()).unwrap() {
            for segment in std::fs::read_dir(writer.unwrap().path()).unwrap() {
                let path = segment.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "log") {
                    let text = std::fs::read_to_string(path).unwrap();
                    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
                    events.extend(lines.map(|line| line.get("event").cloned().unwrap_or(line)));
                }
            }
        }
        events.retain(|event| event["kind"] == kind);
        events
    }

    /// Waits until the fixture has a stream to somebody who listens.
    pub async fn wait_for_listeners(&self, count: usize) {
        super::eventually("the upstream stream is open", || {
            let streams = usize::try_from(self.fixture.stats().of("GET")).unwrap();
            streams.max(self.fixture.open_listeners()) >= count
        })
        .await;
    }
}

fn gate(resources: &Resources, clock: &Arc<ManualClock>, limits: WireLimits, audit: Audit) -> Gate {
    let dynamic = || Arc::clone(clock) as Arc<dyn Clock>;
    let options = CompileOptions::default();
    let snapshot = match Snapshot::compile(resources, &options, clock.now_ms()) {
        Ok(snapshot) => Arc::new(ArcSwap::from_pointee(snapshot)),
        Err(findings) => panic!("{findings:#?}"),
    };
    let egress = EgressSettings { private_allow: vec!["127.0.0.1".to_owned()], ..EgressSettings::default() };
    let egress = Egress::new(&egress, Duration::from_millis(limits.connect_ms)).unwrap();
    let upstreams = Upstreams::new(UpstreamDeps {
        egress,
        limits: limits.clone(),
        clock: dynamic(),
        child_program: None,
        environment: Vec::new(),
    });
    Gate::new(GateDeps {
        snapshot,
        upstreams,
        audit,
        handles: Vault::new(KeyRing::ephemeral().unwrap()).unwrap().handles(),
        store: None,
        limits,
        metrics: Metrics::new(),
        clock: dynamic(),
        node: "test".into(),
    })
}

async fn identity(clock: &Arc<ManualClock>) -> Identity {
    let store = Store::open(&StoreUrl::Memory, Arc::clone(clock) as Arc<dyn Clock>).await.unwrap();
    let user = |name: &str, group: &str| Principal::new(PrincipalKind::User, name, [Arc::from(group)]);
    Identity::new(store, Arc::clone(clock) as Arc<dyn Clock>).with_dev_users(vec![
        (user("alice", "engineering"), Secret::new(ALICE.to_owned())),
        (user("bob", "staff"), Secret::new(BOB.to_owned())),
    ])
}

/// `fix`: the fixture; `open`: public; `bare`: tools only; `hidden`: nobody's; `dead`:
/// nothing listens there; `slow`: two lists per minute; `near`: only from 127.0.0.0/8.
fn resources(fixture: &str, open: &str, bare: &str) -> Value {
    let everyone = json!([
        {"action": "allow", "include": [{"everyone": true}]},
        {"name": "services", "action": "service_auth", "include": [{"everyone": true}]},
    ]);
    let near = json!([{"action": "allow", "include": [{"ip": ["127.0.0.0/8"]}]}]);
    let classes = json!({
        "read": bartizan_testkit::fixture::tool_names().into_iter()
            .filter(|name| !matches!(name.as_str(), "test_write_note" | "test_delete_notes" | "test_elicitation_sep1330_enums"))
            .collect::<Vec<_>>(),
        "write": ["test_write_note"],
        "destructive": ["test_delete_notes"],
    });
    let server = |id: &str, url: &str, policies: &Value| json!({"server_id": id, "name": id, "hostname": url, "policies": policies, "classes": classes});
    let mut public = server("open", open, &json!([]));
    public["visibility"] = json!("public");
    let mut few = server("bare", bare, &everyone);
    few["classes"] = json!({"read": ["only"]});
    json!({
        "servers": [
            server("fix", fixture, &everyone),
            public,
            few,
            server("hidden", fixture, &json!([])),
            server("dead", "http://127.0.0.1:9/mcp", &everyone),
            server("slow", open, &everyone),
            server("near", open, &near),
        ],
        "portals": [
            {"id": "default", "name": "Default", "servers": ["fix", "dead"], "policies": everyone},
            {"id": "staff", "name": "Staff", "hostname": "staff.example", "servers": ["fix"],
             "policies": [{"action": "allow", "include": [{"groups": ["staff"]}]}]},
        ],
        "policies": [{"id": "no-secrets", "cedar":
            "forbid (principal, action == Action::\"call_tool\", resource) \
             when { context.args has secret && context.args.secret == true };"}],
        "grants": [],
        "rate_limits": [
            {"id": "structured", "per": ["user", "tool"], "server": "fix", "tools": ["test_structured"],
             "per_minute": 1, "burst": 1},
            {"id": "slow", "per": ["user"], "server": "slow", "per_minute": 2, "burst": 2},
        ],
    })
}

/// A legacy server with one tool and no other capability.
async fn bare() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let service = service_fn(bare_answer);
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    url
}

async fn bare_answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let post = request.method() == http::Method::POST;
    let body = request.into_body().collect().await?.to_bytes();
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let result = match message["method"].as_str() {
        Some("initialize") => json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
            "serverInfo": {"name": "bare", "version": "1"}}),
        Some("tools/list") => json!({"tools": [{"name": "only", "inputSchema": {"type": "object"}}]}),
        Some("tools/call") => json!({"content": []}),
        _ => Value::Null,
    };
    let answer = |status: u16, body: String| {
        Response::builder().status(status).header("content-type", "application/json").body(Full::from(body)).unwrap()
    };
    let id = &message["id"];
    Ok(match (post, id.is_null(), result.is_null()) {
        (false, ..) => answer(405, String::new()),
        (true, true, _) => answer(202, String::new()),
        (true, false, false) => answer(200, json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()),
        (true, false, true) => {
            answer(200, json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no"}}).to_string())
        }
    })
}
