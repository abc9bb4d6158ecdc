//! Why something is unknown to a caller. The caller is told the same in every case;
//! the record has the cause. Only asked once a call is refused already.

use std::sync::Arc;

use bartizan_catalog::{Kind, ServerLists, ServerSpec, exposed_name};
use bartizan_config::resources::{Prefix, ServerStatus};
use bartizan_model::{ReasonCode, ToolClass};
use bartizan_policy::{Action, Query};

use super::{candidates, decide, unknown};
use crate::call::{Endpoint, Unknown};
use crate::exchange::{Exchange, Reject};
use crate::views::Seen;

/// An endpoint the caller may not use. For a server the target stays unknown, as for
/// everything behind it.
pub(super) fn endpoint(x: &Exchange) -> Reject {
    let (action, server, exists) = match &x.endpoint {
        Endpoint::Portal(id) => (Action::UsePortal, None, x.snapshot.portals.contains_key(id)),
        Endpoint::Server(id) => (Action::UseServer, Some(id), x.snapshot.servers.contains_key(id)),
    };
    if !exists {
        return Reject::not_found(Unknown::Endpoint, None, None);
    }
    let decision = x.snapshot.policies.list_decision(&Query {
        principal: &x.caller.principal,
        action,
        portal: x.endpoint.portal(),
        server,
        name: "",
        class: ToolClass::Read,
        context: &x.context(),
        args: None,
    });
    Reject::not_found(Unknown::Endpoint, decision.code.or(Some(ReasonCode::PolicyDenied)), decision.rule)
}

/// A tool that is not in the caller's view.
pub(super) fn tool(x: &Exchange, name: &str, seen: Option<&Seen>) -> Reject {
    let what = Unknown::Tool(name.to_owned());
    if let Some((spec, original)) = seen.and_then(|seen| find(x, name, seen, Entry::Tool)) {
        if !is_on(x, &spec, Kind::Tools, &original) {
            return Reject::not_found(what, None, None).noted(format!("{original} on {}: switched off", spec.id));
        }
        if x.gate.kills.known().hides_tool(&spec.id, &original, x.gate.clock.now_ms()) {
            let reject = Reject::not_found(what, Some(ReasonCode::Killed), Some("kill switch".into()));
            return reject.noted(format!("{original} on {}", spec.id));
        }
        if is_quarantined(seen, &spec, |lists| lists.tools.iter().any(|def| def.name == original)) {
            return Reject::not_found(what, None, Some("quarantine".into()))
                .noted(format!("{original} on {}: quarantined", spec.id));
        }
        let decision = decide(x, &spec, Action::CallTool, &original, spec.class_of(&original));
        return Reject::not_found(what, decision.code, decision.rule).noted(format!("{original} on {}", spec.id));
    }
    server(x, name, what, seen)
}

/// Whether server and portal have an entry on for the caller (P2, P41).
fn is_on(x: &Exchange, spec: &ServerSpec, kind: Kind, original: &str) -> bool {
    let portal = x.endpoint.portal().and_then(|id| x.snapshot.portals.get(id));
    spec.on_for(portal.map(|portal| &**portal), kind, original, &x.caller.principal)
}

/// Whether what a server lists is not offered because nobody approved it (P44).
fn is_quarantined(seen: Option<&Seen>, spec: &ServerSpec, offered: impl Fn(&ServerLists) -> bool) -> bool {
    let part = seen.and_then(|seen| seen.parts().iter().find(|part| part.spec.id == spec.id));
    part.is_some_and(|part| !offered(&part.fetched.value.lists))
}

/// A prompt that is not in the caller's view.
pub(super) fn prompt(x: &Exchange, name: &str, seen: Option<&Seen>) -> Reject {
    let what = unknown(x);
    if let Some((spec, original)) = seen.and_then(|seen| find(x, name, seen, Entry::Prompt)) {
        if !is_on(x, &spec, Kind::Prompts, &original) {
            return Reject::not_found(what, None, None).noted(format!("{original} on {}: switched off", spec.id));
        }
        if is_quarantined(seen, &spec, |lists| lists.prompts.iter().any(|def| def.name == original)) {
            return Reject::not_found(what, None, Some("quarantine".into()))
                .noted(format!("{original} on {}: quarantined", spec.id));
        }
        let decision = decide(x, &spec, Action::GetPrompt, &original, ToolClass::Read);
        return Reject::not_found(what, decision.code, decision.rule).noted(format!("{original} on {}", spec.id));
    }
    server(x, name, what, seen)
}

/// No such entry among the servers the caller may use: perhaps one it may not use, one
/// that is off, or one that did not answer.
fn server(x: &Exchange, name: &str, what: Unknown, seen: Option<&Seen>) -> Reject {
    let prefixed = x
        .endpoint
        .portal()
        .is_none_or(|id| x.snapshot.portals.get(id).is_some_and(|portal| portal.prefix == Prefix::Always));
    if prefixed {
        for spec in candidates::servers(&x.snapshot, &x.endpoint, name) {
            if x.is_off(&spec.id) {
                return Reject::not_found(what, None, None).noted(format!("{} is switched off by the caller", spec.id));
            }
            if x.gate.kills.known().hides_server(&spec.id, x.gate.clock.now_ms()) {
                return Reject::not_found(what, Some(ReasonCode::Killed), Some("kill switch".into()))
                    .noted(format!("{} killed", spec.id));
            }
            match spec.status {
                ServerStatus::Killed => {
                    return Reject::not_found(what, Some(ReasonCode::Killed), None)
                        .noted(format!("{} killed", spec.id));
                }
                ServerStatus::Disabled => {
                    return Reject::not_found(what, None, None).noted(format!("{} disabled", spec.id));
                }
                ServerStatus::Enabled => {}
            }
            let decision = decide(x, &spec, Action::UseServer, "", ToolClass::Read);
            if !decision.allow {
                return Reject::not_found(what, decision.code, decision.rule);
            }
        }
    }
    let failed = seen.and_then(|seen| crate::listing::failures(seen).into_iter().next());
    match failed {
        Some((server, code)) => {
            Reject::not_found(what, Some(code), None).noted(format!("{server} did not answer with its list"))
        }
        None => Reject::not_found(what, None, None),
    }
}

/// Kinds of entries with names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Tool,
    Prompt,
}

/// The entry a name would belong to if nothing hid it.
pub(super) fn find(x: &Exchange, name: &str, seen: &Seen, entry: Entry) -> Option<(Arc<ServerSpec>, Arc<str>)> {
    let portal = x.endpoint.portal().and_then(|id| x.snapshot.portals.get(id));
    for part in seen.parts() {
        let (spec, lists) = (&part.spec, &part.fetched.value.raw);
        let tools = lists.tools.iter().filter(|_| entry == Entry::Tool);
        let prompts = lists.prompts.iter().filter(|_| entry == Entry::Prompt);
        let tools = tools.map(|def| (&def.name, Kind::Tools));
        let prompts = prompts.map(|def| (&def.name, Kind::Prompts));
        for (original, kind) in tools.chain(prompts) {
            let exposed = match portal {
                Some(portal) => {
                    let shown = spec.alias_at(portal, kind, original).unwrap_or(original);
                    exposed_name(&spec.id, shown, portal.prefix, portal.max_tool_name)
                }
                None => original.to_string(),
            };
            if exposed == name {
                return Some((Arc::clone(spec), Arc::clone(original)));
            }
        }
    }
    None
}
