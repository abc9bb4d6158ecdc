//! Comparisons that cannot hold because the text they name does not exist: an unknown
//! server, portal or era, or one that the scope or another comparison rules out.

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::pst::{BinaryOp, Clause, Expr, Literal, Template, Var};

use crate::infer::chain;
use crate::scope::{ResourceKind, ResourceScope, Scope};

/// A comparison that never holds.
pub(crate) struct Never {
    /// `resource.server`.
    pub(crate) attribute: &'static str,
    /// A text it is compared with.
    pub(crate) word: String,
    /// What the attribute can be, as far as the statement leaves it open.
    pub(crate) possible: BTreeSet<String>,
}

/// The first comparison at the top of a statement's conditions that rules out everything.
/// `members` are the servers of each portal that does not have all.
pub(crate) fn find(
    template: &Template,
    servers: &HashSet<String>,
    portals: &HashSet<String>,
    members: &HashMap<String, HashSet<String>>,
) -> Option<Never> {
    let scope_server = match Scope::read(template).resource {
        ResourceScope::InServer(id, _) | ResourceScope::One(ResourceKind::Server, id) => Some(id.to_string()),
        ResourceScope::One(ResourceKind::Tool | ResourceKind::Prompt | ResourceKind::Resource, id) => {
            id.split_once('/').map(|(server, _)| server.to_owned())
        }
        _ => None,
    };
    let (named_server, all_servers, all_portals) = (scope_server.clone(), servers.len(), portals.len());
    let servers = scope_server.map_or_else(|| servers.iter().cloned().collect(), |one| BTreeSet::from([one]));
    let mut domains = [
        ("resource.server", Var::Resource, "server", servers),
        ("context.portal", Var::Context, "portal", portals.iter().cloned().collect()),
        ("context.era", Var::Context, "era", ["legacy", "modern"].map(str::to_owned).into()),
    ];
    let whens = template.clauses().iter().filter_map(|clause| match clause {
        Clause::When(expr) => Some(expr),
        Clause::Unless(_) => None,
    });
    for expr in whens.flat_map(|expr| chain(BinaryOp::And, expr)) {
        for (attribute, var, name, possible) in &mut domains {
            let is = |expr: &Expr| {
                matches!(expr, Expr::GetAttr { expr, attr }
                    if attr == name && matches!(&**expr, Expr::Var(own) if own == var))
            };
            let Some(words) = compared(expr, &is) else { continue };
            let left: BTreeSet<String> = possible.intersection(&words).cloned().collect();
            if left.is_empty() {
                let word = words.into_iter().next().unwrap_or_default();
                return Some(Never { attribute, word, possible: std::mem::take(possible) });
            }
            *possible = left;
        }
    }
    let [(_, _, _, servers), (attribute, _, _, portals), _] = domains;
    // Only what was said of both: a portal without servers can be used all the same.
    if servers.len() == all_servers && named_server.is_none() || portals.len() == all_portals {
        return None;
    }
    let member =
        |portal: &String| members.get(portal).is_none_or(|own| servers.iter().any(|server| own.contains(server)));
    if portals.iter().any(member) {
        return None;
    }
    let word = portals.iter().next().cloned().unwrap_or_default();
    let possible = members.iter().filter(|(_, own)| servers.iter().any(|server| own.contains(server)));
    Some(Never { attribute, word, possible: possible.map(|(portal, _)| portal.clone()).collect() })
}

/// The texts one of which an attribute must be for a comparison to hold.
fn compared(expr: &Expr, is: &impl Fn(&Expr) -> bool) -> Option<BTreeSet<String>> {
    let text = |expr: &Expr| match expr {
        Expr::Literal(Literal::String(text)) => Some(text.to_string()),
        _ => None,
    };
    match expr {
        Expr::BinaryOp { op: BinaryOp::Eq, left, right } if is(left) => text(right).map(|one| BTreeSet::from([one])),
        Expr::BinaryOp { op: BinaryOp::Eq, left, right } if is(right) => text(left).map(|one| BTreeSet::from([one])),
        Expr::BinaryOp { op: BinaryOp::Contains, left, right } if is(right) => match &**left {
            Expr::Set(items) => items.iter().map(|item| text(item)).collect(),
            _ => None,
        },
        _ => None,
    }
}
