//! Short-form rules of one portal or server, compiled.

use std::sync::Arc;

use bartizan_config::Diagnostic;
use bartizan_config::resources::{AccessAction, AccessRule, Selector};
use bartizan_model::{Principal, PrincipalKind};

use crate::approval::Approval;
use crate::need::Requirement;
use crate::query::RequestContext;
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
    /// What those whom it lets in must have added.
    pub(crate) requirement: Option<Requirement>,
    /// Whom it asks before a request goes on.
    pub(crate) approvals: Vec<Arc<Approval>>,
}

impl Rule {
    /// Whether the rule is about this principal under these circumstances.
    pub(crate) fn matches(&self, principal: &Principal, context: &RequestContext<'_>) -> Tri {
        let about = match self.action {
            AccessAction::Allow => principal.kind == PrincipalKind::User,
            AccessAction::ServiceAuth => principal.kind.is_machine(),
            AccessAction::Block | AccessAction::Bypass => true,
        };
        if !about {
            return Tri::No;
        }
        let included = self.include.iter().map(|test| test.is(principal, context)).max().unwrap_or(Tri::No);
        let required = self.require.iter().map(|test| test.is(principal, context)).min().unwrap_or(Tri::Yes);
        let excluded = self.exclude.iter().map(|test| test.is(principal, context)).max().unwrap_or(Tri::No);
        let kept = match excluded {
            Tri::Yes => Tri::No,
            Tri::Unknown => Tri::Unknown,
            Tri::No => Tri::Yes,
        };
        included.min(required).min(kept)
    }

    /// Include, require, exclude.
    pub(crate) fn lists(&self) -> (&[Test], &[Test], &[Test]) {
        (&self.include, &self.require, &self.exclude)
    }

    fn tests(&self) -> impl Iterator<Item = &Test> {
        self.include.iter().chain(&self.require).chain(&self.exclude)
    }
}

/// All rules of one portal or server.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) rules: Vec<Rule>,
    /// For whom only reading is left (P51); one is enough.
    read_only: Vec<Test>,
    /// `portal main: read_only`.
    read_only_rule: Option<Arc<str>>,
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
                if rule.action != AccessAction::Allow && (rule.require_mfa.is_some() || rule.require_purpose) {
                    let message = "only people can add a second factor or a purpose";
                    findings.push(
                        Diagnostic::new(&path, "invalid_requirement", message).suggest("use it with `action: allow`"),
                    );
                }
                if rule.action != AccessAction::Allow && rule.temporary.is_some() {
                    let message = "only people can ask to be let in";
                    findings.push(
                        Diagnostic::new(&path, "invalid_requirement", message).suggest("use it with `action: allow`"),
                    );
                }
                if rule.action == AccessAction::Block && rule.require_approval.is_some() {
                    let message = "a rule that blocks asks nobody";
                    findings.push(Diagnostic::new(&path, "invalid_requirement", message));
                }
                let id: Arc<str> = id.into();
                let mut approvals = Vec::new();
                if let Some(temporary) = &rule.temporary {
                    let subject = owner.replacen(' ', ":", 1);
                    approvals.push(Approval::entry(temporary, &subject, &id, &path, findings));
                }
                if let Some(asked) = &rule.require_approval {
                    approvals.push(Approval::call(asked, &id, &path, findings));
                }
                let requirement =
                    Requirement::compile(rule.require_mfa.as_ref(), rule.require_purpose, &path, findings);
                let mut list = |key: &str, selectors: &[_], negated| {
                    selector::compile(selectors, rule.action, negated, &format!("{path}.{key}"), findings)
                };
                Rule {
                    id,
                    approvals,
                    action: rule.action,
                    include: list("include", &rule.include, false),
                    require: list("require", &rule.require, false),
                    exclude: list("exclude", &rule.exclude, true),
                    requirement,
                    path: path.into(),
                }
            })
            .collect();
        Self { rules, ..Self::default() }
    }

    /// Rules that let people in once somebody said yes.
    pub(crate) fn asking(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.action == AccessAction::Allow && !rule.approvals.is_empty())
    }

    /// The same, where whom these selectors match only reads.
    pub(crate) fn with_read_only(
        mut self,
        selectors: &[Selector],
        owner: &str,
        path: &str,
        findings: &mut Vec<Diagnostic>,
    ) -> Self {
        // Selectors of all kinds make sense here, as in a block.
        let path = format!("{path}.read_only");
        self.read_only = selector::compile(selectors, AccessAction::Block, false, &path, findings);
        self.read_only_rule = (!selectors.is_empty()).then(|| format!("{owner}: read_only").into());
        self
    }

    /// The rule by which this principal may only read here; what cannot be decided counts as
    /// read-only too.
    pub(crate) fn only_reads(&self, principal: &Principal, context: &RequestContext<'_>) -> Option<&Arc<str>> {
        let matches = self.read_only.iter().any(|test| test.is(principal, context) != Tri::No);
        self.read_only_rule.as_ref().filter(|_| matches)
    }

    /// For whom only reading is left.
    pub(crate) fn read_only(&self) -> &[Test] {
        &self.read_only
    }

    /// Name of that list, if it is there.
    pub(crate) fn read_only_rule(&self) -> Option<&Arc<str>> {
        self.read_only_rule.as_ref()
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
                requirement: None,
                approvals: Vec::new(),
            }],
            ..Self::default()
        }
    }

    /// The first rule that blocks; a rule that cannot be decided blocks too.
    pub(crate) fn block(&self, principal: &Principal, context: &RequestContext<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.action == AccessAction::Block && rule.matches(principal, context) != Tri::No)
    }

    /// The rules that let this principal in, if what they ask for is there.
    pub(crate) fn allows<'r>(
        &'r self,
        principal: &'r Principal,
        context: &'r RequestContext<'r>,
    ) -> impl Iterator<Item = &'r Rule> {
        self.rules
            .iter()
            .filter(move |rule| rule.action != AccessAction::Block && rule.matches(principal, context) == Tri::Yes)
    }

    fn tests(&self) -> impl Iterator<Item = &Test> {
        self.rules.iter().flat_map(Rule::tests).chain(&self.read_only)
    }

    /// Whether any rule looks at the address.
    pub(crate) fn use_ip(&self) -> bool {
        self.tests().any(|test| matches!(test, Test::Networks(_)))
    }

    /// Whether any rule looks at facts of the session.
    pub(crate) fn use_session(&self) -> bool {
        self.tests().any(Test::of_session) || self.rules.iter().any(|rule| rule.requirement.is_some())
    }

    /// Whether any rule looks at country or device.
    pub(crate) fn use_place(&self) -> bool {
        self.tests().any(|test| matches!(test, Test::Countries(_) | Test::Devices(_)))
    }

    /// Whether any rule looks at the second factor itself.
    pub(crate) fn use_mfa(&self) -> bool {
        self.tests().any(|test| matches!(test, Test::Mfa(_)))
    }

    /// When time alone may change what a rule says.
    pub(crate) fn next_change_ms(&self, now_ms: i64) -> Option<i64> {
        self.tests().filter_map(|test| test.next_change_ms(now_ms)).min()
    }

    /// Whether [`Self::next_change_ms`] ever says something.
    pub(crate) fn use_time(&self) -> bool {
        self.tests().any(|test| matches!(test, Test::Time(_)))
    }
}
