//! Grants that grant nothing.

use bartizan_config::Diagnostic;
use bartizan_config::resources::{Grant, Resources, Server};
use bartizan_model::{ToolClass, fold_user_id};

use super::list::blocks_everybody;
use super::{Forbids, ToolState, tool_state};
use crate::query::Action;
use crate::scope::{PrincipalScope, ResourceKind, ResourceScope, Scope, entity_id};
use crate::time::parse_rfc3339;

pub(super) fn find(resources: &Resources, forbids: &Forbids<'_>, now_ms: i64, found: &mut Vec<Diagnostic>) {
    for (at, grant) in resources.grants.iter().enumerate() {
        let path = format!("grants[{at}]");
        if let Some(expires) =
            grant.expires.as_deref().filter(|text| parse_rfc3339(text).is_some_and(|ms| ms <= now_ms))
        {
            let message = format!("grant `{}` expired at {expires}", grant.id);
            let suggestion = "remove the grant, or give it a later time";
            found.push(Diagnostic::new(format!("{path}.expires"), "expired_grant", message).suggest(suggestion));
            continue;
        }
        let Some(server) = resources.servers.iter().find(|each| each.server_id == grant.server) else { continue };
        tools(resources, grant, &path, found);
        if needless(grant, server) {
            let message = format!("grant `{}` grants nothing: tools of class `read` need no grant", grant.id);
            found.push(Diagnostic::new(&path, "needless_grant", message));
        } else if let Some(by) = shadow(grant, server, forbids) {
            let message = format!("grant `{}` grants nothing: {by}", grant.id);
            found.push(Diagnostic::new(&path, "shadowed_rule", message));
        } else if let Some(wide) = twice(at, &resources.grants, server, now_ms) {
            let message = format!("grant `{}` grants nothing: grant `{}` gives all of it", grant.id, wide.id);
            found.push(Diagnostic::new(&path, "shadowed_rule", message));
        }
    }
}

/// Tools that cannot be called whatever is granted.
fn tools(resources: &Resources, grant: &Grant, path: &str, found: &mut Vec<Diagnostic>) {
    for (index, tool) in grant.tools.iter().enumerate() {
        let server = grant.server.as_str();
        let (message, suggestion) = match tool_state(resources, server, tool) {
            ToolState::Off => (format!("`{tool}` of server `{server}` is switched off, so nobody can call it"), None),
            ToolState::Alias(original) => (
                format!("`{tool}` is an alias, and grants are about original names"),
                Some(format!("write `{original}`")),
            ),
            ToolState::Unknown => continue,
        };
        let mut finding = Diagnostic::new(format!("{path}.tools[{index}]"), "dead_rule", message);
        finding.suggestion = suggestion;
        found.push(finding);
    }
}

fn needless(grant: &Grant, server: &Server) -> bool {
    grant.classes.iter().all(|class| *class == ToolClass::Read)
        && grant.tools.iter().all(|tool| server.classes.of(tool) == ToolClass::Read)
}

/// Another grant that gives all that a grant gives, without asking for anything. Of two that
/// give the same, the first stays.
fn twice<'a>(at: usize, grants: &'a [Grant], server: &Server, now_ms: i64) -> Option<&'a Grant> {
    // A condition that cannot be evaluated refuses, whatever other grants say.
    let grant = grants.get(at).filter(|grant| grant.when.is_none())?;
    let until = |grant: &Grant| grant.expires.as_deref().map_or(Some(i64::MAX), parse_rfc3339);
    let covers = |wide: &Grant, narrow: &Grant| {
        let asks = wide.require_mfa.is_some() || wide.require_purpose || wide.require_approval.is_some();
        let lasts = until(wide).zip(until(narrow)).is_some_and(|(wide, narrow)| wide > now_ms && wide >= narrow);
        let has = |principal: &String| wide.principals.iter().any(|own| folded(own) == folded(principal));
        let everyone = wide.principals.iter().any(|own| own == "everyone");
        wide.server == narrow.server
            && wide.when.is_none()
            && !asks
            && lasts
            && (everyone || narrow.principals.iter().all(has))
            && narrow.classes.iter().all(|class| wide.classes.contains(class))
            && narrow
                .tools
                .iter()
                .all(|tool| wide.tools.contains(tool) || wide.classes.contains(&server.classes.of(tool)))
    };
    let wider = |(index, other): &(usize, &Grant)| {
        *index != at && covers(other, grant) && (*index < at || !covers(grant, other))
    };
    grants.iter().enumerate().find(wider).map(|(_, other)| other)
}

fn folded(principal: &str) -> String {
    match principal.strip_prefix("user:") {
        Some(id) => format!("user:{}", fold_user_id(id)),
        None => principal.to_owned(),
    }
}

/// Who takes away all that a grant gives.
fn shadow(grant: &Grant, server: &Server, forbids: &Forbids<'_>) -> Option<String> {
    if let Some(at) = server.policies.iter().position(blocks_everybody) {
        return Some(format!("policies[{at}] of server `{}` blocks everybody", server.server_id));
    }
    let id = server.server_id.as_str();
    let resources: Vec<ResourceScope> = if grant.classes.is_empty() {
        grant.tools.iter().map(|tool| ResourceScope::One(ResourceKind::Tool, entity_id(id, tool).into())).collect()
    } else {
        vec![ResourceScope::InServer(id.into(), Some(ResourceKind::Tool))]
    };
    let mut rule = None;
    for principal in &grant.principals {
        for resource in &resources {
            let principal = match principal.split_once(':') {
                None => PrincipalScope::Any,
                Some(("user", id)) => PrincipalScope::One(format!("user:{}", fold_user_id(id)).into()),
                Some(("group", group)) => PrincipalScope::Group(group.into(), None),
                Some(_) => PrincipalScope::One(principal.as_str().into()),
            };
            let actions = Action::CallTool.bit();
            let scope = Scope { principal, actions, names_action: true, resource: resource.clone() };
            rule = Some(forbids.covering(&scope, actions)?);
        }
    }
    rule.map(|forbid| format!("{} forbids all of it", forbid.rule))
}
