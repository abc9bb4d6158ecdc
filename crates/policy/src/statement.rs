//! One Cedar statement: its scope, read natively, and its condition, evaluated by Cedar.
//!
//! A condition is split at its top-level `&&`: the part that does not read arguments is
//! evaluated first and by itself. It decides what can be decided without arguments
//! (lists), and spares calls the reading of arguments that cannot matter.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bartizan_model::{PrincipalKind, ToolClass};
use cedar_policy::pst::{
    ActionConstraint, BinaryOp, Clause, Expr, Literal, PrincipalConstraint, ResourceConstraint, StaticPolicy, Template,
    Var,
};
use cedar_policy::{
    Authorizer, Context, Effect, Entities, Entity, EntityUid, Policy, PolicySet, Request, RestrictedExpression,
};

use crate::approval::Approval;
use crate::args::{Document, Keys};
use crate::balance::balanced;
use crate::infer::{Inference, Problem, Usage, chain};
use crate::query::{Action, Query};
use crate::schema::{CLASSES, Vocabulary, class_bit};
use crate::scope::{ResourceKind, Scope, entity_id};

/// What came of one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Yes,
    No,
    /// Depends on the arguments, which are not known.
    Open,
    /// Cannot be evaluated; `args` when the arguments are the cause.
    Error {
        args: bool,
        why: String,
    },
}

/// A condition, compiled.
pub(crate) struct Condition {
    /// The part that does not read arguments; absent when there is none.
    free: Option<PolicySet>,
    /// The whole, when it reads arguments.
    full: Option<PolicySet>,
    pub(crate) usage: Usage,
    /// Classes for which the condition can hold, as bits of [`class_bit`].
    pub(crate) classes: u8,
    /// Names of the only tools and prompts for which the condition can hold, when it begins
    /// with saying them.
    pub(crate) names: Option<HashSet<Box<str>>>,
}

/// A Cedar statement.
pub(crate) struct Statement {
    /// `policy "id"`.
    pub(crate) rule: Arc<str>,
    /// `policies[3].cedar`.
    pub(crate) path: Arc<str>,
    /// Line of the statement within the text, from 1.
    pub(crate) line: usize,
    /// Character in that line, from 1.
    pub(crate) column: usize,
    /// First line of the statement.
    pub(crate) text: Arc<str>,
    pub(crate) effect: Effect,
    pub(crate) scope: Scope,
    /// Absent when the scope says it all.
    pub(crate) condition: Option<Condition>,
    /// Whom a permit asks before a request goes on; at most one.
    pub(crate) approvals: Vec<Arc<Approval>>,
}

impl Condition {
    /// Analyses and splits the condition of a policy. `None` when it has none.
    pub(crate) fn compile(template: &Template) -> Result<Option<Self>, Problem> {
        let mut inference = Inference::new();
        let mut free = Vec::new();
        let mut classes = u8::MAX;
        let mut reads_args = false;
        let mut names = Names::Open;
        for clause in template.clauses() {
            for (conjunct, clause) in conjuncts(clause) {
                names.then(conjunct, &clause);
                if inference.conjunct(conjunct)? {
                    reads_args = true;
                    continue;
                }
                if let Clause::When(expr) = &clause {
                    classes &= class_mask(expr);
                }
                free.push(clause);
            }
        }
        let usage = inference.finish()?;
        if template.clauses().is_empty() {
            return Ok(None);
        }
        let internal = |what: &str| Problem {
            code: "policy_unsupported",
            message: format!("the policy could not be prepared: {what}"),
            suggestion: None,
            near: None,
        };
        let program = |clauses: &[Clause]| program(template, clauses).map_err(|why| internal(&why));
        let free = if free.is_empty() { None } else { Some(program(&free)?) };
        let full = if reads_args { Some(program(template.clauses())?) } else { None };
        Ok(Some(Self { free, full, usage, classes, names: names.found() }))
    }

    /// Evaluates the condition. The scope must have been matched before.
    pub(crate) fn evaluate(&self, facts: &Facts<'_>, args_known: bool) -> Outcome {
        let mut free_failed = None;
        if let Some(free) = &self.free {
            match facts.evaluate(free, &self.usage, None) {
                Ok(true) => {}
                Ok(false) => return Outcome::No,
                Err(why) => free_failed = Some(why),
            }
        }
        let Some(full) = &self.full else {
            return match free_failed {
                Some(why) => Outcome::Error { args: false, why },
                None => Outcome::Yes,
            };
        };
        if !args_known {
            return match free_failed {
                Some(why) => Outcome::Error { args: false, why },
                None => Outcome::Open,
            };
        }
        let Some(shape) = &self.usage.args else {
            return Outcome::Error { args: true, why: "the argument types are not known".to_owned() };
        };
        let args = match facts.document().and_then(|document| shape.read(document)) {
            Ok(args) => args,
            Err(why) => return Outcome::Error { args: true, why },
        };
        match facts.evaluate(full, &self.usage, Some(args)) {
            Ok(true) => Outcome::Yes,
            Ok(false) => Outcome::No,
            Err(why) => Outcome::Error { args: free_failed.is_none(), why },
        }
    }

    /// Whether the outcome depends on arguments.
    pub(crate) fn reads_args(&self) -> bool {
        self.full.is_some()
    }
}

/// A policy of its own with some clauses of a template, balanced. Its scope is open: that
/// of the template is matched before, and then needs no entities.
fn program(template: &Template, clauses: &[Clause]) -> Result<PolicySet, String> {
    let clauses = clauses.iter().map(|clause| match clause {
        Clause::When(expr) => Clause::When(balanced(expr)),
        Clause::Unless(expr) => Clause::Unless(balanced(expr)),
    });
    let open = Template::new(
        template.id.clone(),
        template.effect,
        PrincipalConstraint::Any,
        ActionConstraint::Any,
        ResourceConstraint::Any,
    );
    let body = open.try_with_clauses(clauses).map_err(|error| error.to_string())?;
    let body = StaticPolicy::try_from(body).map_err(|error| error.to_string())?;
    let policy = Policy::from_pst(body.into()).map_err(|error| error.to_string())?;
    let mut set = PolicySet::new();
    set.add(policy).map_err(|error| error.to_string())?;
    Ok(set)
}

/// The top-level conjuncts of a clause, each with a clause of its own.
fn conjuncts(clause: &Clause) -> Vec<(&Expr, Clause)> {
    match clause {
        Clause::When(expr) => chain(BinaryOp::And, expr)
            .into_iter()
            .map(|conjunct| (conjunct, Clause::When(Arc::new(conjunct.clone()))))
            .collect(),
        Clause::Unless(expr) => vec![(expr, clause.clone())],
    }
}

/// The search for the names that a condition begins with. It ends at the first conjunct
/// that could fail to be evaluated: what comes before a failure decides, what comes after
/// must not hide it.
enum Names {
    Open,
    Found(HashSet<Box<str>>),
    Ended,
}

impl Names {
    fn then(&mut self, conjunct: &Expr, clause: &Clause) {
        if !matches!(self, Self::Open) {
            return;
        }
        *self = match (clause, name_mask(conjunct)) {
            (Clause::When(_), Some(names)) => Self::Found(names),
            (Clause::When(_), None) if never_fails(conjunct) => Self::Open,
            _ => Self::Ended,
        };
    }

    fn found(self) -> Option<HashSet<Box<str>>> {
        match self {
            Self::Found(names) => Some(names),
            Self::Open | Self::Ended => None,
        }
    }
}

/// `resource has …` and `context has …` of one member.
fn never_fails(expr: &Expr) -> bool {
    matches!(expr, Expr::HasAttr { expr, attrs } if attrs.len() == 1 && matches!(&**expr, Expr::Var(_)))
}

/// The names for which a conjunct can hold: `resource.name == "a"`,
/// `["a", "b"].contains(resource.name)`.
fn name_mask(expr: &Expr) -> Option<HashSet<Box<str>>> {
    let text = |expr: &Expr| match expr {
        Expr::Literal(Literal::String(text)) => Some(Box::<str>::from(text.as_str())),
        _ => None,
    };
    let is_name = |expr: &Expr| matches!(expr, Expr::GetAttr { expr, attr } if attr == "name" && **expr == Expr::Var(Var::Resource));
    let Expr::BinaryOp { op, left, right } = expr else { return None };
    match (op, &**left) {
        (BinaryOp::Eq, _) if is_name(left) => Some(HashSet::from([text(right)?])),
        (BinaryOp::Eq, _) if is_name(right) => Some(HashSet::from([text(left)?])),
        (BinaryOp::Contains, Expr::Set(items)) if is_name(right) => items.iter().map(|item| text(item)).collect(),
        _ => None,
    }
}

/// The classes for which a conjunct can hold, for the forms people write:
/// `resource.class == "write"`, `!=`, `["write", "destructive"].contains(resource.class)`.
fn class_mask(expr: &Expr) -> u8 {
    let text = |expr: &Expr| match expr {
        Expr::Literal(Literal::String(text)) => {
            Some(CLASSES.into_iter().find(|class| class.as_str() == text.as_str()).map_or(0, class_bit))
        }
        _ => None,
    };
    let is_class = |expr: &Expr| matches!(expr, Expr::GetAttr { expr, attr } if attr == "class" && **expr == Expr::Var(Var::Resource));
    let Expr::BinaryOp { op, left, right } = expr else {
        return u8::MAX;
    };
    match op {
        BinaryOp::Eq | BinaryOp::NotEq => {
            let named = if is_class(left) {
                text(right)
            } else if is_class(right) {
                text(left)
            } else {
                None
            };
            match (named, op) {
                (Some(bits), BinaryOp::Eq) => bits,
                (Some(bits), _) => !bits,
                (None, _) => u8::MAX,
            }
        }
        BinaryOp::Contains if is_class(right) => match &**left {
            Expr::Set(items) => {
                items.iter().map(|item| text(item)).try_fold(0, |all, bits| Some(all | bits?)).unwrap_or(u8::MAX)
            }
            _ => u8::MAX,
        },
        _ => u8::MAX,
    }
}

impl Statement {
    /// Whether the statement could apply to a question: everything but the condition.
    pub(crate) fn candidate(&self, query: &Query<'_>, action: Action) -> bool {
        self.scope.actions & action.bit() != 0
            && self.scope.about(query.principal)
            && self.scope.covers(query, action)
            && self.may_hold_for(query.class, action)
            && self.may_hold_for_name(query.name, action)
    }

    /// Tools and prompts always have a name, so the comparison cannot fail.
    fn may_hold_for_name(&self, name: &str, action: Action) -> bool {
        !action.has_args() || self.names().is_none_or(|names| names.contains(name))
    }

    /// The only names of tools and prompts for which the statement can hold.
    pub(crate) fn names(&self) -> Option<&HashSet<Box<str>>> {
        self.condition.as_ref().and_then(|condition| condition.names.as_ref())
    }

    fn may_hold_for(&self, class: ToolClass, action: Action) -> bool {
        action != Action::CallTool
            || self.condition.as_ref().is_none_or(|condition| condition.classes & class_bit(class) != 0)
    }

    /// Evaluates the condition.
    pub(crate) fn evaluate(&self, facts: &Facts<'_>, args_known: bool) -> Outcome {
        self.condition.as_ref().map_or(Outcome::Yes, |condition| condition.evaluate(facts, args_known))
    }

    /// Whether the outcome depends on arguments.
    pub(crate) fn reads_args(&self) -> bool {
        self.condition.as_ref().is_some_and(Condition::reads_args)
    }
}

/// The request in Cedar's terms, made when the first condition asks for it.
pub(crate) struct Facts<'q> {
    pub(crate) query: &'q Query<'q>,
    pub(crate) action: Action,
    vocabulary: &'q Vocabulary,
    keys: &'q Keys,
    request: OnceCell<Result<Parts, String>>,
    entities: OnceCell<Result<Entities, String>>,
    document: OnceCell<Result<Document<'q>, &'static str>>,
}

struct Parts {
    principal: EntityUid,
    action: EntityUid,
    resource: EntityUid,
    /// For conditions that look at neither principal nor resource.
    nothing: Entities,
}

impl<'q> Facts<'q> {
    pub(crate) fn new(query: &'q Query<'q>, action: Action, vocabulary: &'q Vocabulary, keys: &'q Keys) -> Self {
        let (request, entities, document) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { query, action, vocabulary, keys, request, entities, document }
    }

    fn document(&self) -> Result<&Document<'q>, String> {
        self.document
            .get_or_init(|| Document::parse(self.query.args.unwrap_or("{}"), self.keys))
            .as_ref()
            .map_err(|why| format!("the arguments: {why}"))
    }

    fn parts(&self) -> Result<&Parts, String> {
        self.request.get_or_init(|| self.build_parts()).as_ref().map_err(Clone::clone)
    }

    fn entities(&self, parts: &Parts) -> Result<&Entities, String> {
        self.entities.get_or_init(|| self.build_entities(parts)).as_ref().map_err(Clone::clone)
    }

    fn build_parts(&self) -> Result<Parts, String> {
        let query = self.query;
        let server = query.server.map_or("", |server| server.as_str());
        let kind = ResourceKind::of(self.action);
        let id = match kind {
            ResourceKind::Portal => query.portal.map_or("", |portal| portal.as_str()).to_owned(),
            ResourceKind::Server => server.to_owned(),
            ResourceKind::Tool | ResourceKind::Prompt | ResourceKind::Resource => entity_id(server, query.name),
        };
        let unknown = || "unknown entity type".to_owned();
        Ok(Parts {
            principal: self.vocabulary.principal(query.principal.kind, &query.principal.id),
            action: self.vocabulary.action(self.action).ok_or_else(unknown)?,
            resource: self.vocabulary.resource(kind, &id).ok_or_else(unknown)?,
            nothing: Entities::empty(),
        })
    }

    fn build_entities(&self, parts: &Parts) -> Result<Entities, String> {
        let query = self.query;
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let server = query.server.map_or("", |server| server.as_str());
        let kind = ResourceKind::of(self.action);
        let attributes = match kind {
            ResourceKind::Portal | ResourceKind::Server => vec![("id", text(parts.resource.id().unescaped()))],
            ResourceKind::Tool => {
                vec![("name", text(query.name)), ("class", text(query.class.as_str())), ("server", text(server))]
            }
            ResourceKind::Prompt => vec![("name", text(query.name)), ("server", text(server))],
            ResourceKind::Resource => vec![("uri", text(query.name)), ("server", text(server))],
        };
        let mut parents = HashSet::new();
        if matches!(kind, ResourceKind::Tool | ResourceKind::Prompt | ResourceKind::Resource) {
            parents.extend(self.vocabulary.resource(ResourceKind::Server, server));
        }
        let groups = match query.principal.kind {
            PrincipalKind::Anonymous => HashSet::new(),
            _ => query.principal.groups.iter().map(|group| self.vocabulary.group(group)).collect(),
        };
        let entities = [
            entity(parts.principal.clone(), vec![("id", text(&query.principal.id))], groups)?,
            entity(parts.resource.clone(), attributes, parents)?,
        ];
        Entities::from_entities(entities, None).map_err(|error| error.to_string())
    }

    /// Evaluates one statement. `Err` says why it cannot be evaluated.
    fn evaluate(&self, set: &PolicySet, usage: &Usage, args: Option<RestrictedExpression>) -> Result<bool, String> {
        let parts = self.parts()?;
        let context = self.context(usage, args)?;
        let request =
            Request::new(parts.principal.clone(), parts.action.clone(), parts.resource.clone(), context, None)
                .map_err(|error| error.to_string())?;
        let entities = if usage.entities { self.entities(parts)? } else { &parts.nothing };
        let response = Authorizer::new().is_authorized(&request, set, entities);
        if let Some(error) = response.diagnostics().errors().next() {
            return Err(error.to_string());
        }
        Ok(response.diagnostics().reason().next().is_some())
    }

    fn context(&self, usage: &Usage, args: Option<RestrictedExpression>) -> Result<Context, String> {
        let used = usage.context.iter();
        let mut pairs: Vec<(String, RestrictedExpression)> =
            used.filter_map(|each| Some((each.as_str().to_owned(), each.value(self.query)?))).collect();
        if let Some(args) = args {
            pairs.push(("args".to_owned(), args));
        }
        Context::from_pairs(pairs).map_err(|error| error.to_string())
    }
}

fn entity(
    uid: EntityUid,
    attributes: Vec<(&str, RestrictedExpression)>,
    parents: HashSet<EntityUid>,
) -> Result<Entity, String> {
    let attributes: HashMap<String, RestrictedExpression> =
        attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Entity::new(uid, attributes, parents).map_err(|error| error.to_string())
}
