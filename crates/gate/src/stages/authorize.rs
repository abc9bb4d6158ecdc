//! `authorize`: the policies, with arguments. A decision that arguments cannot
//! change was already made for the caller's view and is not made again.

mod step_up;

use std::sync::Arc;

use bartizan_catalog::uri;
use bartizan_model::ReasonCode;
use bartizan_policy::{Action, Approval, Decision, Query};

use super::Stage;
use crate::call::{CallReply, Endpoint};
use crate::exchange::{Answer, Destination, Exchange, Reject};
use crate::scopes::Lacks;

/// Decides.
///
/// # Errors
/// [`Reject`] with the code and rule of the decision.
pub(crate) async fn run(x: &mut Exchange) -> Result<(), Reject> {
    let mut decision = decide(x);
    if decision.allow || decision.need.is_some() {
        // What the client must fix comes before what its person must do.
        within_scopes(x)?;
    }
    if decision.need.is_some() && !x.dry {
        decision = step_up::run(x, decision).await?;
    }
    if decision.allow {
        x.finish.rule = decision.rule;
        x.approvals = decision.approvals;
        return Ok(());
    }
    let code = decision.code.unwrap_or(ReasonCode::PolicyDenied);
    Err(Reject::refused(Stage::Authorize, code, decision.rule))
}

/// A credential may do less than its holder (A23). Asked only about what the policies let
/// the caller see, so that a scope never tells what exists.
///
/// # Errors
/// [`Reject`] when it lacks a scope.
fn within_scopes(x: &Exchange) -> Result<(), Reject> {
    let Some(route) = &x.route else { return Ok(()) };
    let refused = |code, rule: Option<&str>| Reject::refused(Stage::Authorize, code, rule.map(Into::into));
    match x.caller.scopes.check(route.class, route.server().map(|spec| &spec.id)) {
        Ok(()) => Ok(()),
        Err(Lacks::Scope(scope)) => {
            let reply = Box::new(CallReply::Scope { scope, event_id: x.id });
            Err(Reject { answer: Answer::Reply(reply), ..refused(ReasonCode::InsufficientScope, None) })
        }
        Err(Lacks::Narrowed) => Err(refused(ReasonCode::ReadOnlyMode, Some("the request narrows itself"))),
    }
}

fn decide(x: &Exchange) -> Decision {
    // A call that was never routed has no target that anything could allow.
    let Some(route) = &x.route else { return Decision::refused(ReasonCode::PolicyDenied, None) };
    if let Some(decision) = &route.decision {
        return decision.clone();
    }
    let server = match &route.destination {
        Destination::Upstream(spec) => Some(&spec.id),
        Destination::Portal(_) => None,
        Destination::Kept(_) => match &x.endpoint {
            Endpoint::Server(id) => Some(id),
            Endpoint::Portal(_) => None,
        },
    };
    let ask = |name: &str| {
        x.snapshot.policies.decide(&Query {
            principal: &x.caller.principal,
            action: route.action,
            portal: x.endpoint.portal(),
            server,
            name,
            class: route.class,
            context: &x.context(),
            args: x.params.arguments.as_ref().map(|raw| raw.as_str()),
        })
    };
    let decision = ask(&route.name);
    if route.action != Action::ReadResource || !decision.allow {
        return decision;
    }
    // A server may read another spelling as the same resource, so both must be allowed.
    let normal = uri::normal(&route.name);
    if normal == *route.name {
        return decision;
    }
    let mut normal = ask(&normal);
    if normal.allow {
        let mut decision = decision;
        // The same question is one question: a yes to it is used once.
        for approval in normal.approvals.drain(..) {
            let same = |known: &Arc<Approval>| known.approvers == approval.approvers && known.asks == approval.asks;
            if !decision.approvals.iter().any(same) {
                decision.approvals.push(approval);
            }
        }
        return decision;
    }
    normal
}
