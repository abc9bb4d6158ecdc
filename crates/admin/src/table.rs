//! Every endpoint of the administration, and who may use it (A24). Nothing is answered that is
//! not in this table: requests are matched against it, the OpenAPI document is made of it, and
//! a test goes through it with every role.

use bartizan_config::objects::Kind;
use bartizan_model::Role::{self, Auditor, Governance, Operator, Owner, Security};
use http::Method;

use crate::areas::{self, Operation};

/// What an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Who is asking, with which roles.
    Me,
    /// The OpenAPI document.
    OpenApi,
    /// Objects that are not in use, and why.
    Refused,
    /// What was changed, newest first.
    Revisions,
    /// All objects of the store.
    Export,
    /// What applying a set of objects would change.
    Plan,
    /// Makes the store hold exactly this set of objects.
    Apply,
    /// All objects of a kind.
    List(Kind),
    /// One object.
    Get(Kind),
    /// A new object.
    Create(Kind),
    /// The object becomes what is sent.
    Put(Kind),
    /// Some members become what is sent.
    Patch(Kind),
    /// The object goes.
    Remove(Kind),
    /// Versions of an object.
    History(Kind),
    /// An earlier version comes back.
    Restore(Kind),
    /// What another crate does.
    Area(Operation),
}

impl Action {
    /// Whether it can change anything.
    pub fn is_mutation(self) -> bool {
        match self {
            Self::Area(operation) => operation.is_mutation(),
            Self::Apply | Self::Create(_) | Self::Put(_) | Self::Patch(_) | Self::Remove(_) | Self::Restore(_) => true,
            _ => false,
        }
    }

    /// Whether the request has a body.
    pub fn has_body(self) -> bool {
        match self {
            Self::Area(operation) => operation.has_body(),
            Self::Plan | Self::Apply | Self::Create(_) | Self::Put(_) | Self::Patch(_) | Self::Restore(_) => true,
            _ => false,
        }
    }

    /// Whether a browser must show that a page of ours sends it.
    pub(crate) fn is_meant(self) -> bool {
        match self {
            Self::Area(operation) => operation.is_meant(),
            other => other.is_mutation() || other.has_body(),
        }
    }
}

/// One row.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// HTTP method.
    pub method: Method,
    /// Path below `/api/v1`; `{id}` is the id of an object.
    pub path: String,
    /// What it does.
    pub action: Action,
    /// Any of these; `None`: everybody who is signed in. To others an object does not exist.
    pub roles: Option<&'static [Role]>,
    /// One sentence.
    pub summary: &'static str,
}

/// Who may read objects of a kind. An owner may always.
fn readers(kind: Kind) -> &'static [Role] {
    match kind {
        Kind::Server | Kind::Portal | Kind::Bundle | Kind::RateLimit => {
            &[Owner, Governance, Security, Auditor, Operator]
        }
        Kind::Policy | Kind::Grant | Kind::AlertDestination | Kind::AlertRule => {
            &[Owner, Governance, Security, Auditor]
        }
        Kind::IdentityProvider | Kind::Client | Kind::Agent | Kind::Role => &[Owner, Security, Auditor],
    }
}

/// Who may change them. Whoever can say who signs in, or who has a role, can become an owner.
fn writers(kind: Kind) -> &'static [Role] {
    match kind {
        Kind::Server | Kind::Portal | Kind::Bundle | Kind::Policy | Kind::Grant => &[Owner, Governance],
        Kind::RateLimit => &[Owner, Governance, Security],
        Kind::AlertDestination | Kind::AlertRule => &[Owner, Security],
        Kind::IdentityProvider | Kind::Client | Kind::Agent | Kind::Role => &[Owner],
    }
}

/// Whoever has to do with the installation as a whole.
pub(crate) const OVERVIEW: &[Role] = &[Owner, Governance, Security, Auditor, Operator];

pub(crate) fn row(
    method: Method,
    path: &str,
    action: Action,
    roles: Option<&'static [Role]>,
    summary: &'static str,
) -> Endpoint {
    Endpoint { method, path: path.to_owned(), action, roles, summary }
}

/// All rows.
pub fn table() -> Vec<Endpoint> {
    let mut all = vec![
        row(Method::GET, "/me", Action::Me, None, "Who is asking, and with which roles"),
        row(Method::GET, "/openapi.json", Action::OpenApi, None, "This document"),
        row(Method::GET, "/refused", Action::Refused, Some(OVERVIEW), "Objects that are not in use, and why"),
        row(
            Method::GET,
            "/revisions",
            Action::Revisions,
            Some(OVERVIEW),
            "Who changed the objects and why, newest first",
        ),
        row(Method::GET, "/export", Action::Export, Some(&[Owner]), "All objects, without secrets"),
        row(Method::POST, "/plan", Action::Plan, Some(&[Owner]), "What applying a set of objects would change"),
        row(Method::POST, "/apply", Action::Apply, Some(&[Owner]), "Makes the objects exactly this set"),
    ];
    for kind in Kind::ALL {
        let (many, one) = (format!("/{}", kind.plural()), format!("/{}/{{id}}", kind.plural()));
        let (read, write) = (Some(readers(kind)), Some(writers(kind)));
        all.extend([
            row(Method::GET, &many, Action::List(kind), read, "All of a kind, those of files included"),
            row(Method::POST, &many, Action::Create(kind), write, "A new object"),
            row(Method::GET, &one, Action::Get(kind), read, "One object"),
            row(Method::PUT, &one, Action::Put(kind), write, "The object becomes what is sent; blank secrets are kept"),
            row(Method::PATCH, &one, Action::Patch(kind), write, "Some members become what is sent (RFC 7396)"),
            row(Method::DELETE, &one, Action::Remove(kind), write, "The object goes"),
            row(Method::GET, &format!("{one}/history"), Action::History(kind), read, "Its versions, newest first"),
            row(Method::POST, &format!("{one}/restore"), Action::Restore(kind), write, "An earlier version comes back"),
        ]);
    }
    all.extend(areas::rows());
    all
}

/// The row of a request, and the raw id in its path.
pub(crate) enum Found<'t, 'p> {
    Row(&'t Endpoint, Option<&'p str>),
    /// The path is there, with these methods.
    Method(Vec<&'t Method>),
    Nothing,
}

/// Looks a request up.
pub(crate) fn find<'t, 'p>(table: &'t [Endpoint], method: &Method, path: &'p str) -> Found<'t, 'p> {
    let mut others = Vec::new();
    for row in table {
        let Some(id) = matches(&row.path, path) else { continue };
        if row.method == *method {
            return Found::Row(row, id);
        }
        others.push(&row.method);
    }
    if others.is_empty() { Found::Nothing } else { Found::Method(others) }
}

/// Whether a path fits; its id if it has one.
fn matches<'p>(pattern: &str, path: &'p str) -> Option<Option<&'p str>> {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    let mut id = None;
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(id),
            (Some("{id}"), Some(part)) if !part.is_empty() => id = Some(part),
            (Some(wanted), Some(part)) if wanted == part => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a24_every_endpoint_is_one_row() {
        let table = table();
        let names: BTreeSet<String> = table.iter().map(|row| format!("{} {}", row.method, row.path)).collect();
        assert_eq!(names.len(), table.len());
        for row in &table {
            let path = row.path.replace("{id}", "a%20b");
            let Found::Row(found, id) = find(&table, &row.method, &path) else { panic!("{path}") };
            assert_eq!((found.action, id.is_some()), (row.action, row.path.contains("{id}")));
            // What changes something needs a role, except where each approval says who may; and an
            // owner has all roles, except for the bodies of calls.
            let by_approval = row.path.starts_with("/approvals/");
            assert!(!row.action.is_mutation() || row.roles.is_some() || by_approval, "{}", row.path);
            let bodies = row.action == Action::Area(Operation::Body);
            assert!(row.roles.is_none_or(|roles| roles.contains(&Owner) != bodies), "{}", row.path);
        }
        assert!(matches!(find(&table, &Method::DELETE, "/servers"), Found::Method(_)));
        for nothing in ["", "/", "/servers/", "/servers/a/", "/servers/a/b", "/serverss", "/me/"] {
            assert!(matches!(find(&table, &Method::GET, nothing), Found::Nothing), "{nothing}");
        }
    }
}
