//! Statements filed by action, resource and principal, so that a decision looks only
//! at those whose scope can match (design rule 12).

use std::collections::HashMap;
use std::sync::Arc;

use bartizan_model::{Principal, PrincipalKind};

use crate::query::{Action, Query};
use crate::scope::{PrincipalScope, ResourceKind, ResourceScope, Scope, entity_id};

/// Positions of statements.
type List = Vec<usize>;

/// One effect's statements.
#[derive(Default)]
pub(crate) struct Index {
    actions: [ByResource; Action::ALL.len()],
}

#[derive(Default)]
struct ByResource {
    any: ByPrincipal,
    server: HashMap<Arc<str>, ByPrincipal>,
    one: HashMap<Arc<str>, ByPrincipal>,
}

#[derive(Default)]
struct ByPrincipal {
    any: List,
    kinds: HashMap<PrincipalKind, List>,
    one: HashMap<Arc<str>, List>,
    groups: HashMap<Arc<str>, List>,
}

impl Index {
    /// Files a statement.
    pub(crate) fn add(&mut self, scope: &Scope, position: usize) {
        for (action, slot) in Action::ALL.into_iter().zip(&mut self.actions) {
            if scope.actions & action.bit() == 0 {
                continue;
            }
            let kind = ResourceKind::of(action);
            let bucket = match &scope.resource {
                ResourceScope::Any => &mut slot.any,
                ResourceScope::Kind(wanted) if *wanted == kind => &mut slot.any,
                ResourceScope::One(wanted, id) if *wanted == kind => slot.one.entry(Arc::clone(id)).or_default(),
                ResourceScope::InServer(id, wanted)
                    if kind != ResourceKind::Portal && wanted.is_none_or(|wanted| wanted == kind) =>
                {
                    slot.server.entry(Arc::clone(id)).or_default()
                }
                _ => continue,
            };
            bucket.add(&scope.principal, position);
        }
    }

    /// Positions of all statements whose scope may match, in order. May hold a few that do not.
    pub(crate) fn candidates(&self, query: &Query<'_>, action: Action) -> List {
        let mut found = List::new();
        let Some(slot) = self.actions.get(action.slot()) else {
            return found;
        };
        slot.any.collect(query.principal, &mut found);
        if let Some(bucket) = query.server.and_then(|server| slot.server.get(server.as_str())) {
            bucket.collect(query.principal, &mut found);
        }
        if !slot.one.is_empty() {
            let bucket = match ResourceKind::of(action) {
                ResourceKind::Portal => query.portal.and_then(|portal| slot.one.get(portal.as_str())),
                ResourceKind::Server => query.server.and_then(|server| slot.one.get(server.as_str())),
                _ => query.server.and_then(|server| slot.one.get(entity_id(server.as_str(), query.name).as_str())),
            };
            if let Some(bucket) = bucket {
                bucket.collect(query.principal, &mut found);
            }
        }
        if found.len() > 1 {
            found.sort_unstable();
        }
        found
    }

    /// Every statement filed for an action that may apply to a server's entries, and
    /// whether it names one entry.
    pub(crate) fn names_entry(&self, action: Action, server: &str, name: &str) -> bool {
        self.actions
            .get(action.slot())
            .is_some_and(|slot| !slot.one.is_empty() && slot.one.contains_key(entity_id(server, name).as_str()))
    }
}

impl ByPrincipal {
    fn add(&mut self, scope: &PrincipalScope, position: usize) {
        match scope {
            PrincipalScope::Any => self.any.push(position),
            PrincipalScope::Kind(kind) => self.kinds.entry(*kind).or_default().push(position),
            PrincipalScope::One(key) => self.one.entry(Arc::clone(key)).or_default().push(position),
            PrincipalScope::Group(group, _) => self.groups.entry(Arc::clone(group)).or_default().push(position),
            PrincipalScope::Nobody => {}
        }
    }

    fn collect(&self, principal: &Principal, found: &mut List) {
        found.extend_from_slice(&self.any);
        if let Some(list) = self.kinds.get(&principal.kind) {
            found.extend_from_slice(list);
        }
        if let Some(list) = self.one.get(principal.key()) {
            found.extend_from_slice(list);
        }
        if !self.groups.is_empty() {
            for group in principal.groups.iter() {
                if let Some(list) = self.groups.get(group) {
                    found.extend_from_slice(list);
                }
            }
        }
    }
}
