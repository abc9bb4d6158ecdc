//! The scope of a Cedar statement, read once so that it can be indexed and matched
//! without the evaluator.

use std::sync::Arc;

use bartizan_model::{Principal, PrincipalKind};
use cedar_policy::pst::{ActionConstraint, EntityOrSlot, EntityUID, PrincipalConstraint, ResourceConstraint, Template};

use crate::query::{Action, Query};
use crate::selector::in_group;

/// Which principals a statement is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PrincipalScope {
    Any,
    Kind(PrincipalKind),
    /// One principal, by its key (`user:alice`).
    One(Arc<str>),
    /// A group, and the kind if the statement says one.
    Group(Arc<str>, Option<PrincipalKind>),
    /// Nothing that exists.
    Nobody,
}

/// What a statement is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResourceScope {
    Any,
    Kind(ResourceKind),
    /// `== Type::"id"`.
    One(ResourceKind, Arc<str>),
    /// `in Server::"id"`: the server and all it offers, or one kind of it.
    InServer(Arc<str>, Option<ResourceKind>),
    Nothing,
}

/// Cedar types of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ResourceKind {
    Portal,
    Server,
    Tool,
    Prompt,
    Resource,
}

impl ResourceKind {
    pub(crate) const ALL: [Self; 5] = [Self::Portal, Self::Server, Self::Tool, Self::Prompt, Self::Resource];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Portal => "Portal",
            Self::Server => "Server",
            Self::Tool => "Tool",
            Self::Prompt => "Prompt",
            Self::Resource => "Resource",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The type of the resource of an action.
    pub(crate) fn of(action: Action) -> Self {
        match action {
            Action::UsePortal => Self::Portal,
            Action::UseServer | Action::Complete | Action::Other => Self::Server,
            Action::CallTool => Self::Tool,
            Action::GetPrompt => Self::Prompt,
            Action::ReadResource => Self::Resource,
        }
    }
}

/// A whole scope.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) principal: PrincipalScope,
    /// Bits of [`Action::bit`].
    pub(crate) actions: u8,
    /// The action is named, not left open.
    pub(crate) names_action: bool,
    pub(crate) resource: ResourceScope,
}

impl Scope {
    pub(crate) fn read(template: &Template) -> Self {
        let (actions, names_action) = match &template.action {
            ActionConstraint::Any => (u8::MAX, false),
            ActionConstraint::Eq(uid) => (action_bit(uid), true),
            ActionConstraint::In(uids) => (uids.iter().map(action_bit).fold(0, |all, bit| all | bit), true),
        };
        Self {
            principal: principal_scope(&template.principal),
            actions,
            names_action,
            resource: resource_scope(&template.resource),
        }
    }

    /// Whether the statement is about this principal.
    pub(crate) fn about(&self, principal: &Principal) -> bool {
        match &self.principal {
            PrincipalScope::Any => true,
            PrincipalScope::Kind(kind) => principal.kind == *kind,
            PrincipalScope::One(key) => principal.key() == key,
            PrincipalScope::Group(group, kind) => {
                kind.is_none_or(|kind| principal.kind == kind) && in_group(principal, group)
            }
            PrincipalScope::Nobody => false,
        }
    }

    /// Whether the statement is about the resource of this question for this action.
    pub(crate) fn covers(&self, query: &Query<'_>, action: Action) -> bool {
        let kind = ResourceKind::of(action);
        let server = query.server.map(|server| server.as_str());
        match &self.resource {
            ResourceScope::Any => true,
            ResourceScope::Kind(wanted) => *wanted == kind,
            ResourceScope::One(wanted, id) => *wanted == kind && is_resource(id, query, kind),
            ResourceScope::InServer(id, wanted) => {
                kind != ResourceKind::Portal && wanted.is_none_or(|wanted| wanted == kind) && server == Some(id)
            }
            ResourceScope::Nothing => false,
        }
    }
}

/// Whether `id` is the Cedar id of the resource of a question.
fn is_resource(id: &str, query: &Query<'_>, kind: ResourceKind) -> bool {
    let server = query.server.map(|server| server.as_str());
    match kind {
        ResourceKind::Portal => query.portal.is_some_and(|portal| portal.as_str() == id),
        ResourceKind::Server => server == Some(id),
        ResourceKind::Tool | ResourceKind::Prompt | ResourceKind::Resource => {
            id.split_once('/').is_some_and(|(owner, name)| server == Some(owner) && name == query.name)
        }
    }
}

/// The Cedar id of a tool, prompt or resource: `github/create_issue`. Server ids have no `/`.
pub(crate) fn entity_id(server: &str, name: &str) -> String {
    [server, "/", name].concat()
}

fn action_bit(uid: &EntityUID) -> u8 {
    Action::parse(&uid.eid).map_or(0, Action::bit)
}

pub(crate) fn type_name(uid: &EntityUID) -> String {
    uid.ty.to_string()
}

fn principal_kind(name: &str) -> Option<PrincipalKind> {
    match name {
        "User" => Some(PrincipalKind::User),
        "Service" => Some(PrincipalKind::Service),
        "Agent" => Some(PrincipalKind::Agent),
        "Anonymous" => Some(PrincipalKind::Anonymous),
        _ => None,
    }
}

fn one_principal(uid: &EntityUID) -> PrincipalScope {
    match principal_kind(&type_name(uid)) {
        Some(kind) => PrincipalScope::One(format!("{}:{}", kind.as_str(), uid.eid).into()),
        None => PrincipalScope::Nobody,
    }
}

fn principal_scope(constraint: &PrincipalConstraint) -> PrincipalScope {
    let within = |target: &EntityOrSlot, kind: Option<PrincipalKind>| match target {
        EntityOrSlot::Entity(uid) if type_name(uid) == "Group" => PrincipalScope::Group(uid.eid.as_str().into(), kind),
        EntityOrSlot::Entity(uid) => match (one_principal(uid), kind) {
            (PrincipalScope::One(key), Some(kind)) if !key.starts_with(&format!("{}:", kind.as_str())) => {
                PrincipalScope::Nobody
            }
            (scope, _) => scope,
        },
        EntityOrSlot::Slot(_) => PrincipalScope::Nobody,
    };
    match constraint {
        PrincipalConstraint::Any => PrincipalScope::Any,
        PrincipalConstraint::Eq(EntityOrSlot::Entity(uid)) => one_principal(uid),
        PrincipalConstraint::Eq(EntityOrSlot::Slot(_)) => PrincipalScope::Nobody,
        PrincipalConstraint::In(target) => within(target, None),
        PrincipalConstraint::Is(ty) => {
            principal_kind(&ty.to_string()).map_or(PrincipalScope::Nobody, PrincipalScope::Kind)
        }
        PrincipalConstraint::IsIn(ty, target) => match principal_kind(&ty.to_string()) {
            Some(kind) => within(target, Some(kind)),
            None => PrincipalScope::Nobody,
        },
    }
}

fn resource_scope(constraint: &ResourceConstraint) -> ResourceScope {
    let one = |uid: &EntityUID| match ResourceKind::parse(&type_name(uid)) {
        Some(kind) => ResourceScope::One(kind, uid.eid.as_str().into()),
        None => ResourceScope::Nothing,
    };
    let within = |target: &EntityOrSlot, wanted: Option<ResourceKind>| match target {
        EntityOrSlot::Entity(uid) if type_name(uid) == "Server" => {
            ResourceScope::InServer(uid.eid.as_str().into(), wanted)
        }
        EntityOrSlot::Entity(uid) => match (one(uid), wanted) {
            (ResourceScope::One(kind, _), Some(wanted)) if kind != wanted => ResourceScope::Nothing,
            (scope, _) => scope,
        },
        EntityOrSlot::Slot(_) => ResourceScope::Nothing,
    };
    match constraint {
        ResourceConstraint::Any => ResourceScope::Any,
        ResourceConstraint::Eq(EntityOrSlot::Entity(uid)) => one(uid),
        ResourceConstraint::Eq(EntityOrSlot::Slot(_)) => ResourceScope::Nothing,
        ResourceConstraint::In(target) => within(target, None),
        ResourceConstraint::Is(ty) => {
            ResourceKind::parse(&ty.to_string()).map_or(ResourceScope::Nothing, ResourceScope::Kind)
        }
        ResourceConstraint::IsIn(ty, target) => match ResourceKind::parse(&ty.to_string()) {
            Some(kind) => within(target, Some(kind)),
            None => ResourceScope::Nothing,
        },
    }
}
