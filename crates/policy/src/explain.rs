//! Why a decision was what it was (feature row U6).

use std::sync::Arc;

use bartizan_config::resources::AccessAction;
use bartizan_model::PrincipalKind;
use cedar_policy::Effect;
use serde::Serialize;

use crate::access::Rules;
use crate::engine::{Policies, opens};
use crate::need::Need;
use crate::query::{Action, Decision, Query};
use crate::selector::Tri;
use crate::statement::{Facts, Outcome, Statement};

/// A decision with every rule that was a candidate.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The decision, equal to that of [`Policies::decide`] for the same question.
    pub decision: Decision,
    /// The candidates in the order in which they are asked.
    pub rules: Vec<RuleVerdict>,
}

/// One rule and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleVerdict {
    /// Which question of the decision it belongs to: `use_portal`, `use_server`, `call_tool`, …
    pub stage: &'static str,
    /// Name as in audit events.
    pub rule: Arc<str>,
    /// Kind of rule.
    pub kind: RuleKind,
    /// What came of it.
    pub verdict: Verdict,
    /// Where it is written: `servers[2].policies[0]`, `policies[1].cedar`.
    pub path: Arc<str>,
    /// Line within a Cedar text, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The beginning of the Cedar statement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Arc<str>>,
    /// More about the verdict. Holds member names of arguments, never their values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Kinds of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// Short form `allow`.
    Allow,
    /// Short form `service_auth`.
    ServiceAuth,
    /// Short form `bypass`.
    Bypass,
    /// Short form `block`.
    Block,
    /// `visibility: public`.
    Public,
    /// A grant.
    Grant,
    /// A Cedar `permit`.
    Permit,
    /// A Cedar `forbid`.
    Forbid,
    /// `read_only` of a portal or server (P51).
    ReadOnly,
}

/// What came of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The rule applies.
    Matched,
    /// It does not.
    NotMatched,
    /// It cannot be evaluated; the request is refused.
    Failed,
    /// A grant whose time is over.
    Expired,
}

impl Policies {
    /// Decides and lists every rule that was a candidate for the question.
    pub fn explain(&self, query: &Query<'_>) -> Explanation {
        let mut rules = Vec::new();
        if let Some(portal) = query.portal
            && let Some(access) = self.portals.get(portal.as_str())
        {
            let facts = self.facts(query, Action::UsePortal);
            self.explain_access(&access.rules, None, &facts, &mut rules);
        }
        if query.action != Action::UsePortal
            && let Some(access) = query.server.and_then(|server| self.servers.get(server))
        {
            let facts = self.facts(query, Action::UseServer);
            self.explain_access(&access.rules, access.public.then_some(&access.public_rule), &facts, &mut rules);
        }
        if !matches!(query.action, Action::UsePortal | Action::UseServer) {
            let facts = self.facts(query, query.action);
            if query.class.needs_grant()
                && let Some(rule) = self.only_reads(query)
            {
                rules.push(RuleVerdict {
                    stage: query.action.as_str(),
                    rule: Arc::clone(rule),
                    kind: RuleKind::ReadOnly,
                    verdict: Verdict::Matched,
                    path: Arc::clone(rule),
                    line: None,
                    text: None,
                    note: None,
                });
            }
            self.explain_statements(Effect::Forbid, &facts, &mut rules, |_| true);
            if query.class.needs_grant() && query.principal.kind != PrincipalKind::Anonymous {
                self.explain_grants(&facts, &mut rules);
                self.explain_statements(Effect::Permit, &facts, &mut rules, |_| true);
            }
        }
        Explanation { decision: self.decide(query), rules }
    }

    fn explain_access(
        &self,
        access: &Rules,
        public: Option<&Arc<str>>,
        facts: &Facts<'_>,
        rules: &mut Vec<RuleVerdict>,
    ) {
        let query = facts.query;
        for rule in &access.rules {
            let matches = rule.matches(query.principal, query.context);
            let unknown = (matches == Tri::Unknown).then(|| "what the rule looks at is not known".to_owned());
            let missing = rule.requirement.as_ref().and_then(|all| all.missing(query.context).need());
            let lacks = missing.filter(|_| matches == Tri::Yes).map(|need| match need {
                Need::Mfa { .. } => "the second factor is missing or too old".to_owned(),
                Need::Purpose => "no purpose was stated".to_owned(),
            });
            let matches = if lacks.is_some() { Tri::No } else { matches };
            let (kind, verdict) = match (rule.action, matches) {
                (AccessAction::Block, Tri::No) => (RuleKind::Block, Verdict::NotMatched),
                (AccessAction::Block, _) => (RuleKind::Block, Verdict::Matched),
                (AccessAction::Allow, Tri::Yes) => (RuleKind::Allow, Verdict::Matched),
                (AccessAction::Allow, _) => (RuleKind::Allow, Verdict::NotMatched),
                (AccessAction::Bypass, Tri::Yes) => (RuleKind::Bypass, Verdict::Matched),
                (AccessAction::Bypass, _) => (RuleKind::Bypass, Verdict::NotMatched),
                (AccessAction::ServiceAuth, Tri::Yes) => (RuleKind::ServiceAuth, Verdict::Matched),
                (AccessAction::ServiceAuth, _) => (RuleKind::ServiceAuth, Verdict::NotMatched),
            };
            let (rule, path) = (Arc::clone(&rule.id), Arc::clone(&rule.path));
            let stage = facts.action.as_str();
            rules.push(RuleVerdict {
                stage,
                rule,
                kind,
                verdict,
                path,
                line: None,
                text: None,
                note: unknown.or(lacks),
            });
        }
        self.explain_statements(Effect::Forbid, facts, rules, |_| true);
        if let Some(rule) = public {
            let service = query.principal.kind.is_machine();
            rules.push(RuleVerdict {
                stage: facts.action.as_str(),
                rule: Arc::clone(rule),
                kind: RuleKind::Public,
                verdict: if service { Verdict::NotMatched } else { Verdict::Matched },
                path: "servers".into(),
                line: None,
                text: None,
                note: service.then(|| "service tokens and agents need a `service_auth` rule".to_owned()),
            });
        }
        self.explain_statements(Effect::Permit, facts, rules, |statement| opens(statement, query.principal.kind));
    }

    fn explain_grants(&self, facts: &Facts<'_>, rules: &mut Vec<RuleVerdict>) {
        let query = facts.query;
        let Some(server) = query.server.and_then(|server| self.servers.get(server)) else { return };
        if facts.action != Action::CallTool {
            return;
        }
        for at in server.grants.covering(query.name, query.class) {
            let Some(grant) = self.grants.get(at).filter(|grant| grant.names(query.principal)) else { continue };
            let (verdict, note) = if grant.alive(query.context.now_ms) {
                let outcome =
                    grant.condition.as_ref().map_or(Outcome::Yes, |condition| condition.evaluate(facts, true));
                verdict_of(outcome)
            } else {
                (Verdict::Expired, None)
            };
            let (rule, path) = (Arc::clone(&grant.rule), Arc::clone(&grant.path));
            let stage = facts.action.as_str();
            rules.push(RuleVerdict { stage, rule, kind: RuleKind::Grant, verdict, path, line: None, text: None, note });
        }
    }

    fn explain_statements(
        &self,
        effect: Effect,
        facts: &Facts<'_>,
        rules: &mut Vec<RuleVerdict>,
        counts: impl Fn(&Statement) -> bool,
    ) {
        let (index, kind) = match effect {
            Effect::Forbid => (&self.forbids, RuleKind::Forbid),
            Effect::Permit => (&self.permits, RuleKind::Permit),
        };
        for at in index.candidates(facts.query, facts.action) {
            let Some(statement) = self.statements.get(at) else { continue };
            if !statement.candidate(facts.query, facts.action) || !counts(statement) {
                continue;
            }
            let (verdict, note) = verdict_of(statement.evaluate(facts, true));
            rules.push(RuleVerdict {
                stage: facts.action.as_str(),
                rule: Arc::clone(&statement.rule),
                kind,
                verdict,
                path: Arc::clone(&statement.path),
                line: Some(statement.line),
                text: Some(Arc::clone(&statement.text)),
                note,
            });
        }
    }
}

fn verdict_of(outcome: Outcome) -> (Verdict, Option<String>) {
    match outcome {
        Outcome::Yes | Outcome::Open => (Verdict::Matched, None),
        Outcome::No => (Verdict::NotMatched, None),
        Outcome::Error { why, .. } => (Verdict::Failed, Some(why)),
    }
}
