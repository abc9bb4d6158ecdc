//! `route`: portal or single server; exposed name → server and original name, by the
//! table of the caller's own view. What the caller may not see is unknown here
//! already, with one answer for all causes, so no later stage can reveal it.

mod candidates;
mod hidden;
mod resume;

use std::sync::Arc;

use bartizan_catalog::{ServerSpec, uri};
use bartizan_config::resources::ServerStatus;
use bartizan_model::{Era, ReasonCode, ServerId, ToolClass};
use bartizan_policy::{Action, Decision, Query};
use bartizan_upstream::ListKind;
use bartizan_wire::{RawJson, Reference, RpcError, codes, headers, splice};
use http::HeaderMap;

use super::Stage;
use crate::budget;
use crate::call::{Endpoint, Unknown};
use crate::exchange::{Destination, Exchange, Reject, Route};
use crate::gate::{Access, access};
use crate::portal_tools::PortalTool;

/// What a call is about.
enum Asked {
    Tool(String),
    Prompt(String),
    Resource(String),
    Completion(Reference),
    /// Anything else; only a server endpoint can relay it.
    Other,
}

impl Asked {
    fn of(x: &Exchange) -> Result<Self, Reject> {
        let params = &x.params;
        let text = |value: &Option<String>, member| {
            value.clone().ok_or_else(|| {
                let error = RpcError::new(codes::INVALID_PARAMS, format!("`params.{member}` is required"));
                Reject::rpc(Stage::Route, error, "incomplete params")
            })
        };
        Ok(match x.method() {
            "tools/call" => Self::Tool(text(&params.name, "name")?),
            "prompts/get" => Self::Prompt(text(&params.name, "name")?),
            "resources/read" => Self::Resource(text(&params.uri, "uri")?),
            "completion/complete" => match &params.reference {
                Some(reference) => Self::Completion(reference.clone()),
                None => Self::Resource(text(&None, "ref")?),
            },
            _ => Self::Other,
        })
    }
}

/// "Unknown", in the words of what was asked for.
pub(crate) fn unknown(x: &Exchange) -> Unknown {
    let asked = || x.asked_for().unwrap_or_default().to_owned();
    match x.method() {
        "tools/call" => Unknown::Tool(asked()),
        "prompts/get" => Unknown::Prompt(asked()),
        "resources/read" => Unknown::Resource(asked()),
        "completion/complete" => match &x.params.reference {
            Some(Reference::Resource(uri)) => Unknown::Resource(uri.clone()),
            _ => Unknown::Prompt(asked()),
        },
        method => Unknown::Method(method.to_owned()),
    }
}

/// Finds the target.
///
/// # Errors
/// [`Reject`]: not found (with the real cause for the record), params that do not fit
/// the method, `Mcp-Param-*` headers that disagree with the body, or a `requestState`
/// that is not for this call.
pub(crate) async fn run(x: &mut Exchange) -> Result<(), Reject> {
    let found = find(x, Asked::of(x)?).await;
    x.route = Some(match found {
        Ok(route) => route,
        // Everything in a view includes the decision about the endpoint, so this is
        // only asked when nothing was found.
        Err(_) if !may_enter(x) => return Err(hidden::endpoint(x)),
        Err(reject) => return Err(reject),
    });
    param_headers(x)?;
    resume::open(x)
}

async fn find(x: &Exchange, asked: Asked) -> Result<Route, Reject> {
    match asked {
        Asked::Tool(name) if x.endpoint.portal().is_some() && PortalTool::parse(&name).is_some() => {
            match PortalTool::parse(&name) {
                Some(tool) if may_enter(x) => Ok(own(x, tool)),
                _ => Err(hidden::endpoint(x)),
            }
        }
        Asked::Tool(name) => tool(x, &name).await,
        Asked::Prompt(name) => prompt(x, &name, Action::GetPrompt).await,
        Asked::Resource(uri) => resource(x, &uri, Action::ReadResource),
        Asked::Completion(Reference::Prompt(name)) => prompt(x, &name, Action::Complete).await,
        Asked::Completion(Reference::Resource(uri)) => resource(x, &uri, Action::Complete),
        Asked::Other => other(x),
    }
}

fn may_enter(x: &Exchange) -> bool {
    access(&x.snapshot, &x.caller.principal, &x.endpoint, &x.context()) == Access::Allowed
}

/// One of the portal's own tools: whoever may use the portal may call them. They change
/// nothing but the caller's own view, so that reading is scope enough.
fn own(x: &Exchange, tool: PortalTool) -> Route {
    Route {
        destination: Destination::Portal(tool),
        action: Action::UsePortal,
        name: tool.name().into(),
        class: ToolClass::Read,
        pin: None,
        input_schema: None,
        decision: None,
        params: x.message.params(),
    }
}

async fn tool(x: &Exchange, name: &str) -> Result<Route, Reject> {
    let seen = candidates::view(x, ListKind::Tools, name).await;
    #[cfg(any(test, feature = "sabotage"))]
    if x.gate.sabotage.is_skipped(Stage::Route)
        && let Some(found) = seen.as_ref().and_then(|seen| hidden::find(x, name, seen, hidden::Entry::Tool))
    {
        return Ok(unchecked(x, found));
    }
    let Some(tool) = seen.as_ref().and_then(|seen| seen.view.tool(name)) else {
        return Err(hidden::tool(x, name, seen.as_deref()));
    };
    let original = &tool.def.name;
    Ok(Route {
        destination: Destination::Upstream(Arc::clone(&tool.server)),
        action: Action::CallTool,
        name: Arc::clone(original),
        class: tool.class,
        pin: Some(Arc::clone(tool.def.pin())),
        input_schema: tool.def.input_schema.clone(),
        decision: (!tool.decision.uses_args).then(|| tool.decision.clone()),
        params: renamed(x, &["name"], original),
    })
}

async fn prompt(x: &Exchange, name: &str, action: Action) -> Result<Route, Reject> {
    let seen = candidates::view(x, ListKind::Prompts, name).await;
    let Some(prompt) = seen.as_ref().and_then(|seen| seen.view.prompt(name)) else {
        return Err(hidden::prompt(x, name, seen.as_deref()));
    };
    let original = &prompt.def.name;
    let path: &[&str] = if action == Action::Complete { &["ref", "name"] } else { &["name"] };
    let keep = action == Action::GetPrompt && !prompt.decision.uses_args;
    Ok(Route {
        destination: Destination::Upstream(Arc::clone(&prompt.server)),
        action,
        name: Arc::clone(original),
        class: ToolClass::Read,
        pin: Some(Arc::clone(prompt.def.pin())),
        input_schema: None,
        decision: keep.then(|| prompt.decision.clone()),
        params: renamed(x, path, original),
    })
}

/// A resource need not be listed to be read, so the policies and switches are asked
/// directly. A template that a completion names is switched like a resource.
fn resource(x: &Exchange, asked: &str, action: Action) -> Result<Route, Reject> {
    if action == Action::ReadResource
        && let Some(route) = budget::route(&x.endpoint, asked)
    {
        return if may_enter(x) { Ok(route) } else { Err(hidden::endpoint(x)) };
    }
    let (server, original) = match &x.endpoint {
        Endpoint::Server(id) => (id.clone(), asked.to_owned()),
        Endpoint::Portal(_) => uri::unwrap(asked)
            .ok_or_else(|| Reject::not_found(unknown(x), None, None).noted("not a URI of this portal"))?,
    };
    let spec = usable(x, &server)?;
    let decision = decide(x, &spec, Action::ReadResource, &original, ToolClass::Read);
    // A server may read another spelling as the same resource, so both must be allowed.
    let normal = uri::normal(&original);
    let by_normal = (normal != original).then(|| decide(x, &spec, Action::ReadResource, &normal, ToolClass::Read));
    let mut asked_again = false;
    for decision in std::iter::once(&decision).chain(&by_normal) {
        asked_again |= decision.uses_args;
        if !decision.allow {
            return Err(Reject::not_found(unknown(x), decision.code, decision.rule.clone()));
        }
    }
    let portal = x.endpoint.portal().and_then(|id| x.snapshot.portals.get(id));
    let shown = spec.resources_for(portal.map(|portal| &**portal), &x.caller.principal);
    if !shown || !spec.resource_enabled(&original) || !spec.resource_enabled(&normal) {
        return Err(Reject::not_found(unknown(x), None, None).noted("switched off"));
    }
    let path: &[&str] = if action == Action::Complete { &["ref", "uri"] } else { &["uri"] };
    Ok(Route {
        destination: Destination::Upstream(spec),
        action,
        name: original.as_str().into(),
        class: ToolClass::Read,
        pin: None,
        input_schema: None,
        decision: (action == Action::ReadResource && !asked_again).then_some(decision),
        params: renamed(x, path, &original),
    })
}

/// A method nobody here knows is relayed as it is, if the policies say so: nobody
/// reviewed what it does, so it counts as class `unknown`.
fn other(x: &Exchange) -> Result<Route, Reject> {
    let Endpoint::Server(server) = &x.endpoint else {
        return Err(Reject::not_found(unknown(x), None, None));
    };
    let spec = usable(x, server)?;
    let decision = decide(x, &spec, Action::Other, x.method(), ToolClass::Unknown);
    if !decision.allow {
        return Err(Reject::not_found(unknown(x), decision.code, decision.rule));
    }
    Ok(Route {
        destination: Destination::Upstream(spec),
        action: Action::Other,
        name: x.method().into(),
        class: ToolClass::Unknown,
        pin: None,
        input_schema: None,
        decision: (!decision.uses_args).then_some(decision),
        params: x.message.params(),
    })
}

/// A server of the endpoint that is on.
fn usable(x: &Exchange, server: &ServerId) -> Result<Arc<ServerSpec>, Reject> {
    let not_found = |code| Err(Reject::not_found(unknown(x), code, None));
    let member = match &x.endpoint {
        Endpoint::Server(id) => id == server,
        Endpoint::Portal(id) => x.snapshot.portals.get(id).is_some_and(|portal| portal.has(server)),
    };
    match x.snapshot.servers.get(server).filter(|_| member) {
        None => not_found(None),
        Some(spec) if x.is_off(server) => {
            not_found(None).map_err(|reject: Reject| reject.noted(format!("{} is switched off by the caller", spec.id)))
        }
        Some(spec) => match spec.status {
            ServerStatus::Enabled => Ok(Arc::clone(spec)),
            ServerStatus::Disabled => not_found(None),
            ServerStatus::Killed => not_found(Some(ReasonCode::Killed)),
        },
    }
}

fn decide(x: &Exchange, spec: &ServerSpec, action: Action, name: &str, class: ToolClass) -> Decision {
    x.snapshot.policies.list_decision(&Query {
        principal: &x.caller.principal,
        action,
        portal: x.endpoint.portal(),
        server: Some(&spec.id),
        name,
        class,
        context: &x.context(),
        args: None,
    })
}

/// Params with the original name or URI; untouched when it is the one the client used.
fn renamed(x: &Exchange, path: &[&str], original: &str) -> Option<RawJson> {
    let params = x.message.params()?;
    if x.asked_for() == Some(original) {
        return Some(params);
    }
    Some(splice::set_path(&params, path, &RawJson::string(original)))
}

/// A modern client mirrors annotated arguments in headers; what intermediaries read
/// there must be what the server reads in the body (protocol.md 3.2).
fn param_headers(x: &Exchange) -> Result<(), Reject> {
    let schema = x.route.as_ref().and_then(|route| route.input_schema.as_ref());
    let (Era::Modern, Some(schema)) = (x.era(), schema) else { return Ok(()) };
    // A tool with an invalid annotation mirrors nothing.
    let Ok(annotated) = headers::param_headers(schema) else { return Ok(()) };
    if annotated.is_empty() {
        return Ok(());
    }
    let mut given = HeaderMap::new();
    for (name, value) in &x.param_headers {
        given.append(name.clone(), value.clone());
    }
    headers::check_params(&given, &annotated, x.params.arguments.as_ref())
        .map_err(|mismatch| Reject::rpc(Stage::Route, mismatch.to_rpc(), "header and body differ"))
}

/// What a route without the view would be: everything that a server lists can be
/// called, whatever is switched off.
#[cfg(any(test, feature = "sabotage"))]
fn unchecked(x: &Exchange, (spec, original): (Arc<ServerSpec>, Arc<str>)) -> Route {
    Route {
        class: spec.class_of(&original),
        destination: Destination::Upstream(spec),
        action: Action::CallTool,
        pin: None,
        input_schema: None,
        decision: None,
        params: renamed(x, &["name"], &original),
        name: original,
    }
}
