//! The compiled policies and the one function that decides.

mod build;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bartizan_config::Diagnostic;
use bartizan_model::{PrincipalKind, ReasonCode, ServerId};

use crate::access::Rules;
use crate::approval::{Approval, Asking};
use crate::args::Keys;
use crate::circumstance::Circumstance;
use crate::grant::Grant;
use crate::index::Index;
use crate::need::{Missing, Requirement};
use crate::query::{Action, Decision, Query, RequestContext};
use crate::schema::Vocabulary;
use crate::scope::{PrincipalScope, ResourceScope};
use crate::session::SessionFacts;
use crate::statement::{Facts, Outcome, Statement};
use build::{PortalAccess, ServerAccess};

/// All rules of one resource snapshot. Immutable and shared.
pub struct Policies {
    pub(crate) portals: HashMap<String, PortalAccess>,
    pub(crate) servers: HashMap<ServerId, ServerAccess>,
    pub(crate) grants: Vec<Grant>,
    pub(crate) statements: Vec<Statement>,
    pub(crate) forbids: Index,
    pub(crate) permits: Index,
    vocabulary: Vocabulary,
    keys: Keys,
    /// When grants expire, earliest first.
    expiries: Vec<i64>,
    /// Names that conditions begin with.
    condition_names: HashSet<Box<str>>,
    context_use: ContextUse,
    /// A rule looks at the second factor, so proving one may change a refusal.
    mfa_decides: bool,
    /// A rule looks at the time.
    windows: bool,
    warnings: Vec<Diagnostic>,
    version: u64,
}

/// Which circumstances any rule looks at; what no rule looks at need not be part of a
/// cache key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContextUse {
    /// The peer address.
    pub ip: bool,
    /// The client's name.
    pub client: bool,
    /// The client's version.
    pub client_version: bool,
    /// The era.
    pub era: bool,
    /// Anything in [`crate::SessionFacts`].
    pub session: bool,
    /// The age of the second factor: such a decision changes by time alone, and may be kept
    /// until [`Policies::holds_until_ms`].
    pub mfa_age: bool,
    /// Where the peer is: its country or device, which only the connection tells.
    pub place: bool,
}

impl Policies {
    /// Decides a call. Without `args` in the query, the arguments are an empty object.
    pub fn decide(&self, query: &Query<'_>) -> Decision {
        self.run(query, true)
    }

    /// Decides whether to list. Arguments are not known: a permit that depends on them
    /// counts as satisfiable, a forbid that depends on them does not hide.
    pub fn list_decision(&self, query: &Query<'_>) -> Decision {
        self.run(query, false)
    }

    /// The earliest time after `now_ms`, both in milliseconds since the epoch, at which a
    /// grant expires or a window of time may open or close: decisions kept for longer would
    /// outlive it.
    pub fn next_change_ms(&self, now_ms: i64) -> Option<i64> {
        let expiry = self.expiries.get(self.expiries.partition_point(|at| *at <= now_ms)).copied();
        if !self.windows {
            return expiry;
        }
        let rules = self.portals.values().map(|portal| &portal.rules);
        let rules = rules.chain(self.servers.values().map(|server| &server.rules));
        rules.filter_map(|rules| rules.next_change_ms(now_ms)).chain(expiry).min()
    }

    /// How long decisions made in this context may be kept: until a grant expires or, where
    /// rules look at it, the second factor is a second older. Milliseconds since the epoch;
    /// `None` for ever.
    pub fn holds_until_ms(&self, context: &RequestContext<'_>) -> Option<i64> {
        let age = context.session.filter(|_| self.context_use.mfa_age);
        let age = age.and_then(|session| session.next_age_ms(context.now_ms));
        age.into_iter().chain(self.next_change_ms(context.now_ms)).min()
    }

    /// Which circumstances any rule looks at.
    pub fn context_use(&self) -> ContextUse {
        self.context_use
    }

    /// Whether any rule about this portal or server as such, for whomever, looks at country or
    /// device: then who does not know those does not know the decision.
    pub fn place_matters(&self, portal: Option<&str>, server: Option<&ServerId>) -> bool {
        let rules = [
            portal.and_then(|id| self.portals.get(id)).map(|portal| &portal.rules),
            server.and_then(|id| self.servers.get(id)).map(|server| &server.rules),
        ];
        let about = |statement: &Statement| {
            let is = |action: Action| statement.scope.actions & action.bit() != 0;
            let named = |id: &str| {
                portal.is_some_and(|portal| *portal == *id) || server.is_some_and(|server| server.as_str() == id)
            };
            ((portal.is_some() && is(Action::UsePortal)) || (server.is_some() && is(Action::UseServer)))
                && match &statement.scope.resource {
                    ResourceScope::Any | ResourceScope::Kind(_) => true,
                    ResourceScope::One(_, id) | ResourceScope::InServer(id, _) => named(id),
                    ResourceScope::Nothing => false,
                }
        };
        rules.into_iter().flatten().any(Rules::use_place)
            || self.statements.iter().filter(|statement| about(statement)).any(|statement| {
                let usage = statement.condition.as_ref().map(|condition| condition.usage.context);
                usage.is_some_and(|used| used.has(Circumstance::Device) || used.has(Circumstance::Country))
            })
    }

    /// Rules that work, but hardly as meant: those that can never decide anything.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// Hash over everything that decides; the same for equal resources on every machine.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether any rule about this tool or prompt, for whomever, reads arguments. When
    /// not, its decision may be kept.
    pub fn args_matter(&self, server: &ServerId, name: &str) -> bool {
        let reads_args = |at: &usize| {
            let grant = self.grants.get(*at);
            grant.and_then(|grant| grant.condition.as_ref()).is_some_and(|condition| condition.reads_args())
        };
        let by_grant = self.servers.get(server).is_some_and(|access| {
            let grants = &access.grants;
            grants.by_class.iter().flatten().any(reads_args)
                || grants.by_tool.get(name).is_some_and(|list| list.iter().any(reads_args))
        });
        by_grant
            || self.statements.iter().filter(|statement| statement.reads_args()).any(|statement| {
                match &statement.scope.resource {
                    ResourceScope::Any | ResourceScope::Kind(_) => true,
                    ResourceScope::One(_, id) => id.split_once('/') == Some((server.as_str(), name)),
                    ResourceScope::InServer(id, _) => **id == *server.as_str(),
                    ResourceScope::Nothing => false,
                }
            })
    }

    /// Whether any rule tells entries of one server and class apart by more than the
    /// names it lists: a condition that looks at the name.
    pub fn conditions_use_name(&self, action: Action, server: &ServerId) -> bool {
        let by_grant =
            action == Action::CallTool && self.servers.get(server).is_some_and(|access| access.grants.use_name);
        by_grant
            || self.statements.iter().any(|statement| {
                statement.scope.actions & action.bit() != 0
                    // What a condition begins with is found by `is_named`.
                    && !(action.has_args() && statement.names().is_some())
                    && statement.condition.as_ref().is_some_and(|condition| condition.usage.name)
                    && match &statement.scope.resource {
                        ResourceScope::InServer(id, _) => **id == *server.as_str(),
                        // Entries named in the scope are found by `is_named`.
                        ResourceScope::One(..) | ResourceScope::Nothing => false,
                        ResourceScope::Any | ResourceScope::Kind(_) => true,
                    }
            })
    }

    /// Whether a grant or the scope of a statement names this entry. If not, and if
    /// [`Self::conditions_use_name`] is false for its server, one list decision holds for
    /// all entries of the server and class that nothing names.
    pub fn is_named(&self, action: Action, server: &ServerId, name: &str) -> bool {
        let by_grant = action == Action::CallTool
            && self.servers.get(server).is_some_and(|access| access.grants.by_tool.contains_key(name));
        by_grant
            || (action.has_args() && self.condition_names.contains(name))
            || self.forbids.names_entry(action, server.as_str(), name)
            || self.permits.names_entry(action, server.as_str(), name)
    }

    fn run(&self, query: &Query<'_>, args_known: bool) -> Decision {
        let mut run = Run::new(query, args_known);
        let mut result = self.stages(query, &mut run);
        if result.is_err() && run.can_add && self.mfa_decides {
            result = self.with_mfa(query, args_known, &mut run).unwrap_or(result);
        }
        let uses_args = run.uses_args;
        let need = result.is_ok().then(|| std::mem::take(&mut run.missing).need()).flatten();
        let decision = match (result, &need) {
            (Ok(rule), None) if !run.approvals.is_empty() => {
                let approvals = std::mem::take(&mut run.approvals);
                return Decision { uses_args: true, approvals, ..Decision::allowed(rule) };
            }
            (Ok(rule), None) => Decision::allowed(rule),
            // Listed, since it can be used; whoever calls is asked then.
            (Ok(rule), Some(_)) if !args_known => return Decision { uses_args: true, ..Decision::allowed(rule) },
            (Ok(rule), Some(need)) => Decision::refused(need.code(), rule),
            (Err((code, rule)), _) => Decision::refused(code, rule),
        };
        Decision { uses_args: uses_args || need.is_some(), need, ..decision }
    }

    /// Asks once more as if the person had just proved a second factor. `None` when that
    /// would not help.
    fn with_mfa(&self, query: &Query<'_>, args_known: bool, run: &mut Run) -> Option<Verdict> {
        let now_ms = query.context.now_ms;
        let ask = |age_s: i64| {
            let session = query.context.session.map(|session| SessionFacts {
                mfa_at_ms: Some(now_ms.saturating_sub(age_s.saturating_mul(1_000))),
                ..session
            });
            let context = RequestContext { session, ..query.context.clone() };
            let mut run = Run::new(query, args_known);
            let result = self.stages(&Query { context: &context, ..query.clone() }, &mut run);
            (result, run)
        };
        let (Ok(rule), fresh) = ask(0) else { return None };
        // The oldest that would do, so that nobody has to prove it again too soon.
        let age = if args_known { AGES_S.into_iter().find(|age| ask(*age).0.is_ok()).unwrap_or(0) } else { 0 };
        let max_age_s = if age == AGES_S[0] { None } else { u32::try_from(age).ok() };
        run.uses_args |= fresh.uses_args;
        run.approvals = fresh.approvals;
        run.missing = fresh.missing.and(Missing::factor(max_age_s));
        Some(Ok(rule))
    }

    /// The order of a decision, as in the crate's documentation.
    fn stages(&self, query: &Query<'_>, run: &mut Run) -> Verdict {
        let mut rule = None;
        if !query.principal.is_proper() {
            return Err((ReasonCode::PolicyDenied, Some("built in: no rule can name this user".into())));
        }
        if let Some(portal) = query.portal {
            rule = self.portal(query, portal.as_str(), run)?;
        } else if query.action == Action::UsePortal {
            return Err((ReasonCode::PolicyDenied, None));
        }
        if query.action == Action::UsePortal {
            return Ok(rule);
        }
        let rule = self.server(query, run)?;
        if query.action == Action::UseServer {
            return Ok(rule);
        }
        if query.class.needs_grant() && query.principal.kind == PrincipalKind::Anonymous {
            return Err((ReasonCode::WriteNotGranted, Some("built in: anonymous callers only read".into())));
        }
        if query.class.needs_grant()
            && let Some(rule) = self.only_reads(query)
        {
            return Err((ReasonCode::ReadOnlyMode, Some(Arc::clone(rule))));
        }
        let facts = Facts::new(query, query.action, &self.vocabulary, &self.keys);
        self.forbidden(&facts, run)?;
        if !query.class.needs_grant() {
            return Ok(rule);
        }
        self.granted(&facts, run)
    }

    /// The rule by which this caller may only read, here or at this server (P51).
    pub(crate) fn only_reads(&self, query: &Query<'_>) -> Option<&Arc<str>> {
        let portal = query.portal.and_then(|id| self.portals.get(id.as_str())).map(|portal| &portal.rules);
        let server = query.server.and_then(|id| self.servers.get(id)).map(|server| &server.rules);
        let mut rules = portal.into_iter().chain(server);
        rules.find_map(|rules| rules.only_reads(query.principal, query.context))
    }

    fn portal(&self, query: &Query<'_>, id: &str, run: &mut Run) -> Verdict {
        let Some(portal) = self.portals.get(id) else {
            return Err((ReasonCode::PolicyDenied, None));
        };
        if let (Some(servers), Some(server)) = (&portal.servers, query.server)
            && query.action != Action::UsePortal
            && !servers.contains(server)
        {
            return Err((ReasonCode::PolicyDenied, Some(format!("portal {id}: servers").into())));
        }
        let facts = Facts::new(query, Action::UsePortal, &self.vocabulary, &self.keys);
        let built_in = |refused: Refused| match refused {
            (code @ ReasonCode::Unauthenticated, None) => {
                (code, Some("built in: portals need a signed-in caller".into()))
            }
            refused => refused,
        };
        self.admitted(&portal.rules, None, &facts, run).map_err(built_in)
    }

    fn server(&self, query: &Query<'_>, run: &mut Run) -> Verdict {
        let Some(server) = query.server.and_then(|id| self.servers.get(id)) else {
            return Err((ReasonCode::PolicyDenied, None));
        };
        let public = (server.public && !query.principal.kind.is_machine()).then_some(&server.public_rule);
        let facts = Facts::new(query, Action::UseServer, &self.vocabulary, &self.keys);
        self.admitted(&server.rules, public, &facts, run)
    }

    /// Access to one portal or server: no block, no forbid, and something that lets in.
    fn admitted(&self, rules: &Rules, public: Option<&Arc<str>>, facts: &Facts<'_>, run: &mut Run) -> Verdict {
        let (principal, context) = (facts.query.principal, facts.query.context);
        if let Some(block) = rules.block(principal, context) {
            return Err((ReasonCode::PolicyDenied, Some(Arc::clone(&block.id))));
        }
        self.forbidden(facts, run)?;
        let (mut almost, mut asking) = (Almost::default(), Asking::default());
        for allow in rules.allows(principal, context) {
            if almost.meets(&allow.id, allow.requirement.as_ref(), facts, run)
                && asking.nobody(&allow.id, &allow.approvals, facts.query)
            {
                return Ok(Some(Arc::clone(&allow.id)));
            }
        }
        if let Some(public) = public {
            return Ok(Some(Arc::clone(public)));
        }
        if principal.kind == PrincipalKind::Anonymous {
            // All of them are one principal, for whom nobody can say yes.
            return Err((ReasonCode::Unauthenticated, None));
        }
        for at in self.permits.candidates(facts.query, facts.action) {
            let Some(statement) = self.statements.get(at) else { continue };
            if !statement.candidate(facts.query, facts.action) || !opens(statement, principal.kind) {
                continue;
            }
            match statement.evaluate(facts, run.args_known) {
                Outcome::Yes | Outcome::Open => {
                    if asking.nobody(&statement.rule, &statement.approvals, facts.query) {
                        return Ok(Some(Arc::clone(&statement.rule)));
                    }
                }
                Outcome::No => {}
                Outcome::Error { .. } if asking.is_some() => {}
                Outcome::Error { .. } => return Err((ReasonCode::PolicyDenied, Some(Arc::clone(&statement.rule)))),
            }
        }
        if let Some(rule) = asking.rule(facts.query, &mut run.approvals) {
            return Ok(Some(rule));
        }
        almost.end(run, (ReasonCode::PolicyDenied, None))
    }

    /// Refuses if a forbid holds, or cannot be evaluated.
    fn forbidden(&self, facts: &Facts<'_>, run: &mut Run) -> Result<(), Refused> {
        for at in self.forbids.candidates(facts.query, facts.action) {
            let Some(statement) = self.statements.get(at) else { continue };
            if !statement.candidate(facts.query, facts.action) {
                continue;
            }
            run.uses_args |= statement.reads_args();
            let code = match statement.evaluate(facts, run.args_known) {
                Outcome::No | Outcome::Open => continue,
                Outcome::Error { args: true, .. } => ReasonCode::ArgumentRefused,
                Outcome::Yes | Outcome::Error { args: false, .. } => ReasonCode::PolicyDenied,
            };
            return Err((code, Some(Arc::clone(&statement.rule))));
        }
        Ok(())
    }

    /// Looks for a grant or permit: first those that do not read arguments, and only if
    /// none of them holds the others, so that an unconditional grant never fails because
    /// of the arguments another one asks about.
    fn granted(&self, facts: &Facts<'_>, run: &mut Run) -> Verdict {
        let candidates = self.grant_candidates(facts);
        let mut near = None;
        let (mut almost, mut asking) = (Almost::default(), Asking::default());
        let mut satisfied = None;
        for reads_args in [false, true] {
            for candidate in candidates.iter().filter(|candidate| candidate.reads_args == reads_args) {
                run.uses_args |= reads_args;
                let condition = candidate.condition;
                match condition.map_or(Outcome::Yes, |condition| condition.evaluate(facts, run.args_known)) {
                    Outcome::Yes | Outcome::Open => {
                        if almost.meets(candidate.rule, candidate.requirement, facts, run)
                            && asking.nobody(candidate.rule, candidate.approvals, facts.query)
                        {
                            satisfied = satisfied.or_else(|| Some(Arc::clone(candidate.rule)));
                        }
                    }
                    Outcome::No => near = near.or_else(|| Some(Arc::clone(candidate.rule))),
                    // One that asks does not fail because of what another one looks at.
                    Outcome::Error { .. } if asking.is_some() => {}
                    Outcome::Error { args: true, .. } => {
                        return Err((ReasonCode::ArgumentRefused, Some(Arc::clone(candidate.rule))));
                    }
                    Outcome::Error { args: false, .. } => {
                        return Err((ReasonCode::PolicyDenied, Some(Arc::clone(candidate.rule))));
                    }
                }
            }
            if satisfied.is_some() {
                return Ok(satisfied);
            }
        }
        if let Some(rule) = asking.rule(facts.query, &mut run.approvals) {
            return Ok(Some(rule));
        }
        almost.end(run, (ReasonCode::WriteNotGranted, near))
    }

    pub(crate) fn grant_candidates<'s>(&'s self, facts: &Facts<'_>) -> Vec<Candidate<'s>> {
        let query = facts.query;
        let mut candidates = Vec::new();
        let server = query.server.and_then(|id| self.servers.get(id));
        if let Some(server) = server.filter(|_| facts.action == Action::CallTool) {
            for at in server.grants.covering(query.name, query.class) {
                let Some(grant) = self.grants.get(at) else { continue };
                if grant.alive(query.context.now_ms) && grant.names(query.principal) {
                    let requirement = grant.requirement.as_ref();
                    let candidate = Candidate::new(&grant.rule, grant.condition.as_ref(), &grant.approvals);
                    candidates.push(Candidate { requirement, ..candidate });
                }
            }
        }
        for at in self.permits.candidates(query, facts.action) {
            if let Some(statement) = self.statements.get(at).filter(|each| each.candidate(query, facts.action)) {
                let condition = statement.condition.as_ref();
                candidates.push(Candidate::new(&statement.rule, condition, &statement.approvals));
            }
        }
        candidates
    }

    pub(crate) fn facts<'q>(&'q self, query: &'q Query<'q>, action: Action) -> Facts<'q> {
        Facts::new(query, action, &self.vocabulary, &self.keys)
    }
}

type Refused = (ReasonCode, Option<Arc<str>>);
type Verdict = Result<Option<Arc<str>>, Refused>;

/// Ages of a second factor that a rule may want, seconds, the oldest first; that is as good
/// as any age.
const AGES_S: [i64; 13] =
    [10 * 366 * 86_400, 7 * 86_400, 86_400, 43_200, 28_800, 14_400, 7_200, 3_600, 1_800, 900, 300, 60, 0];

/// What one decision finds out beside its answer.
struct Run {
    /// Arguments are known; without them, what depends on them counts as good.
    args_known: bool,
    /// There is a person who could add something.
    can_add: bool,
    uses_args: bool,
    missing: Missing,
    approvals: Vec<Arc<Approval>>,
}

impl Run {
    fn new(query: &Query<'_>, args_known: bool) -> Self {
        let signed_in = query.context.session.is_some_and(|session| session.signed_in);
        let can_add = signed_in && query.principal.kind == PrincipalKind::User;
        Self { args_known, can_add, uses_args: false, missing: Missing::default(), approvals: Vec::new() }
    }
}

/// The rule that would do if the person added what it asks for.
#[derive(Default)]
struct Almost(Option<(Missing, Arc<str>)>);

impl Almost {
    /// Whether a rule that applies is satisfied; the first that is not is kept.
    fn meets(&mut self, rule: &Arc<str>, requirement: Option<&Requirement>, facts: &Facts<'_>, run: &mut Run) -> bool {
        let Some(requirement) = requirement else { return true };
        run.uses_args |= requirement.ages();
        let missing = requirement.missing(facts.query.context);
        let met = missing.is_nothing();
        if !met {
            self.0.get_or_insert_with(|| (missing, Arc::clone(rule)));
        }
        met
    }

    /// Nothing else lets in: the person may add what is missing, whoever cannot is refused.
    fn end(self, run: &mut Run, otherwise: Refused) -> Verdict {
        let Some((missing, rule)) = self.0 else { return Err(otherwise) };
        if !run.can_add {
            let code = missing.need().map_or(otherwise.0, |need| need.code());
            return Err((code, Some(rule)));
        }
        run.missing = std::mem::take(&mut run.missing).and(missing);
        Ok(Some(rule))
    }
}

/// A grant or permit that may let a call through.
pub(crate) struct Candidate<'s> {
    pub(crate) rule: &'s Arc<str>,
    pub(crate) condition: Option<&'s crate::statement::Condition>,
    pub(crate) requirement: Option<&'s Requirement>,
    pub(crate) approvals: &'s [Arc<Approval>],
    pub(crate) reads_args: bool,
}

impl<'s> Candidate<'s> {
    fn new(
        rule: &'s Arc<str>,
        condition: Option<&'s crate::statement::Condition>,
        approvals: &'s [Arc<Approval>],
    ) -> Self {
        let reads_args = condition.is_some_and(|condition| condition.reads_args());
        Self { rule, condition, requirement: None, approvals, reads_args }
    }
}

/// Whether a permit may stand in for a short-form `allow` or `service_auth`: only when it
/// names `use_portal` or `use_server`, and for services and agents only when it is about such.
/// A broad `permit(principal, action, resource)` must not open a door by accident.
pub(crate) fn opens(statement: &Statement, kind: PrincipalKind) -> bool {
    let scope = &statement.scope;
    let about_machines = match &scope.principal {
        PrincipalScope::Kind(kind) | PrincipalScope::Group(_, Some(kind)) => kind.is_machine(),
        PrincipalScope::One(key) => key.starts_with("service:") || key.starts_with("agent:"),
        _ => false,
    };
    scope.names_action
        && match kind {
            PrincipalKind::User => true,
            PrincipalKind::Service | PrincipalKind::Agent => about_machines,
            PrincipalKind::Anonymous => false,
        }
}
