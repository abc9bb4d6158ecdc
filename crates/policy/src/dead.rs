//! Rules that compile and can never decide anything (feature row U4): whatever they say,
//! every decision is the same without them. Each finding is a warning, and only what is
//! certain from the resources alone is one.

mod grants;
mod list;

use bartizan_config::Diagnostic;
use bartizan_config::resources::Resources;
use bartizan_model::{PrincipalKind, ToolClass};
use cedar_policy::Effect;

use crate::query::Action;
use crate::schema::{CLASSES, class_bit};
use crate::scope::{PrincipalScope, ResourceKind, ResourceScope, Scope, entity_id};
use crate::statement::Statement;

/// All dead rules, in no particular order.
pub(crate) fn find(resources: &Resources, statements: &[Statement], now_ms: i64) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let forbids = Forbids::of(statements);
    list::find(resources, &forbids, &mut found);
    grants::find(resources, &forbids, now_ms, &mut found);
    for (at, statement) in statements.iter().enumerate() {
        let finding = one(statement, resources, &forbids).or_else(|| twice(at, statements));
        if let Some(finding) = finding {
            found.push(finding.at(statement.line, statement.column));
        }
    }
    found
}

fn one(statement: &Statement, resources: &Resources, forbids: &Forbids<'_>) -> Option<Diagnostic> {
    let rule = &statement.rule;
    let dead = |message: String| Some(Diagnostic::new(&*statement.path, "dead_rule", message));
    if let ResourceScope::One(ResourceKind::Tool, id) = &statement.scope.resource
        && let Some((server, tool)) = id.split_once('/')
    {
        match tool_state(resources, server, tool) {
            ToolState::Alias(original) => {
                let message = format!("{rule} never applies: `{tool}` is an alias, and rules are about original names");
                let suggestion = format!("write `Tool::\"{}\"`", entity_id(server, original));
                return dead(message).map(|finding| finding.suggest(suggestion));
            }
            ToolState::Off if statement.effect == Effect::Permit => {
                return dead(format!("{rule} never applies: `{tool}` of server `{server}` is switched off"));
            }
            ToolState::Off | ToolState::Unknown => {}
        }
    }
    let actions = decisive(statement);
    let classes = statement.condition.as_ref().map_or(u8::MAX, |condition| condition.classes);
    if actions == Action::CallTool.bit() && classes & all_classes() == 0 {
        return dead(format!("{rule} never applies: its conditions leave no class of tools"));
    }
    if actions == Action::CallTool.bit()
        && let Some((server, tool, class)) = reviewed(resources, &statement.scope.resource)
    {
        if classes & class_bit(class) == 0 {
            let class = class.as_str();
            return dead(format!(
                "{rule} never applies: `{tool}` of server `{server}` is of class `{class}`, which its conditions rule out"
            ));
        }
        if statement.effect == Effect::Permit && class == ToolClass::Read {
            return dead(format!(
                "{rule} permits nothing: `{tool}` of server `{server}` is of class `read` and needs no permit"
            ));
        }
    }
    if statement.effect == Effect::Forbid {
        return None;
    }
    if matches!(
        &statement.scope.principal,
        PrincipalScope::Kind(PrincipalKind::Anonymous) | PrincipalScope::Group(_, Some(PrincipalKind::Anonymous))
    ) || matches!(&statement.scope.principal, PrincipalScope::One(key) if key.starts_with("anonymous:"))
    {
        return dead(format!("{rule} permits nothing: anonymous callers only read what is `visibility: public`"));
    }
    if actions == 0 {
        let suggestion = "a permit counts for `call_tool`, and for `use_portal` and `use_server` when it names them";
        return dead(format!("{rule} permits nothing: no permit is asked for about these actions"))
            .map(|finding| finding.suggest(suggestion));
    }
    if actions == Action::CallTool.bit() && classes & all_classes() == class_bit(ToolClass::Read) {
        return dead(format!("{rule} permits nothing: tools of class `read` need no permit"));
    }
    let forbid = forbids.covering(&statement.scope, actions)?;
    Some(Diagnostic::new(
        &*statement.path,
        "shadowed_rule",
        format!("{rule} permits nothing: {} forbids all of it", forbid.rule),
    ))
}

/// The tool that a scope names, with its class.
fn reviewed<'a>(resources: &Resources, scope: &'a ResourceScope) -> Option<(&'a str, &'a str, ToolClass)> {
    let ResourceScope::One(ResourceKind::Tool, id) = scope else { return None };
    let (server, tool) = id.split_once('/')?;
    let found = resources.servers.iter().find(|each| each.server_id.as_str() == server)?;
    Some((server, tool, found.classes.of(tool)))
}

/// A statement that says no more than a wider one without conditions. Of two that say the
/// same, the first stays.
fn twice(at: usize, statements: &[Statement]) -> Option<Diagnostic> {
    let statement = statements.get(at)?;
    let actions = decisive(statement);
    let call = Action::CallTool.bit();
    let (verb, alone) = match statement.effect {
        // One that cannot be evaluated refuses in its own way, and only then.
        Effect::Forbid => ("forbids", !statement.reads_args()),
        // What opens doors is about kinds of callers as well as about scopes.
        Effect::Permit => ("permits", statement.condition.is_none() && actions == call),
    };
    if actions == 0 || !alone {
        return None;
    }
    let plain = |each: &Statement| each.condition.is_none() && each.approvals.is_empty();
    let covers = |wide: &Statement, narrow: &Statement| {
        plain(wide)
            && decisive(narrow) & !decisive(wide) == 0
            && principal_covers(&wide.scope.principal, &narrow.scope.principal)
            && resource_covers(&wide.scope.resource, &narrow.scope.resource, decisive(narrow))
    };
    let (_, wide) = statements.iter().enumerate().find(|(index, other)| {
        *index != at
            && other.effect == statement.effect
            && covers(other, statement)
            && (*index < at || !covers(statement, other))
    })?;
    let message = format!("{} decides nothing: {} {verb} all of it", statement.rule, wide.rule);
    Some(Diagnostic::new(&*statement.path, "shadowed_rule", message))
}

fn all_classes() -> u8 {
    CLASSES.into_iter().map(class_bit).fold(0, |all, bit| all | bit)
}

/// The actions in whose decision a statement is asked.
fn decisive(statement: &Statement) -> u8 {
    let actions = effective(&statement.scope);
    match statement.effect {
        Effect::Forbid => actions,
        Effect::Permit if statement.scope.names_action => {
            actions & (Action::CallTool.bit() | Action::UsePortal.bit() | Action::UseServer.bit())
        }
        // A broad permit opens no doors.
        Effect::Permit => actions & Action::CallTool.bit(),
    }
}

/// The actions of a scope that its resource fits.
fn effective(scope: &Scope) -> u8 {
    let fits = |action: &Action| {
        let kind = ResourceKind::of(*action);
        match &scope.resource {
            ResourceScope::Any => true,
            ResourceScope::Kind(wanted) | ResourceScope::One(wanted, _) => *wanted == kind,
            ResourceScope::InServer(_, wanted) => {
                kind != ResourceKind::Portal && wanted.is_none_or(|wanted| wanted == kind)
            }
            ResourceScope::Nothing => false,
        }
    };
    let bits = Action::ALL.into_iter().filter(fits).map(Action::bit).fold(0, |all, bit| all | bit);
    scope.actions & bits
}

/// The forbids that hold whenever their scope matches.
pub(crate) struct Forbids<'a>(Vec<&'a Statement>);

impl<'a> Forbids<'a> {
    fn of(statements: &'a [Statement]) -> Self {
        let holds = |each: &&Statement| each.effect == Effect::Forbid && each.condition.is_none();
        Self(statements.iter().filter(holds).collect())
    }

    /// One that holds wherever a scope matches, for all of these actions.
    fn covering(&self, scope: &Scope, actions: u8) -> Option<&'a Statement> {
        self.0.iter().copied().find(|forbid| {
            actions & !forbid.scope.actions == 0
                && principal_covers(&forbid.scope.principal, &scope.principal)
                && resource_covers(&forbid.scope.resource, &scope.resource, actions)
        })
    }
}

fn kind_of(scope: &PrincipalScope) -> Option<PrincipalKind> {
    match scope {
        PrincipalScope::Kind(kind) | PrincipalScope::Group(_, Some(kind)) => Some(*kind),
        PrincipalScope::One(key) => {
            [PrincipalKind::User, PrincipalKind::Service, PrincipalKind::Agent, PrincipalKind::Anonymous]
                .into_iter()
                .find(|kind| key.split_once(':').is_some_and(|(name, _)| name == kind.as_str()))
        }
        PrincipalScope::Any | PrincipalScope::Group(_, None) | PrincipalScope::Nobody => None,
    }
}

fn principal_covers(wide: &PrincipalScope, narrow: &PrincipalScope) -> bool {
    match wide {
        PrincipalScope::Any => true,
        PrincipalScope::Kind(kind) => kind_of(narrow) == Some(*kind),
        PrincipalScope::One(_) => wide == narrow,
        PrincipalScope::Group(group, kind) => matches!(narrow, PrincipalScope::Group(own, own_kind)
            if own == group && (kind.is_none() || kind == own_kind)),
        PrincipalScope::Nobody => false,
    }
}

fn resource_covers(wide: &ResourceScope, narrow: &ResourceScope, actions: u8) -> bool {
    let kind = match narrow {
        ResourceScope::Kind(kind) | ResourceScope::One(kind, _) => Some(*kind),
        ResourceScope::InServer(_, kind) => *kind,
        ResourceScope::Any | ResourceScope::Nothing => None,
    };
    let server = match narrow {
        ResourceScope::InServer(id, _) | ResourceScope::One(ResourceKind::Server, id) => Some(&**id),
        ResourceScope::One(ResourceKind::Portal, _) => None,
        ResourceScope::One(_, id) => id.split_once('/').map(|(server, _)| server),
        _ => None,
    };
    match wide {
        ResourceScope::Any => true,
        ResourceScope::Kind(wanted) => {
            Action::ALL.into_iter().all(|action| actions & action.bit() == 0 || ResourceKind::of(action) == *wanted)
        }
        ResourceScope::One(..) => wide == narrow,
        ResourceScope::InServer(id, wanted) => server == Some(&**id) && (wanted.is_none() || *wanted == kind),
        ResourceScope::Nothing => false,
    }
}

/// What the resources say about a tool of a server.
enum ToolState<'a> {
    /// Not offered.
    Off,
    /// Not a name of the server's own, but the alias of this one.
    Alias(&'a str),
    /// Nothing against it.
    Unknown,
}

fn tool_state<'a>(resources: &'a Resources, server: &str, tool: &str) -> ToolState<'a> {
    let Some(server) = resources.servers.iter().find(|each| each.server_id.as_str() == server) else {
        return ToolState::Unknown;
    };
    let entries = &server.updated_tools;
    if let Some(entry) = entries.iter().find(|entry| entry.name == tool) {
        return if entry.enabled { ToolState::Unknown } else { ToolState::Off };
    }
    let reviewed = server.classes.of(tool) != ToolClass::Unknown;
    if let Some(entry) = entries.iter().find(|entry| entry.alias.as_deref() == Some(tool) && !reviewed) {
        return ToolState::Alias(&entry.name);
    }
    if server.default_disabled { ToolState::Off } else { ToolState::Unknown }
}
