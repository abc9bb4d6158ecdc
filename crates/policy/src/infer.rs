//! What a condition looks at: which circumstances, whether the resource's name, and
//! which argument members of which types.
//!
//! Arguments have no schema of their own here (tools change theirs at will), so the
//! types come from the use: a member compared with `<` is an integer, one under `like`
//! is text. A statement that uses one member in two ways, or in a way from which no
//! type follows, is a compile error.

mod types;

use cedar_policy::pst::{BinaryOp, Expr, Literal, UnaryOp, Var};

use crate::args::Shape;
use crate::circumstance::{Circumstance, Circumstances, Sort};
use types::{Id, Term, Types};

/// Nesting of a condition, not counting chains of `&&` and `||`. Evaluation recurses on
/// the request path, where stacks are small.
const MAX_DEPTH: usize = 24;

/// What is wrong with a condition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
    /// A word of the text near the problem.
    pub(crate) near: Option<String>,
}

impl Problem {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), suggestion: None, near: None }
    }

    fn near(mut self, word: &str) -> Self {
        self.near = Some(word.to_owned());
        self
    }
}

/// What a condition looks at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) context: Circumstances,
    /// More of the resource than its class and server.
    pub(crate) name: bool,
    /// The principal or the resource at all.
    pub(crate) entities: bool,
    /// The argument members, if arguments are mentioned at all.
    pub(crate) args: Option<Shape>,
}

/// The walk over one statement's conditions.
pub(crate) struct Inference {
    types: Types,
    /// The record `context.args`.
    args: Id,
    mentions_args: bool,
    depth: usize,
    usage: Usage,
}

impl Inference {
    pub(crate) fn new() -> Self {
        let mut types = Types::default();
        let args = types.object("context.args");
        Self { types, args, mentions_args: false, depth: 0, usage: Usage::default() }
    }

    /// Walks one conjunct, which must be a truth value. Returns whether it mentions arguments.
    pub(crate) fn conjunct(&mut self, expr: &Expr) -> Result<bool, Problem> {
        let before = std::mem::replace(&mut self.mentions_args, false);
        let result = self.expect(expr, Term::Bool);
        let mentions = std::mem::replace(&mut self.mentions_args, before);
        result?;
        self.mentions_args |= mentions;
        Ok(mentions)
    }

    /// The result, once every conjunct was walked.
    pub(crate) fn finish(mut self) -> Result<Usage, Problem> {
        if self.mentions_args {
            self.usage.args = Some(self.types.shape(self.args)?);
        }
        Ok(self.usage)
    }

    /// Walks an expression whose value is used as `wanted`.
    fn expect(&mut self, expr: &Expr, wanted: Term) -> Result<Id, Problem> {
        let id = self.value(expr)?;
        let wanted = self.types.push(wanted);
        self.types.unify(id, wanted)?;
        Ok(id)
    }

    fn expect_set(&mut self, expr: &Expr) -> Result<Id, Problem> {
        let element = self.types.push(Term::Unknown);
        self.expect(expr, Term::Set(element))?;
        Ok(element)
    }

    /// Walks an expression whose value is used, not only looked into.
    fn value(&mut self, expr: &Expr) -> Result<Id, Problem> {
        let id = self.walk(expr)?;
        self.types.used(id)?;
        Ok(id)
    }

    fn known(&mut self, term: Term) -> Result<Id, Problem> {
        Ok(self.types.push(term))
    }

    fn walk(&mut self, expr: &Expr) -> Result<Id, Problem> {
        if self.depth >= MAX_DEPTH {
            return Err(Problem::new("policy_too_deep", "the condition is nested too deeply"));
        }
        self.depth += 1;
        let result = self.step(expr);
        self.depth -= 1;
        result
    }

    fn step(&mut self, expr: &Expr) -> Result<Id, Problem> {
        match expr {
            Expr::Literal(literal) => self.known(match literal {
                Literal::Bool(_) => Term::Bool,
                Literal::Long(_) => Term::Long,
                Literal::String(_) => Term::Text,
                Literal::EntityUID(_) => Term::Entity,
                _ => Term::Other,
            }),
            Expr::Var(Var::Context) => Err(whole("context")),
            Expr::Var(var) => {
                self.usage.name |= *var == Var::Resource;
                self.usage.entities = true;
                self.known(Term::Entity)
            }
            Expr::UnaryOp { op, expr } => self.unary(*op, expr),
            Expr::BinaryOp { op: op @ (BinaryOp::And | BinaryOp::Or), .. } => {
                for operand in chain(*op, expr) {
                    self.expect(operand, Term::Bool)?;
                }
                self.known(Term::Bool)
            }
            Expr::BinaryOp { op, left, right } => self.binary(*op, left, right),
            Expr::GetAttr { expr, attr } => self.attribute(expr, attr),
            Expr::HasAttr { expr, attrs } => {
                if attrs.len() > MAX_DEPTH {
                    return Err(Problem::new("policy_too_deep", "the path is too long"));
                }
                let mut base = None;
                for attr in attrs.iter() {
                    base = Some(match base {
                        None => self.attribute(expr, attr)?,
                        Some(base) => self.types.member(base, attr)?,
                    });
                }
                self.known(Term::Bool)
            }
            Expr::Like { expr, .. } => {
                self.expect(expr, Term::Text)?;
                self.known(Term::Bool)
            }
            Expr::Is { expr, in_expr, .. } => {
                self.expect(expr, Term::Entity)?;
                if let Some(target) = in_expr {
                    self.value(target)?;
                }
                self.known(Term::Bool)
            }
            Expr::IfThenElse { cond, then_expr, else_expr } => {
                self.expect(cond, Term::Bool)?;
                let (then, other) = (self.value(then_expr)?, self.value(else_expr)?);
                self.types.unify(then, other)?;
                Ok(then)
            }
            Expr::Set(items) => {
                let element = self.types.push(Term::Unknown);
                for item in items {
                    let item = self.value(item)?;
                    self.types.unify(element, item)?;
                }
                self.known(Term::Set(element))
            }
            Expr::Record(_) => Err(Problem::new(
                "policy_unsupported",
                "record literals are not supported; compare the members one by one",
            )),
            Expr::Slot(_) => Err(Problem::new("policy_unsupported", "templates are not supported")),
            _ => Err(Problem::new("policy_unsupported", "this expression is not supported")),
        }
    }

    fn unary(&mut self, op: UnaryOp, expr: &Expr) -> Result<Id, Problem> {
        let (operand, result) = match op {
            UnaryOp::Not => (Term::Bool, Term::Bool),
            UnaryOp::Neg => (Term::Long, Term::Long),
            UnaryOp::IsEmpty => {
                self.expect_set(expr)?;
                return self.known(Term::Bool);
            }
            UnaryOp::Ip => (Term::Text, Term::Ip),
            UnaryOp::IsIPv4 | UnaryOp::IsIPV6 | UnaryOp::IsLoopback | UnaryOp::IsMulticast => (Term::Ip, Term::Bool),
            UnaryOp::Decimal | UnaryOp::Datetime | UnaryOp::Duration => (Term::Text, Term::Other),
            UnaryOp::ToMilliseconds | UnaryOp::ToSeconds | UnaryOp::ToMinutes | UnaryOp::ToHours | UnaryOp::ToDays => {
                (Term::Other, Term::Long)
            }
            _ => (Term::Other, Term::Other),
        };
        self.expect(expr, operand)?;
        self.known(result)
    }

    fn binary(&mut self, op: BinaryOp, left: &Expr, right: &Expr) -> Result<Id, Problem> {
        match op {
            BinaryOp::Eq | BinaryOp::NotEq => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.types.unify(left, right)?;
                self.known(Term::Bool)
            }
            BinaryOp::Less | BinaryOp::LessEq | BinaryOp::Greater | BinaryOp::GreaterEq => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.types.unify(left, right)?;
                if !self.types.is_other(left) {
                    let long = self.types.push(Term::Long);
                    self.types.unify(left, long)?;
                }
                self.known(Term::Bool)
            }
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul => {
                self.expect(left, Term::Long)?;
                self.expect(right, Term::Long)
            }
            BinaryOp::In => {
                self.expect(left, Term::Entity)?;
                self.value(right)?;
                self.known(Term::Bool)
            }
            BinaryOp::Contains => {
                let element = self.expect_set(left)?;
                let item = self.value(right)?;
                self.types.unify(element, item)?;
                self.known(Term::Bool)
            }
            BinaryOp::ContainsAll | BinaryOp::ContainsAny => {
                let (left, right) = (self.expect_set(left)?, self.expect_set(right)?);
                self.types.unify(left, right)?;
                self.known(Term::Bool)
            }
            BinaryOp::IsInRange => {
                self.expect(left, Term::Ip)?;
                self.expect(right, Term::Ip)?;
                self.known(Term::Bool)
            }
            BinaryOp::GetTag | BinaryOp::HasTag => {
                Err(Problem::new("policy_unsupported", "nothing has tags here; use attributes"))
            }
            BinaryOp::Offset | BinaryOp::DurationSince => {
                self.expect(left, Term::Other)?;
                self.expect(right, Term::Other)?;
                self.known(Term::Other)
            }
            _ => {
                self.expect(left, Term::Other)?;
                self.expect(right, Term::Other)?;
                self.known(Term::Bool)
            }
        }
    }

    /// `expr.attr`, or what `expr has attr` asks about.
    fn attribute(&mut self, expr: &Expr, attr: &str) -> Result<Id, Problem> {
        match expr {
            Expr::Var(Var::Context) => self.circumstance(attr),
            Expr::Var(Var::Principal) => {
                check_attribute("principal", attr, &["id"])?;
                self.usage.entities = true;
                self.known(Term::Text)
            }
            Expr::Var(Var::Resource) => {
                check_attribute("resource", attr, &["id", "name", "uri", "class", "server"])?;
                self.usage.name |= !matches!(attr, "class" | "server");
                self.usage.entities = true;
                self.known(Term::Text)
            }
            Expr::Var(Var::Action) => check_attribute("action", attr, &[]).map(|()| self.args),
            _ => {
                let base = self.walk(expr)?;
                self.types.member(base, attr)
            }
        }
    }

    fn circumstance(&mut self, attr: &str) -> Result<Id, Problem> {
        if attr == "args" {
            self.mentions_args = true;
            return Ok(self.args);
        }
        let Some(circumstance) = Circumstance::parse(attr) else {
            let known: Vec<&str> =
                ["args"].into_iter().chain(Circumstance::ALL.into_iter().map(Circumstance::as_str)).collect();
            return check_attribute("context", attr, &known).map(|()| self.args);
        };
        self.usage.context.insert(circumstance);
        match circumstance.sort() {
            Sort::Text => self.known(Term::Text),
            Sort::Long => self.known(Term::Long),
            Sort::Address => self.known(Term::Ip),
            Sort::Texts => {
                let element = self.types.push(Term::Text);
                self.known(Term::Set(element))
            }
        }
    }
}

/// The operands of a chain of the same operator, first to last, without recursion: long
/// chains are common and deep.
pub(crate) fn chain(op: BinaryOp, expr: &Expr) -> Vec<&Expr> {
    let (mut todo, mut operands) = (vec![expr], Vec::new());
    while let Some(next) = todo.pop() {
        match next {
            Expr::BinaryOp { op: inner, left, right } if *inner == op => {
                todo.push(right);
                todo.push(left);
            }
            operand => operands.push(operand),
        }
    }
    operands
}

fn whole(what: &str) -> Problem {
    Problem::new("policy_unsupported", format!("`{what}` cannot be compared as a whole; use its members")).near(what)
}

fn check_attribute(of: &str, attr: &str, known: &[&str]) -> Result<(), Problem> {
    if known.contains(&attr) {
        return Ok(());
    }
    let mut problem = Problem::new("unknown_attribute", format!("`{of}` has no attribute `{attr}`")).near(attr);
    problem.suggestion = closest(attr, known.iter().copied())
        .map(|name| format!("did you mean `{of}.{name}`?"))
        .or_else(|| (of == "context").then(|| format!("arguments are under `context.args`: `context.args.{attr}`")));
    Err(problem)
}

/// The known word that is at most two edits away.
pub(crate) fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= 2 && *edits < candidate.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance over the first 64 characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, above) in b.iter().zip(row.iter().skip(1)) {
            let cost = (diagonal + usize::from(x != *y)).min(above + 1).min(left + 1);
            diagonal = *above;
            left = cost;
            next.push(cost);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_close_words() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(closest("nmae", ["name", "server"].into_iter()), Some("name"));
        assert_eq!(closest("githb", ["github", "gitlab"].into_iter()), Some("github"));
        assert_eq!(closest("xyz", ["name"].into_iter()), None);
    }
}
