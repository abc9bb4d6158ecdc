//! Users in Cedar texts, in the form in which principals are compared.
//!
//! `User::"Ana@Corp.example"` is folded like the address that signs in. A comparison of
//! `principal.id` with text is made twice, because only addresses of users are folded:
//! `if principal is User && principal.id like "*@*" then FOLDED else AS WRITTEN`.

use std::sync::Arc;

use bartizan_model::{UserIdError, check_user_id, fold_user_id};
use cedar_policy::pst::{
    BinaryOp, Clause, EntityOrSlot, EntityType, EntityUID, Expr, Literal, Name, PatternElem, PrincipalConstraint,
    Template, Var,
};

use crate::scope::type_name;

/// A user in a text that nobody can be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadUser {
    pub(crate) id: String,
    pub(crate) why: UserIdError,
}

/// The template with every user folded.
///
/// # Errors
/// The first user that nobody can be.
pub(crate) fn users(template: &Template) -> Result<Template, BadUser> {
    let target = |target: &EntityOrSlot| match target {
        EntityOrSlot::Entity(user) => uid(user).map(EntityOrSlot::Entity),
        EntityOrSlot::Slot(_) => Ok(target.clone()),
    };
    let mut folded = template.clone();
    folded.principal = match &template.principal {
        PrincipalConstraint::Eq(user) => PrincipalConstraint::Eq(target(user)?),
        PrincipalConstraint::In(user) => PrincipalConstraint::In(target(user)?),
        PrincipalConstraint::IsIn(kind, user) => PrincipalConstraint::IsIn(kind.clone(), target(user)?),
        other => other.clone(),
    };
    let clauses = template.clauses().iter().map(|clause| {
        Ok(match clause {
            Clause::When(expr) => Clause::When(fold(expr)?),
            Clause::Unless(expr) => Clause::Unless(fold(expr)?),
        })
    });
    let clauses = clauses.collect::<Result<Vec<_>, _>>()?;
    // Clauses that were valid stay so: no slot was added.
    Ok(folded.try_with_clauses(clauses).unwrap_or_else(|_| template.clone()))
}

fn uid(uid: &EntityUID) -> Result<EntityUID, BadUser> {
    if type_name(uid) != "User" {
        return Ok(uid.clone());
    }
    let id = check_user_id(&uid.eid).map_err(|why| BadUser { id: uid.eid.to_string(), why })?;
    Ok(EntityUID { ty: uid.ty.clone(), eid: (&*id).into() })
}

fn fold(expr: &Arc<Expr>) -> Result<Arc<Expr>, BadUser> {
    if let Expr::Literal(Literal::EntityUID(user)) = &**expr {
        return Ok(Arc::new(Expr::Literal(Literal::EntityUID(uid(user)?))));
    }
    let expr = Arc::new(children(expr, fold)?);
    let compares = match &*expr {
        Expr::BinaryOp { op, left, right } => {
            use BinaryOp::{Contains, ContainsAll, ContainsAny, Eq, NotEq};
            matches!(op, Eq | NotEq | Contains | ContainsAll | ContainsAny) && (reads_id(left) || reads_id(right))
        }
        Expr::Like { expr, .. } => reads_id(expr),
        _ => false,
    };
    if !compares {
        return Ok(expr);
    }
    let lower = lowered(&expr);
    if lower == expr {
        return Ok(expr);
    }
    let Ok(user) = Name::unqualified("User") else { return Ok(lower) };
    let is_address = Expr::BinaryOp {
        op: BinaryOp::And,
        left: Arc::new(Expr::Is {
            expr: Arc::new(Expr::Var(Var::Principal)),
            entity_type: EntityType::from_name(user),
            in_expr: None,
        }),
        right: Arc::new(Expr::Like {
            expr: Arc::new(Expr::GetAttr { expr: Arc::new(Expr::Var(Var::Principal)), attr: "id".into() }),
            pattern: vec![PatternElem::Wildcard, PatternElem::Char('@'), PatternElem::Wildcard],
        }),
    };
    Ok(Arc::new(Expr::IfThenElse { cond: Arc::new(is_address), then_expr: lower, else_expr: expr }))
}

/// Whether the value of an expression may be `principal.id`.
fn reads_id(expr: &Expr) -> bool {
    match expr {
        Expr::GetAttr { expr, attr } => attr == "id" && **expr == Expr::Var(Var::Principal),
        Expr::Set(items) => items.iter().any(|item| reads_id(item)),
        Expr::IfThenElse { then_expr, else_expr, .. } => reads_id(then_expr) || reads_id(else_expr),
        _ => false,
    }
}

/// A comparison with all text that may be compared in it in lower case.
fn lowered(expr: &Arc<Expr>) -> Arc<Expr> {
    Arc::new(match &**expr {
        Expr::BinaryOp { op, left, right } => Expr::BinaryOp { op: *op, left: value(left), right: value(right) },
        Expr::Like { expr, pattern } => Expr::Like {
            expr: Arc::clone(expr),
            pattern: pattern
                .iter()
                .map(|part| match part {
                    PatternElem::Char(c) => PatternElem::Char(c.to_ascii_lowercase()),
                    PatternElem::Wildcard => PatternElem::Wildcard,
                })
                .collect(),
        },
        _ => return Arc::clone(expr),
    })
}

fn value(expr: &Arc<Expr>) -> Arc<Expr> {
    Arc::new(match &**expr {
        Expr::Literal(Literal::String(text)) => Expr::Literal(Literal::String(lower(text).as_str().into())),
        Expr::Set(items) => Expr::Set(items.iter().map(value).collect()),
        Expr::IfThenElse { cond, then_expr, else_expr } => {
            Expr::IfThenElse { cond: Arc::clone(cond), then_expr: value(then_expr), else_expr: value(else_expr) }
        }
        _ => return Arc::clone(expr),
    })
}

/// As [`fold_user_id`] does for an address; other text is never equal to one.
fn lower(text: &str) -> String {
    fold_user_id(text).to_ascii_lowercase()
}

type Folder = fn(&Arc<Expr>) -> Result<Arc<Expr>, BadUser>;

/// The expression with each direct operand replaced.
fn children(expr: &Expr, each: Folder) -> Result<Expr, BadUser> {
    Ok(match expr {
        Expr::BinaryOp { op, left, right } => Expr::BinaryOp { op: *op, left: each(left)?, right: each(right)? },
        Expr::UnaryOp { op, expr } => Expr::UnaryOp { op: *op, expr: each(expr)? },
        Expr::GetAttr { expr, attr } => Expr::GetAttr { expr: each(expr)?, attr: attr.clone() },
        Expr::HasAttr { expr, attrs } => Expr::HasAttr { expr: each(expr)?, attrs: attrs.clone() },
        Expr::Like { expr, pattern } => Expr::Like { expr: each(expr)?, pattern: pattern.clone() },
        Expr::Is { expr, entity_type, in_expr } => Expr::Is {
            expr: each(expr)?,
            entity_type: entity_type.clone(),
            in_expr: in_expr.as_ref().map(each).transpose()?,
        },
        Expr::IfThenElse { cond, then_expr, else_expr } => {
            Expr::IfThenElse { cond: each(cond)?, then_expr: each(then_expr)?, else_expr: each(else_expr)? }
        }
        Expr::Set(items) => Expr::Set(items.iter().map(each).collect::<Result<_, _>>()?),
        other => other.clone(),
    })
}
