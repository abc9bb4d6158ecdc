//! `limit`: rates, concurrency and bytes per address, user, client, portal, server
//! and tool (O11). Nothing is limited unless a limit is written down.

use std::sync::Arc;

use bartizan_model::ReasonCode;
use bartizan_policy::Action;

use super::{Stage, state};
use crate::exchange::{Exchange, Reject};
use crate::limits::{Exceeded, LimitSet, Subject};

/// Counts the call, and waits for its turn where many share a limit; places are held
/// until the exchange ends.
///
/// # Errors
/// [`Reject`] `rate_limited` with the id of the limit and the seconds to wait; and,
/// after a wait, whatever `state` says by then.
pub(crate) async fn run(x: &mut Exchange) -> Result<(), Reject> {
    let Some(limits) = current(x) else { return Ok(()) };
    let subject = subject(x);
    if x.dry {
        return limits.probe(&subject).map_err(refused);
    }
    let taken = tokio::select! {
        biased;
        taken = limits.take_in_turn(&subject) => taken,
        // Leaving is leaving the queue.
        () = x.abandoned() => return Err(Reject::abandoned(Stage::Limit)),
    };
    x.slots = taken.map_err(refused)?;
    if x.slots.waited {
        // A kill switch is about now, and the wait was long enough to pull it.
        state::run(x).await?;
    }
    Ok(())
}

fn current(x: &Exchange) -> Option<Arc<LimitSet>> {
    let current = x.gate.snapshot.load();
    x.gate.limiter.set(current.version, &current.rate_limits)
}

fn refused(over: Exceeded) -> Reject {
    Reject {
        retry_after_s: (!over.never).then_some(over.retry_after_s),
        ..Reject::refused(Stage::Limit, ReasonCode::RateLimited, Some(over.limit))
    }
}

/// What the call is counted by.
fn subject(x: &Exchange) -> Subject<'_> {
    let route = x.route.as_ref();
    Subject {
        address: x.caller.ip,
        user: x.caller.principal.key(),
        client: x.caller.client.as_deref(),
        portal: x.endpoint.portal(),
        server: route.and_then(|r| r.server()).map(|spec| &spec.id),
        tool: route.filter(|r| r.action == Action::CallTool).map(|r| &*r.name),
        bytes: x.request_bytes,
    }
}

/// Ids of the limits that count the call, for explanations.
pub(crate) fn applicable(x: &Exchange) -> Vec<Arc<str>> {
    current(x).map(|limits| limits.applicable(&subject(x))).unwrap_or_default()
}
