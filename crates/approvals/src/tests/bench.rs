//! Approvals over a store, with a clock that stands still, and the record.

use std::path::PathBuf;
use std::sync::Arc;

use bartizan_audit::Audit;
use bartizan_config::resources::Resources;
use bartizan_config::settings::AuditMode;
use bartizan_model::{Era, EventId, ManualClock, Principal, PrincipalKind, Role, RoleSet, ServerId, ToolClass};
use bartizan_policy::{Action, Approval, Policies, Query, RequestContext};
use bartizan_store::{Store, StoreUrl};
use bartizan_vault::{KeyRing, Vault};
use serde_json::json;

use crate::{Approvals, ApprovalsDeps, CallQuestion, Decider, Details, EntryQuestion};

pub(super) const NOW_MS: i64 = 1_795_000_000_000;

pub(super) struct Bench {
    pub(super) approvals: Approvals,
    pub(super) clock: Arc<ManualClock>,
    pub(super) store: Store,
    vault: Vault,
    audit: Audit,
    folder: tempfile::TempDir,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let url = StoreUrl::Sqlite(folder.path().join("store.sqlite"));
        let store = Store::open(&url, Arc::clone(&clock) as _).await.unwrap();
        let audit =
            Audit::open(&folder.path().join("audit"), AuditMode::Strict, None, Arc::clone(&clock) as _).unwrap();
        let vault = Vault::new(KeyRing::from_keys([7; 32], []).unwrap()).unwrap();
        let approvals = Approvals::new(deps(&store, &vault, &audit, &clock));
        Self { approvals, clock, store, vault, audit, folder }
    }

    /// Another process over the same store.
    pub(super) fn replica(&self) -> Approvals {
        Approvals::new(deps(&self.store, &self.vault, &self.audit, &self.clock))
    }

    /// What is on record, as text: `method note` of each event.
    pub(super) async fn record(&self) -> Vec<String> {
        self.audit.flush().await.unwrap();
        let mut lines = Vec::new();
        let mut folders: Vec<PathBuf> = vec![self.folder.path().join("audit")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let bytes = std::fs::read(&path).unwrap();
                    lines.extend(String::from_utf8_lossy(&bytes).lines().map(str::to_owned));
                }
            }
        }
        lines
    }

    pub(super) async fn recorded(&self, method: &str) -> usize {
        let wanted = format!("\"{method}\"");
        self.record().await.iter().filter(|line| line.contains(&wanted)).count()
    }

    pub(super) async fn ask(&self, who: &Principal, arguments: &str) -> String {
        self.approvals.ask(question(who, &rule(), arguments)).await.unwrap()
    }
}

fn deps(store: &Store, vault: &Vault, audit: &Audit, clock: &Arc<ManualClock>) -> ApprovalsDeps {
    ApprovalsDeps {
        store: store.clone(),
        vault: vault.clone(),
        audit: audit.clone(),
        clock: Arc::clone(clock) as _,
        public_url: Some("https://gate.example/".to_owned()),
    }
}

pub(super) fn user(id: &str, groups: &[&str]) -> Principal {
    Principal::new(PrincipalKind::User, id, groups.iter().map(|group| Arc::from(*group)))
}

pub(super) fn person(id: &str, groups: &[&str]) -> Decider {
    Decider::Person { principal: Arc::new(user(id, groups)), roles: RoleSet::NONE }
}

pub(super) fn with_role(id: &str, role: Role) -> Decider {
    Decider::Person { principal: Arc::new(user(id, &[])), roles: RoleSet::NONE.with(role) }
}

pub(super) fn leader() -> Decider {
    person("lea", &["leads"])
}

/// What a rule asks, as policies make it.
pub(super) fn asked(extra: serde_json::Value) -> Arc<Approval> {
    let mut rule = json!({"action": "allow", "include": [{"everyone": true}]});
    rule.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let resources: Resources = serde_json::from_value(json!({"servers": [
        {"server_id": "pay", "hostname": "http://localhost/mcp", "policies": [rule]}]}))
    .unwrap();
    let policies = Policies::compile(&resources, 0).unwrap();
    let context =
        RequestContext { era: Era::Modern, ip: None, client: None, client_version: None, session: None, now_ms: 0 };
    let decision = policies.decide(&Query {
        principal: &user("ann", &[]),
        action: Action::CallTool,
        portal: None,
        server: Some(&ServerId::parse("pay").unwrap()),
        name: "transfer",
        class: ToolClass::Read,
        context: &context,
        args: None,
    });
    Arc::clone(&decision.approvals[0])
}

pub(super) fn rule() -> Arc<Approval> {
    asked(json!({"require_approval": {"approvers": "group:leads"}}))
}

pub(super) fn entry() -> Arc<Approval> {
    asked(json!({"temporary": {"approvers": "group:leads", "for": "30m-2h"}}))
}

pub(super) const DEFINITION: &str = "as reviewed";

pub(super) const SUBJECT: &str = "tool:pay/transfer";

pub(super) fn question<'a>(who: &'a Principal, approval: &'a Approval, arguments: &'a str) -> CallQuestion<'a> {
    CallQuestion {
        requester: who,
        approval,
        subject: SUBJECT,
        digest: arguments,
        definition: DEFINITION,
        owner: None,
        event: EventId::new(NOW_MS),
        details: Details {
            requester: who.key().to_string(),
            client: Some("Evil\u{202e} Client".to_owned()),
            server: ServerId::parse("pay").ok(),
            target: "transfer".to_owned(),
            exposed: Some("pay_transfer".to_owned()),
            class: Some(ToolClass::Write),
            arguments: Some(arguments.to_owned()),
            rule: "grant \"g\"".to_owned(),
            ..Details::default()
        },
    }
}

pub(super) fn entry_question<'a>(who: &'a Principal, approval: &'a Approval, reason: &'a str) -> EntryQuestion<'a> {
    EntryQuestion { requester: who, approval, reason, name: "Payments" }
}
