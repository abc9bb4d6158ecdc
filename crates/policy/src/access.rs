//! Short-form rules of one portal or server, compiled.

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_config::Diagnostic;
use bartizan_config::resources::{AccessAction, AccessRule};
use bartizan_model::{Principal, PrincipalKind};

use crate::selector::{self, Test, Tri};

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    /// `server github policies[0] "engineers"`.
    pub(crate) id: Arc<str>,
    /// `servers[2].policies[0]`.
    pub(crate) path: Arc<str>,
    pub(crate) action: AccessAction,
    include: Vec<Test>,
    require: Vec<Test>,
    exclude: Vec<Test>,
}

impl Rule {
    /// Whether the rule is about this principal under these circumstances.
    pub(crate) fn matches(&self, principal: &Principal, ip: Option<IpAddr>) -> Tri {
        let about = match self.action {
            AccessAction::Allow => principal.kind == PrincipalKind::User,
            AccessAction::ServiceAuth => principal.kind == PrincipalKind::Service,
            AccessAction::Block => true,
        };
        if !about {
            return Tri::No;
        }
        let included = self.include.iter().map(|test| test.is(principal, ip)).max().unwrap_or(Tri::No);
        let required = self.require.iter().map(|test| test.is(principal, ip)).min().unwrap_or(Tri::Yes);
        let excluded = self.exclude.iter().map(|test| test.is(principal, ip)).max().unwrap_or(Tri::No);
        let kept = match excluded {
            Tri::Yes => Tri::No,
            Tri::Unknown => Tri::Unknown,
            Tri::No => Tri::Yes,
        };
        included.min(required).min(kept)
    }

    fn tests(&self) -> impl Iterator<Item = &Test> {
        self.include.iter().chain(&self.require).chain(&self.exclude)
    }
}

/// All rules of one portal or server.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) rules: Vec<Rule>,
}

impl Rules {
    /// Compiles the rules of `owner` (`server github`), which are at `path`.
    pub(crate) fn compile(rules: &[AccessRule], owner: &str, path: &str, findings: &mut Vec<Diagnostic>) -> Self {
        let rules = rules
            .iter()
            .enumerate()
            .map(|(at, rule)| {
                let path = format!("{path}.policies[{at}]");
                if rule.include.is_empty() {
                    findings.push(
                        Diagnostic::new(&path, "empty_include", "`include` is empty, so the rule matches nobody")
                            .suggest("write `include: [{everyone: true}]` if everybody is meant"),
                    );
                }
                let id = match rule.name.as_deref() {
                    Some(name) => format!("{owner} policies[{at}] {name:?}"),
                    None => format!("{owner} policies[{at}]"),
                };
                let mut list = |key: &str, selectors: &[_], negated| {
                    selector::compile(selectors, rule.action, negated, &format!("{path}.{key}"), findings)
                };
                Rule {
                    id: id.into(),
                    action: rule.action,
                    include: list("include", &rule.include, false),
                    require: list("require", &rule.require, false),
                    exclude: list("exclude", &rule.exclude, true),
                    path: path.into(),
                }
            })
            .collect();
        Self { rules }
    }

    /// The rules of the portal that exists when none is configured: every signed-in user.
    pub(crate) fn built_in_portal() -> Self {
        Self {
            rules: vec![Rule {
                id: "portal default (built in): every signed-in user".into(),
                path: "portals".into(),
                action: AccessAction::Allow,
                include: vec![Test::Everyone(true)],
                require: Vec::new(),
                exclude: Vec::new(),
            }],
        }
    }

    /// The first rule that blocks; a rule that cannot be decided blocks too.
    pub(crate) fn block(&self, principal: &Principal, ip: Option<IpAddr>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.action == AccessAction::Block && rule.matches(principal, ip) != Tri::No)
    }

    /// The first rule that lets this principal in.
    pub(crate) fn allow(&self, principal: &Principal, ip: Option<IpAddr>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.action != AccessAction::Block && rule.matches(principal, ip) == Tri::Yes)
    }

    /// Whether any rule looks at the address.
    pub(crate) fn use_ip(&self) -> bool {
        self.rules.iter().flat_map(Rule::tests).any(|test| matches!(test, Test::Networks(_)))
    }
}
