//! The decision about a request of which not everything is known (feature row A22): the
//! record holds who asked for what, but neither arguments nor what a sign-in proved. What
//! hangs on those is not guessed: the answer is then what it depends on.
//!
//! Every rule gets a least and a most it may say, and decisions only grow with permissions
//! and shrink with prohibitions; so where least and most agree, every request that the
//! record could stand for is decided like this, in the order of the crate's documentation.

use std::sync::Arc;

use bartizan_config::resources::AccessAction;
use bartizan_model::{PrincipalKind, ReasonCode};

use crate::access::Rules;
use crate::approval::Approval;
use crate::circumstance::Circumstance;
use crate::engine::{Policies, opens};
use crate::query::{Action, Query};
use crate::selector::{Test, Tri};
use crate::statement::{Condition, Facts, Outcome};

/// Things that a decision may depend on and that are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unknowns(u8);

impl Unknowns {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The arguments of a call.
    pub const ARGUMENTS: Self = Self(1);
    /// Whether and when a second factor was proved.
    pub const MFA: Self = Self(1 << 1);
    /// The authentication context class.
    pub const ACR: Self = Self(1 << 2);
    /// The OAuth client behind the credential.
    pub const CLIENT_ID: Self = Self(1 << 3);
    /// Claims of the sign-in.
    pub const CLAIMS: Self = Self(1 << 4);
    /// What an approver says.
    pub const APPROVAL: Self = Self(1 << 5);

    const NAMES: [(Self, &'static str); 6] = [
        (Self::ARGUMENTS, "arguments"),
        (Self::MFA, "second factor"),
        (Self::ACR, "authentication context"),
        (Self::CLIENT_ID, "client id"),
        (Self::CLAIMS, "claims"),
        (Self::APPROVAL, "approval"),
    ];

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is nothing.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Names for people, in a fixed order.
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMES.into_iter().filter(|(each, _)| self.has(*each)).map(|(_, name)| name).collect()
    }

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// What is certain about a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Simulated {
    /// Allowed, whatever is not known.
    Allowed {
        /// A rule that lets it through.
        rule: Option<Arc<str>>,
    },
    /// Refused, whatever is not known.
    Refused {
        /// Why.
        code: ReasonCode,
        /// The rule that refuses.
        rule: Option<Arc<str>>,
    },
    /// One or the other.
    Depends {
        /// On what.
        on: Unknowns,
        /// The first rule that looks at it.
        rule: Option<Arc<str>>,
    },
}

/// What one rule says: the least and the most.
struct Span {
    least: Tri,
    most: Tri,
    on: Unknowns,
}

/// What is found out stage by stage.
#[derive(Default)]
struct Tally {
    /// Stands if nothing else refuses: something is missing that a person can add.
    lacks: Option<(ReasonCode, Option<Arc<str>>)>,
    open: Unknowns,
    open_rule: Option<Arc<str>>,
}

type Refused = (ReasonCode, Option<Arc<str>>);

impl Tally {
    fn depends(&mut self, on: Unknowns, rule: &Arc<str>) {
        self.open = self.open.and(on);
        self.open_rule.get_or_insert_with(|| Arc::clone(rule));
    }
}

/// The ways in or to a grant, asked one after the other.
#[derive(Default)]
struct Ways {
    /// One that is open for certain.
    sure: Option<Arc<str>>,
    maybe: Tally,
    /// One that asks an approver.
    asks: Option<Arc<str>>,
    lacks: Option<Refused>,
}

impl Policies {
    /// Decides as far as it is certain without knowing `unknown`. The facts that are not
    /// known must be absent from the question; all others must be as they were.
    pub fn simulate(&self, query: &Query<'_>, unknown: Unknowns) -> Simulated {
        let mut tally = Tally::default();
        match self.simulate_stages(query, unknown, &mut tally) {
            Err((code, rule)) => Simulated::Refused { code, rule },
            Ok(rule) => match (tally.lacks, tally.open) {
                (Some((code, rule)), _) => Simulated::Refused { code, rule },
                (None, Unknowns::NONE) => Simulated::Allowed { rule },
                (None, on) => Simulated::Depends { on, rule: tally.open_rule },
            },
        }
    }

    /// A refusal that is returned is certain; so later stages are asked although an earlier
    /// one may refuse.
    fn simulate_stages(
        &self,
        query: &Query<'_>,
        unknown: Unknowns,
        tally: &mut Tally,
    ) -> Result<Option<Arc<str>>, Refused> {
        if !query.principal.is_proper() {
            return Err((ReasonCode::PolicyDenied, Some("built in: no rule can name this user".into())));
        }
        let mut rule = None;
        if let Some(id) = query.portal {
            let Some(portal) = self.portals.get(id.as_str()) else { return Err((ReasonCode::PolicyDenied, None)) };
            if let (Some(servers), Some(server)) = (&portal.servers, query.server)
                && query.action != Action::UsePortal
                && !servers.contains(server)
            {
                return Err((ReasonCode::PolicyDenied, Some(format!("portal {id}: servers").into())));
            }
            rule = self.simulate_door(&portal.rules, None, &self.facts(query, Action::UsePortal), unknown, tally)?;
        } else if query.action == Action::UsePortal {
            return Err((ReasonCode::PolicyDenied, None));
        }
        if query.action == Action::UsePortal {
            return Ok(rule);
        }
        let Some(server) = query.server.and_then(|id| self.servers.get(id)) else {
            return Err((ReasonCode::PolicyDenied, None));
        };
        let public = (server.public && !query.principal.kind.is_machine()).then_some(&server.public_rule);
        let facts = self.facts(query, Action::UseServer);
        let rule = self.simulate_door(&server.rules, public, &facts, unknown, tally)?;
        if query.action == Action::UseServer {
            return Ok(rule);
        }
        if query.class.needs_grant() {
            if query.principal.kind == PrincipalKind::Anonymous {
                return Err((ReasonCode::WriteNotGranted, Some("built in: anonymous callers only read".into())));
            }
            let portal = query.portal.and_then(|id| self.portals.get(id.as_str())).map(|portal| &portal.rules);
            for rules in portal.into_iter().chain([&server.rules]) {
                let Some(rule) = rules.read_only_rule() else { continue };
                let span = most_of(rules.read_only(), query, unknown);
                if span.least != Tri::No {
                    return Err((ReasonCode::ReadOnlyMode, Some(Arc::clone(rule))));
                }
                if span.most != Tri::No {
                    tally.depends(span.on, rule);
                }
            }
        }
        let facts = self.facts(query, query.action);
        self.simulate_forbids(&facts, unknown, tally)?;
        if !query.class.needs_grant() {
            return Ok(rule);
        }
        self.simulate_grants(&facts, unknown, tally)
    }

    fn simulate_door(
        &self,
        rules: &Rules,
        public: Option<&Arc<str>>,
        facts: &Facts<'_>,
        unknown: Unknowns,
        tally: &mut Tally,
    ) -> Result<Option<Arc<str>>, Refused> {
        let query = facts.query;
        for rule in rules.rules.iter().filter(|rule| rule.action == AccessAction::Block) {
            let span = rule.span(query, unknown);
            if span.least != Tri::No {
                return Err((ReasonCode::PolicyDenied, Some(Arc::clone(&rule.id))));
            }
            if span.most != Tri::No {
                tally.depends(span.on, &rule.id);
            }
        }
        self.simulate_forbids(facts, unknown, tally)?;
        let mut ways = Ways::default();
        for rule in rules.rules.iter().filter(|rule| rule.action != AccessAction::Block) {
            let span = rule.span(query, unknown);
            if span.most != Tri::Yes {
                continue;
            }
            let mut on = if span.least == Tri::Yes { Unknowns::NONE } else { span.on };
            if let Some(requirement) = &rule.requirement {
                let missing = requirement.missing(query.context);
                let person = query.principal.kind == PrincipalKind::User;
                match requirement.unknown(unknown, person) {
                    // The purpose is known, and it is missing: then nothing else helps.
                    _ if missing.lacks_purpose() => {
                        ways.lack((ReasonCode::PurposeRequired, Some(Arc::clone(&rule.id))));
                        continue;
                    }
                    Unknowns::NONE if !missing.is_nothing() => {
                        ways.lack((ReasonCode::StepUpRequired, Some(Arc::clone(&rule.id))));
                        continue;
                    }
                    more => on = on.and(more),
                }
            }
            ways.add(&rule.id, on, &rule.approvals, query);
        }
        if ways.sure.is_none()
            && let Some(public) = public
        {
            return Ok(Some(Arc::clone(public)));
        }
        if ways.sure.is_none() && query.principal.kind == PrincipalKind::Anonymous {
            return ways.end(tally, (ReasonCode::Unauthenticated, None));
        }
        for at in self.permits.candidates(query, facts.action) {
            if ways.sure.is_some() {
                break;
            }
            let Some(statement) = self.statements.get(at) else { continue };
            if !statement.candidate(query, facts.action) || !opens(statement, query.principal.kind) {
                continue;
            }
            match said(statement.condition.as_ref(), facts, unknown) {
                Ok(Outcome::Yes | Outcome::Open) => {
                    ways.add(&statement.rule, Unknowns::NONE, &statement.approvals, query);
                }
                Ok(Outcome::No) => {}
                Ok(Outcome::Error { .. }) if ways.asks.is_some() => {}
                // What comes after it is not asked any more.
                Ok(Outcome::Error { .. }) => {
                    return ways.end(tally, (ReasonCode::PolicyDenied, Some(Arc::clone(&statement.rule))));
                }
                Err(on) => ways.add(&statement.rule, on, &statement.approvals, query),
            }
        }
        ways.end(tally, (ReasonCode::PolicyDenied, None))
    }

    fn simulate_forbids(&self, facts: &Facts<'_>, unknown: Unknowns, tally: &mut Tally) -> Result<(), Refused> {
        for at in self.forbids.candidates(facts.query, facts.action) {
            let Some(statement) = self.statements.get(at) else { continue };
            if !statement.candidate(facts.query, facts.action) {
                continue;
            }
            let code = match said(statement.condition.as_ref(), facts, unknown) {
                Ok(Outcome::No | Outcome::Open) => continue,
                Ok(Outcome::Error { args: true, .. }) => ReasonCode::ArgumentRefused,
                Ok(Outcome::Yes | Outcome::Error { args: false, .. }) => ReasonCode::PolicyDenied,
                Err(on) => {
                    tally.depends(on, &statement.rule);
                    continue;
                }
            };
            return Err((code, Some(Arc::clone(&statement.rule))));
        }
        Ok(())
    }

    fn simulate_grants(
        &self,
        facts: &Facts<'_>,
        unknown: Unknowns,
        tally: &mut Tally,
    ) -> Result<Option<Arc<str>>, Refused> {
        let mut ways = Ways::default();
        let mut near = None;
        let candidates = self.grant_candidates(facts);
        // One that cannot be evaluated refuses, also beside one that lets through.
        let mut fails = Unknowns::NONE;
        let mut failing = None;
        for reads_args in [false, true] {
            for candidate in candidates.iter().filter(|candidate| candidate.reads_args == reads_args) {
                let mut on = Unknowns::NONE;
                match said(candidate.condition, facts, unknown) {
                    Ok(Outcome::Yes | Outcome::Open) => {}
                    Ok(Outcome::No) => {
                        near = near.or_else(|| Some(Arc::clone(candidate.rule)));
                        continue;
                    }
                    Ok(Outcome::Error { .. }) if ways.asks.is_some() => continue,
                    Ok(Outcome::Error { args, .. }) => {
                        let code = if args { ReasonCode::ArgumentRefused } else { ReasonCode::PolicyDenied };
                        let refused = (code, Some(Arc::clone(candidate.rule)));
                        // It refuses even beside a grant that holds, but not if the first round was
                        // the end, or somebody is asked.
                        let open = reads_args || ways.maybe.open.has(Unknowns::APPROVAL);
                        return if open { Ways { sure: None, ..ways }.end(tally, refused) } else { Err(refused) };
                    }
                    Err(open) => {
                        (fails, on) = (fails.and(open), open);
                        failing.get_or_insert(candidate.rule);
                    }
                }
                let person = facts.query.principal.kind == PrincipalKind::User;
                if let Some(requirement) = candidate.requirement {
                    let missing = requirement.missing(facts.query.context);
                    let more = requirement.unknown(unknown, person);
                    if missing.lacks_purpose() || (more.is_none() && !missing.is_nothing()) {
                        let code = if missing.lacks_purpose() {
                            ReasonCode::PurposeRequired
                        } else {
                            ReasonCode::StepUpRequired
                        };
                        if on.is_none() {
                            ways.lack((code, Some(Arc::clone(candidate.rule))));
                        }
                        continue;
                    }
                    on = on.and(more);
                }
                ways.add(candidate.rule, on, candidate.approvals, facts.query);
            }
            if ways.sure.is_some() {
                if let Some(rule) = failing {
                    tally.depends(fails, rule);
                }
                return Ok(ways.sure);
            }
        }
        ways.end(tally, (ReasonCode::WriteNotGranted, near))
    }
}

impl Ways {
    fn add(&mut self, rule: &Arc<str>, on: Unknowns, approvals: &[Arc<Approval>], query: &Query<'_>) {
        if approvals.iter().any(|approval| approval.concerns(query)) {
            if on.is_none() {
                self.asks.get_or_insert_with(|| Arc::clone(rule));
            }
            self.maybe.depends(on.and(Unknowns::APPROVAL), rule);
        } else if on.is_none() {
            self.sure.get_or_insert_with(|| Arc::clone(rule));
        } else {
            self.maybe.depends(on, rule);
        }
    }

    fn lack(&mut self, refused: Refused) {
        self.lacks.get_or_insert(refused);
    }

    /// Open, perhaps open, or shut.
    fn end(self, tally: &mut Tally, otherwise: Refused) -> Result<Option<Arc<str>>, Refused> {
        if self.sure.is_some() {
            return Ok(self.sure);
        }
        if let Some(rule) = &self.maybe.open_rule {
            tally.depends(self.maybe.open, rule);
            return Ok(None);
        }
        match self.lacks {
            Some(lacks) => {
                let rule = lacks.1.clone();
                tally.lacks.get_or_insert(lacks);
                Ok(rule)
            }
            None => Err(otherwise),
        }
    }
}

/// What a condition says; `Err` is what it depends on, and then it may also fail.
fn said(condition: Option<&Condition>, facts: &Facts<'_>, unknown: Unknowns) -> Result<Outcome, Unknowns> {
    let Some(condition) = condition else { return Ok(Outcome::Yes) };
    let looked = [
        (Circumstance::MfaAge, Unknowns::MFA),
        (Circumstance::Acr, Unknowns::ACR),
        (Circumstance::ClientId, Unknowns::CLIENT_ID),
    ];
    let looked = looked.into_iter().filter(|(each, _)| condition.usage.context.has(*each));
    let on = looked.fold(Unknowns::NONE, |all, (_, one)| all.and(one)).both(unknown);
    let args = unknown.has(Unknowns::ARGUMENTS) && condition.reads_args();
    if !on.is_none() {
        return Err(if args { on.and(Unknowns::ARGUMENTS) } else { on });
    }
    match condition.evaluate(facts, !args) {
        Outcome::Open => Err(Unknowns::ARGUMENTS),
        // With arguments the whole condition is asked, which may say something else.
        Outcome::Error { .. } if args => Err(Unknowns::ARGUMENTS),
        outcome => Ok(outcome),
    }
}

/// The most that any of some tests says.
fn most_of(tests: &[Test], query: &Query<'_>, unknown: Unknowns) -> Span {
    tests
        .iter()
        .map(|test| one(test, query, unknown))
        .fold(Span::sure(Tri::No), |all, each| all.combine(each, std::cmp::Ord::max))
}

fn one(test: &Test, query: &Query<'_>, unknown: Unknowns) -> Span {
    let on = match test {
        Test::Mfa(_) => Unknowns::MFA,
        Test::Clients(_) => Unknowns::CLIENT_ID,
        Test::Claim(_) => Unknowns::CLAIMS,
        _ => Unknowns::NONE,
    };
    if on.both(unknown).is_none() {
        Span::sure(test.is(query.principal, query.context))
    } else {
        Span { least: Tri::No, most: Tri::Yes, on }
    }
}

impl Span {
    fn sure(tri: Tri) -> Self {
        Self { least: tri, most: tri, on: Unknowns::NONE }
    }

    fn combine(self, other: Self, pick: impl Fn(Tri, Tri) -> Tri) -> Self {
        let (least, most) = (pick(self.least, other.least), pick(self.most, other.most));
        Self { least, most, on: self.on.and(other.on) }
    }

    fn not(self) -> Self {
        let not = |tri| match tri {
            Tri::Yes => Tri::No,
            Tri::Unknown => Tri::Unknown,
            Tri::No => Tri::Yes,
        };
        Self { least: not(self.most), most: not(self.least), on: self.on }
    }
}

impl crate::access::Rule {
    /// [`Self::matches`] of whatever is not known.
    fn span(&self, query: &Query<'_>, unknown: Unknowns) -> Span {
        let kind = query.principal.kind;
        let about = match self.action {
            AccessAction::Allow => kind == PrincipalKind::User,
            AccessAction::ServiceAuth => kind.is_machine(),
            AccessAction::Block | AccessAction::Bypass => true,
        };
        if !about {
            return Span::sure(Tri::No);
        }
        let (include, require, exclude) = self.lists();
        let required = require
            .iter()
            .map(|test| one(test, query, unknown))
            .fold(Span::sure(Tri::Yes), |all, each| all.combine(each, std::cmp::Ord::min));
        let kept = most_of(exclude, query, unknown).not();
        most_of(include, query, unknown).combine(required, std::cmp::Ord::min).combine(kept, std::cmp::Ord::min)
    }
}
