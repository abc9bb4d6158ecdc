//! Shared by the tests: resources from JSON and short questions.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses a part")]

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_config::Diagnostic;
use bartizan_config::resources::Resources;
use bartizan_model::{Era, PortalId, Principal, PrincipalKind, ServerId, ToolClass};
use bartizan_policy::{Action, Decision, Policies, Query, RequestContext, SessionFacts};
use serde_json::{Value, json};

pub fn resources(value: Value) -> Resources {
    serde_json::from_value(value).unwrap()
}

pub fn compile(value: Value) -> Policies {
    match Policies::compile(&resources(value), 0) {
        Ok(policies) => policies,
        Err(findings) => panic!("{findings:#?}"),
    }
}

pub fn findings(value: Value) -> Vec<Diagnostic> {
    match Policies::compile(&resources(value), 0) {
        Ok(_) => panic!("compiled"),
        Err(findings) => findings,
    }
}

/// Two servers, one portal, open to every user and service.
pub fn open_with(policies: Value, grants: Value) -> Value {
    let everyone = json!([
        {"action": "allow", "include": [{"everyone": true}]},
        {"action": "service_auth", "include": [{"everyone": true}]},
    ]);
    json!({
        "servers": [
            {"server_id": "pay", "hostname": "http://localhost/mcp", "policies": everyone},
            {"server_id": "wiki", "hostname": "http://localhost/mcp", "policies": everyone},
        ],
        "portals": [{"id": "default", "policies": everyone}],
        "policies": policies,
        "grants": grants,
    })
}

pub fn cedar(text: &str) -> Value {
    json!([{"id": "p", "cedar": text}])
}

pub fn user(id: &str, groups: &[&str]) -> Principal {
    Principal::new(PrincipalKind::User, id, groups.iter().map(|group| Arc::from(*group)))
}

pub fn service(id: &str) -> Principal {
    Principal::new(PrincipalKind::Service, id, [])
}

/// A question with all its parts.
#[derive(Clone)]
pub struct Ask {
    pub principal: Principal,
    pub action: Action,
    pub portal: Option<PortalId>,
    pub server: Option<ServerId>,
    pub name: String,
    pub class: ToolClass,
    pub era: Era,
    pub ip: Option<IpAddr>,
    pub client: Option<String>,
    pub client_version: Option<String>,
    pub session: Option<SessionFacts<'static>>,
    pub now_ms: i64,
    pub args: Option<String>,
}

impl Ask {
    pub fn tool(principal: Principal, server: &str, name: &str, class: ToolClass) -> Self {
        Self {
            principal,
            action: Action::CallTool,
            portal: Some(PortalId::parse("default").unwrap()),
            server: Some(ServerId::parse(server).unwrap()),
            name: name.to_owned(),
            class,
            era: Era::Modern,
            ip: Some("192.0.2.1".parse().unwrap()),
            client: Some("test".to_owned()),
            client_version: None,
            session: None,
            now_ms: 0,
            args: None,
        }
    }

    pub fn args(mut self, args: &str) -> Self {
        self.args = Some(args.to_owned());
        self
    }

    pub fn at(mut self, now_ms: i64) -> Self {
        self.now_ms = now_ms;
        self
    }

    pub fn ip(mut self, ip: Option<&str>) -> Self {
        self.ip = ip.map(|ip| ip.parse().unwrap());
        self
    }

    pub fn direct(mut self) -> Self {
        self.portal = None;
        self
    }

    pub fn with<T>(&self, f: impl FnOnce(&Query<'_>) -> T) -> T {
        let context = RequestContext {
            era: self.era,
            ip: self.ip,
            client: self.client.as_deref(),
            client_version: self.client_version.as_deref(),
            session: self.session,
            now_ms: self.now_ms,
        };
        f(&Query {
            principal: &self.principal,
            action: self.action,
            portal: self.portal.as_ref(),
            server: self.server.as_ref(),
            name: &self.name,
            class: self.class,
            context: &context,
            args: self.args.as_deref(),
        })
    }

    pub fn decide(&self, policies: &Policies) -> Decision {
        self.with(|query| policies.decide(query))
    }

    pub fn list(&self, policies: &Policies) -> Decision {
        self.with(|query| policies.list_decision(query))
    }
}
