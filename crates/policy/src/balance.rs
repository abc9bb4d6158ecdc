//! Long chains of `&&` and `||` as balanced trees. Both operators are associative, also
//! in which operand is looked at first and which failure counts, so nothing changes but
//! the depth: a list of 500 alternatives must not need 500 levels of stack per request.

use std::sync::Arc;

use cedar_policy::pst::{BinaryOp, Expr};

use crate::infer::chain;

/// The same expression with balanced chains. Call only for expressions whose nesting was
/// checked: recursion follows it.
pub(crate) fn balanced(expr: &Arc<Expr>) -> Arc<Expr> {
    let each = |expr: &Arc<Expr>| balanced(expr);
    Arc::new(match &**expr {
        Expr::BinaryOp { op: op @ (BinaryOp::And | BinaryOp::Or), .. } => {
            let operands: Vec<Arc<Expr>> =
                chain(*op, expr).into_iter().map(|operand| balanced(&Arc::new(operand.clone()))).collect();
            return tree(*op, &operands).unwrap_or_else(|| Arc::clone(expr));
        }
        Expr::BinaryOp { op, left, right } => Expr::BinaryOp { op: *op, left: each(left), right: each(right) },
        Expr::UnaryOp { op, expr } => Expr::UnaryOp { op: *op, expr: each(expr) },
        Expr::GetAttr { expr, attr } => Expr::GetAttr { expr: each(expr), attr: attr.clone() },
        Expr::HasAttr { expr, attrs } => Expr::HasAttr { expr: each(expr), attrs: attrs.clone() },
        Expr::Like { expr, pattern } => Expr::Like { expr: each(expr), pattern: pattern.clone() },
        Expr::Is { expr, entity_type, in_expr } => {
            Expr::Is { expr: each(expr), entity_type: entity_type.clone(), in_expr: in_expr.as_ref().map(each) }
        }
        Expr::IfThenElse { cond, then_expr, else_expr } => {
            Expr::IfThenElse { cond: each(cond), then_expr: each(then_expr), else_expr: each(else_expr) }
        }
        Expr::Set(items) => Expr::Set(items.iter().map(each).collect()),
        _ => return Arc::clone(expr),
    })
}

fn tree(op: BinaryOp, operands: &[Arc<Expr>]) -> Option<Arc<Expr>> {
    match operands {
        [] => None,
        [one] => Some(Arc::clone(one)),
        several => {
            let (left, right) = several.split_at(several.len() / 2);
            Some(Arc::new(Expr::BinaryOp { op, left: tree(op, left)?, right: tree(op, right)? }))
        }
    }
}
