//! Grants (feature row G3), compiled.

use std::collections::HashSet;
use std::sync::Arc;

use bartizan_config::Diagnostic;
use bartizan_config::resources;
use bartizan_model::{Principal, PrincipalKind, ToolClass, check_user_id};

use crate::approval::Approval;
use crate::need::Requirement;
use crate::selector::in_group;
use crate::statement::Condition;
use crate::time::parse_rfc3339;

/// One grant.
pub(crate) struct Grant {
    /// `grant "id"`.
    pub(crate) rule: Arc<str>,
    /// `grants[3]`.
    pub(crate) path: Arc<str>,
    users: HashSet<Box<str>>,
    services: HashSet<Box<str>>,
    agents: HashSet<Box<str>>,
    groups: Vec<Box<str>>,
    everyone: bool,
    pub(crate) tools: HashSet<Box<str>>,
    pub(crate) classes: Vec<ToolClass>,
    /// The `when` of the grant.
    pub(crate) condition: Option<Condition>,
    /// What the person must have added.
    pub(crate) requirement: Option<Requirement>,
    /// Whom it asks before a call goes on; at most one.
    pub(crate) approvals: Vec<Arc<Approval>>,
    /// First millisecond at which the grant is void.
    pub(crate) expires_ms: Option<i64>,
}

impl Grant {
    /// Compiles everything but the condition.
    pub(crate) fn compile(grant: &resources::Grant, at: usize, findings: &mut Vec<Diagnostic>) -> Self {
        let path = format!("grants[{at}]");
        let rule: Arc<str> = format!("grant {:?}", grant.id).into();
        let approvals = grant.require_approval.iter().map(|asked| Approval::call(asked, &rule, &path, findings));
        let approvals = approvals.collect();
        let mut compiled = Self {
            rule,
            approvals,
            users: HashSet::new(),
            services: HashSet::new(),
            agents: HashSet::new(),
            groups: Vec::new(),
            everyone: false,
            tools: grant.tools.iter().map(|tool| tool.as_str().into()).collect(),
            classes: grant.classes.clone(),
            condition: None,
            requirement: Requirement::compile(grant.require_mfa.as_ref(), grant.require_purpose, &path, findings),
            expires_ms: None,
            path: path.as_str().into(),
        };
        if grant.principals.is_empty() {
            findings.push(Diagnostic::new(
                format!("{path}.principals"),
                "empty_grant",
                "a grant without principals grants nothing",
            ));
        }
        for (index, principal) in grant.principals.iter().enumerate() {
            compiled.add_principal(principal, &format!("{path}.principals[{index}]"), findings);
        }
        if grant.tools.is_empty() && grant.classes.is_empty() {
            findings.push(
                Diagnostic::new(&path, "empty_grant", "a grant must name `tools` or `classes`")
                    .suggest("for example `classes: [write]`"),
            );
        }
        if let Some(expires) = &grant.expires {
            compiled.expires_ms = parse_rfc3339(expires);
            if compiled.expires_ms.is_none() {
                findings.push(
                    Diagnostic::new(
                        format!("{path}.expires"),
                        "invalid_time",
                        format!("`{expires}` is not an RFC 3339 time"),
                    )
                    .suggest("write it like `2026-12-31T23:59:59Z`"),
                );
            }
        }
        compiled
    }

    fn add_principal(&mut self, text: &str, path: &str, findings: &mut Vec<Diagnostic>) {
        let mut refuse = || {
            findings.push(
                Diagnostic::new(path, "invalid_principal", format!("`{text}` is not a principal"))
                    .suggest("write `user:NAME`, `group:NAME`, `service:NAME`, `agent:ID` or `everyone`"),
            );
        };
        match text.split_once(':') {
            None if text == "everyone" => self.everyone = true,
            Some((_, id)) if id.is_empty() || id.trim() != id => refuse(),
            Some(("user", id)) => match check_user_id(id) {
                Ok(id) => drop(self.users.insert((&*id).into())),
                Err(why) => findings.push(Diagnostic::new(path, "invalid_principal", format!("`{text}`: {why}"))),
            },
            Some(("service", id)) => {
                self.services.insert(id.into());
            }
            Some(("agent", id)) => {
                self.agents.insert(id.into());
            }
            Some(("group", id)) => self.groups.push(id.into()),
            _ => refuse(),
        }
    }

    /// Whether the grant names this principal. Anonymous callers are never granted anything.
    pub(crate) fn names(&self, principal: &Principal) -> bool {
        let named = match principal.kind {
            PrincipalKind::Anonymous => return false,
            PrincipalKind::User => self.users.contains(&*principal.id),
            PrincipalKind::Service => self.services.contains(&*principal.id),
            PrincipalKind::Agent => self.agents.contains(&*principal.id),
        };
        named || self.everyone || self.groups.iter().any(|group| in_group(principal, group))
    }

    /// Whether the grant still counts.
    pub(crate) fn alive(&self, now_ms: i64) -> bool {
        self.expires_ms.is_none_or(|expires| now_ms < expires)
    }
}
