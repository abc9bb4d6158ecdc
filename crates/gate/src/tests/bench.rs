//! A gate with mocks behind it, and a look at what it recorded.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bartizan_audit::Audit;
use bartizan_catalog::{CompileOptions, Snapshot};
use bartizan_config::resources::Resources;
use bartizan_config::settings::{AuditMode, Egress as EgressSettings, WireLimits};
use bartizan_egress::Egress;
use bartizan_model::{Clock, ManualClock, PortalId, Principal, PrincipalKind, ServerId, SignInFacts};
use bartizan_store::{Store, StoreUrl};
use bartizan_telemetry::Metrics;
use bartizan_upstream::{UpstreamDeps, Upstreams};
use bartizan_vault::{KeyRing, Vault};
use bartizan_wire::{Ask, AskAnswer, ClientProfile, Limits, Message, Params, RawJson, Revision};
use bytes::Bytes;
use serde_json::{Value, json};

use super::mock::{Mock, Speaks};
use crate::{
    CallHandle, CallOutput, CallReply, Caller, Circumstances, Endpoint, Gate, GateDeps, GovernedCall, ListCall, Scopes,
};

pub(crate) const NOW_MS: i64 = 1_790_000_000_000;

/// A gate over some mocks.
pub(crate) struct Bench {
    pub(crate) gate: Gate,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) audit: Audit,
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) resources: Value,
    pub(crate) mocks: Vec<(&'static str, Mock)>,
    pub(crate) store: Store,
    dir: tempfile::TempDir,
    _metrics: Metrics,
}

/// A request and who sends it.
#[derive(Clone)]
pub(crate) struct From {
    pub(crate) user: &'static str,
    pub(crate) kind: PrincipalKind,
    pub(crate) groups: Vec<&'static str>,
    pub(crate) endpoint: Endpoint,
    pub(crate) revision: Revision,
    pub(crate) capabilities: Value,
    pub(crate) ip: &'static str,
    pub(crate) circumstances: Circumstances,
    pub(crate) selection: crate::Selection,
    pub(crate) revocation: crate::Revocation,
}

pub(crate) fn modern(user: &'static str) -> From {
    From {
        user,
        kind: PrincipalKind::User,
        groups: Vec::new(),
        endpoint: Endpoint::Portal(PortalId::parse("default").unwrap()),
        revision: Revision::V2026_07_28,
        capabilities: json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}),
        ip: "192.0.2.1",
        circumstances: Circumstances::default(),
        selection: crate::Selection::default(),
        revocation: crate::Revocation::NEVER,
    }
}

pub(crate) fn legacy(user: &'static str) -> From {
    From { revision: Revision::V2025_11_25, ..modern(user) }
}

impl From {
    pub(crate) fn at(self, server: &str) -> Self {
        Self { endpoint: Endpoint::Server(ServerId::parse(server).unwrap()), ..self }
    }

    /// With a second factor at a time, and a grant.
    pub(crate) fn mfa(self, mfa_at_ms: Option<i64>) -> Self {
        self.facts(|facts| facts.mfa_at_ms = mfa_at_ms)
    }

    /// Signed in, with other facts.
    pub(crate) fn facts(mut self, edit: impl FnOnce(&mut SignInFacts)) -> Self {
        let mut facts = self.circumstances.facts.as_deref().cloned().unwrap_or_default();
        edit(&mut facts);
        self.circumstances.facts = Some(Arc::new(facts));
        self.circumstances.grant = Some("grant-1".into());
        self
    }

    /// With what is kept in this row.
    pub(crate) async fn kept(mut self, gate: &Gate, holder: &str) -> Self {
        let holder: Arc<str> = holder.into();
        let off = gate.states().get(&holder).await.unwrap().map(|state| Arc::clone(&state.off)).unwrap_or_default();
        self.selection = crate::Selection { holder: Some(holder), off };
        self
    }

    pub(crate) fn in_country(mut self, country: Option<&str>) -> Self {
        self.circumstances.country = country.map(Into::into);
        self
    }

    pub(crate) fn able(self, capabilities: Value) -> Self {
        Self { capabilities, ..self }
    }

    pub(crate) fn caller(&self) -> Caller {
        let groups = self.groups.iter().map(|group| Arc::from(*group));
        let mut profile = ClientProfile::plain(self.revision);
        profile.capabilities = RawJson::from(&self.capabilities);
        Caller {
            principal: Arc::new(match self.kind {
                PrincipalKind::Anonymous => Principal::anonymous(),
                kind => Principal::new(kind, self.user, groups),
            }),
            profile: Arc::new(profile),
            ip: Some(self.ip.parse().unwrap()),
            selection: self.selection.clone(),
            revocation: self.revocation.clone(),
            session: None,
            traceparent: None,
            trace_id: Some("0af7651916cd43dd8448eb211c80319c".into()),
            client: Some("test-client".into()),
            client_version: Some("1.2.3".into()),
            scopes: Scopes::ALL,
            circumstances: self.circumstances.clone(),
        }
    }

    /// `_meta` of a modern request, merged into params.
    pub(crate) fn params(&self, mut params: Value) -> Value {
        if self.revision == Revision::V2026_07_28 {
            params["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2026-07-28".into();
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = self.capabilities.clone();
        }
        params
    }

    pub(crate) fn request(&self, method: &str, params: Value) -> GovernedCall {
        let text = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": self.params(params)}).to_string();
        let message = Message::parse(Bytes::from(text.clone()), &Limits::default()).unwrap();
        let params = Params::of(&message).unwrap();
        GovernedCall {
            endpoint: self.endpoint.clone(),
            caller: self.caller(),
            message,
            params,
            param_headers: Vec::new(),
            request_bytes: text.len() as u64,
        }
    }
}

/// Classes that all mocks' tools have unless a test says otherwise.
pub(crate) fn classes() -> Value {
    json!({
        "read": ["echo", "fail", "rpc_error", "hang", "ask", "ask_two", "ask_sampling", "ask_slowly", "link", "progress",
                 "drop", "forever", "resource"],
        "write": ["write"], "destructive": ["remove"]
    })
}

/// One server entry.
pub(crate) fn server(id: &str, mock: &Mock) -> Value {
    json!({
        "server_id": id, "hostname": mock.url, "classes": classes(),
        "policies": [{"action": "allow", "include": [{"everyone": true}]}]
    })
}

impl Bench {
    /// Mocks under their server ids, and changes to the resources.
    pub(crate) async fn with(servers: &[(&'static str, Speaks)], edit: impl FnOnce(&mut Value)) -> Self {
        Self::built(servers, AuditMode::Strict, WireLimits::default(), edit).await
    }

    pub(crate) async fn new(servers: &[(&'static str, Speaks)]) -> Self {
        Self::with(servers, |_| {}).await
    }

    pub(crate) async fn built(
        servers: &[(&'static str, Speaks)],
        mode: AuditMode,
        limits: WireLimits,
        edit: impl FnOnce(&mut Value),
    ) -> Self {
        let mut mocks = Vec::new();
        for (id, speaks) in servers {
            mocks.push((*id, Mock::start(*speaks).await));
        }
        let entries: Vec<Value> = mocks.iter().map(|(id, mock)| server(id, mock)).collect();
        let mut resources = json!({"servers": entries, "portals": [{
            "id": "default", "policies": [{"action": "allow", "include": [{"everyone": true}]}]
        }]});
        edit(&mut resources);
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(dir.path(), mode, None, Arc::clone(&shared)).unwrap();
        let egress = EgressSettings { private_allow: vec!["127.0.0.1".into()], ..EgressSettings::default() };
        let upstreams = Upstreams::new(UpstreamDeps {
            egress: Egress::new(&egress, Duration::from_secs(5)).unwrap(),
            limits: limits.clone(),
            clock: Arc::clone(&shared),
            child_program: None,
            environment: Vec::new(),
        });
        let snapshot = Arc::new(ArcSwap::from_pointee(compile(&resources)));
        let metrics = Metrics::new();
        let vault = Vault::new(KeyRing::ephemeral().unwrap()).unwrap();
        let store = Store::open(&StoreUrl::Memory, Arc::clone(&shared)).await.unwrap();
        let gate = Gate::new(GateDeps {
            store: Some(store.clone()),
            snapshot: Arc::clone(&snapshot),
            upstreams,
            audit: audit.clone(),
            handles: vault.handles(),
            limits,
            metrics: metrics.clone(),
            clock: shared,
            node: "node-1".into(),
        });
        Self { gate, clock, audit, snapshot, resources, mocks, store, dir, _metrics: metrics }
    }

    pub(crate) fn mock(&self, id: &str) -> &Mock {
        &self.mocks.iter().find(|(known, _)| *known == id).unwrap().1
    }

    /// Changes the resources and swaps the snapshot.
    pub(crate) fn reload(&mut self, edit: impl FnOnce(&mut Value)) {
        edit(&mut self.resources);
        self.snapshot.store(Arc::new(compile(&self.resources)));
        self.gate.snapshot_changed();
    }

    pub(crate) fn start(&self, from: &From, method: &str, params: Value) -> CallHandle {
        self.gate.call(from.request(method, params))
    }

    /// A tool call to its end.
    pub(crate) async fn tool(&self, from: &From, name: &str, arguments: Value) -> CallReply {
        self.call(from, "tools/call", json!({"name": name, "arguments": arguments})).await
    }

    /// Any call to its end; questions stay unanswered.
    pub(crate) async fn call(&self, from: &From, method: &str, params: Value) -> CallReply {
        end(self.start(from, method, params)).await
    }

    pub(crate) async fn list(&self, from: &From, method: &str) -> Result<Value, CallReply> {
        self.list_page(from, method, None).await
    }

    pub(crate) async fn list_page(&self, from: &From, method: &str, cursor: Option<&str>) -> Result<Value, CallReply> {
        let params = cursor.map_or_else(|| json!({}), |cursor| json!({"cursor": cursor}));
        let call = from.request(method, params);
        let call = ListCall::new(call.endpoint, call.caller, call.message, call.params, call.request_bytes);
        self.gate.list(call).await.map(|raw| value(&raw))
    }

    pub(crate) async fn tool_names(&self, from: &From) -> Vec<String> {
        names(&self.list(from, "tools/list").await.unwrap(), "tools")
    }

    /// Everything on record so far.
    pub(crate) async fn events(&self) -> Vec<Value> {
        self.audit.flush().await.unwrap();
        events_in(self.dir.path())
    }

    /// Every byte on record so far.
    pub(crate) async fn whole_record(&self) -> String {
        self.audit.flush().await.unwrap();
        let mut text = String::new();
        for writer in std::fs::read_dir(self.dir.path()).unwrap() {
            for file in std::fs::read_dir(writer.unwrap().path()).unwrap() {
                text += &String::from_utf8_lossy(&std::fs::read(file.unwrap().path()).unwrap());
            }
        }
        text
    }

    /// The events of one kind.
    pub(crate) async fn events_of(&self, kind: &str) -> Vec<Value> {
        self.events().await.into_iter().filter(|event| event["kind"] == kind).collect()
    }

    /// Puts another record under the gate, with equal everything else; caches start anew.
    pub(crate) fn replace_audit(&mut self, audit: Audit) {
        self.audit = audit;
        self.gate = self.another("node-1", Some(self.store.clone()));
    }

    /// Another gate over the same servers and keys.
    pub(crate) fn another(&self, node: &str, store: Option<Store>) -> Gate {
        let old = &self.gate.0;
        Gate::new(GateDeps {
            snapshot: Arc::clone(&old.snapshot),
            upstreams: old.upstreams.clone(),
            audit: self.audit.clone(),
            handles: old.handles.clone(),
            store,
            limits: old.limits.clone(),
            metrics: old.metrics.clone(),
            clock: Arc::clone(&old.clock),
            node: node.into(),
        })
    }

    /// The gate's work is done: every started call is recorded.
    pub(crate) async fn idle(&self) {
        for _ in 0..2_000 {
            if self.gate.tasks() == 0 {
                assert_eq!(self.gate.running(), 0);
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} tasks still run", self.gate.tasks());
    }
}

pub(crate) fn compile(resources: &Value) -> Snapshot {
    let parsed: Resources = serde_json::from_value(resources.clone()).unwrap();
    Snapshot::compile(&parsed, &CompileOptions::default(), NOW_MS).map_err(|findings| format!("{findings:?}")).unwrap()
}

fn events_in(dir: &Path) -> Vec<Value> {
    let mut events = Vec::new();
    for writer in std::fs::read_dir(dir).unwrap() {
        let mut segments: Vec<_> =
            std::fs::read_dir(writer.unwrap().path()).unwrap().map(|e| e.unwrap().path()).collect();
        segments.sort();
        for segment in segments.iter().filter(|path| path.extension().is_some_and(|e| e == "log")) {
            let text = std::fs::read_to_string(segment).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            events.extend(lines.map(|line| line.get("event").cloned().unwrap_or(line)));
        }
    }
    events
}

pub(crate) fn value(raw: &RawJson) -> Value {
    serde_json::from_str(raw.as_str()).unwrap()
}

pub(crate) fn names(list: &Value, member: &str) -> Vec<String> {
    let key = if member == "resources" { "uri" } else { "name" };
    list[member].as_array().unwrap().iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
}

pub(crate) async fn end(mut handle: CallHandle) -> CallReply {
    loop {
        match handle.next().await.expect("a call always ends") {
            CallOutput::Done(reply) => return reply,
            CallOutput::Notify { .. } | CallOutput::Ask { .. } => {}
        }
    }
}

/// Waits for the next question.
pub(crate) async fn asked(
    handle: &mut CallHandle,
) -> (Vec<Ask>, tokio::sync::oneshot::Sender<Vec<(String, AskAnswer)>>) {
    loop {
        match handle.next().await.expect("a question") {
            CallOutput::Ask { asks, answers } => return (asks, answers),
            CallOutput::Notify { .. } => {}
            CallOutput::Done(reply) => panic!("ended with {reply:?}"),
        }
    }
}

pub(crate) fn accept(v: &str) -> Value {
    json!({"action": "accept", "content": {"v": v}})
}

impl CallReply {
    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Result(raw) => value(raw),
            other => panic!("not a result: {other:?}"),
        }
    }

    pub(crate) fn text(&self) -> String {
        self.json()["content"][0]["text"].as_str().unwrap().to_owned()
    }

    pub(crate) fn refusal(&self) -> &crate::Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(crate) fn error_code(&self) -> i64 {
        match self {
            Self::Error(error) => error.code,
            other => panic!("not an error: {other:?}"),
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}
